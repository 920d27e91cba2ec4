// Models: kernel/bpf/devmap.c, include/linux/bpf.h (Linux 6.18)
//
// What the networking side asks a map of devices: where a redirected packet goes.
#pragma once

#include <vector>

#include "object/ops.h"

namespace bpfsim {

struct NetDevice;

// Where one entry sends a packet, and the program that sees it there first (or null).
struct DevTarget {
  NetDevice* dev;
  Prog* xdp_prog;
};
DevTarget dev_map_target(const void* tgt_value);  // of bpf_redirect_info
// BPF_F_BROADCAST: every device of the map, but for the one that the packet came from if asked so.
std::vector<DevTarget> dev_map_targets(const Map& map, const NetDevice& dev_rx, bool exclude_ingress);

// A device is going: every map forgets it.
void dev_map_remove_netdev(NetDevice& dev);

}  // namespace bpfsim
