// Models: include/net/sock.h, net/socket.c, net/core/sock.c, include/net/sock_reuseport.h (Linux 6.18)
//
// Sockets, as far as programs and maps hold them or are held by them: a descriptor, an address on the
// loopback device, a state, options. struct socket and struct sock are one here. What a map keeps at a socket
// that it holds stands in sk_user_data, as in the kernel, and hears when the socket is closed. A program's
// register holds a socket by its handle. Departs from the kernel: no call waits (an accept without a
// connection is EAGAIN), a listener's queue has room for all, and IPv4 and IPv6 do not share ports. Not
// modelled yet: data (nothing is sent), disconnecting, names of AF_UNIX.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "object/file.h"
#include "object/prog.h"

namespace bpfsim {

// With an underscore where the C library has macros of these names.
enum : int { AF_UNIX_ = 1, AF_INET_ = 2, AF_INET6_ = 10, AF_NETLINK_ = 16, AF_PACKET_ = 17, AF_XDP_ = 44 };
enum : int { SOCK_STREAM_ = 1, SOCK_DGRAM_ = 2, SOCK_RAW_ = 3, SOCK_RDM_ = 4, SOCK_SEQPACKET_ = 5 };
enum : int { IPPROTO_TCP_ = 6, IPPROTO_UDP_ = 17 };
enum : int { TCP_ESTABLISHED = 1, TCP_CLOSE = 7, TCP_CLOSE_WAIT = 8, TCP_LISTEN = 10 };
enum : int {
  SOL_SOCKET_ = 1,
  SO_REUSEADDR_ = 2,
  SO_REUSEPORT_ = 15,
  SO_DETACH_BPF_ = 27,
  SO_LOCK_FILTER_ = 44,
  SO_ATTACH_BPF_ = 50,
  SO_ATTACH_REUSEPORT_EBPF_ = 52,
  SO_DETACH_REUSEPORT_BPF_ = 68,
};

struct SockAddr {
  std::string address;  // "127.0.0.1", "0.0.0.0", "::1", "::"
  uint16_t port = 0;    // 0: any that is free
};

struct Sock;

// What a map, or the group of sockets on one port, keeps at a socket.
struct SkUserData {
  virtual ~SkUserData() = default;
  virtual void sk_close(Sock& sk) = 0;  // the socket is being closed: take it out, and delete this
  virtual void each_held(const HoldVisitor&) const {}
};

// struct sock_reuseport: the sockets that share a port, and the program that picks one.
struct SockReuseport {
  std::vector<Sock*> socks;
  Prog* prog = nullptr;
};

struct Sock final : Object {
  Sock(Machine& machine, int family, int type, int protocol);
  ~Sock() override;
  std::string label() const override;  // "sock 3 (tcp 127.0.0.1:80, listening)"
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter which) const override {
    return which == Counter::Refs ? &sk_refcnt : nullptr;
  }

  bool is_inet() const { return sk_family == AF_INET_ || sk_family == AF_INET6_; }
  bool holds_peer() const { return sk_family == AF_UNIX_; }
  bool is_tcp() const { return is_inet() && sk_type == SOCK_STREAM_; }
  bool is_udp() const { return is_inet() && sk_type == SOCK_DGRAM_; }
  // Whether a packet can find it by its address: a listener, a connection, a bound UDP socket.
  bool hashed() const { return is_tcp() ? sk_state != TCP_CLOSE : is_udp() && local.port != 0; }

  const int sk_family, sk_type, sk_protocol;
  uint32_t sk_uid;
  int sk_state = TCP_CLOSE;
  bool sk_reuse = false, sk_reuseport = false, filter_locked = false, closed = false;
  bool rcu_free = false;  // SOCK_RCU_FREE: programs use it without a reference, a grace period keeps it
  const Addr handle;      // what a register holds: kHandleBase + slot
  SockAddr local, remote;
  Sock* peer = nullptr;            // of a connection, or of a pair, which is counted
  std::deque<Sock*> accept_queue;  // connections that nobody has accepted yet
  Prog* sk_filter = nullptr;       // SO_ATTACH_BPF
  std::shared_ptr<SockReuseport> sk_reuseport_cb;
  SkUserData* sk_user_data = nullptr;
  uint64_t sk_cookie = 0;  // 0 until somebody asks: sock_gen_cookie()
  Refcount sk_refcnt{*this, Counter::Refs};
  BpfLocalStorage* sk_bpf_storage = nullptr;  // what socket storage maps keep for it
  uint32_t sk_omem_alloc = 0;                 // bytes of that
};

struct Sockets {
  std::multimap<uint16_t, Sock*> bound;  // by port
  uint32_t next_ino = 1;
  uint64_t next_cookie = 1;
  uint16_t next_port = 32768;
};
Sockets& init_sockets(Machine& machine);

extern const FileOps socket_file_ops;

// The socket behind a descriptor of the current task: -EBADF, or -ENOTSOCK.
Result<Sock*> sockfd_lookup(Machine& machine, int fd);
void sock_hold(Sock& sk, const Cause& cause);
void sock_put(Sock& sk, const Cause& cause);
uint64_t sock_gen_cookie(Sock& sk);
// Whether a program that looks it up gets a reference, which it gives back by bpf_sk_release.
inline bool sk_is_refcounted(const Sock& sk) { return !sk.rcu_free; }
Sock* sock_from_handle(const Machine& machine, Addr handle);

// System calls of the current task.
Result<int64_t> __sys_socket(Machine& machine, int family, int type, int protocol);
Result<std::pair<int, int>> __sys_socketpair(Machine& machine, int family, int type, int protocol);
Result<void> __sys_bind(Machine& machine, int fd, const SockAddr& address);
Result<void> __sys_listen(Machine& machine, int fd);
Result<void> __sys_connect(Machine& machine, int fd, const SockAddr& address);
Result<int64_t> __sys_accept(Machine& machine, int fd);
Result<void> __sys_setsockopt(Machine& machine, int fd, int level, int name, std::span<const uint8_t> value);

// sock_reuseport.cpp
void reuseport_add_sock(Sock& sk);     // a socket with SO_REUSEPORT becomes reachable
void reuseport_detach_sock(Sock& sk);  // and leaves
Result<void> sk_reuseport_attach_bpf(Sock& sk, int fd);
Result<void> reuseport_detach_prog(Sock& sk);

// A socket's memory for options (net.core.optmem_max) pays for a SOCKET_FILTER program: -ENOMEM.
Result<void> check_optmem(const Prog& prog);

}  // namespace bpfsim
