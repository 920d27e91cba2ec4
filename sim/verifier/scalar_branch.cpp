// Models: kernel/bpf/verifier.c, is_scalar_branch_taken() and regs_refine_cond_op() (Linux 6.18)
//
// See scalar_branch.h. The rules for both widths stand once, over Range.
#include "verifier/scalar_branch.h"

#include <bit>
#include <utility>

namespace bpfsim {

uint8_t flip_opcode(uint8_t opcode) {
  switch (opcode) {
    case BPF_JGE: return BPF_JLE;
    case BPF_JGT: return BPF_JLT;
    case BPF_JLE: return BPF_JGE;
    case BPF_JLT: return BPF_JGT;
    case BPF_JSGE: return BPF_JSLE;
    case BPF_JSGT: return BPF_JSLT;
    case BPF_JSLE: return BPF_JSGE;
    case BPF_JSLT: return BPF_JSGT;
    default: return opcode;
  }
}

uint8_t rev_opcode(uint8_t opcode) {
  switch (opcode) {
    case BPF_JEQ: return BPF_JNE;
    case BPF_JNE: return BPF_JEQ;
    case BPF_JSET: return kNotJset;
    case kNotJset: return BPF_JSET;
    case BPF_JGE: return BPF_JLT;
    case BPF_JGT: return BPF_JLE;
    case BPF_JLE: return BPF_JGT;
    case BPF_JLT: return BPF_JGE;
    case BPF_JSGE: return BPF_JSLT;
    case BPF_JSGT: return BPF_JSLE;
    case BPF_JSLE: return BPF_JSGT;
    case BPF_JSLT: return BPF_JSGE;
    default: return 0;
  }
}

template <class U>
static bool disjoint(const Range<U>& a, const Range<U>& b) {
  return a.umin > b.umax || a.umax < b.umin || a.smin > b.smax || a.smax < b.smin;
}

static bool cannot_be_equal(const Scalar& a, const Scalar& b, tnum t1, tnum t2, bool is_jmp32) {
  if (!tnum_overlap(t1, t2)) return true;
  return (!is_jmp32 && disjoint(a.r64, b.r64)) || disjoint(a.r32, b.r32);
}

template <class T>
static int greater(T min1, T max1, T min2, T max2) {  // a > b
  return min1 > max2 ? 1 : max1 <= min2 ? 0 : -1;
}
template <class T>
static int greater_equal(T min1, T max1, T min2, T max2) {
  return min1 >= max2 ? 1 : max1 < min2 ? 0 : -1;
}

template <class U>
static int order_taken(const Range<U>& a, const Range<U>& b, uint8_t opcode) {
  switch (opcode) {
    case BPF_JGT: return greater(a.umin, a.umax, b.umin, b.umax);
    case BPF_JSGT: return greater(a.smin, a.smax, b.smin, b.smax);
    case BPF_JLT: return greater(b.umin, b.umax, a.umin, a.umax);
    case BPF_JSLT: return greater(b.smin, b.smax, a.smin, a.smax);
    case BPF_JGE: return greater_equal(a.umin, a.umax, b.umin, b.umax);
    case BPF_JSGE: return greater_equal(a.smin, a.smax, b.smin, b.smax);
    case BPF_JLE: return greater_equal(b.umin, b.umax, a.umin, a.umax);
    case BPF_JSLE: return greater_equal(b.smin, b.smax, a.smin, a.smax);
    default: return -1;
  }
}

int is_scalar_branch_taken(const Scalar& reg1, const Scalar& reg2, uint8_t opcode, bool is_jmp32) {
  tnum t1 = is_jmp32 ? tnum_subreg(reg1.var_off) : reg1.var_off;
  tnum t2 = is_jmp32 ? tnum_subreg(reg2.var_off) : reg2.var_off;
  switch (opcode) {
    case BPF_JEQ:
    case BPF_JNE: {
      bool want = opcode == BPF_JEQ;
      if (tnum_is_const(t1) && tnum_is_const(t2)) return (t1.value == t2.value) == want;
      return cannot_be_equal(reg1, reg2, t1, t2, is_jmp32) ? !want : -1;
    }
    case BPF_JSET:
      if (!tnum_is_const(t2)) std::swap(t1, t2);
      if (!tnum_is_const(t2)) return -1;
      if (t1.value & t2.value) return 1;
      return tnum_max(t1) & t2.value ? -1 : 0;
    default:
      return is_jmp32 ? order_taken(reg1.r32, reg2.r32, opcode) : order_taken(reg1.r64, reg2.r64, opcode);
  }
}

template <class U>
static void refine_equal(Range<U>& a, Range<U>& b) {
  a.intersect(b);
  b = a;
}

// Only an end of the range can be cut off.
template <class U>
static void refine_not_equal(Range<U>& r, U value) {
  using S = typename Range<U>::S;
  if (r.umin == value) r.umin++;
  if (r.umax == value) r.umax--;
  if (r.smin == S(value)) r.smin = S(U(r.smin) + 1);
  if (r.smax == S(value)) r.smax = S(U(r.smax) - 1);
}

template <class U>
static void refine_order(Range<U>& a, Range<U>& b, uint8_t opcode) {
  using S = typename Range<U>::S;
  switch (opcode) {
    case BPF_JLE:
      a.umax = std::min(a.umax, b.umax);
      b.umin = std::max(a.umin, b.umin);
      break;
    case BPF_JLT:
      a.umax = std::min(a.umax, U(b.umax - 1));
      b.umin = std::max(U(a.umin + 1), b.umin);
      break;
    case BPF_JSLE:
      a.smax = std::min(a.smax, b.smax);
      b.smin = std::max(a.smin, b.smin);
      break;
    case BPF_JSLT:
      a.smax = std::min(a.smax, S(U(b.smax) - 1));
      b.smin = std::max(S(U(a.smin) + 1), b.smin);
      break;
  }
}

static void refine_bits(Scalar& reg, tnum t, bool is_jmp32) {
  reg.var_off = is_jmp32 ? tnum_with_subreg(reg.var_off, t) : t;
}
static tnum bits_of(const Scalar& reg, bool is_jmp32) {
  return is_jmp32 ? tnum_subreg(reg.var_off) : reg.var_off;
}

static void refine_to_equal(Scalar& reg1, Scalar& reg2, bool is_jmp32) {
  if (is_jmp32)
    refine_equal(reg1.r32, reg2.r32);
  else
    refine_equal(reg1.r64, reg2.r64);
  tnum both = tnum_intersect(bits_of(reg1, is_jmp32), bits_of(reg2, is_jmp32));
  refine_bits(reg1, both, is_jmp32);
  refine_bits(reg2, both, is_jmp32);
}

// JNE and JSET tell something only against a constant, on whichever side it stands.
static void refine_against_constant(Scalar& reg, const Scalar& constant, uint8_t opcode, bool is_jmp32) {
  uint64_t value = constant.const_value(is_jmp32);
  if (opcode == BPF_JNE) {
    is_jmp32 ? refine_not_equal(reg.r32, uint32_t(value)) : refine_not_equal(reg.r64, value);
  } else if (opcode == BPF_JSET) {
    if (std::has_single_bit(value))
      refine_bits(reg, tnum_or(bits_of(reg, is_jmp32), tnum_const(value)), is_jmp32);
  } else {
    mark_unbounded(reg);  // sync derives the ranges from the bits
    refine_bits(reg, tnum_and(bits_of(reg, is_jmp32), tnum_const(~value)), is_jmp32);
  }
}

void regs_refine_cond_op(Scalar& reg1, Scalar& reg2, uint8_t opcode, bool is_jmp32) {
  switch (opcode) {
    case BPF_JEQ: return refine_to_equal(reg1, reg2, is_jmp32);
    case BPF_JNE:
    case BPF_JSET:
    case kNotJset:
      if (reg2.is_const(is_jmp32)) return refine_against_constant(reg1, reg2, opcode, is_jmp32);
      if (reg1.is_const(is_jmp32)) return refine_against_constant(reg2, reg1, opcode, is_jmp32);
      return;
    case BPF_JGE:
    case BPF_JGT:
    case BPF_JSGE:
    case BPF_JSGT: return regs_refine_cond_op(reg2, reg1, flip_opcode(opcode), is_jmp32);
    default: is_jmp32 ? refine_order(reg1.r32, reg2.r32, opcode) : refine_order(reg1.r64, reg2.r64, opcode);
  }
}

}  // namespace bpfsim
