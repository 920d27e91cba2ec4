// Models: kernel/bpf/bpf_local_storage.c (Linux 6.18)
//
// What all four kinds of local storage share: creation, which wants BTF for key and value, and the elements
// of an owner. An update puts a new element in the place of the old one, so that a program which still looks
// at the old value is not disturbed; the old one's memory goes after a grace period. Departs from the kernel:
// an owner has no cache of sixteen recent lookups, its list is walked; no locks, so nothing is -EAGAIN.
#include "map/bpf_local_storage.h"

#include <algorithm>

#include "btf/btf_types.h"
#include "map/view.h"
#include "object/btf.h"

namespace bpfsim {

namespace {

constexpr uint32_t BPF_LOCAL_STORAGE_CREATE_FLAG_MASK = BPF_F_NO_PREALLOC | BPF_F_CLONE;
constexpr uint32_t kSizeofLocalStorageElem = 128, kSizeofLocalStorage = 176, kSizeofLocalStorageMap = 448;
constexpr uint32_t kOffsetOfData = 72, kSizeofBucket = 16;
constexpr uint32_t BPF_LOCAL_STORAGE_MAX_VALUE_SIZE = UINT16_MAX - kSizeofLocalStorageElem;

BpfLocalStorageMap& storage_map(Map& map) { return static_cast<BpfLocalStorageMap&>(map); }
const BpfLocalStorageMap& storage_map(const Map& map) { return static_cast<const BpfLocalStorageMap&>(map); }

Result<void> build(BpfLocalStorageMap& smap, const bpf_attr& attr) {
  smap.bucket_log = 1;
  while (1u << smap.bucket_log < smap.machine.cpus) ++smap.bucket_log;
  smap.buckets.resize(size_t(1) << smap.bucket_log);
  smap.elem_size = kOffsetOfData + attr.value_size;
  return {};
}

// hash_ptr() of the element's address.
std::vector<BpfLocalStorageElem*>& select_bucket(BpfLocalStorageMap& smap, const BpfLocalStorageElem& selem) {
  constexpr uint64_t GOLDEN_RATIO_64 = 0x61c8864680b583eb;
  return smap.buckets[(selem.memory.addr * GOLDEN_RATIO_64) >> (64 - smap.bucket_log)];
}

void take_out(std::vector<BpfLocalStorageElem*>& list, const BpfLocalStorageElem* selem) {
  list.erase(std::find(list.begin(), list.end(), selem));
}

BpfLocalStorage*& owner_storage(const Map& map, Object& owner) {
  return *map.ops->map_owner_storage_ptr(owner);
}

Result<void> mem_charge(const Map& map, Object& owner, uint32_t size) {
  if (!map.ops->map_local_storage_charge) return {};
  return map.ops->map_local_storage_charge(owner, size);
}

void mem_uncharge(const Map& map, Object& owner, uint32_t size) {
  if (map.ops->map_local_storage_uncharge) map.ops->map_local_storage_uncharge(owner, size);
}

BpfLocalStorageElem* find(const BpfLocalStorage* storage, const Map& map) {
  if (!storage) return nullptr;
  for (BpfLocalStorageElem* selem : storage->list)
    if (selem->smap == &map) return selem;
  return nullptr;
}

Result<void> check_flags(const BpfLocalStorageElem* old, uint64_t flags) {
  if (old && (flags & ~BPF_F_LOCK) == BPF_NOEXIST)
    return refuse(Errno::Exist, "the owner has a value from this map");
  if (!old && (flags & ~BPF_F_LOCK) == BPF_EXIST)
    return refuse(Errno::NoEnt, "the owner has no value from this map");
  return {};
}

Result<BpfLocalStorageElem*> bpf_selem_alloc(BpfLocalStorageMap& smap, Object& owner, const void* value) {
  TRY(mem_charge(smap, owner, smap.elem_size));
  Result<Span> memory = smap.machine.arena.alloc(smap.elem_size, "local storage element");
  if (!memory) {
    mem_uncharge(smap, owner, smap.elem_size);
    return memory.refusal();
  }
  auto* selem = new BpfLocalStorageElem{&smap, nullptr, *memory};
  copy_map_value(smap, selem->data(), value);
  return selem;
}

// A program may still look at the value.
void bpf_selem_free(BpfLocalStorageElem* selem) {
  Machine& machine = selem->smap->machine;
  machine.rcu.call_rcu("value of " + selem->smap->label(), selem, [&machine, selem] {
    machine.arena.free(selem->memory);
    delete selem;
  });
}

void link(BpfLocalStorage& storage, BpfLocalStorageElem& selem) {
  selem.local_storage = &storage;
  select_bucket(*selem.smap, selem).push_back(&selem);
  storage.list.push_back(&selem);
}

// Off both lists. The storage goes with its last element.
void bpf_selem_unlink(BpfLocalStorageElem* selem) {
  BpfLocalStorageMap& smap = *selem->smap;
  BpfLocalStorage& storage = *selem->local_storage;
  take_out(select_bucket(smap, *selem), selem);
  take_out(storage.list, selem);
  mem_uncharge(smap, *storage.owner, smap.elem_size);
  if (storage.list.empty()) {
    mem_uncharge(smap, *storage.owner, kSizeofLocalStorage);
    owner_storage(smap, *storage.owner) = nullptr;
    delete &storage;
  }
  bpf_selem_free(selem);
}

}  // namespace

uint8_t* BpfLocalStorageElem::data() const { return memory.host + kOffsetOfData; }

Result<void> bpf_local_storage_map_alloc_check(Machine&, const bpf_attr& attr) {
  if (uint32_t extra = attr.map_flags & ~BPF_LOCAL_STORAGE_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for local storage", extra);
  if (!(attr.map_flags & BPF_F_NO_PREALLOC))
    return refuse(Errno::Inval, "local storage wants BPF_F_NO_PREALLOC: owners come and go");
  if (attr.max_entries != 0) return refuse(Errno::Inval, "max_entries must be 0, is {}", attr.max_entries);
  if (attr.key_size != sizeof(int))
    return refuse(Errno::Inval, "key_size must be 4, a descriptor, is {}", attr.key_size);
  if (attr.value_size == 0) return refuse(Errno::Inval, "value_size must not be 0");
  if (!attr.btf_key_type_id || !attr.btf_value_type_id)
    return refuse(Errno::Inval, "local storage wants the BTF types of key and value");
  if (attr.value_size > BPF_LOCAL_STORAGE_MAX_VALUE_SIZE)
    return refuse(Errno::TooBig, "value_size {} is above {}", attr.value_size,
                  BPF_LOCAL_STORAGE_MAX_VALUE_SIZE);
  return {};
}

Result<Map*> bpf_local_storage_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<BpfLocalStorageMap>(machine, attr, build);
}

Result<void> bpf_local_storage_map_check_btf(const Map&, const Btf& btf, uint32_t key_type, uint32_t) {
  const btf_type* key = btf.types->type_by_id(key_type);
  if (!key || btf_kind(*key) != BTF_KIND_INT) return refuse(Errno::Inval, "the BTF key type must be an INT");
  const uint32_t encoding = btf_int_data(*key);
  if (btf_int_bits(encoding) != 32 || btf_int_offset(encoding) != 0)
    return refuse(Errno::Inval, "the BTF key type must have 32 bits from bit 0");
  return {};
}

void bpf_local_storage_map_free(Map& map) {
  BpfLocalStorageMap& smap = storage_map(map);
  for (auto& bucket : smap.buckets)
    while (!bucket.empty()) bpf_selem_unlink(bucket.back());
  delete &smap;
}

uint64_t bpf_local_storage_map_mem_usage(const Map& map) {
  return kSizeofLocalStorageMap + kSizeofBucket * storage_map(map).buckets.size();
}

// Weak ties: an element keeps neither its owner nor its map alive.
void bpf_local_storage_map_each_held(const Map& map, const HoldVisitor& visit) {
  for (const auto& bucket : storage_map(map).buckets)
    for (const BpfLocalStorageElem* selem : bucket)
      visit({selem->local_storage->owner, Counter::Refs, false, "a value for its owner"});
}

Result<void> notsupp_get_next_key(Map&, const void*, void*) {
  return refuse(Errno::NotSupp, "the owners of local storage cannot be walked");
}

Result<void*> bpf_local_storage_lookup(Object& owner, Map& map) {
  const BpfLocalStorageElem* selem = find(owner_storage(map, owner), map);
  return selem ? selem->data() : nullptr;
}

Result<void> bpf_local_storage_update(Object& owner, Map& map, const void* value, uint64_t flags) {
  BpfLocalStorageMap& smap = storage_map(map);
  if ((flags & ~BPF_F_LOCK) > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (flags & BPF_F_LOCK && !map.record.has(BPF_SPIN_LOCK))
    return refuse(Errno::Inval, "BPF_F_LOCK: the value has no bpf_spin_lock");
  BpfLocalStorage*& storage = owner_storage(map, owner);
  BpfLocalStorageElem* old = find(storage, map);
  if (!storage) TRY(check_flags(old, flags));
  if (old && flags & BPF_F_LOCK && !(flags & BPF_NOEXIST)) {  // under the lock, the old one is written over
    copy_map_value(map, old->data(), value);
    return {};
  }
  BpfLocalStorageElem* selem = TRY(bpf_selem_alloc(smap, owner, value));
  Result<void> allowed = storage ? check_flags(old, flags) : mem_charge(map, owner, kSizeofLocalStorage);
  if (!allowed) {
    mem_uncharge(map, owner, smap.elem_size);
    bpf_selem_free(selem);
    return allowed;
  }
  if (!storage) storage = new BpfLocalStorage{&owner, {}};
  link(*storage, *selem);
  if (old) bpf_selem_unlink(old);
  return {};
}

Result<void> bpf_local_storage_delete(Object& owner, Map& map) {
  BpfLocalStorageElem* selem = find(owner_storage(map, owner), map);
  if (!selem) return refuse(Errno::NoEnt, "the owner has no value from this map");
  bpf_selem_unlink(selem);
  return {};
}

const BpfLocalStorageElem* bpf_sk_storage_map_seq_find_next(const Map& map, uint64_t& bucket,
                                                            uint32_t& within) {
  const auto& buckets = storage_map(map).buckets;
  for (; bucket < buckets.size(); ++bucket, within = 0)
    if (const size_t size = buckets[bucket].size(); within < size) return buckets[bucket][size - 1 - within];
  return nullptr;
}

OwnedView local_storage_view(const Map& map) {
  OwnedView view;
  for (const auto& bucket : storage_map(map).buckets)
    for (const BpfLocalStorageElem* selem : bucket)
      view.values.push_back({selem->local_storage->owner, "", {bytes_of(selem->data(), map.value_size)}});
  return view;
}

void bpf_local_storage_destroy(BpfLocalStorage& storage) {
  for (size_t left = storage.list.size(); left > 0; --left) bpf_selem_unlink(storage.list[left - 1]);
}

}  // namespace bpfsim
