// Models: kernel/bpf/verifier.c, is_state_visited() and states_equal() (Linux 6.18)
//
// See prune.h. An old state covers a new one if it allowed at least as much in everything that later
// instructions read and that the verdict rested on: wider ranges, the same pointers, ids that correspond one
// to one.
#include "verifier/prune.h"

#include "uapi/gates.h"
#include "verifier/backtrack.h"
#include "verifier/events.h"
#include "verifier/liveness.h"
#include "verifier/paths.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {
// Ids of the two states correspond when each old one stands for one new one throughout. 0 stands for none.
bool check_ids(uint32_t old_id, uint32_t cur_id, bpf_idmap& idmap) {
  if (!old_id != !cur_id) return false;
  if (old_id == 0) return true;
  for (uint32_t i = 0; i < idmap.count; i++) {
    if (idmap.map[i].old == old_id) return idmap.map[i].cur == cur_id;
    if (idmap.map[i].cur == cur_id) return false;
  }
  if (idmap.count == std::size(idmap.map)) return false;
  idmap.map[idmap.count++] = {old_id, cur_id};
  return true;
}

// A scalar without id has only itself for kin: give it one for the time of the comparison.
bool check_scalar_ids(uint32_t old_id, uint32_t cur_id, bpf_idmap& idmap) {
  if (!old_id) return true;
  cur_id = cur_id ? cur_id : ++idmap.tmp_id_gen;
  if (!check_ids(old_id, cur_id, idmap)) return false;
  if (!(old_id & BPF_ADD_CONST)) return true;
  return check_ids(old_id & ~BPF_ADD_CONST, cur_id & ~BPF_ADD_CONST, idmap);  // the kin itself, too
}

bool range_within(const bpf_reg_state& old, const bpf_reg_state& cur) {
  return old.r64.holds(cur.r64) && old.r32.holds(cur.r32);
}

bool regs_exact(const bpf_reg_state& old, const bpf_reg_state& cur, bpf_idmap& idmap) {
  return same_value(old, cur) && check_ids(old.id, cur.id, idmap) &&
         check_ids(old.ref_obj_id, cur.ref_obj_id, idmap);
}

bool scalar_safe(const bpf_verifier_env& env, const bpf_reg_state& old, const bpf_reg_state& cur,
                 bpf_idmap& idmap, exact_level exact) {
  if (env.explore_alu_limits) return same_value(old, cur) && check_scalar_ids(old.id, cur.id, idmap);
  const bool may_differ = !old.precise && has(Gate::precision_tracking, env.machine.version);
  if (may_differ && exact == NOT_EXACT) return true;
  if (old.id && (old.id & BPF_ADD_CONST) != (cur.id & BPF_ADD_CONST)) return false;
  if ((old.id & BPF_ADD_CONST) && old.off != cur.off) return false;
  if (!check_scalar_ids(old.id, cur.id, idmap)) return false;
  return range_within(old, cur) && tnum_in(old.var_off, cur.var_off);
}

bool packet_safe(const bpf_reg_state& old, const bpf_reg_state& cur, bpf_idmap& idmap) {
  if (old.range < 0 || cur.range < 0) {
    if (old.range != cur.range) return false;
  } else if (old.range > cur.range) {
    return false;
  }
  return old.off == cur.off && check_ids(old.id, cur.id, idmap) && range_within(old, cur) &&
         tnum_in(old.var_off, cur.var_off);
}

bool regsafe(const bpf_verifier_env& env, const bpf_reg_state& old, const bpf_reg_state& cur,
             bpf_idmap& idmap, exact_level exact) {
  if (exact == EXACT) return regs_exact(old, cur, idmap);
  if (old.type == NOT_INIT && (exact == NOT_EXACT || cur.type == NOT_INIT)) return true;
  if (old.type != cur.type) return false;
  switch (base_type(old.type)) {
    case SCALAR_VALUE: return scalar_safe(env, old, cur, idmap, exact);
    case PTR_TO_MAP_KEY:
    case PTR_TO_MAP_VALUE:
    case PTR_TO_MEM:
    case PTR_TO_BUF:
    case PTR_TO_TP_BUFFER:
      return same_kind(old, cur) && range_within(old, cur) && tnum_in(old.var_off, cur.var_off) &&
             check_ids(old.id, cur.id, idmap) && check_ids(old.ref_obj_id, cur.ref_obj_id, idmap);
    case PTR_TO_PACKET_META:
    case PTR_TO_PACKET: return packet_safe(old, cur, idmap);
    case PTR_TO_STACK: return regs_exact(old, cur, idmap) && old.frameno == cur.frameno;
    case PTR_TO_ARENA: return true;
    default: return regs_exact(old, cur, idmap);
  }
}

bool is_stack_all_misc(const bpf_verifier_env& env, const bpf_stack_state& slot) {
  for (bpf_stack_slot_type type : slot.slot_type)
    if (type != STACK_MISC && !(type == STACK_INVALID && env.allow_uninit_read)) return false;
  return true;
}

// A slot of eight bytes that reads as some number: a spilled scalar, or bytes of which nothing is known.
const bpf_reg_state* scalar_reg_for_stack(const bpf_verifier_env& env, const bpf_stack_state& slot) {
  static const bpf_reg_state unbound = [] {
    bpf_reg_state reg;
    mark_reg_unknown_imprecise(reg);
    return reg;
  }();
  if (slot.is_spilled_scalar_reg64()) return &slot.spilled_ptr;
  return is_stack_all_misc(env, slot) ? &unbound : nullptr;
}

bool special_slot_safe(const bpf_verifier_env& env, const bpf_stack_state& old, const bpf_stack_state& cur,
                       bpf_idmap& idmap, exact_level exact) {
  const bpf_reg_state &a = old.spilled_ptr, &b = cur.spilled_ptr;
  switch (old.top()) {
    case STACK_SPILL: return regsafe(env, a, b, idmap, exact);
    case STACK_DYNPTR:
      return a.dynptr.type == b.dynptr.type && a.dynptr.first_slot == b.dynptr.first_slot &&
             check_ids(a.ref_obj_id, b.ref_obj_id, idmap);
    case STACK_ITER:
      return a.iter.btf == b.iter.btf && a.iter.btf_id == b.iter.btf_id && a.iter.state == b.iter.state &&
             check_ids(a.ref_obj_id, b.ref_obj_id, idmap);
    case STACK_IRQ_FLAG: return check_ids(a.ref_obj_id, b.ref_obj_id, idmap) && a.raw.raw1 == b.raw.raw1;
    default: return true;
  }
}

bool stacksafe(const bpf_verifier_env& env, const bpf_func_state& old, const bpf_func_state& cur,
               bpf_idmap& idmap, exact_level exact) {
  for (int i = 0; i < old.allocated_stack(); i++) {
    const bpf_stack_state& a = old.stack[size_t(i / BPF_REG_SIZE)];
    bool there = i < cur.allocated_stack();
    int byte = i % BPF_REG_SIZE;
    if (exact != NOT_EXACT &&
        (!there || a.slot_type[size_t(byte)] != cur.stack[size_t(i / BPF_REG_SIZE)].slot_type[size_t(byte)]))
      return false;
    bpf_stack_slot_type type = a.slot_type[size_t(byte)];
    if (type == STACK_INVALID || (env.allow_uninit_read && type == STACK_MISC)) continue;
    if (!there) return false;
    const bpf_stack_state& b = cur.stack[size_t(i / BPF_REG_SIZE)];
    const bpf_reg_state *old_reg = scalar_reg_for_stack(env, a), *cur_reg = scalar_reg_for_stack(env, b);
    if (old_reg && cur_reg) {
      if (!regsafe(env, *old_reg, *cur_reg, idmap, exact)) return false;
      i += BPF_REG_SIZE - 1;
      continue;
    }
    if (type == STACK_MISC && b.slot_type[size_t(byte)] == STACK_ZERO) continue;
    if (type != b.slot_type[size_t(byte)]) return false;
    if (byte == BPF_REG_SIZE - 1 && !special_slot_safe(env, a, b, idmap, exact)) return false;
  }
  return true;
}

bool refsafe(const bpf_verifier_state& old, const bpf_verifier_state& cur, bpf_idmap& idmap) {
  if (old.refs.size() != cur.refs.size() || old.active_locks != cur.active_locks ||
      old.active_preempt_locks != cur.active_preempt_locks || old.active_rcu_lock != cur.active_rcu_lock)
    return false;
  if (!check_ids(old.active_irq_id, cur.active_irq_id, idmap)) return false;
  if (!check_ids(old.active_lock_id, cur.active_lock_id, idmap) || old.active_lock_ptr != cur.active_lock_ptr)
    return false;
  for (size_t i = 0; i < old.refs.size(); i++) {
    const bpf_reference_state &a = old.refs[i], &b = cur.refs[i];
    if (!check_ids(a.id, b.id, idmap) || a.type != b.type) return false;
    bool lock = a.type != REF_TYPE_PTR && a.type != REF_TYPE_IRQ;
    if (lock && a.ptr != b.ptr) return false;
  }
  return true;
}

bool func_states_equal(bpf_verifier_env& env, const bpf_func_state& old, const bpf_func_state& cur,
                       uint32_t insn_idx, exact_level exact) {
  if (old.callback_depth > cur.callback_depth) return false;
  uint16_t live_regs = env.insn_aux_data[insn_idx].live_regs_before;
  for (uint32_t i = 0; i < MAX_BPF_REG; i++)
    if ((live_regs >> i & 1) && !regsafe(env, old.regs[i], cur.regs[i], env.idmap_scratch, exact))
      return false;
  return stacksafe(env, old, cur, env.idmap_scratch, exact);
}

bool same_callsites(const bpf_verifier_state& a, const bpf_verifier_state& b) {
  if (a.curframe != b.curframe) return false;
  for (uint32_t i = 0; i <= a.curframe; i++)
    if (a.frame[i]->callsite != b.frame[i]->callsite) return false;
  return true;
}

bpf_verifier_state_list*& explored_state(bpf_verifier_env& env, uint32_t idx) {
  uint32_t key = (idx ^ uint32_t(env.cur_func().callsite)) % uint32_t(env.explored_states.size());
  return env.explored_states[key];
}

// A finished state forgets what is dead at its instruction.
Errno clean_verifier_state(bpf_verifier_env& env, bpf_verifier_state& st) {
  MUST(bpf_live_stack_query_init(env, st));
  st.cleaned = true;
  for (uint32_t fr = 0; fr <= st.curframe; fr++) {
    bpf_func_state& func = *st.frame[fr];
    uint16_t live_regs = env.insn_aux_data[frame_insn_idx(st, fr)].live_regs_before;
    for (uint32_t i = 0; i < BPF_REG_FP; i++)
      if (!(live_regs >> i & 1)) mark_reg_not_init(env, func.regs[i]);
    for (uint32_t i = 0; i < func.stack.size(); i++)
      if (!bpf_stack_slot_alive(env, fr, i)) {
        mark_reg_not_init(env, func.stack[i].spilled_ptr);
        func.stack[i].slot_type.fill(STACK_INVALID);
      }
  }
  return Errno::None;
}

Errno clean_live_states(bpf_verifier_env& env, uint32_t insn_idx, const bpf_verifier_state& cur) {
  for (auto* sl = explored_state(env, insn_idx); sl; sl = sl->next) {
    if (sl->branches || sl->insn_idx != insn_idx || sl->cleaned || !same_callsites(*sl, cur)) continue;
    if (!incomplete_read_marks(env, *sl)) MUST(clean_verifier_state(env, *sl));
  }
  return Errno::None;
}

// Cheap and strict: only a state that has not moved at all can be an endless loop.
bool states_maybe_looping(const bpf_verifier_state& old, const bpf_verifier_state& cur) {
  if (old.curframe != cur.curframe) return false;
  for (uint32_t i = 0; i < MAX_BPF_REG; i++) {
    const bpf_reg_state &a = old.cur().regs[i], &b = cur.cur().regs[i];
    if (!same_value(a, b) || a.id != b.id || a.ref_obj_id != b.ref_obj_id) return false;
  }
  return true;
}

bool iter_active_depths_differ(const bpf_verifier_state& old, const bpf_verifier_state& cur) {
  for (uint32_t fr = 0; fr <= old.curframe; fr++)
    for (size_t i = 0; i < old.frame[fr]->stack.size(); i++) {
      const bpf_stack_state& slot = old.frame[fr]->stack[i];
      if (slot.slot_type[0] != STACK_ITER || slot.spilled_ptr.iter.state != BPF_ITER_STATE_ACTIVE) continue;
      if (cur.frame[fr]->stack[i].spilled_ptr.iter.depth != slot.spilled_ptr.iter.depth) return true;
    }
  return false;
}

enum class Visit { Hit, HitLoop, Miss };

Errno infinite_loop(bpf_verifier_env& env, bpf_verifier_state& old, uint32_t insn_idx) {
  bpf_verifier_state& cur = *env.cur_state;
  Errno err = reject(env, Errno::Inval, "infinite loop detected at insn %u\n", insn_idx);
  verbose(env, "cur state:");
  print_verifier_state(env, cur, cur.curframe, true);
  verbose(env, "old state:");
  print_verifier_state(env, old, cur.curframe, true);
  return err;
}

bool is_may_goto(const bpf_insn& insn) {
  return insn.code == (BPF_JMP | BPF_JCOND) && insn.src_reg == BPF_MAY_GOTO;
}

// The old state is on the current path: we came round a loop. No proof of safety yet, but perhaps of
// endlessness.
Errno visit_unfinished(bpf_verifier_env& env, bpf_verifier_state_list& old, uint32_t insn_idx, Visit& visit) {
  bpf_verifier_state& cur = *env.cur_state;
  const bpf_insn_aux_data& aux = env.insn_aux_data[insn_idx];
  visit = Visit::Miss;
  if (old.cur().in_async_callback_fn && old.cur().async_entry_cnt != cur.cur().async_entry_cnt)
    return Errno::None;
  if (aux.is_iter_next) return not_modelled(env, "convergence of iterator loops");
  if (is_may_goto(env.insns[insn_idx]) && old.may_goto_depth != cur.may_goto_depth &&
      states_equal(env, old, cur, RANGE_WITHIN)) {
    visit = Visit::HitLoop;
    return Errno::None;
  }
  if (aux.calls_callback) {
    if (states_equal(env, old, cur, RANGE_WITHIN)) visit = Visit::Hit;
    return Errno::None;
  }
  if (states_maybe_looping(old, cur) && states_equal(env, old, cur, EXACT) &&
      !iter_active_depths_differ(old, cur) && old.may_goto_depth == cur.may_goto_depth &&
      old.callback_unroll_depth == cur.callback_unroll_depth)
    return infinite_loop(env, old, insn_idx);
  return Errno::None;
}

// The path ends here. Its own history learns what was precise in the state that covers it.
Errno state_hit(bpf_verifier_env& env, bpf_verifier_state_list& old, uint32_t insn_idx, bool loop) {
  bpf_verifier_state& cur = *env.cur_state;
  old.hit_cnt++;
  if (env.insn_aux_data[env.insn_idx].jmp_point) push_jmp_history(env, cur, 0, 0);
  MUST(propagate_precision(env, old, cur, nullptr));
  emit<PathPruned>(env.machine, env, old);
  if (!loop) return Errno::None;
  auto backedge = std::make_unique<bpf_verifier_state>();
  copy_verifier_state(*backedge, cur);
  backedge->equal_state = &old;
  backedge->insn_idx = insn_idx;
  return add_scc_backedge(env, old, std::move(backedge));
}

// A state that never prunes anything only costs time.
void state_miss(bpf_verifier_env& env, bpf_verifier_state_list& old, uint32_t insn_idx, bool counts) {
  if (counts) old.miss_cnt++;
  uint32_t n = env.insn_aux_data[insn_idx].force_checkpoint && old.branches > 0 ? 64 : 3;
  if (old.miss_cnt <= old.hit_cnt * n + n) return;
  old.in_free_list = true;
  unlink_state(&old);
  link_state(env.free_list, &old);
  env.free_list_size++;
  env.explored_states_size--;
  maybe_free_verifier_state(env, &old);
}

Errno keep_state(bpf_verifier_env& env, uint32_t insn_idx) {
  bpf_verifier_state& cur = *env.cur_state;
  env.total_states++;
  env.explored_states_size++;
  update_peak_states(env);
  env.prev_jmps_processed = env.jmps_processed;
  env.prev_insn_processed = env.insn_processed;
  if (env.bpf_capable) mark_all_scalars_imprecise(cur);

  auto kept = std::make_unique<bpf_verifier_state_list>();
  auto history = std::move(cur.jmp_history);  // the history up to here is the kept state's
  cur.jmp_history.clear();
  copy_verifier_state(*kept, cur);
  kept->jmp_history = std::move(history);
  kept->insn_idx = insn_idx;
  MUST(maybe_enter_scc(env, *kept));

  bpf_verifier_state_list* sl = kept.release();
  cur.parent = sl;
  cur.first_insn_idx = insn_idx;
  cur.dfs_depth = sl->dfs_depth + 1;
  link_state(explored_state(env, insn_idx), sl);
  return Errno::None;
}
}  // namespace

bool states_equal(bpf_verifier_env& env, bpf_verifier_state& old, bpf_verifier_state& cur,
                  exact_level exact) {
  if (old.curframe != cur.curframe) return false;
  env.idmap_scratch.tmp_id_gen = env.id_gen;
  env.idmap_scratch.count = 0;
  if (old.speculative && !cur.speculative) return false;
  if (old.in_sleepable != cur.in_sleepable) return false;
  if (!refsafe(old, cur, env.idmap_scratch)) return false;
  for (uint32_t i = 0; i <= old.curframe; i++) {
    if (old.frame[i]->callsite != cur.frame[i]->callsite) return false;
    if (!func_states_equal(env, *old.frame[i], *cur.frame[i], frame_insn_idx(old, i), exact)) return false;
  }
  return true;
}

Errno is_state_visited(bpf_verifier_env& env, uint32_t insn_idx, bool& pruned) {
  bpf_verifier_state& cur = *env.cur_state;
  pruned = false;
  bool force_new_state =
      env.test_state_freq || env.insn_aux_data[insn_idx].force_checkpoint || cur.jmp_history.size() > 40;
  uint32_t jumps = env.jmps_processed - env.prev_jmps_processed;
  uint32_t insns = env.insn_processed - env.prev_insn_processed;
  bool add_new_state = force_new_state || (jumps >= 2 && insns >= 8);

  MUST(clean_live_states(env, insn_idx, cur));
  uint32_t states_cnt = 0;
  bpf_verifier_state_list* next;
  for (auto* sl = explored_state(env, insn_idx); sl; sl = next) {
    next = sl->next;
    states_cnt++;
    if (sl->insn_idx != insn_idx) continue;
    Visit visit;
    if (sl->branches) {
      MUST(visit_unfinished(env, *sl, insn_idx, visit));
      if (visit == Visit::Miss && !force_new_state && jumps < 20 && insns < 100) add_new_state = false;
    } else {
      bool loop = incomplete_read_marks(env, *sl);
      bool covered = states_equal(env, *sl, cur, loop ? RANGE_WITHIN : NOT_EXACT);
      visit = !covered ? Visit::Miss : loop ? Visit::HitLoop : Visit::Hit;
    }
    if (visit != Visit::Miss) {
      pruned = true;
      return state_hit(env, *sl, insn_idx, visit == Visit::HitLoop);
    }
    state_miss(env, *sl, insn_idx, add_new_state);
  }
  env.max_states_per_insn = std::max(env.max_states_per_insn, states_cnt);
  if (!env.bpf_capable && states_cnt > BPF_COMPLEXITY_LIMIT_STATES &&
      has(Gate::states_limit, env.machine.version))
    return Errno::None;
  return add_new_state ? keep_state(env, insn_idx) : Errno::None;
}

}  // namespace bpfsim
