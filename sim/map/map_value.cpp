// Models: kernel/bpf/syscall.c (bpf_map_copy_value, bpf_map_update_value, generic_map_*_batch) (Linux 6.18)
//
// Most maps are read and written through their table of operations; where user space sees a value in another
// form (one for each CPU, a descriptor), a function of the map's file is chosen by type, as the kernel does.
// A batch does that key after key and stops at the first refusal; batch.count then tells how many were done.
// A lookup goes on after the key in in_batch, null for the start, and leaves the last key in out_batch.
#include "map/map_value.h"

#include "btf/btf_show.h"
#include "map/arraymap.h"
#include "map/bpf_struct_ops.h"
#include "map/common.h"
#include "map/hashtab.h"
#include "map/local_storage.h"
#include "map/reuseport_array.h"
#include "map/sock_map.h"
#include "map/stackmap.h"
#include "object/btf.h"
#include "object/registry.h"
#include "uapi/gates.h"

namespace bpfsim {

Result<void> map_check_no_btf(const Map& map, const Btf&, uint32_t, uint32_t) {
  return refuse(Errno::NotSupp, "map type {} takes no BTF for key and value", uint32_t(map.map_type));
}

Result<void> bpf_map_charge_init(const Machine& machine, uint64_t cost) {
  if (has(Gate::map_of_4g, machine.version) || cost < UINT32_MAX - kPageSize) return {};
  return refuse(Errno::TooBig, "before Linux {} a map takes less than 4 GiB, not {} bytes",
                since(Gate::map_of_4g), cost);
}

Result<void> pcpu_fits(uint64_t size) {
  if (size <= PCPU_MIN_UNIT_SIZE) return {};
  return refuse(Errno::NoMem, "a per-CPU value of {} bytes is above {}", size, PCPU_MIN_UNIT_SIZE);
}

static std::string seq_show(const Map& map, uint32_t type_id, const void* bytes, size_t size) {
  const auto hashed = [](uint64_t address) { return Random(address).u32(); };
  return btf_type_seq_show(*map.btf->types, type_id, {static_cast<const uint8_t*>(bytes), size}, hashed);
}
static std::string seq_show_value(const Map& map, const void* value) {
  return seq_show(map, map.btf_value_type_id, value, map.value_size) + "\n";
}

std::string seq_show_key(const Map& map, const void* key) {
  return seq_show(map, map.btf_key_type_id, key, map.key_size) + ": ";
}
std::string seq_show_elem(const Map& map, const std::string& key, const void* value) {
  return key + seq_show_value(map, value);
}
std::string seq_show_percpu_elem(const Map& map, const std::string& key,
                                 const std::function<const void*(uint32_t cpu)>& value_on) {
  std::string text = key + "{\n";
  for (uint32_t cpu = 0; cpu < map.machine.cpus; ++cpu)
    text += "\tcpu" + std::to_string(cpu) + ": " + seq_show_value(map, value_on(cpu));
  return text + "}\n";
}

bool pops(const Map& map) {
  return map.map_type == BPF_MAP_TYPE_QUEUE || map.map_type == BPF_MAP_TYPE_STACK ||
         (uint32_t(map.map_type) >= kFirstExtraMapType && map.key_size == 0);
}

static bool is_queue_like(const Map& map) { return pops(map) || map.map_type == BPF_MAP_TYPE_BLOOM_FILTER; }

Result<void> bpf_map_copy_value(Map& map, const void* key, void* value) {
  KFN(map.machine, bpf_map_copy_value);
  switch (map.map_type) {
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH: return bpf_percpu_hash_copy(map, key, value);
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
      return bpf_fd_array_map_lookup_elem(map, key, static_cast<uint32_t*>(value));
    case BPF_MAP_TYPE_HASH_OF_MAPS:
      return bpf_fd_htab_map_lookup_elem(map, key, static_cast<uint32_t*>(value));
    case BPF_MAP_TYPE_PERCPU_ARRAY: return bpf_percpu_array_copy(map, key, value);
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: return bpf_percpu_cgroup_storage_copy(map, key, value);
    case BPF_MAP_TYPE_STACK_TRACE: return bpf_stackmap_extract(map, key, value, false);
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: return bpf_fd_reuseport_array_lookup_elem(map, key, value);
    case BPF_MAP_TYPE_STRUCT_OPS: return bpf_struct_ops_map_sys_lookup_elem(map, key, value);
    default: break;
  }
  if (is_queue_like(map)) return MAP_OP(map, map_peek_elem, map, value);
  RcuReader reader(map.machine.rcu);
  void* element = nullptr;
  if (map.ops->map_lookup_elem_sys_only)
    element = TRY(MAP_OP(map, map_lookup_elem_sys_only, map, key));
  else
    element = TRY(MAP_OP(map, map_lookup_elem, map, key));
  if (!element) return refuse(Errno::NoEnt, "no element has this key");
  copy_map_value(map, value, element);
  bpf_obj_init(map.record, value);
  return {};
}

Result<void> bpf_map_update_value(Map& map, File& map_file, const void* key, const void* value,
                                  uint64_t flags) {
  KFN(map.machine, bpf_map_update_value);
  switch (map.map_type) {
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH: return bpf_percpu_hash_update(map, key, value, flags);
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS: return bpf_fd_array_map_update_elem(map, map_file, key, value, flags);
    case BPF_MAP_TYPE_HASH_OF_MAPS: return bpf_fd_htab_map_update_elem(map, map_file, key, value, flags);
    case BPF_MAP_TYPE_PERCPU_ARRAY: return bpf_percpu_array_update(map, key, value, flags);
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: return bpf_percpu_cgroup_storage_update(map, key, value, flags);
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_SOCKHASH: return sock_map_update_elem_sys(map, key, value, flags);
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: return bpf_fd_reuseport_array_update_elem(map, key, value, flags);
    default: break;
  }
  if (is_queue_like(map)) return MAP_OP(map, map_push_elem, map, value, flags);
  RcuReader reader(map.machine.rcu);
  return MAP_OP(map, map_update_elem, map, key, value, flags);
}

Result<void> check_lock_flag(const Map& map, uint64_t flags) {
  if (flags & BPF_F_LOCK && !map.record.has(BPF_SPIN_LOCK))
    return refuse(Errno::Inval, "BPF_F_LOCK, but the value has no bpf_spin_lock");
  return {};
}

Result<void> check_batch_elem_flags(const Map& map, const bpf_attr& attr) {
  if (attr.batch.elem_flags & ~uint64_t(BPF_F_LOCK))
    return refuse(Errno::Inval, "elem_flags {}: only BPF_F_LOCK may be", attr.batch.elem_flags);
  return check_lock_flag(map, attr.batch.elem_flags);
}

Result<void> put_batch_count(Machine& machine, UserAttr uattr, uint32_t count) {
  return copy_to_user(machine, uattr + offsetof(bpf_attr, batch.count), &count, sizeof count);
}

// The loop's own refusal, unless the count could not be told.
static Result<void> done_with(Machine& machine, UserAttr uattr, uint32_t count, const Result<void>& result) {
  TRY(put_batch_count(machine, uattr, count));
  return result;
}

static Result<void> delete_one(Map& map, const bpf_attr& attr, uint32_t at, Buffer& key) {
  TRY(copy_from_user(map.machine, key.data(), attr.batch.keys + uint64_t(at) * map.key_size, map.key_size));
  RcuReader reader(map.machine.rcu);
  return MAP_OP(map, map_delete_elem, map, key.data());
}

Result<void> generic_map_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  KFN(map.machine, generic_map_delete_batch);
  TRY(check_batch_elem_flags(map, attr));
  if (!attr.batch.count) return {};
  TRY(put_batch_count(map.machine, uattr, 0));
  Buffer key(map.key_size);
  uint32_t done = 0;
  Result<void> result;
  while (done < attr.batch.count && (result = delete_one(map, attr, done, key))) ++done;
  return done_with(map.machine, uattr, done, result);
}

static Result<void> update_one(Map& map, File& map_file, const bpf_attr& attr, uint32_t at, Buffer& key,
                               Buffer& value) {
  TRY(copy_from_user(map.machine, key.data(), attr.batch.keys + uint64_t(at) * map.key_size, map.key_size));
  TRY(copy_from_user(map.machine, value.data(), attr.batch.values + at * value.size(), value.size()));
  return bpf_map_update_value(map, map_file, key.data(), value.data(), attr.batch.elem_flags);
}

Result<void> generic_map_update_batch(Map& map, File& map_file, const bpf_attr& attr, UserAttr uattr) {
  KFN(map.machine, generic_map_update_batch);
  TRY(check_batch_elem_flags(map, attr));
  if (!attr.batch.count) return {};
  TRY(put_batch_count(map.machine, uattr, 0));
  Buffer key(map.key_size), value(bpf_map_value_size(map));
  uint32_t done = 0;
  Result<void> result;
  while (done < attr.batch.count && (result = update_one(map, map_file, attr, done, key, value))) ++done;
  return done_with(map.machine, uattr, done, result);
}

static Result<void> next_key_of(Map& map, const void* key, void* next_key) {
  RcuReader reader(map.machine.rcu);
  return MAP_OP(map, map_get_next_key, map, key, next_key);
}

// The end of the keys is ENOENT, with what was found before it; a key whose element is empty is passed over.
// Other refusals leave batch.count at 0.
Result<void> generic_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  KFN(map.machine, generic_map_lookup_batch);
  Machine& machine = map.machine;
  TRY(check_batch_elem_flags(map, attr));
  if (!attr.batch.count) return {};
  TRY(put_batch_count(machine, uattr, 0));
  Buffer key(map.key_size), last(map.key_size), value(bpf_map_value_size(map));
  bool begun = attr.batch.in_batch != 0;
  if (begun) TRY(copy_from_user(machine, last.data(), attr.batch.in_batch, map.key_size));
  uint32_t done = 0;
  Result<void> result;
  while (done < attr.batch.count) {
    result = next_key_of(map, begun ? last.data() : nullptr, key.data());
    if (!result) break;
    result = bpf_map_copy_value(map, key.data(), value.data());
    if (!result && result.err() != Errno::NoEnt) return result;
    if (result) {
      TRY(copy_to_user(machine, attr.batch.keys + uint64_t(done) * map.key_size, key.data(), map.key_size));
      TRY(copy_to_user(machine, attr.batch.values + done * value.size(), value.data(), value.size()));
      ++done;
    }
    std::memcpy(last.data(), key.data(), map.key_size);
    begun = true;
  }
  TRY(put_batch_count(machine, uattr, done));
  if (done) TRY(copy_to_user(machine, attr.batch.out_batch, last.data(), map.key_size));
  return result;
}

}  // namespace bpfsim
