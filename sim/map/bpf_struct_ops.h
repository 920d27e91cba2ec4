// Models: include/linux/bpf.h (bpf_struct_ops_map_sys_lookup_elem) (Linux 6.18)
//
// What user space reads of a struct_ops map; its programs read nothing of it.
#pragma once

#include "object/map.h"

namespace bpfsim {

Result<void> bpf_struct_ops_map_sys_lookup_elem(Map& map, const void* key, void* value);

}  // namespace bpfsim
