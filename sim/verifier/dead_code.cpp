// Models: kernel/bpf/verifier.c, from opt_hard_wire_dead_code_branches() to opt_remove_nops(), and
// sanitize_dead_code() (Linux 6.18)
//
// An instruction that no path reached cannot run. For the privileged it goes: a conditional jump with one
// dead side becomes a goto, dead instructions are taken out, then gotos to the next instruction. A program of
// the unprivileged keeps its length, its dead code becomes `goto pc-1`: were it ever reached, through a bug,
// it would go nowhere.
#include "verifier/fixups.h"
#include "verifier/rewrite.h"

namespace bpfsim {

static bool insn_is_cond_jump(const bpf_insn& insn) {
  uint8_t op = BPF_OP(insn.code);
  if (BPF_CLASS(insn.code) == BPF_JMP32) return op != BPF_JA;
  return BPF_CLASS(insn.code) == BPF_JMP && op != BPF_JA && op != BPF_EXIT && op != BPF_CALL;
}

void opt_hard_wire_dead_code_branches(bpf_verifier_env& env) {
  KFN(env.machine, opt_hard_wire_dead_code_branches);
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    bpf_insn& insn = env.insns[i];
    if (!insn_is_cond_jump(insn)) continue;
    if (!env.insn_aux_data[i + 1].seen)
      insn = ja(insn.off);
    else if (!env.insn_aux_data[i + 1 + uint32_t(insn.off)].seen)
      insn = ja(0);
  }
  rewrite_stage(env, "opt_hard_wire_dead_code_branches");
}

Errno opt_remove_dead_code(bpf_verifier_env& env) {
  KFN(env.machine, opt_remove_dead_code);
  Rewrite rewrite(env);
  for (uint32_t i = 0; i < env.insn_cnt(); i++)
    if (!env.insn_aux_data[i].seen) rewrite.remove(i);
  MUST(rewrite.apply());
  rewrite_stage(env, "opt_remove_dead_code");
  return Errno::None;
}

static bool is_goto_0(const bpf_insn& insn) { return insn == ja(0); }
static bool is_may_goto_0(const bpf_insn& insn) { return insn == may_goto(0); }

// Behind a removed `may_goto +0` the kernel looks back once more, for `may_goto +1; may_goto +0`. A goto that
// leads to the next instruction only since others were removed stays.
Errno opt_remove_nops(bpf_verifier_env& env) {
  KFN(env.machine, opt_remove_nops);
  Rewrite rewrite(env);
  std::vector<uint32_t> kept;  // what stands so far before the current one
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    const bpf_insn& insn = env.insns[i];
    bool again = is_may_goto_0(insn);
    if (!is_goto_0(insn) && !again) {
      kept.push_back(i);
      continue;
    }
    rewrite.remove(i);
    while (again && !kept.empty()) {
      bpf_insn before = env.insns[kept.back()];
      bool over_removed = before.off >= 0 && kept.back() + 1 + uint32_t(before.off) == i + 1;
      if (!over_removed) break;
      before.off = 0;
      again = is_may_goto_0(before);
      if (!again && !is_goto_0(before)) break;
      rewrite.remove(kept.back());
      kept.pop_back();
    }
  }
  MUST(rewrite.apply());
  rewrite_stage(env, "opt_remove_nops");
  return Errno::None;
}

void sanitize_dead_code(bpf_verifier_env& env) {
  KFN(env.machine, sanitize_dead_code);
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    if (env.insn_aux_data[i].seen) continue;
    env.insns[i] = ja(-1);
    env.insn_aux_data[i].zext_dst = false;
  }
  rewrite_stage(env, "sanitize_dead_code");
}

}  // namespace bpfsim
