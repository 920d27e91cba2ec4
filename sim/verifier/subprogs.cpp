// Models: kernel/bpf/verifier.c, add_subprog_and_kfunc() and check_subprogs() (Linux 6.18)
//
// A subprogram begins where some BPF_CALL or function pointer points, and ends where the next one begins. Two
// rules make each a function of its own: no jump leaves it, and its last instruction is an exit or a jump.
// Not modelled yet: kfunc calls, and the exception callback that a BTF tag names.
#include "verifier/subprogs.h"

#include <algorithm>

namespace bpfsim {

static Errno add_subprog(bpf_verifier_env& env, int64_t off) {
  if (off < 0 || off >= env.insn_cnt()) return reject(env, Errno::Inval, "call to invalid destination\n");
  auto& subs = env.subprog_info;
  auto at = std::lower_bound(subs.begin(), subs.end(), uint32_t(off),
                             [](const bpf_subprog_info& sub, uint32_t start) { return sub.start < start; });
  if (at != subs.end() && at->start == uint32_t(off)) return Errno::None;
  if (subs.size() >= BPF_MAX_SUBPROGS) return reject(env, Errno::TooBig, "too many subprograms\n");
  subs.insert(at, bpf_subprog_info{.start = uint32_t(off), .name = {}});
  return Errno::None;
}

// A call of BTF id 0 is a kernel function that the loader did not find: it may stand in dead code.
static Errno add_kfunc_call(bpf_verifier_env& env, const bpf_insn& insn) {
  if (!env.prog.jit_requested)
    return reject(env, Errno::NotSupp, "JIT is required for calling kernel function\n");
  if (!env.prog.gpl_compatible)
    return reject(env, Errno::Inval, "cannot call kernel function from non-GPL compatible program\n");
  if (insn.imm == 0 && insn.off == 0) return Errno::None;
  return not_modelled(env, "a call of the kernel function with BTF id %d", insn.imm);
}

// Before there were functions, their code was never reached; before kernel functions, src_reg was reserved.
static Errno may_have_calls(bpf_verifier_env& env, const bpf_insn& insn, int64_t target) {
  const Version version = env.machine.version;
  if (bpf_pseudo_call(insn) && !has(Gate::bpf_calls, version))
    return reject(env, Errno::Inval, "unreachable insn %d\n", int(target));
  if (bpf_pseudo_kfunc_call(insn) && !has(Gate::kfuncs, version))
    return reject(env, Errno::Inval, "BPF_CALL uses reserved fields\n");
  if (env.bpf_capable) return Errno::None;
  return reject(
      env, Errno::Perm,
      has(Gate::cap_bpf, version)
          ? "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN\n"
          : "function calls to other bpf functions are allowed for root only\n");
}

Errno add_subprog_and_kfunc(bpf_verifier_env& env) {
  KFN(env.machine, add_subprog_and_kfunc);
  env.subprog_info.clear();
  MUST(add_subprog(env, 0));
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    const bpf_insn& insn = env.insns[i];
    bool function = bpf_pseudo_func(insn) || bpf_pseudo_call(insn);
    if (!function && !bpf_pseudo_kfunc_call(insn)) continue;
    MUST(may_have_calls(env, insn, int64_t(i) + insn.imm + 1));
    MUST(function ? add_subprog(env, int64_t(i) + insn.imm + 1) : add_kfunc_call(env, insn));
  }
  env.subprog_cnt = uint32_t(env.subprog_info.size());
  env.subprog_info.push_back({.start = env.insn_cnt(), .name = {}});
  if (log_level2(env))
    for (uint32_t i = 0; i < env.subprog_cnt; i++)
      verbose(env, "func#%u @%u\n", i, env.subprog_info[i].start);
  return Errno::None;
}

// Where a jump goes, or nothing for what does not jump inside its function.
static bool jump_target(const bpf_insn& insn, uint32_t at, int64_t& target) {
  if (!is_jmp(insn) || BPF_OP(insn.code) == BPF_EXIT || BPF_OP(insn.code) == BPF_CALL) return false;
  target = int64_t(at) + 1 + (insn.code == (BPF_JMP32 | BPF_JA) ? insn.imm : insn.off);
  return true;
}

Errno check_subprogs(bpf_verifier_env& env) {
  KFN(env.machine, check_subprogs);
  for (uint32_t s = 0; s < env.subprog_cnt; s++) {
    bpf_subprog_info& sub = env.subprog_info[s];
    const uint32_t end = env.subprog_info[s + 1].start;
    for (uint32_t i = sub.start; i < end; i++) {
      const bpf_insn& insn = env.insns[i];
      if (is_helper_call(insn) && insn.imm == BPF_FUNC_tail_call) {
        sub.has_tail_call = true;
        sub.tail_call_reachable = has(Gate::tail_call_main_reachable, env.machine.version);
      }
      uint8_t mode = BPF_MODE(insn.code);
      if (BPF_CLASS(insn.code) == BPF_LD && (mode == BPF_ABS || mode == BPF_IND)) sub.has_ld_abs = true;
      int64_t target;
      if (jump_target(insn, i, target) && (target < int64_t(sub.start) || target >= int64_t(end)))
        return reject(env, Errno::Inval, "jump out of range from insn %u to %d\n", i, int(target));
    }
    uint8_t last = env.insns[end - 1].code;
    if (last != (BPF_JMP | BPF_EXIT) && last != (BPF_JMP | BPF_JA) && last != (BPF_JMP32 | BPF_JA))
      return reject(env, Errno::Inval, "last insn is not an exit or jmp\n");
  }
  return Errno::None;
}

}  // namespace bpfsim
