// Models: kernel/bpf/verifier.c, check_func_arg() and what it calls (Linux 6.18)
//
// See args.h. Not modelled yet: locks, timers, kptrs, dynptrs, pointers to kernel structs as arguments.
#include "verifier/args.h"

#include <cstring>

#include "isa/disasm.h"
#include "verifier/backtrack.h"
#include "verifier/btf_access.h"
#include "verifier/mem.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"
#include "verifier/stack.h"

namespace bpfsim {

bool can_elide_value_nullness(bpf_map_type type) {
  return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

namespace {
constexpr uint32_t with(uint32_t base, uint32_t flags) { return base | flags; }
bool arg_type_is_release(uint32_t arg_type) { return arg_type & OBJ_RELEASE; }

struct RegTypes {
  uint32_t types[10] = {};  // ends with NOT_INIT
};

const RegTypes* compatible_reg_types(uint32_t arg_type) {
  static constexpr RegTypes sock{{PTR_TO_SOCK_COMMON, PTR_TO_SOCKET, PTR_TO_TCP_SOCK, PTR_TO_XDP_SOCK}};
  static constexpr RegTypes btf_id_sock{{PTR_TO_SOCK_COMMON, PTR_TO_SOCKET, PTR_TO_TCP_SOCK, PTR_TO_XDP_SOCK,
                                         PTR_TO_BTF_ID, with(PTR_TO_BTF_ID, PTR_TRUSTED)}};
  static constexpr RegTypes mem{{PTR_TO_STACK, PTR_TO_PACKET, PTR_TO_PACKET_META, PTR_TO_MAP_KEY,
                                 PTR_TO_MAP_VALUE, PTR_TO_MEM, with(PTR_TO_MEM, MEM_RINGBUF), PTR_TO_BUF,
                                 with(PTR_TO_BTF_ID, PTR_TRUSTED)}};
  static constexpr RegTypes spin_lock{{PTR_TO_MAP_VALUE, with(PTR_TO_BTF_ID, MEM_ALLOC)}};
  static constexpr RegTypes fullsock{{PTR_TO_SOCKET}}, scalar{{SCALAR_VALUE}}, context{{PTR_TO_CTX}};
  static constexpr RegTypes ringbuf_mem{{with(PTR_TO_MEM, MEM_RINGBUF)}}, const_map_ptr{{CONST_PTR_TO_MAP}};
  static constexpr RegTypes btf_ptr{
      {PTR_TO_BTF_ID, with(PTR_TO_BTF_ID, PTR_TRUSTED), with(PTR_TO_BTF_ID, MEM_RCU)}};
  static constexpr RegTypes percpu_btf_ptr{{with(PTR_TO_BTF_ID, MEM_PERCPU),
                                            with(PTR_TO_BTF_ID, MEM_PERCPU | MEM_RCU),
                                            with(PTR_TO_BTF_ID, MEM_PERCPU | PTR_TRUSTED)}};
  static constexpr RegTypes func_ptr{{PTR_TO_FUNC}}, stack_ptr{{PTR_TO_STACK}}, map_value{{PTR_TO_MAP_VALUE}};
  static constexpr RegTypes dynptr{{PTR_TO_STACK, CONST_PTR_TO_DYNPTR}};
  switch (base_type(arg_type)) {
    case ARG_PTR_TO_MAP_KEY:
    case ARG_PTR_TO_MAP_VALUE:
    case ARG_PTR_TO_MEM: return &mem;
    case ARG_CONST_SIZE:
    case ARG_CONST_SIZE_OR_ZERO:
    case ARG_CONST_ALLOC_SIZE_OR_ZERO: return &scalar;
    case ARG_CONST_MAP_PTR: return &const_map_ptr;
    case ARG_PTR_TO_CTX: return &context;
    case ARG_PTR_TO_SOCK_COMMON: return &sock;
    case ARG_PTR_TO_BTF_ID_SOCK_COMMON: return &btf_id_sock;
    case ARG_PTR_TO_SOCKET: return &fullsock;
    case ARG_PTR_TO_BTF_ID: return &btf_ptr;
    case ARG_PTR_TO_SPIN_LOCK:
    case ARG_KPTR_XCHG_DEST: return &spin_lock;
    case ARG_PTR_TO_RINGBUF_MEM: return &ringbuf_mem;
    case ARG_PTR_TO_PERCPU_BTF_ID: return &percpu_btf_ptr;
    case ARG_PTR_TO_FUNC: return &func_ptr;
    case ARG_PTR_TO_STACK: return &stack_ptr;
    case ARG_PTR_TO_CONST_STR:
    case ARG_PTR_TO_TIMER: return &map_value;
    case ARG_PTR_TO_DYNPTR: return &dynptr;
    default: return nullptr;
  }
}

Errno check_reg_type(bpf_verifier_env& env, uint32_t regno, uint32_t arg_type, const char* wanted_struct) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  const RegTypes* compatible = compatible_reg_types(arg_type);
  if (!compatible) return verifier_bug(env, "unsupported arg type %u", arg_type);
  uint32_t type = reg.type & ~(arg_type & (MEM_RDONLY | PTR_MAYBE_NULL));
  if (base_type(arg_type) == ARG_PTR_TO_MEM)
    type &= ~uint32_t(DYNPTR_TYPE_LOCAL | DYNPTR_TYPE_RINGBUF | DYNPTR_TYPE_SKB | DYNPTR_TYPE_XDP |
                      DYNPTR_TYPE_SKB_META);
  std::string expected;
  const Version version = env.machine.version;
  const bool key_or_value =
      base_type(arg_type) == ARG_PTR_TO_MAP_KEY || base_type(arg_type) == ARG_PTR_TO_MAP_VALUE;
  const bool too_early = type == PTR_TO_MAP_VALUE && key_or_value && !has(Gate::map_value_args, version);
  for (uint32_t want : compatible->types) {
    if (want == NOT_INIT) break;
    if (type == want && !too_early) {
      if (base_type(reg.type) == PTR_TO_BTF_ID) return check_btf_arg(env, regno, wanted_struct);
      return Errno::None;
    }
    if (!expected.empty() && !has(Gate::arg_types_listed, version)) continue;
    if (!expected.empty()) expected += ", ";
    expected += reg_type_str(want);
  }
  return reject(env, Errno::Access, "R%u type=%s expected=%s\n", regno, reg_type_str(reg.type).c_str(),
                expected.c_str());
}

// Sockmaps store sockets, a bloom filter is asked with a value.
Errno resolve_map_arg_type(bpf_verifier_env& env, const bpf_call_arg_meta& meta, uint32_t& arg_type) {
  if (!meta.map_ptr) return verifier_bug(env, "invalid map_ptr to access map->type");
  bpf_map_type type = meta.map_ptr->map_type;
  if (type == BPF_MAP_TYPE_SOCKMAP || type == BPF_MAP_TYPE_SOCKHASH) {
    if (arg_type != ARG_PTR_TO_MAP_VALUE)
      return reject(env, Errno::Inval, "invalid arg_type for sockmap/sockhash\n");
    arg_type = ARG_PTR_TO_BTF_ID_SOCK_COMMON;
  } else if (type == BPF_MAP_TYPE_BLOOM_FILTER && meta.func_id == BPF_FUNC_map_peek_elem) {
    arg_type = ARG_PTR_TO_MAP_VALUE;
  }
  return Errno::None;
}

// A size bounds the buffer before it: its greatest value must fit, and matters from now on.
Errno check_mem_size_reg(bpf_verifier_env& env, uint32_t regno, bpf_access_type access_type,
                         bool zero_size_allowed, bpf_call_arg_meta& meta) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  meta.msize_max_value = reg.r64.umax;
  if (reg.r64.smin < 0)
    return reject(env, Errno::Access, "R%u min value is negative, either use unsigned or 'var &= const'\n",
                  regno);
  if (reg.r64.umin == 0 && !zero_size_allowed)
    return reject(env, Errno::Access, "R%u invalid zero-sized read: u64=[%lld,%lld]\n", regno,
                  (long long)reg.r64.umin, (long long)reg.r64.umax);
  if (reg.r64.umax >= uint64_t(BPF_MAX_VAR_SIZ))
    return reject(env, Errno::Access,
                  "R%u unbounded memory access, use 'var &= const' or 'if (var < const)'\n", regno);
  // Of a size that is not known, nothing says which bytes the helper will have written.
  bpf_call_arg_meta* exact = reg.is_const() ? &meta : nullptr;
  MUST(check_helper_mem_access(env, regno - 1, int(reg.r64.umax), access_type, zero_size_allowed, exact));
  return mark_chain_precision(env, regno);
}

// A key on the stack that is a known number: then an array lookup cannot miss. OpNotSupp: not known.
Errno get_constant_map_key(bpf_verifier_env& env, const bpf_reg_state& key, uint32_t key_size,
                           int64_t& value) {
  if (!env.bpf_capable || key.type != PTR_TO_STACK || !key.is_const()) return Errno::OpNotSupp;
  int off = key.off + int(key.var_off.value), spi = get_spi(off), byte = (-off - 1) % BPF_REG_SIZE;
  const bpf_stack_state& slot = func(env, key).stack[size_t(spi)];
  auto run_of = [&](bpf_stack_slot_type type) {
    uint32_t n = 0;
    for (int i = byte; i >= 0 && slot.slot_type[size_t(i)] == type; i--) n++;
    return n;
  };
  if (run_of(STACK_ZERO) >= key_size) {
    value = 0;
    return Errno::None;
  }
  if (!slot.is_spilled_scalar_reg() || run_of(STACK_SPILL) != key_size || !slot.spilled_ptr.is_const())
    return Errno::OpNotSupp;
  value = int64_t(slot.spilled_ptr.var_off.value);
  bt_set_frame_slot(env.bt, key.frameno, uint32_t(spi));
  return mark_chain_precision_batch(env, *env.cur_state);
}

Errno check_map_key(bpf_verifier_env& env, uint32_t regno, bpf_call_arg_meta& meta) {
  if (!meta.map_ptr) return verifier_bug(env, "invalid map_ptr to access map->key");
  uint32_t key_size = meta.map_ptr->key_size;
  MUST(check_helper_mem_access(env, regno, int(key_size), BPF_READ, false, nullptr));
  if (!can_elide_value_nullness(meta.map_ptr->map_type)) return Errno::None;
  Errno err = get_constant_map_key(env, env.cur_regs()[regno], key_size, meta.const_map_key);
  if (err != Errno::None) meta.const_map_key = -1;
  return err == Errno::OpNotSupp ? Errno::None : err;
}

Errno check_map_value(bpf_verifier_env& env, uint32_t regno, uint32_t arg_type, bpf_call_arg_meta& meta) {
  if (type_may_be_null(arg_type) && env.cur_regs()[regno].is_null()) return Errno::None;
  if (!meta.map_ptr) return verifier_bug(env, "invalid map_ptr to access map->value");
  meta.raw_mode = arg_type & MEM_UNINIT;
  return check_helper_mem_access(env, regno, int(meta.map_ptr->value_size),
                                 arg_type & MEM_WRITE ? BPF_WRITE : BPF_READ, false, &meta);
}

// A format string: constant, and ended inside the map's value.
Errno check_reg_const_str(bpf_verifier_env& env, uint32_t regno) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  const Map& map = *reg.map_ptr;
  if (!bpf_map_is_rdonly(map))
    return reject(env, Errno::Access, "R%u does not point to a readonly map'\n", regno);
  if (!reg.is_const()) return reject(env, Errno::Access, "R%u is not a constant address'\n", regno);
  if (!map.ops->map_direct_value_addr)
    return reject(env, Errno::Access, "no direct value access support for this map type\n");
  MUST(check_map_access(env, regno, reg.off, int(map.value_size) - reg.off, false));
  uint32_t map_off = uint32_t(reg.off) + uint32_t(reg.var_off.value);
  auto addr = map.ops->map_direct_value_addr(map, map_off);
  if (!addr) return reject(env, addr.err(), "direct value access on string failed\n");
  if (!std::memchr(env.machine.arena.host(*addr + map_off), 0, map.value_size - map_off))
    return reject(env, Errno::Inval, "string is not zero-terminated\n");
  return Errno::None;
}

Errno check_release(bpf_verifier_env& env, uint32_t regno, bpf_call_arg_meta& meta) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  if (!reg.ref_obj_id && !reg.is_null())
    return reject(env, Errno::Inval, "R%u must be referenced when passed to release function\n", regno);
  if (meta.release_regno) return verifier_bug(env, "more than one release argument");
  meta.release_regno = uint8_t(regno);
  return Errno::None;
}

Errno check_arg_by_kind(bpf_verifier_env& env, uint32_t arg, uint32_t arg_type, bpf_call_arg_meta& meta,
                        const FuncProto& fn) {
  uint32_t regno = BPF_REG_1 + arg;
  bpf_reg_state& reg = env.cur_regs()[regno];
  switch (base_type(arg_type)) {
    case ARG_CONST_MAP_PTR:
      if (meta.map_ptr && (meta.map_ptr != reg.map_ptr || meta.map_uid != reg.map_uid))
        return reject(env, Errno::Inval,
                      "timer pointer in R1 map_uid=%d doesn't match map pointer in R2 map_uid=%d\n",
                      int(meta.map_uid), int(reg.map_uid));
      meta.map_ptr = reg.map_ptr;
      meta.map_uid = reg.map_uid;
      return Errno::None;
    case ARG_PTR_TO_MAP_KEY: return check_map_key(env, regno, meta);
    case ARG_PTR_TO_MAP_VALUE: return check_map_value(env, regno, arg_type, meta);
    case ARG_PTR_TO_FUNC: meta.subprogno = reg.subprogno; return Errno::None;
    case ARG_PTR_TO_MEM:
      meta.raw_mode = arg_type & MEM_UNINIT;
      if (!(arg_type & MEM_FIXED_SIZE)) return Errno::None;
      MUST(check_helper_mem_access(env, regno, int(fn.arg_size[arg]),
                                   arg_type & MEM_WRITE ? BPF_WRITE : BPF_READ, false, &meta));
      if (arg_type & MEM_ALIGNED) return check_ptr_alignment(env, reg, 0, int(fn.arg_size[arg]), true);
      return Errno::None;
    case ARG_CONST_SIZE:
    case ARG_CONST_SIZE_OR_ZERO:
      return check_mem_size_reg(env, regno, arg && (fn.arg_type[arg - 1] & MEM_WRITE) ? BPF_WRITE : BPF_READ,
                                base_type(arg_type) == ARG_CONST_SIZE_OR_ZERO, meta);
    case ARG_CONST_ALLOC_SIZE_OR_ZERO:
      if (!reg.is_const()) return reject(env, Errno::Access, "R%u is not a known constant'\n", regno);
      meta.mem_size = int(reg.var_off.value);
      return mark_chain_precision(env, regno);
    case ARG_PTR_TO_CONST_STR: return check_reg_const_str(env, regno);
    case ARG_PTR_TO_SPIN_LOCK:
    case ARG_PTR_TO_TIMER:
    case ARG_PTR_TO_DYNPTR:
    case ARG_KPTR_XCHG_DEST:
    case ARG_PTR_TO_PERCPU_BTF_ID:
      return not_modelled(env, "argument %u of helper %s#%d (a lock, timer, dynptr or kptr)", regno,
                          func_id_name(meta.func_id), meta.func_id);
    default: return Errno::None;
  }
}
}  // namespace

Errno check_func_arg_reg_off(bpf_verifier_env& env, const bpf_reg_state& reg, uint32_t regno,
                             uint32_t arg_type) {
  if (arg_type_is_release(arg_type)) {
    if (reg.off)
      return reject(env, Errno::Inval,
                    "R%u must have zero offset when passed to release func or trusted arg to kfunc\n", regno);
    return check_ptr_off_reg(env, reg, regno, false);
  }
  switch (reg.type) {
    case PTR_TO_STACK:
    case PTR_TO_PACKET:
    case PTR_TO_PACKET_META:
    case PTR_TO_MAP_KEY:
    case PTR_TO_MAP_VALUE:
    case PTR_TO_MEM:
    case with(PTR_TO_MEM, MEM_RDONLY):
    case with(PTR_TO_MEM, MEM_RINGBUF):
    case PTR_TO_BUF:
    case with(PTR_TO_BUF, MEM_RDONLY):
    case PTR_TO_ARENA:
    case SCALAR_VALUE: return Errno::None;
    default: return check_ptr_off_reg(env, reg, regno, base_type(reg.type) == PTR_TO_BTF_ID);
  }
}

Errno check_func_arg(bpf_verifier_env& env, uint32_t arg, bpf_call_arg_meta& meta, const FuncProto& fn) {
  uint32_t regno = BPF_REG_1 + arg, arg_type = fn.arg_type[arg];
  if (arg_type == ARG_DONTCARE) return Errno::None;
  MUST(check_reg_arg(env, regno, SRC_OP));
  const bpf_reg_state& reg = env.cur_regs()[regno];
  if (arg_type == ARG_ANYTHING) {
    if (is_pointer_value(env, regno))
      return reject(env, Errno::Access, "R%u leaks addr into helper function\n", regno);
    return Errno::None;
  }
  if (type_is_pkt_pointer(reg.type) && !may_access_direct_pkt_data(env, &meta, BPF_READ))
    return reject(env, Errno::Access, "helper access to the packet is not allowed\n");
  if (base_type(arg_type) == ARG_PTR_TO_MAP_VALUE) MUST(resolve_map_arg_type(env, meta, arg_type));
  if (!(reg.is_null() && type_may_be_null(arg_type))) {
    MUST(check_reg_type(env, regno, arg_type, fn.arg_btf[arg]));
    MUST(check_func_arg_reg_off(env, reg, regno, arg_type));
  }
  if (arg_type_is_release(arg_type)) MUST(check_release(env, regno, meta));
  if (reg.ref_obj_id) {
    if (meta.ref_obj_id)
      return reject(env, Errno::Access, "more than one arg with ref_obj_id R%u %u %u", regno, reg.ref_obj_id,
                    meta.ref_obj_id);
    meta.ref_obj_id = reg.ref_obj_id;
  }
  return check_arg_by_kind(env, arg, arg_type, meta, fn);
}

}  // namespace bpfsim
