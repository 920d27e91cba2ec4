// Models: kernel/bpf/verifier.c, do_check() (Linux 6.18)
//
// See do_check.h. Not modelled yet: kernel functions.
#include "verifier/do_check.h"

#include "verifier/backtrack.h"
#include "verifier/branch.h"
#include "verifier/calls.h"
#include "verifier/events.h"
#include "verifier/exits.h"
#include "verifier/func_args.h"
#include "verifier/helper_call.h"
#include "verifier/ld_imm.h"
#include "verifier/linfo.h"
#include "verifier/liveness.h"
#include "verifier/mem.h"
#include "verifier/paths.h"
#include "verifier/print_state.h"
#include "verifier/prune.h"
#include "verifier/refs.h"
#include "verifier/regs.h"
#include "verifier/scalar_alu.h"

namespace bpfsim {

namespace {
// How the walk goes on after an instruction.
struct Walk {
  bool path_ends = false;
  bool print_state = false;  // the next line shows the whole state: we came from elsewhere
  int prev_insn_idx = -1;    // what env.prev_insn_idx will be for the next instruction
};

Errno check_st(bpf_verifier_env& env, const bpf_insn& insn) {
  if (BPF_MODE(insn.code) != BPF_MEM || insn.src_reg != BPF_REG_0)
    return reject(env, Errno::Inval, "BPF_ST uses reserved fields\n");
  MUST(check_reg_arg(env, insn.dst_reg, SRC_OP));
  uint32_t dst_type = env.cur_regs()[insn.dst_reg].type;
  if (dst_type == PTR_TO_CTX && !has(Gate::ctx_st, env.machine.version))
    return reject(env, Errno::Access, "BPF_ST stores into R%u %s is not allowed\n", unsigned{insn.dst_reg},
                  has(Gate::ctx_st_words, env.machine.version) ? "ctx" : "context");
  MUST(check_mem_access(env, env.insn_idx, insn.dst_reg, insn.off, BPF_SIZE(insn.code), BPF_WRITE, -1, false,
                        false));
  return save_aux_ptr_type(env, dst_type, false);
}

Errno check_stx(bpf_verifier_env& env, const bpf_insn& insn) {
  if (BPF_MODE(insn.code) == BPF_ATOMIC) return check_atomic(env, insn);
  if (BPF_MODE(insn.code) != BPF_MEM || insn.imm != 0)
    return reject(env, Errno::Inval, "BPF_STX uses reserved fields\n");
  return check_store_reg(env, insn, false);
}

Errno check_call(bpf_verifier_env& env, const bpf_insn& insn) {
  bool jmp32 = BPF_CLASS(insn.code) == BPF_JMP32;
  if (BPF_SRC(insn.code) != BPF_K || (insn.src_reg != BPF_PSEUDO_KFUNC_CALL && insn.off != 0) ||
      insn.src_reg > BPF_PSEUDO_KFUNC_CALL || insn.dst_reg != BPF_REG_0 || jmp32)
    return reject(env, Errno::Inval, "BPF_CALL uses reserved fields\n");
  if (env.cur_state->active_locks && !(insn.src_reg == 0 && insn.imm == BPF_FUNC_spin_unlock))
    return reject(env, Errno::Inval, "function calls are not allowed while holding a lock\n");
  if (insn.src_reg == BPF_PSEUDO_CALL)
    MUST(check_func_call(env, insn));
  else if (insn.src_reg != BPF_PSEUDO_KFUNC_CALL)
    MUST(check_helper_call(env, insn));
  else if (insn.imm != 0)  // 0 is one that the loader did not find; fixups.cpp refuses it if it stays
    return not_modelled(env, "calls of kernel functions");
  env.mark_reg_scratched(BPF_REG_0);
  return Errno::None;
}

Errno check_ja(bpf_verifier_env& env, const bpf_insn& insn) {
  bool jmp32 = BPF_CLASS(insn.code) == BPF_JMP32;
  if (BPF_SRC(insn.code) != BPF_K || insn.src_reg != BPF_REG_0 || insn.dst_reg != BPF_REG_0 ||
      (jmp32 ? insn.off != 0 : insn.imm != 0))
    return reject(env, Errno::Inval, "BPF_JA uses reserved fields\n");
  env.insn_idx += uint32_t(jmp32 ? insn.imm : insn.off);
  return Errno::None;
}

Errno check_exit(bpf_verifier_env& env, const bpf_insn& insn, Walk& walk) {
  if (BPF_SRC(insn.code) != BPF_K || insn.imm != 0 || insn.src_reg != BPF_REG_0 ||
      insn.dst_reg != BPF_REG_0 || BPF_CLASS(insn.code) == BPF_JMP32)
    return reject(env, Errno::Inval, "BPF_EXIT uses reserved fields\n");
  bool in_main = env.cur_state->curframe == 0;
  MUST(check_resource_leak(env, in_main, LeakAt::Exit));
  if (!in_main) {
    walk.print_state = true;
    MUST(prepare_func_exit(env));
    env.insn_idx--;  // the walk steps over it
    return Errno::None;
  }
  walk.path_ends = true;
  return check_return_code(env, BPF_REG_0);
}

Errno check_ld(bpf_verifier_env& env, const bpf_insn& insn) {
  uint8_t mode = BPF_MODE(insn.code);
  if (mode == BPF_ABS || mode == BPF_IND) return check_ld_abs(env, insn);
  if (mode != BPF_IMM) return reject(env, Errno::Inval, "invalid BPF_LD mode\n");
  MUST(check_ld_imm(env, insn));
  env.insn_idx++;  // its second slot
  if (!env.cur_state->speculative) env.cur_aux().seen = env.pass_cnt;
  return Errno::None;
}

// What an older kernel says of a form that came later: that fields which it does not use are set.
Errno refuse_newer_form(bpf_verifier_env& env, const bpf_insn& insn) {
  const bool alu = BPF_CLASS(insn.code) == BPF_ALU || BPF_CLASS(insn.code) == BPF_ALU64;
  if (BPF_CLASS(insn.code) == BPF_STX)
    return reject(env, Errno::Inval, "BPF_ATOMIC uses invalid atomic opcode %02x\n", unsigned(insn.imm));
  const char* what = !alu ? "CALL" : BPF_OP(insn.code) == BPF_MOV ? "MOV" : "ALU";
  return reject(env, Errno::Inval, "BPF_%s uses reserved fields\n", what);
}

Errno do_check_insn(bpf_verifier_env& env, const bpf_insn& insn, Walk& walk) {
  if (env.cur_aux().newer_form) return refuse_newer_form(env, insn);
  switch (BPF_CLASS(insn.code)) {
    case BPF_ALU:
    case BPF_ALU64: return check_alu_op(env, insn);
    case BPF_LDX: return check_load_mem(env, insn, false, BPF_MODE(insn.code) == BPF_MEMSX, true, "ldx");
    case BPF_STX: return check_stx(env, insn);
    case BPF_ST: return check_st(env, insn);
    case BPF_LD: return check_ld(env, insn);
    default: break;
  }
  env.jmps_processed++;
  switch (BPF_OP(insn.code)) {
    case BPF_CALL: return check_call(env, insn);
    case BPF_JA: return check_ja(env, insn);
    case BPF_EXIT: return check_exit(env, insn, walk);
    default: return check_cond_jmp_op(env, insn);
  }
}

const char* speculation(const bpf_verifier_env& env) {
  return env.cur_state->speculative ? " (speculative execution)" : "";
}

void log_pruned(bpf_verifier_env& env, bool came_from_elsewhere) {
  if (!log_level(env)) return;
  if (came_from_elsewhere)
    verbose(env, "\nfrom %d to %u%s: safe\n", env.prev_insn_idx, env.insn_idx, speculation(env));
  else
    verbose(env, "%u: safe\n", env.insn_idx);
}

void log_insn(bpf_verifier_env& env, Walk& walk) {
  const bpf_verifier_state& state = *env.cur_state;
  if (log_level2(env) && walk.print_state) {
    verbose(env, "\nfrom %d to %u%s:", env.prev_insn_idx, env.insn_idx, speculation(env));
    print_verifier_state(env, state, state.curframe, true);
    walk.print_state = false;
  }
  if (!log_level(env)) return;
  if (env.state_scratched()) print_insn_state(env, state, state.curframe);
  verbose_linfo(env, env.insn_idx, "; ");
  env.prev_log_pos = env.log.end_pos;
  verbose(env, "%u: ", env.insn_idx);
  verbose_insn(env, env.insn_idx);
  env.prev_insn_print_pos = env.log.end_pos - env.prev_log_pos;
  env.prev_log_pos = env.log.end_pos;
}

bool error_recoverable_with_nospec(Errno err) {
  return err == Errno::Perm || err == Errno::Access || err == Errno::Inval;
}

// One instruction of one path.
Errno do_check_insn(bpf_verifier_env& env, Walk& walk) {
  bpf_verifier_state& state = *env.cur_state;
  if (env.insn_idx >= env.insn_cnt())
    return reject(env, Errno::Fault, "invalid insn idx %u insn_cnt %u\n", env.insn_idx, env.insn_cnt());
  env.machine.clock.advance(Clock::kVerifier);
  if (++env.insn_processed > env.limits.insns)
    return reject(env, Errno::TooBig, "BPF program is too large. Processed %u insn\n", env.insn_processed);
  // signal_pending(): the host may ask a long walk to stop.
  if (env.insn_processed % 4096 == 0 && host_interrupts(env.machine))
    return reject(env, Errno::Again, "bpfsim: interrupted\n");
  const bpf_insn insn = env.insns[env.insn_idx];
  uint32_t insn_idx = env.insn_idx;
  state.last_insn_idx = uint32_t(env.prev_insn_idx);
  state.insn_idx = insn_idx;

  bpf_insn_aux_data& aux = env.insn_aux_data[insn_idx];
  if (aux.prune_point) {
    MUST(is_state_visited(env, insn_idx, walk.path_ends));
    if (walk.path_ends) {
      log_pruned(env, walk.print_state);
      return Errno::None;
    }
  }
  if (aux.jmp_point) push_jmp_history(env, state, 0);
  log_insn(env, walk);
  emit<VerifierStep>(env.machine, env);
  if (!state.speculative) aux.seen = env.pass_cnt;
  walk.prev_insn_idx = int(insn_idx);
  if (state.speculative && aux.nospec) {  // a barrier stands here: nothing speculates past it
    walk.path_ends = true;
    return Errno::None;
  }

  MUST(bpf_reset_stack_write_marks(env, insn_idx));
  Errno err = do_check_insn(env, insn, walk);
  if (err == Errno::None || error_recoverable_with_nospec(err)) MUST(bpf_commit_stack_write_marks(env));
  if (error_recoverable_with_nospec(err) && env.cur_state->speculative) {
    // What is wrong only for a mispredicting CPU is kept from it by a barrier.
    aux.nospec = true;
    aux.alu_state = 0;
    walk.path_ends = true;
    return Errno::None;
  }
  MUST(err);
  if (walk.path_ends) return Errno::None;
  env.insn_idx++;
  if (env.cur_state->speculative && aux.nospec_result) {
    bool jump = is_jmp(insn) && BPF_OP(insn.code) != BPF_CALL;
    if (jump)
      return verifier_bug(env, "speculation barrier after jump instruction may not have the desired effect");
    walk.path_ends = true;
  }
  return Errno::None;
}

Errno do_check(bpf_verifier_env& env) {
  KFN(env.machine, do_check);
  bool pop_log = !log_level2(env);
  Walk walk;
  for (;;) {
    env.cur_hist_ent = -1;
    env.prev_insn_idx = walk.prev_insn_idx;
    walk.path_ends = false;
    MUST(do_check_insn(env, walk));
    if (!walk.path_ends) continue;

    emit<PathEnded>(env.machine, env, "safe");
    env.mark_verifier_state_scratched();
    MUST(update_branch_counts(env, env.cur_state.get()));
    MUST(bpf_update_live_stack(env));
    if (!pop_stack(env, walk.prev_insn_idx, pop_log)) return Errno::None;
    walk.print_state = true;
  }
}

Errno do_check_common(bpf_verifier_env& env, uint32_t subprog) {
  KFN(env.machine, do_check_common);
  env.prev_linfo = nullptr;
  env.pass_cnt++;
  env.cur_state = std::make_unique<bpf_verifier_state>();
  bpf_verifier_state& state = *env.cur_state;
  state.branches = 1;
  state.in_sleepable = env.prog.aux->sleepable;
  state.frame[0] = std::make_unique<bpf_func_state>();
  init_func_state(*state.frame[0], BPF_MAIN_FUNC, 0, subprog);
  env.mark_verifier_state_scratched();  // the first line shows all of it
  state.first_insn_idx = env.subprog_info[subprog].start;
  state.last_insn_idx = uint32_t(-1);

  Errno err = Errno::None;
  if (subprog || env.prog.type == BPF_PROG_TYPE_EXT) {
    verbose(env, "Validating %s() func#%u...\n", env.subprog_info[subprog].name.c_str(), subprog);
    err = set_func_args(env, subprog);
  } else {
    judge_main_func(env);
    bpf_reg_state& ctx = state.frame[0]->regs[BPF_REG_1];
    ctx.type = PTR_TO_CTX;
    mark_reg_known_zero(ctx);
  }
  if (err == Errno::None) err = do_check(env);
  if (err == Errno::None && !log_level2(env)) bpf_vlog_reset(env.log, 0);
  free_states(env);
  return err;
}
}  // namespace

Errno do_check_main(bpf_verifier_env& env) {
  KFN(env.machine, do_check_main);
  env.insn_idx = 0;
  MUST(do_check_common(env, 0));
  env.prog.aux->stack_depth = env.subprog_info[0].stack_depth;
  return Errno::None;
}

Errno do_check_subprogs(bpf_verifier_env& env) {
  KFN(env.machine, do_check_subprogs);
  // A function that was verified may have called others, before it or behind it.
  for (bool again = true; again;) {
    again = false;
    for (uint32_t i = 1; i < env.subprog_cnt; i++) {
      if (!subprog_is_global(env, i) || !env.func_info_aux[i].called || env.func_info_aux[i].verified)
        continue;
      env.insn_idx = env.subprog_info[i].start;
      MUST(do_check_common(env, i));
      if (log_level(env))
        verbose(env, "Func#%u ('%s') is safe for any args that match its prototype\n", i,
                env.subprog_info[i].name.c_str());
      env.func_info_aux[i].verified = again = true;
    }
  }
  return Errno::None;
}

}  // namespace bpfsim
