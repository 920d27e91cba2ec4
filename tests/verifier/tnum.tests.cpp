#include "verifier/tnum.h"

#include <vector>

#include "catch.h"

using namespace bpfsim;

namespace {
constexpr int kBits = 4, kNumbers = 1 << kBits;

// Every tnum of four unknown-or-known bits, moved to where carries into bit 32 and 64 happen.
std::vector<tnum> small_tnums(int shift) {
  std::vector<tnum> all;
  for (uint64_t mask = 0; mask < kNumbers; mask++)
    for (uint64_t value = 0; value < kNumbers; value++)
      if (!(value & mask)) all.push_back({value << shift, mask << shift});
  return all;
}

std::vector<uint64_t> members(tnum t, int shift) {
  std::vector<uint64_t> all;
  for (uint64_t x = 0; x < kNumbers; x++)
    if (tnum_contains(t, x << shift)) all.push_back(x << shift);
  return all;
}

template <class Abstract, class Concrete>
long lost(int shift, Abstract abstract, Concrete concrete) {
  long lost = 0;
  for (tnum a : small_tnums(shift))
    for (tnum b : small_tnums(shift)) {
      tnum result = abstract(a, b);
      if (result.value & result.mask) lost++;
      for (uint64_t x : members(a, shift))
        for (uint64_t y : members(b, shift)) lost += !tnum_contains(result, concrete(x, y));
    }
  return lost;
}
}  // namespace

TEST_CASE("No tnum operation loses a possible result, over all operands of four bits") {
  for (int shift : {0, 29, 30, 60}) {
    CAPTURE(shift);
    CHECK(lost(shift, tnum_add, [](uint64_t x, uint64_t y) { return x + y; }) == 0);
    CHECK(lost(shift, tnum_sub, [](uint64_t x, uint64_t y) { return x - y; }) == 0);
    CHECK(lost(shift, tnum_mul, [](uint64_t x, uint64_t y) { return x * y; }) == 0);
    CHECK(lost(shift, tnum_and, [](uint64_t x, uint64_t y) { return x & y; }) == 0);
    CHECK(lost(shift, tnum_or, [](uint64_t x, uint64_t y) { return x | y; }) == 0);
    CHECK(lost(shift, tnum_xor, [](uint64_t x, uint64_t y) { return x ^ y; }) == 0);
    CHECK(lost(shift, tnum_union, [](uint64_t x, uint64_t) { return x; }) == 0);
    CHECK(lost(shift, tnum_union, [](uint64_t, uint64_t y) { return y; }) == 0);
  }
}

TEST_CASE("Overlap, intersection and inclusion of tnums are those of the sets they stand for") {
  for (tnum a : small_tnums(0))
    for (tnum b : small_tnums(0)) {
      bool meet = false, inside = true;
      for (uint64_t x : members(b, 0)) {
        meet |= tnum_contains(a, x);
        inside &= tnum_contains(a, x);
        if (tnum_contains(a, x)) REQUIRE(tnum_contains(tnum_intersect(a, b), x));
      }
      REQUIRE(tnum_overlap(a, b) == meet);
      REQUIRE(tnum_in(a, b) == inside);
    }
}

TEST_CASE("tnum_range is the smallest tnum around a range, and tnum_step walks the members in order") {
  for (uint64_t lo = 0; lo < 64; lo++)
    for (uint64_t hi = lo; hi < 64; hi++)
      for (uint64_t x = lo; x <= hi; x++) REQUIRE(tnum_contains(tnum_range(lo, hi), x));
  CHECK(tnum_range(0, ~uint64_t{0}) == tnum_unknown);
  CHECK(tnum_range(8, 11) == tnum{8, 3});

  for (int shift : {0, 30, 60})
    for (tnum t : small_tnums(shift))
      for (uint64_t z = 0; z < kNumbers; z++)
        for (uint64_t extra : {uint64_t{0}, (uint64_t{1} << shift) - 1}) {
          uint64_t from = (z << shift) + extra, want = tnum_max(t);
          for (uint64_t x : members(t, shift))
            if (x > from) {
              want = x;
              break;
            }
          REQUIRE(tnum_step(t, from) == want);
        }
}

TEST_CASE("Shifts, byte swaps and printing of tnums") {
  CHECK(tnum_bswap({0x1200, 0x00ff}, 16) == tnum{0x0012, 0xff00});
  CHECK(tnum_bswap({1, 0}, 64) == tnum{uint64_t{1} << 56, 0});
  CHECK(tnum_arshift({0x80000000, 0}, 4, 32) == tnum{0xf8000000, 0});
  CHECK(tnum_arshift({0, uint64_t{1} << 63}, 1, 64) == tnum{0, uint64_t{3} << 62});
  CHECK(tnum_strn({5, 0}) == "5");
  CHECK(tnum_strn({0x10000, 0}) == "0x10000");
  CHECK(tnum_strn({0, 0xff}) == "(0x0; 0xff)");
}
