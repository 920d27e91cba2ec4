// Models: include/linux/bpf_local_storage.h, kernel/bpf/bpf_local_storage.c (Linux 6.18)
//
// Values that lie with their owner. A map has at most one value for each owner (a task, an inode, a cgroup, a
// socket), an owner at most one from each map. An element is on two lists: the owner's, which lookups walk,
// and one of the map's buckets, so that the map finds all of its elements when it dies. Whoever dies first
// takes the elements along; neither holds the other.
#pragma once

#include <vector>

#include "map/common.h"
#include "object/ops.h"

namespace bpfsim {

struct BpfLocalStorageMap;
struct Sock;

struct BpfLocalStorageElem {
  BpfLocalStorageMap* smap;
  BpfLocalStorage* local_storage;
  Span memory;  // as the kernel lays it out: the links, then the value
  uint8_t* data() const;
};

// What an owner points to while it has at least one element.
struct BpfLocalStorage {
  Object* owner;
  std::vector<BpfLocalStorageElem*> list;  // the newest last
};

struct BpfLocalStorageMap final : Map {
  using Map::Map;
  uint32_t elem_size = 0;
  uint32_t bucket_log = 0;
  std::vector<std::vector<BpfLocalStorageElem*>> buckets;
};

// Of each type's table.
Result<void> bpf_local_storage_map_alloc_check(Machine& machine, const bpf_attr& attr);
Result<Map*> bpf_local_storage_map_alloc(Machine& machine, const bpf_attr& attr);
void bpf_local_storage_map_free(Map& map);
Result<void> bpf_local_storage_map_check_btf(const Map& map, const Btf& btf, uint32_t key_type,
                                             uint32_t value_type);
uint64_t bpf_local_storage_map_mem_usage(const Map& map);
void bpf_local_storage_map_each_held(const Map& map, const HoldVisitor& visit);
Result<void> notsupp_get_next_key(Map& map, const void* key, void* next_key);

// What a map keeps for an owner, once a type's room has found the owner by its key.
Result<void*> bpf_local_storage_lookup(Object& owner, Map& map);  // null: nothing
Result<void> bpf_local_storage_update(Object& owner, Map& map, const void* value, uint64_t flags);
Result<void> bpf_local_storage_delete(Object& owner, Map& map);
void bpf_local_storage_destroy(BpfLocalStorage& storage);
// For iterators: the element at this place of a bucket, from its newest on, or the first of a later bucket;
// null: no more.
const BpfLocalStorageElem* bpf_sk_storage_map_seq_find_next(const Map& map, uint64_t& bucket,
                                                            uint32_t& within);

void bpf_task_storage_free(Task& task);
void bpf_sk_storage_clone(const Sock& sk, Sock& newsk);

}  // namespace bpfsim
