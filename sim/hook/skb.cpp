// Models: net/core/filter.c (sk_filter_verifier_ops, tc_cls_act_verifier_ops, cg_skb_verifier_ops,
// sk_skb_verifier_ops), net/bpf/test_run.c (bpf_prog_test_run_skb) (Linux 6.18)
//
// The program types SOCKET_FILTER, SCHED_CLS, SCHED_ACT, CGROUP_SKB, SK_SKB and LWT_*: what of struct
// __sk_buff they may touch, the accesses to the kernel's sk_buff that each becomes, and their TEST_RUN.
// SK_SKB programs load and never run, and their accesses stay as they are written. CGROUP_SKB and LWT_*
// programs run by TEST_RUN only. Departs from the kernel: a test packet belongs to no socket, so __sk_buff.sk
// is NULL at run time where the kernel's test socket stands. Not modelled yet: writing tstamp, reading it in
// a program that also reads tstamp_type, the socket's addresses (family to local_port), gso fields' effects.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "hook/test_run.h"
#include "hook/types.h"
#include "uapi/context.h"
#include "uapi/tables.h"

namespace bpfsim {

#define FIELD_START(field) int(offsetof(__sk_buff, field))
#define FIELD_END(field) int(offsetof(__sk_buff, field) + sizeof(__sk_buff::field))

static bool in_range(int off, int from, int end) { return off >= from && off < end; }
#define IN_FIELD(field) in_range(off, FIELD_START(field), FIELD_END(field))

static bool bpf_skb_is_valid_access(int off, int size, bpf_access_type type, InsnAccessAux& info) {
  if (off < 0 || off >= int(sizeof(__sk_buff)) || off % size != 0) return false;
  if (IN_FIELD(cb)) return off + size <= FIELD_END(cb);
  if (IN_FIELD(data) || IN_FIELD(data_meta) || IN_FIELD(data_end)) return !info.is_ldsx && size == 4;
  if (in_range(off, FIELD_START(remote_ip4), FIELD_END(local_ip6))) return size == 4;
  if (IN_FIELD(flow_keys) || IN_FIELD(tstamp_type)) return false;
  if (in_range(off, FIELD_END(tstamp_type), FIELD_START(hwtstamp))) return false;  // padding
  if (IN_FIELD(hwtstamp)) return type == BPF_READ && size == 8;
  if (IN_FIELD(tstamp)) return size == 8;
  if (IN_FIELD(sk)) {
    info.reg_type = uint32_t(PTR_TO_SOCK_COMMON) | PTR_MAYBE_NULL;
    return type == BPF_READ && size == 8;
  }
  if (type == BPF_WRITE) return size == 4;
  info.ctx_field_size = 4;
  return size <= 4;
}

static bool sk_filter_is_valid_access(int off, int size, bpf_access_type type, const Prog&,
                                      InsnAccessAux& info) {
  if (IN_FIELD(tc_classid) || IN_FIELD(data) || IN_FIELD(data_meta) || IN_FIELD(data_end) ||
      IN_FIELD(tstamp) || IN_FIELD(wire_len) || IN_FIELD(hwtstamp) ||
      in_range(off, FIELD_START(family), FIELD_END(local_port)))
    return false;
  if (type == BPF_WRITE && !IN_FIELD(cb)) return false;
  return bpf_skb_is_valid_access(off, size, type, info);
}

static bool tc_cls_act_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                       InsnAccessAux& info) {
  bool writable = IN_FIELD(mark) || IN_FIELD(tc_index) || IN_FIELD(priority) || IN_FIELD(tc_classid) ||
                  IN_FIELD(cb) ||
                  (IN_FIELD(queue_mapping) && has(Gate::tc_write_queue, prog.machine.version));
  if (type == BPF_WRITE && off == FIELD_START(tstamp) && size == 8) info.not_modelled = "writing tstamp";
  if (type == BPF_WRITE && !writable) return false;
  if (in_range(off, FIELD_START(family), FIELD_END(local_port))) return false;
  if (IN_FIELD(data)) info.reg_type = PTR_TO_PACKET;
  if (IN_FIELD(data_meta)) info.reg_type = PTR_TO_PACKET_META;
  if (IN_FIELD(data_end)) info.reg_type = PTR_TO_PACKET_END;
  if (off == FIELD_START(tstamp_type)) return size == 1;
  return bpf_skb_is_valid_access(off, size, type, info);
}

static bool cg_skb_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                   InsnAccessAux& info) {
  if (!has(Gate::cgroup_skb_packet, prog.machine.version))
    return sk_filter_is_valid_access(off, size, type, prog, info);
  if (IN_FIELD(tc_classid) || IN_FIELD(data_meta) || IN_FIELD(wire_len)) return false;
  const bool privileged = bpf_capable(prog.machine);
  if ((IN_FIELD(data) || IN_FIELD(data_end)) && !privileged) return false;
  const bool writable =
      IN_FIELD(mark) || IN_FIELD(priority) || IN_FIELD(cb) || (IN_FIELD(tstamp) && privileged);
  if (type == BPF_WRITE && !writable) return false;
  if (IN_FIELD(data)) info.reg_type = PTR_TO_PACKET;
  if (IN_FIELD(data_end)) info.reg_type = PTR_TO_PACKET_END;
  return bpf_skb_is_valid_access(off, size, type, info);
}

static bool sk_skb_is_valid_access(int off, int size, bpf_access_type type, const Prog&,
                                   InsnAccessAux& info) {
  if (IN_FIELD(tc_classid) || IN_FIELD(data_meta) || IN_FIELD(tstamp) || IN_FIELD(wire_len) ||
      IN_FIELD(hwtstamp) || IN_FIELD(mark))
    return false;
  if (type == BPF_WRITE && !IN_FIELD(tc_index) && !IN_FIELD(priority)) return false;
  if (IN_FIELD(data)) info.reg_type = PTR_TO_PACKET;
  if (IN_FIELD(data_end)) info.reg_type = PTR_TO_PACKET_END;
  return bpf_skb_is_valid_access(off, size, type, info);
}

static bool lwt_is_valid_access(int off, int size, bpf_access_type type, const Prog&, InsnAccessAux& info) {
  if (IN_FIELD(tc_classid) || in_range(off, FIELD_START(family), FIELD_END(local_port)) ||
      IN_FIELD(data_meta) || IN_FIELD(tstamp) || IN_FIELD(wire_len) || IN_FIELD(hwtstamp))
    return false;
  if (type == BPF_WRITE && !IN_FIELD(mark) && !IN_FIELD(priority) && !IN_FIELD(cb)) return false;
  if (IN_FIELD(data)) info.reg_type = PTR_TO_PACKET;
  if (IN_FIELD(data_end)) info.reg_type = PTR_TO_PACKET_END;
  return bpf_skb_is_valid_access(off, size, type, info);
}

// A field of __sk_buff that is one field of sk_buff, perhaps a narrower one.
struct PlainField {
  int from;  // in __sk_buff
  int to;    // in sk_buff
  int size;  // BPF_B, BPF_H, BPF_W, BPF_DW
  uint32_t width;
};
static constexpr int kCb = offsetof(sk_buff_layout, cb);
static constexpr PlainField plain_fields[] = {
    {FIELD_START(len), offsetof(sk_buff_layout, len), BPF_W, 4},
    {FIELD_START(mark), offsetof(sk_buff_layout, mark), BPF_W, 4},
    {FIELD_START(queue_mapping), offsetof(sk_buff_layout, queue_mapping), BPF_H, 2},
    {FIELD_START(protocol), offsetof(sk_buff_layout, protocol), BPF_H, 2},
    {FIELD_START(vlan_tci), offsetof(sk_buff_layout, vlan_tci), BPF_H, 2},
    {FIELD_START(vlan_proto), offsetof(sk_buff_layout, vlan_proto), BPF_H, 2},
    {FIELD_START(priority), offsetof(sk_buff_layout, priority), BPF_W, 4},
    {FIELD_START(ingress_ifindex), offsetof(sk_buff_layout, skb_iif), BPF_W, 4},
    {FIELD_START(tc_index), offsetof(sk_buff_layout, tc_index), BPF_H, 2},
    {FIELD_START(hash), offsetof(sk_buff_layout, hash), BPF_W, 4},
    {FIELD_START(tc_classid), kCb + 6, BPF_H, 2},
    {FIELD_START(data), offsetof(sk_buff_layout, data), BPF_DW, 0},
    {FIELD_START(data_meta), kCb + 32, BPF_DW, 0},
    {FIELD_START(data_end), kCb + 40, BPF_DW, 0},
    {FIELD_START(wire_len), kCb, BPF_W, 4},
    {FIELD_START(sk), offsetof(sk_buff_layout, sk), BPF_DW, 0},
    {FIELD_START(tstamp), offsetof(sk_buff_layout, tstamp), BPF_DW, 0},
};

// A store of the same kind, register or immediate, to another place and of another size.
static bpf_insn store_like(const bpf_insn& insn, int size, int off) {
  return make_insn(BPF_CLASS(insn.code) | BPF_MEM | size, insn.dst_reg, insn.src_reg, off, insn.imm);
}

static Insns convert_queue_mapping_write(const bpf_insn& insn) {
  constexpr int NO_QUEUE_MAPPING = 0xffff;  // the queue's number is kept plus one
  int to = offsetof(sk_buff_layout, queue_mapping);
  if (BPF_CLASS(insn.code) == BPF_STX)
    return program(jmp_imm(BPF_JGE, insn.src_reg, NO_QUEUE_MAPPING, 1), store_like(insn, BPF_H, to));
  if (uint32_t(insn.imm) >= uint32_t(NO_QUEUE_MAPPING)) return program(ja(0));
  return program(store_like(insn, BPF_H, to));
}

static Insns convert_shared_info(const bpf_insn& insn, int size, size_t field) {
  int dst = insn.dst_reg, src = insn.src_reg;
  // end is an offset from head, so both are loaded; one register more is needed, AX unless src may be lost.
  return program(ldx_mem(BPF_W, BPF_REG_AX, src, offsetof(sk_buff_layout, end)),
                 ldx_mem(BPF_DW, dst, src, offsetof(sk_buff_layout, head)),
                 alu64_reg(BPF_ADD, dst, BPF_REG_AX), ldx_mem(size, dst, dst, int(field)));
}

static Insns bpf_convert_ctx_access(bpf_access_type type, const bpf_insn& insn, const Prog&,
                                    uint32_t* target_size) {
  int dst = insn.dst_reg, src = insn.src_reg, off = insn.off;
  if (IN_FIELD(cb)) {
    int to = off - FIELD_START(cb) + kCb + 8;
    if (type == BPF_WRITE) return program(store_like(insn, BPF_SIZE(insn.code), to));
    return program(ldx_mem(BPF_SIZE(insn.code), dst, src, to));
  }
  if (off == FIELD_START(queue_mapping) && type == BPF_WRITE) {
    *target_size = 2;
    return convert_queue_mapping_write(insn);
  }
  for (const PlainField& field : plain_fields) {
    if (field.from != off) continue;
    if (field.width) *target_size = field.width;
    return type == BPF_WRITE ? program(store_like(insn, field.size, field.to))
                             : program(ldx_mem(field.size, dst, src, field.to));
  }
  switch (off) {
    case FIELD_START(pkt_type):
      *target_size = 1;
      return program(ldx_mem(BPF_B, dst, src, offsetof(sk_buff_layout, pkt_type)),
                     alu32_imm(BPF_AND, dst, 7));
    case FIELD_START(vlan_present):
      *target_size = 4;
      return program(ldx_mem(BPF_W, dst, src, offsetof(sk_buff_layout, vlan_proto)),
                     jmp_imm(BPF_JEQ, dst, 0, 1), mov32_imm(dst, 1));
    case FIELD_START(napi_id):
      *target_size = 4;
      return program(ldx_mem(BPF_W, dst, src, offsetof(sk_buff_layout, napi_id)),
                     jmp_imm(BPF_JGE, dst, 0x101, 1), mov64_imm(dst, 0));
    case FIELD_START(ifindex):
      *target_size = 4;
      return program(ldx_mem(BPF_DW, dst, src, offsetof(sk_buff_layout, dev)), jmp_imm(BPF_JEQ, dst, 0, 1),
                     ldx_mem(BPF_W, dst, dst, offsetof(net_device_layout, ifindex)));
    case FIELD_START(gso_segs):
      *target_size = 2;
      return convert_shared_info(insn, BPF_H, offsetof(skb_shared_info_layout, gso_segs));
    case FIELD_START(gso_size):
      *target_size = 2;
      return convert_shared_info(insn, BPF_H, offsetof(skb_shared_info_layout, gso_size));
    case FIELD_START(hwtstamp):
      *target_size = 8;
      return convert_shared_info(insn, BPF_DW, offsetof(skb_shared_info_layout, hwtstamp));
    case FIELD_START(tstamp_type):
      return program(ldx_mem(BPF_B, dst, src, offsetof(sk_buff_layout, tc_bits)), alu32_imm(BPF_AND, dst, 3));
    default: return {};
  }
}

static Insns tc_cls_act_convert_ctx_access(bpf_access_type type, const bpf_insn& insn, const Prog& prog,
                                           uint32_t* target_size) {
  int dst = insn.dst_reg, src = insn.src_reg;
  if (insn.off == FIELD_START(ifindex)) {  // a packet of traffic control always has a device
    *target_size = 4;
    return program(ldx_mem(BPF_DW, dst, src, offsetof(sk_buff_layout, dev)),
                   ldx_mem(BPF_W, dst, dst, offsetof(net_device_layout, ifindex)));
  }
  if (insn.off == FIELD_START(tstamp) && type == BPF_READ) {
    // A timestamp of another clock reads as 0 to a program that does not ask which clock it is of.
    return program(ldx_mem(BPF_B, BPF_REG_AX, src, offsetof(sk_buff_layout, tc_bits)),
                   jmp32_imm(BPF_JSET, BPF_REG_AX, 4, 1), ja(4), jmp32_imm(BPF_JSET, BPF_REG_AX, 3, 1), ja(2),
                   mov64_imm(dst, 0), ja(1), ldx_mem(BPF_DW, dst, src, offsetof(sk_buff_layout, tstamp)));
  }
  return bpf_convert_ctx_access(type, insn, prog, target_size);
}

// A program that writes into the packet first makes sure that nobody else holds its bytes.
static Insns tc_cls_act_prologue(bool direct_write, const Prog& prog) {
  constexpr int TC_ACT_SHOT = 2;
  if (!direct_write) return {};
  return program(ldx_mem(BPF_B, BPF_REG_6, BPF_REG_1, offsetof(sk_buff_layout, flags)),
                 alu32_imm(BPF_AND, BPF_REG_6, 1), jmp_imm(BPF_JEQ, BPF_REG_6, 0, 7),
                 mov64_reg(BPF_REG_6, BPF_REG_1), alu64_reg(BPF_XOR, BPF_REG_2, BPF_REG_2),
                 call_helper(BPF_FUNC_skb_pull_data), jmp_imm(BPF_JEQ, BPF_REG_0, 0, 2),
                 mov32_imm(BPF_REG_0, TC_ACT_SHOT), exit_insn(), mov64_reg(BPF_REG_1, BPF_REG_6),
                 prog.insnsi[0]);
}

const VerifierOps sk_filter_verifier_ops = {
    .name = "sk_filter",
    .get_func_proto = helper_for,
    .is_valid_access = sk_filter_is_valid_access,
    .gen_prologue = nullptr,
    .convert_ctx_access = bpf_convert_ctx_access,
};

const VerifierOps tc_cls_act_verifier_ops = {
    .name = "tc_cls_act",
    .get_func_proto = helper_for,
    .is_valid_access = tc_cls_act_is_valid_access,
    .gen_prologue = tc_cls_act_prologue,
    .convert_ctx_access = tc_cls_act_convert_ctx_access,
};

const VerifierOps cg_skb_verifier_ops = {
    .name = "cg_skb",
    .get_func_proto = helper_for,
    .is_valid_access = cg_skb_is_valid_access,
    .gen_prologue = nullptr,
    .convert_ctx_access = bpf_convert_ctx_access,
};

const VerifierOps sk_skb_verifier_ops = {
    .name = "sk_skb",
    .get_func_proto = helper_for,
    .is_valid_access = sk_skb_is_valid_access,
    .gen_prologue = nullptr,
    .convert_ctx_access = nullptr,
};

#define LWT_VERIFIER_OPS(prefix, prologue)          \
  const VerifierOps prefix##_verifier_ops = {       \
      .name = #prefix,                              \
      .get_func_proto = helper_for,                 \
      .is_valid_access = lwt_is_valid_access,       \
      .gen_prologue = prologue,                     \
      .convert_ctx_access = bpf_convert_ctx_access, \
  };
LWT_VERIFIER_OPS(lwt_in, nullptr)
LWT_VERIFIER_OPS(lwt_out, nullptr)
LWT_VERIFIER_OPS(lwt_xmit, tc_cls_act_prologue)
LWT_VERIFIER_OPS(lwt_seg6local, nullptr)
#undef LWT_VERIFIER_OPS

// What TEST_RUN carries from the given context into the packet, and since when.
struct CarriedField {
  size_t from, end;
  Version since;
};
#define CARRIED(field, since)                                                         \
  {offsetof(__sk_buff, field), offsetof(__sk_buff, field) + sizeof(__sk_buff::field), \
   Version::parse(since).value()}
static constexpr CarriedField kCarried[] = {
    CARRIED(mark, "5.6"),      CARRIED(priority, "5.2"), CARRIED(ingress_ifindex, "5.17"),
    CARRIED(ifindex, "5.9"),   CARRIED(cb, "5.2"),       CARRIED(tstamp, "5.5"),
    CARRIED(wire_len, "5.6"),  CARRIED(gso_segs, "5.6"), CARRIED(gso_size, "5.7"),
    CARRIED(hwtstamp, "5.17"),
};
#undef CARRIED

static bool is_carried(size_t byte, Version version) {
  return std::any_of(std::begin(kCarried), std::end(kCarried), [&](const CarriedField& field) {
    return field.since <= version && field.from <= byte && byte < field.end;
  });
}

static Result<void> check_unused_fields(const std::vector<uint8_t>& ctx, Version version) {
  for (size_t at = 0; at < ctx.size(); ++at)
    if (ctx[at] && !is_carried(at, version))
      return refuse(Errno::Inval, "byte {} of the context must be 0", at);
  return {};
}

static Result<void> convert___skb_to_skb(const Skb& skb, const TestContext& ctx, Version version) {
  if (!ctx.given) return {};
  TRY(check_unused_fields(ctx.bytes, version));
  __sk_buff md = {};
  std::memcpy(&md, ctx.bytes.data(), ctx.bytes.size());
  sk_buff_layout& fields = skb.skb();
  constexpr uint32_t GSO_LEGACY_MAX_SIZE = 65536, GSO_MAX_SEGS = 65535;
  if (md.wire_len && (md.wire_len < fields.len || md.wire_len > GSO_LEGACY_MAX_SIZE))
    return refuse(Errno::Inval, "wire_len must be {} to 65536, is {}", fields.len, md.wire_len);
  if (md.gso_segs > GSO_MAX_SEGS) return refuse(Errno::Inval, "gso_segs is {}", md.gso_segs);
  fields.mark = md.mark;
  fields.priority = md.priority;
  fields.skb_iif = int32_t(md.ingress_ifindex);
  fields.tstamp = md.tstamp;
  uint32_t wire_len = md.wire_len ? md.wire_len : fields.len;
  std::memcpy(fields.cb, &wire_len, 4);
  std::memcpy(fields.cb + 8, md.cb, sizeof md.cb);
  skb.shared().gso_segs = uint16_t(md.gso_segs);
  skb.shared().gso_size = uint16_t(md.gso_size);
  skb.shared().hwtstamp = md.hwtstamp;
  return {};
}

static void convert_skb_to___skb(Machine& machine, const Skb& skb, TestContext& ctx) {
  if (!ctx.given) return;
  __sk_buff md = {};
  std::memcpy(&md, ctx.bytes.data(), ctx.bytes.size());
  const sk_buff_layout& fields = skb.skb();
  md.mark = fields.mark;
  md.priority = fields.priority;
  md.ingress_ifindex = uint32_t(fields.skb_iif);
  md.ifindex = uint32_t(reinterpret_cast<net_device_layout*>(machine.arena.host(fields.dev))->ifindex);
  md.tstamp = fields.tstamp;
  std::memcpy(&md.wire_len, fields.cb, 4);
  std::memcpy(md.cb, fields.cb + 8, sizeof md.cb);
  md.gso_segs = skb.shared().gso_segs;
  md.hwtstamp = skb.shared().hwtstamp;
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&md);
  for (size_t at = 0; at < ctx.bytes.size(); ++at)
    if (is_carried(at, machine.version)) ctx.bytes[at] = bytes[at];
}

// eth_type_trans: whom the frame is for, what it carries; the data then starts behind the Ethernet header.
// The address of every device here is all zero, and lo's broadcast address too.
void eth_type_trans(const Skb& skb, const NetDevice& dev, const uint8_t* frame) {
  sk_buff_layout& fields = skb.skb();
  enum : uint8_t { PACKET_HOST = 0, PACKET_BROADCAST = 1, PACKET_MULTICAST = 2, PACKET_OTHERHOST = 3 };
  auto is_all = [&](uint8_t byte) {
    return std::all_of(frame, frame + 6, [&](uint8_t b) { return b == byte; });
  };
  if (is_all(0))
    fields.pkt_type = PACKET_HOST;
  else if (is_all(0xff) && dev.ifindex != 1)
    fields.pkt_type = PACKET_BROADCAST;
  else
    fields.pkt_type = frame[0] & 1 ? PACKET_MULTICAST : PACKET_OTHERHOST;
  fields.mac_header = uint16_t(fields.data - fields.head);
  uint16_t type;
  std::memcpy(&type, frame + 12, 2);
  bool is_ethertype = (frame[12] << 8 | frame[13]) >= 0x0600;
  constexpr uint16_t ETH_P_802_2 = 0x0004;
  fields.protocol = is_ethertype ? type : uint16_t(ETH_P_802_2 << 8);
  skb.push(-int32_t(ETH_HLEN));
  fields.network_header = uint16_t(fields.data - fields.head);
}

static Result<void> check_network_header(const Skb& skb) {
  uint32_t least = skb.skb().protocol == 0x0008 ? 20 : skb.skb().protocol == 0xdd86 ? 40 : 0;
  if (skb.skb().len < least)
    return refuse(Errno::Inval, "the IP header needs {} bytes, {} are there", least, skb.skb().len);
  return {};
}

// The Internet checksum of what lies behind the Ethernet header, folded to 16 bits.
static uint16_t skb_checksum(Machine& machine, const Skb& skb) {
  const sk_buff_layout& fields = skb.skb();
  const uint8_t* at = machine.arena.host(fields.head + fields.network_header);
  const uint8_t* end = machine.arena.host(fields.data + fields.len);
  uint64_t sum = 0;
  for (; at < end; at += 2) sum += at[0] | (at + 1 < end ? at[1] << 8 : 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return uint16_t(sum);
}

static Result<void> bpf_prog_test_run_skb(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_skb);
  const uint32_t size = attr.test.data_size_in, headroom = 64;  // NET_SKB_PAD, with NET_IP_ALIGN 0 as on x86
  if (prog.type == BPF_PROG_TYPE_LWT_SEG6LOCAL && has(Gate::test_run_seg6local, machine.version))
    return refuse(Errno::NotSupp, "a program of type LWT_SEG6LOCAL cannot be run for a test");
  const bool may_check = has(Gate::test_run_checksum, machine.version);
  TRY(no_test_flags(attr, may_check ? BPF_F_TEST_SKB_CHECKSUM_COMPLETE : 0));
  if (size < ETH_HLEN) return refuse(Errno::Inval, "a packet has at least 14 bytes, this one {}", size);
  if (size > kFrameSize - headroom - kSharedInfoSize)
    return refuse(Errno::Inval, "a test packet has at most {} bytes, this one {}",
                  kFrameSize - headroom - kSharedInfoSize, size);
  std::vector<uint8_t> data(size);
  TRY(copy_from_user(machine, data.data(), attr.test.data_in, size));
  TestContext ctx = TRY(bpf_ctx_init(
      machine, attr, context_size("__sk_buff", sizeof(__sk_buff), alignof(__sk_buff), machine.version)));
  bool is_l2 = prog.type == BPF_PROG_TYPE_SCHED_CLS || prog.type == BPF_PROG_TYPE_SCHED_ACT;

  uint32_t ifindex = 1;
  if (ctx.given) std::memcpy(&ifindex, ctx.bytes.data() + FIELD_START(ifindex), 4);
  NetDevice* dev = init_net(machine).by_index(ifindex > 1 ? int(ifindex) : 1);
  if (!dev) return refuse(Errno::NoDev, "no device has ifindex {}", ifindex);

  auto owned = TRY(Skb::make(machine, data.data(), size, headroom));
  const Skb& skb = *owned;
  skb.skb().dev = dev->dev();
  eth_type_trans(skb, *dev, data.data());
  if (has(Gate::test_run_ip_header, machine.version)) TRY(check_network_header(skb));
  if (is_l2) {
    skb.push(ETH_HLEN);
  }
  if (prog.type != BPF_PROG_TYPE_SOCKET_FILTER) skb.set_data_pointers();
  TRY(convert___skb_to_skb(skb, ctx, machine.version));
  const uint16_t checksum = skb_checksum(machine, skb);
  TestOutcome outcome = TRY(bpf_test_run(machine, prog, skb.ctx(), attr.test.repeat));
  if (!is_l2) {
    skb.push(ETH_HLEN);
    std::memset(machine.arena.host(skb.skb().data), 0, ETH_HLEN);
  }
  // No helper of ours keeps the checksum in step: whoever changes the packet breaks it.
  if (attr.test.flags && checksum != skb_checksum(machine, skb))
    return refuse(Errno::BadMsg, "the packet was changed and its checksum was not");
  convert_skb_to___skb(machine, skb, ctx);
  const uint8_t* first = machine.arena.host(skb.skb().data);
  TRY(bpf_test_finish(machine, attr, uattr, {first, first + skb.skb().len}, 0, outcome.retval,
                      outcome.duration));
  return bpf_ctx_finish(machine, attr, uattr, ctx);
}

const ProgOps sk_filter_prog_ops = {.name = "sk_filter", .test_run = bpf_prog_test_run_skb};
const ProgOps cg_skb_prog_ops = {.name = "cg_skb", .test_run = bpf_prog_test_run_skb};
const ProgOps sk_skb_prog_ops = {.name = "sk_skb", .test_run = nullptr};
const ProgOps lwt_in_prog_ops = {.name = "lwt_in", .test_run = bpf_prog_test_run_skb};
const ProgOps lwt_out_prog_ops = {.name = "lwt_out", .test_run = bpf_prog_test_run_skb};
const ProgOps lwt_xmit_prog_ops = {.name = "lwt_xmit", .test_run = bpf_prog_test_run_skb};
const ProgOps lwt_seg6local_prog_ops = {.name = "lwt_seg6local", .test_run = bpf_prog_test_run_skb};
const ProgOps tc_cls_act_prog_ops = {.name = "tc_cls_act", .test_run = bpf_prog_test_run_skb};

}  // namespace bpfsim
