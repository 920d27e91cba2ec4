// Models: net/core/sock_map.c (programs, links) (Linux 6.18)
//
// Programs on a map of sockets, one for each attach type, put there by BPF_PROG_ATTACH or by a link. A socket
// takes the programs over when it is added (sock_map.cpp): one that is in the map already does not get those
// that come later.
#include "map/psock_progs.h"
#include "map/sock_map.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

Result<Prog**> sock_map_prog_lookup(Map& map, uint32_t which) {
  SockMap* socks = sock_map_of(map);
  if (!socks) return refuse(Errno::OpNotSupp, "map type {} takes no programs", uint32_t(map.map_type));
  PsockProgs& progs = socks->progs;
  switch (which) {
    case BPF_SK_MSG_VERDICT: return &progs.msg_parser;
    case BPF_SK_SKB_STREAM_PARSER: return &progs.stream_parser;
    case BPF_SK_SKB_STREAM_VERDICT:
      if (progs.skb_verdict) return refuse(Errno::Busy, "the map has a BPF_SK_SKB_VERDICT program");
      return &progs.stream_verdict;
    case BPF_SK_SKB_VERDICT:
      if (progs.stream_verdict) return refuse(Errno::Busy, "the map has a BPF_SK_SKB_STREAM_VERDICT program");
      return &progs.skb_verdict;
    default: return refuse(Errno::OpNotSupp, "attach type {} is not for a map of sockets", which);
  }
}

// Puts a program (or none) in its slot, with the reference that comes with it; `old`, if given, must be
// there. What a link has put there only that link takes away.
Result<void> sock_map_prog_update(Map& map, Prog* prog, Prog* old, Link* link, uint32_t which) {
  KFN(map.machine, sock_map_prog_update);
  Prog** slot = TRY(sock_map_prog_lookup(map, which));
  auto& links = sock_map_of(map)->prog_links;
  if ((!link || prog) && links.count(which))
    return refuse(Errno::Busy, "a link is attached to map {}", map.id);
  if (old && *slot != old) return refuse(Errno::NoEnt, "the program is not attached to map {}", map.id);
  if (Prog* replaced = std::exchange(*slot, prog)) bpf_prog_put(*replaced, {"replaced at map {}", map.id});
  if (old) links.erase(which);
  if (!old && link) links[which] = link;
  return {};
}

struct SockmapLink final : Link {
  SockmapLink(Map& map, Prog& prog, bpf_attach_type type);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    if (!map) return;
    visit({map, Counter::Refs, true, "sockmap_link->map"});
    visit({map, Counter::UserRefs, true, "sockmap_link->map"});
  }
  Map* map;  // null once detached
};
SockmapLink& sockmap_link(Link& link) { return static_cast<SockmapLink&>(link); }
uint32_t map_id_of(const Link& link) {
  const Map* map = static_cast<const SockmapLink&>(link).map;
  return map ? map->id : 0;
}

void sock_map_link_release(Link& link) {
  KFN(link.machine, sock_map_link_release);
  Map* map = std::exchange(sockmap_link(link).map, nullptr);
  if (!map) return;
  (void)sock_map_prog_update(*map, nullptr, link.prog, &link, link.attach_type);
  bpf_map_put_with_uref(*map, {"link {} is detached", link.id});
}

Result<void> sock_map_link_detach(Link& link) {
  sock_map_link_release(link);
  return {};
}

Result<void> sock_map_link_update_prog(Link& link, Prog& prog, Prog* old, Holding& given) {
  KFN(link.machine, sock_map_link_update_prog);
  if (old && link.prog != old)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old->id);
  if (link.prog->type != prog.type || link.prog->expected_attach_type != prog.expected_attach_type)
    return refuse(Errno::Inval, "the new program is of another type or attach type");
  Map* map = sockmap_link(link).map;
  if (!map) return refuse(Errno::NoLink, "the link is detached");
  Prog** slot = TRY(sock_map_prog_lookup(*map, link.attach_type));
  bpf_prog_inc(prog, {"attached to map {}", map->id});
  if (Prog* replaced = std::exchange(*slot, &prog)) bpf_prog_put(*replaced, {"replaced at map {}", map->id});
  given.release();
  bpf_prog_put(*std::exchange(link.prog, &prog), {"replaced in link {}", link.id});
  return {};
}

std::string sock_map_link_show_fdinfo(const Link& link) {
  return "map_id:\t" + std::to_string(map_id_of(link)) + "\nattach_type:\t" +
         std::to_string(link.attach_type) + "\n";
}

Result<void> sock_map_link_fill_info(const Link& link, bpf_link_info& info) {
  info.sockmap.map_id = map_id_of(link);
  info.sockmap.attach_type = link.attach_type;
  return {};
}

const LinkOps sock_map_link_ops = {.name = "sockmap",
                                   .release = sock_map_link_release,
                                   .detach = sock_map_link_detach,
                                   .update_prog = sock_map_link_update_prog,
                                   .show_fdinfo = sock_map_link_show_fdinfo,
                                   .fill_link_info = sock_map_link_fill_info};

SockmapLink::SockmapLink(Map& map, Prog& prog, bpf_attach_type type)
    : Link(map.machine, BPF_LINK_TYPE_SOCKMAP, sock_map_link_ops, &prog, type), map(&map) {}

}  // namespace

Result<Link*> sock_map_link_create(Prog& prog, const bpf_attr& attr) {
  KFN(prog.machine, sock_map_link_create);
  const auto& create = attr.link_create;
  if (create.flags) return refuse(Errno::Inval, "flags {} have no meaning here", create.flags);
  Map& map = *TRY(__bpf_map_get(prog.machine, int(create.target_fd)));
  if (!sock_map_of(map)) return refuse(Errno::Inval, "map type {} holds no sockets", uint32_t(map.map_type));
  auto* link = new SockmapLink(map, prog, bpf_attach_type(create.attach_type));
  if (Result<void> done = sock_map_prog_update(map, &prog, nullptr, link, create.attach_type); !done) {
    delete link;
    return done.refusal();
  }
  bpf_prog_inc(prog, {"attached to map {}", map.id});
  bpf_map_inc_with_uref(map, {"target of a link"});
  return link;
}

Result<void> sock_map_get_from_fd(Machine& machine, const bpf_attr& attr, Prog& prog) {
  KFN(machine, sock_map_get_from_fd);
  const bool asks = has(Gate::sockmap_detach_prog, machine.version);
  if (asks && (attr.attach_flags || attr.replace_bpf_fd))
    return refuse(Errno::Inval, "attach_flags {} and replace_bpf_fd {} must be 0", attr.attach_flags,
                  attr.replace_bpf_fd);
  Map& map = *TRY(__bpf_map_get(machine, int(attr.target_fd)));
  return sock_map_prog_update(map, &prog, nullptr, nullptr, attr.attach_type);
}

Result<void> sock_map_prog_detach(Machine& machine, const bpf_attr& attr, bpf_prog_type ptype) {
  KFN(machine, sock_map_prog_detach);
  if (!has(Gate::sockmap_detach_prog, machine.version))
    return sock_map_prog_update(*TRY(__bpf_map_get(machine, int(attr.target_fd))), nullptr, nullptr, nullptr,
                                attr.attach_type);
  if (attr.attach_flags || attr.replace_bpf_fd)
    return refuse(Errno::Inval, "attach_flags {} and replace_bpf_fd {} must be 0", attr.attach_flags,
                  attr.replace_bpf_fd);
  Map& map = *TRY(__bpf_map_get(machine, int(attr.target_fd)));
  Prog* prog = TRY(__bpf_prog_get(machine, int(attr.attach_bpf_fd)));
  if (prog->type != ptype)
    return refuse(Errno::Inval, "the program has type {}, attach type {} wants another", uint32_t(prog->type),
                  attr.attach_type);
  return sock_map_prog_update(map, nullptr, prog, nullptr, attr.attach_type);
}

// The counts are told even where the attach type is refused.
Result<void> sock_map_bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, sock_map_bpf_prog_query);
  if (attr.query.query_flags) return refuse(Errno::Inval, "query_flags must be 0");
  Map& map = *TRY(__bpf_map_get(machine, int(attr.query.target_fd)));
  const Result<Prog**> slot = sock_map_prog_lookup(map, attr.query.attach_type);
  const Prog* prog = slot ? **slot : nullptr;
  const uint32_t flags = 0, count = prog ? 1 : 0;
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.attach_flags), &flags, sizeof flags));
  if (prog && attr.query.prog_cnt && attr.query.prog_ids)
    TRY(copy_to_user(machine, attr.query.prog_ids, &prog->id, sizeof prog->id));
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.prog_cnt), &count, sizeof count));
  if (!slot) return slot.refusal();
  return {};
}

}  // namespace bpfsim
