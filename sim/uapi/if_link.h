// Models: include/uapi/linux/if_link.h (Linux 6.18)
//
// What an XDP program's attachment by rtnetlink says: the flags, and the attributes nested in IFLA_XDP.
#pragma once

#include <cstdint>

namespace bpfsim {

inline constexpr uint32_t XDP_FLAGS_UPDATE_IF_NOEXIST = 1u << 0;
inline constexpr uint32_t XDP_FLAGS_SKB_MODE = 1u << 1;
inline constexpr uint32_t XDP_FLAGS_DRV_MODE = 1u << 2;
inline constexpr uint32_t XDP_FLAGS_HW_MODE = 1u << 3;
inline constexpr uint32_t XDP_FLAGS_REPLACE = 1u << 4;  // since 5.7
inline constexpr uint32_t XDP_FLAGS_MODES = XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE | XDP_FLAGS_HW_MODE;
inline constexpr uint32_t XDP_FLAGS_MASK = XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_MODES | XDP_FLAGS_REPLACE;

inline constexpr uint16_t IFLA_XDP = 43;

enum : uint16_t {
  IFLA_XDP_UNSPEC = 0,
  IFLA_XDP_FD = 1,
  IFLA_XDP_ATTACHED = 2,
  IFLA_XDP_FLAGS = 3,
  IFLA_XDP_PROG_ID = 4,
  IFLA_XDP_DRV_PROG_ID = 5,
  IFLA_XDP_SKB_PROG_ID = 6,
  IFLA_XDP_HW_PROG_ID = 7,
  IFLA_XDP_EXPECTED_FD = 8,  // since 5.7
};

// The value of IFLA_XDP_ATTACHED.
enum : uint8_t {
  XDP_ATTACHED_NONE = 0,
  XDP_ATTACHED_DRV = 1,
  XDP_ATTACHED_SKB = 2,
  XDP_ATTACHED_HW = 3,
  XDP_ATTACHED_MULTI = 4,
};

}  // namespace bpfsim
