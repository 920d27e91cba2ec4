// Models: include/linux/filter.h (struct bpf_sk_lookup_kern) (Linux 6.18)
//
// What a SK_LOOKUP program works on: who talks to whom, and the socket that it has selected.
#pragma once

#include <cstdint>

#include "base/arena.h"

namespace bpfsim {

enum : uint64_t { BPF_SK_LOOKUP_F_REPLACE = 1, BPF_SK_LOOKUP_F_NO_REUSEPORT = 2 };

// The context as it lies in memory. Addresses of version 6 stand elsewhere.
struct bpf_sk_lookup_kern {
  uint16_t family, protocol;
  uint16_t sport;  // in network order
  uint16_t dport;
  uint32_t v4_saddr, v4_daddr;
  Addr v6_saddr, v6_daddr;
  Addr selected_sk;  // its handle
  uint32_t ingress_ifindex;
  uint8_t no_reuseport;
};

}  // namespace bpfsim
