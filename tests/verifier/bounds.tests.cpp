#include "verifier/bounds.h"

#include <functional>
#include <random>
#include <vector>

#include "catch.h"
#include "verifier/scalar_range.h"

using namespace bpfsim;

namespace {
// What the verifier could know of a set of numbers: the tightest bits and ranges around it, not yet synced.
Scalar around(const std::vector<uint64_t>& numbers) {
  Scalar s = scalar_const(numbers[0]);
  for (uint64_t x : numbers) {
    Scalar one = scalar_const(x);
    s.var_off = tnum_union(s.var_off, one.var_off);
    s.r64 = {std::min(s.r64.smin, one.r64.smin), std::max(s.r64.smax, one.r64.smax),
             std::min(s.r64.umin, one.r64.umin), std::max(s.r64.umax, one.r64.umax)};
    s.r32 = {std::min(s.r32.smin, one.r32.smin), std::max(s.r32.smax, one.r32.smax),
             std::min(s.r32.umin, one.r32.umin), std::max(s.r32.umax, one.r32.umax)};
  }
  return s;
}

// Numbers where ranges break: around 0, the 32-bit and 64-bit sign, and the carry into the upper half.
const uint64_t kCorners[] = {0,
                             1,
                             2,
                             0x7f,
                             0x80,
                             0xff,
                             0x7ffe,
                             0x8000,
                             0xffff,
                             0x7ffffffe,
                             0x7fffffff,
                             0x80000000,
                             0x80000001,
                             0xfffffffe,
                             0xffffffff,
                             1ull << 32,
                             (1ull << 32) + 1,
                             (1ull << 32) + 0x80000000,
                             ~0ull >> 1,
                             1ull << 63,
                             (1ull << 63) + 1,
                             ~0ull - 0x80000000,
                             ~0ull - 0x7fffffff,
                             ~0ull - 1,
                             ~0ull};

std::vector<std::vector<uint64_t>> sets() {
  std::vector<std::vector<uint64_t>> all;
  for (uint64_t a : kCorners) {
    all.push_back({a});
    for (uint64_t b : kCorners) all.push_back({a, b});
  }
  std::mt19937_64 random(7);
  for (int i = 0; i < 300; i++) {
    uint64_t base = kCorners[random() % std::size(kCorners)];
    std::vector<uint64_t> set;
    for (int n = 1 + int(random() % 4); n > 0; n--) set.push_back(base + (random() >> (random() % 64)));
    all.push_back(set);
  }
  return all;
}

using Abstract = std::function<void(Scalar&, const Scalar&)>;
using Concrete = std::function<uint64_t(uint64_t, uint64_t)>;

long lost(const Abstract& abstract, const Concrete& concrete) {
  static const auto all = sets();
  long lost = 0;
  for (const auto& a : all)
    for (const auto& b : all) {
      Scalar s = around(a), t = around(b);
      reg_bounds_sync(s), reg_bounds_sync(t);
      abstract(s, t);
      reg_bounds_sync(s);
      if (reg_bounds_violation(s)) lost++;
      for (uint64_t x : a)
        for (uint64_t y : b) lost += !s.contains(concrete(x, y));
    }
  return lost;
}

// One operand and a shift amount or size.
long lost_by(const std::vector<unsigned>& amounts, const std::function<void(Scalar&, unsigned)>& abstract,
             const std::function<uint64_t(uint64_t, unsigned)>& concrete) {
  long lost = 0;
  for (const auto& a : sets())
    for (unsigned n : amounts) {
      Scalar s = around(a);
      reg_bounds_sync(s);
      abstract(s, n);
      reg_bounds_sync(s);
      for (uint64_t x : a) lost += !s.contains(concrete(x, n));
    }
  return lost;
}

std::vector<unsigned> up_to(unsigned bits) {
  std::vector<unsigned> all;
  for (unsigned n = 0; n < bits; n++) all.push_back(n);
  return all;
}
}  // namespace

TEST_CASE("Syncing never loses a number that bits and ranges allowed") {
  for (const auto& set : sets()) {
    Scalar s = around(set);
    reg_bounds_sync(s);
    CHECK(reg_bounds_violation(s) == nullptr);
    for (uint64_t x : set) CHECK(s.contains(x));
  }
}

TEST_CASE("Syncing small ranges keeps exactly what each reading allows, over all of them") {
  for (uint64_t base :
       {uint64_t{0}, uint64_t{0x7ffffff8}, uint64_t{0xfffffff8}, uint64_t{1} << 63, ~uint64_t{7}})
    for (uint64_t lo = 0; lo < 16; lo++)
      for (uint64_t hi = lo; hi < 16; hi++)
        for (uint64_t mask = 0; mask < 16; mask++)
          for (uint64_t value = 0; value < 16; value++) {
            if (value & mask) continue;
            Scalar s;
            s.r64.umin = std::min(base + lo, base + hi), s.r64.umax = std::max(base + lo, base + hi);
            s.var_off = {(base & ~uint64_t{15}) | value, mask};
            Scalar given = s;
            bool any = false;
            reg_bounds_sync(s);
            for (uint64_t x = (base & ~uint64_t{15}); x - (base & ~uint64_t{15}) < 16; x++) {
              if (!given.contains(x)) continue;
              any = true;
              REQUIRE(s.contains(x));
            }
            if (any) REQUIRE(reg_bounds_violation(s) == nullptr);
          }
}

TEST_CASE("No 64-bit operation loses a possible result") {
  CHECK(lost(scalar_add, [](uint64_t x, uint64_t y) { return x + y; }) == 0);
  CHECK(lost(scalar_sub, [](uint64_t x, uint64_t y) { return x - y; }) == 0);
  CHECK(lost(scalar_mul, [](uint64_t x, uint64_t y) { return x * y; }) == 0);
  CHECK(lost(scalar_and, [](uint64_t x, uint64_t y) { return x & y; }) == 0);
  CHECK(lost(scalar_or, [](uint64_t x, uint64_t y) { return x | y; }) == 0);
  CHECK(lost(scalar_xor, [](uint64_t x, uint64_t y) { return x ^ y; }) == 0);
  CHECK(lost([](Scalar& s, const Scalar&) { scalar_neg(s); }, [](uint64_t x, uint64_t) { return -x; }) == 0);
}

TEST_CASE("No 32-bit operation loses a possible result") {
  auto low = [](Abstract op) { return [op](Scalar& s, const Scalar& t) { op(s, t), zext_32_to_64(s); }; };
  CHECK(lost(low(scalar_add), [](uint64_t x, uint64_t y) { return uint32_t(x + y); }) == 0);
  CHECK(lost(low(scalar_sub), [](uint64_t x, uint64_t y) { return uint32_t(x - y); }) == 0);
  CHECK(lost(low(scalar_mul), [](uint64_t x, uint64_t y) { return uint32_t(x * y); }) == 0);
  CHECK(lost(low(scalar_and), [](uint64_t x, uint64_t y) { return uint32_t(x & y); }) == 0);
  CHECK(lost(low(scalar_or), [](uint64_t x, uint64_t y) { return uint32_t(x | y); }) == 0);
  CHECK(lost(low(scalar_xor), [](uint64_t x, uint64_t y) { return uint32_t(x ^ y); }) == 0);
}

TEST_CASE("No shift loses a possible result") {
  CHECK(lost_by(up_to(64), scalar_lsh, [](uint64_t x, unsigned n) { return x << n; }) == 0);
  CHECK(lost_by(up_to(64), scalar_rsh, [](uint64_t x, unsigned n) { return x >> n; }) == 0);
  CHECK(lost_by(up_to(64), scalar_arsh, [](uint64_t x, unsigned n) { return uint64_t(int64_t(x) >> n); }) ==
        0);
  auto low = [](void (*op)(Scalar&, unsigned)) {
    return [op](Scalar& s, unsigned n) { op(s, n), zext_32_to_64(s); };
  };
  CHECK(lost_by(up_to(32), low(scalar32_lsh), [](uint64_t x, unsigned n) { return uint32_t(x) << n; }) == 0);
  CHECK(lost_by(up_to(32), low(scalar32_rsh), [](uint64_t x, unsigned n) { return uint32_t(x) >> n; }) == 0);
  CHECK(lost_by(up_to(32), low(scalar32_arsh),
                [](uint64_t x, unsigned n) { return uint32_t(int32_t(x) >> n); }) == 0);
}

TEST_CASE("No change of width loses a possible result") {
  auto cut = [](uint64_t x, unsigned bytes) { return x & ((uint64_t{1} << bytes * 8) - 1); };
  auto extend = [](uint64_t x, unsigned bytes) {
    return bytes == 1 ? uint64_t(int8_t(x)) : bytes == 2 ? uint64_t(int16_t(x)) : uint64_t(int32_t(x));
  };
  CHECK(lost_by({1, 2, 4}, coerce_reg_to_size, cut) == 0);
  CHECK(lost_by({1, 2, 4}, coerce_reg_to_size_sx, extend) == 0);
  CHECK(lost_by(
            {1, 2}, [](Scalar& s, unsigned n) { coerce_subreg_to_size_sx(s, n), zext_32_to_64(s); },
            [&](uint64_t x, unsigned n) { return uint64_t(uint32_t(extend(x, n))); }) == 0);
  CHECK(lost_by(
            {2, 4, 8},
            [](Scalar& s, unsigned n) {
              scalar_bswap(s, n * 8);
              if (n < 8) coerce_reg_to_size(s, n);
            },
            [](uint64_t x, unsigned n) { return __builtin_bswap64(x) >> (64 - n * 8); }) == 0);
}

TEST_CASE("A broken set of bounds is named as the kernel names it") {
  Scalar s;
  s.r64.umin = 5, s.r64.umax = 4;
  CHECK(std::string(reg_bounds_violation(s)) == "range bounds violation");
  s = scalar_const(3);
  s.r64.smax = 4, s.r64.umax = 4;
  CHECK(std::string(reg_bounds_violation(s)) == "const tnum out of sync with range bounds");
  s = Scalar{};
  s.var_off = {7, ~uint64_t{UINT32_MAX}};
  CHECK(std::string(reg_bounds_violation(s)) == "const subreg tnum out of sync with range bounds");
}
