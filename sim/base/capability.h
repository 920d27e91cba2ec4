// Models: include/linux/capability.h (Linux 6.18)
//
// The capabilities that bpf(2) asks for, and who the current task is. bpf_capable() and perfmon_capable()
// accept CAP_SYS_ADMIN in place of the finer one; before 5.8 the finer ones did not exist.
#pragma once

#include <cstdint>

namespace bpfsim {

enum Capability : int {
  CAP_CHOWN = 0,
  CAP_DAC_OVERRIDE = 1,
  CAP_DAC_READ_SEARCH = 2,
  CAP_FOWNER = 3,
  CAP_NET_BIND_SERVICE = 10,
  CAP_NET_ADMIN = 12,
  CAP_NET_RAW = 13,
  CAP_IPC_LOCK = 14,
  CAP_SYS_ADMIN = 21,
  CAP_SYS_RESOURCE = 24,
  CAP_SYSLOG = 34,
  CAP_PERFMON = 38,
  CAP_BPF = 39,
  CAP_LAST_CAP = 40,
};

using CapabilitySet = uint64_t;
inline constexpr CapabilitySet kAllCapabilities = (1ull << (CAP_LAST_CAP + 1)) - 1;

struct Credentials {
  uint32_t uid = 0;
  CapabilitySet effective = kAllCapabilities;
};

}  // namespace bpfsim
