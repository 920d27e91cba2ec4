// Models: kernel/bpf/bpf_cgrp_storage.c (Linux 6.18)
//
// Local storage of cgroups. User space names the group by a descriptor of its directory; the values go when
// the last reference to the group does, not with its directory. Not modelled yet: bpf_cgrp_storage_get and
// bpf_cgrp_storage_delete, whose group is a BTF pointer that the verifier does not track yet.
#include "host/cgroup.h"
#include "map/bpf_local_storage.h"
#include "map/map_in_map.h"
#include "map/map_types.h"

namespace bpfsim {

namespace {

BpfLocalStorage** cgroup_storage_ptr(Object& owner) { return &static_cast<Cgroup&>(owner).bpf_cgrp_storage; }

// The group behind the key, held as long as it is looked at.
class CgroupOfKey {
 public:
  CgroupOfKey(const Map& map, const void* key)
      : cgroup(cgroup_get_from_fd(map.machine, key_as<int>(key), {"the key of map {}", map.id})) {}
  ~CgroupOfKey() {
    if (cgroup) cgroup_put(**cgroup, {"the key is followed"});
  }
  CgroupOfKey(const CgroupOfKey&) = delete;
  Result<Cgroup*> cgroup;
};

Result<void*> bpf_cgrp_storage_lookup_elem(Map& map, const void* key) {
  CgroupOfKey owner(map, key);
  return bpf_local_storage_lookup(*TRY(owner.cgroup), map);
}

Result<void> bpf_cgrp_storage_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  CgroupOfKey owner(map, key);
  return bpf_local_storage_update(*TRY(owner.cgroup), map, value, flags);
}

Result<void> bpf_cgrp_storage_delete_elem(Map& map, const void* key) {
  CgroupOfKey owner(map, key);
  return bpf_local_storage_delete(*TRY(owner.cgroup), map);
}

}  // namespace

static Result<Map*> cgroup_storage_map_alloc(Machine& machine, const bpf_attr& attr) {
  return bpf_local_storage_map_alloc(machine, attr);
}
static void cgroup_storage_map_free(Map& map) { bpf_local_storage_map_free(map); }

const MapOps cgrp_storage_map_ops = {
    .map_alloc_check = OP(bpf_local_storage_map_alloc_check),
    .map_alloc = OP(cgroup_storage_map_alloc),
    .map_free = OP(cgroup_storage_map_free),
    .map_get_next_key = OP(notsupp_get_next_key),
    .map_lookup_elem = OP(bpf_cgrp_storage_lookup_elem),
    .map_update_elem = OP(bpf_cgrp_storage_update_elem),
    .map_delete_elem = OP(bpf_cgrp_storage_delete_elem),
    .map_check_btf = OP(bpf_local_storage_map_check_btf),
    .map_owner_storage_ptr = OP(cgroup_storage_ptr),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(bpf_local_storage_map_mem_usage),
    .each_held = OP(bpf_local_storage_map_each_held),
};

}  // namespace bpfsim
