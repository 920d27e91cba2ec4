// Models: kernel/bpf/verifier.c, the bounds of a register (Linux 6.18)
//
// What the verifier knows of a number: its bits (a tnum) and where it lies, read four ways: as 64 and as 32
// bits, each signed and unsigned. The kernel keeps nine flat fields (smin_value, u32_max_value, ...); here
// they are one tnum and two Range, so that each rule stands once for both widths: r64.smin is smin_value,
// r32.umax is u32_max_value. Every reading tells something about the others; reg_bounds_sync() lets them
// teach each other.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "verifier/tnum.h"

namespace bpfsim {

template <class Unsigned>
struct Range {
  using U = Unsigned;
  using S = std::make_signed_t<U>;
  static constexpr S kSMin = std::numeric_limits<S>::min(), kSMax = std::numeric_limits<S>::max();
  static constexpr U kUMax = std::numeric_limits<U>::max();

  S smin = kSMin, smax = kSMax;
  U umin = 0, umax = kUMax;

  bool operator==(const Range&) const = default;
  bool unbounded() const { return *this == Range{}; }
  bool broken() const { return umin > umax || smin > smax; }
  bool contains(U x) const { return umin <= x && x <= umax && smin <= S(x) && S(x) <= smax; }
  bool holds(const Range& r) const {
    return umin <= r.umin && r.umax <= umax && smin <= r.smin && r.smax <= smax;
  }
  void know(U x) {
    smin = smax = S(x);
    umin = umax = x;
  }
  void forget_signed() { smin = kSMin, smax = kSMax; }
  void forget_unsigned() { umin = 0, umax = kUMax; }
  void narrow_signed(S lo, S hi) { smin = std::max(smin, lo), smax = std::min(smax, hi); }
  void narrow_unsigned(U lo, U hi) { umin = std::max(umin, lo), umax = std::min(umax, hi); }
  void intersect(const Range& r) { narrow_signed(r.smin, r.smax), narrow_unsigned(r.umin, r.umax); }
};

using Range64 = Range<uint64_t>;
using Range32 = Range<uint32_t>;

struct Scalar {
  tnum var_off = tnum_unknown;
  Range64 r64;
  Range32 r32;

  bool operator==(const Scalar&) const = default;
  bool is_const() const { return tnum_is_const(var_off); }
  bool is_const(bool subreg32) const {
    return subreg32 ? tnum_subreg_is_const(var_off) : tnum_is_const(var_off);
  }
  uint64_t const_value(bool subreg32 = false) const {
    return subreg32 ? uint32_t(var_off.value) : var_off.value;
  }
  bool contains(uint64_t x) const {
    return tnum_contains(var_off, x) && r64.contains(x) && r32.contains(uint32_t(x));
  }
};

constexpr int64_t S32_MIN = INT32_MIN, S32_MAX = INT32_MAX;

Scalar scalar_const(uint64_t imm);
inline void mark_known(Scalar& reg, uint64_t imm) {
  reg.var_off = tnum_const(imm);
  reg.r64.know(imm);
  reg.r32.know(uint32_t(imm));
}
inline void mark_unbounded(Scalar& reg) { reg.r64 = {}, reg.r32 = {}; }
void mark32_known(Scalar& reg, uint32_t imm);

void update_reg32_bounds(Scalar& reg);
void update_reg_bounds(Scalar& reg);
void reg_bounds_sync(Scalar& reg);
// The first broken rule in the kernel's words ("range bounds violation", ...), or null when the readings
// agree.
const char* reg_bounds_violation(const Scalar& reg);

void zext_32_to_64(Scalar& reg);
void coerce_reg_to_size(Scalar& reg, unsigned bytes);        // keep the low 1, 2 or 4 bytes
void coerce_reg_to_size_sx(Scalar& reg, unsigned bytes);     // sign-extend them to 64 bits
void coerce_subreg_to_size_sx(Scalar& reg, unsigned bytes);  // sign-extend 1 or 2 bytes to 32 bits

}  // namespace bpfsim
