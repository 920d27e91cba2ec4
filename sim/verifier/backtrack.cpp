// Models: kernel/bpf/verifier.c, mark_chain_precision() and the jump history (Linux 6.18)
//
// See backtrack.h. The walk back has two loops: over the instructions of one kept state's path, and over the
// chain of kept states. Bits in env.bt say which registers and slots of which frames are still followed.
#include "verifier/backtrack.h"

#include <bit>

#include "verifier/print_state.h"

namespace bpfsim {

namespace {
constexpr uint32_t BPF_REGMASK_ARGS = 0x3e;  // R1 to R5

uint32_t& regs_of(backtrack_state& bt) { return bt.reg_masks[bt.frame]; }
uint64_t& stack_of(backtrack_state& bt) { return bt.stack_masks[bt.frame]; }
bool is_set(backtrack_state& bt, uint32_t reg) { return regs_of(bt) >> reg & 1; }
void set_reg(backtrack_state& bt, uint32_t reg) { regs_of(bt) |= 1u << reg; }
void clear_reg(backtrack_state& bt, uint32_t reg) { regs_of(bt) &= ~(1u << reg); }
bool bt_empty(const backtrack_state& bt) {
  uint64_t any = 0;
  for (uint32_t i = 0; i <= bt.frame; i++) any |= bt.reg_masks[i] | bt.stack_masks[i];
  return any == 0;
}

struct StackAccess {
  uint32_t frame, spi;
};
bool stack_access(const bpf_jmp_history_entry* hist, StackAccess& access) {
  if (!hist || !(hist->flags & INSN_F_STACK_ACCESS)) return false;
  access = {hist->flags & INSN_F_FRAMENO_MASK, hist->flags >> INSN_F_SPI_SHIFT & INSN_F_SPI_MASK};
  return true;
}

// One that was narrowed together with others is as precise as they are.
void bt_sync_linked_regs(backtrack_state& bt, const bpf_jmp_history_entry* hist) {
  if (!hist || hist->linked_regs == 0) return;
  linked_regs linked = linked_regs::unpack(hist->linked_regs);
  bool some = false;
  for (int i = 0; i < linked.cnt; i++) {
    const linked_reg& e = linked.entries[i];
    some |= (e.is_reg ? bt.reg_masks[e.frameno] >> e.regno : bt.stack_masks[e.frameno] >> e.regno) & 1;
  }
  if (!some) return;
  for (int i = 0; i < linked.cnt; i++) {
    const linked_reg& e = linked.entries[i];
    if (e.is_reg)
      bt.reg_masks[e.frameno] |= 1u << e.regno;
    else
      bt_set_frame_slot(bt, e.frameno, e.regno);
  }
}

void backtrack_alu(const bpf_insn& insn, backtrack_state& bt) {
  if (!is_set(bt, insn.dst_reg)) return;
  uint8_t op = BPF_OP(insn.code);
  if (op == BPF_END || op == BPF_NEG) return;  // made of itself
  if (op == BPF_MOV) clear_reg(bt, insn.dst_reg);
  if (BPF_SRC(insn.code) == BPF_X && insn.src_reg != BPF_REG_FP) set_reg(bt, insn.src_reg);
}

// Into a static function (from its exit, as we walk backwards) and out of it (at its call).
Errno backtrack_call(bpf_verifier_env& env, uint32_t idx, int subseq_idx, backtrack_state& bt) {
  const bpf_insn& insn = env.insns[idx];
  if (bpf_pseudo_call(insn)) {
    int subprog = find_subprog(env, idx + uint32_t(insn.imm) + 1);
    if (subprog < 0) return Errno::Fault;
    if (subprog_is_global(env, uint32_t(subprog))) {
      if (regs_of(bt) & BPF_REGMASK_ARGS)
        return verifier_bug(env, "global subprog unexpected regs %x", regs_of(bt));
      clear_reg(bt, BPF_REG_0);
      return Errno::None;
    }
    if (regs_of(bt) & ~BPF_REGMASK_ARGS)
      return verifier_bug(env, "static subprog unexpected regs %x", regs_of(bt));
    if (stack_of(bt))
      return verifier_bug(env, "static subprog leftover stack slots %llx", (unsigned long long)stack_of(bt));
    if (bt.frame == 0) return verifier_bug(env, "subprog exit from frame 0");
    bt.reg_masks[bt.frame - 1] |= regs_of(bt);  // arguments are the caller's registers
    regs_of(bt) = 0;
    bt.frame--;
    return Errno::None;
  }
  if (insn.src_reg == BPF_PSEUDO_KFUNC_CALL && insn.imm == 0) return Errno::NotSupp;
  if (env.insn_aux_data[idx].calls_callback && int(idx) != subseq_idx - 1) {
    if (regs_of(bt) & ~BPF_REGMASK_ARGS) return verifier_bug(env, "callback unexpected regs %x", regs_of(bt));
    if (stack_of(bt))
      return verifier_bug(env, "callback leftover stack slots %llx", (unsigned long long)stack_of(bt));
    if (bt.frame == 0) return verifier_bug(env, "subprog exit from frame 0");
    regs_of(bt) &= ~BPF_REGMASK_ARGS;
    bt.frame--;
    return Errno::None;
  }
  clear_reg(bt, BPF_REG_0);
  if (regs_of(bt) & BPF_REGMASK_ARGS)
    return verifier_bug(env, "backtracking call unexpected regs %x", regs_of(bt));
  if (is_helper_call(insn) && insn.imm == BPF_FUNC_tail_call && subseq_idx - int(idx) != 1) bt.frame++;
  return Errno::None;
}

Errno backtrack_exit(bpf_verifier_env& env, int subseq_idx, backtrack_state& bt) {
  if (subseq_idx >= 0 && env.insn_aux_data[size_t(subseq_idx)].calls_callback)
    regs_of(bt) &= ~BPF_REGMASK_ARGS;
  if (regs_of(bt) & BPF_REGMASK_ARGS)
    return verifier_bug(env, "backtracking exit unexpected regs %x", regs_of(bt));
  bool r0_precise =
      subseq_idx >= 1 && bpf_pseudo_call(env.insns[size_t(subseq_idx) - 1]) && is_set(bt, BPF_REG_0);
  clear_reg(bt, BPF_REG_0);
  if (bt.frame == MAX_CALL_FRAMES - 1) return verifier_bug(env, "subprog enter from frame %u", bt.frame);
  bt.frame++;
  if (r0_precise) set_reg(bt, BPF_REG_0);
  return Errno::None;
}

Errno backtrack_store(const bpf_insn& insn, const bpf_jmp_history_entry* hist, backtrack_state& bt) {
  if (is_set(bt, insn.dst_reg)) return Errno::NotSupp;  // a pointer made from a number that matters
  StackAccess access;
  if (!stack_access(hist, access) || !(bt.stack_masks[access.frame] >> access.spi & 1)) return Errno::None;
  bt.stack_masks[access.frame] &= ~(1ull << access.spi);
  if (BPF_CLASS(insn.code) == BPF_STX) set_reg(bt, insn.src_reg);
  return Errno::None;
}

Errno backtrack_jmp(bpf_verifier_env& env, uint32_t idx, int subseq_idx, const bpf_jmp_history_entry* hist,
                    backtrack_state& bt, bool& done) {
  const bpf_insn& insn = env.insns[idx];
  uint8_t op = BPF_OP(insn.code);
  if (op == BPF_CALL) {
    done = bpf_pseudo_call(insn) || (env.insn_aux_data[idx].calls_callback && int(idx) != subseq_idx - 1);
    return backtrack_call(env, idx, subseq_idx, bt);
  }
  if (op == BPF_EXIT) {
    done = true;
    return backtrack_exit(env, subseq_idx, bt);
  }
  if (BPF_SRC(insn.code) != BPF_X) return Errno::None;
  // Both sides of a comparison made each other what they are. Pointers to the stack are no numbers.
  if (!is_set(bt, insn.dst_reg) && !is_set(bt, insn.src_reg)) {
    done = true;
    return Errno::None;
  }
  if (!hist || !(hist->flags & INSN_F_SRC_REG_STACK)) set_reg(bt, insn.src_reg);
  if (!hist || !(hist->flags & INSN_F_DST_REG_STACK)) set_reg(bt, insn.dst_reg);
  return Errno::None;
}

void log_backtrack(bpf_verifier_env& env, uint32_t idx, backtrack_state& bt) {
  if (!log_level2(env)) return;
  verbose(env, "mark_precise: frame%u: regs=%s ", bt.frame, fmt_reg_mask(regs_of(bt)).c_str());
  verbose(env, "stack=%s before ", bpf_fmt_stack_mask(stack_of(bt)).c_str());
  verbose(env, "%u: ", idx);
  verbose_insn(env, idx);
}

// From what holds after the instruction to what must hold before it. NotSupp: cannot be followed.
Errno backtrack_insn(bpf_verifier_env& env, uint32_t idx, int subseq_idx, const bpf_jmp_history_entry* hist,
                     backtrack_state& bt) {
  const bpf_insn& insn = env.insns[idx];
  if (insn.code == 0) return Errno::None;  // second slot of ld_imm64
  log_backtrack(env, idx, bt);
  bt_sync_linked_regs(bt, hist);
  bool done = false;
  switch (BPF_CLASS(insn.code)) {
    case BPF_ALU:
    case BPF_ALU64:
      done = !is_set(bt, insn.dst_reg) || BPF_OP(insn.code) == BPF_END || BPF_OP(insn.code) == BPF_NEG;
      backtrack_alu(insn, bt);
      break;
    case BPF_STX:
    case BPF_ST:
      if (!(is_atomic(insn) && insn.imm == BPF_LOAD_ACQ)) {
        MUST(backtrack_store(insn, hist, bt));
        break;
      }
      [[fallthrough]];
    case BPF_LDX: {
      if (!is_set(bt, insn.dst_reg)) return Errno::None;
      clear_reg(bt, insn.dst_reg);
      StackAccess access;
      if (!stack_access(hist, access)) return Errno::None;
      bt_set_frame_slot(bt, access.frame, access.spi);
      break;
    }
    case BPF_JMP:
    case BPF_JMP32: MUST(backtrack_jmp(env, idx, subseq_idx, hist, bt, done)); break;
    case BPF_LD:
      if (!is_set(bt, insn.dst_reg)) return Errno::None;
      clear_reg(bt, insn.dst_reg);
      if (BPF_MODE(insn.code) == BPF_IND || BPF_MODE(insn.code) == BPF_ABS) return Errno::NotSupp;
      break;
  }
  if (!done) bt_sync_linked_regs(bt, hist);
  return Errno::None;
}

// One step back along a state's path: the instruction before `i`, or false at the state's beginning.
bool prev_insn_idx(const bpf_verifier_state& st, int& i, uint32_t& history) {
  if (i == int(st.first_insn_idx)) {
    if (history == 0 || (history == 1 && int(st.jmp_history[0].idx) == i)) return false;
  }
  if (history && int(st.jmp_history[history - 1].idx) == i)
    i = int(st.jmp_history[--history].prev_idx);
  else
    i--;
  return true;
}

// Marks what is followed in a kept state; what is precise there already needs no further walk.
Errno mark_in_state(bpf_verifier_env& env, bpf_verifier_state& st, backtrack_state& bt, bool& changed) {
  for (int fr = int(bt.frame); fr >= 0; fr--) {
    bpf_func_state& func = *st.frame[size_t(fr)];
    uint32_t& regs = bt.reg_masks[fr];
    for (uint32_t left = regs; left; left &= left - 1) {
      uint32_t i = uint32_t(std::countr_zero(left));
      bpf_reg_state& reg = func.regs[i];
      if (reg.type != SCALAR_VALUE || reg.precise) {
        regs &= ~(1u << i);
      } else {
        reg.precise = true;
        changed = true;
      }
    }
    uint64_t& slots = bt.stack_masks[fr];
    for (uint64_t left = slots; left; left &= left - 1) {
      uint32_t i = uint32_t(std::countr_zero(left));
      if (int(i) >= func.nr_slots())
        return verifier_bug(env, "stack slot %u, total slots %d", i, func.nr_slots());
      bpf_stack_state& slot = func.stack[i];
      if (!slot.is_spilled_scalar_reg() || slot.spilled_ptr.precise) {
        slots &= ~(1ull << i);
      } else {
        slot.spilled_ptr.precise = true;
        changed = true;
      }
    }
    if (log_level2(env)) {
      verbose(env, "mark_precise: frame%d: parent state regs=%s ", fr, fmt_reg_mask(regs).c_str());
      verbose(env, "stack=%s: ", bpf_fmt_stack_mask(slots).c_str());
      print_verifier_state(env, st, uint32_t(fr), true);
    }
  }
  return Errno::None;
}

// The walk has passed the entry of a global function: what is left must be its arguments.
Errno at_function_entry(bpf_verifier_env& env, bpf_verifier_state& st, backtrack_state& bt, bool& changed) {
  bpf_func_state& entry = *st.frame[0];
  bool global = st.curframe == 0 && entry.subprogno > 0 && entry.callsite == BPF_MAIN_FUNC;
  if (!global || stack_of(bt) || (regs_of(bt) & ~BPF_REGMASK_ARGS))
    return verifier_bug(env, "backtracking func entry subprog %u reg_mask %x stack_mask %llx",
                        entry.subprogno, regs_of(bt), (unsigned long long)stack_of(bt));
  for (uint32_t left = regs_of(bt); left; left &= left - 1) {
    bpf_reg_state& reg = entry.regs[uint32_t(std::countr_zero(left))];
    if (reg.type != SCALAR_VALUE) continue;
    reg.precise = true;
    changed = true;
  }
  regs_of(bt) = 0;
  return Errno::None;
}

Errno follow_back(bpf_verifier_env& env, bpf_verifier_state& starting_state, int regno, bool* changed_out) {
  if (!env.tracks_precision) return Errno::None;
  backtrack_state& bt = env.bt;
  bpf_verifier_state* st = &starting_state;
  bool ignored, &changed = changed_out ? *changed_out : ignored;
  int first_idx = int(st->first_insn_idx), last_idx = int(st->insn_idx), subseq_idx = -1;
  bool skip_first = true;  // the instruction that asked has not written yet

  bt.frame = starting_state.curframe;
  if (regno >= 0) {
    if (st->cur().regs[size_t(regno)].type != SCALAR_VALUE) return verifier_bug(env, "backtracking misuse");
    set_reg(bt, uint32_t(regno));
  }
  if (bt_empty(bt)) return Errno::None;

  for (;;) {
    uint32_t history = uint32_t(st->jmp_history.size());
    if (log_level2(env))
      verbose(env, "mark_precise: frame%u: last_idx %d first_idx %d subseq_idx %d \n", bt.frame, last_idx,
              first_idx, subseq_idx);
    if (last_idx < 0) return at_function_entry(env, *st, bt, changed);
    for (int i = last_idx;;) {
      Errno err = Errno::None;
      if (skip_first) {
        skip_first = false;
      } else {
        bool here = history > 0 && int(st->jmp_history[history - 1].idx) == i;
        err =
            backtrack_insn(env, uint32_t(i), subseq_idx, here ? &st->jmp_history[history - 1] : nullptr, bt);
      }
      if (err == Errno::NotSupp) {
        mark_all_scalars_precise(env, starting_state);
        bt = {};
        return Errno::None;
      }
      MUST(err);
      if (bt_empty(bt)) return Errno::None;
      subseq_idx = i;
      if (!prev_insn_idx(*st, i, history)) break;
      if (i < 0 || i >= int(env.insn_cnt())) return verifier_bug(env, "backtracking idx %d", i);
    }
    st = st->parent;
    if (!st) break;
    MUST(mark_in_state(env, *st, bt, changed));
    if (bt_empty(bt)) return Errno::None;
    subseq_idx = first_idx;
    last_idx = int(st->last_insn_idx);
    first_idx = int(st->first_insn_idx);
  }
  if (!bt_empty(bt)) {
    mark_all_scalars_precise(env, starting_state);
    bt = {};
  }
  return Errno::None;
}
}  // namespace

Errno mark_chain_precision(bpf_verifier_env& env, uint32_t regno) {
  return follow_back(env, *env.cur_state, int(regno), nullptr);
}

Errno mark_chain_precision_batch(bpf_verifier_env& env, bpf_verifier_state& starting_state) {
  return follow_back(env, starting_state, -1, nullptr);
}

Errno propagate_precision(bpf_verifier_env& env, const bpf_verifier_state& old, bpf_verifier_state& cur,
                          bool* changed) {
  for (int fr = int(old.curframe); fr >= 0; fr--) {
    const bpf_func_state& state = *old.frame[size_t(fr)];
    bool first = true;
    auto name = [&](const char* what, int number) {
      if (!log_level2(env)) return;
      if (first)
        verbose(env, "frame %d: propagating %s%d", fr, what, number);
      else
        verbose(env, ",%s%d", what, number);
    };
    for (int i = 0; i < BPF_REG_FP; i++) {
      const bpf_reg_state& reg = state.regs[size_t(i)];
      if (reg.type != SCALAR_VALUE || !reg.precise) continue;
      name("r", i);
      env.bt.reg_masks[fr] |= 1u << i;
      first = false;
    }
    for (int i = 0; i < state.nr_slots(); i++) {
      const bpf_stack_state& slot = state.stack[size_t(i)];
      if (!slot.is_spilled_scalar_reg() || !slot.spilled_ptr.precise) continue;
      name("fp", (-i - 1) * BPF_REG_SIZE);
      bt_set_frame_slot(env.bt, uint32_t(fr), uint32_t(i));
      first = false;
    }
    if (!first) verbose(env, "\n");
  }
  return follow_back(env, cur, -1, changed);
}

// The way back is lost: every number in every state before this one is taken to matter.
void mark_all_scalars_precise(bpf_verifier_env& env, bpf_verifier_state& starting) {
  if (log_level2(env))
    verbose(env, "mark_precise: frame%u: falling back to forcing all scalars precise\n", starting.curframe);
  for (bpf_verifier_state* st = starting.parent; st; st = st->parent)
    for (uint32_t i = 0; i <= st->curframe; i++) {
      bpf_func_state& func = *st->frame[i];
      for (int j = 0; j < BPF_REG_FP; j++) {
        bpf_reg_state& reg = func.regs[size_t(j)];
        if (reg.type != SCALAR_VALUE || reg.precise) continue;
        reg.precise = true;
        if (log_level2(env)) verbose(env, "force_precise: frame%u: forcing r%d to be precise\n", i, j);
      }
      for (int j = 0; j < func.nr_slots(); j++) {
        bpf_stack_state& slot = func.stack[size_t(j)];
        if (!slot.is_spilled_scalar_reg() || slot.spilled_ptr.precise) continue;
        slot.spilled_ptr.precise = true;
        if (log_level2(env))
          verbose(env, "force_precise: frame%u: forcing fp%d to be precise\n", i, -(j + 1) * BPF_REG_SIZE);
      }
    }
}

void mark_all_scalars_imprecise(bpf_verifier_state& st) {
  for (uint32_t i = 0; i <= st.curframe; i++) {
    bpf_func_state& func = *st.frame[i];
    for (int j = 0; j < BPF_REG_FP; j++)
      if (func.regs[size_t(j)].type == SCALAR_VALUE) func.regs[size_t(j)].precise = false;
    for (bpf_stack_state& slot : func.stack)
      if (slot.is_spilled_scalar_reg()) slot.spilled_ptr.precise = false;
  }
}

void push_jmp_history(bpf_verifier_env& env, bpf_verifier_state& cur, uint32_t insn_flags, uint64_t linked) {
  if (env.cur_hist_ent >= 0) {
    bpf_jmp_history_entry& entry = cur.jmp_history[size_t(env.cur_hist_ent)];
    entry.flags |= insn_flags;
    entry.linked_regs = linked;
    return;
  }
  bpf_jmp_history_entry entry{env.insn_idx, 0, 0, linked};
  entry.prev_idx = uint32_t(env.prev_insn_idx);
  entry.flags = insn_flags;
  env.cur_hist_ent = int(cur.jmp_history.size());
  cur.jmp_history.push_back(entry);
}

// Ten bits each: frame, register or slot, which of the two; the count in the lowest four bits.
uint64_t linked_regs::pack() const {
  uint64_t packed = 0;
  for (int i = 0; i < cnt; i++) {
    const linked_reg& e = entries[i];
    packed = packed << 10 | uint64_t(e.is_reg) << 9 | uint64_t(e.regno) << 3 | e.frameno;
  }
  return packed << 4 | uint64_t(cnt);
}

linked_regs linked_regs::unpack(uint64_t packed) {
  linked_regs linked;
  int cnt = int(packed & 15);
  packed >>= 4;
  for (int i = 0; i < cnt; i++, packed >>= 10)
    linked.push({uint8_t(packed & 7), uint8_t(packed >> 3 & 63), bool(packed >> 9 & 1)});
  return linked;
}

}  // namespace bpfsim
