// Models: kernel/bpf/verifier.c, do_misc_fixups() and its neighbours (Linux 6.18)
//
// The last rewrites of an accepted program: division cannot trap, pointer arithmetic of the unprivileged
// cannot leave its object under speculation, bpf_tail_call is an instruction of its own. Departs from the
// kernel: a call of a helper keeps the helper's number as its immediate, where the kernel puts the distance
// to the function, and no call is replaced by instructions (map lookups, bpf_loop, bpf_get_smp_processor_id,
// ...): the engines call the helper, which leaves R1 to R5 alone, so that spills around a bpf_fastcall helper
// may go as in the kernel. Not modelled yet: LD_ABS and LD_IND, may_goto, kfunc calls, timers.
#include "verifier/fixups.h"

#include <algorithm>
#include <bit>

#include "object/map.h"
#include "verifier/regs.h"
#include "verifier/rewrite.h"

namespace bpfsim {
namespace {

bpf_insn alu(bool is64, int op, int dst, int64_t imm) {
  return is64 ? alu64_imm(op, dst, imm) : alu32_imm(op, dst, imm);
}
bpf_insn jmp(bool is64, int op, int dst, int64_t imm, int off) {
  return is64 ? jmp_imm(op, dst, imm, off) : jmp32_imm(op, dst, imm, off);
}

bool is_divmod(const bpf_insn& insn, uint8_t source) {
  uint8_t op = BPF_OP(insn.code);
  return is_alu(insn) && (op == BPF_DIV || op == BPF_MOD) && BPF_SRC(insn.code) == source;
}

// By a register: x / 0 is 0 and x % 0 is x; signed, x / -1 is -x and x % -1 is 0, also for the smallest x.
Insns divide_by_register(const bpf_insn& insn) {
  const bool is64 = BPF_CLASS(insn.code) == BPF_ALU64, div = BPF_OP(insn.code) == BPF_DIV;
  const int dst = insn.dst_reg, src = insn.src_reg;
  Insns patch;
  if (insn.off == 1) {
    // AX = src + 1: above 1, it is an ordinary division; 0 was -1, and 1 was 0.
    patch = program(mov64_reg(BPF_REG_AX, src), alu(is64, BPF_ADD, BPF_REG_AX, 1));
    if (div) {
      append(patch, jmp(is64, BPF_JGT, BPF_REG_AX, 1, 4));
      append(patch, jmp(is64, BPF_JEQ, BPF_REG_AX, 0, 1));
      append(patch, alu(is64, BPF_MOV, dst, 0));
      append(patch, alu(is64, BPF_NEG, dst, 0));
      append(patch, ja(1));
      append(patch, insn);
      return patch;
    }
    append(patch, jmp(is64, BPF_JGT, BPF_REG_AX, 1, 3));
    append(patch, jmp(is64, BPF_JEQ, BPF_REG_AX, 1, is64 ? 3 : 4));
    append(patch, mov32_imm(dst, 0));
    append(patch, ja(1));
  } else if (div) {
    return program(jmp(is64, BPF_JNE, src, 0, 2), alu32_reg(BPF_XOR, dst, dst), ja(1), insn);
  } else {
    append(patch, jmp(is64, BPF_JEQ, src, 0, is64 ? 1 : 2));
  }
  append(patch, insn);
  if (is64) return patch;
  append(patch, ja(1));
  append(patch, mov32_reg(dst, dst));  // w % 0 is w: the upper half goes
  return patch;
}

Insns signed_divide_by_minus_one(const bpf_insn& insn) {
  bool is64 = BPF_CLASS(insn.code) == BPF_ALU64;
  return program(BPF_OP(insn.code) == BPF_DIV ? alu(is64, BPF_NEG, insn.dst_reg, 0)
                                              : mov32_imm(insn.dst_reg, 0));
}

// A pointer plus an offset that was checked on the path taken: on a path that the CPU only guesses, the
// offset is masked to 0 if it is beyond the limit. AX is all ones if 0 <= offset <= limit, else 0.
Insns sanitize_pointer_alu(bpf_insn insn, const bpf_insn_aux_data& aux) {
  const bool negative = aux.alu_state & BPF_ALU_NEG_VALUE, immediate = aux.alu_state & BPF_ALU_IMMEDIATE;
  const bool offset_in_src =
      (aux.alu_state & (BPF_ALU_SANITIZE_SRC | BPF_ALU_SANITIZE_DST)) == BPF_ALU_SANITIZE_SRC;
  const int offset = offset_in_src ? insn.src_reg : insn.dst_reg;
  Insns patch;
  if (immediate) {
    append(patch, mov32_imm(BPF_REG_AX, aux.alu_limit));
  } else {
    if (negative) append(patch, alu64_imm(BPF_MUL, offset, -1));
    append(patch, mov32_imm(BPF_REG_AX, aux.alu_limit));
    append(patch, alu64_reg(BPF_SUB, BPF_REG_AX, offset));
    append(patch, alu64_reg(BPF_OR, BPF_REG_AX, offset));
    append(patch, alu64_imm(BPF_NEG, BPF_REG_AX, 0));
    append(patch, alu64_imm(BPF_ARSH, BPF_REG_AX, 63));
    append(patch, alu64_reg(BPF_AND, BPF_REG_AX, offset));
  }
  if (!offset_in_src) append(patch, mov64_reg(insn.dst_reg, insn.src_reg));
  insn.src_reg = BPF_REG_AX;
  if (negative) insn.code = uint8_t(insn.code ^ (BPF_ADD ^ BPF_SUB));
  append(patch, insn);
  if (offset_in_src && negative && !immediate) append(patch, alu64_imm(BPF_MUL, offset, -1));
  return patch;
}

// The index of a tail call from the unprivileged is masked, so that no guess leaves the array.
Errno fixup_tail_call(bpf_verifier_env& env, uint32_t i, Insns& patch) {
  const bpf_insn_aux_data& aux = env.insn_aux_data[i];
  if (!env.prog.jit_requested) env.prog.aux->stack_depth = MAX_BPF_STACK;
  const bpf_insn tail_call = make_insn(BPF_JMP | BPF_TAIL_CALL, 0, 0, 0, 0);
  if (!aux.map_ptr_unpriv) {
    env.insns[i] = tail_call;
    return Errno::None;
  }
  if (aux.map_ptr_poisoned || !aux.map_ptr) return reject(env, Errno::Inval, "tail_call abusing map_ptr\n");
  uint32_t entries = aux.map_ptr->max_entries;
  uint32_t mask = uint32_t(std::bit_ceil(uint64_t(std::max(entries, 1u))) - 1);
  patch = program(jmp_imm(BPF_JGE, BPF_REG_3, int32_t(entries), 2),
                  alu32_imm(BPF_AND, BPF_REG_3, int32_t(mask)), tail_call);
  return Errno::None;
}

Errno fixup_insn(bpf_verifier_env& env, uint32_t i, Insns& patch) {
  bpf_insn& insn = env.insns[i];
  const bpf_insn_aux_data& aux = env.insn_aux_data[i];
  if (is_divmod(insn, BPF_K) && insn.off == 1 && insn.imm == -1) {
    patch = signed_divide_by_minus_one(insn);
  } else if (is_divmod(insn, BPF_X)) {
    patch = divide_by_register(insn);
  } else if (BPF_CLASS(insn.code) == BPF_LD && BPF_MODE(insn.code) != BPF_IMM) {
    return not_modelled(env, "LD_ABS and LD_IND at run time");
  } else if (insn.code == (BPF_ALU64 | BPF_ADD | BPF_X) || insn.code == (BPF_ALU64 | BPF_SUB | BPF_X)) {
    if (aux.alu_state && aux.alu_state != BPF_ALU_NON_POINTER) patch = sanitize_pointer_alu(insn, aux);
  } else if (insn.code == (BPF_JMP | BPF_JCOND)) {
    return not_modelled(env, "may_goto at run time");
  } else if (bpf_pseudo_kfunc_call(insn)) {
    if (insn.imm == 0)
      return reject(env, Errno::Inval, "invalid kernel function call not eliminated in verifier pass\n");
    return not_modelled(env, "a kfunc call at run time");
  } else if (is_helper_call(insn) && insn.imm == BPF_FUNC_tail_call) {
    return fixup_tail_call(env, i, patch);
  }
  return Errno::None;
}

}  // namespace

// Pairs around a call lie symmetrically: the n spills before and the n fills behind it.
Errno remove_fastcall_spills_fills(bpf_verifier_env& env) {
  KFN(env.machine, remove_fastcall_spills_fills);
  uint32_t s = 0;
  bool modified = false;
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    bpf_subprog_info& sub = env.subprog_info[s];
    uint32_t pairs = env.insn_aux_data[i].fastcall_spills_num;
    for (uint32_t j = 1; j <= pairs && !sub.keep_fastcall_stack; j++) {
      env.insns[i - j] = env.insns[i + j] = ja(0);
      modified = true;
    }
    if (i + 1 != env.subprog_info[s + 1].start) continue;
    if (modified && !sub.keep_fastcall_stack) sub.stack_depth = uint16_t(-sub.fastcall_stack_off);
    modified = false;
    s++;
  }
  rewrite_stage(env, "remove_fastcall_spills_fills");
  return Errno::None;
}

// The call of bpf_loop stays a call here.
Errno optimize_bpf_loop(bpf_verifier_env& env) {
  KFN(env.machine, optimize_bpf_loop);
  env.prog.aux->stack_depth = env.subprog_info[0].stack_depth;
  return Errno::None;
}

Errno do_misc_fixups(bpf_verifier_env& env) {
  KFN(env.machine, do_misc_fixups);
  Rewrite rewrite(env);
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    Insns patch;
    MUST(fixup_insn(env, i, patch));
    if (!patch.empty()) rewrite.replace(i, std::move(patch));
  }
  MUST(rewrite.apply());
  rewrite_stage(env, "do_misc_fixups");
  return Errno::None;
}

static Insns zero_extend(const bpf_insn& insn, int reg) {
  return program(insn, make_insn(BPF_ALU | BPF_MOV | BPF_X, reg, reg, 0, 1));
}

static Insns randomize_upper_half(bpf_verifier_env& env, const bpf_insn& insn, int reg) {
  return program(insn, mov64_imm(BPF_REG_AX, int32_t(env.machine.random.u32())),
                 alu64_imm(BPF_LSH, BPF_REG_AX, 32), alu64_reg(BPF_OR, reg, BPF_REG_AX));
}

// Our engines zero the upper half as the x86 JIT does; only a compare-and-exchange needs it said. The test
// flag fills upper halves that nobody reads with noise.
Errno opt_subreg_zext_lo32_rnd_hi32(bpf_verifier_env& env) {
  KFN(env.machine, opt_subreg_zext_lo32_rnd_hi32);
  const bool rnd_hi32 = env.attr.prog_flags & BPF_F_TEST_RND_HI32;
  Rewrite rewrite(env);
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    const bpf_insn& insn = env.insns[i];
    const bpf_insn_aux_data& aux = env.insn_aux_data[i];
    const int reg = insn_def_regno(insn);
    if (aux.zext_dst) {
      if (is_atomic(insn) && insn.imm == BPF_CMPXCHG && reg != -1) rewrite.replace(i, zero_extend(insn, reg));
    } else if (rnd_hi32 && reg != -1 && !is_reg64(insn, uint32_t(reg), nullptr, DST_OP) &&
               !(BPF_CLASS(insn.code) == BPF_LDX && aux.ptr_type == PTR_TO_CTX)) {
      rewrite.replace(i, randomize_upper_half(env, insn, reg));
    }
    if (is_ld_imm64(insn)) i++;
  }
  MUST(rewrite.apply());
  rewrite_stage(env, "opt_subreg_zext_lo32_rnd_hi32");
  return Errno::None;
}

// With the JIT, subprograms are compiled one by one (run/). The interpreter cannot do all that it can.
Errno fixup_call_args(bpf_verifier_env& env) {
  KFN(env.machine, fixup_call_args);
  if (env.prog.jit_requested) return Errno::None;
  if (env.subprog_cnt > 1 && env.prog.aux->tail_call_reachable)
    return reject(env, Errno::Inval,
                  "tail_calls are not allowed in non-JITed programs with bpf-to-bpf calls\n");
  for (const bpf_insn& insn : env.insns)
    if (bpf_pseudo_func(insn))
      return reject(env, Errno::Inval, "callbacks are not allowed in non-JITed programs\n");
  return Errno::None;
}

}  // namespace bpfsim
