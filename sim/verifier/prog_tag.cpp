// Models: kernel/bpf/core.c, bpf_prog_calc_tag(), and lib/crypto/sha1.c (Linux 6.18)
//
// See prog_tag.h. SHA-1 as FIPS 180-4 gives it.
#include "verifier/prog_tag.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bpfsim {
namespace {

using Sha1State = std::array<uint32_t, 5>;

void sha1_block(Sha1State& h, const uint8_t* block) {
  uint32_t w[80];
  for (int t = 0; t < 16; t++)
    w[t] = uint32_t(block[4 * t]) << 24 | uint32_t(block[4 * t + 1]) << 16 | uint32_t(block[4 * t + 2]) << 8 |
           block[4 * t + 3];
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

std::array<uint8_t, 20> sha1(std::vector<uint8_t> message) {
  const uint64_t bits = uint64_t(message.size()) * 8;
  message.push_back(0x80);
  while (message.size() % 64 != 56) message.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(uint8_t(bits >> shift));
  Sha1State h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  for (size_t at = 0; at < message.size(); at += 64) sha1_block(h, &message[at]);
  std::array<uint8_t, 20> out;
  for (size_t i = 0; i < out.size(); i++) out[i] = uint8_t(h[i / 4] >> (24 - 8 * (i % 4)));
  return out;
}

}  // namespace

std::array<uint8_t, BPF_TAG_SIZE> bpf_prog_calc_tag(const std::vector<bpf_insn>& insns) {
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
  std::array<uint8_t, 20> digest = sha1(std::move(bytes));
  std::array<uint8_t, BPF_TAG_SIZE> tag;
  std::copy_n(digest.begin(), tag.size(), tag.begin());
  return tag;
}

}  // namespace bpfsim
