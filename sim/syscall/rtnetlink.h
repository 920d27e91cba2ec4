// Models: net/core/rtnetlink.c (Linux 6.18)
//
// The other way to attach XDP: the RTM_SETLINK message that `ip link set dev eth0 xdp obj x.o` sends, with
// attribute IFLA_XDP (43) and in it the program's descriptor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/machine.h"

namespace bpfsim {

// Takes one message, byte for byte as a netlink socket would.
Result<void> rtnetlink_rcv_msg(Machine& machine, std::span<const uint8_t> message);

// The bytes of that message. fd -1 detaches.
std::vector<uint8_t> build_setlink_xdp(int ifindex, int fd, uint32_t flags,
                                       std::optional<int> expected_fd = {});

// One piece of a message, for showing it: headers and attributes in the order of their bytes.
struct NetlinkPart {
  size_t offset, size;
  int depth;          // 1 inside IFLA_XDP
  std::string name;   // "nlmsghdr", "ifinfomsg", "IFLA_XDP", "IFLA_XDP_FD"
  std::string value;  // "len 64, type RTM_SETLINK", "fd 5"
};
std::vector<NetlinkPart> explain_setlink(std::span<const uint8_t> message);

}  // namespace bpfsim
