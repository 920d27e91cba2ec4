// Models: include/linux/filter.h (__bpf_xdp_redirect_map) (Linux 6.18)
//
// What bpf_redirect_map does for each kind of map: find the target, and leave word where the packet shall go.
// The verdict comes later, when the program returns XDP_REDIRECT.
#pragma once

#include <climits>

#include "host/net_device.h"
#include "object/map.h"
#include "uapi/context.h"

namespace bpfsim {

// The lower two bits of the flags are the answer if there is no target.
template <class Lookup>
uint64_t __bpf_xdp_redirect_map(Map& map, uint64_t index, uint64_t flags, uint64_t flag_mask,
                                const Lookup& lookup_elem) {
  constexpr uint64_t kActions = XDP_ABORTED | XDP_DROP | XDP_PASS | XDP_TX;
  if (flags & ~(kActions | flag_mask)) return XDP_ABORTED;
  bpf_redirect_info& ri = init_net(map.machine).redirect;
  ri = {};
  ri.tgt_value = lookup_elem(uint32_t(index));
  if (!ri.tgt_value && !(flags & BPF_F_BROADCAST)) {
    ri.map_id = INT_MAX;
    return flags & kActions;
  }
  ri.tgt_index = uint32_t(index);
  ri.map_id = map.id;
  ri.map = &map;
  if (flags & BPF_F_BROADCAST) ri.flags = flags;
  return XDP_REDIRECT;
}

}  // namespace bpfsim
