// Models: lib/crypto/sha1.c, lib/crypto/sha256.c (Linux 6.18)
//
// Both work on blocks of 64 bytes with the message's length in bits at the end of the last one.
#include "base/sha.h"

#include <bit>
#include <vector>

namespace bpfsim {

static std::vector<uint8_t> padded(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> out(bytes.begin(), bytes.end());
  out.push_back(0x80);
  while (out.size() % 64 != 56) out.push_back(0);
  const uint64_t bits = uint64_t(bytes.size()) * 8;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(uint8_t(bits >> shift));
  return out;
}

static uint32_t word_at(const uint8_t* p) {
  return uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
}

template <size_t N>
static std::array<uint8_t, N * 4> digest(const std::array<uint32_t, N>& state) {
  std::array<uint8_t, N * 4> out;
  for (size_t i = 0; i < N * 4; ++i) out[i] = uint8_t(state[i / 4] >> (24 - i % 4 * 8));
  return out;
}

std::array<uint8_t, 20> sha1(std::span<const uint8_t> bytes) {
  std::array<uint32_t, 5> h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  const std::vector<uint8_t> message = padded(bytes);
  for (size_t block = 0; block < message.size(); block += 64) {
    uint32_t w[80];
    for (int t = 0; t < 16; ++t) w[t] = word_at(&message[block + size_t(t) * 4]);
    for (int t = 16; t < 80; ++t) w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    auto [a, b, c, d, e] = h;
    for (int t = 0; t < 80; ++t) {
      uint32_t f, k;
      if (t < 20)
        f = (b & c) | (~b & d), k = 0x5a827999;
      else if (t < 40)
        f = b ^ c ^ d, k = 0x6ed9eba1;
      else if (t < 60)
        f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
      else
        f = b ^ c ^ d, k = 0xca62c1d6;
      const uint32_t next = std::rotl(a, 5) + f + e + k + w[t];
      e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
  }
  return digest(h);
}

// The constants are the first 32 bits of the fractional parts of roots of the first primes: of cube roots for
// the rounds, of square roots for the initial state. They are found exactly, in integers.
static uint32_t root_fraction(uint64_t prime, int power) {
  // The largest r with r^power <= prime * 2^(32 * power); its low 32 bits are the fraction.
  using Wide = unsigned __int128;
  uint64_t r = 0;
  for (int bit = 36; bit >= 0; --bit) {
    const uint64_t next = r | 1ull << bit;
    if (power == 2) {
      if (Wide(next) * next <= Wide(prime) << 64) r = next;
    } else {  // next^3 <= prime * 2^96, without leaving 128 bits
      const Wide square = Wide(next) * next;
      const Wide limit = Wide(prime) << 96;
      if (square <= limit / next) r = next;
    }
  }
  return uint32_t(r);
}

struct Sha256Constants {
  uint32_t k[64];
  std::array<uint32_t, 8> h;
  Sha256Constants() {
    int found = 0;
    for (uint64_t n = 2; found < 64; ++n) {
      bool prime = true;
      for (uint64_t d = 2; d * d <= n; ++d) prime = prime && n % d != 0;
      if (!prime) continue;
      if (found < 8) h[size_t(found)] = root_fraction(n, 2);
      k[found++] = root_fraction(n, 3);
    }
  }
};

std::array<uint8_t, 32> sha256(std::span<const uint8_t> bytes) {
  static const Sha256Constants constants;
  std::array<uint32_t, 8> state = constants.h;
  const std::vector<uint8_t> message = padded(bytes);
  for (size_t block = 0; block < message.size(); block += 64) {
    uint32_t w[64];
    for (int t = 0; t < 16; ++t) w[t] = word_at(&message[block + size_t(t) * 4]);
    for (int t = 16; t < 64; ++t) {
      const uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
      const uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (int t = 0; t < 64; ++t) {
      const uint32_t big1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = h + big1 + ((e & f) ^ (~e & g)) + constants.k[t] + w[t];
      const uint32_t big0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = big0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const uint32_t add[8] = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += add[i];
  }
  return digest(state);
}

}  // namespace bpfsim
