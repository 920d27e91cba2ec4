// Models: net/core/filter.c (xdp_verifier_ops), net/bpf/test_run.c (bpf_prog_test_run_xdp) (Linux 6.18)
//
// The program type XDP: what of struct xdp_md it may read, the loads from the kernel's xdp_buff that each
// read becomes, and its TEST_RUN. Not modelled yet: BPF_F_TEST_XDP_LIVE_FRAMES, offloaded programs.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "hook/test_run.h"
#include "hook/types.h"
#include "uapi/context.h"
#include "uapi/tables.h"

namespace bpfsim {

static bool __is_valid_xdp_access(int off, int size) {
  return off >= 0 && off < int(sizeof(xdp_md)) && size == 4 && off % size == 0;
}

static bool xdp_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                InsnAccessAux& info) {
  bool is_egress = off == offsetof(xdp_md, egress_ifindex);
  if (is_egress && prog.expected_attach_type != BPF_XDP_DEVMAP) return false;
  if (type == BPF_WRITE) return false;
  switch (off) {
    case offsetof(xdp_md, data): info.reg_type = PTR_TO_PACKET; break;
    case offsetof(xdp_md, data_meta): info.reg_type = PTR_TO_PACKET_META; break;
    case offsetof(xdp_md, data_end): info.reg_type = PTR_TO_PACKET_END; break;
    default: return __is_valid_xdp_access(off, size);
  }
  return !info.is_ldsx && __is_valid_xdp_access(off, size);
}

static Insns xdp_convert_ctx_access(bpf_access_type, const bpf_insn& insn, const Prog&, uint32_t*) {
  int dst = insn.dst_reg, src = insn.src_reg;
  auto pointer = [&](size_t off) { return program(ldx_mem(BPF_DW, dst, src, int(off))); };
  auto ifindex_of = [&](size_t info) {
    return program(ldx_mem(BPF_DW, dst, src, int(info)),
                   ldx_mem(BPF_DW, dst, dst, offsetof(xdp_rxq_info, dev)),
                   ldx_mem(BPF_W, dst, dst, offsetof(net_device_layout, ifindex)));
  };
  switch (insn.off) {
    case offsetof(xdp_md, data): return pointer(offsetof(xdp_buff, data));
    case offsetof(xdp_md, data_end): return pointer(offsetof(xdp_buff, data_end));
    case offsetof(xdp_md, data_meta): return pointer(offsetof(xdp_buff, data_meta));
    case offsetof(xdp_md, ingress_ifindex): return ifindex_of(offsetof(xdp_buff, rxq));
    case offsetof(xdp_md, egress_ifindex): return ifindex_of(offsetof(xdp_buff, txq));
    case offsetof(xdp_md, rx_queue_index):
      return program(ldx_mem(BPF_DW, dst, src, offsetof(xdp_buff, rxq)),
                     ldx_mem(BPF_W, dst, dst, offsetof(xdp_rxq_info, queue_index)));
    default: return {};
  }
}

const VerifierOps xdp_verifier_ops = {
    .name = "xdp",
    .get_func_proto = helper_for,
    .is_valid_access = xdp_is_valid_access,
    .gen_prologue = nullptr,
    .convert_ctx_access = xdp_convert_ctx_access,
};

// How the bytes that user space gives lie in the page.
struct XdpLayout {
  uint32_t headroom = XDP_PACKET_HEADROOM, meta = 0, linear = 0;
};

// The metadata comes first, then the packet; both lie behind the headroom.
static Result<void> place_meta(XdpLayout& layout, const xdp_md& md, uint32_t given, Version version) {
  const bool in_parts = has(Gate::test_run_xdp_linear, version);
  if (md.data_meta || md.data > md.data_end || (in_parts ? md.data_end > given : md.data_end != given))
    return refuse(Errno::Inval,
                  in_parts ? "data {} to data_end {} must lie within the {} bytes of data_in, data_meta be 0"
                           : "data {} to data_end {} must end with the {} bytes of data_in, data_meta be 0",
                  md.data, md.data_end, given);
  uint32_t most = has(Gate::test_run_xdp_meta, version) ? 255 : 32;
  if (in_parts) most = std::min(most, layout.headroom - kXdpFrameSize);
  if (md.data % 4 || md.data > most)
    return refuse(Errno::Inval, "metadata must be a multiple of 4 and at most {} bytes, is {}", most / 4 * 4,
                  md.data);
  layout.meta = md.data;
  layout.headroom -= layout.meta;
  layout.linear = md.data_end;
  return {};
}

static Result<XdpLayout> xdp_layout(const bpf_attr& attr, const xdp_md* md, Version version) {
  XdpLayout layout;
  const uint32_t given = attr.test.data_size_in;
  layout.linear = given;
  if (md) TRY(place_meta(layout, *md, given, version));
  const bool tailroom = has(Gate::test_run_xdp_page, version);
  const uint32_t room = kFrameSize - layout.headroom - (tailroom ? kSharedInfoSize : 0);
  const uint32_t packet = given - (has(Gate::test_run_xdp_linear, version) ? layout.meta : 0);
  if (packet < ETH_HLEN && (!tailroom || has(Gate::test_run_xdp_least, version)))
    return refuse(Errno::Inval, "a packet has at least 14 bytes, this one {}", packet);
  if (given > room && !has(Gate::test_run_xdp_frags, version))
    return refuse(tailroom ? Errno::MsgSize : Errno::Inval,
                  "a test packet has at most {} bytes, this one {}: no fragments before {}", room, given,
                  since(Gate::test_run_xdp_frags));
  layout.linear = std::min(layout.linear, room);
  return layout;
}

// xdp_convert_md_to_buff: which queue of which device the packet comes from.
static Result<Addr> rx_queue_of(Machine& machine, const xdp_md* md) {
  Net& net = init_net(machine);
  if (!md) return net.by_index(1)->rxq(0);
  if (md->egress_ifindex) return refuse(Errno::Inval, "egress_ifindex must be 0, is {}", md->egress_ifindex);
  if (!md->ingress_ifindex) {
    if (md->rx_queue_index) return refuse(Errno::Inval, "rx_queue_index {} of no device", md->rx_queue_index);
    return net.by_index(1)->rxq(0);
  }
  NetDevice* dev = net.by_index(int(md->ingress_ifindex));
  if (!dev) return refuse(Errno::NoDev, "no device has ifindex {}", md->ingress_ifindex);
  if (md->rx_queue_index >= dev->rx_queues)
    return refuse(Errno::Inval, "{} has {} queues, not queue {}", dev->name, dev->rx_queues,
                  md->rx_queue_index);
  return dev->rxq(md->rx_queue_index);
}

// What does not fit into the first page comes behind it, in up to 17 fragments.
static Result<void> read_frags(Machine& machine, const bpf_attr& attr, std::vector<uint8_t>& data) {
  const uint32_t given = attr.test.data_size_in, linear = uint32_t(data.size());
  data.resize(linear + std::min<size_t>(given - linear, MAX_SKB_FRAGS * kFrameSize));
  TRY(copy_from_user(machine, data.data() + linear, attr.test.data_in + linear, data.size() - linear));
  if (data.size() < given)
    return refuse(Errno::NoMem, "{} bytes do not fit into a page and 17 fragments", given);
  return {};
}

// Whether the packets go on into the network; before 5.18 nothing was asked.
static Result<bool> live_frames(const Prog& prog, const bpf_attr& attr) {
  if (!has(Gate::test_run_xdp_frags, prog.machine.version)) return false;
  if (attr.test.flags & ~BPF_F_TEST_XDP_LIVE_FRAMES)
    return refuse(Errno::Inval, "unknown flags {}", attr.test.flags);
  if (prog.aux->dev_bound) return refuse(Errno::Inval, "the program is bound to a device");
  constexpr uint32_t TEST_XDP_MAX_BATCH = 256;
  const bool do_live = attr.test.flags & BPF_F_TEST_XDP_LIVE_FRAMES;
  if (do_live && attr.test.batch_size > TEST_XDP_MAX_BATCH)
    return refuse(Errno::TooBig, "batch_size must be at most 256, is {}", attr.test.batch_size);
  if (!do_live && attr.test.batch_size) return refuse(Errno::Inval, "batch_size is for live frames");
  return do_live;
}

static Result<void> bpf_prog_test_run_xdp(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_xdp);
  if (has(Gate::test_run_xdp_entry, machine.version) &&
      (prog.expected_attach_type == BPF_XDP_DEVMAP || prog.expected_attach_type == BPF_XDP_CPUMAP))
    return refuse(Errno::Inval, "programs for devmap and cpumap entries cannot be test-run");
  const bool do_live = TRY(live_frames(prog, attr));

  if ((attr.test.ctx_in || attr.test.ctx_out) && !has(Gate::test_run_xdp_ctx, machine.version))
    return refuse(Errno::Inval, "before 5.15 a test run of XDP takes no context");
  TestContext ctx = TRY(
      bpf_ctx_init(machine, attr, context_size("xdp_md", sizeof(xdp_md), alignof(xdp_md), machine.version)));
  if (do_live) return refuse(Errno::OpNotSupp, "not modelled yet: BPF_F_TEST_XDP_LIVE_FRAMES");
  xdp_md* md = ctx.given ? reinterpret_cast<xdp_md*>(ctx.bytes.data()) : nullptr;
  XdpLayout layout = TRY(xdp_layout(attr, md, machine.version));
  std::vector<uint8_t> data(layout.linear);
  TRY(copy_from_user(machine, data.data(), attr.test.data_in, data.size()));
  Addr rxq = TRY(rx_queue_of(machine, md));
  TRY(read_frags(machine, attr, data));

  auto packet = TRY(XdpPacket::make(machine));
  packet->fill(data.data(), uint32_t(data.size()), layout.headroom, layout.linear, rxq);
  packet->buff().data += layout.meta;

  TestOutcome outcome = TRY(bpf_test_run(machine, prog, packet->ctx(), attr.test.repeat));
  const xdp_buff& buff = packet->buff();
  if (md) {
    md->data = uint32_t(buff.data - buff.data_meta);
    md->data_end = uint32_t(buff.data_end - buff.data_meta);
  }
  TRY(bpf_test_finish(machine, attr, uattr, packet->bytes(buff.data_meta), packet->frags().size(),
                      outcome.retval, outcome.duration));
  return bpf_ctx_finish(machine, attr, uattr, ctx);
}

const ProgOps xdp_prog_ops = {.name = "xdp", .test_run = bpf_prog_test_run_xdp};

}  // namespace bpfsim
