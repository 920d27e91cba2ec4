#include "base/sha.h"

#include <string>
#include <vector>

#include "catch.h"

using namespace bpfsim;

template <size_t N>
static std::string hex(const std::array<uint8_t, N>& bytes) {
  std::string text;
  for (uint8_t byte : bytes)
    text += std::string(1, "0123456789abcdef"[byte >> 4]) + "0123456789abcdef"[byte & 15];
  return text;
}
static std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

TEST_CASE("SHA-1 and SHA-256 give the digests of FIPS 180-4's examples") {
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(hex(sha1(bytes("abc"))) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hex(sha1(bytes(two_blocks))) == "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(hex(sha1({})) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex(sha256(bytes("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex(sha256(bytes(two_blocks))) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex(sha256({})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
