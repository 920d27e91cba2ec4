// Models: kernel/bpf/verifier.c, copying states (Linux 6.18)
//
// A copy reuses what the target has allocated: the search copies a state at each branch and at each kept
// point.
#include "verifier/state.h"

namespace bpfsim {

void copy_func_state(bpf_func_state& dst, const bpf_func_state& src) { dst = src; }

void copy_verifier_state(bpf_verifier_state& dst, const bpf_verifier_state& src) {
  for (uint32_t i = src.curframe + 1; i < MAX_CALL_FRAMES && dst.frame[i]; i++) dst.frame[i].reset();
  for (uint32_t i = 0; i <= src.curframe; i++) {
    if (!dst.frame[i])
      dst.frame[i] = std::make_unique<bpf_func_state>(*src.frame[i]);
    else
      copy_func_state(*dst.frame[i], *src.frame[i]);
  }
  dst.jmp_history = src.jmp_history;
  dst.refs = src.refs;
  dst.active_locks = src.active_locks;
  dst.active_preempt_locks = src.active_preempt_locks;
  dst.active_irq_id = src.active_irq_id;
  dst.active_lock_id = src.active_lock_id;
  dst.active_lock_ptr = src.active_lock_ptr;
  dst.active_rcu_lock = src.active_rcu_lock;
  dst.speculative = src.speculative;
  dst.in_sleepable = src.in_sleepable;
  dst.cleaned = src.cleaned;
  dst.curframe = src.curframe;
  dst.branches = src.branches;
  dst.parent = src.parent;
  dst.first_insn_idx = src.first_insn_idx;
  dst.last_insn_idx = src.last_insn_idx;
  dst.dfs_depth = src.dfs_depth;
  dst.callback_unroll_depth = src.callback_unroll_depth;
  dst.may_goto_depth = src.may_goto_depth;
  dst.equal_state = src.equal_state;
  dst.path = src.path;
}

void init_func_state(bpf_func_state& state, int callsite, uint32_t frameno, uint32_t subprogno) {
  state = {};
  state.callsite = callsite;
  state.frameno = frameno;
  state.subprogno = subprogno;
  bpf_reg_state& fp = state.regs[BPF_REG_FP];
  mark_known(fp, 0);
  fp.type = PTR_TO_STACK;
  fp.frameno = frameno;
}

}  // namespace bpfsim
