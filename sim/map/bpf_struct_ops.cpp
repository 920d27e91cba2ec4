// Models: kernel/bpf/bpf_struct_ops.c, net/bpf/bpf_dummy_struct_ops.c (Linux 6.18)
//
// A table of functions of the kernel, such as a TCP congestion control, filled with programs. The map's one
// element is the struct: user space writes descriptors of programs where functions are, and reads ids. An
// update registers the struct with its owner, and then the map lives until a delete takes it out again; a map
// with BPF_F_LINK is only filled, and links register it (struct_ops_link.cpp). bpf_dummy_ops, which is there
// for tests, refuses to be registered.
//
// Departs from the kernel: the map holds its programs itself, where the kernel has a nameless link around
// each; no trampoline is written, and nothing in this machine calls the functions. Not modelled yet: structs
// of kernel modules, and the struct_ops that the measured 6.18 lacks (sched_ext_ops, Qdisc_ops, ...).
#include "map/bpf_struct_ops.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "host/tracing.h"
#include "map/common.h"
#include "map/map_types.h"
#include "object/btf.h"
#include "object/ops.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

StructOpsMap& struct_ops(Map& map) { return static_cast<StructOpsMap&>(map); }
const StructOpsMap& struct_ops(const Map& map) { return static_cast<const StructOpsMap&>(map); }

const BtfTypes& kernel_types() { return *vmlinux_btf().types; }

const BpfStructOps& struct_ops_of(const BpfStructOpsDesc& desc) {
  for (const BpfStructOps* ops : {&bpf_bpf_dummy_ops, &bpf_tcp_congestion_ops})
    if (std::string_view(desc.name) == ops->name) return *ops;
  throw std::logic_error(std::string("no room models struct ") + desc.name);
}

Result<void> bpf_struct_ops_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  if (attr.key_size != sizeof(uint32_t))
    return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.max_entries != 1) return refuse(Errno::Inval, "max_entries must be 1, is {}", attr.max_entries);
  const uint32_t known = (BPF_F_LINK | BPF_F_VTYPE_BTF_OBJ_FD) & known_map_flags(machine.version);
  if (uint32_t extra = attr.map_flags & ~known)
    return refuse(Errno::Inval, "map_flags {} are not for struct_ops", extra);
  if (!attr.btf_vmlinux_value_type_id)
    return refuse(Errno::Inval, "btf_vmlinux_value_type_id, the kernel's struct, must be set");
  return {};
}

Result<void> nothing_to_build(StructOpsMap&, const bpf_attr&) { return {}; }

Result<Map*> bpf_struct_ops_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.map_flags & BPF_F_VTYPE_BTF_OBJ_FD) {
    TRY(__btf_get_by_fd(machine, int(attr.value_type_btf_obj_fd)));
    return refuse(Errno::Inval, "BTF {} is not that of a kernel module", attr.value_type_btf_obj_fd);
  }
  if (!tracing(machine).btf_vmlinux) return refuse(Errno::NotSupp, "this machine has no BTF of its own");
  const BpfStructOpsDesc* desc = bpf_struct_ops_find_value(attr.btf_vmlinux_value_type_id, machine.version);
  if (!desc)
    return refuse(Errno::NotSupp, "type {} is no struct_ops of this kernel", attr.btf_vmlinux_value_type_id);
  const uint32_t size = desc->value_type().size;
  if (attr.value_size != size)
    return refuse(Errno::Inval, "value_size must be that of {}, {}, is {}", desc->value_name, size,
                  attr.value_size);
  return new_map<StructOpsMap>(machine, attr, nothing_to_build);
}

void bpf_struct_ops_map_put_progs(StructOpsMap& map) {
  for (Prog*& prog : map.progs)
    if (Prog* held = std::exchange(prog, nullptr)) bpf_prog_put(*held, {"out of struct_ops map {}", map.id});
}

void bpf_struct_ops_map_free(Map& map) {
  bpf_struct_ops_map_put_progs(struct_ops(map));
  delete &struct_ops(map);
}

Result<void> bpf_struct_ops_map_get_next_key(Map&, const void* key, void* next_key) {
  if (key && key_as<uint32_t>(key) == 0) return refuse(Errno::NoEnt, "the one key is 0");
  std::memset(next_key, 0, sizeof(uint32_t));
  return {};
}

Result<void*> bpf_struct_ops_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::Inval, "programs do not read a struct_ops");
}

bool all_zero(const uint8_t* from, const uint8_t* to) {
  return std::all_of(from, to, [](uint8_t byte) { return byte == 0; });
}

// What lies between the members must be 0, so that a later kernel can give it a meaning.
Result<void> check_zero_holes(const btf_type& t, const uint8_t* data) {
  uint64_t end = 0;
  for (const btf_member& member : btf_members(t)) {
    const uint32_t at = btf_member_bit_offset(t, member) / 8;
    if (at > end && !all_zero(data + end, data + at))
      return refuse(Errno::Inval, "the hole from {} to {} must be 0", end, at);
    end = at + uint64_t(kernel_types().size_of(member.type));
  }
  if (t.size > end && !all_zero(data + end, data + t.size))
    return refuse(Errno::Inval, "what follows the last member, at {}, must be 0", end);
  return {};
}

// A member that is a function: the program that stands for it, by its descriptor.
Result<void> take_prog(StructOpsMap& map, size_t index, uint8_t* place) {
  uint64_t number;
  std::memcpy(&number, place, sizeof number);
  const int fd = int(uint32_t(number));
  if (!fd) return {};
  Machine& machine = map.machine;
  Prog& prog = *TRY(bpf_prog_get(machine, fd, {"member {} of struct_ops map {}", int64_t(index), map.id}));
  Holding given(machine, prog, "bpf(BPF_MAP_UPDATE_ELEM)");
  if (prog.type != BPF_PROG_TYPE_STRUCT_OPS || prog.aux->attach_btf_id != map.desc.type_id() ||
      prog.expected_attach_type != index) {
    given.release();
    bpf_prog_put(prog, {"not for this member"});
    return refuse(Errno::Inval, "program {} was not loaded for member {} of {}", prog.id, index,
                  map.desc.name);
  }
  given.release();
  map.progs[index] = &prog;
  number = prog.id;
  std::memcpy(place, &number, sizeof number);
  return {};
}

bool is_module_pointer(const btf_member& member) {
  const btf_type* pointer = kernel_types().skip_modifiers(member.type);
  if (!pointer || btf_kind(*pointer) != BTF_KIND_PTR) return false;
  const btf_type* to = kernel_types().skip_modifiers(pointer->type);
  return to && btf_kind(*to) == BTF_KIND_STRUCT && std::string_view(kernel_types().name_of(*to)) == "module";
}

Result<void> init_member(StructOpsMap& map, const btf_member& member, size_t index) {
  const btf_type& t = map.desc.type();
  uint8_t* place = map.uvalue.data() + map.desc.data_offset() + btf_member_bit_offset(t, member) / 8;
  const uint8_t* end = place + kernel_types().size_of(member.type);
  if (is_module_pointer(member)) {
    // By a slip of the kernel's: the update is undone, but what it answers is init_member's last word, 1.
    if (!all_zero(place, end)) return refuse(Errno(-1), "the owner is the kernel's to set");
    return {};
  }
  if (TRY(map.st_ops.init_member(map, member))) return {};
  if (btf_type_resolve_func_ptr(kernel_types(), member.type)) return take_prog(map, index, place);
  if (!all_zero(place, end)) return refuse(Errno::Inval, "member {} of {} must be 0", index, map.desc.name);
  return {};
}

Result<void> fill_and_register(StructOpsMap& map) {
  size_t index = 0;
  for (const btf_member& member : btf_members(map.desc.type())) TRY(init_member(map, member, index++));
  TRY(map.st_ops.validate(map));
  if (map.map_flags & BPF_F_LINK) {
    map.state = BPF_STRUCT_OPS_STATE_READY;
    return {};
  }
  TRY(map.st_ops.reg(map, nullptr));
  bpf_map_inc(map, {"registered as {}", map.id});
  map.state = BPF_STRUCT_OPS_STATE_INUSE;
  return {};
}

Result<void> bpf_struct_ops_map_update_elem(Map& base, const void* key, const void* value, uint64_t flags) {
  StructOpsMap& map = struct_ops(base);
  if (flags) return refuse(Errno::Inval, "flags must be 0, are {}", flags);
  if (key_as<uint32_t>(key) != 0)
    return refuse(Errno::TooBig, "the one key is 0, not {}", key_as<uint32_t>(key));
  const auto* bytes = static_cast<const uint8_t*>(value);
  TRY(check_zero_holes(map.desc.value_type(), bytes));
  TRY(check_zero_holes(map.desc.type(), bytes + map.desc.data_offset()));
  if (!all_zero(bytes, bytes + vmlinux_size("bpf_struct_ops_common_value")))
    return refuse(Errno::Inval, "refcnt and state are the kernel's to set");
  if (map.state != BPF_STRUCT_OPS_STATE_INIT)
    return refuse(Errno::Busy, "the map has been filled already, its state is {}", uint32_t(map.state));
  std::copy_n(bytes, map.value_size, map.uvalue.begin());
  Result<void> done = fill_and_register(map);
  if (!done) {
    bpf_struct_ops_map_put_progs(map);
    std::ranges::fill(map.uvalue, uint8_t{0});
  }
  return done;
}

Result<void> bpf_struct_ops_map_delete_elem(Map& base, const void*) {
  StructOpsMap& map = struct_ops(base);
  if (map.map_flags & BPF_F_LINK) return refuse(Errno::OpNotSupp, "its links unregister it");
  if (map.state == BPF_STRUCT_OPS_STATE_INIT) return refuse(Errno::NoEnt, "nothing is registered");
  if (map.state != BPF_STRUCT_OPS_STATE_INUSE)
    return refuse(Errno::InProgress, "it is unregistered already, and lives for those who hold the map");
  map.state = BPF_STRUCT_OPS_STATE_TOBEFREE;
  map.st_ops.unreg(map);
  bpf_map_put(map, {"unregistered"});
  return {};
}

uint64_t bpf_struct_ops_map_mem_usage(const Map& map) {
  constexpr uint64_t kMapSize = 512, kValueSize = 64, kPage = 4096;  // sizeof(struct bpf_struct_ops_map), ...
  const BpfStructOpsDesc& desc = struct_ops(map).desc;
  uint64_t functions = 0;
  for (const btf_member& member : btf_members(desc.type()))
    functions += btf_type_resolve_func_ptr(kernel_types(), member.type) != 0;
  constexpr uint64_t kEach = 2 * sizeof(uint64_t);  // a pointer to its link, one to its symbol
  return kMapSize + desc.value_type().size - kValueSize + desc.value_type().size + functions * kEach + kPage;
}

void each_held(const Map& map, const HoldVisitor& visit) {
  const StructOpsMap& st_map = struct_ops(map);
  const auto members = btf_members(st_map.desc.type());
  for (size_t i = 0; i < st_map.progs.size(); ++i)
    if (st_map.progs[i])
      visit({st_map.progs[i], Counter::Refs, true, kernel_types().name_by_offset(members[i].name_off)});
}

// ---- bpf_dummy_ops ----

Result<bool> bpf_dummy_init_member(const StructOpsMap&, const btf_member&) {
  return refuse(Errno::OpNotSupp, "bpf_dummy_ops is there for tests and cannot be registered");
}

}  // namespace

const BpfStructOps bpf_bpf_dummy_ops = {.name = "bpf_dummy_ops", .init_member = bpf_dummy_init_member};

StructOpsMap::StructOpsMap(Machine& machine, const bpf_attr& attr)
    : Map(machine, attr),
      desc(*bpf_struct_ops_find_value(attr.btf_vmlinux_value_type_id, machine.version)),
      st_ops(struct_ops_of(desc)),
      uvalue(attr.value_size),
      progs(btf_members(desc.type()).size()) {}

// What user space reads: ids of programs in place of functions, and how many references are not its own.
Result<void> bpf_struct_ops_map_sys_lookup_elem(Map& base, const void* key, void* value) {
  const StructOpsMap& map = struct_ops(base);
  if (key_as<uint32_t>(key) != 0)
    return refuse(Errno::NoEnt, "the one key is 0, not {}", key_as<uint32_t>(key));
  std::memset(value, 0, map.value_size);
  if (map.state == BPF_STRUCT_OPS_STATE_INIT) return {};
  std::copy(map.uvalue.begin(), map.uvalue.end(), static_cast<uint8_t*>(value));
  const uint32_t common[] = {uint32_t(std::max<int64_t>(map.refcnt.value() - map.usercnt.value(), 0)),
                             map.state};
  std::memcpy(value, common, sizeof common);
  return {};
}

void bpf_struct_ops_exit(Machine& machine) {
  std::vector<StructOpsMap*> maps;
  for (const auto& [serial, object] : machine.objects)
    if (object->kind == ObjectKind::Map)
      if (Map* map = static_cast<Map*>(object); map->map_type == BPF_MAP_TYPE_STRUCT_OPS)
        maps.push_back(&struct_ops(*map));
  for (StructOpsMap* map : maps) bpf_struct_ops_map_put_progs(*map);
}

const MapOps bpf_struct_ops_map_ops = {
    .map_alloc_check = OP(bpf_struct_ops_map_alloc_check),
    .map_alloc = OP(bpf_struct_ops_map_alloc),
    .map_free = OP(bpf_struct_ops_map_free),
    .map_get_next_key = OP(bpf_struct_ops_map_get_next_key),
    .map_lookup_elem = OP(bpf_struct_ops_map_lookup_elem),
    .map_update_elem = OP(bpf_struct_ops_map_update_elem),
    .map_delete_elem = OP(bpf_struct_ops_map_delete_elem),
    .map_seq_show_elem = OP_LATER(bpf_struct_ops_map_seq_show_elem),
    .map_mem_usage = OP(bpf_struct_ops_map_mem_usage),
    .each_held = OP(each_held),
};

}  // namespace bpfsim
