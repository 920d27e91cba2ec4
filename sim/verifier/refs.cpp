// Models: kernel/bpf/verifier.c, acquire_reference(), release_reference() and check_resource_leak()
// (Linux 6.18)
//
// See refs.h. Not modelled yet: struct_ops programs, which may return a reference.
#include "verifier/refs.h"

#include "verifier/regs.h"

namespace bpfsim {

uint32_t acquire_reference(bpf_verifier_env& env, uint32_t insn_idx) {
  bpf_reference_state ref;
  ref.id = ++env.id_gen;
  ref.insn_idx = int(insn_idx);
  env.cur_state->refs.push_back(ref);
  return ref.id;
}

bool release_reference_nomark(bpf_verifier_state& state, uint32_t ref_obj_id) {
  for (auto ref = state.refs.begin(); ref != state.refs.end(); ++ref)
    if (ref->type == REF_TYPE_PTR && ref->id == ref_obj_id) {
      state.refs.erase(ref);
      return true;
    }
  return false;
}

bool release_reference(bpf_verifier_env& env, uint32_t ref_obj_id) {
  if (!release_reference_nomark(*env.cur_state, ref_obj_id)) return false;
  for_each_reg_in_vstate(*env.cur_state, [&](bpf_reg_state& reg) {
    if (reg.ref_obj_id == ref_obj_id) mark_reg_invalid(env, reg);
  });
  return true;
}

static bool references_lingering(bpf_verifier_env& env) {
  if (env.cur_func().frameno) return false;  // a callee's are the caller's to give back
  bool lingering = false;
  for (const bpf_reference_state& ref : env.cur_state->refs) {
    if (ref.type != REF_TYPE_PTR) continue;
    const char* text = "Unreleased reference id=%u alloc_insn=%d\n";
    lingering = reject(env, Errno::Inval, text, ref.id, ref.insn_idx) != Errno::None;
  }
  return lingering;
}

static const char* words_of(LeakAt at) {
  switch (at) {
    case LeakAt::Exit: return "BPF_EXIT instruction in main prog";
    case LeakAt::TailCall: return "tail_call";
    case LeakAt::LdAbs: return "BPF_LD_[ABS|IND]";
  }
  return "";
}

Errno check_resource_leak(bpf_verifier_env& env, bool check_lock, LeakAt at) {
  const bpf_verifier_state& state = *env.cur_state;
  const char* what = words_of(at);
  if (check_lock && state.active_locks)
    return reject(env, Errno::Inval, "%s cannot be used inside bpf_spin_lock-ed region\n", what);
  if (references_lingering(env)) {
    if (at == LeakAt::Exit && !has(Gate::leak_says_where, env.machine.version)) return Errno::Inval;
    return reject(env, Errno::Inval, "%s would lead to reference leak\n", what);
  }
  if (check_lock && state.active_irq_id)
    return reject(env, Errno::Inval, "%s cannot be used inside bpf_local_irq_save-ed region\n", what);
  if (check_lock && state.active_rcu_lock)
    return reject(env, Errno::Inval, "%s cannot be used inside bpf_rcu_read_lock-ed region\n", what);
  if (check_lock && state.active_preempt_locks)
    return reject(env, Errno::Inval, "%s cannot be used inside bpf_preempt_disable-ed region\n", what);
  return Errno::None;
}

}  // namespace bpfsim
