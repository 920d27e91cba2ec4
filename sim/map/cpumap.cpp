// Models: kernel/bpf/cpumap.c (Linux 6.18)
//
// CPUs that XDP may send packets to. A value is the length of the queue to that CPU, and with 8 bytes the
// descriptor of a program that runs there; user space reads back the length and the program's id. A length of
// 0 empties the slot. Departs from the kernel: an entry has neither a queue nor a kernel thread, since a
// packet that is redirected is handled at once.
#include "map/cpumap.h"

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

constexpr uint32_t NR_CPUS = 256;  // as the measured 6.18 was built
constexpr uint32_t kMaxQsize = 16384;
constexpr uint64_t kSizeofBpfCpuMap = 304;

struct CpuMapEntry {  // struct bpf_cpu_map_entry
  uint32_t cpu;
  bpf_cpumap_val value;
  Prog* prog;
};

struct BpfCpuMap final : Map {
  using Map::Map;
  std::vector<CpuMapEntry*> cpu_map;
  std::vector<CpuMapEntry*> leaving;  // replaced or deleted, until the grace period ends
};

BpfCpuMap& cpu_map(Map& map) { return static_cast<BpfCpuMap&>(map); }
const BpfCpuMap& cpu_map(const Map& map) { return static_cast<const BpfCpuMap&>(map); }

Result<void> build(BpfCpuMap& cmap, const bpf_attr& attr) {
  cmap.cpu_map.resize(attr.max_entries);
  return {};
}

Result<Map*> cpu_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size != 4) return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.value_size != 4 && (attr.value_size != 8 || !has(Gate::cpumap_prog, machine.version)))
    return refuse(Errno::Inval, "value_size must be 4 (qsize) or since Linux {} 8 (qsize, prog fd), is {}",
                  since(Gate::cpumap_prog), attr.value_size);
  if (uint32_t extra = attr.map_flags & ~uint32_t(BPF_F_NUMA_NODE))
    return refuse(Errno::Inval, "map_flags {} are not for a map of CPUs", extra);
  if (attr.max_entries > NR_CPUS)
    return refuse(Errno::TooBig, "max_entries {} is above NR_CPUS, {}", attr.max_entries, NR_CPUS);
  return new_map<BpfCpuMap>(machine, attr, build);
}

void entry_free(CpuMapEntry* entry) {
  if (entry->prog) bpf_prog_put(*entry->prog, {"cpumap entry {} is freed", entry->cpu});
  delete entry;
}

void cpu_map_free(Map& map) {
  for (CpuMapEntry* entry : cpu_map(map).cpu_map)
    if (entry) entry_free(entry);
  delete &cpu_map(map);
}

void __cpu_map_entry_replace(BpfCpuMap& cmap, uint32_t cpu, CpuMapEntry* fresh) {
  CpuMapEntry* old = std::exchange(cmap.cpu_map[cpu], fresh);
  if (!old) return;
  cmap.leaving.push_back(old);
  cmap.machine.rcu.call_rcu("cpumap entry " + std::to_string(cpu), old, [&cmap, old] {
    KFN(cmap.machine, __cpu_map_entry_free);
    std::erase(cmap.leaving, old);
    entry_free(old);
  });
}

Result<void> cpu_map_delete_elem(Map& map, const void* key) {
  const uint32_t cpu = key_as<uint32_t>(key);
  if (cpu >= map.max_entries)
    return refuse(Errno::Inval, "index {} is not below max_entries {}", cpu, map.max_entries);
  __cpu_map_entry_replace(cpu_map(map), cpu, nullptr);
  return {};
}

Result<Prog*> __cpu_map_load_bpf_program(Map& map, int fd) {
  Prog& prog = *TRY(__bpf_prog_get(map.machine, fd));
  if (prog.type != BPF_PROG_TYPE_XDP || prog.expected_attach_type != BPF_XDP_CPUMAP)
    return refuse(Errno::Inval, "the program is no XDP program with expected_attach_type BPF_XDP_CPUMAP");
  const char* differs = nullptr;
  if (!bpf_prog_map_compatible(map, prog, &differs))
    return refuse(Errno::Inval, "the map is for programs that differ from this in {}", differs);
  return &prog;
}

// Whatever is wrong with the program, the kernel says ENOMEM here.
Result<CpuMapEntry*> __cpu_map_entry_alloc(Map& map, const bpf_cpumap_val& value, uint32_t cpu) {
  Prog* prog = nullptr;
  if (value.bpf_prog.fd > 0) {
    Result<Prog*> found = __cpu_map_load_bpf_program(map, value.bpf_prog.fd);
    if (!found) {
      Refusal refusal = found.refusal();
      refusal.err = Errno::NoMem;
      return refusal;
    }
    prog = *found;
    bpf_prog_inc(*prog, {"cpumap entry {} of map {}", cpu, map.id});
  }
  auto* entry = new CpuMapEntry{cpu, {}, prog};
  entry->value.qsize = value.qsize;
  entry->value.bpf_prog.id = prog ? prog->id : 0;
  return entry;
}

Result<void> cpu_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  const uint32_t cpu = key_as<uint32_t>(key);
  bpf_cpumap_val val{};
  std::memcpy(&val, value, map.value_size);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (cpu >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", cpu, map.max_entries);
  if (flags == BPF_NOEXIST) return refuse(Errno::Exist, "every slot of an array exists");
  if (val.qsize > kMaxQsize) return refuse(Errno::Overflow, "qsize {} is above {}", val.qsize, kMaxQsize);
  if (cpu >= map.machine.cpus) return refuse(Errno::NoDev, "this machine has no CPU {}", cpu);
  CpuMapEntry* fresh = val.qsize ? TRY(__cpu_map_entry_alloc(map, val, cpu)) : nullptr;
  __cpu_map_entry_replace(cpu_map(map), cpu, fresh);
  return {};
}

CpuMapEntry* __cpu_map_lookup_elem(Map& map, uint32_t cpu) {
  return cpu < map.max_entries ? cpu_map(map).cpu_map[cpu] : nullptr;
}

Result<void*> cpu_map_lookup_elem(Map& map, const void* key) {
  CpuMapEntry* entry = __cpu_map_lookup_elem(map, key_as<uint32_t>(key));
  return entry ? &entry->value : nullptr;
}

Result<void> cpu_map_get_next_key(Map& map, const void* key, void* next_key) {
  return array_map_get_next_key(map, key, next_key);
}

uint64_t cpu_map_redirect(Map& map, uint64_t index, uint64_t flags) {
  return __bpf_xdp_redirect_map(map, index, flags, 0,
                                [&](uint32_t cpu) { return __cpu_map_lookup_elem(map, cpu); });
}

uint64_t cpu_map_mem_usage(const Map& map) {
  return kSizeofBpfCpuMap + uint64_t(map.max_entries) * sizeof(uint64_t);
}

void cpu_map_each_held(const Map& map, const HoldVisitor& visit) {
  for (const CpuMapEntry* entry : cpu_map(map).cpu_map)
    if (entry && entry->prog)
      visit({entry->prog, Counter::Refs, true, "cpu " + std::to_string(entry->cpu) + " prog"});
  for (const CpuMapEntry* entry : cpu_map(map).leaving)
    if (entry->prog)
      visit({entry->prog, Counter::Refs, true,
             "cpu " + std::to_string(entry->cpu) + " prog, until the grace period ends"});
}

}  // namespace

CpuTarget cpu_map_target(const void* tgt_value) {
  const auto* entry = static_cast<const CpuMapEntry*>(tgt_value);
  return {entry->cpu, entry->prog};
}

CpuMapView cpu_map_view(const Map& map) {
  CpuMapView view{map.max_entries, {}};
  for (const CpuMapEntry* entry : cpu_map(map).cpu_map)
    if (entry) view.slots.push_back({entry->cpu, entry->value.qsize, entry->prog});
  return view;
}

const MapOps cpu_map_ops = {
    .map_alloc = OP(cpu_map_alloc),
    .map_free = OP(cpu_map_free),
    .map_get_next_key = OP(cpu_map_get_next_key),
    .map_lookup_elem = OP(cpu_map_lookup_elem),
    .map_update_elem = OP(cpu_map_update_elem),
    .map_delete_elem = OP(cpu_map_delete_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_redirect = OP(cpu_map_redirect),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(cpu_map_mem_usage),
    .each_held = OP(cpu_map_each_held),
};

}  // namespace bpfsim
