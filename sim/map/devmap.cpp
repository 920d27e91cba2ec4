// Models: kernel/bpf/devmap.c (Linux 6.18)
//
// Devices by index, for XDP_REDIRECT: an array (DEVMAP) or a hash (DEVMAP_HASH). User space gives an ifindex,
// and with values of 8 bytes the descriptor of a program that is to see each packet on its way out; it reads
// back the ifindex and the program's id. An entry holds its device and its program, and what an update or
// delete replaced goes after a grace period. Departs from the kernel: the numbers that fdinfo counts memory
// by are those of the kernel's structs, and no packet is queued in bulk.
#include "map/devmap.h"

#include <bit>

#include "host/net_device.h"
#include "map/arraymap.h"
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"
#include "map/xdp_redirect.h"
#include "object/tail_call.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t DEV_CREATE_FLAG_MASK = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;
constexpr uint64_t kSizeofBpfDtab = 344, kSizeofBpfDtabNetdev = 64;

struct DtabNetdev {  // struct bpf_dtab_netdev, in the arena: programs may read val
  NetDevice* dev;
  DtabNetdev* next;  // in the bucket of a hash
  Prog* xdp_prog;
  uint32_t idx;
  bpf_devmap_val val;
};

struct BpfDtab final : Map {
  using Map::Map;
  ~BpfDtab() override { machine.arena.free(heads); }
  bool is_hash() const { return map_type == BPF_MAP_TYPE_DEVMAP_HASH; }
  DtabNetdev*& head(uint32_t index) const { return reinterpret_cast<DtabNetdev**>(heads.host)[index]; }
  DtabNetdev*& bucket(uint32_t idx) const { return head(idx & (n_heads - 1)); }

  Span heads;  // the slots of an array, the buckets of a hash
  uint32_t n_heads = 0;
  uint32_t items = 0;
  std::vector<DtabNetdev*> leaving;  // replaced or deleted, until the grace period ends
};

BpfDtab& dtab_of(Map& map) { return static_cast<BpfDtab&>(map); }
const BpfDtab& dtab_of(const Map& map) { return static_cast<const BpfDtab&>(map); }

Result<void> dev_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size != 4) return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.value_size != 4 && (attr.value_size != 8 || !has(Gate::devmap_prog, machine.version)))
    return refuse(Errno::Inval,
                  "value_size must be 4 (ifindex) or since Linux {} 8 (ifindex, prog fd), is {}",
                  since(Gate::devmap_prog), attr.value_size);
  if (uint32_t extra = attr.map_flags & ~DEV_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a map of devices", extra);
  if (attr.map_type == BPF_MAP_TYPE_DEVMAP_HASH && attr.max_entries > 1u << 31)
    return refuse(Errno::Inval, "max_entries {} is above 2^31", attr.max_entries);
  return {};
}

Result<void> build(BpfDtab& dtab, const bpf_attr& attr) {
  dtab.map_flags |= BPF_F_RDONLY_PROG;  // a lookup gives programs the value itself
  dtab.n_heads = dtab.is_hash() ? std::bit_ceil(attr.max_entries) : attr.max_entries;
  if (!bpf_map_charge_init(dtab.machine, uint64_t(dtab.n_heads) * sizeof(DtabNetdev*)))
    return refuse(Errno::Inval, "{} slots need 4 GiB or more", dtab.n_heads);
  dtab.heads = TRY(dtab.machine.arena.alloc(uint64_t(dtab.n_heads) * sizeof(DtabNetdev*), "devmap slots"));
  return {};
}

Result<Map*> dev_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<BpfDtab>(machine, attr, build);
}

void entry_free(BpfDtab& dtab, DtabNetdev& entry) {
  if (entry.xdp_prog) bpf_prog_put(*entry.xdp_prog, {"devmap entry {} is freed", entry.idx});
  Arena& arena = dtab.machine.arena;
  arena.free({arena.addr(&entry), reinterpret_cast<uint8_t*>(&entry), sizeof entry});
}

void entry_free_rcu(BpfDtab& dtab, DtabNetdev& entry) {
  dtab.leaving.push_back(&entry);
  dtab.machine.rcu.call_rcu("devmap entry " + std::to_string(entry.idx), &entry, [&dtab, &entry] {
    KFN(dtab.machine, __dev_map_entry_free);
    std::erase(dtab.leaving, &entry);
    entry_free(dtab, entry);
  });
}

void dev_map_free(Map& map) {
  BpfDtab& dtab = dtab_of(map);
  for (uint32_t i = 0; i < dtab.n_heads; ++i) {
    for (DtabNetdev *entry = dtab.head(i), *next = nullptr; entry; entry = next) {
      next = entry->next;
      entry_free(dtab, *entry);
    }
  }
  delete &dtab;
}

Result<void> dev_map_get_next_key(Map& map, const void* key, void* next_key) {
  return array_map_get_next_key(map, key, next_key);
}

DtabNetdev* __dev_map_lookup_elem(const BpfDtab& dtab, uint32_t index) {
  return index < dtab.max_entries ? dtab.head(index) : nullptr;
}

DtabNetdev* __dev_map_hash_lookup_elem(const BpfDtab& dtab, uint32_t idx) {
  DtabNetdev* entry = dtab.bucket(idx);
  while (entry && entry->idx != idx) entry = entry->next;
  return entry;
}

Result<void> dev_map_hash_get_next_key(Map& map, const void* key, void* next_key) {
  const BpfDtab& dtab = dtab_of(map);
  const DtabNetdev* entry = key ? __dev_map_hash_lookup_elem(dtab, key_as<uint32_t>(key)) : nullptr;
  uint32_t bucket = entry ? (entry->idx & (dtab.n_heads - 1)) + 1 : 0;
  entry = entry ? entry->next : nullptr;
  while (!entry && bucket < dtab.n_heads) entry = dtab.head(bucket++);
  if (!entry) return refuse(Errno::NoEnt, "that was the last key");
  std::memcpy(next_key, &entry->idx, sizeof entry->idx);
  return {};
}

Result<void*> dev_map_lookup_elem(Map& map, const void* key) {
  DtabNetdev* entry = __dev_map_lookup_elem(dtab_of(map), key_as<uint32_t>(key));
  return entry ? &entry->val : nullptr;
}

Result<void*> dev_map_hash_lookup_elem(Map& map, const void* key) {
  DtabNetdev* entry = __dev_map_hash_lookup_elem(dtab_of(map), key_as<uint32_t>(key));
  return entry ? &entry->val : nullptr;
}

Result<void> dev_map_delete_elem(Map& map, const void* key) {
  BpfDtab& dtab = dtab_of(map);
  const uint32_t index = key_as<uint32_t>(key);
  if (index >= map.max_entries)
    return refuse(Errno::Inval, "index {} is not below max_entries {}", index, map.max_entries);
  if (DtabNetdev* old = std::exchange(dtab.head(index), nullptr)) {
    entry_free_rcu(dtab, *old);
    --dtab.items;
  }
  return {};
}

// Takes an entry out of its bucket.
void unlink(BpfDtab& dtab, DtabNetdev& entry) {
  DtabNetdev** at = &dtab.bucket(entry.idx);
  while (*at != &entry) at = &(*at)->next;
  *at = entry.next;
}

Result<void> dev_map_hash_delete_elem(Map& map, const void* key) {
  BpfDtab& dtab = dtab_of(map);
  DtabNetdev* old = __dev_map_hash_lookup_elem(dtab, key_as<uint32_t>(key));
  if (!old) return refuse(Errno::NoEnt, "no entry has the key {}", key_as<uint32_t>(key));
  --dtab.items;
  unlink(dtab, *old);
  entry_free_rcu(dtab, *old);
  return {};
}

Result<Prog*> devmap_prog(Map& map, int fd) {
  Prog& prog = *TRY(__bpf_prog_get(map.machine, fd));
  if (prog.type != BPF_PROG_TYPE_XDP)
    return refuse(Errno::Inval, "the program has type {}, not XDP", uint32_t(prog.type));
  if (prog.expected_attach_type != BPF_XDP_DEVMAP)
    return refuse(Errno::Inval, "the program was not loaded with expected_attach_type BPF_XDP_DEVMAP");
  const char* differs = nullptr;
  if (!bpf_prog_map_compatible(map, prog, &differs))
    return refuse(Errno::Inval, "the map is for programs that differ from this in {}", differs);
  return &prog;
}

// Whatever is wrong, the kernel says EINVAL here.
Result<DtabNetdev*> __dev_map_alloc_node(BpfDtab& dtab, const bpf_devmap_val& val, uint32_t idx) {
  NetDevice* dev = init_net(dtab.machine).by_index(int(val.ifindex));
  if (!dev) return refuse(Errno::Inval, "no device has ifindex {}", val.ifindex);
  Prog* prog = nullptr;
  if (val.bpf_prog.fd > 0) {
    Result<Prog*> found = devmap_prog(dtab, val.bpf_prog.fd);
    if (!found) {
      Refusal refusal = found.refusal();
      refusal.err = Errno::Inval;
      return refusal;
    }
    prog = *found;
  }
  const Span span = TRY(dtab.machine.arena.alloc(sizeof(DtabNetdev), "bpf_dtab_netdev"));
  if (prog) bpf_prog_inc(*prog, {"devmap entry {} of map {}", idx, dtab.id});
  auto* entry = new (span.host) DtabNetdev{dev, nullptr, prog, idx, {}};
  entry->val.ifindex = val.ifindex;
  entry->val.bpf_prog.id = prog ? prog->id : 0;
  return entry;
}

bpf_devmap_val value_of(const Map& map, const void* value) {
  bpf_devmap_val val{};
  std::memcpy(&val, value, map.value_size);
  return val;
}

// An ifindex of 0 empties the slot; the kernel's count of items then goes wrong by one, as fdinfo shows.
Result<void> dev_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  BpfDtab& dtab = dtab_of(map);
  const uint32_t index = key_as<uint32_t>(key);
  const bpf_devmap_val val = value_of(map, value);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  if (flags == BPF_NOEXIST) return refuse(Errno::Exist, "every slot of an array exists");
  DtabNetdev* fresh = nullptr;
  if (val.ifindex)
    fresh = TRY(__dev_map_alloc_node(dtab, val, index));
  else if (val.bpf_prog.fd > 0)
    return refuse(Errno::Inval, "a program, but no device");
  if (DtabNetdev* old = std::exchange(dtab.head(index), fresh))
    entry_free_rcu(dtab, *old);
  else
    ++dtab.items;
  return {};
}

Result<void> dev_map_hash_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  BpfDtab& dtab = dtab_of(map);
  const uint32_t idx = key_as<uint32_t>(key);
  const bpf_devmap_val val = value_of(map, value);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (!val.ifindex) return refuse(Errno::Inval, "no device has ifindex 0");
  DtabNetdev* old = __dev_map_hash_lookup_elem(dtab, idx);
  if (old && flags == BPF_NOEXIST) return refuse(Errno::Exist, "an entry has the key {}", idx);
  DtabNetdev* fresh = TRY(__dev_map_alloc_node(dtab, val, idx));
  if (old) {
    unlink(dtab, *old);
    entry_free_rcu(dtab, *old);
  } else if (dtab.items >= dtab.max_entries) {
    entry_free_rcu(dtab, *fresh);
    return refuse(Errno::TooBig, "all {} entries are taken", dtab.max_entries);
  } else {
    ++dtab.items;
  }
  fresh->next = std::exchange(dtab.bucket(idx), fresh);
  return {};
}

uint64_t dev_map_redirect(Map& map, uint64_t index, uint64_t flags) {
  return __bpf_xdp_redirect_map(map, index, flags, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS,
                                [&](uint32_t key) { return __dev_map_lookup_elem(dtab_of(map), key); });
}

uint64_t dev_hash_map_redirect(Map& map, uint64_t index, uint64_t flags) {
  return __bpf_xdp_redirect_map(map, index, flags, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS,
                                [&](uint32_t key) { return __dev_map_hash_lookup_elem(dtab_of(map), key); });
}

uint64_t dev_map_mem_usage(const Map& map) {
  const BpfDtab& dtab = dtab_of(map);
  return kSizeofBpfDtab + uint64_t(dtab.n_heads) * sizeof(uint64_t) + dtab.items * kSizeofBpfDtabNetdev;
}

template <class Visit>
void each_entry(const BpfDtab& dtab, const Visit& visit) {
  for (uint32_t i = 0; i < dtab.n_heads; ++i)
    for (DtabNetdev* entry = dtab.head(i); entry; entry = entry->next) visit(*entry);
}

void dev_map_each_held(const Map& map, const HoldVisitor& visit) {
  const BpfDtab& dtab = dtab_of(map);
  auto show = [&](const DtabNetdev& entry, const std::string& name) {
    visit({entry.dev, Counter::Refs, true, name});
    if (entry.xdp_prog) visit({entry.xdp_prog, Counter::Refs, true, name + " xdp_prog"});
  };
  each_entry(dtab, [&](const DtabNetdev& entry) { show(entry, "entry " + std::to_string(entry.idx)); });
  for (const DtabNetdev* entry : dtab.leaving)
    show(*entry, "entry " + std::to_string(entry->idx) + ", until the grace period ends");
}

}  // namespace

DevTarget dev_map_target(const void* tgt_value) {
  const auto* entry = static_cast<const DtabNetdev*>(tgt_value);
  return {entry->dev, entry->xdp_prog};
}

std::vector<DevTarget> dev_map_targets(const Map& map, const NetDevice& dev_rx, bool exclude_ingress) {
  std::vector<DevTarget> targets;
  each_entry(dtab_of(map), [&](const DtabNetdev& entry) {
    if (!exclude_ingress || entry.dev != &dev_rx) targets.push_back({entry.dev, entry.xdp_prog});
  });
  return targets;
}

void dev_map_remove_netdev(NetDevice& dev) {
  for (auto& [serial, object] : dev.machine.objects) {
    auto* dtab = object->kind == ObjectKind::Map ? dynamic_cast<BpfDtab*>(object) : nullptr;
    for (uint32_t i = 0; dtab && i < dtab->n_heads; ++i) {
      for (DtabNetdev** at = &dtab->head(i); *at;) {
        DtabNetdev& entry = **at;
        if (entry.dev != &dev) {
          at = &entry.next;
          continue;
        }
        *at = entry.next;
        --dtab->items;
        entry_free_rcu(*dtab, entry);
      }
    }
  }
}

FdArrayView dev_map_view(const Map& map) {
  FdArrayView view{map.max_entries, {}};
  each_entry(dtab_of(map), [&](const DtabNetdev& entry) {
    view.slots.push_back({bytes_of(&entry.idx, sizeof entry.idx), entry.dev, entry.xdp_prog});
  });
  return view;
}

const MapOps dev_map_ops = {
    .map_alloc_check = OP(dev_map_alloc_check),
    .map_alloc = OP(dev_map_alloc),
    .map_free = OP(dev_map_free),
    .map_get_next_key = OP(dev_map_get_next_key),
    .map_lookup_elem = OP(dev_map_lookup_elem),
    .map_update_elem = OP(dev_map_update_elem),
    .map_delete_elem = OP(dev_map_delete_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_redirect = OP(dev_map_redirect),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(dev_map_mem_usage),
    .each_held = OP(dev_map_each_held),
};

const MapOps dev_map_hash_ops = {
    .map_alloc_check = OP(dev_map_alloc_check),
    .map_alloc = OP(dev_map_alloc),
    .map_free = OP(dev_map_free),
    .map_get_next_key = OP(dev_map_hash_get_next_key),
    .map_lookup_elem = OP(dev_map_hash_lookup_elem),
    .map_update_elem = OP(dev_map_hash_update_elem),
    .map_delete_elem = OP(dev_map_hash_delete_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_redirect = OP(dev_hash_map_redirect),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(dev_map_mem_usage),
    .each_held = OP(dev_map_each_held),
};

}  // namespace bpfsim
