// Models: kernel/bpf/verifier.c, compute_live_registers() (Linux 6.18)
//
// Which registers a later instruction may read: live before = (live after - written) + read, where live after
// is the union over the successors, until nothing changes. What a call reads is told by the helper's
// prototype.
#include "verifier/cfg.h"
#include "verifier/liveness.h"
#include "verifier/print_state.h"

namespace bpfsim {
namespace {

struct UseDef {
  uint16_t use = 0xffff, def = 0;  // what is not understood may read all
};

UseDef of_atomic(const bpf_insn& insn, uint16_t src, uint16_t dst) {
  switch (insn.imm) {
    case BPF_CMPXCHG: return {uint16_t(1 | dst | src), 1};
    case BPF_LOAD_ACQ: return {src, dst};
    case BPF_STORE_REL: return {uint16_t(dst | src), 0};
    default: return {uint16_t(dst | src), insn.imm & BPF_FETCH ? src : uint16_t(0)};
  }
}

UseDef of_jump(const bpf_verifier_env& env, const bpf_insn& insn, uint16_t operands) {
  switch (BPF_OP(insn.code)) {
    case BPF_JA:
    case BPF_JCOND: return {0, 0};
    case BPF_EXIT: return {1, 0};
    case BPF_CALL: {
      constexpr uint16_t caller_saved = (1 << CALLER_SAVED_REGS) - 1;
      std::optional<call_summary> call = get_call_summary(env, insn);
      uint16_t args = call ? uint16_t((2u << call->num_params) - 2) : uint16_t(caller_saved & ~1);
      return {args, caller_saved};
    }
    default: return {operands, 0};
  }
}

UseDef use_def(const bpf_verifier_env& env, const bpf_insn& insn) {
  const uint16_t src = uint16_t(1u << insn.src_reg), dst = uint16_t(1u << insn.dst_reg);
  const uint16_t operands = BPF_SRC(insn.code) == BPF_X ? uint16_t(src | dst) : dst;
  const uint8_t mode = BPF_MODE(insn.code);
  switch (BPF_CLASS(insn.code)) {
    case BPF_LD: return is_ld_imm64(insn) ? UseDef{0, dst} : UseDef{};
    case BPF_LDX: return mode == BPF_MEM || mode == BPF_MEMSX ? UseDef{src, dst} : UseDef{};
    case BPF_ST: return mode == BPF_MEM ? UseDef{dst, 0} : UseDef{};
    case BPF_STX:
      if (mode == BPF_MEM) return {uint16_t(dst | src), 0};
      return mode == BPF_ATOMIC ? of_atomic(insn, src, dst) : UseDef{};
    case BPF_ALU:
    case BPF_ALU64:
      if (BPF_OP(insn.code) == BPF_END) return {dst, dst};
      if (BPF_OP(insn.code) == BPF_MOV) return {BPF_SRC(insn.code) == BPF_X ? src : uint16_t(0), dst};
      return {operands, dst};
    default: return of_jump(env, insn, operands);
  }
}

void print_live_registers(bpf_verifier_env& env) {
  verbose(env, "Live regs before insn:\n");
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    const bpf_insn_aux_data& aux = env.insn_aux_data[i];
    aux.scc ? verbose(env, "%3u ", aux.scc) : verbose(env, "    ");
    char regs[BPF_REG_10 + 1] = {};
    for (int r = 0; r < BPF_REG_10; r++) regs[r] = aux.live_regs_before >> r & 1 ? char('0' + r) : '.';
    verbose(env, "%3u: %s ", i, regs);
    verbose_insn(env, i);
    if (is_ld_imm64(env.insns[i])) i++;
  }
}

}  // namespace

Errno compute_live_registers(bpf_verifier_env& env) {
  KFN(env.machine, compute_live_registers);
  std::vector<UseDef> effect(env.insn_cnt());
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    effect[i] = use_def(env, env.insns[i]);
    env.insn_aux_data[i].live_regs_before = 0;
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i : env.cfg.insn_postorder) {
      uint32_t succ[2] = {};
      int n = bpf_insn_successors(env.insns, i, succ);
      uint16_t after = 0;
      for (int s = 0; s < n; s++) after |= env.insn_aux_data[succ[s]].live_regs_before;
      uint16_t before = uint16_t((after & ~effect[i].def) | effect[i].use);
      changed |= before != env.insn_aux_data[i].live_regs_before;
      env.insn_aux_data[i].live_regs_before = before;
    }
  }
  // The data-flow never reaches what lies outside the post-order (the second half of an LD_IMM64).
  if (log_level2(env)) print_live_registers(env);
  return Errno::None;
}

}  // namespace bpfsim
