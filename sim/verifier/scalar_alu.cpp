// Models: kernel/bpf/verifier.c, check_alu_op() (Linux 6.18)
//
// See scalar_alu.h. Not modelled yet: arenas (addr_space_cast).
#include "verifier/scalar_alu.h"

#include "verifier/backtrack.h"
#include "verifier/paths.h"
#include "verifier/ptr_alu.h"
#include "verifier/regs.h"
#include "verifier/scalar_range.h"

namespace bpfsim {

namespace {
// Division, modulo and shifts by an unknown amount tell nothing of the result.
bool is_safe_to_compute_dst_reg_range(const bpf_insn& insn, const bpf_reg_state& src) {
  bool wide = BPF_CLASS(insn.code) == BPF_ALU64;
  switch (BPF_OP(insn.code)) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_NEG:
    case BPF_AND:
    case BPF_XOR:
    case BPF_OR:
    case BPF_MUL:
    case BPF_END: return true;
    case BPF_LSH:
    case BPF_RSH:
    case BPF_ARSH: {
      bool known = wide ? src.is_const() && src.r64.smin == src.r64.smax && src.r64.umin == src.r64.umax
                        : src.is_const(true) && src.r32.smin == src.r32.smax && src.r32.umin == src.r32.umax;
      return known && src.r64.umax < (wide ? 64u : 32u);
    }
    default: return false;
  }
}

// A mask that is all ones or all zeros, made by an arithmetic shift, is two paths: so that `x & mask` is x or
// 0.
Errno maybe_fork_scalars(bpf_verifier_env& env, const bpf_insn& insn, bpf_reg_state& dst) {
  bool alu64 = dst.r64.smin == -1 && dst.r64.smax == 0;
  bool alu32 = !alu64 && dst.r32.smin == -1 && dst.r32.smax == 0;
  if (!alu64 && !alu32) return Errno::None;
  bpf_verifier_state* branch = push_stack(env, env.insn_idx, env.insn_idx, false);
  if (!branch) return Errno::TooBig;
  bpf_reg_state& other = branch->cur().regs[insn.dst_reg];
  if (alu32) {
    mark32_known(other, 0);
    mark32_known(dst, ~0u);
  } else {
    mark_reg_known(other, 0);
    mark_reg_known(dst, ~0ull);
  }
  return Errno::None;
}

void scalar_byte_swap(bpf_reg_state& dst, const bpf_insn& insn) {
  bool swaps = BPF_CLASS(insn.code) == BPF_ALU64 || BPF_SRC(insn.code) == BPF_TO_BE;
  bool narrow = insn.imm == 16 || insn.imm == 32;
  if (swaps || narrow) dst.id = 0;
  if (swaps) scalar_bswap(dst, unsigned(insn.imm));
  if (narrow) coerce_reg_to_size(dst, unsigned(insn.imm) / 8);
}

Errno adjust_scalar_min_max_vals(bpf_verifier_env& env, const bpf_insn& insn, bpf_reg_state& dst,
                                 const bpf_reg_state& src_given) {
  uint8_t opcode = BPF_OP(insn.code);
  bool alu32 = BPF_CLASS(insn.code) != BPF_ALU64;
  const bpf_reg_state src = src_given;  // may be dst
  if (!is_safe_to_compute_dst_reg_range(insn, src)) {
    mark_reg_unknown(env, dst);
    return Errno::None;
  }
  if (opcode == BPF_ADD || opcode == BPF_SUB) MUST(sanitize_val_alu(env, insn));
  if ((opcode == BPF_AND || opcode == BPF_OR) && src.is_const()) MUST(maybe_fork_scalars(env, insn, dst));
  unsigned shift = unsigned(src.var_off.value) & 63;
  switch (opcode) {
    case BPF_ADD: scalar_add(dst, src); break;
    case BPF_SUB: scalar_sub(dst, src); break;
    case BPF_NEG:
      dst.off = 0, dst.raw = {0, 0}, dst.id = 0, dst.ref_obj_id = 0;
      scalar_neg(dst);
      break;
    case BPF_MUL: scalar_mul(dst, src); break;
    case BPF_AND: scalar_and(dst, src); break;
    case BPF_OR: scalar_or(dst, src); break;
    case BPF_XOR: scalar_xor(dst, src); break;
    case BPF_LSH: alu32 ? scalar32_lsh(dst, shift) : scalar_lsh(dst, shift); break;
    case BPF_RSH: alu32 ? scalar32_rsh(dst, shift) : scalar_rsh(dst, shift); break;
    case BPF_ARSH: alu32 ? scalar32_arsh(dst, shift) : scalar_arsh(dst, shift); break;
    case BPF_END: scalar_byte_swap(dst, insn); break;
  }
  bool bitwise = opcode == BPF_AND || opcode == BPF_OR || opcode == BPF_XOR;
  if (bitwise && src.is_const() && dst.is_const()) mark_reg_known(dst, dst.var_off.value);
  if (alu32 && opcode != BPF_END) zext_32_to_64(dst);
  reg_bounds_sync(dst);
  return Errno::None;
}

// r1 = r2; r1 += 10: they stay kin, ten apart.
void keep_linked(const bpf_insn& insn, bpf_reg_state& dst, const bpf_reg_state& src, uint64_t dst_umax) {
  bool alu32 = BPF_CLASS(insn.code) != BPF_ALU64;
  int64_t val = int64_t(src.const_value(alu32));
  bool fits = alu32 ? dst_umax <= UINT32_MAX : val >= INT32_MIN && val <= INT32_MAX;
  int32_t off = int32_t(val);
  bool sub = BPF_OP(insn.code) == BPF_SUB;
  if (!fits || (sub && off == INT32_MIN) || (dst.id & BPF_ADD_CONST)) {
    dst.off = 0;
    dst.id = 0;
    return;
  }
  dst.id |= alu32 ? BPF_ADD_CONST32 : BPF_ADD_CONST64;
  dst.off = sub ? -off : off;
}

Errno adjust_reg_min_max_vals(bpf_verifier_env& env, const bpf_insn& insn) {
  auto& regs = env.cur_regs();
  bpf_reg_state& dst = regs[insn.dst_reg];
  uint8_t opcode = BPF_OP(insn.code);
  bool by_reg = BPF_SRC(insn.code) == BPF_X;
  const bpf_reg_state imm = by_reg ? bpf_reg_state{} : fake_scalar(uint64_t(int64_t{insn.imm}));
  const bpf_reg_state& src = by_reg ? regs[insn.src_reg] : imm;

  bool dst_ptr = dst.type != SCALAR_VALUE, src_ptr = src.type != SCALAR_VALUE;
  if (dst_ptr && src_ptr) {
    if (opcode == BPF_SUB && env.allow_ptr_leaks) {
      mark_reg_unknown(env, dst);
      return Errno::None;
    }
    return reject(env, Errno::Access, "R%d pointer %s pointer prohibited\n", insn.dst_reg,
                  alu_string(opcode));
  }
  if (src_ptr) {  // scalar += pointer
    MUST(mark_chain_precision(env, insn.dst_reg));
    return adjust_ptr_min_max_vals(env, insn, false, dst);
  }
  if (dst_ptr) {
    if (by_reg) MUST(mark_chain_precision(env, insn.src_reg));
    return adjust_ptr_min_max_vals(env, insn, true, src);
  }
  if (by_reg && dst.precise) MUST(mark_chain_precision(env, insn.src_reg));

  uint64_t dst_umax = dst.r64.umax;
  bool alu32 = BPF_CLASS(insn.code) != BPF_ALU64;
  MUST(adjust_scalar_min_max_vals(env, insn, dst, src));
  bool sum = opcode == BPF_ADD || opcode == BPF_SUB;
  bool same = by_reg && insn.src_reg == insn.dst_reg;
  if (env.bpf_capable && sum && dst.id && src.is_scalar_const(alu32) && !same)
    keep_linked(insn, dst, src, dst_umax);
  else
    dst.id = 0;
  return Errno::None;
}

Errno check_neg_or_end(bpf_verifier_env& env, const bpf_insn& insn) {
  if (BPF_OP(insn.code) == BPF_NEG) {
    if (BPF_SRC(insn.code) != BPF_K || insn.src_reg != BPF_REG_0 || insn.off != 0 || insn.imm != 0)
      return reject(env, Errno::Inval, "BPF_NEG uses reserved fields\n");
  } else if (insn.src_reg != BPF_REG_0 || insn.off != 0 ||
             (insn.imm != 16 && insn.imm != 32 && insn.imm != 64) ||
             (BPF_CLASS(insn.code) == BPF_ALU64 && BPF_SRC(insn.code) != BPF_TO_LE)) {
    return reject(env, Errno::Inval, "BPF_END uses reserved fields\n");
  }
  MUST(check_reg_arg(env, insn.dst_reg, SRC_OP));
  if (is_pointer_value(env, insn.dst_reg))
    return reject(env, Errno::Access, "R%d pointer arithmetic prohibited\n", insn.dst_reg);
  bpf_reg_state& dst = env.cur_regs()[insn.dst_reg];
  if (dst.type != SCALAR_VALUE) return check_reg_arg(env, insn.dst_reg, DST_OP);
  MUST(check_reg_arg(env, insn.dst_reg, DST_OP_NO_MARK));
  return adjust_scalar_min_max_vals(env, insn, dst, dst);
}

Errno mov_form(bpf_verifier_env& env, const bpf_insn& insn) {
  bool wide = BPF_CLASS(insn.code) == BPF_ALU64;
  auto reserved = [&] { return reject(env, Errno::Inval, "BPF_MOV uses reserved fields\n"); };
  if (BPF_SRC(insn.code) == BPF_K) {
    if (insn.src_reg != BPF_REG_0 || insn.off != 0) return reserved();
    return Errno::None;
  }
  if (wide && insn.off == BPF_ADDR_SPACE_CAST) {
    if (insn.imm != 1 && insn.imm != 1 << 16)
      return reject(env, Errno::Inval,
                    "addr_space_cast insn can only convert between address space 1 and 0\n");
    return reject(env, Errno::Inval,
                  "addr_space_cast insn can only be used in a program that has an associated arena\n");
  }
  bool off_ok = insn.off == 0 || insn.off == 8 || insn.off == 16 || (wide && insn.off == 32);
  if (!off_ok || insn.imm) return reserved();
  return check_reg_arg(env, insn.src_reg, SRC_OP);
}

void copy_with_id(bpf_verifier_env& env, bpf_reg_state& dst, bpf_reg_state& src, bool same_value) {
  if (same_value) assign_scalar_id_before_mov(env, src);
  dst = src;
  if (!same_value) dst.id = 0;
}

Errno mov64_reg(bpf_verifier_env& env, const bpf_insn& insn, bpf_reg_state& dst, bpf_reg_state& src) {
  if (insn.off == 0) {
    assign_scalar_id_before_mov(env, src);
    dst = src;
    dst.subreg_def = DEF_NOT_SUBREG;
    return Errno::None;
  }
  if (is_pointer_value(env, insn.src_reg))
    return reject(env, Errno::Access, "R%d sign-extension part of pointer\n", insn.src_reg);
  if (src.type != SCALAR_VALUE) {
    mark_reg_unknown(env, dst);
    return Errno::None;
  }
  copy_with_id(env, dst, src, src.r64.umax < 1ull << (insn.off - 1));
  coerce_reg_to_size_sx(dst, unsigned(insn.off) / 8);
  dst.subreg_def = DEF_NOT_SUBREG;
  return Errno::None;
}

Errno mov32_reg(bpf_verifier_env& env, const bpf_insn& insn, bpf_reg_state& dst, bpf_reg_state& src) {
  if (is_pointer_value(env, insn.src_reg))
    return reject(env, Errno::Access, "R%d partial copy of pointer\n", insn.src_reg);
  if (src.type != SCALAR_VALUE) {
    mark_reg_unknown(env, dst);
  } else {
    bool same_value = insn.off == 0 ? get_reg_width(src) <= 32 : src.r64.umax < 1ull << (insn.off - 1);
    copy_with_id(env, dst, src, same_value);
    dst.subreg_def = int32_t(env.insn_idx) + 1;
    if (insn.off) coerce_subreg_to_size_sx(dst, unsigned(insn.off) / 8);
  }
  zext_32_to_64(dst);
  reg_bounds_sync(dst);
  return Errno::None;
}

Errno check_mov(bpf_verifier_env& env, const bpf_insn& insn) {
  MUST(mov_form(env, insn));
  MUST(check_reg_arg(env, insn.dst_reg, DST_OP_NO_MARK));
  auto& regs = env.cur_regs();
  bpf_reg_state& dst = regs[insn.dst_reg];
  bool wide = BPF_CLASS(insn.code) == BPF_ALU64;
  if (BPF_SRC(insn.code) == BPF_X) {
    bpf_reg_state& src = regs[insn.src_reg];
    return wide ? mov64_reg(env, insn, dst, src) : mov32_reg(env, insn, dst, src);
  }
  mark_reg_unknown(env, dst);
  mark_reg_known(dst, wide ? uint64_t(int64_t{insn.imm}) : uint64_t{uint32_t(insn.imm)});
  return Errno::None;
}

Errno check_binary(bpf_verifier_env& env, const bpf_insn& insn) {
  uint8_t opcode = BPF_OP(insn.code);
  bool divides = opcode == BPF_DIV || opcode == BPF_MOD;
  bool off_ok = insn.off == 0 || (insn.off == 1 && divides);
  bool by_reg = BPF_SRC(insn.code) == BPF_X;
  if (!off_ok || (by_reg ? insn.imm != 0 : insn.src_reg != BPF_REG_0))
    return reject(env, Errno::Inval, "BPF_ALU uses reserved fields\n");
  if (by_reg) MUST(check_reg_arg(env, insn.src_reg, SRC_OP));
  MUST(check_reg_arg(env, insn.dst_reg, SRC_OP));
  if (divides && !by_reg && insn.imm == 0) return reject(env, Errno::Inval, "div by zero\n");
  bool shifts = opcode == BPF_LSH || opcode == BPF_RSH || opcode == BPF_ARSH;
  int size = BPF_CLASS(insn.code) == BPF_ALU64 ? 64 : 32;
  if (shifts && !by_reg && (insn.imm < 0 || insn.imm >= size))
    return reject(env, Errno::Inval, "invalid shift %d\n", insn.imm);
  MUST(check_reg_arg(env, insn.dst_reg, DST_OP_NO_MARK));
  return adjust_reg_min_max_vals(env, insn);
}
}  // namespace

Errno check_alu_op(bpf_verifier_env& env, const bpf_insn& insn) {
  uint8_t opcode = BPF_OP(insn.code);
  if (opcode == BPF_END || opcode == BPF_NEG)
    MUST(check_neg_or_end(env, insn));
  else if (opcode == BPF_MOV)
    MUST(check_mov(env, insn));
  else if (opcode > BPF_END)
    return reject(env, Errno::Inval, "invalid BPF_ALU opcode %x\n", opcode);
  else
    MUST(check_binary(env, insn));
  return reg_bounds_sanity_check(env, env.cur_regs()[insn.dst_reg], "alu");
}

}  // namespace bpfsim
