// Models: kernel/bpf/arraymap.c: prog_array, perf_event_array, cgroup_array, array_of_maps (Linux 6.18)
//
// Arrays of what user space names by a file descriptor: programs for tail calls, inner maps, perf events,
// cgroups. An update takes the descriptor's object into a slot and counts it, a lookup from user space
// gives its id, if it has one. A perf event array forgets what came through a descriptor when that open
// file of the map is closed, unless it has BPF_F_PRESERVE_ELEMS. A prog array holds programs that may hold
// it in turn, so it empties itself when the last descriptor or pin is gone; otherwise neither would ever
// be freed. Departs from the kernel: no code of running programs is patched when a slot changes, a tail
// call reads the slot.
#include <map>

#include "host/cgroup.h"
#include "host/tracing.h"
#include "map/arraymap.h"
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/map_value.h"
#include "map/view.h"
#include "object/btf.h"
#include "object/tail_call.h"

namespace bpfsim {

namespace {

struct FdArray final : Map {
  using Map::Map;
  ~FdArray() override {
    machine.arena.free(slots);
    bpf_map_meta_free(inner_map_meta);
  }
  Object*& slot(uint32_t index) const { return reinterpret_cast<Object**>(slots.host)[index]; }

  Span slots;
  std::map<uint32_t, const File*> map_files;  // of a perf event array: through which file each slot came
};

FdArray& fd_array(Map& map) { return static_cast<FdArray&>(map); }
const FdArray& fd_array(const Map& map) { return static_cast<const FdArray&>(map); }

Result<void> fd_array_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  if (attr.value_size != sizeof(uint32_t))
    return refuse(Errno::Inval, "value_size must be 4, a descriptor, is {}", attr.value_size);
  if (attr.map_flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG))
    return refuse(Errno::Inval, "programs have no access to the slots that one could limit");
  return array_map_alloc_check(machine, attr);
}

Result<void> build(FdArray& array, const bpf_attr& attr) {
  array.bypass_spec_v1 = perfmon_capable(array.machine);
  array.slots =
      TRY(array.machine.arena.alloc(uint64_t(attr.max_entries) * sizeof(Object*), "fd_array slots"));
  return {};
}

Result<Map*> prog_array_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<FdArray>(machine, attr, build);
}

Result<Map*> array_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<FdArray>(machine, attr, build);
}

Result<Map*> array_of_map_alloc(Machine& machine, const bpf_attr& attr) {
  Map* meta = TRY(bpf_map_meta_alloc(machine, int(attr.inner_map_fd)));
  Result<Map*> map = new_map<FdArray>(machine, attr, build);
  if (map)
    (*map)->inner_map_meta = meta;
  else
    bpf_map_meta_free(meta);
  return map;
}

Result<void> fd_array_delete(Map& map, uint32_t index, bool need_defer) {
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  Object* old = std::exchange(fd_array(map).slot(index), nullptr);
  if (!old) return refuse(Errno::NoEnt, "slot {} is empty", index);
  fd_array(map).map_files.erase(index);
  map.ops->map_fd_put_ptr(map, old, need_defer);
  return {};
}

void bpf_fd_array_map_clear(Map& map, bool need_defer) {
  for (uint32_t index = 0; index < map.max_entries; ++index) (void)fd_array_delete(map, index, need_defer);
}

void fd_array_map_free(Map& map) {
  bpf_fd_array_map_clear(map, false);
  delete &fd_array(map);
}

void prog_array_map_free(Map& map) { fd_array_map_free(map); }
void array_of_map_free(Map& map) { fd_array_map_free(map); }
void perf_event_fd_array_map_free(Map& map) { fd_array_map_free(map); }
void cgroup_fd_array_free(Map& map) { fd_array_map_free(map); }

// The last descriptor or pin is gone.
void prog_array_map_clear(Map& map) { bpf_fd_array_map_clear(map, true); }

Result<void*> fd_array_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::OpNotSupp, "programs do not look into this array");
}

Result<void*> array_of_map_lookup_elem(Map& map, const void* key) {
  uint32_t index = key_as<uint32_t>(key);
  if (index >= map.max_entries) return nullptr;
  Object* inner = fd_array(map).slot(index);
  return inner ? inner_map_pointer(static_cast<Map&>(*inner)) : nullptr;
}

Result<void> fd_array_map_delete_elem(Map& map, const void* key) {
  return fd_array_delete(map, key_as<uint32_t>(key), true);
}

Result<Object*> prog_fd_array_get_ptr(Map& map, File&, int fd) {
  Prog& prog = *TRY(__bpf_prog_get(map.machine, fd));
  if (prog.type == BPF_PROG_TYPE_EXT) return refuse(Errno::Inval, "an extension cannot be tail called");
  const char* differs = nullptr;
  if (!bpf_prog_map_compatible(map, prog, &differs))
    return refuse(Errno::Inval, "the map is for programs that differ from this in {}", differs);
  // A replaced function could call, by way of a tail call, the program that it is in, and so on without end.
  if (prog.aux->is_extended)
    return refuse(Errno::Busy, "a function of program {} is replaced by an extension", prog.id);
  ++prog.aux->prog_array_member_cnt;
  bpf_prog_inc(prog, {"slot of prog array {}", map.id});
  return static_cast<Object*>(&prog);
}

void prog_fd_array_put_ptr(Map& map, Object* prog, bool) {
  --static_cast<Prog&>(*prog).aux->prog_array_member_cnt;
  bpf_prog_put(static_cast<Prog&>(*prog), {"slot of prog array {}", map.id});
}

uint32_t prog_fd_array_sys_lookup_elem(Object* prog) { return prog->id; }

Result<Object*> perf_event_fd_array_get_ptr(Map& map, File&, int fd) {
  File* file = TRY(perf_event_get(map.machine, fd, {"slot of perf event array {}", map.id}));
  constexpr uint64_t PERF_ATTR_INHERIT = 2;
  if (!(perf_event_of(*file)->attr.bits & PERF_ATTR_INHERIT)) return static_cast<Object*>(file);
  fput(*file, {"not for perf event array {}", map.id});
  return refuse(Errno::OpNotSupp, "an event that children inherit cannot be read from a program");
}

void perf_event_fd_array_put_ptr(Map& map, Object* file, bool) {
  fput(static_cast<File&>(*file), {"slot of perf event array {}", map.id});
}

void perf_event_fd_array_release(Map& map, File& map_file) {
  if (map.map_flags & BPF_F_PRESERVE_ELEMS) return;
  const std::map<uint32_t, const File*> came_from = fd_array(map).map_files;
  for (const auto& [index, file] : came_from)
    if (file == &map_file) (void)fd_array_delete(map, index, true);
}

Result<Object*> cgroup_fd_array_get_ptr(Map& map, File&, int fd) {
  return static_cast<Object*>(TRY(cgroup_get_from_fd(map.machine, fd, {"slot of cgroup array {}", map.id})));
}

void cgroup_fd_array_put_ptr(Map& map, Object* cgroup, bool) {
  cgroup_put(static_cast<Cgroup&>(*cgroup), {"slot of cgroup array {}", map.id});
}

Prog* prog_array_elem(Map& map, uint32_t index) {
  return index < map.max_entries ? static_cast<Prog*>(fd_array(map).slot(index)) : nullptr;
}

void each_slot(const Map& map, const HoldVisitor& visit) {
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (Object* object = fd_array(map).slot(index))
      visit({object, Counter::Refs, true, "slot " + std::to_string(index)});
  if (map.inner_map_meta && map.inner_map_meta->btf)
    visit({map.inner_map_meta->btf, Counter::Refs, true, "inner_map_meta->btf"});
}

uint64_t array_map_mem_usage(const Map& map) { return array_mem_usage(map.max_entries, sizeof(Object*)); }

}  // namespace

Result<void> bpf_fd_array_map_lookup_elem(Map& map, const void* key, uint32_t* id) {
  if (!map.ops->map_fd_sys_lookup_elem) return refuse(Errno::NotSupp, "what is in the slots has no id");
  uint32_t index = key_as<uint32_t>(key);
  Object* object = index < map.max_entries ? fd_array(map).slot(index) : nullptr;
  if (!object) return refuse(Errno::NoEnt, "slot {} is empty", index);
  *id = map.ops->map_fd_sys_lookup_elem(object);
  return {};
}

Result<void> bpf_fd_array_map_update_elem(Map& map, File& map_file, const void* key, const void* value,
                                          uint64_t flags) {
  uint32_t index = key_as<uint32_t>(key);
  if (flags != BPF_ANY) return refuse(Errno::Inval, "flags must be BPF_ANY, is {}", flags);
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  Object* fresh = TRY(map.ops->map_fd_get_ptr(map, map_file, int(key_as<uint32_t>(value))));
  Object* old = std::exchange(fd_array(map).slot(index), fresh);
  if (map.ops->map_release) fd_array(map).map_files[index] = &map_file;
  if (old) map.ops->map_fd_put_ptr(map, old, true);
  return {};
}

std::string prog_array_map_seq_show_elem(Map& map, const void* key) {
  const uint32_t index = key_as<uint32_t>(key);
  const Prog* prog = index < map.max_entries ? static_cast<Prog*>(fd_array(map).slot(index)) : nullptr;
  return prog ? seq_show_elem(map, std::to_string(index) + ": ", &prog->id) : "";
}

FdArrayView fd_array_view(const Map& map, size_t limit) {
  FdArrayView view{map.max_entries, 0, {}};
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (Object* object = fd_array(map).slot(index); object && view.count++ < limit)
      view.slots.push_back({bytes_of(&index, sizeof index), object});
  return view;
}

// No map_meta_equal: which programs a prog array accepts is settled at run time, so it cannot be an inner
// map.
const MapOps prog_array_map_ops = {
    .map_alloc_check = OP(fd_array_map_alloc_check),
    .map_alloc = OP(prog_array_map_alloc),
    .map_free = OP(prog_array_map_free),
    .map_get_next_key = OP(array_map_get_next_key),
    .map_release_uref = OP(prog_array_map_clear),
    .map_lookup_elem = OP(fd_array_map_lookup_elem),
    .map_delete_elem = OP(fd_array_map_delete_elem),
    .map_fd_get_ptr = OP(prog_fd_array_get_ptr),
    .map_fd_put_ptr = OP(prog_fd_array_put_ptr),
    .map_fd_sys_lookup_elem = OP(prog_fd_array_sys_lookup_elem),
    .map_seq_show_elem = OP(prog_array_map_seq_show_elem),
    .map_poke_track = OP_LATER(prog_array_map_poke_track),
    .map_poke_untrack = OP_LATER(prog_array_map_poke_untrack),
    .map_poke_run = OP_LATER(prog_array_map_poke_run),
    .map_mem_usage = OP(array_map_mem_usage),
    .prog_array_elem = OP(prog_array_elem),
    .each_held = OP(each_slot),
};

const MapOps perf_event_array_map_ops = {
    .map_alloc_check = OP(fd_array_map_alloc_check),
    .map_alloc = OP(array_map_alloc),
    .map_release = OP(perf_event_fd_array_release),
    .map_free = OP(perf_event_fd_array_map_free),
    .map_get_next_key = OP(array_map_get_next_key),
    .map_lookup_elem = OP(fd_array_map_lookup_elem),
    .map_delete_elem = OP(fd_array_map_delete_elem),
    .map_fd_get_ptr = OP(perf_event_fd_array_get_ptr),
    .map_fd_put_ptr = OP(perf_event_fd_array_put_ptr),
    .map_check_btf = OP(map_check_no_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(array_map_mem_usage),
    .each_held = OP(each_slot),
};

const MapOps cgroup_array_map_ops = {
    .map_alloc_check = OP(fd_array_map_alloc_check),
    .map_alloc = OP(array_map_alloc),
    .map_free = OP(cgroup_fd_array_free),
    .map_get_next_key = OP(array_map_get_next_key),
    .map_lookup_elem = OP(fd_array_map_lookup_elem),
    .map_delete_elem = OP(fd_array_map_delete_elem),
    .map_fd_get_ptr = OP(cgroup_fd_array_get_ptr),
    .map_fd_put_ptr = OP(cgroup_fd_array_put_ptr),
    .map_check_btf = OP(map_check_no_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(array_map_mem_usage),
    .each_held = OP(each_slot),
};

const MapOps array_of_maps_map_ops = {
    .map_alloc_check = OP(fd_array_map_alloc_check),
    .map_alloc = OP(array_of_map_alloc),
    .map_free = OP(array_of_map_free),
    .map_get_next_key = OP(array_map_get_next_key),
    .map_lookup_batch = OP(generic_map_lookup_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_lookup_elem = OP(array_of_map_lookup_elem),
    .map_delete_elem = OP(fd_array_map_delete_elem),
    .map_fd_get_ptr = OP(bpf_map_fd_get_ptr),
    .map_fd_put_ptr = OP(bpf_map_fd_put_ptr),
    .map_gen_lookup = OP_LATER(array_of_map_gen_lookup),
    .map_fd_sys_lookup_elem = OP(bpf_map_fd_sys_lookup_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_mem_usage = OP(array_map_mem_usage),
    .each_held = OP(each_slot),
};

}  // namespace bpfsim
