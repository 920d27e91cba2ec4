// Models: kernel/bpf/tnum.c (Linux 6.18)
//
// A tnum ("tracked number", or tristate number) says of each of 64 bits whether it is 0, 1 or unknown. `mask`
// has a one where the bit is unknown; `value` has the known bits, and is 0 under the mask. The set of numbers
// it stands for is { value | s : s is a subset of mask }. Departs from the kernel: the short operations are
// inline.
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace bpfsim {

struct tnum {
  uint64_t value = 0;
  uint64_t mask = 0;
  bool operator==(const tnum&) const = default;
};

inline constexpr tnum tnum_unknown{0, ~uint64_t{0}};

constexpr tnum tnum_const(uint64_t value) { return {value, 0}; }
constexpr bool tnum_is_const(tnum a) { return a.mask == 0; }
constexpr bool tnum_equals_const(tnum a, uint64_t b) { return a.mask == 0 && a.value == b; }
constexpr bool tnum_is_unknown(tnum a) { return a.mask == ~uint64_t{0}; }
constexpr uint64_t tnum_max(tnum a) { return a.value | a.mask; }
constexpr bool tnum_contains(tnum a, uint64_t x) { return (x & ~a.mask) == a.value; }

constexpr tnum tnum_lshift(tnum a, unsigned shift) { return {a.value << shift, a.mask << shift}; }
constexpr tnum tnum_rshift(tnum a, unsigned shift) { return {a.value >> shift, a.mask >> shift}; }
constexpr tnum tnum_arshift(tnum a, unsigned shift, unsigned bits) {
  if (bits == 32) return {uint32_t(int32_t(a.value) >> shift), uint32_t(int32_t(a.mask) >> shift)};
  return {uint64_t(int64_t(a.value) >> shift), uint64_t(int64_t(a.mask) >> shift)};
}

// Bits of a result are unknown where an operand's bit is, and wherever a carry may or may not arrive.
constexpr tnum tnum_add(tnum a, tnum b) {
  uint64_t least = a.value + b.value;
  uint64_t most = least + (a.mask + b.mask);
  uint64_t unknown = (least ^ most) | a.mask | b.mask;
  return {least & ~unknown, unknown};
}
constexpr tnum tnum_sub(tnum a, tnum b) {
  uint64_t middle = a.value - b.value;
  uint64_t unknown = ((middle + a.mask) ^ (middle - b.mask)) | a.mask | b.mask;
  return {middle & ~unknown, unknown};
}
constexpr tnum tnum_neg(tnum a) { return tnum_sub({0, 0}, a); }
constexpr tnum tnum_and(tnum a, tnum b) {
  uint64_t ones = a.value & b.value;
  return {ones, tnum_max(a) & tnum_max(b) & ~ones};
}
constexpr tnum tnum_or(tnum a, tnum b) {
  uint64_t ones = a.value | b.value;
  return {ones, (a.mask | b.mask) & ~ones};
}
constexpr tnum tnum_xor(tnum a, tnum b) {
  uint64_t unknown = a.mask | b.mask;
  return {(a.value ^ b.value) & ~unknown, unknown};
}

// Both must hold (a bit that they disagree on comes out as 1); either may hold.
constexpr tnum tnum_intersect(tnum a, tnum b) {
  uint64_t unknown = a.mask & b.mask;
  return {(a.value | b.value) & ~unknown, unknown};
}
constexpr tnum tnum_union(tnum a, tnum b) {
  uint64_t unknown = (a.value ^ b.value) | a.mask | b.mask;
  return {a.value & b.value & ~unknown, unknown};
}
constexpr bool tnum_overlap(tnum a, tnum b) { return ((a.value ^ b.value) & ~a.mask & ~b.mask) == 0; }
constexpr bool tnum_in(tnum a, tnum b) { return (b.mask & ~a.mask) == 0 && (b.value & ~a.mask) == a.value; }
constexpr bool tnum_is_aligned(tnum a, uint64_t size) { return size == 0 || (tnum_max(a) & (size - 1)) == 0; }

constexpr tnum tnum_cast(tnum a, unsigned bytes) {
  uint64_t keep = bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (bytes * 8)) - 1;
  return {a.value & keep, a.mask & keep};
}
constexpr tnum tnum_subreg(tnum a) { return {uint32_t(a.value), uint32_t(a.mask)}; }
constexpr bool tnum_subreg_is_const(tnum a) { return uint32_t(a.mask) == 0; }
constexpr tnum tnum_clear_subreg(tnum a) { return {a.value >> 32 << 32, a.mask >> 32 << 32}; }
constexpr tnum tnum_with_subreg(tnum a, tnum low) { return tnum_or(tnum_clear_subreg(a), tnum_subreg(low)); }
constexpr tnum tnum_const_subreg(tnum a, uint32_t value) { return tnum_with_subreg(a, tnum_const(value)); }

// The smallest tnum that holds every number of [min, max]: what the two have in common from the top.
constexpr tnum tnum_range(uint64_t min, uint64_t max) {
  int bits = std::bit_width(min ^ max);
  if (bits == 64) return tnum_unknown;
  uint64_t below = (uint64_t{1} << bits) - 1;
  return {min & ~below, below};
}

tnum tnum_mul(tnum a, tnum b);
tnum tnum_bswap(tnum a, unsigned bits);  // 16, 32 or 64; what lies above is dropped
uint64_t tnum_step(tnum t, uint64_t z);  // the smallest member above z; the largest if there is none
std::string tnum_strn(tnum a);           // "5", "0x12345" or "(0x0; 0xff)"

}  // namespace bpfsim
