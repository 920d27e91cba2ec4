// Models: kernel/bpf/net_namespace.c (Linux 6.18)
//
// Programs of a network namespace: a flow dissector (one, by itself or by a link) and socket lookups (up to
// 64 links). Namespaces of links are named by a descriptor of /proc/self/ns/net; a program by itself goes to
// the task's own. Not modelled yet: that either fires, and more than one namespace.
#include <algorithm>

#include "hook/attach.h"

namespace bpfsim {

namespace {

struct NetnsLink final : Link {
  NetnsLink(NetNs& net, Prog& prog, bpf_attach_type type);
  NetNs* net;  // null once detached; not held, so that a namespace that goes takes its links off
};
NetnsLink& netns_link(Link& link) { return static_cast<NetnsLink&>(link); }

Result<void> check_attach_type(uint32_t type) {
  if (type == BPF_FLOW_DISSECTOR || type == BPF_SK_LOOKUP) return {};
  return refuse(Errno::Inval, "attach type {} is not one of network namespaces", type);
}

void bpf_netns_link_release(Link& link) {
  KFN(link.machine, bpf_netns_link_release);
  NetNs* net = std::exchange(netns_link(link).net, nullptr);
  if (net) std::erase(net->bpf[link.attach_type].links, &link);
}

Result<void> bpf_netns_link_detach(Link& link) {
  bpf_netns_link_release(link);
  return {};
}

Result<void> bpf_netns_link_update_prog(Link& link, Prog& new_prog, Prog* old_prog, Holding& given) {
  KFN(link.machine, bpf_netns_link_update_prog);
  if (old_prog && link.prog != old_prog)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old_prog->id);
  if (link.prog->type != new_prog.type) return refuse(Errno::Inval, "the new program is of another type");
  if (!netns_link(link).net) return refuse(Errno::NoLink, "the link is detached");
  given.release();
  bpf_prog_put(*std::exchange(link.prog, &new_prog), {"replaced in link {}", link.id});
  return {};
}

uint32_t inode_of(const Link& link) {
  const NetNs* net = static_cast<const NetnsLink&>(link).net;
  return net ? net->id : 0;
}

std::string bpf_netns_link_show_fdinfo(const Link& link) {
  return "netns_ino:\t" + std::to_string(inode_of(link)) + "\nattach_type:\t" +
         std::to_string(link.attach_type) + "\n";
}

Result<void> bpf_netns_link_fill_info(const Link& link, bpf_link_info& info) {
  info.netns.netns_ino = inode_of(link);
  info.netns.attach_type = link.attach_type;
  return {};
}

const LinkOps bpf_netns_link_ops = {
    .name = "netns",
    .release = bpf_netns_link_release,
    .detach = bpf_netns_link_detach,
    .update_prog = bpf_netns_link_update_prog,
    .show_fdinfo = bpf_netns_link_show_fdinfo,
    .fill_link_info = bpf_netns_link_fill_info,
};

NetnsLink::NetnsLink(NetNs& net, Prog& prog, bpf_attach_type type)
    : Link(net.machine, BPF_LINK_TYPE_NETNS, bpf_netns_link_ops, &prog, type), net(&net) {}

// The ids of programs for a query: at most `room` of them go to user memory, and as many places as there is
// room for are written. ENOSPC when that is not all.
Result<void> bpf_prog_array_copy_to_user(Machine& machine, const std::vector<Prog*>& programs, uint64_t user,
                                         uint32_t room) {
  constexpr uint32_t kMostPlaces = 1 << 20;  // what one kmalloc gives
  if (room > kMostPlaces) return refuse(Errno::NoMem, "room for {} programs", room);
  std::vector<uint32_t> ids(room);
  for (size_t i = 0; i < std::min<size_t>(room, programs.size()); ++i) ids[i] = programs[i]->id;
  TRY(copy_to_user(machine, user, ids.data(), ids.size() * sizeof ids[0]));
  if (programs.size() > room) return refuse(Errno::NoSpc, "{} programs, room for {}", programs.size(), room);
  return {};
}

}  // namespace

Result<void> netns_bpf_prog_attach(Prog& prog, const bpf_attr& attr) {
  KFN(prog.machine, netns_bpf_prog_attach);
  if (attr.target_fd || attr.attach_flags || attr.replace_bpf_fd)
    return refuse(Errno::Inval, "no target, flags or replaced program: it goes to the task's own namespace");
  TRY(check_attach_type(attr.attach_type));
  NetNs::Attached& at = netns_of(prog.machine).bpf[attr.attach_type];
  if (!at.links.empty()) return refuse(Errno::Exist, "a link is attached there");
  if (attr.attach_type != BPF_FLOW_DISSECTOR)
    return refuse(Errno::Inval, "socket lookups are attached by links");
  if (at.prog == &prog) return refuse(Errno::Inval, "program {} is attached there already", prog.id);
  if (Prog* old = std::exchange(at.prog, &prog)) bpf_prog_put(*old, {"replaced by program {}", prog.id});
  return {};
}

Result<void> netns_bpf_prog_detach(Machine& machine, const bpf_attr& attr, bpf_prog_type type) {
  KFN(machine, netns_bpf_prog_detach);
  if (attr.target_fd) return refuse(Errno::Inval, "no target: it is the task's own namespace");
  TRY(check_attach_type(attr.attach_type));
  Prog& prog = *TRY(bpf_prog_get_type(machine, int(attr.attach_bpf_fd), type, {"to be detached"}));
  Holding held(machine, prog, "bpf(BPF_PROG_DETACH)");
  NetNs::Attached& at = netns_of(machine).bpf[attr.attach_type];
  Result<void> done;
  if (!at.links.empty())
    done = refuse(Errno::Inval, "a link is attached there");
  else if (at.prog != &prog)
    done = refuse(Errno::NoEnt, "program {} is not attached there", prog.id);
  else
    bpf_prog_put(*std::exchange(at.prog, nullptr), {"detached by task {}", machine.current->pid});
  held.release();
  bpf_prog_put(prog, {"bpf(BPF_PROG_DETACH) is over"});
  return done;
}

Result<void> netns_bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, netns_bpf_prog_query);
  if (attr.query.query_flags) return refuse(Errno::Inval, "query_flags have no meaning here");
  TRY(check_attach_type(attr.query.attach_type));
  NetNs& net = *TRY(get_net_ns_by_fd(machine, int(attr.query.target_fd)));
  const std::vector<Prog*> programs = net.bpf[attr.query.attach_type].programs();
  const uint32_t flags = 0, count = uint32_t(programs.size());
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.attach_flags), &flags, sizeof flags));
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.prog_cnt), &count, sizeof count));
  if (!attr.query.prog_cnt || !attr.query.prog_ids || !count) return {};
  return bpf_prog_array_copy_to_user(machine, programs, attr.query.prog_ids, attr.query.prog_cnt);
}

Result<Link*> netns_bpf_link_create(Prog& prog, const bpf_attr& attr) {
  KFN(prog.machine, netns_bpf_link_create);
  const auto& create = attr.link_create;
  if (create.flags) return refuse(Errno::Inval, "flags {} have no meaning here", create.flags);
  TRY(check_attach_type(create.attach_type));
  NetNs& net = *TRY(get_net_ns_by_fd(prog.machine, int(create.target_fd)));
  NetNs::Attached& at = net.bpf[create.attach_type];
  const size_t most = create.attach_type == BPF_FLOW_DISSECTOR ? 1 : 64;
  if (at.links.size() >= most) return refuse(Errno::TooBig, "at most {} links of this type", most);
  if (at.prog) return refuse(Errno::Exist, "program {} is attached there by itself", at.prog->id);
  auto* link = new NetnsLink(net, prog, bpf_attach_type(create.attach_type));
  at.links.push_back(link);
  return link;
}

void netns_bpf_pernet_pre_exit(NetNs& net) {
  for (auto& [type, attached] : std::exchange(net.bpf, {})) {
    for (Link* link : attached.links) netns_link(*link).net = nullptr;
    if (attached.prog) bpf_prog_put(*attached.prog, {"its network namespace is gone"});
  }
}

}  // namespace bpfsim
