// Models: kernel/bpf/verifier.c, reg_bounds_sync() and what it calls (Linux 6.18)
//
// How bits and ranges teach each other. Think of the 2^64 (or 2^32) numbers as a circle: unsigned reading
// cuts it open before 0, signed reading before its least number, and a range is an arc that does not cross
// the cut of its reading. In words, one rule for each way that knowledge takes:
//
// - bits to ranges: no member of a tnum lies outside its least and its greatest one;
// - 64 to 32 bits: the low halves of an arc are an arc, if they do not come around to where they began;
// - unsigned to signed and back: an arc that does not cross the other cut either is a range there too;
// - 32 to 64 bits: the ends of an arc have low halves that the 32-bit range allows;
// - ranges to bits: all members of a range begin with the bits that its two ends have in common.
//
// Each rule only narrows. The kernel goes round three times, and not until nothing changes; the order of the
// rules and that number are its own, since the log prints the results and verdicts hang on them. A round that
// changes nothing may end it, the next would do the same. The tests hold that no rule ever loses a number
// (soundness). Where ranges contradict each other, no number is left: what they then say means nothing, but
// is printed too, so here they are not asked for more than the kernel asks.
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

// If just one member of the tnum lies in the range, that is the number.
static void know_only_member(Scalar& reg) {
  const tnum t = reg.var_off;
  const uint64_t next = tnum_step(t, reg.r64.umin), last = reg.r64.umax;
  const bool least_is_one = tnum_contains(t, reg.r64.umin);
  const uint64_t first = least_is_one ? reg.r64.umin : next;
  auto second = [&] { return least_is_one ? next : tnum_step(t, first); };
  const bool greatest_of_all = !least_is_one && first == tnum_max(t);
  if (greatest_of_all || ((least_is_one || first <= last) && second() > last)) mark_known(reg, first);
}

static void update_reg64_bounds(Scalar& reg) {
  narrow_by_bits(reg.r64, reg.var_off);
  const bool known = reg.is_const() && reg.r64.umin == reg.r64.umax && reg.r64.umin == reg.var_off.value;
  if (!known) know_only_member(reg);
}

void update_reg_bounds(Scalar& reg) {
  update_reg32_bounds(reg);
  update_reg64_bounds(reg);
}

// The low halves of lo..hi begin anew each time that the upper half steps. An unsigned range's ends need not
// be compared: with one upper half they are in order.
static void low_halves(Range32& r, uint64_t lo, uint64_t hi, bool in_order) {
  const uint32_t lo32 = uint32_t(lo), hi32 = uint32_t(hi), steps = uint32_t(hi >> 32) - uint32_t(lo >> 32);
  const bool less_than_a_turn = steps == 0 || (steps == 1 && hi32 < lo32);
  if (steps == 0 && (in_order || lo32 <= hi32)) r.narrow_unsigned(lo32, hi32);
  if (less_than_a_turn && int32_t(lo32) <= int32_t(hi32)) r.narrow_signed(int32_t(lo32), int32_t(hi32));
}

static void low_halves_of_unsigned(Scalar& reg) { low_halves(reg.r32, reg.r64.umin, reg.r64.umax, true); }
static void low_halves_of_signed(Scalar& reg) {
  low_halves(reg.r32, uint64_t(reg.r64.smin), uint64_t(reg.r64.smax), false);
}

// A signed range that crosses the unsigned cut is two arcs, one upwards from 0 and one below it. If the
// unsigned range misses one of them, the other is left.
template <class U>
static void signs(Range<U>& r) {
  using S = typename Range<U>::S;
  if (S(r.umin) <= S(r.umax)) r.narrow_signed(S(r.umin), S(r.umax));
  const U least = U(r.smin), greatest = U(r.smax);
  if (least <= greatest) {
    r.narrow_unsigned(least, greatest);
  } else if (r.umax < least) {
    r.smin = S(r.umin);
    r.umax = std::min(r.umax, greatest);
  } else if (greatest < r.umin) {
    r.smax = S(r.umax);
    r.umin = std::max(r.umin, least);
  }
}
static void signs_of_32(Scalar& reg) { signs(reg.r32); }
static void signs_of_64(Scalar& reg) { signs(reg.r64); }

// A bound with the lower half that the 32-bit reading says.
static uint64_t with_low(uint64_t bound, uint32_t low) { return bound >> 32 << 32 | low; }

static void low_ends(Scalar& reg) {
  Range64& r = reg.r64;
  const uint32_t least = reg.r32.umin, greatest = reg.r32.umax;
  r.narrow_unsigned(with_low(r.umin, least), with_low(r.umax, greatest));
  r.narrow_signed(int64_t(with_low(uint64_t(r.smin), least)), int64_t(with_low(uint64_t(r.smax), greatest)));
}

// A number that fits 32 signed bits, whose low half is not negative, is its low half.
static void is_low_half(Scalar& reg) {
  const Range32& low = reg.r32;
  if (low.smin < 0 || reg.r64.smin < S32_MIN || reg.r64.smax > S32_MAX) return;
  reg.r64 = {low.smin, low.smax, uint64_t(int64_t{low.smin}), uint64_t(int64_t{low.smax})};
  reg.var_off = tnum_intersect(reg.var_off, tnum_range(reg.r64.umin, reg.r64.umax));
}

template <void (*... rules)(Scalar&)>
static void each_in_turn(Scalar& reg) {
  (rules(reg), ...);
}
constexpr auto kRound = each_in_turn<low_halves_of_unsigned, low_halves_of_signed, signs_of_32, signs_of_64,
                                     low_ends, is_low_half>;

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
    kRound(reg);
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

template <class U>
static void assign_range(Range<U>& r, int64_t lo, int64_t hi) {
  using S = typename Range<U>::S;
  r.smin = S(lo), r.smax = S(hi), r.umin = U(lo), r.umax = U(hi);
}

// Cut off at the kept bits, an arc of numbers with the same bits above stays one; of others all may be.
void coerce_reg_to_size(Scalar& reg, unsigned bytes) {
  const uint64_t keep = ~uint64_t{0} >> (64 - bytes * 8);
  const Range64& r = reg.r64;
  const bool stays = ((r.umin ^ r.umax) & ~keep) == 0;
  assign_range(reg.r64, stays ? int64_t(r.umin & keep) : 0, stays ? int64_t(r.umax & keep) : int64_t(keep));
  reg.var_off = tnum_cast(reg.var_off, bytes);
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
