// Models: kernel/bpf/verifier.c, is_state_visited() (Linux 6.18)
//
// At every prune point: must this path go on, and is its state worth keeping?
//
// - The states kept for the instruction are tried in turn. One below which every path has ended is known
//   to be safe: if it covers the current state (states.cpp), the path ends here.
// - One below which paths are open lies on the path that we walk: we came round a loop. That it covers the
//   current state shows only that one more round brings nothing new. This ends the path where something
//   else bounds the loop (may_goto counts, a callback is called so many times); where nothing has changed
//   and nothing bounds the loop, it is endless, and the program is refused.
// - A path that ends passes on what is precise in the state that covers it to the states it came from. If
//   that state lies in a loop that still has open paths, more may become precise: the end is kept as a
//   backedge of the loop and asked again when the loop is done.
// - A comparison costs more than a few instructions, so kept states stand apart: by two jumps and eight
//   instructions, in a loop by twenty jumps or a hundred instructions, since its rounds differ anyway. A
//   state is kept in any case at a checkpoint, and where the history of jumps has grown long.
// - A kept state that was compared in vain too often is dropped.
#include "verifier/prune.h"

#include "uapi/gates.h"
#include "verifier/backtrack.h"
#include "verifier/cfg.h"
#include "verifier/events.h"
#include "verifier/liveness.h"
#include "verifier/paths.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {
constexpr size_t kLongHistory = 40;

bpf_verifier_state_list*& explored_state(bpf_verifier_env& env, uint32_t idx) {
  uint32_t key = (idx ^ uint32_t(env.cur_func().callsite)) % uint32_t(env.explored_states.size());
  return env.explored_states[key];
}

// How far the walk has come since a state was last kept.
struct Distance {
  uint32_t jumps, insns;
  bool enough() const { return jumps >= 2 && insns >= 8; }
  bool enough_in_loop() const { return jumps >= 20 || insns >= 100; }
};

Distance since_last_kept(const bpf_verifier_env& env) {
  return {env.jmps_processed - env.prev_jmps_processed, env.insn_processed - env.prev_insn_processed};
}

bool must_keep(const bpf_verifier_env& env, uint32_t insn_idx) {
  return env.insn_aux_data[insn_idx].force_checkpoint || env.test_state_freq ||
         env.cur_state->jmp_history.size() > kLongHistory;
}

void forget(const bpf_verifier_env& env, bpf_stack_state& slot) {
  slot.slot_type.fill(STACK_INVALID);
  mark_reg_not_init(env, slot.spilled_ptr);
}

// What no later instruction reads need not be compared, ever again.
Errno clean_verifier_state(bpf_verifier_env& env, bpf_verifier_state& st) {
  MUST(bpf_live_stack_query_init(env, st));
  for (uint32_t fr = 0; fr <= st.curframe; fr++) {
    bpf_func_state& func = *st.frame[fr];
    const uint16_t live_regs = env.insn_aux_data[frame_insn_idx(st, fr)].live_regs_before;
    for (uint32_t reg = 0; reg < BPF_REG_FP; reg++)
      if (!(live_regs >> reg & 1)) mark_reg_not_init(env, func.regs[reg]);
    for (uint32_t slot = 0; slot < func.stack.size(); slot++)
      if (!bpf_stack_slot_alive(env, fr, slot)) forget(env, func.stack[slot]);
  }
  st.cleaned = true;
  return Errno::None;
}

// Of the states that we are about to be compared with, those whose future is known.
Errno clean_live_states(bpf_verifier_env& env, uint32_t insn_idx) {
  for (auto* sl = explored_state(env, insn_idx); sl; sl = sl->next) {
    const bool ours = sl->insn_idx == insn_idx && same_callsites(*sl, *env.cur_state);
    if (ours && !sl->cleaned && sl->branches == 0 && !incomplete_read_marks(env, *sl))
      MUST(clean_verifier_state(env, *sl));
  }
  return Errno::None;
}

// A look at the registers alone, which tells most rounds of a loop apart.
bool states_maybe_looping(const bpf_verifier_state& old, const bpf_verifier_state& cur) {
  if (old.curframe != cur.curframe) return false;
  const auto &was = old.cur().regs, &is = cur.cur().regs;
  return std::equal(was.begin(), was.end(), is.begin(), [](const auto& a, const auto& b) {
    return a.id == b.id && a.ref_obj_id == b.ref_obj_id && same_value(a, b);
  });
}

// An iterator that has moved on: the loop ends when it is drained. Asked of equal states only.
bool iter_active_depths_differ(const bpf_verifier_state& old, const bpf_verifier_state& cur) {
  auto moved_on = [](const bpf_stack_state& was, const bpf_stack_state& is) {
    const auto &before = was.spilled_ptr.iter, &now = is.spilled_ptr.iter;
    return was.slot_type[0] == STACK_ITER && before.state == BPF_ITER_STATE_ACTIVE &&
           before.depth != now.depth;
  };
  for (uint32_t fr = 0; fr <= old.curframe; fr++)
    for (size_t slot = 0; slot < old.frame[fr]->stack.size(); slot++)
      if (moved_on(old.frame[fr]->stack[slot], cur.frame[fr]->stack[slot])) return true;
  return false;
}

bool is_endless(bpf_verifier_env& env, const bpf_verifier_state& old, const bpf_verifier_state& cur) {
  return old.may_goto_depth == cur.may_goto_depth && old.callback_unroll_depth == cur.callback_unroll_depth &&
         states_maybe_looping(old, cur) && states_equal(env, old, cur, EXACT) &&
         !iter_active_depths_differ(old, cur);
}

Errno infinite_loop(bpf_verifier_env& env, const bpf_verifier_state& old, uint32_t insn_idx) {
  Errno err = reject(env, Errno::Inval, "infinite loop detected at insn %u\n", insn_idx);
  bpf_verifier_state& cur = *env.cur_state;
  verbose(env, "cur state:");
  print_verifier_state(env, cur, cur.curframe, true);
  verbose(env, "old state:");
  print_verifier_state(env, old, cur.curframe, true);
  return err;
}

enum class Covers { No, Yes, YesInLoop };  // in a loop: what is precise in the old state may still grow

Covers ask_finished(bpf_verifier_env& env, const bpf_verifier_state_list& old) {
  const bool in_loop = incomplete_read_marks(env, old);
  if (!states_equal(env, old, *env.cur_state, in_loop ? RANGE_WITHIN : NOT_EXACT)) return Covers::No;
  return in_loop ? Covers::YesInLoop : Covers::Yes;
}

Errno ask_unfinished(bpf_verifier_env& env, const bpf_verifier_state_list& old, uint32_t insn_idx,
                     Covers& covers) {
  const bpf_verifier_state& cur = *env.cur_state;
  const bpf_insn_aux_data& aux = env.insn_aux_data[insn_idx];
  const bool another_entry =
      old.cur().in_async_callback_fn && old.cur().async_entry_cnt != cur.cur().async_entry_cnt;
  if (another_entry) return Errno::None;
  if (aux.is_iter_next) return not_modelled(env, "convergence of iterator loops");

  const bool another_round = is_may_goto(env.insns[insn_idx]) && old.may_goto_depth != cur.may_goto_depth;
  if (another_round && states_equal(env, old, cur, RANGE_WITHIN)) {
    covers = Covers::YesInLoop;
  } else if (aux.calls_callback) {
    if (states_equal(env, old, cur, RANGE_WITHIN)) covers = Covers::Yes;
  } else if (is_endless(env, old, cur)) {
    return infinite_loop(env, old, insn_idx);
  }
  return Errno::None;
}

Errno end_path(bpf_verifier_env& env, bpf_verifier_state_list& old, uint32_t insn_idx, bool in_loop) {
  bpf_verifier_state& cur = *env.cur_state;
  ++old.hit_cnt;
  if (env.insn_aux_data[env.insn_idx].jmp_point) push_jmp_history(env, cur, 0);
  MUST(propagate_precision(env, old, cur, nullptr));
  emit<PathPruned>(env.machine, env, old);
  if (!in_loop) return Errno::None;

  auto backedge = std::make_unique<bpf_verifier_state>();
  copy_verifier_state(*backedge, cur);
  backedge->insn_idx = insn_idx;
  backedge->equal_state = &old;
  return add_scc_backedge(env, old, std::move(backedge));
}

// A checkpoint is what a loop's rounds are compared with: it gets more patience while its paths are open.
bool is_useless(const bpf_verifier_env& env, const bpf_verifier_state_list& old) {
  const bool checkpoint = env.insn_aux_data[old.insn_idx].force_checkpoint;
  const uint32_t patience = checkpoint && old.branches > 0 ? 64 : 3;
  return old.miss_cnt > patience * (1 + old.hit_cnt);
}

void drop_state(bpf_verifier_env& env, bpf_verifier_state_list& old) {
  unlink_state(&old);
  env.explored_states_size--;
  link_state(env.free_list, &old);
  env.free_list_size++;
  old.in_free_list = true;
  maybe_free_verifier_state(env, &old);
}

// What was precise so far was so for the states before; for the one that is kept it will show.
Errno keep_state(bpf_verifier_env& env, uint32_t insn_idx) {
  bpf_verifier_state& cur = *env.cur_state;
  if (env.bpf_capable) mark_all_scalars_imprecise(cur);

  auto kept = std::make_unique<bpf_verifier_state_list>();
  auto history = std::move(cur.jmp_history);  // the history up to here is the kept state's
  cur.jmp_history.clear();
  copy_verifier_state(*kept, cur);
  kept->jmp_history = std::move(history);
  kept->insn_idx = insn_idx;

  env.total_states++;
  env.explored_states_size++;
  update_peak_states(env);
  env.prev_jmps_processed = env.jmps_processed;
  env.prev_insn_processed = env.insn_processed;
  MUST(maybe_enter_scc(env, *kept));

  bpf_verifier_state_list* sl = kept.release();
  link_state(explored_state(env, insn_idx), sl);
  cur.parent = sl;
  cur.first_insn_idx = insn_idx;
  cur.dfs_depth = sl->dfs_depth + 1;
  return Errno::None;
}

bool too_many_states(const bpf_verifier_env& env, uint32_t states) {
  return !env.bpf_capable && states > BPF_COMPLEXITY_LIMIT_STATES &&
         has(Gate::states_limit, env.machine.version);
}
}  // namespace

Errno is_state_visited(bpf_verifier_env& env, uint32_t insn_idx, bool& pruned) {
  const Distance distance = since_last_kept(env);
  const bool forced = must_keep(env, insn_idx);
  bool keep = forced || distance.enough();
  uint32_t states = 0;
  pruned = false;

  MUST(clean_live_states(env, insn_idx));
  for (bpf_verifier_state_list *sl = explored_state(env, insn_idx), *next; sl; sl = next) {
    next = sl->next;
    ++states;
    if (sl->insn_idx != insn_idx) continue;  // another instruction's, in the same bucket

    const bool looping = sl->branches > 0;
    Covers covers = looping ? Covers::No : ask_finished(env, *sl);
    if (looping) MUST(ask_unfinished(env, *sl, insn_idx, covers));
    if (covers != Covers::No) {
      pruned = true;
      return end_path(env, *sl, insn_idx, covers == Covers::YesInLoop);
    }

    if (looping && !forced && !distance.enough_in_loop()) keep = false;
    if (keep) ++sl->miss_cnt;
    if (is_useless(env, *sl)) drop_state(env, *sl);
  }

  env.max_states_per_insn = std::max(env.max_states_per_insn, states);
  return keep && !too_many_states(env, states) ? keep_state(env, insn_idx) : Errno::None;
}

}  // namespace bpfsim
