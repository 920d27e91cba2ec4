// Models: kernel/bpf/reuseport_array.c (Linux 6.18)
//
// What bpf(2) calls by the map's type instead of through its table: a descriptor goes in, a cookie comes out.
#pragma once

#include "object/ops.h"

namespace bpfsim {

Result<void> bpf_fd_reuseport_array_lookup_elem(Map& map, const void* key, void* value);
Result<void> bpf_fd_reuseport_array_update_elem(Map& map, const void* key, const void* value, uint64_t flags);

}  // namespace bpfsim
