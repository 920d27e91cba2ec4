// Models: net/socket.c, net/core/sock.c, net/core/filter.c (sk_attach_bpf), net/ipv4/af_inet.c,
// net/ipv4/inet_connection_sock.c, net/ipv4/udp.c (Linux 6.18)
//
// The life of sockets: made, bound, listening, connected over loopback, closed. A closed socket leaves its
// port and the maps that have it; its memory goes with the last reference, after a grace period.
#include "host/socket.h"

#include <algorithm>

#include "object/ops.h"

namespace bpfsim {

namespace {

constexpr uint64_t kOptmemMax = 128 << 10;  // net.core.optmem_max
constexpr uint16_t kFirstEphemeral = 32768, kLastEphemeral = 60999, kFirstFreePort = 1024;

const char* kind_of(const Sock& sk) {
  switch (sk.sk_family) {
    case AF_UNIX_: return "unix";
    case AF_NETLINK_: return "netlink";
    case AF_PACKET_: return "packet";
    case AF_XDP_: return "xdp";
    default: return sk.is_tcp() ? "tcp" : sk.is_udp() ? "udp" : sk.sk_type == SOCK_RAW_ ? "raw" : "inet";
  }
}

void sk_destruct(Sock& sk) {
  KFN(sk.machine, __sk_destruct);
  emit<LifeEvent>(sk.machine, sk, "freed");
  if (sk.sk_bpf_storage) sk.machine.calls->bpf_local_storage_destroy(*sk.sk_bpf_storage);
  if (Prog* filter = std::exchange(sk.sk_filter, nullptr)) bpf_prog_put(*filter, {"sock {} is gone", sk.id});
  delete &sk;
}

void unbind(Sock& sk) {
  auto& bound = init_sockets(sk.machine).bound;
  const auto [first, last] = bound.equal_range(sk.local.port);
  for (auto at = first; at != last; ++at)
    if (at->second == &sk) return void(bound.erase(at));
}

// Of a pair, each socket holds the other until it is closed itself, also when that one is closed already.
void close_peer(Sock& sk) {
  Sock* peer = std::exchange(sk.peer, nullptr);
  if (!peer) return;
  if (sk.holds_peer()) return sock_put(*peer, {"sock {} was closed, whose peer it was", sk.id});
  peer->peer = nullptr;
  if (peer->is_tcp() && peer->sk_state == TCP_ESTABLISHED) peer->sk_state = TCP_CLOSE_WAIT;
}

// tcp_close(), udp_lib_close() and their like.
void sk_close(Sock& sk) {
  if (std::exchange(sk.closed, true)) return;
  if (sk.sk_user_data) sk.sk_user_data->sk_close(sk);
  reuseport_detach_sock(sk);
  unbind(sk);
  close_peer(sk);
  sk.sk_state = TCP_CLOSE;
  while (!sk.accept_queue.empty()) {
    Sock& child = *sk.accept_queue.front();
    sk.accept_queue.pop_front();
    sk_close(child);
    sock_put(child, {"the listener was closed"});
  }
}

void sock_release(File& file) {
  Sock& sk = static_cast<Sock&>(*file.private_data);
  KFN(sk.machine, sock_close);
  sk_close(sk);
  sock_put(sk, {"file released"});
}

// What socket(2) can make: -ESOCKTNOSUPPORT and -EPROTONOSUPPORT as each family says it.
Result<int> inet_protocol(Machine& machine, int type, int protocol) {
  if (protocol < 0 || protocol >= 256) return refuse(Errno::Inval, "there is no protocol {}", protocol);
  const int wanted = type == SOCK_STREAM_ ? IPPROTO_TCP_ : type == SOCK_DGRAM_ ? IPPROTO_UDP_ : 0;
  if (type == SOCK_RAW_) {
    if (!protocol) return refuse(Errno::ProtoNoSupport, "a raw socket names its protocol");
    if (!capable(machine, CAP_NET_RAW)) return refuse(Errno::Perm, "raw sockets need CAP_NET_RAW");
    return protocol;
  }
  if (!wanted) return refuse(Errno::SockTNoSupport, "IP has no sockets of type {}", type);
  if (protocol && protocol != wanted)
    return refuse(Errno::ProtoNoSupport, "protocol {} does not go with type {}", protocol, type);
  return wanted;
}

Result<int> check_family(Machine& machine, int family, int& type, int protocol) {
  switch (family) {
    case AF_INET_:
    case AF_INET6_: return inet_protocol(machine, type, protocol);
    case AF_UNIX_:
      if (protocol && protocol != AF_UNIX_) return refuse(Errno::ProtoNoSupport, "AF_UNIX has no protocols");
      if (type == SOCK_RAW_) type = SOCK_DGRAM_;
      if (type != SOCK_STREAM_ && type != SOCK_DGRAM_ && type != SOCK_SEQPACKET_)
        return refuse(Errno::SockTNoSupport, "AF_UNIX has no sockets of type {}", type);
      return 0;
    case AF_XDP_:
      if (!capable(machine, CAP_NET_RAW)) return refuse(Errno::Perm, "AF_XDP needs CAP_NET_RAW");
      if (type != SOCK_RAW_) return refuse(Errno::SockTNoSupport, "AF_XDP has SOCK_RAW only");
      if (protocol) return refuse(Errno::ProtoNoSupport, "AF_XDP has no protocols");
      return 0;
    case AF_PACKET_:
      if (!capable(machine, CAP_NET_RAW)) return refuse(Errno::Perm, "AF_PACKET needs CAP_NET_RAW");
      if (type != SOCK_RAW_ && type != SOCK_DGRAM_)
        return refuse(Errno::SockTNoSupport, "AF_PACKET has no sockets of type {}", type);
      return protocol;
    case AF_NETLINK_:
      if (type != SOCK_RAW_ && type != SOCK_DGRAM_)
        return refuse(Errno::SockTNoSupport, "AF_NETLINK has no sockets of type {}", type);
      if (protocol) return refuse(Errno::ProtoNoSupport, "only NETLINK_ROUTE is there");
      return 0;
    default: return refuse(Errno::AfNoSupport, "this machine has no address family {}", family);
  }
}

Result<Sock*> sock_create(Machine& machine, int family, int type, int protocol) {
  KFN(machine, __sock_create);
  if (type < 0 || type > 10) return refuse(Errno::Inval, "there is no socket type {}", type);
  const int chosen = TRY(check_family(machine, family, type, protocol));
  Sock* sk = new Sock(machine, family, type, chosen);
  sk->sk_refcnt.inc({"born in task {}", machine.current->pid});
  emit<LifeEvent>(machine, *sk, "born");
  return sk;
}

// The sock's first reference moves into a file of the current task.
Result<int64_t> sock_map_fd(Sock& sk) {
  Holding newborn(sk.machine, sk, "socket");
  Result<int64_t> fd = anon_inode_getfd(sk.machine, socket_file_ops, sk, O_RDWR_, newborn);
  if (fd) return fd;
  newborn.release();
  sk_close(sk);
  sock_put(sk, {"no descriptor for the new socket"});
  return fd;
}

bool is_any(const std::string& address) { return address == "0.0.0.0" || address == "::"; }

bool is_local(int family, const std::string& address) {
  if (is_any(address)) return (address == "::") == (family == AF_INET6_);
  return family == AF_INET6_ ? address == "::1" : address.rfind("127.", 0) == 0;
}

bool conflict(const Sock& sk, const Sock& other, const std::string& address) {
  if (sk.sk_family != other.sk_family || sk.sk_protocol != other.sk_protocol || &sk == &other) return false;
  if (address != other.local.address && !is_any(address) && !is_any(other.local.address)) return false;
  if (sk.sk_reuse && other.sk_reuse && other.sk_state != TCP_LISTEN) return false;
  return !(sk.sk_reuseport && other.sk_reuseport && sk.sk_uid == other.sk_uid);
}

bool port_taken(const Sock& sk, uint16_t port, const std::string& address) {
  const auto [first, last] = init_sockets(sk.machine).bound.equal_range(port);
  return std::any_of(first, last, [&](const auto& entry) { return conflict(sk, *entry.second, address); });
}

Result<void> get_port(Sock& sk, const SockAddr& address) {
  Sockets& sockets = init_sockets(sk.machine);
  uint16_t port = address.port;
  if (port && port_taken(sk, port, address.address))
    return refuse(Errno::AddrInUse, "port {} is taken", port);
  for (int tries = 0; !port && tries <= kLastEphemeral - kFirstEphemeral; ++tries) {
    const uint16_t next = sockets.next_port;
    sockets.next_port = next == kLastEphemeral ? kFirstEphemeral : uint16_t(next + 1);
    if (sockets.bound.count(next) == 0) port = next;
  }
  if (!port) return refuse(Errno::AddrInUse, "every port is taken");
  sk.local = {address.address, port};
  sockets.bound.emplace(port, &sk);
  if (!sk.is_udp()) return {};
  sk.rcu_free = true;
  if (sk.sk_reuseport) reuseport_add_sock(sk);
  return {};
}

Result<void> autobind(Sock& sk, const std::string& address) {
  return sk.local.port ? Result<void>() : get_port(sk, {address, 0});
}

Sock* find_listener(Sock& sk, const SockAddr& to) {
  const auto [first, last] = init_sockets(sk.machine).bound.equal_range(to.port);
  for (auto at = first; at != last; ++at) {
    Sock& other = *at->second;
    const bool here = is_any(other.local.address) || other.local.address == to.address;
    if (other.sk_state == TCP_LISTEN && other.sk_family == sk.sk_family && here) return &other;
  }
  return nullptr;
}

Result<void> tcp_connect(Sock& sk, const SockAddr& to) {
  if (sk.sk_state != TCP_CLOSE) return refuse(Errno::IsConn, "the socket listens or is connected");
  Sock* listener = find_listener(sk, to);
  if (!listener) return refuse(Errno::ConnRefused, "nobody listens on port {}", to.port);
  TRY(autobind(sk, to.address));
  Sock* child = new Sock(sk.machine, sk.sk_family, sk.sk_type, sk.sk_protocol);
  child->sk_refcnt.inc({"in the accept queue of sock {}", listener->id});
  emit<LifeEvent>(sk.machine, *child, "born");
  child->local = {to.address, listener->local.port};
  init_sockets(sk.machine).bound.emplace(child->local.port, child);
  child->sk_uid = listener->sk_uid;
  child->sk_reuse = listener->sk_reuse;
  child->sk_reuseport = listener->sk_reuseport;
  if (listener->sk_filter) {
    bpf_prog_inc(*listener->sk_filter, {"inherited by sock {}", child->id});
    child->sk_filter = listener->sk_filter;
  }
  if (listener->sk_bpf_storage) sk.machine.calls->bpf_sk_storage_clone(*listener, *child);
  child->remote = sk.local;
  sk.remote = to;
  sk.peer = child;
  child->peer = &sk;
  sk.sk_state = child->sk_state = TCP_ESTABLISHED;
  listener->accept_queue.push_back(child);
  return {};
}

Result<void> sk_attach_bpf(Sock& sk, int fd) {
  KFN(sk.machine, sk_attach_bpf);
  if (sk.filter_locked) return refuse(Errno::Perm, "SO_LOCK_FILTER forbids it");
  Prog& prog = *TRY(__bpf_prog_get(sk.machine, fd));
  if (prog.type != BPF_PROG_TYPE_SOCKET_FILTER)
    return refuse(Errno::Inval, "the program has type {}, wanted SOCKET_FILTER", prog.type);
  TRY(check_optmem(prog));
  bpf_prog_inc(prog, {"filter of sock {}", sk.id});
  if (Prog* old = std::exchange(sk.sk_filter, &prog)) bpf_prog_put(*old, {"replaced at sock {}", sk.id});
  return {};
}

Result<void> sk_detach_filter(Sock& sk) {
  KFN(sk.machine, sk_detach_filter);
  if (sk.filter_locked) return refuse(Errno::Perm, "SO_LOCK_FILTER forbids it");
  Prog* filter = std::exchange(sk.sk_filter, nullptr);
  if (!filter) return refuse(Errno::NoEnt, "the socket has no filter");
  bpf_prog_put(*filter, {"detached from sock {}", sk.id});
  return {};
}

}  // namespace

Sock::Sock(Machine& machine, int family, int type, int protocol)
    : Object(machine, ObjectKind::Sock),
      sk_family(family),
      sk_type(type),
      sk_protocol(protocol),
      sk_uid(machine.current->cred ? machine.current->cred->uid : 0),
      handle(machine.handles.publish(HandleKind::Socket, this)) {
  id = init_sockets(machine).next_ino++;
}

Sock::~Sock() { machine.handles.withdraw(handle); }

Sock* sock_from_handle(const Machine& machine, Addr handle) {
  return static_cast<Sock*>(machine.handles.resolve(HandleKind::Socket, handle));
}

std::string Sock::label() const {
  std::string text = "sock " + std::to_string(id) + " (" + kind_of(*this);
  if (local.port) text += " " + local.address + ":" + std::to_string(local.port);
  if (sk_state == TCP_LISTEN) text += ", listening";
  if (sk_state == TCP_ESTABLISHED) text += ", connected";
  return text + ")";
}

void Sock::each_held(const HoldVisitor& visit) const {
  if (sk_filter) visit({sk_filter, Counter::Refs, true, "sk_filter"});
  for (const Sock* child : accept_queue) visit({child, Counter::Refs, true, "accept queue"});
  const SockReuseport* group = sk_reuseport_cb.get();
  if (group && group->prog && group->socks.front() == this)
    visit({group->prog, Counter::Refs, true, "sk_reuseport_cb->prog"});
  if (peer) visit({peer, Counter::Refs, holds_peer(), "peer"});
  if (sk_user_data) sk_user_data->each_held(visit);
}

static std::string socket_inode_name(const File& file) {
  return "socket:[" + std::to_string(file.private_data->id) + "]";
}

const FileOps socket_file_ops = {.name = "socket",
                                 .release = sock_release,
                                 .show_fdinfo = nullptr,
                                 .holds = Counter::Refs,
                                 .inode_name = socket_inode_name};

Sockets& init_sockets(Machine& machine) {
  if (!machine.sockets) machine.sockets = std::make_shared<Sockets>();
  return *machine.sockets;
}

Result<Sock*> sockfd_lookup(Machine& machine, int fd) {
  return object_of_fd<Sock>(machine, fd, socket_file_ops, Errno::NotSock);
}

Result<void> check_optmem(const Prog& prog) {
  const uint64_t size = prog.insnsi.size() * sizeof(bpf_insn);
  if (size < kOptmemMax) return {};
  return refuse(Errno::NoMem, "a program of {} bytes is above net.core.optmem_max", size);
}

void sock_hold(Sock& sk, const Cause& cause) { sk.sk_refcnt.inc(cause); }

void sock_put(Sock& sk, const Cause& cause) {
  if (!sk.sk_refcnt.dec_and_test(cause)) return;
  KFN(sk.machine, sk_free);
  emit<LifeEvent>(sk.machine, sk, "free queued");
  sk.machine.rcu.call_rcu(sk.label(), &sk, [&sk] { sk_destruct(sk); });
}

uint64_t sock_gen_cookie(Sock& sk) {
  if (!sk.sk_cookie) sk.sk_cookie = init_sockets(sk.machine).next_cookie++;
  return sk.sk_cookie;
}

Result<int64_t> __sys_socket(Machine& machine, int family, int type, int protocol) {
  KFN(machine, __sys_socket);
  return sock_map_fd(*TRY(sock_create(machine, family, type, protocol)));
}

Result<std::pair<int, int>> __sys_socketpair(Machine& machine, int family, int type, int protocol) {
  KFN(machine, __sys_socketpair);
  Sock* one = TRY(sock_create(machine, family, type, protocol));
  auto discard = [](Sock& sk) { sk_close(sk), sock_put(sk, {"no pair of it"}); };
  if (family != AF_UNIX_) {
    discard(*one);
    return refuse(Errno::OpNotSupp, "address family {} has no pairs", family);
  }
  Sock* other = *sock_create(machine, family, type, protocol);  // what went once goes twice
  one->peer = other;
  other->peer = one;
  sock_hold(*one, {"the peer of sock {}", other->id});
  sock_hold(*other, {"the peer of sock {}", one->id});
  one->sk_state = other->sk_state = TCP_ESTABLISHED;
  Result<int64_t> first = sock_map_fd(*one);
  if (!first) {
    discard(*other);
    return first.refusal();
  }
  Result<int64_t> second = sock_map_fd(*other);
  if (second) return std::pair{int(*first), int(*second)};
  (void)sys_close(current_task(machine), int(*first));
  return second.refusal();
}

Result<void> __sys_bind(Machine& machine, int fd, const SockAddr& address) {
  KFN(machine, __sys_bind);
  Sock& sk = *TRY(sockfd_lookup(machine, fd));
  if (!sk.is_inet()) return refuse(Errno::Inval, "not modelled yet: addresses of family {}", sk.sk_family);
  if (!is_local(sk.sk_family, address.address))
    return refuse(Errno::AddrNotAvail, "{} is no address of this machine", address.address);
  if (address.port && address.port < kFirstFreePort && !capable(machine, CAP_NET_BIND_SERVICE))
    return refuse(Errno::Access, "port {} needs CAP_NET_BIND_SERVICE", address.port);
  if (sk.sk_state != TCP_CLOSE || sk.local.port) return refuse(Errno::Inval, "the socket has an address");
  return get_port(sk, address);
}

Result<void> __sys_listen(Machine& machine, int fd) {
  KFN(machine, __sys_listen);
  Sock& sk = *TRY(sockfd_lookup(machine, fd));
  if (sk.sk_type != SOCK_STREAM_ || !sk.is_inet())
    return refuse(Errno::OpNotSupp, "a {} socket does not listen", kind_of(sk));
  if (sk.sk_state == TCP_LISTEN) return {};
  if (sk.sk_state != TCP_CLOSE) return refuse(Errno::Inval, "the socket is connected");
  TRY(autobind(sk, sk.sk_family == AF_INET6_ ? "::" : "0.0.0.0"));
  const auto [first, last] = init_sockets(machine).bound.equal_range(sk.local.port);
  for (auto at = first; at != last; ++at)
    if (at->second->sk_state == TCP_LISTEN && conflict(sk, *at->second, sk.local.address))
      return refuse(Errno::AddrInUse, "another socket listens on port {}", sk.local.port);
  sk.sk_state = TCP_LISTEN;
  sk.rcu_free = true;
  if (sk.sk_reuseport) reuseport_add_sock(sk);
  return {};
}

Result<void> __sys_connect(Machine& machine, int fd, const SockAddr& address) {
  KFN(machine, __sys_connect);
  Sock& sk = *TRY(sockfd_lookup(machine, fd));
  if (!sk.is_inet()) return refuse(Errno::Inval, "not modelled yet: addresses of family {}", sk.sk_family);
  SockAddr to = address;
  if (is_any(to.address)) to.address = sk.sk_family == AF_INET6_ ? "::1" : "127.0.0.1";
  if (!is_local(sk.sk_family, to.address))
    return refuse(Errno::AddrNotAvail, "not modelled yet: {} is not on the loopback device", to.address);
  if (sk.is_tcp()) return tcp_connect(sk, to);
  TRY(autobind(sk, to.address));
  sk.remote = to;
  sk.sk_state = TCP_ESTABLISHED;
  return {};
}

Result<int64_t> __sys_accept(Machine& machine, int fd) {
  KFN(machine, __sys_accept4);
  Sock& sk = *TRY(sockfd_lookup(machine, fd));
  if (sk.sk_type != SOCK_STREAM_)
    return refuse(Errno::OpNotSupp, "a {} socket has no connections", kind_of(sk));
  if (sk.sk_state != TCP_LISTEN) return refuse(Errno::Inval, "the socket does not listen");
  if (sk.accept_queue.empty()) return refuse(Errno::Again, "no connection waits");
  TRY(current_task(machine).files.check_room());
  Sock& child = *sk.accept_queue.front();
  sk.accept_queue.pop_front();
  child.sk_uid = current_task(machine).cred.uid;
  return sock_map_fd(child);
}

Result<void> __sys_setsockopt(Machine& machine, int fd, int level, int name, std::span<const uint8_t> value) {
  KFN(machine, __sys_setsockopt);
  Sock& sk = *TRY(sockfd_lookup(machine, fd));
  if (level != SOL_SOCKET_) return refuse(Errno::NoProtoOpt, "not modelled yet: options of level {}", level);
  if (value.size() < sizeof(int)) return refuse(Errno::Inval, "an option has 4 bytes, not {}", value.size());
  int number;
  std::memcpy(&number, value.data(), sizeof number);
  const bool attaches = name == SO_ATTACH_BPF_ || name == SO_ATTACH_REUSEPORT_EBPF_;
  if (attaches && value.size() != sizeof(int))
    return refuse(Errno::Inval, "a descriptor has 4 bytes, not {}", value.size());
  switch (name) {
    case SO_REUSEADDR_: sk.sk_reuse = number != 0; return {};
    case SO_REUSEPORT_:
      if (number && !sk.is_inet())
        return refuse(Errno::OpNotSupp, "SO_REUSEPORT is for IP, not for a {} socket", kind_of(sk));
      sk.sk_reuseport = number != 0;
      return {};
    case SO_ATTACH_BPF_: return sk_attach_bpf(sk, number);
    case SO_DETACH_BPF_: return sk_detach_filter(sk);
    case SO_LOCK_FILTER_:
      if (sk.filter_locked && !number) return refuse(Errno::Perm, "SO_LOCK_FILTER is never taken back");
      sk.filter_locked = number != 0;
      return {};
    case SO_ATTACH_REUSEPORT_EBPF_: return sk_reuseport_attach_bpf(sk, number);
    case SO_DETACH_REUSEPORT_BPF_: return reuseport_detach_prog(sk);
    default: return refuse(Errno::NoProtoOpt, "not modelled yet: socket option {}", name);
  }
}

}  // namespace bpfsim
