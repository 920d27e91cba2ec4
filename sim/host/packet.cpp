// Models: include/net/xdp.h (xdp_prepare_buff), net/core/skbuff.c (build_skb) (Linux 6.18)
//
// Packets in the arena. A machine keeps a list of the XDP packets in flight, so that a helper that gets the
// address of an xdp_buff finds the fragments that only the host knows.
#include "host/packet.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "host/net_device.h"

namespace bpfsim {

Result<std::unique_ptr<XdpPacket>> XdpPacket::make(Machine& machine) {
  std::unique_ptr<XdpPacket> packet(new XdpPacket(machine, init_net(machine).packets));
  packet->page_ = TRY(machine.arena.alloc(kFrameSize, "packet"));
  packet->context_ = TRY(machine.arena.alloc(sizeof(xdp_buff), "xdp_buff"));
  packet->in_flight_[packet->ctx()] = packet.get();
  return packet;
}

XdpPacket::~XdpPacket() {
  if (context_) in_flight_.erase(context_.addr);
  machine_.arena.free(page_);
  machine_.arena.free(context_);
}

void XdpPacket::fill(const uint8_t* bytes, uint32_t size, uint32_t headroom, uint32_t linear, Addr rxq) {
  linear = std::min(linear, size);
  std::memset(page_.host, 0, page_.size);
  if (linear) std::memcpy(page_.host + headroom, bytes, linear);
  frags_.assign(bytes + linear, bytes + size);
  Addr data = page_.addr + headroom;
  buff() = {
      data, data + linear, data, page_.addr, rxq, 0, kFrameSize, frags_.empty() ? 0 : XDP_FLAGS_HAS_FRAGS};
}

std::vector<uint8_t> XdpPacket::bytes(Addr from) const {
  const uint8_t* start = machine_.arena.host(from);
  std::vector<uint8_t> all(start, start + (buff().data_end - from));
  all.insert(all.end(), frags_.begin(), frags_.end());
  return all;
}

XdpPacket* xdp_packet_of(Machine& machine, Addr ctx) {
  auto& packets = init_net(machine).packets;
  auto found = packets.find(ctx);
  return found == packets.end() ? nullptr : found->second;
}

Result<std::unique_ptr<Skb>> Skb::make(Machine& machine, const uint8_t* bytes, uint32_t size,
                                       uint32_t headroom) {
  std::unique_ptr<Skb> skb(new Skb(machine));
  uint32_t end = (headroom + size + 63) / 64 * 64;
  skb->page_ = TRY(machine.arena.alloc(end + kSharedInfoSize, "packet"));
  skb->context_ = TRY(machine.arena.alloc(sizeof(sk_buff_layout), "sk_buff"));
  if (size) std::memcpy(skb->page_.host + headroom, bytes, size);
  sk_buff_layout& fields = skb->skb();
  fields.head = skb->page_.addr;
  fields.data = skb->page_.addr + headroom;
  fields.len = size;
  fields.tail = headroom + size;
  fields.end = end;
  fields.users = 1;
  return skb;
}

Skb::~Skb() {
  machine_.arena.free(page_);
  machine_.arena.free(context_);
}

void Skb::push(int32_t bytes) const {
  skb().data -= uint64_t(int64_t(bytes));
  skb().len += uint32_t(bytes);
}

void Skb::set_data_pointers() const {
  Addr meta = skb().data - shared().meta_len, end = skb().data + skb().len - skb().data_len;
  std::memcpy(skb().cb + 32, &meta, 8);
  std::memcpy(skb().cb + 40, &end, 8);
}

}  // namespace bpfsim
