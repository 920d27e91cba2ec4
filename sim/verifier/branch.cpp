// Models: kernel/bpf/verifier.c, check_cond_jmp_op() (Linux 6.18)
//
// See branch.h. Comparing numbers narrows both, and their kin with the same id; comparing a pointer that may
// be null with 0 tells which it is; comparing a packet pointer with the packet's end proves how many bytes
// are there.
#include "verifier/branch.h"

#include "verifier/backtrack.h"
#include "verifier/cfg.h"
#include "verifier/paths.h"
#include "verifier/print_state.h"
#include "verifier/ptr_alu.h"
#include "verifier/refs.h"
#include "verifier/regs.h"
#include "verifier/scalar_branch.h"
#include "verifier/scalar_range.h"

namespace bpfsim {

namespace {
// Every pointer into the packet with the same variable part now knows that many bytes before the end.
void find_good_pkt_pointers(bpf_verifier_state& vstate, const bpf_reg_state& dst, bool range_right_open) {
  if (dst.off < 0 || (dst.off == 0 && range_right_open)) return;  // nothing is proven
  if (dst.r64.umax > uint64_t(MAX_PACKET_OFF) || dst.r64.umax + uint64_t(dst.off) > uint64_t(MAX_PACKET_OFF))
    return;
  int new_range = dst.off + range_right_open;  // p < end: the byte at p is there as well
  uint32_t type = dst.type, id = dst.id;
  for_each_reg_in_vstate(vstate, [&](bpf_reg_state& reg) {
    if (reg.type == type && reg.id == id) reg.range = std::max(reg.range, new_range);
  });
}

void mark_pkt_end(bpf_verifier_state& vstate, uint32_t regno, bool range_open) {
  bpf_reg_state& reg = vstate.cur().regs[regno];
  if (reg.type == PTR_TO_PACKET) reg.range = range_open ? BEYOND_PKT_END : AT_PKT_END;
}

// A packet pointer on the left, the end on the right (or metadata and the packet's start).
bool is_pkt_and_end(const bpf_reg_state& pkt, const bpf_reg_state& end) {
  return (pkt.type == PTR_TO_PACKET && end.type == PTR_TO_PACKET_END) ||
         (pkt.type == PTR_TO_PACKET_META && reg_is_init_pkt_pointer(end, PTR_TO_PACKET));
}

bool try_match_pkt_pointers(const bpf_insn& insn, const bpf_reg_state& dst, const bpf_reg_state& src,
                            bpf_verifier_state& this_branch, bpf_verifier_state& other_branch) {
  if (BPF_SRC(insn.code) != BPF_X || BPF_CLASS(insn.code) == BPF_JMP32) return false;
  uint8_t op = BPF_OP(insn.code);
  if (op != BPF_JGT && op != BPF_JLT && op != BPF_JGE && op != BPF_JLE) return false;
  const bpf_reg_state* pkt = &dst;
  uint32_t regno = insn.dst_reg;
  if (!is_pkt_and_end(dst, src)) {
    if (!is_pkt_and_end(src, dst)) return false;
    pkt = &src;
    regno = insn.src_reg;
    op = flip_opcode(op);
  }
  // pkt > end or pkt >= end jumps away from the good side; pkt < end or pkt <= end jumps to it.
  bool good_is_here = op == BPF_JGT || op == BPF_JGE;
  bool strict_good = op == BPF_JGE || op == BPF_JLT;  // on the good side pkt < end
  find_good_pkt_pointers(good_is_here ? this_branch : other_branch, *pkt, strict_good);
  mark_pkt_end(good_is_here ? other_branch : this_branch, regno, !strict_good);
  return true;
}

int is_pkt_ptr_branch_taken(const bpf_reg_state& dst, const bpf_reg_state& src, uint8_t opcode) {
  const bpf_reg_state* pkt = &dst;
  if (src.type != PTR_TO_PACKET_END) {
    if (dst.type != PTR_TO_PACKET_END) return -1;
    pkt = &src;
    opcode = flip_opcode(opcode);
  }
  if (pkt->range >= 0) return -1;
  bool beyond = pkt->range == BEYOND_PKT_END;
  if (opcode == BPF_JLE || opcode == BPF_JGT) return beyond ? opcode == BPF_JGT : -1;
  if (opcode == BPF_JLT || opcode == BPF_JGE) return opcode == BPF_JGE;
  return -1;
}

int is_branch_taken(const bpf_reg_state& reg1, const bpf_reg_state& reg2, uint8_t opcode, bool is_jmp32) {
  if (reg_is_pkt_pointer_any(reg1) && reg_is_pkt_pointer_any(reg2) && !is_jmp32)
    return is_pkt_ptr_branch_taken(reg1, reg2, opcode);
  if (reg1.type == SCALAR_VALUE && reg2.type == SCALAR_VALUE)
    return is_scalar_branch_taken(reg1, reg2, opcode, is_jmp32);
  // A pointer that is not null, against the constant 0.
  const bpf_reg_state *ptr = &reg1, *constant = &reg2;
  if (!constant->is_scalar_const(is_jmp32)) std::swap(ptr, constant);
  if (!constant->is_scalar_const(is_jmp32) || !reg_not_null(*ptr) || constant->const_value(is_jmp32) != 0)
    return -1;
  return opcode == BPF_JEQ ? 0 : opcode == BPF_JNE ? 1 : -1;
}

// The two sides of the branch: `t` where it is taken, `f` where not.
Errno reg_set_min_max(bpf_verifier_env& env, bpf_reg_state& t1, bpf_reg_state& t2, bpf_reg_state& f1,
                      bpf_reg_state& f2, uint8_t opcode, bool is_jmp32) {
  if (f1.type != SCALAR_VALUE || f2.type != SCALAR_VALUE) return Errno::None;
  regs_refine_cond_op(f1, f2, rev_opcode(opcode), is_jmp32);
  reg_bounds_sync(f1);
  reg_bounds_sync(f2);
  regs_refine_cond_op(t1, t2, opcode, is_jmp32);
  reg_bounds_sync(t1);
  reg_bounds_sync(t2);
  MUST(reg_bounds_sanity_check(env, t1, "true_reg1"));
  MUST(reg_bounds_sanity_check(env, t2, "true_reg2"));
  MUST(reg_bounds_sanity_check(env, f1, "false_reg1"));
  return reg_bounds_sanity_check(env, f2, "false_reg2");
}

void collect_one(linked_regs& linked, bpf_reg_state& reg, uint32_t id, linked_reg where) {
  if (reg.type != SCALAR_VALUE || (reg.id & ~BPF_ADD_CONST) != id) return;
  if (!linked.push(where)) reg.id = 0;  // no room: it is kin no more
}

void collect_linked_regs(bpf_verifier_env& env, bpf_verifier_state& vstate, uint32_t id,
                         linked_regs& linked) {
  id &= ~BPF_ADD_CONST;
  for (int i = int(vstate.curframe); i >= 0; i--) {
    uint16_t live = env.insn_aux_data[frame_insn_idx(vstate, uint32_t(i))].live_regs_before;
    bpf_func_state& func = *vstate.frame[size_t(i)];
    for (uint8_t j = 0; j < BPF_REG_FP; j++)
      if (live >> j & 1) collect_one(linked, func.regs[j], id, {uint8_t(i), j, true});
    for (size_t j = 0; j < func.stack.size(); j++)
      if (func.stack[j].is_spilled_reg())
        collect_one(linked, func.stack[j].spilled_ptr, id, {uint8_t(i), uint8_t(j), false});
  }
}

// What was learnt of one holds for its kin, a constant apart.
void sync_linked_regs(bpf_verifier_state& vstate, const bpf_reg_state& known, const linked_regs& linked) {
  for (int i = 0; i < linked.cnt; i++) {
    const linked_reg& e = linked.entries[i];
    bpf_func_state& func = *vstate.frame[e.frameno];
    bpf_reg_state& reg = e.is_reg ? func.regs[e.regno] : func.stack[e.regno].spilled_ptr;
    if (reg.type != SCALAR_VALUE || &reg == &known) continue;
    if ((reg.id & ~BPF_ADD_CONST) != (known.id & ~BPF_ADD_CONST)) continue;
    if (((reg.id ^ known.id) & BPF_ADD_CONST) == BPF_ADD_CONST) continue;  // one apart in 32 bits, one in 64
    int32_t subreg_def = reg.subreg_def, off = reg.off;
    uint32_t id = reg.id;
    bool equal = (!(reg.id & BPF_ADD_CONST) && !(known.id & BPF_ADD_CONST)) || reg.off == known.off;
    reg = known;
    reg.subreg_def = subreg_def;
    if (equal) continue;
    Scalar apart = scalar_const(uint64_t(int64_t{off} - int64_t{known.off}));
    reg.off = off;
    reg.id = id;
    scalar_add(reg, apart);
    if ((reg.id | known.id) & BPF_ADD_CONST32) zext_32_to_64(reg);
    reg_bounds_sync(reg);
  }
}

// The kin of both operands, which the walk backwards will have to know too.
linked_regs linked_with_operands(bpf_verifier_env& env, bpf_verifier_state& branch, const bpf_reg_state& dst,
                                 const bpf_reg_state* src) {
  linked_regs linked;
  if (src && src->type == SCALAR_VALUE && src->id) collect_linked_regs(env, branch, src->id, linked);
  if (dst.type == SCALAR_VALUE && dst.id) collect_linked_regs(env, branch, dst.id, linked);
  if (linked.cnt > 1) push_jmp_history(env, branch, 0, linked);
  return linked;
}

// On each side of the branch the kin of this operand learn what it learnt there.
void sync_both_branches(bpf_verifier_state& this_branch, bpf_verifier_state& other_branch, uint32_t regno,
                        const linked_regs& linked) {
  const bpf_reg_state &here = this_branch.cur().regs[regno], &there = other_branch.cur().regs[regno];
  if (here.type != SCALAR_VALUE || !here.id || here.id != there.id) return;
  sync_linked_regs(this_branch, here, linked);
  sync_linked_regs(other_branch, there, linked);
}

void mark_ptr_or_null_reg(bpf_reg_state& reg, uint32_t id, bool is_null) {
  if (!type_may_be_null(reg.type) || reg.id != id) return;
  if (reg.r64.smin || reg.r64.smax || !tnum_equals_const(reg.var_off, 0) || reg.off) return;
  if (is_null) {
    reg.type = SCALAR_VALUE;
    reg.id = 0;
    reg.ref_obj_id = 0;
    return;
  }
  mark_ptr_not_null_reg(reg);
  reg.id = 0;  // a lock in the value would keep it
}

void mark_ptr_or_null_regs(bpf_verifier_state& vstate, uint32_t regno, bool is_null) {
  uint32_t ref_obj_id = vstate.cur().regs[regno].ref_obj_id, id = vstate.cur().regs[regno].id;
  if (ref_obj_id && ref_obj_id == id && is_null)
    release_reference_nomark(vstate, id);  // there was nothing to hold
  for_each_reg_in_vstate(vstate, [&](bpf_reg_state& reg) { mark_ptr_or_null_reg(reg, id, is_null); });
}

// Two pointers are equal and one of them is not null: then neither is the other.
void not_null_by_equality(const bpf_insn& insn, std::array<bpf_reg_state, MAX_BPF_REG>& here,
                          std::array<bpf_reg_state, MAX_BPF_REG>& other) {
  const bpf_reg_state &dst = here[insn.dst_reg], &src = here[insn.src_reg];
  if (src.type == SCALAR_VALUE || dst.type == SCALAR_VALUE) return;
  if (type_may_be_null(src.type) == type_may_be_null(dst.type)) return;
  if (base_type(src.type) == PTR_TO_BTF_ID || base_type(dst.type) == PTR_TO_BTF_ID) return;
  uint8_t op = BPF_OP(insn.code);
  if (op != BPF_JEQ && op != BPF_JNE) return;
  auto& equal = op == BPF_JEQ ? other : here;
  mark_ptr_not_null_reg(equal[type_may_be_null(src.type) ? insn.src_reg : insn.dst_reg]);
}

Errno check_jmp_operands(bpf_verifier_env& env, const bpf_insn& insn) {
  MUST(check_reg_arg(env, insn.dst_reg, SRC_OP));
  auto& regs = env.cur_regs();
  uint32_t flags = 0;
  if (BPF_SRC(insn.code) == BPF_X) {
    if (insn.imm != 0) return reject(env, Errno::Inval, "BPF_JMP/JMP32 uses reserved fields\n");
    MUST(check_reg_arg(env, insn.src_reg, SRC_OP));
    bool packet = reg_is_pkt_pointer_any(regs[insn.dst_reg]) && reg_is_pkt_pointer_any(regs[insn.src_reg]);
    if (!packet && is_pointer_value(env, insn.src_reg))
      return reject(env, Errno::Access, "R%d pointer comparison prohibited\n", insn.src_reg);
    if (regs[insn.src_reg].type == PTR_TO_STACK) flags |= INSN_F_SRC_REG_STACK;
  } else if (insn.src_reg != BPF_REG_0) {
    return reject(env, Errno::Inval, "BPF_JMP/JMP32 uses reserved fields\n");
  }
  if (regs[insn.dst_reg].type == PTR_TO_STACK) flags |= INSN_F_DST_REG_STACK;
  if (flags) push_jmp_history(env, *env.cur_state, flags);
  return Errno::None;
}

// Only one side can be. A mispredicting CPU takes the other one all the same.
Errno only_one_way(bpf_verifier_env& env, const bpf_insn& insn, bool taken, bool dst_number,
                   bool src_number) {
  if (dst_number) MUST(mark_chain_precision(env, insn.dst_reg));
  if (src_number) MUST(mark_chain_precision(env, insn.src_reg));
  uint32_t jump = env.insn_idx + uint32_t(int32_t{insn.off}) + 1;
  if (!env.bypass_spec_v1 &&
      !sanitize_speculative_path(env, &insn, taken ? env.insn_idx + 1 : jump, env.insn_idx))
    return Errno::Fault;
  if (log_level(env)) print_insn_state(env, *env.cur_state, env.cur_state->curframe);
  if (taken) env.insn_idx += uint32_t(int32_t{insn.off});
  return Errno::None;
}

Errno check_may_goto(bpf_verifier_env& env, const bpf_insn& insn) {
  if (!is_may_goto(insn) || insn.dst_reg || insn.imm)
    return reject(env, Errno::Inval, "invalid may_goto imm %d\n", insn.imm);
  return not_modelled(env, "may_goto");
}
}  // namespace

Errno check_cond_jmp_op(bpf_verifier_env& env, const bpf_insn& insn) {
  uint8_t opcode = BPF_OP(insn.code);
  bool is_jmp32 = BPF_CLASS(insn.code) == BPF_JMP32, by_reg = BPF_SRC(insn.code) == BPF_X;
  if (opcode == BPF_JA || opcode > BPF_JCOND)
    return reject(env, Errno::Inval, "invalid BPF_JMP/JMP32 opcode %x\n", opcode);
  if (opcode == BPF_JCOND) return check_may_goto(env, insn);
  MUST(check_jmp_operands(env, insn));

  bpf_verifier_state& this_branch = *env.cur_state;
  auto& regs = this_branch.cur().regs;
  bpf_reg_state& dst = regs[insn.dst_reg];
  if (!by_reg) env.fake_reg[0] = fake_scalar(uint64_t(int64_t{insn.imm}));
  bpf_reg_state& src = by_reg ? regs[insn.src_reg] : env.fake_reg[0];
  int pred = is_branch_taken(dst, src, opcode, is_jmp32);
  if (pred >= 0)
    return only_one_way(env, insn, pred, dst.type == SCALAR_VALUE, by_reg && src.type == SCALAR_VALUE);

  const linked_regs linked = linked_with_operands(env, this_branch, dst, by_reg ? &src : nullptr);
  bpf_verifier_state* other_branch =
      push_stack(env, env.insn_idx + uint32_t(int32_t{insn.off}) + 1, env.insn_idx, false);
  if (!other_branch) return Errno::Fault;
  auto& other_regs = other_branch->cur().regs;
  if (!by_reg) env.fake_reg[1] = env.fake_reg[0];
  MUST(reg_set_min_max(env, other_regs[insn.dst_reg], by_reg ? other_regs[insn.src_reg] : env.fake_reg[0],
                       dst, by_reg ? src : env.fake_reg[1], opcode, is_jmp32));
  if (by_reg) sync_both_branches(this_branch, *other_branch, insn.src_reg, linked);
  sync_both_branches(this_branch, *other_branch, insn.dst_reg, linked);

  if (!is_jmp32 && by_reg) not_null_by_equality(insn, regs, other_regs);
  bool against_null = !is_jmp32 && !by_reg && insn.imm == 0 && (opcode == BPF_JEQ || opcode == BPF_JNE);
  if (against_null && type_may_be_null(dst.type)) {
    mark_ptr_or_null_regs(this_branch, insn.dst_reg, opcode == BPF_JNE);
    mark_ptr_or_null_regs(*other_branch, insn.dst_reg, opcode == BPF_JEQ);
  } else if (!try_match_pkt_pointers(insn, dst, regs[insn.src_reg], this_branch, *other_branch) &&
             is_pointer_value(env, insn.dst_reg)) {
    return reject(env, Errno::Access, "R%d pointer comparison prohibited\n", insn.dst_reg);
  }
  if (log_level(env)) print_insn_state(env, this_branch, this_branch.curframe);
  return Errno::None;
}

}  // namespace bpfsim
