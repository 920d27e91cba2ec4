// Models: include/net/xdp.h (struct xdp_buff, xdp_rxq_info), include/linux/skbuff.h (struct sk_buff)
// (Linux 6.18)
//
// A packet as programs meet it: a page of the arena with headroom before the bytes and room for the
// skb_shared_info behind them, and a context struct in the arena that points into it. The context structs
// have the layout of the measured 6.18 build, so that a rewritten program reads them with plain loads. Bytes
// beyond the first page are fragments: no program can point into them, the XDP helpers can reach them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/machine.h"

namespace bpfsim {

inline constexpr uint32_t ETH_HLEN = 14;
inline constexpr uint32_t kFrameSize = 4096;
inline constexpr uint32_t kSharedInfoSize = 320;  // SKB_DATA_ALIGN(sizeof(struct skb_shared_info))
inline constexpr uint32_t kXdpFrameSize = 40;     // sizeof(struct xdp_frame), kept at the start of the page
inline constexpr uint32_t MAX_SKB_FRAGS = 17;
inline constexpr uint32_t kMaxXdpPacket = kFrameSize - 256 - kSharedInfoSize + MAX_SKB_FRAGS * kFrameSize;

inline constexpr uint32_t XDP_FLAGS_HAS_FRAGS = 1;  // in xdp_buff.flags

struct xdp_buff {
  Addr data, data_end, data_meta, data_hard_start;
  Addr rxq, txq;
  uint32_t frame_sz, flags;
};
static_assert(sizeof(xdp_buff) == 56 && offsetof(xdp_buff, rxq) == 32 && offsetof(xdp_buff, frame_sz) == 48);

struct xdp_rxq_info {
  Addr dev;
  uint32_t queue_index, reg_state;
};
static_assert(offsetof(xdp_rxq_info, queue_index) == 8);

// The part of struct net_device that programs reach.
struct net_device_layout {
  uint8_t unread[224];
  int32_t ifindex;
};
static_assert(offsetof(net_device_layout, ifindex) == 224);

// The part of struct sk_buff that programs reach.
struct sk_buff_layout {
  Addr next, prev, dev, sk;
  uint64_t tstamp;
  uint8_t
      cb[48];  // the scheduler's: pkt_len at 0, tc_classid at 6, the program's cb[] at 8, data_meta, data_end
  uint64_t refdst, destructor, nfct;
  uint32_t len, data_len;
  uint16_t mac_len, hdr_len, queue_mapping;
  uint8_t flags, active_extensions;
  uint8_t pkt_type, tc_bits, more_bits[2];
  uint16_t tc_index, alloc_cpu;
  uint32_t csum;
  uint32_t priority;
  int32_t skb_iif;
  uint32_t hash;
  uint16_t vlan_proto, vlan_tci;
  uint32_t napi_id, secmark, mark;
  uint16_t inner_protocol, inner_transport_header, inner_network_header, inner_mac_header;
  uint16_t protocol, transport_header, network_header, mac_header;
  uint32_t tail, end;
  Addr head, data;
  uint32_t truesize, users;
  Addr extensions;
};
#define SKB_AT(field, at) static_assert(offsetof(sk_buff_layout, field) == at)
SKB_AT(dev, 16);
SKB_AT(sk, 24);
SKB_AT(tstamp, 32);
SKB_AT(cb, 40);
SKB_AT(len, 112);
SKB_AT(queue_mapping, 124);
SKB_AT(pkt_type, 128);
SKB_AT(tc_index, 132);
SKB_AT(priority, 140);
SKB_AT(hash, 148);
SKB_AT(vlan_tci, 154);
SKB_AT(mark, 164);
SKB_AT(protocol, 176);
SKB_AT(end, 188);
SKB_AT(data, 200);
#undef SKB_AT

// The part of struct skb_shared_info that programs reach; it lies at head + end.
struct skb_shared_info_layout {
  uint8_t flags, meta_len, nr_frags, tx_flags;
  uint16_t gso_size, gso_segs;
  Addr frag_list;
  uint64_t hwtstamp;
};

// One page, its xdp_buff, and the fragments behind it.
class XdpPacket {
 public:
  static Result<std::unique_ptr<XdpPacket>> make(Machine& machine);
  ~XdpPacket();
  XdpPacket(const XdpPacket&) = delete;

  // Puts the bytes behind `headroom`, cut into the page and fragments, zeroes the rest. `linear` bytes at
  // most lie in the page.
  void fill(const uint8_t* bytes, uint32_t size, uint32_t headroom, uint32_t linear, Addr rxq);

  Addr ctx() const { return context_.addr; }
  xdp_buff& buff() const { return *reinterpret_cast<xdp_buff*>(context_.host); }
  std::vector<uint8_t>& frags() { return frags_; }
  // What a program left: from data_meta or data on, with the fragments.
  std::vector<uint8_t> bytes(Addr from) const;

 private:
  XdpPacket(Machine& machine, std::map<Addr, XdpPacket*>& in_flight)
      : machine_(machine), in_flight_(in_flight) {}
  Machine& machine_;
  std::map<Addr, XdpPacket*>& in_flight_;  // Net::packets
  Span page_, context_;
  std::vector<uint8_t> frags_;
};

// Where the helpers find the fragments of the xdp_buff in a register: the packets in flight of a machine.
XdpPacket* xdp_packet_of(Machine& machine, Addr ctx);

// A page with an sk_buff.
class Skb {
 public:
  static Result<std::unique_ptr<Skb>> make(Machine& machine, const uint8_t* bytes, uint32_t size,
                                           uint32_t headroom);
  ~Skb();
  Skb(const Skb&) = delete;

  Addr ctx() const { return context_.addr; }
  sk_buff_layout& skb() const { return *reinterpret_cast<sk_buff_layout*>(context_.host); }
  skb_shared_info_layout& shared() const {
    return *reinterpret_cast<skb_shared_info_layout*>(page_.host + skb().end);
  }
  // skb_push and skb_pull: the data starts earlier or later.
  void push(int32_t bytes) const;
  void set_data_pointers() const;  // bpf_compute_data_pointers

 private:
  explicit Skb(Machine& machine) : machine_(machine) {}
  Machine& machine_;
  Span page_, context_;
};

}  // namespace bpfsim
