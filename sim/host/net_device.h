// Models: include/linux/netdevice.h (struct net_device), net/core/dev.c (Linux 6.18)
//
// Network devices: lo (ifindex 1) and whatever the machine has beside it, eth0 (ifindex 2) to begin with. A
// device has a slot for an XDP program in each mode: generic, which the stack runs for any device, native,
// which only a driver that knows XDP runs (eth0's does), and hardware, which no device here has. What holds
// the program differs by how it came: an attachment by rtnetlink holds it in the device, a link holds it
// itself and the device knows the link; the driver holds one more of its own in both cases.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "host/packet.h"
#include "object/mprog.h"

namespace bpfsim {

enum bpf_xdp_mode { XDP_MODE_SKB = 0, XDP_MODE_DRV = 1, XDP_MODE_HW = 2, __MAX_XDP_MODE };
const char* xdp_mode_name(bpf_xdp_mode mode);  // "xdpgeneric", "xdp", "xdpoffload", as ip(8) shows it

struct NetDevice final : Object {
  NetDevice(Machine& machine, std::string name, int ifindex, bool has_native_xdp, uint32_t rx_queues = 1);
  ~NetDevice() override;
  std::string label() const override;  // "netdev 2 (eth0)"
  void each_held(const HoldVisitor&) const override;

  const std::string name;
  const int ifindex;
  const bool has_native_xdp;  // the driver has ndo_bpf
  const uint32_t rx_queues;

  struct XdpState {
    Prog* prog = nullptr;       // attached by rtnetlink
    Link* link = nullptr;       // or by this link, which holds the program
    Prog* installed = nullptr;  // what the driver (or the stack, for generic mode) runs
    Prog* effective() const { return link ? link->prog : prog; }
  };
  std::array<XdpState, __MAX_XDP_MODE> xdp_state;
  bpf_mprog_entry tcx_ingress, tcx_egress;

  // Programs that were loaded for this device (prog_ifindex), by serial: they run nowhere else.
  std::set<uint64_t> bound_progs;

  // One of a pair of netkit devices: what leaves one arrives at the other, through the programs of the first.
  NetDevice* netkit_peer = nullptr;
  bool netkit_primary = false;
  bpf_mprog_entry netkit;

  struct Counters {
    uint64_t rx_packets = 0, rx_bytes = 0, rx_dropped = 0, tx_packets = 0, to_stack = 0;
    std::array<uint64_t, 5> verdict{};  // by xdp_action
    uint64_t invalid_verdict = 0;       // a number that is no xdp_action
    uint64_t redirect_errors = 0;
  } counters;

  Addr rxq(uint32_t queue) const { return rxq_.addr + queue * sizeof(xdp_rxq_info); }
  Addr dev() const { return dev_.addr; }

  std::vector<std::unique_ptr<XdpPacket>> spare_packets;  // pages that the driver uses again

 private:
  Span dev_, rxq_;
};

struct Map;

// What a program that redirects leaves for the moment after it.
struct bpf_redirect_info {
  uint64_t tgt_index = 0;     // an ifindex, or the key in a map
  void* tgt_value = nullptr;  // the entry that a map found
  uint32_t map_id = 0;        // INT_MAX: an ifindex, or a key without entry
  Map* map = nullptr;
  uint64_t flags = 0;
};

// struct nf_hook_ops: a place that packets pass, and who looks at them there.
struct NfHook {
  uint32_t pf, hooknum;
  int priority;
  Link* link;  // null: the kernel's own
};

// struct netns_bpf: the programs of a network namespace, by attach type. One program by itself, or links.
struct NetNs final : Object {
  explicit NetNs(Machine& machine);
  std::string label() const override;  // "netns 4026531840"
  void each_held(const HoldVisitor&) const override;
  bool is_root() const override { return true; }

  struct Attached {
    Prog* prog = nullptr;
    std::vector<Link*> links;
    std::vector<Prog*> programs() const;  // in the order in which they run
  };
  std::map<uint32_t, Attached> bpf;      // by bpf_attach_type
  std::vector<NfHook> nf_hooks;          // by protocol, hook and priority (hook/netfilter.cpp)
  std::map<uint32_t, int> defrag_users;  // by protocol
};

// The devices of a machine.
struct Net {
  std::map<Addr, XdpPacket*> packets;                 // xdp_buffs in flight, by address
  std::map<int, std::unique_ptr<NetDevice>> devices;  // by ifindex

  int next_ifindex = 1;        // the number of a device that is gone is not used again
  bpf_redirect_info redirect;  // of the running program

  std::unique_ptr<NetNs> ns;  // made when first asked for

  NetDevice* by_index(int ifindex) const;
  NetDevice* by_name(const std::string& name) const;
};

// Made with lo and eth0 when first asked for.
Net& init_net(Machine& machine);
NetNs& netns_of(Machine& machine);             // the one namespace that a machine has
Result<int64_t> netns_open(Machine& machine);  // open("/proc/self/ns/net")
Result<NetNs*> get_net_ns_by_fd(Machine& machine, int fd);
NetDevice& register_netdevice(Machine& machine, const std::string& name, bool has_native_xdp);
void register_netkit(Machine& machine, const std::string& primary, const std::string& peer);

}  // namespace bpfsim
