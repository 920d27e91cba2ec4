// Models: kernel/bpf/verifier.c, check_func_call() and prepare_func_exit() (Linux 6.18)
//
// See calls.h. Not modelled yet: callbacks.
#include "verifier/calls.h"

#include "verifier/func_args.h"
#include "verifier/helper_call.h"
#include "verifier/liveness.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"

namespace bpfsim {

static Errno setup_func_entry(bpf_verifier_env& env, uint32_t subprog, uint32_t callsite) {
  bpf_verifier_state& state = *env.cur_state;
  if (state.curframe + 1 >= MAX_CALL_FRAMES)
    return reject(env, Errno::TooBig, "the call stack of %u frames is too deep\n", state.curframe + 2);
  const bpf_func_state& caller = state.cur();
  auto callee = std::make_unique<bpf_func_state>();
  init_func_state(*callee, int(callsite), state.curframe + 1, subprog);
  for (uint32_t i = BPF_REG_1; i <= BPF_REG_5; i++) callee->regs[i] = caller.regs[i];
  state.frame[++state.curframe] = std::move(callee);
  env.mark_verifier_state_scratched();  // its first line shows all of it
  return Errno::None;
}

// A global function is verified on its own, later: here it gives some number back.
static Errno global_call(bpf_verifier_env& env, uint32_t subprog, Errno args) {
  const bpf_verifier_state& state = *env.cur_state;
  const bpf_subprog_info& sub = env.subprog_info[subprog];
  if (state.active_locks)
    return reject(env, Errno::Inval,
                  "global function calls are not allowed while holding a lock,\n"
                  "use static function instead\n");
  const bool must_not_sleep =
      state.active_rcu_lock || state.active_preempt_locks || state.active_irq_id || !state.in_sleepable;
  if (sub.might_sleep && must_not_sleep)
    return reject(env, Errno::Inval,
                  "global functions that may sleep are not allowed in non-sleepable context,\n"
                  "i.e., in a RCU/IRQ/preempt-disabled section, or in\n"
                  "a non-sleepable BPF program context\n");
  if (args != Errno::None)
    return reject(env, args, "Caller passes invalid args into func#%u ('%s')\n", subprog, sub.name.c_str());
  verbose(env, "Func#%u ('%s') is global and assumed valid.\n", subprog, sub.name.c_str());
  if (sub.changes_pkt_data) clear_all_pkt_pointers(env);
  env.func_info_aux[subprog].called = true;
  clear_caller_saved_regs(env, env.cur_regs());
  mark_reg_unknown(env, env.cur_regs()[BPF_REG_0]);
  env.cur_regs()[BPF_REG_0].subreg_def = DEF_NOT_SUBREG;
  return Errno::None;
}

Errno check_func_call(bpf_verifier_env& env, const bpf_insn& insn) {
  bpf_verifier_state& state = *env.cur_state;
  int target = int(env.insn_idx) + insn.imm + 1;
  int subprog = find_subprog(env, uint32_t(target));
  if (subprog < 0) return verifier_bug(env, "target of func call at insn %d is not a program", target);
  const Errno args = btf_check_subprog_call(env, uint32_t(subprog));
  if (args == Errno::Fault) return args;
  if (subprog_is_global(env, uint32_t(subprog))) return global_call(env, uint32_t(subprog), args);

  bpf_func_state& caller = state.cur();
  MUST(setup_func_entry(env, uint32_t(subprog), env.insn_idx));
  clear_caller_saved_regs(env, caller.regs);
  env.insn_idx = env.subprog_info[size_t(subprog)].start - 1;  // the walk goes on behind it
  bpf_reset_live_stack_callchain(env);
  if (log_level(env)) {
    verbose(env, "caller:\n");
    print_verifier_state(env, state, caller.frameno, true);
    verbose(env, "callee:\n");
    print_verifier_state(env, state, state.curframe, true);
  }
  return Errno::None;
}

Errno prepare_func_exit(bpf_verifier_env& env) {
  MUST(bpf_update_live_stack(env));
  bpf_verifier_state& state = *env.cur_state;
  bpf_func_state& callee = state.cur();
  const bpf_reg_state& r0 = callee.regs[BPF_REG_0];
  if (r0.type == PTR_TO_STACK)  // that stack is about to go
    return reject(env, Errno::Inval, "cannot return stack pointer to the caller\n");
  bpf_func_state& caller = *state.frame[state.curframe - 1];
  caller.regs[BPF_REG_0] = r0;
  env.insn_idx = uint32_t(callee.callsite) + 1;
  if (log_level(env)) {
    verbose(env, "returning from callee:\n");
    print_verifier_state(env, state, callee.frameno, true);
    verbose(env, "to caller at %u:\n", env.insn_idx);
    print_verifier_state(env, state, caller.frameno, true);
  }
  state.frame[state.curframe--].reset();
  return Errno::None;
}

}  // namespace bpfsim
