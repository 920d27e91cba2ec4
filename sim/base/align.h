// Models: include/linux/math.h (Linux 6.18)
//
// Sizes that the kernel rounds up: values to 8 bytes, memory to pages.
#pragma once

#include <cstdint>

namespace bpfsim {

constexpr uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

}  // namespace bpfsim
