// Models: kernel/bpf/verifier.c, states_equal(), regsafe() and stacksafe() (Linux 6.18)
//
// When does an old state cover the current one? The old one went well whatever its registers and stack
// held, within what was known of them. So the current one goes well too if all that it may hold, the old
// one might have held. That means:
//
// - What the old state did not need is not compared: registers that no later instruction reads, registers
//   and stack bytes that were never written or are dead.
// - A number on which no verdict rested (it is not precise) may be any number; another must lie within the
//   old bounds and agree with the old known bits.
// - A pointer must have the old one's type. Into a map's element or other sized memory, where its offset
//   may lie is compared as a number is; into the packet, it must also be known to reach as far. Any other
//   pointer must be the same.
// - An id says that things come from one source; which number it is says nothing. Old and current ids
//   therefore pair off, one with one, in all that is compared.
// - Eight bytes of stack that read as a number are compared as one. Otherwise each byte must be of the old
//   kind, but a zero will do for any byte of the program's, and what they hold together must correspond.
// - The same references and locks are held, taken in the same order.
//
// While the old state's loop was not walked to its end, what it will need is not known yet: RANGE_WITHIN
// takes every number as precise and every byte as needed. EXACT asks whether anything has changed at all.
#include <algorithm>
#include <tuple>

#include "uapi/gates.h"
#include "verifier/prune.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {
bool holds(const Scalar& old, const Scalar& cur) {
  return old.r64.holds(cur.r64) && old.r32.holds(cur.r32) && tnum_in(old.var_off, cur.var_off);
}

// Two numbers kept a constant apart stay so only where that constant, and the width it was added in, agree.
bool same_link(const bpf_reg_state& old, const bpf_reg_state& cur) {
  const uint32_t link = old.id & BPF_ADD_CONST;
  return old.id == 0 || (link == (cur.id & BPF_ADD_CONST) && (link == 0 || old.off == cur.off));
}

bool reaches_as_far(const bpf_reg_state& old, const bpf_reg_state& cur) {
  const bool at_end = old.range < 0 || cur.range < 0;  // compared with the packet's end: no length
  return at_end ? old.range == cur.range : old.range <= cur.range;
}

bool is_sized_memory(uint32_t type) {
  switch (base_type(type)) {
    case PTR_TO_MAP_KEY:
    case PTR_TO_MAP_VALUE:
    case PTR_TO_MEM:
    case PTR_TO_BUF:
    case PTR_TO_TP_BUFFER: return true;
    default: return false;
  }
}

bool is_lock(const bpf_reference_state& ref) { return ref.type != REF_TYPE_PTR && ref.type != REF_TYPE_IRQ; }

// One comparison of two states; what it learns on the way is which ids are partners.
class Comparison {
 public:
  Comparison(bpf_verifier_env& env, exact_level exact) : env_(env), ids_(env.idmap_scratch), exact_(exact) {
    ids_.tmp_id_gen = env.id_gen;
    ids_.count = 0;
  }

  bool refsafe(const bpf_verifier_state& old, const bpf_verifier_state& cur) {
    auto plain = [](const bpf_verifier_state& st) {
      return std::tuple(st.active_locks, st.active_preempt_locks, st.active_rcu_lock, st.active_lock_ptr);
    };
    return plain(old) == plain(cur) && check_ids(old.active_irq_id, cur.active_irq_id) &&
           check_ids(old.active_lock_id, cur.active_lock_id) &&
           std::equal(old.refs.begin(), old.refs.end(), cur.refs.begin(), cur.refs.end(),
                      [this](const bpf_reference_state& a, const bpf_reference_state& b) {
                        return a.type == b.type && (!is_lock(a) || a.ptr == b.ptr) && check_ids(a.id, b.id);
                      });
  }

  bool func_states_equal(const bpf_func_state& old, const bpf_func_state& cur, uint16_t live_regs) {
    if (cur.callback_depth < old.callback_depth) return false;
    for (size_t reg = 0; reg < old.regs.size(); reg++) {
      const bool live = live_regs >> reg & 1;
      if (live && !regsafe(old.regs[reg], cur.regs[reg])) return false;
    }
    return stacksafe(old.stack, cur.stack);
  }

 private:
  bool check_ids(uint32_t old_id, uint32_t cur_id) {
    if (old_id == 0 || cur_id == 0) return old_id == cur_id;  // 0: no id
    auto* end = ids_.map + ids_.count;
    auto* pair = std::find_if(ids_.map, end, [&](auto& p) { return p.old == old_id || p.cur == cur_id; });
    if (pair != end) return pair->old == old_id && pair->cur == cur_id;
    if (ids_.count == std::size(ids_.map)) return false;
    ids_.map[ids_.count++] = {old_id, cur_id};
    return true;
  }

  // A number that was alone may be linked now: that only narrows it. One without an id counts as linked to
  // nothing else, hence an id of its own. Of numbers a constant apart, what they are apart from is paired
  // too.
  bool check_scalar_ids(uint32_t old_id, uint32_t cur_id) {
    if (old_id == 0) return true;
    if (cur_id == 0) cur_id = ++ids_.tmp_id_gen;
    const bool apart = old_id & BPF_ADD_CONST;
    return check_ids(old_id, cur_id) &&
           (!apart || check_ids(old_id & ~BPF_ADD_CONST, cur_id & ~BPF_ADD_CONST));
  }

  bool same_source(const bpf_reg_state& old, const bpf_reg_state& cur) {
    return check_ids(old.id, cur.id) && check_ids(old.ref_obj_id, cur.ref_obj_id);
  }
  bool regs_exact(const bpf_reg_state& old, const bpf_reg_state& cur) {
    return same_value(old, cur) && same_source(old, cur);
  }

  bool any_number_will_do(const bpf_reg_state& old) const {
    return exact_ == NOT_EXACT && !old.precise && has(Gate::precision_tracking, env_.machine.version);
  }
  bool scalar_safe(const bpf_reg_state& old, const bpf_reg_state& cur) {
    if (env_.explore_alu_limits) return same_value(old, cur) && check_scalar_ids(old.id, cur.id);
    return any_number_will_do(old) ||
           (same_link(old, cur) && holds(old, cur) && check_scalar_ids(old.id, cur.id));
  }

  bool regsafe(const bpf_reg_state& old, const bpf_reg_state& cur) {
    if (exact_ == EXACT) return regs_exact(old, cur);
    if (old.type == NOT_INIT && exact_ == NOT_EXACT) return true;
    if (old.type != cur.type) return false;
    if (old.type == NOT_INIT || base_type(old.type) == PTR_TO_ARENA) return true;
    if (base_type(old.type) == SCALAR_VALUE) return scalar_safe(old, cur);
    if (is_sized_memory(old.type)) return same_kind(old, cur) && holds(old, cur) && same_source(old, cur);
    if (type_is_pkt_pointer(old.type))
      return old.off == cur.off && reaches_as_far(old, cur) && holds(old, cur) && check_ids(old.id, cur.id);
    return regs_exact(old, cur) && (base_type(old.type) != PTR_TO_STACK || old.frameno == cur.frameno);
  }

  bool is_unneeded(bpf_stack_slot_type byte) const {
    return byte == STACK_INVALID || (byte == STACK_MISC && env_.allow_uninit_read);
  }

  // What a load of all eight bytes gives, if that is a number: a spilled one, or one of which nothing is
  // known.
  const bpf_reg_state* scalar_reg_for_stack(const bpf_stack_state& slot) const {
    static const bpf_reg_state unbound = [] {
      bpf_reg_state reg;
      mark_reg_unknown_imprecise(reg);
      return reg;
    }();
    if (slot.is_spilled_scalar_reg64()) return &slot.spilled_ptr;
    const bool all_misc = std::all_of(slot.slot_type.begin(), slot.slot_type.end(), [this](auto byte) {
      return byte == STACK_MISC || (byte == STACK_INVALID && env_.allow_uninit_read);
    });
    return all_misc ? &unbound : nullptr;
  }

  // What the eight bytes hold together, when they are of the same kinds.
  bool content_safe(const bpf_stack_state& old, const bpf_stack_state& cur) {
    const bpf_reg_state &a = old.spilled_ptr, &b = cur.spilled_ptr;
    switch (old.top()) {
      case STACK_SPILL: return regsafe(a, b);
      case STACK_DYNPTR:
        return a.dynptr.type == b.dynptr.type && a.dynptr.first_slot == b.dynptr.first_slot &&
               check_ids(a.ref_obj_id, b.ref_obj_id);
      case STACK_ITER:  // not its depth: an iterator's loop converges because that is not looked at
        return a.iter.btf == b.iter.btf && a.iter.btf_id == b.iter.btf_id && a.iter.state == b.iter.state &&
               check_ids(a.ref_obj_id, b.ref_obj_id);
      case STACK_IRQ_FLAG: return a.raw.raw1 == b.raw.raw1 && check_ids(a.ref_obj_id, b.ref_obj_id);
      default: return true;
    }
  }

  // cur: null where the current stack is not that deep
  bool slotsafe(const bpf_stack_state& old, const bpf_stack_state* cur) {
    if (exact_ != NOT_EXACT && (!cur || cur->slot_type != old.slot_type)) return false;
    auto unneeded = [this](auto byte) { return is_unneeded(byte); };
    if (std::all_of(old.slot_type.begin(), old.slot_type.end(), unneeded)) return true;
    if (!cur) return false;

    const bpf_reg_state *old_number = scalar_reg_for_stack(old), *number = scalar_reg_for_stack(*cur);
    if (old_number && number) return regsafe(*old_number, *number);

    auto byte_safe = [&](auto was, auto is) {
      return was == is || is_unneeded(was) || (was == STACK_MISC && is == STACK_ZERO);
    };
    return std::equal(old.slot_type.begin(), old.slot_type.end(), cur->slot_type.begin(), byte_safe) &&
           content_safe(old, *cur);
  }

  bool stacksafe(const std::vector<bpf_stack_state>& old, const std::vector<bpf_stack_state>& cur) {
    for (size_t slot = 0; slot < old.size(); slot++)
      if (!slotsafe(old[slot], slot < cur.size() ? &cur[slot] : nullptr)) return false;
    return true;
  }

  const bpf_verifier_env& env_;
  bpf_idmap& ids_;
  const exact_level exact_;
};
}  // namespace

bool same_callsites(const bpf_verifier_state& a, const bpf_verifier_state& b) {
  if (a.curframe != b.curframe) return false;
  for (uint32_t fr = 0; fr <= a.curframe; fr++)
    if (a.frame[fr]->callsite != b.frame[fr]->callsite) return false;
  return true;
}

bool states_equal(bpf_verifier_env& env, const bpf_verifier_state& old, const bpf_verifier_state& cur,
                  exact_level exact) {
  if (!same_callsites(old, cur) || old.in_sleepable != cur.in_sleepable) return false;
  if (old.speculative && !cur.speculative)
    return false;  // a path that no CPU takes proves nothing of a real one
  Comparison comparison(env, exact);
  if (!comparison.refsafe(old, cur)) return false;
  for (uint32_t fr = 0; fr <= old.curframe; fr++) {
    const uint16_t live_regs = env.insn_aux_data[frame_insn_idx(old, fr)].live_regs_before;
    if (!comparison.func_states_equal(*old.frame[fr], *cur.frame[fr], live_regs)) return false;
  }
  return true;
}

}  // namespace bpfsim
