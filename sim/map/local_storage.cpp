// Models: kernel/bpf/local_storage.c (Linux 6.18)
//
// BPF_MAP_TYPE_CGROUP_STORAGE and its per-CPU form. The values stand in a tree by key, and in a list, the
// newest first, which BPF_MAP_GET_NEXT_KEY follows. With a key of 16 bytes each attach type has a value of
// its own, with one of 8 bytes a cgroup has one for all. Departs from the kernel: an update writes over
// the value in place. Not modelled yet: bpf_get_local_storage.
#include "map/local_storage.h"

#include <algorithm>
#include <map>

#include "btf/btf_types.h"
#include "map/common.h"
#include "map/map_types.h"
#include "map/map_value.h"
#include "map/view.h"
#include "object/btf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

constexpr uint32_t LOCAL_STORAGE_CREATE_FLAG_MASK = BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK;
constexpr uint32_t kMaxValueSize = UINT16_MAX - 128, kSizeofCgroupStorageMap = 328;
static_assert(sizeof(bpf_cgroup_storage_key) == 16);

struct KeyOrder {
  bool isolated;  // the attach type counts
  bool operator()(const bpf_cgroup_storage_key& a, const bpf_cgroup_storage_key& b) const {
    if (a.cgroup_inode_id != b.cgroup_inode_id) return a.cgroup_inode_id < b.cgroup_inode_id;
    return isolated && a.attach_type < b.attach_type;
  }
};

struct CgroupStorageMap final : Map {
  CgroupStorageMap(Machine& machine, const bpf_attr& attr)
      : Map(machine, attr), root(KeyOrder{attr.key_size == sizeof(bpf_cgroup_storage_key)}) {}
  std::map<bpf_cgroup_storage_key, BpfCgroupStorage*, KeyOrder> root;
  std::vector<BpfCgroupStorage*> list;  // the newest last
};

CgroupStorageMap& map_to_storage(Map& map) { return static_cast<CgroupStorageMap&>(map); }
const CgroupStorageMap& map_to_storage(const Map& map) { return static_cast<const CgroupStorageMap&>(map); }

bool attach_type_isolated(const Map& map) { return map.key_size == sizeof(bpf_cgroup_storage_key); }

bpf_cgroup_storage_key key_of(const Map& map, const void* bytes) {
  bpf_cgroup_storage_key key{};
  std::memcpy(&key, bytes, map.key_size);
  return key;
}

Result<void> build(CgroupStorageMap&, const bpf_attr&) { return {}; }

Result<Map*> cgroup_storage_map_alloc(Machine& machine, const bpf_attr& attr) {
  const bool percpu = attr.map_type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
  const uint32_t max_value_size = !has(Gate::cgroup_storage_large, machine.version) ? kPageSize
                                  : percpu ? uint32_t(PCPU_MIN_UNIT_SIZE)
                                           : kMaxValueSize;
  if (attr.key_size != sizeof(bpf_cgroup_storage_key) && attr.key_size != sizeof(uint64_t))
    return refuse(Errno::Inval, "key_size must be 8 or 16, is {}", attr.key_size);
  if (attr.key_size == sizeof(uint64_t) && !has(Gate::cgroup_storage_shared, machine.version))
    return refuse(Errno::Inval, "key_size must be 16; 8 came with Linux {}",
                  since(Gate::cgroup_storage_shared));
  if (attr.value_size == 0) return refuse(Errno::Inval, "value_size must not be 0");
  if (attr.value_size > max_value_size)
    return refuse(Errno::TooBig, "value_size {} is above {}", attr.value_size, max_value_size);
  if (uint32_t extra = attr.map_flags & ~LOCAL_STORAGE_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for cgroup storage", extra);
  if (!bpf_map_flags_access_ok(attr.map_flags))
    return refuse(Errno::Inval, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  if (attr.max_entries) return refuse(Errno::Inval, "max_entries must be 0, is {}", attr.max_entries);
  return new_map<CgroupStorageMap>(machine, attr, build);
}

void cgroup_storage_map_free(Map& map) {
  CgroupStorageMap& storages = map_to_storage(map);
  while (!storages.list.empty()) bpf_cgroup_storage_free(*storages.list.back());
  delete &storages;
}

Result<void*> cgroup_storage_lookup_elem(Map& map, const void* key) {
  BpfCgroupStorage* storage = cgroup_storage_lookup(map, key_of(map, key));
  return storage ? storage->buf.host : nullptr;
}

Result<BpfCgroupStorage*> need_storage(Map& map, const void* key) {
  BpfCgroupStorage* storage = cgroup_storage_lookup(map, key_of(map, key));
  if (!storage) return refuse(Errno::NoEnt, "no program that uses the map is attached there");
  return storage;
}

Result<void> cgroup_storage_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  if (flags & ~(BPF_F_LOCK | BPF_EXIST)) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (flags & BPF_F_LOCK && !map.record.has(BPF_SPIN_LOCK))
    return refuse(Errno::Inval, "BPF_F_LOCK: the value has no bpf_spin_lock");
  BpfCgroupStorage& storage = *TRY(need_storage(map, key));
  copy_map_value(map, storage.buf.host, value);
  if (!(flags & BPF_F_LOCK)) bpf_obj_init(map.record, storage.buf.host);  // a new value, its lock is open
  return {};
}

Result<void> cgroup_storage_delete_elem(Map&, const void*) {
  return refuse(Errno::Inval, "a value goes with its cgroup or its map");
}

Result<void> cgroup_storage_get_next_key(Map& map, const void* key, void* next_key) {
  auto& list = map_to_storage(map).list;
  auto at = list.rbegin();
  if (key) {
    BpfCgroupStorage* storage = TRY(need_storage(map, key));
    at = std::next(std::find(list.rbegin(), list.rend(), storage));
  }
  if (at == list.rend()) return refuse(Errno::NoEnt, "there is no further value");
  const bpf_cgroup_storage_key& next = (*at)->key;
  std::memcpy(next_key, &next, map.key_size);
  return {};
}

// btf_member_is_reg_int(): a whole INT of that many bytes, there.
bool is_reg_int(const BtfTypes& types, const btf_type& owner, const btf_member& member, uint32_t offset,
                uint32_t size) {
  const btf_type* type = types.skip_modifiers(member.type);
  if (!type || btf_kind(*type) != BTF_KIND_INT || btf_int_offset(btf_int_data(*type))) return false;
  return btf_int_bits(btf_int_data(*type)) == size * 8 && btf_member_bitfield_size(owner, member) == 0 &&
         btf_member_bit_offset(owner, member) == offset * 8;
}

Result<void> cgroup_storage_check_btf(const Map& map, const Btf& btf, uint32_t key_type, uint32_t) {
  const btf_type* key = btf.types->type_by_id(key_type);
  if (attach_type_isolated(map)) {
    if (!key || btf_kind(*key) != BTF_KIND_STRUCT || btf_vlen(*key) != 2)
      return refuse(Errno::Inval, "the BTF key type must be a struct of two members");
    const std::span<const btf_member> members = btf_members(*key);
    if (!is_reg_int(*btf.types, *key, members[0], 0, 8) || !is_reg_int(*btf.types, *key, members[1], 8, 4))
      return refuse(Errno::Inval, "the members must be integers, 8 bytes at 0 and 4 bytes at 8");
    return {};
  }
  if (!key || btf_kind(*key) != BTF_KIND_INT) return refuse(Errno::Inval, "the BTF key type must be an INT");
  const uint32_t encoding = btf_int_data(*key);
  if (btf_int_bits(encoding) != 64 || btf_int_offset(encoding) != 0)
    return refuse(Errno::Inval, "the BTF key type must have 64 bits from bit 0");
  return {};
}

std::string cgroup_storage_seq_show_elem(Map& map, const void* key) {
  BpfCgroupStorage* storage = cgroup_storage_lookup(map, key_of(map, key));
  if (!storage) return "ENOENT\n";
  if (map.map_type == BPF_MAP_TYPE_CGROUP_STORAGE)
    return seq_show_elem(map, seq_show_key(map, key), storage->buf.host);
  const uint64_t stride = round_up(map.value_size, 8);
  return seq_show_percpu_elem(map, seq_show_key(map, key),
                              [&](uint32_t cpu) { return storage->buf.host + cpu * stride; });
}

uint64_t cgroup_storage_map_usage(const Map&) { return kSizeofCgroupStorageMap; }

void cgroup_storage_each_held(const Map& map, const HoldVisitor& visit) {
  for (const BpfCgroupStorage* storage : map_to_storage(map).list)
    visit({storage->cgroup, Counter::Refs, false, "a value for its cgroup"});
}

}  // namespace

BpfCgroupStorage* cgroup_storage_lookup(Map& map, const bpf_cgroup_storage_key& key) {
  auto& root = map_to_storage(map).root;
  auto found = root.find(key);
  return found == root.end() ? nullptr : found->second;
}

Result<BpfCgroupStorage*> bpf_cgroup_storage_alloc(Map& map) {
  const bool percpu = map.map_type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
  const uint64_t size = percpu ? round_up(map.value_size, 8) * map.machine.cpus : map.value_size;
  Span buf = TRY(map.machine.arena.alloc(size, "cgroup storage"));
  return new BpfCgroupStorage{&map, {}, nullptr, buf};
}

void bpf_cgroup_storage_link(BpfCgroupStorage& storage, Cgroup& cgroup, bpf_attach_type type) {
  storage.key = {cgroup.id, uint32_t(type)};
  storage.cgroup = &cgroup;
  CgroupStorageMap& map = map_to_storage(*storage.map);
  map.root.emplace(storage.key, &storage);
  map.list.push_back(&storage);
  cgroup.storages.push_back(&storage);
}

void bpf_cgroup_storage_unlink(BpfCgroupStorage& storage) {
  CgroupStorageMap& map = map_to_storage(*storage.map);
  map.root.erase(storage.key);
  std::erase(map.list, &storage);
  std::erase(storage.cgroup->storages, &storage);
}

// A program may still look at the value.
void bpf_cgroup_storage_free(BpfCgroupStorage& storage) {
  Machine& machine = storage.map->machine;
  if (storage.cgroup) bpf_cgroup_storage_unlink(storage);
  machine.rcu.call_rcu("value of " + storage.map->label(), &storage, [&machine, freed = &storage] {
    machine.arena.free(freed->buf);
    delete freed;
  });
}

Result<void> bpf_percpu_cgroup_storage_copy(Map& map, const void* key, void* values) {
  BpfCgroupStorage& storage = *TRY(need_storage(map, key));
  std::memcpy(values, storage.buf.host, storage.buf.size);
  return {};
}

Result<void> bpf_percpu_cgroup_storage_update(Map& map, const void* key, const void* values, uint64_t flags) {
  if (flags != BPF_ANY && flags != BPF_EXIST)
    return refuse(Errno::Inval, "flags {}: only BPF_ANY and BPF_EXIST may be", flags);
  BpfCgroupStorage& storage = *TRY(need_storage(map, key));
  std::memcpy(storage.buf.host, values, storage.buf.size);
  return {};
}

OwnedView cgroup_storage_view(const Map& map) {
  OwnedView view;
  const auto& list = map_to_storage(map).list;
  for (auto at = list.rbegin(); at != list.rend(); ++at) {
    const BpfCgroupStorage& storage = **at;
    const AttachTypeRow* type = find_attach_type(storage.key.attach_type);
    view.values.push_back({storage.cgroup, attach_type_isolated(map) && type ? type->name : "", {}});
    for (uint64_t from = 0; from < storage.buf.size; from += round_up(map.value_size, 8))
      view.values.back().values.push_back(bytes_of(storage.buf.host + from, map.value_size));
  }
  return view;
}

const MapOps cgroup_storage_map_ops = {
    .map_alloc = OP(cgroup_storage_map_alloc),
    .map_free = OP(cgroup_storage_map_free),
    .map_get_next_key = OP(cgroup_storage_get_next_key),
    .map_lookup_elem = OP(cgroup_storage_lookup_elem),
    .map_update_elem = OP(cgroup_storage_update_elem),
    .map_delete_elem = OP(cgroup_storage_delete_elem),
    .map_seq_show_elem = OP(cgroup_storage_seq_show_elem),
    .map_check_btf = OP(cgroup_storage_check_btf),
    .map_mem_usage = OP(cgroup_storage_map_usage),
    .each_held = OP(cgroup_storage_each_held),
};

}  // namespace bpfsim
