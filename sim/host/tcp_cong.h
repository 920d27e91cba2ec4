// Models: include/net/tcp.h (struct tcp_congestion_ops), net/ipv4/tcp_cong.c (Linux 6.18)
//
// The congestion controls that a TCP socket may choose from, as
// /proc/sys/net/ipv4/tcp_available_congestion_control lists them: the kernel's own, and those that a
// struct_ops map registers. In the kernel a registered map holds a reference to itself; here this list is the
// holder that the object graph shows. Departs from the kernel: equal names are told by the name, not by its
// hash. Not modelled yet: sockets that choose one, so that no program of a congestion control is ever called.
#pragma once

#include <string>
#include <vector>

#include "object/map.h"

namespace bpfsim {

enum : uint32_t { TCP_CONG_NON_RESTRICTED = 1 << 0, TCP_CONG_NEEDS_ECN = 1 << 1 };

struct TcpCongestionOps {
  std::string name;
  uint32_t flags = 0;
  Map* map = nullptr;      // whose value it is; null for one of the kernel's own
  bool holds_map = false;  // false: a link does
};

struct CongestionControls final : Object {
  explicit CongestionControls(Machine& machine);
  std::string label() const override { return "TCP congestion controls"; }
  bool is_root() const override { return true; }
  void each_held(const HoldVisitor&) const override;

  std::vector<TcpCongestionOps> tcp_cong_list;
};
std::vector<std::string> tcp_get_available_congestion_control(const Machine& machine);
void tcp_cong_exit(Machine& machine);  // the machine halts

const TcpCongestionOps* tcp_ca_find(const Machine& machine, const std::string& name);
Result<void> tcp_register_congestion_control(Machine& machine, const TcpCongestionOps& ca);
void tcp_unregister_congestion_control(const Map& map);
// The new one must have the name of the old one, which is registered.
Result<void> tcp_update_congestion_control(const TcpCongestionOps& ca, const Map& old_map);

}  // namespace bpfsim
