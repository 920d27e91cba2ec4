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
#include "uapi/gates.h"

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

static Result<XdpLayout> xdp_layout(const bpf_attr& attr, const xdp_md* md) {
  XdpLayout layout;
  uint32_t given = attr.test.data_size_in;
  layout.linear = given;
  if (md) {
    if (md->data_meta || md->data_end > given || md->data > md->data_end)
      return refuse(Errno::Inval,
                    "data {} to data_end {} must lie within the {} bytes of data_in, data_meta be 0",
                    md->data, md->data_end, given);
    layout.meta = md->data;
    constexpr uint32_t kMaxMeta = 255;
    if (layout.meta % 4 || layout.meta > kMaxMeta || layout.meta > layout.headroom - kXdpFrameSize)
      return refuse(Errno::Inval, "metadata must be a multiple of 4 and at most 216 bytes, is {}",
                    layout.meta);
    layout.headroom -= layout.meta;
    layout.linear = md->data_end;
  }
  layout.linear = std::min(layout.linear, kFrameSize - layout.headroom - kSharedInfoSize);
  if (given - layout.meta < ETH_HLEN)
    return refuse(Errno::Inval, "a packet has at least 14 bytes, this one {}", given - layout.meta);
  if (given - layout.linear > MAX_SKB_FRAGS * kFrameSize)
    return refuse(Errno::NoMem, "{} bytes do not fit into a page and 17 fragments", given);
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

static Result<void> bpf_prog_test_run_xdp(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_xdp);
  if (prog.expected_attach_type == BPF_XDP_DEVMAP || prog.expected_attach_type == BPF_XDP_CPUMAP)
    return refuse(Errno::Inval, "programs for devmap and cpumap entries cannot be test-run");
  if (attr.test.flags & ~BPF_F_TEST_XDP_LIVE_FRAMES)
    return refuse(Errno::Inval, "unknown flags {}", attr.test.flags);
  if (prog.aux->dev_bound) return refuse(Errno::Inval, "the program is bound to a device");
  const bool do_live = attr.test.flags & BPF_F_TEST_XDP_LIVE_FRAMES;
  constexpr uint32_t TEST_XDP_MAX_BATCH = 256;
  if (do_live && attr.test.batch_size > TEST_XDP_MAX_BATCH)
    return refuse(Errno::TooBig, "batch_size must be at most 256, is {}", attr.test.batch_size);
  if (!do_live && attr.test.batch_size) return refuse(Errno::Inval, "batch_size is for live frames");

  if ((attr.test.ctx_in || attr.test.ctx_out) && !has(Gate::test_run_xdp_ctx, machine.version))
    return refuse(Errno::Inval, "before 5.15 a test run of XDP takes no context");
  TestContext ctx = TRY(bpf_ctx_init(machine, attr, sizeof(xdp_md)));
  if (do_live) return refuse(Errno::OpNotSupp, "not modelled yet: BPF_F_TEST_XDP_LIVE_FRAMES");
  xdp_md* md = ctx.given ? reinterpret_cast<xdp_md*>(ctx.bytes.data()) : nullptr;
  XdpLayout layout = TRY(xdp_layout(attr, md));
  std::vector<uint8_t> data(attr.test.data_size_in);
  TRY(copy_from_user(machine, data.data(), attr.test.data_in, data.size()));
  Addr rxq = TRY(rx_queue_of(machine, md));

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
