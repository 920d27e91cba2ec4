// Models: kernel/bpf/arraymap.c: array, percpu_array (Linux 6.18)
//
// Values in a row, found by index; all of them exist from the start and none can be deleted. A per-CPU array
// keeps for each index one copy for every CPU: copy `cpu` lies at `base + cpu * stride`, where the stride is
// value_size rounded up to 8. An unprivileged owner gets an array of a power of two, so that a speculated
// index, masked, stays inside. User space maps the pages of a BPF_F_MMAPABLE array (object/mmap.h).
#include "map/arraymap.h"

#include "btf/btf_types.h"
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/map_value.h"
#include "map/view.h"
#include "object/btf.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t ARRAY_CREATE_FLAG_MASK =
    BPF_F_NUMA_NODE | BPF_F_MMAPABLE | BPF_F_ACCESS_MASK | BPF_F_PRESERVE_ELEMS | BPF_F_INNER_MAP;
constexpr uint64_t kSizeofBpfArray = 312;

struct BpfArray final : Map {
  using Map::Map;
  ~BpfArray() override { machine.arena.free(values); }
  bool percpu() const { return map_type == BPF_MAP_TYPE_PERCPU_ARRAY; }
  uint64_t distance() const { return percpu() ? uint64_t(elem_size) * machine.cpus : elem_size; }
  uint8_t* elem(uint32_t index, uint32_t cpu = 0) const {
    return values.host + (index & index_mask) * distance() + uint64_t(cpu) * elem_size;
  }

  uint32_t elem_size = 0;   // value_size rounded up to 8
  uint32_t index_mask = 0;  // all ones up to the highest index
  Span values;
};

BpfArray& array_of(Map& map) { return static_cast<BpfArray&>(map); }
const BpfArray& array_of(const Map& map) { return static_cast<const BpfArray&>(map); }

}  // namespace

Result<void> array_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  bool percpu = attr.map_type == BPF_MAP_TYPE_PERCPU_ARRAY;
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size != 4) return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.value_size == 0) return refuse(Errno::Inval, "value_size must not be 0");
  if (uint32_t extra = attr.map_flags & ~ARRAY_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for an array", extra);
  if (!bpf_map_flags_access_ok(attr.map_flags))
    return refuse(Errno::Inval, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  if (percpu && bpf_map_attr_numa_node(attr) != NUMA_NO_NODE)
    return refuse(Errno::Inval, "a per-CPU array cannot lie on one NUMA node");
  if (attr.map_type != BPF_MAP_TYPE_ARRAY && attr.map_flags & (BPF_F_MMAPABLE | BPF_F_INNER_MAP))
    return refuse(Errno::Inval, "BPF_F_MMAPABLE and BPF_F_INNER_MAP are for BPF_MAP_TYPE_ARRAY");
  if (attr.map_type != BPF_MAP_TYPE_PERF_EVENT_ARRAY && attr.map_flags & BPF_F_PRESERVE_ELEMS)
    return refuse(Errno::Inval, "BPF_F_PRESERVE_ELEMS is for BPF_MAP_TYPE_PERF_EVENT_ARRAY");
  const uint64_t most = has(Gate::array_value_2g, machine.version) ? INT32_MAX : KMALLOC_MAX_SIZE;
  if (attr.value_size > most)
    return refuse(Errno::TooBig, "value_size {} is above {}", attr.value_size, most);
  if (percpu && has(Gate::percpu_value_size, machine.version) &&
      round_up(attr.value_size, 8) > PCPU_MIN_UNIT_SIZE)
    return refuse(Errno::TooBig, "a per-CPU value of {} bytes is above {}", attr.value_size,
                  PCPU_MIN_UNIT_SIZE);
  return {};
}

namespace {

Result<void> build(BpfArray& array, const bpf_attr& attr) {
  array.elem_size = uint32_t(round_up(attr.value_size, 8));
  array.bypass_spec_v1 = perfmon_capable(array.machine);
  uint64_t power = 1;
  while (power < attr.max_entries) power *= 2;
  array.index_mask = uint32_t(power - 1);
  uint64_t entries = array.bypass_spec_v1 ? attr.max_entries : power;
  if (entries > UINT32_MAX)
    return refuse(Errno::TooBig, "max_entries {} rounded up to a power of two is above 32 bits",
                  attr.max_entries);
  uint64_t bytes = entries * array.distance();
  if (attr.map_flags & BPF_F_MMAPABLE) bytes = round_up(bytes, kPageSize);
  if (has(Gate::array_charged, array.machine.version)) TRY(bpf_map_charge_init(array.machine, bytes));
  if (array.percpu()) TRY(pcpu_fits(array.elem_size));
  array.values = TRY(array.machine.arena.alloc(bytes, "array_map values"));
  return {};
}

Result<Map*> array_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<BpfArray>(machine, attr, build);
}

void array_map_free(Map& map) { delete &array_of(map); }

Result<void*> array_map_lookup_elem(Map& map, const void* key) {
  BpfArray& array = array_of(map);
  uint32_t index = key_as<uint32_t>(key);
  if (index >= array.max_entries) return nullptr;
  return array.values.host + uint64_t(array.elem_size) * (index & array.index_mask);
}

Result<void*> percpu_array_map_lookup_elem(Map& map, const void* key) {
  BpfArray& array = array_of(map);
  uint32_t index = key_as<uint32_t>(key);
  if (index >= array.max_entries) return nullptr;
  return array.elem(index, map.machine.current->cpu);
}

Result<void*> percpu_array_map_lookup_percpu_elem(Map& map, const void* key, uint32_t cpu) {
  BpfArray& array = array_of(map);
  uint32_t index = key_as<uint32_t>(key);
  if (cpu >= map.machine.cpus || index >= array.max_entries) return nullptr;
  return array.elem(index, cpu);
}

}  // namespace

Result<void> array_map_get_next_key(Map& map, const void* key, void* next_key) {
  uint32_t index = key ? key_as<uint32_t>(key) : UINT32_MAX;
  if (index == map.max_entries - 1) return refuse(Errno::NoEnt, "index {} is the last", index);
  uint32_t next = index < map.max_entries ? index + 1 : 0;
  std::memcpy(next_key, &next, sizeof next);
  return {};
}

namespace {

Result<void> array_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  BpfArray& array = array_of(map);
  uint32_t index = key_as<uint32_t>(key);
  if ((flags & ~BPF_F_LOCK) > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (index >= array.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, array.max_entries);
  if (flags & BPF_NOEXIST) return refuse(Errno::Exist, "every element of an array exists already");
  TRY(check_lock_flag(map, flags));
  copy_map_value(map, array.elem(index, array.percpu() ? map.machine.current->cpu : 0), value);
  return {};
}

Result<void> array_map_delete_elem(Map&, const void*) {
  return refuse(Errno::Inval, "elements of an array cannot be deleted");
}

// One exception needs no key type: a whole section of global variables (.data, .rodata, .bss).
Result<void> array_map_check_btf(const Map& map, const Btf& btf, uint32_t key_type, uint32_t value_type) {
  if (key_type == 0) {
    if (map.map_type != BPF_MAP_TYPE_ARRAY || map.max_entries != 1)
      return refuse(Errno::Inval, "only an array of one element may lack a BTF key type");
    const btf_type* value = btf.types->type_by_id(value_type);
    if (!value || btf_kind(*value) != BTF_KIND_DATASEC)
      return refuse(Errno::Inval, "without a BTF key type the value must be a DATASEC");
    return {};
  }
  const btf_type* key = btf.types->type_by_id(key_type);
  if (!key || btf_kind(*key) != BTF_KIND_INT) return refuse(Errno::Inval, "the BTF key type must be an INT");
  uint32_t encoding = btf_int_data(*key);
  if (btf_int_bits(encoding) != 32 || btf_int_offset(encoding) != 0)
    return refuse(Errno::Inval, "the BTF key type must have 32 bits from bit 0");
  return {};
}

Result<Addr> array_map_direct_value_addr(const Map& map, uint32_t offset) {
  if (map.max_entries != 1)
    return refuse(Errno::NotSupp, "direct access needs max_entries 1, is {}", map.max_entries);
  if (offset >= map.value_size)
    return refuse(Errno::Inval, "offset {} is not below value_size {}", offset, map.value_size);
  return array_of(map).values.addr;
}

Result<uint32_t> array_map_direct_value_meta(const Map& map, Addr imm) {
  const BpfArray& array = array_of(map);
  if (map.max_entries != 1)
    return refuse(Errno::NotSupp, "direct access needs max_entries 1, is {}", map.max_entries);
  if (imm - array.values.addr >= array.elem_size)
    return refuse(Errno::NoEnt, "address {} is not in the value", imm);
  return uint32_t(imm - array.values.addr);
}

Result<Span> array_map_mmap(Map& map, Vma& vma) {
  BpfArray& array = array_of(map);
  if (!(map.map_flags & BPF_F_MMAPABLE)) return refuse(Errno::Inval, "the map lacks BPF_F_MMAPABLE");
  uint64_t size = round_up(uint64_t(map.max_entries) * array.elem_size, kPageSize);
  if (vma.offset > size || vma.length > size - vma.offset)
    return refuse(Errno::Inval, "{} bytes from {} are not inside the {} of the array", vma.length, vma.offset,
                  size);
  return Span{array.values.addr + vma.offset, array.values.host + vma.offset, vma.length};
}

// Every element in turn, until the callback answers other than 0: how many were visited. The callback gets
// the address of a key that is gone afterwards.
Result<int64_t> bpf_for_each_array_elem(Map& map, Addr callback, Addr context, uint64_t flags) {
  BpfArray& array = array_of(map);
  Machine& machine = map.machine;
  if (flags != 0) return refuse(Errno::Inval, "flags must be 0, is {}", flags);
  Span key = TRY(machine.arena.alloc(sizeof(uint32_t), "for_each key"));
  uint32_t cpu = array.percpu() ? machine.current->cpu : 0, visited = 0;
  for (uint32_t index = 0; index < array.max_entries; ++index) {
    ++visited;
    std::memcpy(key.host, &index, sizeof index);
    Addr value = machine.arena.addr(array.elem(index, cpu));
    if (machine.calls->call_bpf(machine, callback, {map.handle, key.addr, value, context, 0})) break;
  }
  machine.arena.free(key);
  return visited;
}

bool array_map_meta_equal(const Map& meta, const Map& inner) {
  return bpf_map_meta_equal(meta, inner) &&
         (meta.map_flags & BPF_F_INNER_MAP || meta.max_entries == inner.max_entries);
}

uint64_t array_map_mem_usage(const Map& map) {
  const BpfArray& array = array_of(map);
  uint64_t entries = map.max_entries;
  if (array.percpu()) return array_mem_usage(entries, sizeof(void*) + array.distance());
  if (map.map_flags & BPF_F_MMAPABLE)
    return round_up(kSizeofBpfArray, kPageSize) + round_up(entries * array.elem_size, kPageSize);
  return array_mem_usage(entries, array.elem_size);
}

}  // namespace

uint64_t array_mem_usage(uint64_t entries, uint64_t bytes_each) {
  return kSizeofBpfArray + entries * bytes_each;
}

Result<void> bpf_percpu_array_copy(Map& map, const void* key, void* values) {
  BpfArray& array = array_of(map);
  uint32_t index = key_as<uint32_t>(key);
  if (index >= array.max_entries)
    return refuse(Errno::NoEnt, "index {} is not below max_entries {}", index, array.max_entries);
  copy_map_values(map, values, array.elem(index), true);
  return {};
}

Result<void> bpf_percpu_array_update(Map& map, const void* key, const void* values, uint64_t flags) {
  BpfArray& array = array_of(map);
  uint32_t index = key_as<uint32_t>(key);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (index >= array.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, array.max_entries);
  if (flags == BPF_NOEXIST) return refuse(Errno::Exist, "every element of an array exists already");
  copy_map_values(map, array.elem(index), values, false);
  return {};
}

std::string index_text(const Map& map, uint32_t index) {
  return map.btf_key_type_id ? std::to_string(index) + ": " : "";
}

std::string array_map_seq_show_elem(Map& map, const void* key) {
  BpfArray& array = array_of(map);
  const uint32_t index = key_as<uint32_t>(key);
  if (index >= array.max_entries) return "";
  return seq_show_elem(map, index_text(map, index), array.elem(index));
}

std::string percpu_array_map_seq_show_elem(Map& map, const void* key) {
  BpfArray& array = array_of(map);
  const uint32_t index = key_as<uint32_t>(key);
  if (index >= array.max_entries) return "";
  return seq_show_percpu_elem(map, std::to_string(index) + ": ",
                              [&](uint32_t cpu) { return array.elem(index, cpu); });
}

// Timers and work queues in the values end with the last user; no program can start one yet.
void array_map_free_timers_wq(Map&) {}

ArrayView array_view(const Map& map, size_t limit) {
  const BpfArray& array = array_of(map);
  ArrayView view{array.elem_size, array.percpu() ? array.elem_size : 0u, array.max_entries, {}};
  for (uint32_t index = 0; index < array.max_entries && index < limit; ++index) {
    ElementView element;
    element.addr = array.machine.arena.addr(array.elem(index));
    element.key = bytes_of(&index, sizeof index);
    for (uint32_t cpu = 0; cpu < (array.percpu() ? array.machine.cpus : 1); ++cpu)
      element.values.push_back(bytes_of(array.elem(index, cpu), array.value_size));
    view.elements.push_back(std::move(element));
  }
  return view;
}

const MapOps array_map_ops = {
    .map_alloc_check = OP(array_map_alloc_check),
    .map_alloc = OP(array_map_alloc),
    .map_free = OP(array_map_free),
    .map_get_next_key = OP(array_map_get_next_key),
    .map_release_uref = OP(array_map_free_timers_wq),
    .map_lookup_batch = OP(generic_map_lookup_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_lookup_elem = OP(array_map_lookup_elem),
    .map_update_elem = OP(array_map_update_elem),
    .map_delete_elem = OP(array_map_delete_elem),
    .map_gen_lookup = OP_LATER(array_map_gen_lookup),
    .map_seq_show_elem = OP(array_map_seq_show_elem),
    .map_check_btf = OP(array_map_check_btf),
    .map_direct_value_addr = OP(array_map_direct_value_addr),
    .map_direct_value_meta = OP(array_map_direct_value_meta),
    .map_mmap = OP(array_map_mmap),
    .map_meta_equal = OP(array_map_meta_equal),
    .map_set_for_each_callback_args = OP_LATER(map_set_for_each_callback_args),
    .map_for_each_callback = OP(bpf_for_each_array_elem),
    .map_mem_usage = OP(array_map_mem_usage),
};

const MapOps percpu_array_map_ops = {
    .map_alloc_check = OP(array_map_alloc_check),
    .map_alloc = OP(array_map_alloc),
    .map_free = OP(array_map_free),
    .map_get_next_key = OP(array_map_get_next_key),
    .map_lookup_batch = OP(generic_map_lookup_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_lookup_elem = OP(percpu_array_map_lookup_elem),
    .map_update_elem = OP(array_map_update_elem),
    .map_delete_elem = OP(array_map_delete_elem),
    .map_lookup_percpu_elem = OP(percpu_array_map_lookup_percpu_elem),
    .map_gen_lookup = OP_LATER(percpu_array_map_gen_lookup),
    .map_seq_show_elem = OP(percpu_array_map_seq_show_elem),
    .map_check_btf = OP(array_map_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_set_for_each_callback_args = OP_LATER(map_set_for_each_callback_args),
    .map_for_each_callback = OP(bpf_for_each_array_elem),
    .map_mem_usage = OP(array_map_mem_usage),
};

}  // namespace bpfsim
