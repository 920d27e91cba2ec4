// Models: include/linux/jhash.h (Linux 6.18)
//
// Bob Jenkins' lookup3 hash (public domain, 2006), as Linux uses it for hash maps and Bloom filters: the seed
// 0xdeadbeef and the length go into all three words, twelve bytes are mixed at a time, and the rest is
// folded in at the end. Words are read as they lie, so a host finds the order of keys that x86 has if it is
// little-endian, as every host of ours is.
#pragma once

#include <cstdint>
#include <cstring>

namespace bpfsim {

struct JenkinsState {
  uint32_t a, b, c;
  static uint32_t rotate(uint32_t word, int by) { return (word << by) | (word >> (32 - by)); }

  void mix() {
    a -= c, a ^= rotate(c, 4), c += b;
    b -= a, b ^= rotate(a, 6), a += c;
    c -= b, c ^= rotate(b, 8), b += a;
    a -= c, a ^= rotate(c, 16), c += b;
    b -= a, b ^= rotate(a, 19), a += c;
    c -= b, c ^= rotate(b, 4), b += a;
  }

  void final() {
    c ^= b, c -= rotate(b, 14);
    a ^= c, a -= rotate(c, 11);
    b ^= a, b -= rotate(a, 25);
    c ^= b, c -= rotate(b, 16);
    a ^= c, a -= rotate(c, 4);
    b ^= a, b -= rotate(a, 14);
    c ^= b, c -= rotate(b, 24);
  }
};

inline constexpr uint32_t JHASH_INITVAL = 0xdeadbeef;

inline uint32_t jhash_word(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

inline uint32_t jhash_tail(const uint8_t* bytes, uint32_t count) {  // the last one to four bytes
  uint32_t word = 0;
  for (uint32_t i = 0; i < count; ++i) word |= uint32_t(bytes[i]) << (8 * i);
  return word;
}

// Any number of bytes.
inline uint32_t jhash(const void* key, uint32_t length, uint32_t initval) {
  const uint8_t* bytes = static_cast<const uint8_t*>(key);
  uint32_t seed = JHASH_INITVAL + length + initval;
  JenkinsState state{seed, seed, seed};
  for (; length > 12; length -= 12, bytes += 12) {
    state.a += jhash_word(bytes);
    state.b += jhash_word(bytes + 4);
    state.c += jhash_word(bytes + 8);
    state.mix();
  }
  if (length == 0) return state.c;
  state.a += jhash_tail(bytes, length < 4 ? length : 4);
  if (length > 4) state.b += jhash_tail(bytes + 4, length < 8 ? length - 4 : 4);
  if (length > 8) state.c += jhash_tail(bytes + 8, length - 8);
  state.final();
  return state.c;
}

// A number of 32-bit words. Not the same as jhash() of their bytes: the seed counts words.
inline uint32_t jhash2(const void* key, uint32_t words, uint32_t initval) {
  const uint8_t* bytes = static_cast<const uint8_t*>(key);
  uint32_t seed = JHASH_INITVAL + (words << 2) + initval;
  JenkinsState state{seed, seed, seed};
  for (; words > 3; words -= 3, bytes += 12) {
    state.a += jhash_word(bytes);
    state.b += jhash_word(bytes + 4);
    state.c += jhash_word(bytes + 8);
    state.mix();
  }
  if (words == 0) return state.c;
  state.a += jhash_word(bytes);
  if (words > 1) state.b += jhash_word(bytes + 4);
  if (words > 2) state.c += jhash_word(bytes + 8);
  state.final();
  return state.c;
}

}  // namespace bpfsim
