// Models: kernel/bpf/verifier.c, adjust_ptr_min_max_vals() and sanitize_ptr_alu() (Linux 6.18)
//
// See ptr_alu.h.
#include "verifier/ptr_alu.h"

#include <cstdlib>

#include "verifier/mem.h"
#include "verifier/paths.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"

namespace bpfsim {

const char* alu_string(uint8_t opcode) {
  static constexpr const char* names[16] = {"+=",  "-=", "*=", "/=", "|=",   "&=",     "<<=",    ">>=",
                                            "neg", "%=", "^=", "=",  "s>>=", "endian", "(null)", "(null)"};
  return names[opcode >> 4];
}

namespace {
// Offsets stay below 2^29 so that no sum of them can wrap.
bool check_reg_sane_offset(bpf_verifier_env& env, const bpf_reg_state& reg, uint32_t type) {
  int64_t val = int64_t(reg.var_off.value), smin = reg.r64.smin;
  auto too_far = [](int64_t x) { return x >= BPF_MAX_VAR_OFF || x <= -BPF_MAX_VAR_OFF; };
  std::string name = reg_type_str(type);
  Errno err = Errno::None;
  if (reg.is_const() && too_far(val))
    err = reject(env, Errno::Inval, "math between %s pointer and %lld is not allowed\n", name.c_str(),
                 (long long)val);
  else if (too_far(reg.off))
    err = reject(env, Errno::Inval, "%s pointer offset %d is not allowed\n", name.c_str(), reg.off);
  else if (smin == INT64_MIN)
    err = reject(env, Errno::Inval,
                 "math between %s pointer and register with unbounded min value is not allowed\n",
                 name.c_str());
  else if (too_far(smin))
    err = reject(env, Errno::Inval, "value %lld makes %s pointer be out of bounds\n", (long long)smin,
                 name.c_str());
  return err == Errno::None;
}

// Why speculation could not be made safe.
enum class Reason { None, Bounds, Type, Paths, Limit, Stack };

struct SanitizeInfo {
  bpf_insn_aux_data aux;
  bool mask_to_left = false;
};

bool can_skip_alu_sanitation(bpf_verifier_env& env, const bpf_insn& insn) {
  return env.bypass_spec_v1 || BPF_SRC(insn.code) == BPF_K || env.cur_aux().nospec;
}

Reason update_alu_sanitation_state(bpf_insn_aux_data& aux, uint8_t alu_state, uint32_t alu_limit) {
  if (aux.alu_state && (aux.alu_state != alu_state || aux.alu_limit != alu_limit)) return Reason::Paths;
  aux.alu_state = alu_state;
  aux.alu_limit = alu_limit;
  return Reason::None;
}

// How far the pointer may move to the side that the offset takes it.
Reason retrieve_ptr_limit(const bpf_reg_state& ptr, bool mask_to_left, uint32_t& alu_limit) {
  uint32_t max, limit;
  switch (ptr.type) {
    case PTR_TO_STACK:
      max = MAX_BPF_STACK + mask_to_left;
      limit = uint32_t(-(int64_t(ptr.var_off.value) + ptr.off));
      break;
    case PTR_TO_MAP_VALUE:
      max = ptr.map_ptr->value_size;
      limit = uint32_t((mask_to_left ? uint64_t(ptr.r64.smin) : ptr.r64.umax) + uint64_t(int64_t{ptr.off}));
      break;
    default: return Reason::Type;
  }
  if (limit >= max) return Reason::Limit;
  alu_limit = limit;
  return Reason::None;
}

// Called before the arithmetic, to note the state and walk the mispredicted path, and after it (`commit`) to
// fix the limit as the distance that the pointer has moved.
Reason sanitize_ptr_alu(bpf_verifier_env& env, const bpf_insn& insn, const bpf_reg_state& ptr,
                        const bpf_reg_state& off, bool ptr_is_dst, SanitizeInfo& info, bool commit) {
  if (can_skip_alu_sanitation(env, insn)) return Reason::None;
  bool off_is_imm = off.is_const(), off_is_neg = off.r64.smin < 0;
  bool add = BPF_OP(insn.code) == BPF_ADD;
  if (!env.cur_state->speculative) {
    if (!commit) {
      if (!off_is_imm && off_is_neg != (off.r64.smax < 0)) return Reason::Bounds;
      info.mask_to_left = add == off_is_neg;
    }
    uint32_t alu_limit;
    if (Reason why = retrieve_ptr_limit(ptr, info.mask_to_left, alu_limit); why != Reason::None) return why;
    uint8_t alu_state;
    if (commit) {
      alu_state = info.aux.alu_state;
      alu_limit = uint32_t(std::abs(int32_t(info.aux.alu_limit - alu_limit)));
    } else {
      alu_state = uint8_t((off_is_neg ? BPF_ALU_NEG_VALUE : 0) | (off_is_imm ? BPF_ALU_IMMEDIATE : 0) |
                          (ptr_is_dst ? BPF_ALU_SANITIZE_SRC : BPF_ALU_SANITIZE_DST));
      if (!off_is_imm) env.explore_alu_limits = true;
    }
    bpf_insn_aux_data& aux = commit ? env.cur_aux() : info.aux;
    if (Reason why = update_alu_sanitation_state(aux, alu_state, alu_limit); why != Reason::None) return why;
  }
  if (commit || off_is_imm) return Reason::None;
  // The path on which the pointer did not move.
  bpf_reg_state& dst = env.cur_regs()[insn.dst_reg];
  bpf_reg_state kept = dst;
  if (!ptr_is_dst) dst = ptr;
  bool pushed = sanitize_speculative_path(env, nullptr, env.insn_idx + 1, env.insn_idx);
  if (!ptr_is_dst && pushed) env.cur_regs()[insn.dst_reg] = kept;
  return pushed ? Reason::None : Reason::Stack;
}

Errno sanitize_err(bpf_verifier_env& env, const bpf_insn& insn, Reason reason, bool off_is_dst) {
  const char* what = "pointer arithmetic with it prohibited for !root";
  const char* op = BPF_OP(insn.code) == BPF_ADD ? "add" : "sub";
  int dst = insn.dst_reg, src = insn.src_reg;
  switch (reason) {
    case Reason::None: return Errno::None;
    case Reason::Bounds:
      return reject(env, Errno::Access, "R%d has unknown scalar with mixed signed bounds, %s\n",
                    off_is_dst ? dst : src, what);
    case Reason::Type:
      return reject(env, Errno::Access, "R%d has pointer with unsupported alu operation, %s\n",
                    off_is_dst ? src : dst, what);
    case Reason::Paths:
      return reject(env, Errno::Access, "R%d tried to %s from different maps, paths or scalars, %s\n", dst,
                    op, what);
    case Reason::Limit:
      return reject(env, Errno::Access, "R%d tried to %s beyond pointer bounds, %s\n", dst, op, what);
    case Reason::Stack:
      return reject(env, Errno::NoMem, "R%d could not be pushed for speculative verification, %s\n", dst,
                    what);
  }
  return Errno::Access;
}

// The unprivileged may not even form a pointer that leaves its object.
Errno sanitize_check_bounds(bpf_verifier_env& env, const bpf_insn& insn, const bpf_reg_state& dst) {
  if (env.bypass_spec_v1) return Errno::None;
  int regno = insn.dst_reg;
  if (dst.type == PTR_TO_STACK) {
    int off = dst.off + int(dst.var_off.value);
    if (!dst.is_const())
      return reject(env, Errno::Access, "R%d variable stack access prohibited for !root, var_off=%s off=%d\n",
                    regno, tnum_strn(dst.var_off).c_str(), off);
    if (off >= 0 || off < -int(MAX_BPF_STACK))
      return reject(env, Errno::Access,
                    "R%d stack pointer arithmetic goes out of range, prohibited for !root; off=%d\n", regno,
                    off);
  } else if (dst.type == PTR_TO_MAP_VALUE) {
    if (check_map_access(env, uint32_t(regno), dst.off, 1, false) != Errno::None)
      return reject(env, Errno::Access,
                    "R%d pointer arithmetic of map value goes out of range, prohibited for !root\n", regno);
  }
  return Errno::None;
}

Errno pointer_kind_allows(bpf_verifier_env& env, const bpf_insn& insn, const bpf_reg_state& ptr,
                          const bpf_reg_state& off) {
  bool known = off.is_const();
  switch (base_type(ptr.type)) {
    case PTR_TO_CTX:
    case PTR_TO_MAP_VALUE:
    case PTR_TO_MAP_KEY:
    case PTR_TO_STACK:
    case PTR_TO_PACKET_META:
    case PTR_TO_PACKET:
    case PTR_TO_TP_BUFFER:
    case PTR_TO_BTF_ID:
    case PTR_TO_MEM:
    case PTR_TO_BUF:
    case PTR_TO_FUNC:
    case CONST_PTR_TO_DYNPTR: return Errno::None;
    case PTR_TO_FLOW_KEYS:
      if (known) return Errno::None;
      break;
    case CONST_PTR_TO_MAP:
      if (known && off.r64.smin == 0 && BPF_OP(insn.code) == BPF_ADD) return Errno::None;
      break;
  }
  return reject(env, Errno::Access, "R%d pointer arithmetic on %s prohibited\n", insn.dst_reg,
                reg_type_str(ptr.type).c_str());
}

// A known offset that fits goes into the fixed part: what is known of the place does not change.
bool move_fixed_part(bpf_reg_state& dst, const bpf_reg_state& ptr, int64_t by) {
  int64_t moved = int64_t(uint64_t(int64_t{ptr.off}) + uint64_t(by));
  if (moved != int32_t(moved)) return false;
  dst.r64 = ptr.r64;
  dst.var_off = ptr.var_off;
  dst.off = int32_t(moved);
  dst.raw = ptr.raw;
  return true;
}

void add_to_pointer(bpf_verifier_env& env, bpf_reg_state& dst, const bpf_reg_state& ptr,
                    const bpf_reg_state& off) {
  if (off.is_const() && move_fixed_part(dst, ptr, off.r64.smin)) return;
  Range64& r = dst.r64;
  bool lo = __builtin_add_overflow(ptr.r64.smin, off.r64.smin, &r.smin);
  bool hi = __builtin_add_overflow(ptr.r64.smax, off.r64.smax, &r.smax);
  if (lo || hi) r.forget_signed();
  lo = __builtin_add_overflow(ptr.r64.umin, off.r64.umin, &r.umin);
  hi = __builtin_add_overflow(ptr.r64.umax, off.r64.umax, &r.umax);
  if (lo || hi) r.forget_unsigned();
  dst.var_off = tnum_add(ptr.var_off, off.var_off);
  dst.off = ptr.off;
  dst.raw = ptr.raw;
  if (type_is_pkt_pointer(ptr.type)) {  // a new place: what is proven of the packet is not proven from here
    dst.id = ++env.id_gen;
    dst.raw = {0, 0};
  }
}

Errno subtract_from_pointer(bpf_verifier_env& env, const bpf_insn& insn, bpf_reg_state& dst,
                            const bpf_reg_state& ptr, const bpf_reg_state& off, bool off_is_dst) {
  if (off_is_dst)
    return reject(env, Errno::Access, "R%d tried to subtract pointer from scalar\n", insn.dst_reg);
  if (ptr.type == PTR_TO_STACK)
    return reject(env, Errno::Access, "R%d subtraction from stack pointer prohibited\n", insn.dst_reg);
  if (off.is_const() && move_fixed_part(dst, ptr, int64_t(0 - uint64_t(off.r64.smin)))) {
    dst.id = ptr.id;
    return Errno::None;
  }
  Range64& r = dst.r64;
  bool lo = __builtin_sub_overflow(ptr.r64.smin, off.r64.smax, &r.smin);
  bool hi = __builtin_sub_overflow(ptr.r64.smax, off.r64.smin, &r.smax);
  if (lo || hi) r.forget_signed();
  if (ptr.r64.umin < off.r64.umax) {
    r.forget_unsigned();
  } else {
    r.umin = ptr.r64.umin - off.r64.umax;
    r.umax = ptr.r64.umax - off.r64.umin;
  }
  dst.var_off = tnum_sub(ptr.var_off, off.var_off);
  dst.off = ptr.off;
  dst.raw = ptr.raw;
  if (type_is_pkt_pointer(ptr.type)) {
    dst.id = ++env.id_gen;
    if (off.r64.smin < 0) dst.raw = {0, 0};  // it may have moved forward
  }
  return Errno::None;
}
}  // namespace

bool sanitize_speculative_path(bpf_verifier_env& env, const bpf_insn* insn, uint32_t next_idx,
                               uint32_t curr_idx) {
  bpf_verifier_state* branch = push_stack(env, next_idx, curr_idx, true);
  if (!branch) return false;
  if (insn) {  // of the operands of a mispredicted comparison nothing is known
    auto& regs = branch->cur().regs;
    mark_reg_unknown(env, regs[insn->dst_reg]);
    if (BPF_SRC(insn->code) == BPF_X) mark_reg_unknown(env, regs[insn->src_reg]);
  }
  return true;
}

Errno sanitize_val_alu(bpf_verifier_env& env, const bpf_insn& insn) {
  if (can_skip_alu_sanitation(env, insn)) return Errno::None;
  Reason reason = update_alu_sanitation_state(env.cur_aux(), BPF_ALU_NON_POINTER, 0);
  return sanitize_err(env, insn, reason, false);
}

Errno adjust_ptr_min_max_vals(bpf_verifier_env& env, const bpf_insn& insn, bool ptr_is_dst,
                              const bpf_reg_state& off_given) {
  bpf_reg_state& dst = env.cur_regs()[insn.dst_reg];
  const bpf_reg_state ptr = ptr_is_dst ? dst : env.cur_regs()[insn.src_reg];
  const bpf_reg_state off = off_given;  // may be dst itself, which changes below
  uint8_t opcode = BPF_OP(insn.code);
  const Range64& o = off.r64;
  bool sum = opcode == BPF_ADD || opcode == BPF_SUB;

  // Contradicting bounds: on a path that cannot be, anything holds.
  if ((off.is_const() && (o.smin != o.smax || o.umin != o.umax)) || o.broken()) {
    mark_reg_unknown(env, dst);
    return Errno::None;
  }
  if (BPF_CLASS(insn.code) != BPF_ALU64) {
    if (opcode == BPF_SUB && env.allow_ptr_leaks) {
      mark_reg_unknown(env, dst);
      return Errno::None;
    }
    return reject(env, Errno::Access, "R%d 32-bit pointer arithmetic prohibited\n", insn.dst_reg);
  }
  if (type_may_be_null(ptr.type))
    return reject(env, Errno::Access, "R%d pointer arithmetic on %s prohibited, null-check it first\n",
                  insn.dst_reg, reg_type_str(ptr.type).c_str());
  if (base_type(ptr.type) == PTR_TO_MEM && (ptr.type & PTR_UNTRUSTED)) return Errno::None;
  MUST(pointer_kind_allows(env, insn, ptr, off));

  dst.type = ptr.type;
  dst.id = ptr.id;
  if (!check_reg_sane_offset(env, off, ptr.type) || !check_reg_sane_offset(env, ptr, ptr.type))
    return Errno::Inval;
  dst.r32 = {};

  SanitizeInfo info;
  if (sum)
    MUST(
        sanitize_err(env, insn, sanitize_ptr_alu(env, insn, ptr, off, ptr_is_dst, info, false), !ptr_is_dst));
  switch (opcode) {
    case BPF_ADD: add_to_pointer(env, dst, ptr, off); break;
    case BPF_SUB: MUST(subtract_from_pointer(env, insn, dst, ptr, off, !ptr_is_dst)); break;
    case BPF_AND:
    case BPF_OR:
    case BPF_XOR:
      return reject(env, Errno::Access, "R%d bitwise operator %s on pointer prohibited\n", insn.dst_reg,
                    alu_string(opcode));
    default:
      return reject(env, Errno::Access, "R%d pointer arithmetic with %s operator prohibited\n", insn.dst_reg,
                    alu_string(opcode));
  }
  if (!check_reg_sane_offset(env, dst, ptr.type)) return Errno::Inval;
  reg_bounds_sync(dst);
  MUST(sanitize_check_bounds(env, insn, dst));
  if (sum)
    MUST(sanitize_err(env, insn, sanitize_ptr_alu(env, insn, dst, off, true, info, true), !ptr_is_dst));
  return Errno::None;
}

}  // namespace bpfsim
