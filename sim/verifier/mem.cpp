// Models: kernel/bpf/verifier.c, check_mem_access() (Linux 6.18)
//
// See mem.h. Not modelled yet, and refused with a word of our own: fields of map values that BTF marks
// (locks, timers, kptrs), fields of sockets, kernel structs by BTF id, the fields of a map through a map
// pointer.
#include "verifier/mem.h"

#include <cstring>

#include "host/bpf_lsm.h"
#include "host/tracing.h"
#include "uapi/context.h"
#include "uapi/tables.h"
#include "verifier/args.h"
#include "verifier/btf_access.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"
#include "verifier/stack.h"

namespace bpfsim {

namespace {
Errno min_value_negative(bpf_verifier_env& env, uint32_t regno) {
  return reject(env, Errno::Access,
                "R%u min value is negative, either use unsigned index or do a if (index >=0) check.\n",
                regno);
}

Errno mem_access_in_range(bpf_verifier_env& env, uint32_t regno, int off, int size, uint32_t mem_size,
                          bool zero_size_allowed) {
  bool size_ok = size > 0 || (size == 0 && zero_size_allowed);
  if (off >= 0 && size_ok && uint64_t(off) + uint64_t(size) <= mem_size) return Errno::None;
  const bpf_reg_state& reg = env.cur_regs()[regno];
  switch (reg.type) {
    case PTR_TO_MAP_KEY:
      return reject(env, Errno::Access, "invalid access to map key, key_size=%d off=%d size=%d\n",
                    int(mem_size), off, size);
    case PTR_TO_MAP_VALUE:
      return reject(env, Errno::Access, "invalid access to map value, value_size=%d off=%d size=%d\n",
                    int(mem_size), off, size);
    case PTR_TO_PACKET:
    case PTR_TO_PACKET_META:
    case PTR_TO_PACKET_END:
      return reject(env, Errno::Access, "invalid access to packet, off=%d size=%d, R%u(id=%d,off=%d,r=%d)\n",
                    off, size, regno, int(reg.id), off, int(mem_size));
    default:
      return reject(env, Errno::Access, "invalid access to memory, mem_size=%u off=%d size=%d\n", mem_size,
                    off, size);
  }
}

// Both ends of what the offset may be must lie inside.
Errno check_mem_region_access(bpf_verifier_env& env, uint32_t regno, int off, int size, uint32_t mem_size,
                              bool zero_size_allowed) {
  const Range64& r = env.cur_regs()[regno].r64;
  if (r.smin < 0 && (r.smin == INT64_MIN || off + r.smin != int32_t(off + r.smin) || r.smin + off < 0))
    return min_value_negative(env, regno);
  Errno err = mem_access_in_range(env, regno, int(r.smin + off), size, mem_size, zero_size_allowed);
  if (err != Errno::None)
    return reject(env, err, "R%u min value is outside of the allowed memory range\n", regno);
  if (r.umax >= BPF_MAX_VAR_OFF)
    return reject(env, Errno::Access,
                  "R%u unbounded memory access, make sure to bounds check any such access\n", regno);
  err = mem_access_in_range(env, regno, int(r.umax) + off, size, mem_size, zero_size_allowed);
  if (err != Errno::None)
    return reject(env, err, "R%u max value is outside of the allowed memory range\n", regno);
  return Errno::None;
}

Errno check_map_access_type(bpf_verifier_env& env, uint32_t regno, int off, int size, bpf_access_type type) {
  const Map& map = *env.cur_regs()[regno].map_ptr;
  // RDONLY_PROG and WRONLY_PROG: what programs may do.
  if (type == BPF_WRITE && (map.map_flags & BPF_F_RDONLY_PROG))
    return reject(env, Errno::Access, "write into map forbidden, value_size=%d off=%d size=%d\n",
                  int(map.value_size), off, size);
  if (type == BPF_READ && (map.map_flags & BPF_F_WRONLY_PROG))
    return reject(env, Errno::Access, "read from map forbidden, value_size=%d off=%d size=%d\n",
                  int(map.value_size), off, size);
  return Errno::None;
}

Errno check_packet_access(bpf_verifier_env& env, uint32_t regno, int off, int size, bool zero_size_allowed) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  if (reg.r64.smin < 0) return min_value_negative(env, regno);
  Errno err = reg.range < 0
                  ? Errno::Inval
                  : mem_access_in_range(env, regno, off, size, uint32_t(reg.range), zero_size_allowed);
  if (err != Errno::None) return reject(env, err, "R%u offset is outside of the packet\n", regno);
  return Errno::None;
}

// Kernels of old read a part of a field only where the field begins.
bool part_begins_right(const bpf_verifier_env& env, int off, int size, const InsnAccessAux& info) {
  return size >= info.ctx_field_size || off % info.ctx_field_size == 0 ||
         has(Gate::ctx_narrow_anywhere, env.machine.version);
}

Errno check_ctx_access(bpf_verifier_env& env, uint32_t insn_idx, int off, int size, bpf_access_type t,
                       InsnAccessAux& info) {
  const ProgTypeRow* type = find_prog_type(env.prog.type);
  const bool known = !type || context_has(type->context, off, size, env.machine.version);
  if (known && env.ops->is_valid_access && env.ops->is_valid_access(off, size, t, env.prog, info) &&
      part_begins_right(env, off, size, info)) {
    if (!info.message.empty()) bpf_vlog_write(env.log, info.message);
    env.insn_aux_data[insn_idx].ctx_field_size = info.ctx_field_size;
    uint32_t& furthest = env.prog.aux->max_ctx_offset;
    furthest = std::max(furthest, uint32_t(off + size));
    return Errno::None;
  }
  if (known && !info.not_modelled.empty()) return not_modelled(env, "%s", info.not_modelled.c_str());
  if (!info.message.empty()) bpf_vlog_write(env.log, info.message);
  return reject(env, Errno::Access, "invalid bpf_context access off=%d size=%d\n", off, size);
}

bool type_is_rdonly_mem(uint32_t type) { return type & MEM_RDONLY; }

Errno cannot_write(bpf_verifier_env& env, uint32_t regno) {
  return reject(env, Errno::Access, "R%u cannot write into %s\n", regno,
                reg_type_str(env.cur_regs()[regno].type).c_str());
}

// One access, as the rooms below see it.
struct Access {
  uint32_t insn_idx, regno;
  int off, size;  // off with the register's own fixed part
  bpf_access_type t;
  int value_regno;
  bool is_ldsx;
  bool reads_into() const { return t == BPF_READ && value_regno >= 0; }
};

Errno check_ptr_leak(bpf_verifier_env& env, const Access& a, const char* where) {
  if (a.t == BPF_WRITE && a.value_regno >= 0 && is_pointer_value(env, uint32_t(a.value_regno)))
    return reject(env, Errno::Access, "R%d leaks addr into %s\n", a.value_regno, where);
  return Errno::None;
}

bpf_reg_state& value_of(bpf_verifier_env& env, const Access& a) {
  return env.cur_regs()[size_t(a.value_regno)];
}

Errno map_key_access(bpf_verifier_env& env, const Access& a) {
  if (a.t == BPF_WRITE) return reject(env, Errno::Access, "write to change key R%u not allowed\n", a.regno);
  uint32_t key_size = env.cur_regs()[a.regno].map_ptr->key_size;
  MUST(check_mem_region_access(env, a.regno, a.off, a.size, key_size, false));
  if (a.value_regno >= 0) mark_reg_unknown(env, value_of(env, a));
  return Errno::None;
}

// The content of a map that nobody can write any more is known.
Errno map_direct_read(bpf_verifier_env& env, const Map& map, const Access& a, int map_off) {
  auto addr = map.ops->map_direct_value_addr(map, uint32_t(map_off));
  if (!addr) return addr.err();
  const void* bytes = env.machine.arena.host(*addr + uint32_t(map_off));
  uint64_t raw = 0;
  std::memcpy(&raw, bytes, size_t(a.size));
  if (a.is_ldsx && a.size < 8) {
    int drop = 64 - a.size * 8;
    raw = uint64_t(int64_t(raw << drop) >> drop);
  }
  bpf_reg_state& value = value_of(env, a);
  value.type = SCALAR_VALUE;
  mark_reg_known(value, raw);
  return Errno::None;
}

Errno map_value_access(bpf_verifier_env& env, const Access& a) {
  const bpf_reg_state& reg = env.cur_regs()[a.regno];
  MUST(check_ptr_leak(env, a, "map"));
  MUST(check_map_access_type(env, a.regno, a.off, a.size, a.t));
  MUST(check_map_access(env, a.regno, a.off, a.size, false));
  if (!a.reads_into()) return Errno::None;
  const Map& map = *reg.map_ptr;
  if (has(Gate::rdonly_map_const, env.machine.version) && reg.is_const() && bpf_map_is_rdonly(map) &&
      map.ops->map_direct_value_addr)
    return map_direct_read(env, map, a, a.off + int(reg.var_off.value));
  mark_reg_unknown(env, value_of(env, a));
  return Errno::None;
}

Errno mem_pointer_access(bpf_verifier_env& env, const Access& a) {
  const bpf_reg_state& reg = env.cur_regs()[a.regno];
  bool rdonly = type_is_rdonly_mem(reg.type);
  if (type_may_be_null(reg.type))
    return reject(env, Errno::Access, "R%u invalid mem access '%s'\n", a.regno,
                  reg_type_str(reg.type).c_str());
  if (a.t == BPF_WRITE && rdonly) return cannot_write(env, a.regno);
  MUST(check_ptr_leak(env, a, "mem"));
  if (!(rdonly && (reg.type & PTR_UNTRUSTED)))
    MUST(check_mem_region_access(env, a.regno, a.off, a.size, reg.mem_size, false));
  if (a.value_regno >= 0 && (a.t == BPF_READ || rdonly)) mark_reg_unknown(env, value_of(env, a));
  return Errno::None;
}

// What the function returned so far lies in the range in which programs may answer, too.
Errno mark_retval(bpf_verifier_env& env, bpf_reg_state& value) {
  if (env.prog.type != BPF_PROG_TYPE_LSM || !has(Gate::lsm_retval_range, env.machine.version))
    return Errno::None;
  const std::optional<LsmRetvalRange> range = bpf_lsm_get_retval_range(env.prog);
  if (!range) return Errno::None;
  value.r32.smin = std::max(value.r32.smin, range->minval);
  value.r32.smax = std::min(value.r32.smax, range->maxval);
  value.r64.smin = std::max<int64_t>(value.r64.smin, range->minval);
  value.r64.smax = std::min<int64_t>(value.r64.smax, range->maxval);
  reg_bounds_sync(value);
  return reg_bounds_sanity_check(env, value, "s32_range");
}

Errno ctx_pointer_access(bpf_verifier_env& env, const Access& a) {
  InsnAccessAux info;
  info.reg_type = SCALAR_VALUE;
  info.is_ldsx = a.is_ldsx;
  MUST(check_ptr_leak(env, a, "ctx"));
  MUST(check_ptr_off_reg(env, env.cur_regs()[a.regno], a.regno, false));
  MUST(check_ctx_access(env, a.insn_idx, a.off, a.size, a.t, info));
  if (!a.reads_into()) return Errno::None;
  bpf_reg_state& value = value_of(env, a);
  if (info.reg_type == SCALAR_VALUE) {
    mark_reg_unknown(env, value);
    if (info.is_retval) MUST(mark_retval(env, value));
  } else {
    mark_reg_known_zero(value);
    if (base_type(info.reg_type) == PTR_TO_BTF_ID) {
      Btf* attach_btf = env.prog.aux->attach_btf;
      value.btf = attach_btf ? attach_btf : tracing(env.prog.machine).btf_vmlinux;
      value.btf_id = info.btf_id;
    }
    if (type_may_be_null(info.reg_type)) value.id = ++env.id_gen;
    value.subreg_def = DEF_NOT_SUBREG;
  }
  value.type = info.reg_type;
  return Errno::None;
}

Errno stack_pointer_access(bpf_verifier_env& env, const Access& a) {
  MUST(check_stack_access_within_bounds(env, a.regno, a.off, a.size, a.t));
  if (a.t == BPF_READ) return check_stack_read(env, a.regno, a.off, a.size, a.value_regno);
  return check_stack_write(env, a.regno, a.off, a.size, a.value_regno, a.insn_idx);
}

Errno packet_pointer_access(bpf_verifier_env& env, const Access& a) {
  if (a.t == BPF_WRITE && !may_access_direct_pkt_data(env, nullptr, a.t))
    return reject(env, Errno::Access, "cannot write into packet\n");
  MUST(check_ptr_leak(env, a, "packet"));
  MUST(check_packet_access(env, a.regno, a.off, a.size, false));
  if (a.reads_into()) mark_reg_unknown(env, value_of(env, a));
  return Errno::None;
}

Errno flow_keys_access(bpf_verifier_env& env, const Access& a) {
  MUST(check_ptr_leak(env, a, "flow keys"));
  if (a.off < 0 || uint64_t(a.off) + uint64_t(a.size) > sizeof(bpf_flow_keys) ||
      !context_has("bpf_flow_keys", a.off, a.size, env.machine.version))
    return reject(env, Errno::Access, "invalid access to flow keys off=%d size=%d\n", a.off, a.size);
  if (a.reads_into()) mark_reg_unknown(env, value_of(env, a));
  return Errno::None;
}

Errno tp_buffer_access(bpf_verifier_env& env, const Access& a) {
  const bpf_reg_state& reg = env.cur_regs()[a.regno];
  if (a.off < 0)
    return reject(env, Errno::Access, "R%u invalid tracepoint buffer access: off=%d, size=%d\n", a.regno,
                  a.off, a.size);
  if (!reg.is_const() || reg.var_off.value)
    return reject(env, Errno::Access, "R%u invalid variable buffer offset: off=%d, var_off=%s\n", a.regno,
                  a.off, tnum_strn(reg.var_off).c_str());
  uint32_t& furthest = env.prog.aux->max_tp_access;
  furthest = std::max(furthest, uint32_t(a.off + a.size));
  if (a.reads_into()) mark_reg_unknown(env, value_of(env, a));
  return Errno::None;
}

Errno other_pointer_access(bpf_verifier_env& env, const Access& a) {
  uint32_t type = env.cur_regs()[a.regno].type;
  if (type_is_sk_pointer(type)) {
    if (a.t == BPF_WRITE) return cannot_write(env, a.regno);
    return not_modelled(env, "reading fields of a %s", reg_type_str(type).c_str());
  }
  if (base_type(type) == PTR_TO_BTF_ID && !type_may_be_null(type))
    return check_ptr_to_btf_access(env, a.regno, a.off, a.size, a.t, a.value_regno);
  if (type == CONST_PTR_TO_MAP && has(Gate::map_ptr_fields, env.machine.version))
    return not_modelled(env, "reading the fields of a map");
  if (base_type(type) == PTR_TO_BUF && !type_may_be_null(type))
    return check_buffer_access(env, a.regno, a.off, a.size, a.t, a.value_regno);
  if (type == PTR_TO_ARENA) return not_modelled(env, "arenas");
  return reject(env, Errno::Access, "R%u invalid mem access '%s'\n", a.regno, reg_type_str(type).c_str());
}

Errno access_by_type(bpf_verifier_env& env, const Access& a) {
  uint32_t type = env.cur_regs()[a.regno].type;
  if (base_type(type) == PTR_TO_MEM) return mem_pointer_access(env, a);
  switch (type) {
    case PTR_TO_MAP_KEY: return map_key_access(env, a);
    case PTR_TO_MAP_VALUE: return map_value_access(env, a);
    case PTR_TO_CTX: return ctx_pointer_access(env, a);
    case PTR_TO_STACK: return stack_pointer_access(env, a);
    case PTR_TO_PACKET:
    case PTR_TO_PACKET_META: return packet_pointer_access(env, a);
    case PTR_TO_FLOW_KEYS: return flow_keys_access(env, a);
    case PTR_TO_TP_BUFFER: return tp_buffer_access(env, a);
    default: return other_pointer_access(env, a);
  }
}
}  // namespace

bool bpf_map_is_rdonly(const Map& map) {
  return (map.map_flags & BPF_F_RDONLY_PROG) && map.frozen && map.writecnt == 0;
}

Errno check_ptr_off_reg(bpf_verifier_env& env, const bpf_reg_state& reg, uint32_t regno, bool fixed_off_ok) {
  if (reg.off < 0)
    return reject(env, Errno::Access, "negative offset %s ptr R%u off=%d disallowed\n",
                  reg_type_str(reg.type).c_str(), regno, reg.off);
  if (!fixed_off_ok && reg.off)
    return reject(env, Errno::Access, "dereference of modified %s ptr R%u off=%d disallowed\n",
                  reg_type_str(reg.type).c_str(), regno, reg.off);
  if (!reg.is_const() || reg.var_off.value)
    return reject(env, Errno::Access, "variable %s access var_off=%s disallowed\n",
                  reg_type_str(reg.type).c_str(), tnum_strn(reg.var_off).c_str());
  return Errno::None;
}

Errno check_map_access(bpf_verifier_env& env, uint32_t regno, int off, int size, bool zero_size_allowed) {
  return check_mem_region_access(env, regno, off, size, env.cur_regs()[regno].map_ptr->value_size,
                                 zero_size_allowed);
}

// The program types that reach into a packet by plain loads and stores, and which of them may store.
constexpr struct {
  bpf_prog_type type;
  bool writes;
} kPacketTypes[] = {
    {BPF_PROG_TYPE_SCHED_CLS, true},
    {BPF_PROG_TYPE_SCHED_ACT, true},
    {BPF_PROG_TYPE_XDP, true},
    {BPF_PROG_TYPE_LWT_XMIT, true},
    {BPF_PROG_TYPE_SK_SKB, true},
    {BPF_PROG_TYPE_SK_MSG, true},
    {BPF_PROG_TYPE_LWT_IN, false},
    {BPF_PROG_TYPE_LWT_OUT, false},
    {BPF_PROG_TYPE_LWT_SEG6LOCAL, false},
    {BPF_PROG_TYPE_SK_REUSEPORT, false},
    {BPF_PROG_TYPE_FLOW_DISSECTOR, false},
    {BPF_PROG_TYPE_CGROUP_SKB, false},
};

bool may_access_direct_pkt_data(bpf_verifier_env& env, const bpf_call_arg_meta* meta, bpf_access_type t) {
  const bpf_prog_type type = resolve_prog_type(env.prog);
  if (type == BPF_PROG_TYPE_CGROUP_SOCKOPT) {  // its packet is the option's value
    if (t == BPF_WRITE) env.seen_direct_write = true;
    return true;
  }
  for (const auto& row : kPacketTypes) {
    if (row.type != type) continue;
    if (t == BPF_WRITE && !row.writes) return false;
    if (meta) return meta->pkt_access;
    env.seen_direct_write = true;
    return true;
  }
  return false;
}

// Only the stack is always strict; elsewhere a machine that loads misaligned words does not mind.
Errno check_ptr_alignment(bpf_verifier_env& env, const bpf_reg_state& reg, int off, int size,
                          bool strict_alignment_once) {
  if (size == 1 || reg.type == PTR_TO_ARENA) return Errno::None;
  if (!(env.strict_alignment || strict_alignment_once || reg.type == PTR_TO_STACK)) return Errno::None;
  if (type_is_pkt_pointer(reg.type)) {
    constexpr int ip_align = 2;  // so that the IP header behind 14 bytes of Ethernet is aligned
    if (tnum_is_aligned(tnum_add(reg.var_off, tnum_const(uint64_t(int64_t{ip_align + reg.off + off}))),
                        uint64_t(size)))
      return Errno::None;
    return reject(env, Errno::Access, "misaligned packet access off %d+%s+%d+%d size %d\n", ip_align,
                  tnum_strn(reg.var_off).c_str(), reg.off, off, size);
  }
  if (tnum_is_aligned(tnum_add(reg.var_off, tnum_const(uint64_t(int64_t{reg.off + off}))), uint64_t(size)))
    return Errno::None;
  static constexpr struct {
    bpf_reg_type type;
    const char* name;
  } kinds[] = {
      {PTR_TO_FLOW_KEYS, "flow keys "}, {PTR_TO_MAP_KEY, "key "},
      {PTR_TO_MAP_VALUE, "value "},     {PTR_TO_CTX, "context "},
      {PTR_TO_STACK, "stack "},         {PTR_TO_SOCKET, "sock "},
      {PTR_TO_TCP_SOCK, "tcp_sock "},   {PTR_TO_SOCK_COMMON, "sock_common "},
      {PTR_TO_XDP_SOCK, "xdp_sock "},
  };
  const char* name = "";
  for (const auto& kind : kinds)
    if (reg.type == uint32_t(kind.type)) name = kind.name;
  return reject(env, Errno::Access, "misaligned %saccess off %s+%d+%d size %d\n", name,
                tnum_strn(reg.var_off).c_str(), reg.off, off, size);
}

Errno check_mem_access(bpf_verifier_env& env, uint32_t insn_idx, uint32_t regno, int off, uint8_t bpf_size,
                       bpf_access_type t, int value_regno, bool strict_alignment_once, bool is_ldsx) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  int size = bpf_size_to_bytes(bpf_size);
  MUST(check_ptr_alignment(env, reg, off, size, strict_alignment_once));
  Access access{insn_idx, regno, off + reg.off, size, t, value_regno, is_ldsx};
  MUST(access_by_type(env, access));
  if (size < BPF_REG_SIZE && access.reads_into()) {
    bpf_reg_state& value = value_of(env, access);
    if (value.type == SCALAR_VALUE)
      is_ldsx ? coerce_reg_to_size_sx(value, unsigned(size)) : coerce_reg_to_size(value, unsigned(size));
  }
  return Errno::None;
}

Errno save_aux_ptr_type(bpf_verifier_env& env, uint32_t type, bool allow_trust_mismatch) {
  uint32_t& prev = env.cur_aux().ptr_type;
  if (prev == NOT_INIT) {
    prev = type;
    return Errno::None;
  }
  auto mismatch_ok = [](uint32_t t) {
    switch (base_type(t)) {
      case PTR_TO_CTX:
      case PTR_TO_SOCKET:
      case PTR_TO_SOCK_COMMON:
      case PTR_TO_TCP_SOCK:
      case PTR_TO_XDP_SOCK:
      case PTR_TO_BTF_ID:
      case PTR_TO_ARENA: return false;
      default: return true;
    }
  };
  if (type == prev || (mismatch_ok(type) && mismatch_ok(prev))) return Errno::None;
  auto mem_or_btf = [](uint32_t t) { return base_type(t) == PTR_TO_MEM || base_type(t) == PTR_TO_BTF_ID; };
  if (allow_trust_mismatch && mem_or_btf(type) && mem_or_btf(prev)) {
    bool mem = base_type(type) == PTR_TO_MEM || base_type(prev) == PTR_TO_MEM;
    prev = (mem ? PTR_TO_MEM : PTR_TO_BTF_ID) | ((type | prev) & (PTR_UNTRUSTED | MEM_RDONLY));
    return Errno::None;
  }
  return reject(env, Errno::Inval, "same insn cannot be used with different pointers\n");
}

Errno check_load_mem(bpf_verifier_env& env, const bpf_insn& insn, bool strict_alignment_once, bool is_ldsx,
                     bool allow_trust_mismatch, const char* where) {
  auto& regs = env.cur_regs();
  MUST(check_reg_arg(env, insn.src_reg, SRC_OP));
  MUST(check_reg_arg(env, insn.dst_reg, DST_OP_NO_MARK));
  uint32_t src_type = regs[insn.src_reg].type;
  MUST(check_mem_access(env, env.insn_idx, insn.src_reg, insn.off, BPF_SIZE(insn.code), BPF_READ,
                        insn.dst_reg, strict_alignment_once, is_ldsx));
  MUST(save_aux_ptr_type(env, src_type, allow_trust_mismatch));
  return reg_bounds_sanity_check(env, regs[insn.dst_reg], where);
}

Errno check_store_reg(bpf_verifier_env& env, const bpf_insn& insn, bool strict_alignment_once) {
  MUST(check_reg_arg(env, insn.src_reg, SRC_OP));
  MUST(check_reg_arg(env, insn.dst_reg, SRC_OP));
  uint32_t dst_type = env.cur_regs()[insn.dst_reg].type;
  MUST(check_mem_access(env, env.insn_idx, insn.dst_reg, insn.off, BPF_SIZE(insn.code), BPF_WRITE,
                        insn.src_reg, strict_alignment_once, false));
  return save_aux_ptr_type(env, dst_type, false);
}

static bool atomic_ptr_type_ok(const bpf_reg_state& reg) {
  return reg.type != PTR_TO_CTX && !type_is_pkt_pointer(reg.type) && reg.type != PTR_TO_FLOW_KEYS &&
         !type_is_sk_pointer(reg.type);
}

// Read-modify-write: the place must allow both, and a fetched value lands in src or, for cmpxchg, in R0.
static Errno check_atomic_rmw(bpf_verifier_env& env, const bpf_insn& insn) {
  uint8_t size = BPF_SIZE(insn.code);
  if (size != BPF_W && size != BPF_DW) return reject(env, Errno::Inval, "invalid atomic operand size\n");
  MUST(check_reg_arg(env, insn.src_reg, SRC_OP));
  MUST(check_reg_arg(env, insn.dst_reg, SRC_OP));
  if (insn.imm == BPF_CMPXCHG) {
    MUST(check_reg_arg(env, BPF_REG_0, SRC_OP));
    if (is_pointer_value(env, BPF_REG_0)) return reject(env, Errno::Access, "R0 leaks addr into mem\n");
  }
  if (is_pointer_value(env, insn.src_reg))
    return reject(env, Errno::Access, "R%d leaks addr into mem\n", insn.src_reg);
  const bpf_reg_state& dst = env.cur_regs()[insn.dst_reg];
  if (!atomic_ptr_type_ok(dst))
    return reject(env, Errno::Access, "BPF_ATOMIC stores into R%d %s is not allowed\n", insn.dst_reg,
                  reg_type_str(dst.type).c_str());
  int load_reg = -1;
  if (insn.imm & BPF_FETCH) {
    load_reg = insn.imm == BPF_CMPXCHG ? int(BPF_REG_0) : insn.src_reg;
    MUST(check_reg_arg(env, uint32_t(load_reg), DST_OP));
  }
  MUST(check_mem_access(env, env.insn_idx, insn.dst_reg, insn.off, size, BPF_READ, -1, true, false));
  if (load_reg >= 0)
    MUST(check_mem_access(env, env.insn_idx, insn.dst_reg, insn.off, size, BPF_READ, load_reg, true, false));
  return check_mem_access(env, env.insn_idx, insn.dst_reg, insn.off, size, BPF_WRITE, -1, true, false);
}

Errno check_atomic(bpf_verifier_env& env, const bpf_insn& insn) {
  switch (insn.imm) {
    case BPF_ADD:
    case BPF_ADD | BPF_FETCH:
    case BPF_AND:
    case BPF_AND | BPF_FETCH:
    case BPF_OR:
    case BPF_OR | BPF_FETCH:
    case BPF_XOR:
    case BPF_XOR | BPF_FETCH:
    case BPF_XCHG:
    case BPF_CMPXCHG: return check_atomic_rmw(env, insn);
    case BPF_LOAD_ACQ: {
      MUST(check_load_mem(env, insn, true, false, false, "atomic_load"));
      const bpf_reg_state& src = env.cur_regs()[insn.src_reg];
      if (atomic_ptr_type_ok(src)) return Errno::None;
      return reject(env, Errno::Access, "BPF_ATOMIC loads from R%d %s is not allowed\n", insn.src_reg,
                    reg_type_str(src.type).c_str());
    }
    case BPF_STORE_REL: {
      MUST(check_store_reg(env, insn, true));
      const bpf_reg_state& dst = env.cur_regs()[insn.dst_reg];
      if (atomic_ptr_type_ok(dst)) return Errno::None;
      return reject(env, Errno::Access, "BPF_ATOMIC stores into R%d %s is not allowed\n", insn.dst_reg,
                    reg_type_str(dst.type).c_str());
    }
    default:
      return reject(env, Errno::Inval, "BPF_ATOMIC uses invalid atomic opcode %02x\n", unsigned(insn.imm));
  }
}

Errno check_helper_mem_access(bpf_verifier_env& env, uint32_t regno, int access_size,
                              bpf_access_type access_type, bool zero_size_allowed, bpf_call_arg_meta* meta) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  switch (base_type(reg.type)) {
    case PTR_TO_PACKET:
    case PTR_TO_PACKET_META: return check_packet_access(env, regno, reg.off, access_size, zero_size_allowed);
    case PTR_TO_MAP_KEY:
      if (access_type == BPF_WRITE) return cannot_write(env, regno);
      return check_mem_region_access(env, regno, reg.off, access_size, reg.map_ptr->key_size, false);
    case PTR_TO_MAP_VALUE:
      MUST(check_map_access_type(env, regno, reg.off, access_size, access_type));
      return check_map_access(env, regno, reg.off, access_size, zero_size_allowed);
    case PTR_TO_MEM:
      if (type_is_rdonly_mem(reg.type) && access_type == BPF_WRITE) return cannot_write(env, regno);
      return check_mem_region_access(env, regno, reg.off, access_size, reg.mem_size, zero_size_allowed);
    case PTR_TO_STACK:
      return check_stack_range_initialized(env, regno, reg.off, access_size, zero_size_allowed, access_type,
                                           meta);
    case PTR_TO_BUF: return check_buffer_access(env, regno, reg.off, access_size, access_type, -1);
    case PTR_TO_BTF_ID: return check_ptr_to_btf_access(env, regno, reg.off, access_size, access_type, -1);
    case PTR_TO_CTX:
      // A context that is not rewritten (BPF_PROG_TYPE_SYSCALL) is memory like any other.
      if (!env.ops->convert_ctx_access) {
        if (access_size == 0) return zero_size_allowed ? Errno::None : Errno::Access;
        return check_mem_access(env, env.insn_idx, regno, access_size - 1, BPF_B, access_type, -1, false,
                                false);
      }
      [[fallthrough]];
    default:
      if (zero_size_allowed && access_size == 0 && reg.is_null()) return Errno::None;
      return reject(env, Errno::Access, "R%u type=%s expected=%s\n", regno, reg_type_str(reg.type).c_str(),
                    reg_type_str(PTR_TO_STACK).c_str());
  }
}

}  // namespace bpfsim
