// Models: kernel/bpf/tnum.c (Linux 6.18)
//
// The operations on tnums that are longer than a line or two, and their printed forms.
#include "verifier/tnum.h"

#include <cstdio>

namespace bpfsim {

// Long multiplication by the bits of `a`. A bit that is 1 adds the shifted `b`; a bit that may be either
// gives the union of the sum with and without it (so since 6.18; older kernels kept the two parts apart and
// knew less).
tnum tnum_mul(tnum a, tnum b) {
  tnum sum{0, 0};
  for (; tnum_max(a) != 0; a = tnum_rshift(a, 1), b = tnum_lshift(b, 1)) {
    if (!(tnum_max(a) & 1)) continue;
    tnum with = tnum_add(sum, b);
    sum = (a.value & 1) ? with : tnum_union(sum, with);
  }
  return sum;
}

static uint64_t swap_bytes(uint64_t x, unsigned bits) {
  uint64_t swapped = 0;
  for (unsigned i = 0; i < bits; i += 8) swapped |= ((x >> i) & 0xff) << (bits - 8 - i);
  return swapped;
}

tnum tnum_bswap(tnum a, unsigned bits) { return {swap_bytes(a.value, bits), swap_bytes(a.mask, bits)}; }

// Members are the value with any subset of the mask. Counting through the subsets of a mask is an addition
// that carries over the other bits, so fill those with ones and add. Where z itself is no member, only the
// bits above the highest disagreement count: if t has the greater bit there, z's own prefix serves; if not,
// the prefix must step.
uint64_t tnum_step(tnum t, uint64_t z) {
  if (z >= tnum_max(t)) return tnum_max(t);
  if (z < t.value) return t.value;
  uint64_t differs = (z ^ t.value) & ~t.mask;
  int width = std::bit_width(differs);  // 0 when z is a member
  uint64_t above = width == 64 ? 0 : ~uint64_t{0} << width;
  bool greater = differs && (t.value >> (width - 1) & 1);
  if (greater) return (z & above) | (t.value & ~above);
  uint64_t next = (z | ~t.mask | ~above) + 1;
  return (next & t.mask) | t.value;
}

std::string tnum_strn(tnum a) {
  char text[48];
  if (a.mask == 0 && a.value <= UINT16_MAX)
    std::snprintf(text, sizeof text, "%llu", (unsigned long long)a.value);
  else if (a.mask == 0)
    std::snprintf(text, sizeof text, "0x%llx", (unsigned long long)a.value);
  else
    std::snprintf(text, sizeof text, "(0x%llx; 0x%llx)", (unsigned long long)a.value,
                  (unsigned long long)a.mask);
  return text;
}

}  // namespace bpfsim
