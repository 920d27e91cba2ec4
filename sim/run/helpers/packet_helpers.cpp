// Models: net/core/filter.c (helpers that work on xdp_buff and sk_buff) (Linux 6.18)
//
// XDP programs move the ends of their packet within its page, and copy bytes in and out of fragments; socket
// filters copy bytes out of an sk_buff. Departs from the kernel: the fragments of an XDP packet are one run
// of bytes. bpf_redirect is XDP's; the one of SCHED_CLS is not modelled yet.
#include <algorithm>
#include <climits>
#include <cstring>
#include <limits>

#include "host/net_device.h"
#include "run/helpers/call.h"

namespace bpfsim {

// The xdp_buff in R1; null after an oops.
static xdp_buff* xdp_argument(Machine& machine, Addr ctx) {
  return reinterpret_cast<xdp_buff*>(program_memory(machine, ctx, sizeof(xdp_buff), BPF_READ));
}

static uint64_t data_hard_end(const xdp_buff& xdp) {
  return xdp.data_hard_start + xdp.frame_sz - kSharedInfoSize;
}

BPF_CALL_2(bpf_xdp_adjust_head, ctx, offset_reg) {
  xdp_buff* xdp = xdp_argument(machine, ctx);
  if (!xdp) return 0;
  int64_t offset = int32_t(offset_reg);
  uint64_t metalen = xdp->data_meta > xdp->data ? 0 : xdp->data - xdp->data_meta;
  Addr first = xdp->data_hard_start + kXdpFrameSize + metalen;
  Addr data = xdp->data + uint64_t(offset);
  if (data < first || data > xdp->data_end - ETH_HLEN) return fail(Errno::Inval);
  if (metalen)
    std::memmove(machine.arena.host(xdp->data_meta + uint64_t(offset)), machine.arena.host(xdp->data_meta),
                 metalen);
  xdp->data_meta += uint64_t(offset);
  xdp->data = data;
  return 0;
}

const FuncProto bpf_xdp_adjust_head_proto = {
    .func = bpf_xdp_adjust_head,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING},
    .changes_pkt_data = true,
};

BPF_CALL_2(bpf_xdp_adjust_meta, ctx, offset_reg) {
  xdp_buff* xdp = xdp_argument(machine, ctx);
  if (!xdp) return 0;
  if (xdp->data_meta > xdp->data) return fail(Errno::NotSupp);
  Addr meta = xdp->data_meta + uint64_t(int64_t(int32_t(offset_reg)));
  if (meta < xdp->data_hard_start + kXdpFrameSize || meta > xdp->data) return fail(Errno::Inval);
  constexpr uint64_t kMaxMeta = 255;
  uint64_t metalen = xdp->data - meta;
  if (metalen % 4 || metalen > kMaxMeta) return fail(Errno::Access);
  xdp->data_meta = meta;
  return 0;
}

const FuncProto bpf_xdp_adjust_meta_proto = {
    .func = bpf_xdp_adjust_meta,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING},
    .changes_pkt_data = true,
};

// With fragments the tail is theirs: it shrinks through them into the page, and grows the last one.
static uint64_t adjust_frags(xdp_buff& xdp, std::vector<uint8_t>& frags, int64_t offset) {
  uint64_t linear = xdp.data_end - xdp.data;
  if (offset > 0) {
    uint64_t last = (frags.size() - 1) % kFrameSize + 1;
    if (uint64_t(offset) > kFrameSize - last) return fail(Errno::Inval);
    frags.resize(frags.size() + uint64_t(offset));
    return 0;
  }
  if (offset == std::numeric_limits<int32_t>::min())
    return 0;  // the kernel negates it in 32 bits: nothing to do
  uint64_t less = uint64_t(-offset);
  if (less > linear + frags.size() - ETH_HLEN) return fail(Errno::Inval);
  uint64_t from_frags = std::min<uint64_t>(less, frags.size());
  frags.resize(frags.size() - from_frags);
  if (frags.empty()) {
    xdp.flags &= ~XDP_FLAGS_HAS_FRAGS;
    xdp.data_end -= less - from_frags;
  }
  return 0;
}

BPF_CALL_2(bpf_xdp_adjust_tail, ctx, offset_reg) {
  xdp_buff* xdp = xdp_argument(machine, ctx);
  if (!xdp) return 0;
  int64_t offset = int32_t(offset_reg);
  XdpPacket* packet = xdp_packet_of(machine, ctx);
  if (packet && !packet->frags().empty()) return adjust_frags(*xdp, packet->frags(), offset);
  Addr data_end = xdp->data_end + uint64_t(offset);
  if (data_end > data_hard_end(*xdp) || data_end < xdp->data + ETH_HLEN) return fail(Errno::Inval);
  if (offset > 0) std::memset(machine.arena.host(xdp->data_end), 0, size_t(offset));
  xdp->data_end = data_end;
  return 0;
}

const FuncProto bpf_xdp_adjust_tail_proto = {
    .func = bpf_xdp_adjust_tail,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING},
    .changes_pkt_data = true,
};

static uint64_t buff_len(Machine& machine, const xdp_buff& xdp, Addr ctx) {
  XdpPacket* packet = xdp_packet_of(machine, ctx);
  return xdp.data_end - xdp.data + (packet ? packet->frags().size() : 0);
}

BPF_CALL_1(bpf_xdp_get_buff_len, ctx) {
  xdp_buff* xdp = xdp_argument(machine, ctx);
  return xdp ? buff_len(machine, *xdp, ctx) : 0;
}

const FuncProto bpf_xdp_get_buff_len_proto = {
    .func = bpf_xdp_get_buff_len,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX},
};

// Copies between a program's buffer and the packet, across the end of the page.
static uint64_t xdp_copy(Machine& machine, Addr ctx, uint64_t offset, Addr buf, uint64_t len, bool store) {
  xdp_buff* xdp = xdp_argument(machine, ctx);
  uint8_t* bytes = xdp ? program_memory(machine, buf, len, store ? BPF_READ : BPF_WRITE) : nullptr;
  if (!bytes) return 0;
  if (offset > 0xffff || len > 0xffff) return fail(Errno::Fault);
  if (offset + len > buff_len(machine, *xdp, ctx)) return fail(Errno::Inval);
  uint64_t linear = xdp->data_end - xdp->data;
  auto copy = [&](uint8_t* in_packet, uint64_t size) {
    store ? std::memcpy(in_packet, bytes, size) : std::memcpy(bytes, in_packet, size);
    bytes += size;
  };
  uint64_t first = offset < linear ? std::min(len, linear - offset) : 0;
  if (first) copy(machine.arena.host(xdp->data + offset), first);
  if (first < len) copy(xdp_packet_of(machine, ctx)->frags().data() + (offset + first - linear), len - first);
  return 0;
}

BPF_CALL_4(bpf_xdp_load_bytes, ctx, offset, buf, len) {
  return xdp_copy(machine, ctx, uint32_t(offset), buf, uint32_t(len), false);
}

const FuncProto bpf_xdp_load_bytes_proto = {
    .func = bpf_xdp_load_bytes,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE},
};

BPF_CALL_4(bpf_xdp_store_bytes, ctx, offset, buf, len) {
  return xdp_copy(machine, ctx, uint32_t(offset), buf, uint32_t(len), true);
}

const FuncProto bpf_xdp_store_bytes_proto = {
    .func = bpf_xdp_store_bytes,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_RDONLY_MEM, ARG_CONST_SIZE},
};

BPF_CALL_2(bpf_redirect, ifindex, flags) {
  if (flags) return XDP_ABORTED;
  init_net(machine).redirect = {.tgt_index = uint32_t(ifindex), .map_id = INT_MAX};
  return XDP_REDIRECT;
}

const FuncProto bpf_redirect_proto = {
    .func = bpf_redirect,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_ANYTHING, ARG_ANYTHING},
};

BPF_CALL_3(bpf_redirect_map, map_reg, key, flags) {
  Map* map = map_argument(machine, map_reg);
  if (!map || !map->ops->map_redirect) return XDP_ABORTED;
  return MAP_OP(*map, map_redirect, *map, key, flags);
}

const FuncProto bpf_redirect_map_proto = {
    .func = bpf_redirect_map,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_ANYTHING},
};

static const sk_buff_layout* skb_argument(Machine& machine, Addr ctx) {
  return reinterpret_cast<const sk_buff_layout*>(
      program_memory(machine, ctx, sizeof(sk_buff_layout), BPF_READ));
}

BPF_CALL_4(bpf_skb_load_bytes, ctx, offset_reg, to, len_reg) {
  const sk_buff_layout* skb = skb_argument(machine, ctx);
  uint64_t offset = uint32_t(offset_reg), len = uint32_t(len_reg);
  uint8_t* bytes = skb ? program_memory(machine, to, len, BPF_WRITE) : nullptr;
  if (!bytes) return 0;
  if (offset + len > skb->len) {
    std::memset(bytes, 0, len);
    return fail(Errno::Fault);
  }
  std::memmove(bytes, machine.arena.host(skb->data + offset), len);
  return 0;
}

const FuncProto bpf_skb_load_bytes_proto = {
    .func = bpf_skb_load_bytes,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE},
};

// Every packet here lies in one piece and has one owner, so there is nothing to pull.
BPF_CALL_2(bpf_skb_pull_data, ctx, len) {
  const sk_buff_layout* skb = skb_argument(machine, ctx);
  if (!skb) return 0;
  return uint32_t(len) > skb->len ? fail(Errno::NoMem) : 0;
}

const FuncProto bpf_skb_pull_data_proto = {
    .func = bpf_skb_pull_data,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_ANYTHING},
    .changes_pkt_data = true,
};

}  // namespace bpfsim
