// Models: kernel/bpf/verifier.c, reg_bounds_sync() and what it calls (Linux 6.18)
//
// How bits and ranges teach each other. Each step only narrows, so three rounds as in the kernel may stop
// early when a round changes nothing: the next would do the same. The results are the kernel's to the bit,
// since the log prints them and verdicts hang on them; the tests hold that no step ever loses a number
// (soundness).
#include "verifier/bounds.h"

namespace bpfsim {

Scalar scalar_const(uint64_t imm) {
  Scalar known;
  mark_known(known, imm);
  return known;
}

void mark32_known(Scalar& reg, uint32_t imm) {
  reg.var_off = tnum_const_subreg(reg.var_off, imm);
  reg.r32.know(imm);
}

// The extremes that the bits of `off` (of the range's width) allow. The sign bit decides which end is which.
template <class U>
static void narrow_by_bits(Range<U>& r, tnum off) {
  using S = typename Range<U>::S;
  constexpr U sign = U{1} << (sizeof(U) * 8 - 1);
  r.narrow_signed(S(U(off.value) | (U(off.mask) & sign)), S(U(off.value) | (U(off.mask) & ~sign)));
  r.narrow_unsigned(U(off.value), U(tnum_max(off)));
}

void update_reg32_bounds(Scalar& reg) { narrow_by_bits(reg.r32, tnum_subreg(reg.var_off)); }

// A range that holds just one member of the tnum tells the number.
static void update_reg64_bounds(Scalar& reg) {
  narrow_by_bits(reg.r64, reg.var_off);
  if (reg.is_const() && reg.r64.umin == reg.r64.umax && reg.r64.umin == reg.var_off.value) return;
  uint64_t next = tnum_step(reg.var_off, reg.r64.umin);
  if (tnum_contains(reg.var_off, reg.r64.umin)) {
    if (next > reg.r64.umax) mark_known(reg, reg.r64.umin);
  } else if (next == tnum_max(reg.var_off)) {
    mark_known(reg, next);
  } else if (next <= reg.r64.umax && tnum_step(reg.var_off, next) > reg.r64.umax) {
    mark_known(reg, next);
  }
}

void update_reg_bounds(Scalar& reg) {
  update_reg32_bounds(reg);
  update_reg64_bounds(reg);
}

// Where neither reading wraps at the sign, signed and unsigned bounds are the same numbers. Where the signed
// range crosses zero but the unsigned one misses one of its two halves, only the other half is left.
template <class U>
static void deduce_signs(Range<U>& r) {
  using S = typename Range<U>::S;
  if (S(r.umin) <= S(r.umax)) r.narrow_signed(S(r.umin), S(r.umax));
  if (U(r.smin) <= U(r.smax)) {
    r.narrow_unsigned(U(r.smin), U(r.smax));
  } else if (r.umax < U(r.smin)) {
    r.smin = S(r.umin);
    r.umax = std::min(r.umax, U(r.smax));
  } else if (U(r.smax) < r.umin) {
    r.smax = S(r.umax);
    r.umin = std::max(r.umin, U(r.smin));
  }
}

// The low half of the numbers from lo to hi. With one common upper half they keep their order; when the upper
// half steps once while the low half goes from negative to positive, the signed reading of the low half does.
static void deduce_low_half(Range32& r, uint64_t lo, uint64_t hi, bool unsigned_order) {
  uint32_t lo32 = uint32_t(lo), hi32 = uint32_t(hi);
  if (lo >> 32 == hi >> 32) {
    if (unsigned_order || lo32 <= hi32) r.narrow_unsigned(lo32, hi32);
    if (int32_t(lo32) <= int32_t(hi32)) r.narrow_signed(int32_t(lo32), int32_t(hi32));
  }
}

static void deduce_low_half_over_step(Range32& r, uint64_t lo, uint64_t hi) {
  bool steps = uint32_t(lo >> 32) + 1 == uint32_t(hi >> 32);
  if (steps && int32_t(lo) < 0 && int32_t(hi) >= 0) r.narrow_signed(int32_t(lo), int32_t(hi));
}

static void reg32_deduce_bounds(Scalar& reg) {
  const Range64& r = reg.r64;
  deduce_low_half(reg.r32, r.umin, r.umax, true);
  deduce_low_half(reg.r32, uint64_t(r.smin), uint64_t(r.smax), false);
  deduce_low_half_over_step(reg.r32, r.umin, r.umax);
  deduce_low_half_over_step(reg.r32, uint64_t(r.smin), uint64_t(r.smax));
  deduce_signs(reg.r32);
}

// The 64-bit bounds with their low halves replaced by what the 32-bit reading allows at least and at most.
static void reg_deduce_mixed_bounds(Scalar& reg) {
  constexpr uint64_t high = ~uint64_t{UINT32_MAX};
  Range64& r = reg.r64;
  r.narrow_unsigned((r.umin & high) | reg.r32.umin, (r.umax & high) | reg.r32.umax);
  r.narrow_signed(int64_t((uint64_t(r.smin) & high) | reg.r32.umin),
                  int64_t((uint64_t(r.smax) & high) | reg.r32.umax));
  if (reg.r32.smin >= 0 && r.smin >= S32_MIN && r.smax <= S32_MAX) {
    r.smin = reg.r32.smin;
    r.smax = reg.r32.smax;
    r.umin = uint64_t(r.smin);
    r.umax = uint64_t(r.smax);
    reg.var_off = tnum_intersect(reg.var_off, tnum_range(r.umin, r.umax));
  }
}

static void reg_deduce_bounds(Scalar& reg) {
  reg32_deduce_bounds(reg);
  deduce_signs(reg.r64);
  reg_deduce_mixed_bounds(reg);
}

static void reg_bound_offset(Scalar& reg) {
  tnum off64 = tnum_intersect(reg.var_off, tnum_range(reg.r64.umin, reg.r64.umax));
  tnum off32 = tnum_intersect(tnum_subreg(off64), tnum_range(reg.r32.umin, reg.r32.umax));
  reg.var_off = tnum_or(tnum_clear_subreg(off64), off32);
}

static bool fully_known(const Scalar& reg) {
  uint64_t x = reg.var_off.value;
  return reg.is_const() && reg.r64.umin == x && reg.r64.umax == x && reg.r64.smin == int64_t(x) &&
         reg.r64.smax == int64_t(x) && reg.r32.umin == uint32_t(x) && reg.r32.umax == uint32_t(x) &&
         reg.r32.smin == int32_t(x) && reg.r32.smax == int32_t(x);
}

void reg_bounds_sync(Scalar& reg) {
  if (fully_known(reg)) return;
  update_reg_bounds(reg);
  for (int round = 0; round < 3; round++) {
    Scalar before = reg;
    reg_deduce_bounds(reg);
    if (reg == before) break;
  }
  reg_bound_offset(reg);
  update_reg_bounds(reg);
}

const char* reg_bounds_violation(const Scalar& reg) {
  if (reg.r64.broken() || reg.r32.broken()) return "range bounds violation";
  uint64_t x = reg.var_off.value;
  if (reg.is_const() &&
      (reg.r64.umin != x || reg.r64.umax != x || reg.r64.smin != int64_t(x) || reg.r64.smax != int64_t(x)))
    return "const tnum out of sync with range bounds";
  if (reg.is_const(true) && (reg.r32.umin != uint32_t(x) || reg.r32.umax != uint32_t(x) ||
                             reg.r32.smin != int32_t(x) || reg.r32.smax != int32_t(x)))
    return "const subreg tnum out of sync with range bounds";
  return nullptr;
}

// The upper half is zero now: the 64-bit reading is the unsigned 32-bit one, never negative.
void zext_32_to_64(Scalar& reg) {
  reg.var_off = tnum_subreg(reg.var_off);
  reg.r64.umin = reg.r32.umin;
  reg.r64.umax = reg.r32.umax;
  bool positive = reg.r32.smin >= 0 && reg.r32.smax >= 0;
  reg.r64.smin = positive ? reg.r32.smin : 0;
  reg.r64.smax = positive ? reg.r32.smax : int64_t{UINT32_MAX};
}

void coerce_reg_to_size(Scalar& reg, unsigned bytes) {
  uint64_t keep = (uint64_t{1} << (bytes * 8)) - 1;
  Range64& r = reg.r64;
  reg.var_off = tnum_cast(reg.var_off, bytes);
  bool same_above = (r.umin & ~keep) == (r.umax & ~keep);
  r.umin = same_above ? r.umin & keep : 0;
  r.umax = same_above ? r.umax & keep : keep;
  r.smin = int64_t(r.umin);
  r.smax = int64_t(r.umax);
  if (bytes < 4) reg.r32 = {};
  reg_bounds_sync(reg);
}

static int64_t sign_extend(uint64_t x, unsigned bytes) {
  unsigned drop = 64 - bytes * 8;
  return int64_t(x << drop) >> drop;
}

// Bounds that share all bits above the kept ones, and do not cross the kept sign bit, keep their order when
// extended.
template <class U>
static bool sign_extended(const Range<U>& r, unsigned bytes, int64_t& lo, int64_t& hi) {
  unsigned bits = bytes * 8;
  if (uint64_t(U(r.smin)) >> bits != uint64_t(U(r.smax)) >> bits) return false;
  int64_t a = sign_extend(uint64_t(r.smin), bytes), b = sign_extend(uint64_t(r.smax), bytes);
  lo = std::min(a, b);
  hi = std::max(a, b);
  return (lo >= 0) == (hi >= 0);
}

template <class U>
static void assign_range(Range<U>& r, int64_t lo, int64_t hi) {
  using S = typename Range<U>::S;
  r.smin = S(lo), r.smax = S(hi), r.umin = U(lo), r.umax = U(hi);
}

void coerce_reg_to_size_sx(Scalar& reg, unsigned bytes) {
  if (reg.is_const()) return mark_known(reg, uint64_t(sign_extend(reg.var_off.value, bytes)));
  int64_t lo, hi;
  if (sign_extended(reg.r64, bytes, lo, hi)) {
    assign_range(reg.r64, lo, hi);
    assign_range(reg.r32, lo, hi);
    reg.var_off = tnum_range(uint64_t(lo), uint64_t(hi));
    return;
  }
  int64_t least = sign_extend(uint64_t{1} << (bytes * 8 - 1), bytes);
  mark_unbounded(reg);
  reg.r64.smin = least, reg.r64.smax = ~least;
  reg.r32.smin = int32_t(least), reg.r32.smax = int32_t(~least);
  reg.var_off = tnum_unknown;
}

// Touches the 32-bit reading only: the caller extends it with zeros.
void coerce_subreg_to_size_sx(Scalar& reg, unsigned bytes) {
  if (reg.is_const()) {
    reg.var_off = tnum_const(uint64_t(sign_extend(uint32_t(reg.var_off.value), bytes)));
    reg.r32.know(uint32_t(reg.var_off.value));
    return;
  }
  int64_t lo, hi;
  if (sign_extended(reg.r32, bytes, lo, hi)) {
    assign_range(reg.r32, lo, hi);
    reg.var_off = tnum_subreg(tnum_range(uint64_t(lo), uint64_t(hi)));
    return;
  }
  int64_t least = sign_extend(uint64_t{1} << (bytes * 8 - 1), bytes);
  reg.r32 = {};
  reg.r32.smin = int32_t(least), reg.r32.smax = int32_t(~least);
  reg.var_off = tnum_subreg(tnum_unknown);
}

}  // namespace bpfsim
