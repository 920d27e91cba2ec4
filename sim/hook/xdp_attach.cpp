// Models: net/core/dev.c (dev_xdp_attach, bpf_xdp_link), net/core/filter.c (bpf_warn_invalid_xdp_action)
// (Linux 6.18)
//
// XDP programs on devices: attached by rtnetlink or by a link, run for each packet that arrives, and what
// their verdict does with it. The reasons are those that the kernel puts into netlink's extended ack. Departs
// from the kernel: packets that pass end in a counter, since there is no stack above; XDP_TX and XDP_REDIRECT
// count a packet out of the device. A packet that is redirected through a map meets the program of the entry,
// with a copy of its bytes. Not modelled yet: AF_XDP sockets that receive, a redirect from a CPU map's
// program, offload.
#include <climits>
#include <cstring>
#include <optional>
#include <utility>

#include "hook/attach.h"
#include "hook/hook.h"
#include "map/cpumap.h"
#include "map/devmap.h"
#include "run/select_runtime.h"
#include "uapi/if_link.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

struct XdpLink final : Link {
  XdpLink(NetDevice& dev, Prog& prog, uint32_t flags);
  NetDevice* dev;  // null once detached
  uint32_t flags;
};
XdpLink& xdp_link(Link& link) { return static_cast<XdpLink&>(link); }

bpf_xdp_mode dev_xdp_mode(const NetDevice& dev, uint32_t flags) {
  if (flags & XDP_FLAGS_HW_MODE) return XDP_MODE_HW;
  if (flags & XDP_FLAGS_DRV_MODE) return XDP_MODE_DRV;
  if (flags & XDP_FLAGS_SKB_MODE) return XDP_MODE_SKB;
  return dev.has_native_xdp ? XDP_MODE_DRV : XDP_MODE_SKB;
}

int dev_xdp_prog_count(const NetDevice& dev) {
  int count = 0;
  for (const auto& state : dev.xdp_state) count += state.effective() != nullptr;
  return count;
}

Result<void> dev_xdp_install(NetDevice& dev, bpf_xdp_mode mode, Prog* prog) {
  KFN(dev.machine, dev_xdp_install);
  if (mode == XDP_MODE_DRV && !dev.has_native_xdp)
    return refuse(Errno::OpNotSupp, "Underlying driver does not support XDP in native mode");
  if (mode == XDP_MODE_HW)
    return refuse(dev.has_native_xdp ? Errno::Inval : Errno::OpNotSupp,
                  "no device here runs XDP in hardware");
  const bool generic = mode == XDP_MODE_SKB;  // then the stack runs it, and the driver knows nothing of it
  if (prog)
    bpf_prog_inc(*prog, {generic ? "dev->xdp_prog of netdev {}" : "installed in the driver of netdev {}",
                         dev.ifindex});
  if (Prog* old = std::exchange(dev.xdp_state[mode].installed, prog))
    bpf_prog_put(*old, {generic ? "no more dev->xdp_prog of netdev {}" : "out of the driver of netdev {}",
                        dev.ifindex});
  return {};
}

// What no device allows, asked before whether this one can run XDP in that mode.
Result<void> may_be_attached(const NetDevice& dev, bpf_xdp_mode mode, const Prog& prog) {
  const bpf_xdp_mode other = mode == XDP_MODE_SKB ? XDP_MODE_DRV : XDP_MODE_SKB;
  if (mode != XDP_MODE_HW && dev.xdp_state[other].effective())
    return refuse(Errno::Exist, "Native and generic XDP can't be active at the same time");
  if (prog.aux->dev_bound && !dev.bound_progs.count(prog.serial))
    return refuse(Errno::Inval, "Program bound to different device");
  if (prog.aux->dev_bound && mode == XDP_MODE_SKB)
    return refuse(Errno::Inval, "Can't attach device-bound programs in generic mode");
  if (!knows_attach_type(dev.machine.version, prog.expected_attach_type)) return {};
  if (prog.expected_attach_type == BPF_XDP_DEVMAP)
    return refuse(Errno::Inval, "BPF_XDP_DEVMAP programs can not be attached to a device");
  if (prog.expected_attach_type == BPF_XDP_CPUMAP)
    return refuse(Errno::Inval, "BPF_XDP_CPUMAP programs can not be attached to a device");
  return {};
}

// The device takes the caller's reference of new_prog, which `given` shows until then.
Result<void> dev_xdp_attach(NetDevice& dev, XdpLink* link, Prog* new_prog, Prog* old_prog, uint32_t flags,
                            std::optional<Holding>& given) {
  KFN(dev.machine, dev_xdp_attach);
  uint32_t modes = flags & XDP_FLAGS_MODES;
  if (link && (flags & ~XDP_FLAGS_MODES))
    return refuse(Errno::Inval, "Invalid XDP flags for BPF link attachment");
  if (modes & (modes - 1)) return refuse(Errno::Inval, "Only one XDP mode flag can be set");
  if (!modes && dev_xdp_prog_count(dev) > 1)
    return refuse(Errno::Inval, "More than one program loaded, unset mode is ambiguous");
  if (old_prog && !(flags & XDP_FLAGS_REPLACE))
    return refuse(Errno::Inval, "XDP_FLAGS_REPLACE is not specified");

  bpf_xdp_mode mode = dev_xdp_mode(dev, flags);
  NetDevice::XdpState& state = dev.xdp_state[mode];
  if (state.link) return refuse(Errno::Busy, "Can't replace active BPF XDP link");
  Prog* cur_prog = state.prog;
  if (link && cur_prog) return refuse(Errno::Busy, "Can't replace active XDP program with BPF link");
  if ((flags & XDP_FLAGS_REPLACE) && cur_prog != old_prog)
    return refuse(Errno::Exist, "Active program does not match expected");
  if (link) new_prog = link->prog;
  if (new_prog && (flags & XDP_FLAGS_UPDATE_IF_NOEXIST) && cur_prog)
    return refuse(Errno::Busy, "XDP program already attached");
  if (new_prog) TRY(may_be_attached(dev, mode, *new_prog));

  if (new_prog != cur_prog) TRY(dev_xdp_install(dev, mode, new_prog));
  given.reset();
  if (link)
    state.link = link;
  else
    state.prog = new_prog;
  if (cur_prog) bpf_prog_put(*cur_prog, {"detached from netdev {}", dev.ifindex});
  return {};
}

void bpf_xdp_link_release(Link& link) {
  KFN(link.machine, bpf_xdp_link_release);
  NetDevice* dev = std::exchange(xdp_link(link).dev, nullptr);
  if (!dev) return;
  for (int mode = 0; mode < __MAX_XDP_MODE; ++mode) {
    NetDevice::XdpState& state = dev->xdp_state[size_t(mode)];
    if (state.link != &link) continue;
    state.link = nullptr;
    if (Prog* installed = std::exchange(state.installed, nullptr))
      bpf_prog_put(*installed, {"out of the driver of netdev {}", dev->ifindex});
  }
}

Result<void> bpf_xdp_link_detach(Link& link) {
  bpf_xdp_link_release(link);
  return {};
}

// Takes over the caller's reference of new_prog on success.
Result<void> bpf_xdp_link_update(Link& link, Prog& new_prog, Prog* old_prog, Holding& given) {
  KFN(link.machine, bpf_xdp_link_update);
  NetDevice* dev = xdp_link(link).dev;
  if (!dev) return refuse(Errno::NoLink, "the link is detached");
  if (old_prog && link.prog != old_prog)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old_prog->id);
  Prog* old = link.prog;
  if (old->type != new_prog.type || old->expected_attach_type != new_prog.expected_attach_type)
    return refuse(Errno::Inval, "the new program is of another type or attach type");
  if (old == &new_prog) {
    given.release();
    bpf_prog_put(new_prog, {"the link has it already"});
    return {};
  }
  TRY(dev_xdp_install(*dev, dev_xdp_mode(*dev, xdp_link(link).flags), &new_prog));
  given.release();
  link.prog = &new_prog;
  bpf_prog_put(*old, {"replaced in link {}", link.id});
  return {};
}

int ifindex_of(const Link& link) {
  const NetDevice* dev = static_cast<const XdpLink&>(link).dev;
  return dev ? dev->ifindex : 0;
}

std::string bpf_xdp_link_show_fdinfo(const Link& link) {
  return "ifindex:\t" + std::to_string(ifindex_of(link)) + "\n";
}

Result<void> bpf_xdp_link_fill_link_info(const Link& link, bpf_link_info& info) {
  info.xdp.ifindex = uint32_t(ifindex_of(link));
  return {};
}

const LinkOps bpf_xdp_link_lops = {
    .name = "xdp",
    .release = bpf_xdp_link_release,
    .detach = bpf_xdp_link_detach,
    .update_prog = bpf_xdp_link_update,
    .show_fdinfo = bpf_xdp_link_show_fdinfo,
    .fill_link_info = bpf_xdp_link_fill_link_info,
};

XdpLink::XdpLink(NetDevice& dev, Prog& prog, uint32_t flags)
    : Link(dev.machine, BPF_LINK_TYPE_XDP, bpf_xdp_link_lops, &prog, BPF_XDP), dev(&dev), flags(flags) {}

}  // namespace

Result<void> dev_change_xdp(NetDevice& dev, Prog* new_prog, Prog* expected, uint32_t flags) {
  if (new_prog) bpf_prog_inc(*new_prog, {"attached to netdev {}", dev.ifindex});
  std::optional<Holding> given;
  if (new_prog) given.emplace(dev.machine, *new_prog, "RTM_SETLINK");
  Result<void> attached = dev_xdp_attach(dev, nullptr, new_prog, expected, flags, given);
  given.reset();
  if (!attached && new_prog) bpf_prog_put(*new_prog, {"not attached to netdev {}", dev.ifindex});
  return attached;
}

Result<Link*> bpf_xdp_link_attach(Prog& prog, const bpf_attr& attr) {
  KFN(prog.machine, bpf_xdp_link_attach);
  NetDevice* dev = init_net(prog.machine).by_index(int(attr.link_create.target_ifindex));
  if (!dev) return refuse(Errno::Inval, "no device has ifindex {}", attr.link_create.target_ifindex);
  auto link = std::make_unique<XdpLink>(*dev, prog, attr.link_create.flags);
  std::optional<Holding> none;  // the caller shows the reference that the link takes
  Result<void> attached = dev_xdp_attach(*dev, link.get(), nullptr, nullptr, link->flags, none);
  if (!attached) return attached.refusal();
  return link.release();
}

static void dev_xdp_uninstall(NetDevice& dev) {
  for (NetDevice::XdpState& state : dev.xdp_state) {
    if (Link* link = std::exchange(state.link, nullptr)) xdp_link(*link).dev = nullptr;
    if (Prog* prog = std::exchange(state.prog, nullptr))
      bpf_prog_put(*prog, {"netdev {} is gone", dev.ifindex});
    if (Prog* prog = std::exchange(state.installed, nullptr))
      bpf_prog_put(*prog, {"netdev {} is gone", dev.ifindex});
  }
}

void net_exit(Machine& machine) {
  if (!machine.net) return;
  if (machine.net->ns) netns_bpf_pernet_pre_exit(*machine.net->ns);
  for (auto& [ifindex, dev] : machine.net->devices) {
    tcx_uninstall(*dev);
    dev_xdp_uninstall(*dev);
  }
}

// The maps' entries of the device go in the same grace period, before it.
void unregister_netdevice(NetDevice& dev) {
  Machine& machine = dev.machine;
  KernelEntry entry(machine);
  KFN(machine, unregister_netdevice_many);
  emit<LifeEvent>(machine, dev, "free queued");
  tcx_uninstall(dev);
  dev_xdp_uninstall(dev);
  dev_map_remove_netdev(dev);
  if (NetDevice* peer = std::exchange(dev.netkit_peer, nullptr)) {  // the two go together
    peer->netkit_peer = nullptr;
    unregister_netdevice(*peer);
  }
  std::shared_ptr<NetDevice> gone = std::move(init_net(machine).devices.extract(dev.ifindex).mapped());
  machine.rcu.call_rcu(dev.label(), &dev, [gone] { emit<LifeEvent>(gone->machine, *gone, "freed"); });
}

// The program of a map's entry sees a copy of the packet. Whether it lets the packet go on.
static bool map_prog_passes(NetDevice& dev_rx, Prog& prog, Addr txq, const std::vector<uint8_t>& bytes) {
  Machine& machine = dev_rx.machine;
  Result<std::unique_ptr<XdpPacket>> packet = XdpPacket::make(machine);
  if (!packet) return false;
  constexpr uint32_t linear = kFrameSize - XDP_PACKET_HEADROOM - kSharedInfoSize;
  (*packet)->fill(bytes.data(), uint32_t(bytes.size()), XDP_PACKET_HEADROOM, linear, dev_rx.rxq(0));
  (*packet)->buff().txq = txq;
  const RunOutcome run = bpf_prog_run(machine, prog, (*packet)->ctx());
  return run.stop == RunStop::Returned && uint32_t(run.value) == XDP_PASS;
}

// A receive queue of the device stands for its send queue: both begin with the device.
static void dev_map_enqueue(NetDevice& dev_rx, const DevTarget& target, Receipt& receipt) {
  if (target.xdp_prog && !map_prog_passes(dev_rx, *target.xdp_prog, target.dev->rxq(0), receipt.packet))
    return;
  ++target.dev->counters.tx_packets;
  receipt.redirected_to.push_back(target.dev->ifindex);
}

// Sends the packet where the program said. False: there is no such place.
static bool xdp_do_redirect(NetDevice& dev, Receipt& receipt) {
  KFN(dev.machine, xdp_do_redirect);
  const bpf_redirect_info ri = std::exchange(init_net(dev.machine).redirect, {});
  if (!ri.map) {
    receipt.redirect_ifindex = ri.map_id == INT_MAX ? int(ri.tgt_index) : 0;
    NetDevice* target = init_net(dev.machine).by_index(receipt.redirect_ifindex);
    if (target) dev_map_enqueue(dev, {target, nullptr}, receipt);
    return target != nullptr;
  }
  receipt.redirect_map_id = ri.map_id;
  switch (ri.map->map_type) {
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH: {
      const bool all = ri.flags & BPF_F_BROADCAST;
      if (!all) dev_map_enqueue(dev, dev_map_target(ri.tgt_value), receipt);
      for (const DevTarget& target :
           all ? dev_map_targets(*ri.map, dev, ri.flags & BPF_F_EXCLUDE_INGRESS) : std::vector<DevTarget>())
        dev_map_enqueue(dev, target, receipt);
      if (!receipt.redirected_to.empty()) receipt.redirect_ifindex = receipt.redirected_to.front();
      return true;
    }
    case BPF_MAP_TYPE_CPUMAP: {
      const CpuTarget target = cpu_map_target(ri.tgt_value);
      receipt.redirect_cpu = int(target.cpu);
      if (!target.prog || map_prog_passes(dev, *target.prog, 0, receipt.packet)) ++dev.counters.to_stack;
      return true;
    }
    default: return false;
  }
}

static void count_verdict(NetDevice& dev, Receipt& receipt, const Prog& prog) {
  NetDevice::Counters& counters = dev.counters;
  if (receipt.verdict > XDP_REDIRECT) {
    ++counters.invalid_verdict;
    printk(dev.machine, "Illegal XDP return value " + std::to_string(receipt.verdict) + " on prog " +
                            prog.aux->name + " (id " + std::to_string(prog.id) + ") dev " + dev.name +
                            ", expect packet loss!");
  } else {
    ++counters.verdict[receipt.verdict];
  }
  switch (receipt.verdict) {
    case XDP_PASS: ++counters.to_stack; break;
    case XDP_TX: ++counters.tx_packets; break;
    case XDP_REDIRECT:
      if (!xdp_do_redirect(dev, receipt)) {
        ++counters.redirect_errors;
        receipt.dropped = true;
      }
      break;
    default: receipt.dropped = true;
  }
  if (receipt.dropped) ++counters.rx_dropped;
}

static Result<void> bpf_prog_run_xdp(NetDevice& dev, Prog& prog, std::span<const uint8_t> bytes,
                                     uint32_t queue, Receipt& receipt) {
  Machine& machine = dev.machine;
  if (dev.spare_packets.empty()) dev.spare_packets.push_back(TRY(XdpPacket::make(machine)));
  auto packet = std::move(dev.spare_packets.back());
  dev.spare_packets.pop_back();
  constexpr uint32_t linear = kFrameSize - XDP_PACKET_HEADROOM - kSharedInfoSize;
  packet->fill(bytes.data(), uint32_t(bytes.size()), XDP_PACKET_HEADROOM, linear, dev.rxq(queue));

  machine.clock.advance(Clock::kPacket);
  init_net(machine).redirect = {};
  RunOutcome run = bpf_prog_run(machine, prog, packet->ctx());
  receipt.ran = true;
  receipt.stop = run.stop;
  receipt.verdict = run.stop == RunStop::Returned ? uint32_t(run.value) : uint32_t(XDP_ABORTED);
  receipt.packet = packet->bytes(packet->buff().data);
  dev.spare_packets.push_back(std::move(packet));
  count_verdict(dev, receipt, prog);
  emit<XdpEvent>(machine, dev, receipt.verdict);
  return {};
}

Receipt receive(NetDevice& dev, std::span<const uint8_t> bytes, uint32_t queue) {
  KernelEntry entry(dev.machine);
  KFN(dev.machine, netif_receive_skb);
  Receipt receipt;
  ++dev.counters.rx_packets;
  dev.counters.rx_bytes += bytes.size();
  Prog* prog = dev.xdp_state[XDP_MODE_DRV].installed;
  if (!prog) prog = dev.xdp_state[XDP_MODE_SKB].installed;
  constexpr size_t kLinear = kFrameSize - XDP_PACKET_HEADROOM - kSharedInfoSize;
  size_t most = !prog ? 65536 + ETH_HLEN : prog->aux->xdp_has_frags ? kMaxXdpPacket : kLinear;
  if (bytes.size() < ETH_HLEN) receipt.refused = "shorter than an Ethernet header";
  if (bytes.size() > most) receipt.refused = prog ? "longer than the program's buffer" : "too long";
  if (queue >= dev.rx_queues) receipt.refused = "no such queue";
  bool accepted = !*receipt.refused;
  if (accepted && prog && !bpf_prog_run_xdp(dev, *prog, bytes, queue, receipt)) {
    receipt.refused = "no memory";
    accepted = false;
  }
  if (!accepted) {
    receipt.dropped = true;
    ++dev.counters.rx_dropped;
  }
  if (!receipt.ran) {
    receipt.packet.assign(bytes.begin(), bytes.end());
    if (accepted) ++dev.counters.to_stack;
  }
  return receipt;
}

}  // namespace bpfsim
