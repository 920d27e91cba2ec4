// Models: kernel/bpf/verifier.c, mark_chain_precision() and the jump history (Linux 6.18)
//
// See backtrack.h. In words:
//
// - Wanted are registers and stack slots, of each frame, whose number matters. Backwards over an instruction
//   that made a wanted number, what it was made of is wanted instead (Origin); a constant is made of nothing.
// - What a branch compared made each other what they are; so did what it narrowed along with them (linked).
// - Backwards, a function is entered at its exit and left at its call. Its arguments are the caller's
//   registers, its result is the caller's R0; both change frames there.
// - The path is known from the history: it tells where a jump came from, and the rest went one by one. It is
//   kept in pieces, one in each kept state. What is wanted where a piece begins is marked in the state kept
//   there; what was marked before has been followed before.
// - Where the way back is lost, every number in every kept state behind is taken to matter.
#include "verifier/backtrack.h"

#include <bit>
#include <optional>

#include "verifier/print_state.h"

namespace bpfsim {

namespace {
using Wanted = backtrack_state::Wanted;
constexpr uint32_t bit(uint32_t reg) { return 1u << reg; }
constexpr uint32_t kArgs = bit(BPF_REG_1) | bit(BPF_REG_2) | bit(BPF_REG_3) | bit(BPF_REG_4) | bit(BPF_REG_5);
constexpr uint32_t kResult = bit(BPF_REG_0);

Wanted& here(backtrack_state& bt) { return bt.wanted[bt.frame]; }

bool nothing_wanted(const backtrack_state& bt) {
  for (uint32_t frame = 0; frame <= bt.frame; frame++)
    if (bt.wanted[frame].regs || bt.wanted[frame].slots) return false;
  return true;
}

// Calls `stays` with the number of each set bit, and drops the bit if it says no.
template <class Mask, class Stays>
void keep(Mask& mask, Stays stays) {
  for (Mask left = mask; left; left &= left - 1) {
    const uint32_t number = uint32_t(std::countr_zero(left));
    if (!stays(number)) mask &= ~(Mask{1} << number);
  }
}

// The slot that the instruction was seen to spill to or fill from.
struct Slot {
  uint32_t frame, spi;
};
std::optional<Slot> slot_of(const bpf_jmp_history_entry* seen) {
  if (!seen || !(seen->flags & INSN_F_STACK_ACCESS)) return std::nullopt;
  return Slot{seen->flags & INSN_F_FRAMENO_MASK, seen->flags >> INSN_F_SPI_SHIFT & INSN_F_SPI_MASK};
}

// What the number that an instruction puts into its dst_reg is made of.
struct Origin {
  uint32_t regs = 0;
  std::optional<Slot> slot;
  bool unknown = false;
};

Origin origin(const bpf_insn& insn, const bpf_jmp_history_entry* seen) {
  switch (BPF_CLASS(insn.code)) {
    case BPF_ALU:
    case BPF_ALU64: {
      const uint8_t op = BPF_OP(insn.code);
      if (op == BPF_END || op == BPF_NEG) return {.regs = bit(insn.dst_reg)};
      const uint32_t other = BPF_SRC(insn.code) == BPF_X ? bit(insn.src_reg) : 0;
      const uint32_t itself = op == BPF_MOV ? 0 : bit(insn.dst_reg);
      return {.regs = (itself | other) & ~bit(BPF_REG_FP)};
    }
    case BPF_LD: return {.unknown = BPF_MODE(insn.code) == BPF_IND || BPF_MODE(insn.code) == BPF_ABS};
    default: return {.slot = slot_of(seen)};  // a load; only the stack keeps what is known of a number
  }
}

// NotSupp, here and below: it cannot be followed.
Errno back_over_result(const bpf_insn& insn, const bpf_jmp_history_entry* seen, backtrack_state& bt) {
  if (!(here(bt).regs & bit(insn.dst_reg))) return Errno::None;
  const Origin from = origin(insn, seen);
  if (from.unknown) return Errno::NotSupp;
  here(bt).regs &= ~bit(insn.dst_reg);
  here(bt).regs |= from.regs;
  if (from.slot) bt_set_frame_slot(bt, from.slot->frame, from.slot->spi);
  return Errno::None;
}

Errno back_over_store(const bpf_insn& insn, const bpf_jmp_history_entry* seen, backtrack_state& bt) {
  if (here(bt).regs & bit(insn.dst_reg)) return Errno::NotSupp;  // a number taken for an address
  const std::optional<Slot> to = slot_of(seen);
  if (!to) return Errno::None;
  uint64_t& slots = bt.wanted[to->frame].slots;
  const uint64_t stored = uint64_t{1} << to->spi;
  if ((slots & stored) && BPF_CLASS(insn.code) == BPF_STX) here(bt).regs |= bit(insn.src_reg);
  slots &= ~stored;
  return Errno::None;
}

// If one of those that were narrowed together is wanted, all are.
void want_linked(const bpf_jmp_history_entry* seen, backtrack_state& bt) {
  if (!seen) return;
  uint64_t wanted = 0;
  for (int i = 0; i < seen->linked.cnt; i++) {
    const linked_reg& e = seen->linked.entries[i];
    wanted |= (e.is_reg ? bt.wanted[e.frameno].regs : bt.wanted[e.frameno].slots) >> e.regno & 1;
  }
  for (int i = 0; wanted && i < seen->linked.cnt; i++) {
    const linked_reg& e = seen->linked.entries[i];
    if (e.is_reg)
      bt.wanted[e.frameno].regs |= bit(e.regno);
    else
      bt_set_frame_slot(bt, e.frameno, e.regno);
  }
}

void back_over_branch(const bpf_insn& insn, const bpf_jmp_history_entry* seen, backtrack_state& bt) {
  want_linked(seen, bt);
  uint32_t compared = BPF_SRC(insn.code) == BPF_X ? bit(insn.dst_reg) | bit(insn.src_reg) : 0;
  if (!(here(bt).regs & compared)) return;
  if (seen && (seen->flags & INSN_F_SRC_REG_STACK)) compared &= ~bit(insn.src_reg);  // not a number
  if (seen && (seen->flags & INSN_F_DST_REG_STACK)) compared &= ~bit(insn.dst_reg);
  here(bt).regs |= compared;
  want_linked(seen, bt);
}

// Functions: enter_callee() goes one frame in, leave_callee() one out.
Errno enter_callee(bpf_verifier_env& env, backtrack_state& bt) {
  if (bt.frame == MAX_CALL_FRAMES - 1) return verifier_bug(env, "subprog enter from frame %u", bt.frame);
  bt.frame++;
  return Errno::None;
}

// Nothing but its arguments can still be wanted where a function begins.
Errno leave_callee(bpf_verifier_env& env, backtrack_state& bt, const char* what, bool caller_passes_them) {
  Wanted& callee = here(bt);
  if (callee.regs & ~kArgs) return verifier_bug(env, "%s unexpected regs %x", what, callee.regs);
  if (callee.slots)
    return verifier_bug(env, "%s leftover stack slots %llx", what, (unsigned long long)callee.slots);
  if (bt.frame == 0) return verifier_bug(env, "subprog exit from frame 0");
  bt.frame--;
  if (caller_passes_them) here(bt).regs |= callee.regs;
  callee.regs = 0;
  return Errno::None;
}

// A call leaves no number in the registers of its arguments, so none can be wanted behind it.
Errno no_args_wanted(bpf_verifier_env& env, backtrack_state& bt, const char* what) {
  if (!(here(bt).regs & kArgs)) return Errno::None;
  return verifier_bug(env, "%s unexpected regs %x", what, here(bt).regs);
}

// `later`: the instruction that ran after this one. A call that is not followed by the next instruction went
// into a function; so it is, backwards, where that function is left.
Errno back_over_call(bpf_verifier_env& env, uint32_t idx, int later, backtrack_state& bt) {
  const bpf_insn& insn = env.insns[idx];
  const bool next_follows = later == int(idx) + 1;
  if (bpf_pseudo_call(insn)) {
    const int subprog = find_subprog(env, idx + uint32_t(insn.imm) + 1);
    if (subprog < 0) return Errno::Fault;
    if (!subprog_is_global(env, uint32_t(subprog))) return leave_callee(env, bt, "static subprog", true);
    MUST(no_args_wanted(env, bt, "global subprog"));
    here(bt).regs &= ~kResult;
    return Errno::None;
  }
  if (env.insn_aux_data[idx].calls_callback && !next_follows) return leave_callee(env, bt, "callback", false);
  if (insn.src_reg == BPF_PSEUDO_KFUNC_CALL && insn.imm == 0) return Errno::NotSupp;
  here(bt).regs &= ~kResult;
  MUST(no_args_wanted(env, bt, "backtracking call"));
  const bool tail_call = is_helper_call(insn) && insn.imm == BPF_FUNC_tail_call;
  return tail_call && !next_follows ? enter_callee(env, bt) : Errno::None;
}

Errno back_over_exit(bpf_verifier_env& env, int later, backtrack_state& bt) {
  const bool to_callback_caller = later >= 0 && env.insn_aux_data[size_t(later)].calls_callback;
  const bool to_call = later >= 1 && bpf_pseudo_call(env.insns[size_t(later) - 1]);
  if (to_callback_caller) here(bt).regs &= ~kArgs;  // whoever runs a callback sets them
  MUST(no_args_wanted(env, bt, "backtracking exit"));
  const uint32_t result = here(bt).regs & kResult;
  here(bt).regs &= ~kResult;
  MUST(enter_callee(env, bt));
  if (to_call) here(bt).regs |= result;
  return Errno::None;
}

void log_backtrack(bpf_verifier_env& env, uint32_t idx, const Wanted& wanted) {
  if (!log_level2(env)) return;
  verbose(env, "mark_precise: frame%u: regs=%s ", env.bt.frame, fmt_reg_mask(wanted.regs).c_str());
  verbose(env, "stack=%s before ", bpf_fmt_stack_mask(wanted.slots).c_str());
  verbose(env, "%u: ", idx);
  verbose_insn(env, idx);
}

// From what is wanted after the instruction to what is wanted before it.
Errno backtrack_insn(bpf_verifier_env& env, uint32_t idx, int later, const bpf_jmp_history_entry* seen) {
  const bpf_insn& insn = env.insns[idx];
  backtrack_state& bt = env.bt;
  if (insn.code == 0) return Errno::None;  // second slot of ld_imm64
  log_backtrack(env, idx, here(bt));
  switch (BPF_CLASS(insn.code)) {
    case BPF_ST: return back_over_store(insn, seen, bt);
    case BPF_STX:
      return is_atomic(insn) && insn.imm == BPF_LOAD_ACQ ? back_over_result(insn, seen, bt)
                                                         : back_over_store(insn, seen, bt);
    case BPF_JMP:
    case BPF_JMP32:
      if (BPF_OP(insn.code) == BPF_CALL) return back_over_call(env, idx, later, bt);
      if (BPF_OP(insn.code) == BPF_EXIT) return back_over_exit(env, later, bt);
      back_over_branch(insn, seen, bt);
      return Errno::None;
    default: return back_over_result(insn, seen, bt);
  }
}

// The piece of path that one kept state holds, walked backwards.
class PathBack {
 public:
  PathBack(const bpf_verifier_state& st, int newest) : at(newest), st_(st), left_(st.jmp_history.size()) {}

  const bpf_jmp_history_entry* seen() const {
    const bpf_jmp_history_entry* entry = left_ ? &st_.jmp_history[left_ - 1] : nullptr;
    return entry && int(entry->idx) == at ? entry : nullptr;
  }
  // To the instruction before; false where the piece begins. The oldest entry may tell how it was entered.
  bool step() {
    const bpf_jmp_history_entry* came_by = seen();
    const bool no_way_back = left_ == 0 || (left_ == 1 && came_by);
    if (at == int(st_.first_insn_idx) && no_way_back) return false;
    if (came_by) left_--;
    at = came_by ? int(came_by->prev_idx) : at - 1;
    return true;
  }

  int at;

 private:
  const bpf_verifier_state& st_;
  size_t left_;  // entries of the history that lie before
};

// As far back as something is wanted, or to where the piece begins.
Errno follow_path(bpf_verifier_env& env, PathBack path, int later, bool skip_newest) {
  for (;;) {
    if (!skip_newest) MUST(backtrack_insn(env, uint32_t(path.at), later, path.seen()));
    skip_newest = false;
    if (nothing_wanted(env.bt)) return Errno::None;
    later = path.at;
    if (!path.step()) return Errno::None;
    if (path.at < 0 || path.at >= int(env.insn_cnt()))
      return verifier_bug(env, "backtracking idx %d", path.at);
  }
}

// A number becomes precise; false if there is nothing new in that, and so nothing to follow further back.
bool make_precise(bpf_reg_state& reg, bool& changed) {
  if (reg.type != SCALAR_VALUE || reg.precise) return false;
  return changed = reg.precise = true;
}

Errno mark_in_state(bpf_verifier_env& env, bpf_verifier_state& st, bool& changed) {
  for (uint32_t fr = env.bt.frame + 1; fr-- > 0;) {
    bpf_func_state& func = *st.frame[fr];
    Wanted& wanted = env.bt.wanted[fr];
    keep(wanted.regs, [&](uint32_t reg) { return make_precise(func.regs[reg], changed); });
    uint32_t outside = UINT32_MAX;
    keep(wanted.slots, [&](uint32_t spi) {
      if (int(spi) >= func.nr_slots()) {
        outside = std::min(outside, spi);
        return true;
      }
      bpf_stack_state& slot = func.stack[spi];
      return slot.is_spilled_scalar_reg() && make_precise(slot.spilled_ptr, changed);
    });
    if (outside != UINT32_MAX)
      return verifier_bug(env, "stack slot %u, total slots %d", outside, func.nr_slots());
    if (log_level2(env)) {
      verbose(env, "mark_precise: frame%u: parent state regs=%s ", fr, fmt_reg_mask(wanted.regs).c_str());
      verbose(env, "stack=%s: ", bpf_fmt_stack_mask(wanted.slots).c_str());
      print_verifier_state(env, st, fr, true);
    }
  }
  return Errno::None;
}

// The walk has passed the first instruction: what is left must be the arguments of a global function.
Errno at_function_entry(bpf_verifier_env& env, bpf_verifier_state& st, bool& changed) {
  bpf_func_state& entry = *st.frame[0];
  Wanted& wanted = here(env.bt);
  const bool global = st.curframe == 0 && entry.subprogno > 0 && entry.callsite == BPF_MAIN_FUNC;
  if (!global || wanted.slots || (wanted.regs & ~kArgs))
    return verifier_bug(env, "backtracking func entry subprog %u reg_mask %x stack_mask %llx",
                        entry.subprogno, wanted.regs, (unsigned long long)wanted.slots);
  keep(wanted.regs, [&](uint32_t reg) {
    if (entry.regs[reg].type == SCALAR_VALUE) changed = entry.regs[reg].precise = true;
    return false;
  });
  return Errno::None;
}

// Back through the pieces of the path, from `newest` over its parents. The instruction that asked has not
// written yet, so what it writes is not what is wanted.
Errno follow_back(bpf_verifier_env& env, bpf_verifier_state& newest, bool& changed) {
  bpf_verifier_state* st = &newest;
  int last = int(newest.insn_idx), later = -1;
  while (st && !nothing_wanted(env.bt)) {
    const int first = int(st->first_insn_idx);
    if (log_level2(env))
      verbose(env, "mark_precise: frame%u: last_idx %d first_idx %d subseq_idx %d \n", env.bt.frame, last,
              first, later);
    if (last < 0) return at_function_entry(env, *st, changed);
    const Errno err = follow_path(env, PathBack(*st, last), later, st == &newest);
    if (err == Errno::NotSupp) break;
    MUST(err);
    if (nothing_wanted(env.bt)) return Errno::None;
    later = first;
    st = st->parent;
    if (!st) break;
    last = int(st->last_insn_idx);
    MUST(mark_in_state(env, *st, changed));
  }
  if (nothing_wanted(env.bt)) return Errno::None;
  mark_all_scalars_precise(env, newest);
  env.bt = {};
  return Errno::None;
}

// Visits the numbers of a frame, in R0 to R9 and spilled: visit(number, is it a register, which one).
template <class Func, class Visit>
void for_each_number(Func& func, Visit visit) {
  for (uint32_t reg = 0; reg < BPF_REG_FP; reg++)
    if (func.regs[reg].type == SCALAR_VALUE) visit(func.regs[reg], true, reg);
  for (uint32_t spi = 0; spi < func.stack.size(); spi++)
    if (func.stack[spi].is_spilled_scalar_reg()) visit(func.stack[spi].spilled_ptr, false, spi);
}

std::string name_of(bool is_reg, uint32_t number) {
  return is_reg ? 'r' + std::to_string(number) : "fp-" + std::to_string((number + 1) * BPF_REG_SIZE);
}
}  // namespace

Errno mark_chain_precision(bpf_verifier_env& env, uint32_t regno) {
  if (!env.tracks_precision) return Errno::None;
  if (env.cur_regs()[regno].type != SCALAR_VALUE) return verifier_bug(env, "backtracking misuse");
  env.bt.wanted[env.cur_state->curframe].regs |= bit(regno);
  return mark_chain_precision_batch(env, *env.cur_state);
}

Errno mark_chain_precision_batch(bpf_verifier_env& env, bpf_verifier_state& starting_state) {
  if (!env.tracks_precision) return Errno::None;
  env.bt.frame = starting_state.curframe;
  bool changed = false;
  return follow_back(env, starting_state, changed);
}

Errno propagate_precision(bpf_verifier_env& env, const bpf_verifier_state& old, bpf_verifier_state& cur,
                          bool* changed) {
  for (uint32_t fr = old.curframe + 1; fr-- > 0;) {
    const char* before = "";
    for_each_number(*old.frame[fr], [&](const bpf_reg_state& number, bool is_reg, uint32_t which) {
      if (!number.precise) return;
      if (is_reg)
        env.bt.wanted[fr].regs |= bit(which);
      else
        bt_set_frame_slot(env.bt, fr, which);
      if (log_level2(env)) {
        if (!*before) verbose(env, "frame %u: propagating ", fr);
        verbose(env, "%s%s", before, name_of(is_reg, which).c_str());
      }
      before = ",";
    });
    if (*before) verbose(env, "\n");  // on every level of the log, as in the kernel
  }
  if (!env.tracks_precision) return Errno::None;
  env.bt.frame = cur.curframe;
  bool ignored = false;
  return follow_back(env, cur, changed ? *changed : ignored);
}

// The state that is walked now is not kept, so nothing is compared with it.
void mark_all_scalars_precise(bpf_verifier_env& env, bpf_verifier_state& starting) {
  if (log_level2(env))
    verbose(env, "mark_precise: frame%u: falling back to forcing all scalars precise\n", starting.curframe);
  for (bpf_verifier_state* st = starting.parent; st; st = st->parent)
    for (uint32_t fr = 0; fr <= st->curframe; fr++)
      for_each_number(*st->frame[fr], [&](bpf_reg_state& number, bool is_reg, uint32_t which) {
        if (number.precise) return;
        number.precise = true;
        if (log_level2(env))
          verbose(env, "force_precise: frame%u: forcing %s to be precise\n", fr,
                  name_of(is_reg, which).c_str());
      });
}

void mark_all_scalars_imprecise(bpf_verifier_state& st) {
  for (uint32_t fr = 0; fr <= st.curframe; fr++)
    for_each_number(*st.frame[fr], [](bpf_reg_state& number, bool, uint32_t) { number.precise = false; });
}

// One entry for each instruction that has something to tell; a comparison may tell two things.
void push_jmp_history(bpf_verifier_env& env, bpf_verifier_state& cur, uint32_t insn_flags,
                      const linked_regs& linked) {
  if (env.cur_hist_ent < 0) {
    env.cur_hist_ent = int(cur.jmp_history.size());
    bpf_jmp_history_entry entry{env.insn_idx, 0, 0, {}};
    entry.prev_idx = uint32_t(env.prev_insn_idx);
    cur.jmp_history.push_back(entry);
  }
  bpf_jmp_history_entry& entry = cur.jmp_history[size_t(env.cur_hist_ent)];
  entry.flags |= insn_flags;
  entry.linked = linked;
}

}  // namespace bpfsim
