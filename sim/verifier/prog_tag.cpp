// Models: kernel/bpf/core.c, bpf_prog_calc_tag(), lib/crypto/sha256.c and sha1.c (Linux 6.18)
//
// See prog_tag.h. The digests are those of FIPS 180-4.
#include "verifier/prog_tag.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "uapi/gates.h"

namespace bpfsim {
namespace {

// Both digests read blocks of 64 bytes as big-endian words, the last one padded with a 1, zeros and the
// length.
template <size_t N>
using Words = std::array<uint32_t, N>;

void sha1_block(Words<5>& h, const Words<16>& block) {
  uint32_t w[80];
  std::copy(block.begin(), block.end(), w);
  for (int t = 16; t < 80; t++) w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
  auto [a, b, c, d, e] = h;
  for (int t = 0; t < 80; t++) {
    uint32_t f, k;
    switch (t / 20) {
      case 0: f = (b & c) | (~b & d), k = 0x5a827999; break;
      case 1: f = b ^ c ^ d, k = 0x6ed9eba1; break;
      case 2: f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc; break;
      default: f = b ^ c ^ d, k = 0xca62c1d6; break;
    }
    uint32_t next = std::rotl(a, 5) + f + e + k + w[t];
    e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
  }
  h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
constexpr uint32_t kSha256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void sha256_block(Words<8>& h, const Words<16>& block) {
  uint32_t w[64];
  std::copy(block.begin(), block.end(), w);
  for (int t = 16; t < 64; t++) {
    uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ (w[t - 15] >> 3);
    uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ (w[t - 2] >> 10);
    w[t] = w[t - 16] + s0 + w[t - 7] + s1;
  }
  Words<8> v = h;
  for (int t = 0; t < 64; t++) {
    auto [a, b, c, d, e, f, g, last] = v;
    uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    uint32_t t1 = last + sum1 + ((e & f) ^ (~e & g)) + kSha256[t] + w[t];
    uint32_t t2 = sum0 + ((a & b) ^ (a & c) ^ (b & c));
    v = {t1 + t2, a, b, c, d + t1, e, f, g};
  }
  for (size_t i = 0; i < h.size(); i++) h[i] += v[i];
}

template <size_t N>
void digest(Words<N>& h, void (&block)(Words<N>&, const Words<16>&), std::vector<uint8_t> message) {
  const uint64_t bits = uint64_t(message.size()) * 8;
  message.push_back(0x80);
  while (message.size() % 64 != 56) message.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(uint8_t(bits >> shift));
  for (size_t at = 0; at < message.size(); at += 64) {
    Words<16> words{};
    for (size_t i = 0; i < 64; i++) words[i / 4] |= uint32_t(message[at + i]) << (24 - 8 * (i % 4));
    block(h, words);
  }
}

template <size_t N>
std::array<uint8_t, 4 * N> bytes_of(const Words<N>& h) {
  std::array<uint8_t, 4 * N> bytes;
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = uint8_t(h[i / 4] >> (24 - 8 * (i % 4)));
  return bytes;
}

// The instructions with the descriptors of maps taken as 0.
std::vector<uint8_t> message_of(const std::vector<bpf_insn>& insns) {
  std::vector<bpf_insn> given = insns;
  for (size_t i = 0; i < given.size(); i++) {
    bool by_fd = given[i].src_reg == BPF_PSEUDO_MAP_FD || given[i].src_reg == BPF_PSEUDO_MAP_VALUE;
    if (!is_ld_imm64(given[i]) || !by_fd) continue;
    given[i].imm = 0;
    if (i + 1 < given.size() && given[i + 1].code == 0 && given[i + 1].dst_reg == 0 &&
        given[i + 1].src_reg == 0 && given[i + 1].off == 0)
      given[i + 1].imm = 0;
  }
  std::vector<uint8_t> bytes(given.size() * sizeof(bpf_insn));
  if (!bytes.empty()) std::memcpy(bytes.data(), given.data(), bytes.size());
  return bytes;
}

}  // namespace

Sha256 sha256(std::vector<uint8_t> message) {
  Words<8> h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  digest(h, sha256_block, std::move(message));
  return bytes_of(h);
}

Sha256 bpf_prog_digest(const std::vector<bpf_insn>& insns) { return sha256(message_of(insns)); }

std::array<uint8_t, BPF_TAG_SIZE> bpf_prog_calc_tag(const std::vector<bpf_insn>& insns, Version version) {
  std::array<uint8_t, BPF_TAG_SIZE> tag;
  if (has(Gate::prog_tag_sha256, version)) {
    const Sha256 whole = bpf_prog_digest(insns);
    std::copy_n(whole.begin(), tag.size(), tag.begin());
    return tag;
  }
  Words<5> sha1 = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  digest(sha1, sha1_block, message_of(insns));
  const auto whole = bytes_of(sha1);
  std::copy_n(whole.begin(), tag.size(), tag.begin());
  return tag;
}

}  // namespace bpfsim
