// No kernel counterpart: a real machine has a clock; a deterministic one is told what each thing costs.
//
// Simulated time. It moves by a fixed cost for each instruction, helper and syscall, all from this one table,
// so the same run gives the same timestamps on every laptop. An instruction costs when it is verified, too.
// Nothing here measures the host.
#pragma once

#include <cstdint>

namespace bpfsim {

struct Clock {
  static constexpr uint64_t kBoot = 5'613'000'000'000;  // a machine that has been up for an hour and a half
  static constexpr uint64_t kInstruction = 1, kHelper = 10, kSyscall = 300, kPacket = 50,
                            kVerifier = 300;  // for each instruction that it processes

  uint64_t now_ns = kBoot;
  uint64_t realtime_offset_ns = 1'700'000'000'000'000'000;  // so that wall time is stable too
  void advance(uint64_t ns) { now_ns += ns; }
};

// SplitMix64: small, seedable, good enough for bpf_get_prandom_u32 and hash seeds.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t u32() { return uint32_t(next() >> 32); }

 private:
  uint64_t state_;
};

}  // namespace bpfsim
