// Models: kernel/bpf/syscall.c (map_lookup_elem, map_update_elem, ...) (Linux 6.18)
//
// The commands on elements. Key and value are copied in and out of user memory here; what happens to them is
// the map type's: its table of operations for most, and for values that user space sees in another form (one
// for each CPU, a descriptor) a function of the map's file, chosen by type as the kernel does.
// BPF_F_LOCK takes the value's bpf_spin_lock, and nobody else can hold it: one simulated CPU runs at a time.
#include <optional>
#include <source_location>

#include "map/map_value.h"
#include "object/file.h"
#include "object/registry.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

// The map behind a descriptor for the length of one command.
struct MapFd {
  MapFd(Machine& machine, uint32_t fd)
      : borrowed(machine, current_task(machine).files.get(int(fd))), number(int(fd)) {}
  BorrowedFile borrowed;
  const int number;
  Map* map = nullptr;  // once open() found it
  Result<Map*> open() {
    Result<Map*> found = __bpf_map_get(borrowed.get(), number);
    map = *found;
    return found;
  }

  // What the descriptor allows, less writing once the map is frozen.
  uint32_t sys_perms() const { return borrowed.get()->f_mode & ~(map->frozen ? FMODE_WRITE : 0u); }
};

// While a syscall writes, the map cannot be frozen.
class WriteActive {
 public:
  explicit WriteActive(Map& map) : map_(map) { ++map_.writecnt; }
  ~WriteActive() { --map_.writecnt; }
  WriteActive(const WriteActive&) = delete;

 private:
  Map& map_;
};

// In the kernel each command asks this itself, so it is the command that refuses.
Result<void> need_perms(const MapFd& fd, uint32_t mode,
                        std::source_location where = std::source_location::current()) {
  if ((fd.sys_perms() & mode) == mode) return {};
  if (fd.map->frozen && (mode & FMODE_WRITE)) return refuse(Errno::Perm, Fact("the map is frozen", where));
  const bool lacks_write = mode & ~fd.sys_perms() & FMODE_WRITE;
  return refuse(Errno::Perm, Fact("the descriptor is for {} only, and this call {}", where),
                lacks_write ? "reading" : "writing", lacks_write ? "writes" : "reads");
}

// __bpf_copy_key(): a map without keys wants a null pointer.
Result<void*> copy_key(Map& map, uint64_t ukey, Buffer& key) {
  if (map.key_size == 0) {
    if (ukey) return refuse(Errno::Inval, "the map has no keys, so the key must be null");
    return nullptr;
  }
  TRY(copy_from_user(map.machine, key.data(), ukey, map.key_size));
  return key.data();
}

}  // namespace

SysResult map_lookup_elem(Machine& machine, const bpf_attr& attr) {
  KFN(machine, map_lookup_elem);
  TRY(check_attr(machine, BPF_MAP_LOOKUP_ELEM, attr));
  if (attr.flags & ~BPF_F_LOCK) return refuse(Errno::Inval, "flags {}: only BPF_F_LOCK may be", attr.flags);
  MapFd fd(machine, attr.map_fd);
  Map& map = *TRY(fd.open());
  TRY(need_perms(fd, FMODE_READ));
  TRY(check_lock_flag(map, attr.flags));
  Buffer key_copy(map.key_size), value(bpf_map_value_size(map));
  const void* key = TRY(copy_key(map, attr.key, key_copy));
  if (map.map_type == BPF_MAP_TYPE_BLOOM_FILTER) {  // asks about the value that it is given
    TRY(copy_from_user(machine, value.data(), attr.value, value.size()));
    TRY(bpf_map_copy_value(map, key, value.data()));
    return 0;
  }
  TRY(bpf_map_copy_value(map, key, value.data()));
  TRY(copy_to_user(machine, attr.value, value.data(), value.size()));
  return 0;
}

SysResult map_update_elem(Machine& machine, const bpf_attr& attr) {
  KFN(machine, map_update_elem);
  TRY(check_attr(machine, BPF_MAP_UPDATE_ELEM, attr));
  MapFd fd(machine, attr.map_fd);
  Map& map = *TRY(fd.open());
  WriteActive writing(map);
  TRY(need_perms(fd, FMODE_WRITE));
  TRY(check_lock_flag(map, attr.flags));
  Buffer key_copy(map.key_size), value(bpf_map_value_size(map));
  const void* key = TRY(copy_key(map, attr.key, key_copy));
  TRY(copy_from_user(machine, value.data(), attr.value, value.size()));
  TRY(bpf_map_update_value(map, *fd.borrowed.get(), key, value.data(), attr.flags));
  return 0;
}

SysResult map_delete_elem(Machine& machine, const bpf_attr& attr) {
  KFN(machine, map_delete_elem);
  TRY(check_attr(machine, BPF_MAP_DELETE_ELEM, attr));
  MapFd fd(machine, attr.map_fd);
  Map& map = *TRY(fd.open());
  WriteActive writing(map);
  TRY(need_perms(fd, FMODE_WRITE));
  Buffer key_copy(map.key_size);
  const void* key = TRY(copy_key(map, attr.key, key_copy));
  RcuReader reader(machine.rcu);
  TRY(MAP_OP(map, map_delete_elem, map, key));
  return 0;
}

SysResult map_get_next_key(Machine& machine, const bpf_attr& attr) {
  KFN(machine, map_get_next_key);
  TRY(check_attr(machine, BPF_MAP_GET_NEXT_KEY, attr));
  MapFd fd(machine, attr.map_fd);
  Map& map = *TRY(fd.open());
  TRY(need_perms(fd, FMODE_READ));
  Buffer key_copy(map.key_size), next_key(map.key_size);
  const void* key = attr.key ? TRY(copy_key(map, attr.key, key_copy)) : nullptr;  // null: the first one
  {
    RcuReader reader(machine.rcu);
    TRY(MAP_OP(map, map_get_next_key, map, key, next_key.data()));
  }
  TRY(copy_to_user(machine, attr.next_key, next_key.data(), map.key_size));
  return 0;
}

// Besides the queue and the stack: the hashes, and later stack traces.
static bool takes_out_elements(const Map& map) {
  if (!map.ops->map_lookup_and_delete_elem) return false;
  const bool stacks = map.map_type == BPF_MAP_TYPE_STACK_TRACE;
  return has(stacks ? Gate::stack_trace_lookup_and_delete : Gate::hash_lookup_and_delete,
             map.machine.version);
}

SysResult map_lookup_and_delete_elem(Machine& machine, const bpf_attr& attr) {
  KFN(machine, map_lookup_and_delete_elem);
  TRY(check_attr(machine, BPF_MAP_LOOKUP_AND_DELETE_ELEM, attr));
  if (attr.flags & ~BPF_F_LOCK) return refuse(Errno::Inval, "flags {}: only BPF_F_LOCK may be", attr.flags);
  MapFd fd(machine, attr.map_fd);
  Map& map = *TRY(fd.open());
  WriteActive writing(map);
  const bool reads = has(Gate::lookup_and_delete_reads, machine.version);
  TRY(need_perms(fd, reads ? FMODE_READ | FMODE_WRITE : FMODE_WRITE));
  if (attr.flags && pops(map)) return refuse(Errno::Inval, "a queue or stack takes no flags here");
  TRY(check_lock_flag(map, attr.flags));
  Buffer key_copy(map.key_size), value(bpf_map_value_size(map));
  const void* key = TRY(copy_key(map, attr.key, key_copy));
  if (pops(map)) {
    TRY(MAP_OP(map, map_pop_elem, map, value.data()));
  } else if (takes_out_elements(map)) {
    RcuReader reader(machine.rcu);
    TRY(MAP_OP(map, map_lookup_and_delete_elem, map, key, value.data(), attr.flags));
  } else {
    return refuse(Errno::NotSupp, "{} cannot look up and delete in one step", map_type_name(map));
  }
  Result<void> written = copy_to_user(machine, attr.value, value.data(), value.size());
  if (!written && reads) return written.refusal();
  return 0;
}

// Some types came to the batches later than the hash and the array.
static bool has_batches(const Map& map) {
  const Version version = map.machine.version;
  switch (map.map_type) {
    case BPF_MAP_TYPE_PERCPU_ARRAY: return has(Gate::percpu_array_batch, version);
    case BPF_MAP_TYPE_LPM_TRIE: return has(Gate::lpm_trie_batch, version);
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH_OF_MAPS: return has(Gate::map_in_map_batch, version);
    default: return true;
  }
}

SysResult bpf_map_do_batch(Machine& machine, bpf_cmd cmd, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_map_do_batch);
  const bool reads = cmd == BPF_MAP_LOOKUP_BATCH || cmd == BPF_MAP_LOOKUP_AND_DELETE_BATCH;
  const bool writes = cmd != BPF_MAP_LOOKUP_BATCH;
  TRY(check_attr(machine, cmd, attr));
  MapFd fd(machine, attr.batch.map_fd);
  Map& map = *TRY(fd.open());
  std::optional<WriteActive> writing;
  if (writes) writing.emplace(map);
  if (reads) TRY(need_perms(fd, FMODE_READ));
  if (writes) TRY(need_perms(fd, FMODE_WRITE));
  if (has_batches(map)) switch (cmd) {
      case BPF_MAP_LOOKUP_BATCH:
        if (!map.ops->map_lookup_batch) break;
        TRY(MAP_OP(map, map_lookup_batch, map, attr, uattr));
        return 0;
      case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
        if (!map.ops->map_lookup_and_delete_batch) break;
        TRY(MAP_OP(map, map_lookup_and_delete_batch, map, attr, uattr));
        return 0;
      case BPF_MAP_UPDATE_BATCH:
        if (!map.ops->map_update_batch) break;
        TRY(MAP_OP(map, map_update_batch, map, *fd.borrowed.get(), attr, uattr));
        return 0;
      default:
        if (!map.ops->map_delete_batch) break;
        TRY(MAP_OP(map, map_delete_batch, map, attr, uattr));
        return 0;
    }
  return refuse(Errno::NotSupp, "{} does not have this batch command", map_type_name(map));
}

SysResult map_freeze(Machine& machine, const bpf_attr& attr) {
  KFN(machine, map_freeze);
  TRY(check_attr(machine, BPF_MAP_FREEZE, attr));
  MapFd fd(machine, attr.map_fd);
  Map& map = *TRY(fd.open());
  if (map.map_type == BPF_MAP_TYPE_STRUCT_OPS)
    return refuse(Errno::NotSupp, "a struct_ops map cannot be frozen");
  const uint32_t harmless = has(Gate::btf_records, machine.version) ? 0 : uint32_t(BPF_SPIN_LOCK);
  if (map.record && map.record.field_mask & ~harmless)
    return refuse(Errno::NotSupp, "a map with special fields in its values cannot be frozen");
  const bool by_descriptor = has(Gate::freeze_by_descriptor, machine.version);
  if (by_descriptor) TRY(need_perms(fd, FMODE_WRITE));
  if (map.writecnt) return refuse(Errno::Busy, "{} writers or writable mappings hold the map", map.writecnt);
  if (map.frozen) return refuse(Errno::Busy, "the map is frozen already");
  if (!by_descriptor && !bpf_capable(machine)) return refuse(Errno::Perm, "freezing a map needs CAP_BPF");
  map.frozen = true;
  return 0;
}

}  // namespace bpfsim
