// Models: net/core/sock_reuseport.c, net/core/filter.c (sk_reuseport_attach_bpf) (Linux 6.18)
//
// Sockets that share a port by SO_REUSEPORT form a group, and a program may pick the one that gets a packet.
// The group holds that program; the graph draws the edge from the group's first socket. Departs from the
// kernel: a group lives as long as its sockets, also one of closed listeners.
#include <algorithm>

#include "host/socket.h"

namespace bpfsim {

static bool same_group(const Sock& a, const Sock& b) {
  return a.sk_family == b.sk_family && a.sk_protocol == b.sk_protocol && a.sk_uid == b.sk_uid &&
         a.local.address == b.local.address;
}

static void leave(Sock& sk) {
  std::shared_ptr<SockReuseport> group = std::move(sk.sk_reuseport_cb);
  if (!group) return;
  std::erase(group->socks, &sk);
  if (group->socks.empty() && group->prog)
    bpf_prog_put(*std::exchange(group->prog, nullptr), {"the reuseport group is gone"});
}

static void reuseport_alloc(Sock& sk) {
  sk.sk_reuseport_cb = std::make_shared<SockReuseport>();
  sk.sk_reuseport_cb->socks.push_back(&sk);
}

void reuseport_add_sock(Sock& sk) {
  KFN(sk.machine, reuseport_add_sock);
  const auto [first, last] = init_sockets(sk.machine).bound.equal_range(sk.local.port);
  for (auto at = first; at != last; ++at) {
    Sock& other = *at->second;
    if (&other == &sk || !other.sk_reuseport_cb || !other.hashed() || !same_group(sk, other)) continue;
    if (sk.sk_reuseport_cb == other.sk_reuseport_cb) return;
    leave(sk);
    sk.sk_reuseport_cb = other.sk_reuseport_cb;
    sk.sk_reuseport_cb->socks.push_back(&sk);
    return;
  }
  if (!sk.sk_reuseport_cb) reuseport_alloc(sk);
}

void reuseport_detach_sock(Sock& sk) {
  if (!sk.sk_reuseport_cb) return;
  KFN(sk.machine, reuseport_detach_sock);
  leave(sk);
}

static Result<void> reuseport_attach_prog(Sock& sk, Prog& prog) {
  if (!sk.hashed()) {
    if (!sk.sk_reuseport) return refuse(Errno::Inval, "the socket has no SO_REUSEPORT");
    if (!sk.sk_reuseport_cb) reuseport_alloc(sk);
  } else if (!sk.sk_reuseport_cb) {
    return refuse(Errno::Inval, "the socket was bound without SO_REUSEPORT");
  }
  bpf_prog_inc(prog, {"picks a socket of the group of sock {}", sk.id});
  if (Prog* old = std::exchange(sk.sk_reuseport_cb->prog, &prog))
    bpf_prog_put(*old, {"replaced in the group of sock {}", sk.id});
  return {};
}

Result<void> sk_reuseport_attach_bpf(Sock& sk, int fd) {
  KFN(sk.machine, sk_reuseport_attach_bpf);
  if (sk.filter_locked) return refuse(Errno::Perm, "SO_LOCK_FILTER forbids it");
  Prog& prog = *TRY(__bpf_prog_get(sk.machine, fd));
  if (prog.type != BPF_PROG_TYPE_SOCKET_FILTER && prog.type != BPF_PROG_TYPE_SK_REUSEPORT)
    return refuse(Errno::Inval, "the program has type {}, wanted SOCKET_FILTER or SK_REUSEPORT", prog.type);
  if (prog.type == BPF_PROG_TYPE_SK_REUSEPORT && !sk.is_tcp() && !sk.is_udp())
    return refuse(Errno::NotSupp, "SK_REUSEPORT programs are for TCP and UDP");
  if (prog.type == BPF_PROG_TYPE_SOCKET_FILTER) TRY(check_optmem(prog));
  return reuseport_attach_prog(sk, prog);
}

Result<void> reuseport_detach_prog(Sock& sk) {
  KFN(sk.machine, reuseport_detach_prog);
  if (!sk.sk_reuseport_cb)
    return refuse(sk.sk_reuseport ? Errno::NoEnt : Errno::Inval, "the socket is in no reuseport group");
  Prog* old = std::exchange(sk.sk_reuseport_cb->prog, nullptr);
  if (!old) return refuse(Errno::NoEnt, "the group has no program");
  bpf_prog_put(*old, {"detached from the group of sock {}", sk.id});
  return {};
}

}  // namespace bpfsim
