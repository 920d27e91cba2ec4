// Models: kernel/bpf/verifier.c, bpf_check() (Linux 6.18)
//
// The list of passes. The first half judges the program, the second makes of it what will run. The errno of a
// refusal comes with the last line that was logged as its reason, also when no log was asked for. Not
// modelled yet: offloaded programs.
#include "verifier/verifier.h"

#include <cstddef>

#include "verifier/attach_target.h"
#include "verifier/cfg.h"
#include "verifier/do_check.h"
#include "verifier/env.h"
#include "verifier/fixups.h"
#include "verifier/liveness.h"
#include "verifier/resolve.h"
#include "verifier/rewrite.h"
#include "verifier/subprogs.h"

namespace bpfsim {

namespace {
void who_loads(bpf_verifier_env& env) {
  bool perfmon = perfmon_capable(env.machine);
  env.bpf_capable = bpf_capable(env.machine);
  const Version version = env.machine.version;
  env.allow_ptr_leaks = env.allow_uninit_stack = env.bypass_spec_v4 = perfmon;
  env.allow_uninit_read = perfmon && has(Gate::uninit_stack_read, version);
  env.bypass_spec_v1 = perfmon || !has(Gate::spec_v1, version);
  env.tracks_precision = env.bpf_capable && has(Gate::precision_tracking, version);
  uint32_t flags = env.attr.prog_flags;
  env.strict_alignment = (flags & BPF_F_STRICT_ALIGNMENT) && !(flags & BPF_F_ANY_ALIGNMENT);
  env.test_state_freq = env.bpf_capable && (flags & BPF_F_TEST_STATE_FREQ);
  env.test_reg_invariants = flags & BPF_F_TEST_REG_INVARIANTS;
}

Errno check_program(bpf_verifier_env& env) {
  MUST(process_fd_array(env));
  env.mark_verifier_state_clean();
  env.explored_states.resize(env.insn_cnt());
  MUST(check_btf_info_early(env));
  MUST(add_subprog_and_kfunc(env));
  MUST(check_subprogs(env));
  MUST(check_btf_info(env));
  MUST(resolve_pseudo_ldimm64(env));
  rewrite_stage(env, "resolve_pseudo_ldimm64");
  MUST(check_cfg(env));
  MUST(compute_postorder(env));
  MUST(bpf_stack_liveness_init(env));
  MUST(check_attach_btf_id(env));
  MUST(compute_scc(env));
  MUST(compute_live_registers(env));
  MUST(mark_fastcall_patterns(env));
  MUST(do_check_main(env));
  return do_check_subprogs(env);
}

Errno rewrite_program(bpf_verifier_env& env) {
  MUST(remove_fastcall_spills_fills(env));
  MUST(check_max_stack_depth(env));
  MUST(optimize_bpf_loop(env));
  if (env.bpf_capable && has(Gate::dead_code_removal, env.machine.version)) {
    opt_hard_wire_dead_code_branches(env);
    MUST(opt_remove_dead_code(env));
    MUST(opt_remove_nops(env));
  } else if (has(Gate::dead_code_sanitize, env.machine.version)) {
    sanitize_dead_code(env);
  }
  MUST(convert_ctx_accesses(env));
  MUST(do_misc_fixups(env));
  MUST(opt_subreg_zext_lo32_rnd_hi32(env));
  return fixup_call_args(env);
}

void print_verification_stats(bpf_verifier_env& env) {
  if (env.log.level & BPF_LOG_STATS) {
    verbose(env, "verification time %lld usec\n", (long long)(env.verification_time / 1000));
    verbose(env, "stack depth ");
    for (uint32_t i = 0; i < env.subprog_cnt; i++)
      verbose(env, "%s%d", i ? "+" : "", env.subprog_info[i].stack_depth);
    verbose(env, "\n");
  }
  verbose(
      env,
      "processed %u insns (limit %u) max_states_per_insn %u total_states %u peak_states %u mark_read %u\n",
      env.insn_processed, env.limits.insns, env.max_states_per_insn, env.total_states, env.peak_states,
      env.longest_mark_read_walk);
}

Result<void> finish_log(bpf_verifier_env& env, UserAttr uattr, uint32_t uattr_size) {
  uint32_t log_true_size = 0;
  auto finalized = bpf_vlog_finalize(env.log, log_true_size);
  constexpr uint32_t place = offsetof(bpf_attr, log_true_size);
  if (uattr && uattr_size >= place + sizeof log_true_size)
    TRY(copy_to_user(env.machine, uattr + place, &log_true_size, sizeof log_true_size));
  return finalized;
}

void hand_over(bpf_verifier_env& env) {
  ProgAux& aux = *env.prog.aux;
  aux.used_maps = std::move(env.used_maps);
  aux.used_btfs = std::move(env.used_btfs);
  env.used_maps.clear();
  env.used_btfs.clear();
  aux.subprogs.clear();
  for (uint32_t i = 0; i < env.subprog_cnt; i++)
    aux.subprogs.push_back({env.subprog_info[i].start, env.subprog_info[i].stack_depth,
                            env.subprog_info[i].name,
                            i < env.func_info_aux.size() && env.func_info_aux[i].unreliable,
                            env.subprog_info[i].changes_pkt_data, env.subprog_info[i].might_sleep});
}
}  // namespace

Result<void> bpf_check(Prog& prog, const bpf_attr& attr, UserAttr uattr, uint32_t uattr_size) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_check);
  const uint64_t start_time = machine.clock.now_ns;
  bpf_verifier_env env(machine, prog, attr);
  env.uattr = uattr;
  env.ops = machine.calls && machine.calls->verifier_ops ? machine.calls->verifier_ops(prog.type) : nullptr;
  if (!env.ops) return refuse(Errno::Inval, "programs of type {} are not modelled", uint32_t(prog.type));
  who_loads(env);
  TRY(bpf_vlog_init(env.log, *machine.user, attr.log_level, attr.log_buf, attr.log_size, machine.version));

  rewrite_stage(env, "bpf_prog_load");
  Errno err = check_program(env);
  if (err == Errno::None) err = rewrite_program(env);
  if (prog.type == BPF_PROG_TYPE_EXT) prog.expected_attach_type = {};  // the target's was for the verifier
  env.verification_time = machine.clock.now_ns - start_time;
  print_verification_stats(env);
  prog.aux->verified_insns = env.insn_processed;

  auto logged = finish_log(env, uattr, uattr_size);
  if (!logged || err != Errno::None) release_used(env);
  if (!logged) return logged;
  if (err != Errno::None) {
    Refusal refusal = refuse(err, "{}", env.refusal);
    refusal.function = env.refused_in;
    return refusal;
  }
  hand_over(env);
  convert_pseudo_ld_imm64(env);
  adjust_btf_func(env);
  return {};
}

}  // namespace bpfsim
