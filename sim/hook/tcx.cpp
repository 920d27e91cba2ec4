// Models: kernel/bpf/tcx.c, drivers/net/netkit.c (netkit_prog_attach and its neighbours) (Linux 6.18)
//
// Classifier programs on a device, at its ingress and egress, in the order of object/mprog.h, by themselves
// or by links. The list of a direction is born with its first program and gone with the last, so its revision
// starts anew. A netkit device has one list more, which stays; that of its peer is reached through the
// primary device of the pair only. Not modelled yet: that any of these programs run.
#include "hook/attach.h"
#include "host/net_device.h"
#include "object/ops.h"

namespace bpfsim {

namespace {

struct TcxLink final : Link {
  TcxLink(NetDevice& dev, Prog& prog, bpf_attach_type location);
  NetDevice* dev;  // null once detached
};
TcxLink& tcx_link(Link& link) { return static_cast<TcxLink&>(link); }

bool is_netkit(uint32_t attach_type) {
  return attach_type == BPF_NETKIT_PRIMARY || attach_type == BPF_NETKIT_PEER;
}

Result<NetDevice*> netkit_dev_fetch(NetDevice& dev, uint32_t attach_type) {
  if (!dev.netkit_peer) return refuse(Errno::NxIo, "{} is no netkit device", dev.name);
  if (!dev.netkit_primary) return refuse(Errno::Access, "{} is not the primary of its pair", dev.name);
  return attach_type == BPF_NETKIT_PEER ? dev.netkit_peer : &dev;
}

// The device whose list it is.
Result<NetDevice*> dev_get_by_index(Machine& machine, uint32_t ifindex, uint32_t attach_type) {
  if (is_netkit(attach_type) && !machine.config.on("CONFIG_NETKIT"))
    return refuse(Errno::Inval, "this machine has no CONFIG_NETKIT");
  NetDevice* dev = init_net(machine).by_index(int(ifindex));
  if (!dev) return refuse(Errno::NoDev, "no device has ifindex {}", ifindex);
  return is_netkit(attach_type) ? netkit_dev_fetch(*dev, attach_type) : dev;
}

bpf_mprog_entry& entry_of(NetDevice& dev, uint32_t attach_type) {
  if (is_netkit(attach_type)) return dev.netkit;
  return attach_type == BPF_TCX_INGRESS ? dev.tcx_ingress : dev.tcx_egress;
}

void forget_if_empty(bpf_mprog_entry& entry, uint32_t attach_type) {
  if (entry.items.empty() && !is_netkit(attach_type)) entry = {};
}

void tcx_link_release(Link& link) {
  KFN(link.machine, tcx_link_release);
  NetDevice* dev = std::exchange(tcx_link(link).dev, nullptr);
  if (!dev) return;
  bpf_mprog_entry& entry = entry_of(*dev, link.attach_type);
  if (bpf_mprog_detach(link.machine, entry, link.prog, &link, {})) forget_if_empty(entry, link.attach_type);
}

Result<void> tcx_link_detach(Link& link) {
  tcx_link_release(link);
  return {};
}

Result<void> tcx_link_update(Link& link, Prog& new_prog, Prog* old_prog, Holding& given) {
  KFN(link.machine, tcx_link_update);
  NetDevice* dev = tcx_link(link).dev;
  if (!dev) return refuse(Errno::NoLink, "the link is detached");
  if (old_prog && link.prog != old_prog)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old_prog->id);
  if (link.prog == &new_prog) {
    given.release();
    bpf_prog_put(new_prog, {"the link has it already"});
    return {};
  }
  const MprogPlace place{BPF_F_REPLACE | BPF_F_ID, link.prog->id, 0};
  TRY(bpf_mprog_attach(link.machine, entry_of(*dev, link.attach_type), new_prog, &link, link.prog, place));
  given.release();
  bpf_prog_put(*std::exchange(link.prog, &new_prog), {"replaced in link {}", link.id});
  return {};
}

int ifindex_of(const Link& link) {
  const NetDevice* dev = static_cast<const TcxLink&>(link).dev;
  return dev ? dev->ifindex : 0;
}

const char* place_name(uint32_t attach_type) {
  switch (attach_type) {
    case BPF_TCX_INGRESS: return "ingress";
    case BPF_TCX_EGRESS: return "egress";
    case BPF_NETKIT_PRIMARY: return "primary";
    default: return "peer";
  }
}

std::string tcx_link_fdinfo(const Link& link) {
  return "ifindex:\t" + std::to_string(ifindex_of(link)) + "\nattach_type:\t" +
         std::to_string(link.attach_type) + " (" + place_name(link.attach_type) + ")\n";
}

// The same two numbers for netkit.
Result<void> tcx_link_fill_info(const Link& link, bpf_link_info& info) {
  info.tcx.ifindex = uint32_t(ifindex_of(link));
  info.tcx.attach_type = link.attach_type;
  return {};
}

const LinkOps tcx_link_lops = {
    .name = "tcx",
    .release = tcx_link_release,
    .detach = tcx_link_detach,
    .update_prog = tcx_link_update,
    .show_fdinfo = tcx_link_fdinfo,
    .fill_link_info = tcx_link_fill_info,
};

const LinkOps netkit_link_lops = {
    .name = "netkit",
    .release = tcx_link_release,
    .detach = tcx_link_detach,
    .update_prog = tcx_link_update,
    .show_fdinfo = tcx_link_fdinfo,
    .fill_link_info = tcx_link_fill_info,
};

TcxLink::TcxLink(NetDevice& dev, Prog& prog, bpf_attach_type location)
    : Link(dev.machine, is_netkit(location) ? BPF_LINK_TYPE_NETKIT : BPF_LINK_TYPE_TCX,
           is_netkit(location) ? netkit_link_lops : tcx_link_lops, &prog, location),
      dev(&dev) {}

}  // namespace

Result<void> tcx_prog_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, tcx_prog_attach);
  NetDevice& dev = *TRY(dev_get_by_index(machine, attr.target_ifindex, attr.attach_type));
  Prog* old = nullptr;
  if (attr.attach_flags & BPF_F_REPLACE)
    old = TRY(bpf_prog_get_type(machine, int(attr.replace_bpf_fd), prog.type, {"to be replaced"}));
  const MprogPlace place{attr.attach_flags, attr.relative_fd, attr.expected_revision};
  Result<void> done = bpf_mprog_attach(machine, entry_of(dev, attr.attach_type), prog, nullptr, old, place);
  if (old) bpf_prog_put(*old, {"replaced or not"});
  return done;
}

Result<void> tcx_prog_detach(Machine& machine, const bpf_attr& attr, Prog* prog) {
  KFN(machine, tcx_prog_detach);
  NetDevice& dev = *TRY(dev_get_by_index(machine, attr.target_ifindex, attr.attach_type));
  bpf_mprog_entry& entry = entry_of(dev, attr.attach_type);
  if (entry.items.empty()) return refuse(Errno::NoEnt, "{} has no program there", dev.name);
  const MprogPlace place{attr.attach_flags, attr.relative_fd, attr.expected_revision};
  TRY(bpf_mprog_detach(machine, entry, prog, nullptr, place));
  forget_if_empty(entry, attr.attach_type);
  return {};
}

Result<void> tcx_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, tcx_prog_query);
  NetDevice& dev = *TRY(dev_get_by_index(machine, attr.query.target_ifindex, attr.query.attach_type));
  const bpf_mprog_entry& entry = entry_of(dev, attr.query.attach_type);
  return bpf_mprog_query(machine, attr, uattr, entry.items.empty() ? bpf_mprog_entry{} : entry);
}

Result<Link*> tcx_link_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, tcx_link_attach);
  const auto& create = attr.link_create;
  NetDevice& dev = *TRY(dev_get_by_index(machine, create.target_ifindex, create.attach_type));
  auto link = std::make_unique<TcxLink>(dev, prog, bpf_attach_type(create.attach_type));
  const MprogPlace place{create.flags, create.tcx.relative_fd, create.tcx.expected_revision};
  TRY(bpf_mprog_attach(machine, entry_of(dev, create.attach_type), prog, link.get(), nullptr, place));
  return link.release();
}

void tcx_uninstall(NetDevice& dev) {
  for (bpf_mprog_entry* entry : {&dev.tcx_ingress, &dev.tcx_egress, &dev.netkit}) {
    for (auto& item : std::exchange(*entry, {}).items) {
      if (item.link)
        tcx_link(*item.link).dev = nullptr;
      else
        bpf_prog_put(*item.prog, {"netdev {} is gone", dev.ifindex});
    }
  }
}

}  // namespace bpfsim
