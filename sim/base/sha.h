// Models: lib/crypto/sha1.c, lib/crypto/sha256.c (Linux 6.18)
//
// The digests that a program's tag is cut from: SHA-1 before 6.18, SHA-256 since (FIPS 180-4).
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace bpfsim {

std::array<uint8_t, 20> sha1(std::span<const uint8_t> bytes);
std::array<uint8_t, 32> sha256(std::span<const uint8_t> bytes);

}  // namespace bpfsim
