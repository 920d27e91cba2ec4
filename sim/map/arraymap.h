// Models: kernel/bpf/arraymap.c, include/linux/bpf.h (Linux 6.18)
//
// What bpf(2) calls by the map's type instead of through its table: a per-CPU array's value as user space
// sees it is one block, the values of all CPUs, each rounded up to 8 bytes; an array of descriptors takes a
// descriptor and gives an id.
#pragma once

#include "object/ops.h"

namespace bpfsim {

Result<void> bpf_fd_array_map_lookup_elem(Map& map, const void* key, uint32_t* id);
Result<void> bpf_fd_array_map_update_elem(Map& map, File& map_file, const void* key, const void* value,
                                          uint64_t flags);
Result<void> bpf_percpu_array_copy(Map& map, const void* key, void* values);
Result<void> bpf_percpu_array_update(Map& map, const void* key, const void* values, uint64_t flags);

// Shared by all arrays.
Result<void> array_map_alloc_check(Machine& machine, const bpf_attr& attr);
Result<void> array_map_get_next_key(Map& map, const void* key, void* next_key);
uint64_t array_mem_usage(uint64_t entries, uint64_t bytes_each);

}  // namespace bpfsim
