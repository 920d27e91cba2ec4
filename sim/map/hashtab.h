// Models: kernel/bpf/hashtab.c, include/linux/bpf.h (Linux 6.18)
//
// What bpf(2) calls by the map's type instead of through its table: a per-CPU value as user space sees it is
// one block, the values of all CPUs, each rounded up to 8 bytes; a hash of maps takes a descriptor and gives
// an id.
#pragma once

#include "object/ops.h"

namespace bpfsim {

Result<void> bpf_fd_htab_map_lookup_elem(Map& map, const void* key, uint32_t* id);
Result<void> bpf_fd_htab_map_update_elem(Map& map, File& map_file, const void* key, const void* value,
                                         uint64_t flags);
Result<void> bpf_percpu_hash_copy(Map& map, const void* key, void* values);
Result<void> bpf_percpu_hash_update(Map& map, const void* key, const void* values, uint64_t flags);

}  // namespace bpfsim
