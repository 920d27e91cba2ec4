// Models: kernel/bpf/verifier.c, scalar_min_max_*() (Linux 6.18)
//
// The kernel writes each rule twice, for 64 and for 32 bits; here one template serves both. An overflow that
// only some of the numbers suffer loses the bounds; since 6.17 an unsigned one that all of them suffer does
// not.
#include "verifier/scalar_range.h"

namespace bpfsim {

template <class U>
static void range_add(Range<U>& d, const Range<U>& s) {
  bool lo = __builtin_add_overflow(d.smin, s.smin, &d.smin);
  bool hi = __builtin_add_overflow(d.smax, s.smax, &d.smax);
  if (lo || hi) d.forget_signed();
  bool min_wraps = __builtin_add_overflow(d.umin, s.umin, &d.umin);
  bool max_wraps = __builtin_add_overflow(d.umax, s.umax, &d.umax);
  if (!min_wraps && max_wraps) d.forget_unsigned();
}

template <class U>
static void range_sub(Range<U>& d, const Range<U>& s) {
  bool lo = __builtin_sub_overflow(d.smin, s.smax, &d.smin);
  bool hi = __builtin_sub_overflow(d.smax, s.smin, &d.smax);
  if (lo || hi) d.forget_signed();
  bool min_wraps = __builtin_sub_overflow(d.umin, s.umax, &d.umin);
  bool max_wraps = __builtin_sub_overflow(d.umax, s.umin, &d.umax);
  if (min_wraps && !max_wraps) d.forget_unsigned();
}

template <class U>
static void range_mul(Range<U>& d, const Range<U>& s) {
  bool hi = __builtin_mul_overflow(d.umax, s.umax, &d.umax);
  bool lo = __builtin_mul_overflow(d.umin, s.umin, &d.umin);
  if (lo || hi) d.forget_unsigned();
  typename Range<U>::S corner[4];
  bool wraps = __builtin_mul_overflow(d.smin, s.smin, &corner[0]) ||
               __builtin_mul_overflow(d.smin, s.smax, &corner[1]) ||
               __builtin_mul_overflow(d.smax, s.smin, &corner[2]) ||
               __builtin_mul_overflow(d.smax, s.smax, &corner[3]);
  if (wraps) return d.forget_signed();
  d.smin = *std::min_element(corner, corner + 4);
  d.smax = *std::max_element(corner, corner + 4);
}

void scalar_min_max_add(Scalar& dst, const Scalar& src) {
  range_add(dst.r32, src.r32);
  range_add(dst.r64, src.r64);
}

void scalar_min_max_sub(Scalar& dst, const Scalar& src) {
  range_sub(dst.r32, src.r32);
  range_sub(dst.r64, src.r64);
}

void scalar_add(Scalar& dst, const Scalar& src) {
  scalar_min_max_add(dst, src);
  dst.var_off = tnum_add(dst.var_off, src.var_off);
}

void scalar_sub(Scalar& dst, const Scalar& src) {
  scalar_min_max_sub(dst, src);
  dst.var_off = tnum_sub(dst.var_off, src.var_off);
}

void scalar_neg(Scalar& dst) {
  Scalar src = dst;
  mark_known(dst, 0);
  scalar_min_max_sub(dst, src);
  dst.var_off = tnum_neg(src.var_off);
}

void scalar_mul(Scalar& dst, const Scalar& src) {
  dst.var_off = tnum_mul(dst.var_off, src.var_off);
  range_mul(dst.r32, src.r32);
  range_mul(dst.r64, src.r64);
}

// The signed reading follows the unsigned one where that does not cross the sign.
template <class U>
static void signed_follows_unsigned(Range<U>& r) {
  using S = typename Range<U>::S;
  bool ordered = S(r.umin) <= S(r.umax);
  r.smin = ordered ? S(r.umin) : Range<U>::kSMin;
  r.smax = ordered ? S(r.umax) : Range<U>::kSMax;
}

// and, or, xor: the bits of the result are there already; `umin` and `umax` are what the operation allows.
struct BitwiseLimits {
  bool min_from_operands, max_from_operands;
};

template <class U>
static void range_bitwise(Range<U>& d, const Range<U>& s, tnum off, BitwiseLimits limits) {
  d.umin = limits.min_from_operands ? std::max(d.umin, s.umin) : U(off.value);
  d.umax = limits.max_from_operands ? std::min(d.umax, s.umax) : U(tnum_max(off));
  signed_follows_unsigned(d);
}

static void scalar_bitwise(Scalar& dst, const Scalar& src, tnum result, BitwiseLimits limits) {
  dst.var_off = result;
  if (src.is_const(true) && dst.is_const(true))
    mark32_known(dst, uint32_t(result.value));
  else
    range_bitwise(dst.r32, src.r32, tnum_subreg(result), limits);
  if (src.is_const() && dst.is_const()) return mark_known(dst, result.value);
  range_bitwise(dst.r64, src.r64, result, limits);
  update_reg_bounds(dst);
}

void scalar_and(Scalar& dst, const Scalar& src) {
  scalar_bitwise(dst, src, tnum_and(dst.var_off, src.var_off), {false, true});
}
void scalar_or(Scalar& dst, const Scalar& src) {
  scalar_bitwise(dst, src, tnum_or(dst.var_off, src.var_off), {true, false});
}
void scalar_xor(Scalar& dst, const Scalar& src) {
  scalar_bitwise(dst, src, tnum_xor(dst.var_off, src.var_off), {false, false});
}

// The 32-bit half may be asked to shift by 32 or more when the whole register is shifted: nothing is left of
// it.
static void range32_lsh(Range32& r, unsigned shift) {
  r.forget_signed();
  if (shift > 31 || r.umax > uint64_t{1} << (31 - shift)) return r.forget_unsigned();
  r.umin <<= shift;
  r.umax <<= shift;
}

void scalar32_lsh(Scalar& dst, unsigned shift) {
  range32_lsh(dst.r32, shift);
  dst.var_off = tnum_subreg(tnum_lshift(tnum_subreg(dst.var_off), shift));
  dst.r64 = {};
  update_reg32_bounds(dst);
}

// A shift by 32 is half of how compilers sign-extend a 32-bit value: keep the signed bounds of that one.
void scalar_lsh(Scalar& dst, unsigned shift) {
  dst.r64.forget_signed();
  if (shift == 32) {
    dst.r64.smin = int64_t(uint64_t(int64_t{dst.r32.smin}) << 32);
    dst.r64.smax = int64_t(uint64_t(int64_t{dst.r32.smax}) << 32);
  }
  if (dst.r64.umax > uint64_t{1} << (63 - shift)) {
    dst.r64.forget_unsigned();
  } else {
    dst.r64.umin <<= shift;
    dst.r64.umax <<= shift;
  }
  range32_lsh(dst.r32, shift);
  dst.var_off = tnum_lshift(dst.var_off, shift);
  update_reg_bounds(dst);
}

void scalar32_rsh(Scalar& dst, unsigned shift) {
  dst.r32.forget_signed();
  dst.var_off = tnum_rshift(tnum_subreg(dst.var_off), shift);
  dst.r32.umin >>= shift;
  dst.r32.umax >>= shift;
  dst.r64 = {};
  update_reg32_bounds(dst);
}

void scalar_rsh(Scalar& dst, unsigned shift) {
  dst.r64.forget_signed();
  dst.var_off = tnum_rshift(dst.var_off, shift);
  dst.r64.umin >>= shift;
  dst.r64.umax >>= shift;
  dst.r32 = {};
  update_reg_bounds(dst);
}

void scalar32_arsh(Scalar& dst, unsigned shift) {
  dst.r32.smin >>= shift;
  dst.r32.smax >>= shift;
  dst.var_off = tnum_arshift(tnum_subreg(dst.var_off), shift, 32);
  dst.r32.forget_unsigned();
  dst.r64 = {};
  update_reg32_bounds(dst);
}

void scalar_arsh(Scalar& dst, unsigned shift) {
  dst.r64.smin >>= shift;
  dst.r64.smax >>= shift;
  dst.var_off = tnum_arshift(dst.var_off, shift, 64);
  dst.r64.forget_unsigned();
  dst.r32 = {};
  update_reg_bounds(dst);
}

void scalar_bswap(Scalar& dst, unsigned bits) {
  dst.var_off = tnum_bswap(dst.var_off, bits);
  mark_unbounded(dst);
}

}  // namespace bpfsim
