// Models: net/core/dev.c (Linux 6.18)
//
// The birth of devices, and what they hold.
#include "host/net_device.h"

#include <new>

#include "object/file.h"
#include "uapi/tables.h"

namespace bpfsim {

const char* xdp_mode_name(bpf_xdp_mode mode) {
  return mode == XDP_MODE_SKB ? "xdpgeneric" : mode == XDP_MODE_DRV ? "xdp" : "xdpoffload";
}

static Span must_alloc(Machine& machine, uint64_t size, const char* owner) {
  auto span = machine.arena.alloc(size, owner);
  if (!span) throw std::bad_alloc();  // a machine without room for its devices cannot boot
  return *span;
}

NetDevice::NetDevice(Machine& machine, std::string name, int ifindex, bool has_native_xdp, uint32_t rx_queues)
    : Object(machine, ObjectKind::NetDevice),
      name(std::move(name)),
      ifindex(ifindex),
      has_native_xdp(has_native_xdp),
      rx_queues(rx_queues),
      dev_(must_alloc(machine, sizeof(net_device_layout), "net_device")),
      rxq_(must_alloc(machine, rx_queues * sizeof(xdp_rxq_info), "xdp_rxq_info")) {
  id = uint32_t(ifindex);
  reinterpret_cast<net_device_layout*>(dev_.host)->ifindex = ifindex;
  for (uint32_t queue = 0; queue < rx_queues; ++queue)
    reinterpret_cast<xdp_rxq_info*>(rxq_.host)[queue] = {dev_.addr, queue, 1};
}

NetDevice::~NetDevice() {
  spare_packets.clear();
  machine.arena.free(dev_);
  machine.arena.free(rxq_);
}

std::string NetDevice::label() const { return "netdev " + std::to_string(ifindex) + " (" + name + ")"; }

void NetDevice::each_held(const HoldVisitor& visit) const {
  for (int mode = 0; mode < __MAX_XDP_MODE; ++mode) {
    const XdpState& state = xdp_state[size_t(mode)];
    std::string where = xdp_mode_name(bpf_xdp_mode(mode));
    if (state.prog) visit({state.prog, Counter::Refs, true, where + " program"});
    if (state.link) visit({state.link, Counter::Refs, false, where + " link"});
    if (state.installed)
      visit({state.installed, Counter::Refs, true,
             where + (mode == XDP_MODE_SKB ? " as dev->xdp_prog" : " in the driver")});
  }
  tcx_ingress.each_held(visit, "tcx ingress");
  netkit.each_held(visit, "netkit");
  tcx_egress.each_held(visit, "tcx egress");
}

constexpr uint32_t PROC_NET_INIT_INO = 4026531840;  // the inode of the first network namespace

NetNs::NetNs(Machine& machine) : Object(machine, ObjectKind::NetNs) { id = PROC_NET_INIT_INO; }

std::string NetNs::label() const { return "netns " + std::to_string(id); }

std::vector<Prog*> NetNs::Attached::programs() const {
  std::vector<Prog*> running;
  if (prog) running.push_back(prog);
  for (const Link* link : links) running.push_back(link->prog);
  return running;
}

void NetNs::each_held(const HoldVisitor& visit) const {
  for (const auto& [type, attached] : bpf) {
    const std::string where = short_name(find_attach_type(type)->name);
    if (attached.prog) visit({attached.prog, Counter::Refs, true, where});
    for (const Link* link : attached.links) visit({link, Counter::Refs, false, where});
  }
  for (const NfHook& hook : nf_hooks)
    if (hook.link) visit({hook.link, Counter::Refs, false, "nf_hooks"});
}

NetNs& netns_of(Machine& machine) {
  Net& net = init_net(machine);
  if (!net.ns) net.ns = std::make_unique<NetNs>(machine);
  return *net.ns;
}

static const FileOps ns_file_operations = {"net:[4026531840]", nullptr, nullptr, Counter::Refs};

Result<int64_t> netns_open(Machine& machine) {
  NetNs& net = netns_of(machine);
  Holding held(machine, net, "open()");
  return anon_inode_getfd(machine, ns_file_operations, net, O_RDONLY_, held);
}

Result<NetNs*> get_net_ns_by_fd(Machine& machine, int fd) {
  return object_of_fd<NetNs>(machine, fd, ns_file_operations);
}

NetDevice* Net::by_index(int ifindex) const {
  auto found = devices.find(ifindex);
  return found == devices.end() ? nullptr : found->second.get();
}

NetDevice* Net::by_name(const std::string& name) const {
  for (auto& [ifindex, device] : devices)
    if (device->name == name) return device.get();
  return nullptr;
}

NetDevice& register_netdevice(Machine& machine, const std::string& name, bool has_native_xdp) {
  auto& devices = init_net(machine).devices;
  const int ifindex = init_net(machine).next_ifindex++;
  auto device = std::make_unique<NetDevice>(machine, name, ifindex, has_native_xdp);
  return *(devices[ifindex] = std::move(device));
}

void register_netkit(Machine& machine, const std::string& primary, const std::string& peer) {
  NetDevice &one = register_netdevice(machine, primary, false),
            &other = register_netdevice(machine, peer, false);
  one.netkit_primary = true;
  one.netkit_peer = &other;
  other.netkit_peer = &one;
}

Net& init_net(Machine& machine) {
  if (!machine.net) {
    machine.net = std::make_shared<Net>();
    register_netdevice(machine, "lo", false);
    register_netdevice(machine, "eth0", true);
  }
  return *machine.net;
}

}  // namespace bpfsim
