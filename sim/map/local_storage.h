// Models: include/linux/bpf-cgroup.h (struct bpf_cgroup_storage), kernel/bpf/local_storage.c (Linux 6.18)
//
// The older storage of cgroups: a value for each pair of cgroup and attach type where a program that uses the
// map is attached. Attaching makes it (alloc, then link); it goes with the cgroup (free) or with the map.
// User space may read and write a value, but neither make nor delete one.
#pragma once

#include "host/cgroup.h"
#include "object/ops.h"

namespace bpfsim {

// As user space sees it; a map with a key of eight bytes knows the id alone.
struct bpf_cgroup_storage_key {
  uint64_t cgroup_inode_id;
  uint32_t attach_type;
};

struct BpfCgroupStorage {
  Map* map;
  bpf_cgroup_storage_key key;
  Cgroup* cgroup;  // not counted; null until it is linked
  Span buf;        // the value; of the per-CPU type one for each CPU, rounded up to 8
};

BpfCgroupStorage* cgroup_storage_lookup(Map& map, const bpf_cgroup_storage_key& key);
Result<BpfCgroupStorage*> bpf_cgroup_storage_alloc(Map& map);
void bpf_cgroup_storage_link(BpfCgroupStorage& storage, Cgroup& cgroup, bpf_attach_type type);
void bpf_cgroup_storage_unlink(BpfCgroupStorage& storage);
void bpf_cgroup_storage_free(BpfCgroupStorage& storage);

// What bpf(2) calls by the map's type: the values of all CPUs.
Result<void> bpf_percpu_cgroup_storage_copy(Map& map, const void* key, void* values);
Result<void> bpf_percpu_cgroup_storage_update(Map& map, const void* key, const void* values, uint64_t flags);

}  // namespace bpfsim
