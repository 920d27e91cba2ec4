// Models: kernel/bpf/map_in_map.h (Linux 6.18)
//
// Maps whose values are maps: the template that the verifier checks programs against, and how a file
// descriptor becomes the inner map.
#pragma once

#include "object/ops.h"

namespace bpfsim {

// A template that looks like the map behind the descriptor. It is no map of its own: nobody counts it, and it
// has no id.
Result<Map*> bpf_map_meta_alloc(Machine& machine, int inner_map_fd);
void bpf_map_meta_free(Map* meta);
// Whether a program that was checked against one map may be given the other.
bool bpf_map_meta_equal(const Map& meta, const Map& inner);

Result<Object*> bpf_map_fd_get_ptr(Map& map, File& map_file, int fd);
void bpf_map_fd_put_ptr(Map& map, Object* inner, bool need_defer);
uint32_t bpf_map_fd_sys_lookup_elem(Object* inner);

// What a lookup in a map of maps gives a program: the inner map's handle, in the form of a host pointer, as a
// value's address is given.
inline void* inner_map_pointer(const Map& inner) { return inner.machine.arena.host(inner.handle); }

}  // namespace bpfsim
