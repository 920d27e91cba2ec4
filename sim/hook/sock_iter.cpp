// Models: net/ipv4/tcp_ipv4.c (tcp_reg_info), net/ipv4/udp.c (udp_reg_info), net/unix/af_unix.c
// (unix_reg_info), net/netlink/af_netlink.c (netlink_reg_info) (Linux 6.18)
//
// Iterators over the sockets of the network namespace: TCP's that listen, then those that are connected;
// UDP's that have a port; all of AF_UNIX. A program sees family, addresses, ports, state, type and owner of
// each. Departs from the kernel: sockets come in the order of their birth, not by hash. Not modelled yet:
// that a netlink socket gets an address, without which none is found, and the sockets of the kernel itself;
// waiting connections (TIME_WAIT, SYN_RECV), which this machine does not have; the reuse bits, the counters
// and the queues of a socket.
#include <algorithm>
#include <cstring>

#include "hook/iter_seq.h"
#include "host/socket.h"

namespace bpfsim {

namespace {

uint16_t htons(uint16_t port) { return uint16_t(port << 8 | port >> 8); }

// "127.0.0.1" as it lies in memory.
uint32_t in_addr(const std::string& address) {
  uint8_t bytes[4] = {};
  size_t at = 0;
  for (uint8_t& byte : bytes)
    for (; at < address.size(); ++at) {
      if (address[at] == '.') {
        ++at;
        break;
      }
      byte = uint8_t(byte * 10 + (address[at] - '0'));
    }
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

void set_addresses(Image& image, const Sock& sk) {
  if (sk.sk_family == AF_INET_) {
    image.set_in("sock_common", "skc_rcv_saddr", in_addr(sk.local.address));
    if (!sk.remote.address.empty()) image.set_in("sock_common", "skc_daddr", in_addr(sk.remote.address));
    return;
  }
  // Of version 6 the machine has two addresses: any, and ::1.
  uint8_t loopback[16] = {};
  loopback[15] = 1;
  if (sk.local.address == "::1") image.set_in("sock_common", "skc_v6_rcv_saddr", loopback, sizeof loopback);
  if (sk.remote.address == "::1") image.set_in("sock_common", "skc_v6_daddr", loopback, sizeof loopback);
}

void fill_sock(Image& image, const Sock& sk) {
  image.set_in("sock_common", "skc_family", uint16_t(sk.sk_family));
  image.set_in("sock_common", "skc_state", uint8_t(sk.sk_state));
  image.set_in("sock_common", "skc_cookie", sk.sk_cookie);
  image.set_in("sock", "sk_uid", sk.sk_uid);
  image.set_in("sock", "sk_type", uint16_t(sk.sk_type));
  image.set_in("sock", "sk_protocol", uint16_t(sk.sk_protocol));
  if (!sk.is_inet()) return;
  image.set_in("sock_common", "skc_num", sk.local.port);
  image.set_in("sock_common", "skc_dport", htons(sk.remote.port));
  set_addresses(image, sk);
}

// The oldest socket from the position on of which `wanted` is true; the position goes behind it.
template <class Wanted>
const Sock* find_sock(IterSeq& seq, Wanted wanted) {
  const Sock* best = nullptr;
  for (const auto& [serial, object] : seq.machine.objects) {
    if (object->kind != ObjectKind::Sock || object->id < seq.at.number) continue;
    const Sock& sk = static_cast<const Sock&>(*object);
    if (!sk.closed && wanted(sk) && (!best || sk.id < best->id)) best = &sk;
  }
  if (best) seq.at.number = uint64_t(best->id) + 1;
  return best;
}

Result<bool> bpf_iter_tcp_seq_show(IterSeq& seq, Errno& said) {
  auto wanted = [&](const Sock& sk) {
    return sk.is_tcp() && sk.hashed() && (sk.sk_state == TCP_LISTEN) == (seq.at.within == 0);
  };
  const Sock* sk = find_sock(seq, wanted);
  if (!sk && !seq.at.within) {  // that were the listeners
    seq.at.within = 1;
    seq.at.number = 0;
    sk = find_sock(seq, wanted);
  }
  if (!sk) return false;
  Images images;
  said = bpf_iter_run_prog(seq, show_sock(images, *sk), sk->sk_uid);
  return true;
}

Result<bool> bpf_iter_udp_seq_show(IterSeq& seq, Errno& said) {
  constexpr uint32_t kBuckets = 256;  // UDP_HTABLE_SIZE_MIN
  const Sock* sk = find_sock(seq, [](const Sock& sk) { return sk.is_udp() && sk.hashed(); });
  if (!sk) return false;
  Images images;
  said = bpf_iter_run_prog(seq, show_sock(images, *sk, "udp_sock"), sk->sk_uid, sk->local.port % kBuckets);
  return true;
}

Result<bool> bpf_iter_unix_seq_show(IterSeq& seq, Errno& said) {
  const Sock* sk = find_sock(seq, [](const Sock& sk) { return sk.sk_family == AF_UNIX_; });
  if (!sk) return false;
  Images images;
  said = bpf_iter_run_prog(seq, show_sock(images, *sk, "unix_sock"), sk->sk_uid);
  return true;
}

Result<bool> netlink_seq_show(IterSeq&, Errno&) { return false; }

}  // namespace

Addr show_sock(Images& images, const Sock& sk, const char* structure) {
  Image& image = add_image(images, sk.machine, structure);
  fill_sock(image, sk);
  const std::string_view kind = structure;
  if (kind == "udp_sock") {
    image.set_in("inet_sock", "inet_sport", htons(sk.local.port));
    if (sk.sk_family == AF_INET_) image.set_in("inet_sock", "inet_saddr", in_addr(sk.local.address));
  }
  if (kind == "unix_sock" && sk.peer) {
    Image& peer = add_image(images, sk.machine, "sock");
    fill_sock(peer, *sk.peer);
    image.set("peer", peer.addr());
  }
  return image.addr();
}

const IterOps tcp_iter = {.show_next = bpf_iter_tcp_seq_show};
const IterOps udp_iter = {.show_next = bpf_iter_udp_seq_show};
const IterOps unix_iter = {.show_next = bpf_iter_unix_seq_show};
const IterOps netlink_iter = {.show_next = netlink_seq_show};

}  // namespace bpfsim
