// Models: net/core/flow_dissector.c (bpf_flow_dissect), net/core/filter.c (flow_dissector_verifier_ops),
// net/bpf/test_run.c (bpf_prog_test_run_flow_dissector) (Linux 6.18)
//
// FLOW_DISSECTOR programs: they read a packet's headers and fill in struct bpf_flow_keys, which says where
// the headers lie and whom they join. Their context looks like __sk_buff and stands for three pointers. Not
// modelled yet: that a network namespace asks the program that is attached to it; TEST_RUN does.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "hook/ctx_fields.h"
#include "hook/test_run.h"
#include "hook/types.h"
#include "uapi/context.h"

namespace bpfsim {

// The context as it lies in memory.
struct bpf_flow_dissector {
  Addr flow_keys, skb, data, data_end;
};

static constexpr CtxField flow_dissector_fields[] = {
    {CTX(__sk_buff, data), CtxAccess::Word, CtxAccess::No, PTR_TO_PACKET},
    {CTX(__sk_buff, data_end), CtxAccess::Word, CtxAccess::No, PTR_TO_PACKET_END},
    {CTX(__sk_buff, flow_keys), CtxAccess::Dword, CtxAccess::No, PTR_TO_FLOW_KEYS},
};

static bool flow_dissector_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                           InsnAccessAux& info) {
  return ctx_access_allowed(flow_dissector_fields, sizeof(__sk_buff), {off, size, type}, prog, info);
}

static Insns flow_dissector_convert_ctx_access(bpf_access_type, const bpf_insn& insn, const Prog&,
                                               uint32_t*) {
  int to = offsetof(bpf_flow_dissector, flow_keys);
  if (insn.off == int(offsetof(__sk_buff, data))) to = offsetof(bpf_flow_dissector, data);
  if (insn.off == int(offsetof(__sk_buff, data_end))) to = offsetof(bpf_flow_dissector, data_end);
  return program(ldx_mem(BPF_DW, insn.dst_reg, insn.src_reg, to));
}

static Result<void> verify_user_bpf_flow_keys(const TestContext& ctx) {
  for (size_t at = 0; at < ctx.bytes.size(); ++at) {
    const bool flags = at >= offsetof(bpf_flow_keys, flags) && at < offsetof(bpf_flow_keys, flow_label);
    if (ctx.bytes[at] && !flags) return refuse(Errno::Inval, "byte {} of the context must be 0", at);
  }
  return {};
}

static Result<void> bpf_prog_test_run_flow_dissector(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_flow_dissector);
  TRY(test_run_since(prog, Gate::test_run_flow_dissector));
  const uint32_t size = attr.test.data_size_in;
  TRY(no_test_flags(attr));
  if (size < ETH_HLEN) return refuse(Errno::Inval, "a packet has at least 14 bytes, this one {}", size);
  if (size > kPageSize)
    return refuse(Errno::Inval, "a test packet has at most 4096 bytes, this one {}", size);
  TestMemory packet(machine, TRY(machine.arena.alloc(size, "test packet")));
  TRY(copy_from_user(machine, packet.span.host, attr.test.data_in, size));
  TestContext given = TRY(bpf_ctx_init(machine, attr, sizeof(bpf_flow_keys)));
  bpf_flow_keys first{};
  std::memcpy(&first.n_proto, packet.span.host + 12, sizeof first.n_proto);
  first.nhoff = first.thoff = ETH_HLEN;
  if (given.given) {
    TRY(verify_user_bpf_flow_keys(given));
    std::memcpy(&first.flags, given.bytes.data() + offsetof(bpf_flow_keys, flags), sizeof first.flags);
  }

  struct Frame {
    bpf_flow_dissector ctx;
    bpf_flow_keys keys;
  };
  TestMemory memory(machine, TRY(machine.arena.alloc(sizeof(Frame), "test flow keys")));
  Frame& frame = *reinterpret_cast<Frame*>(memory.span.host);
  frame.ctx = {memory.span.addr + offsetof(Frame, keys), 0, packet.span.addr, packet.span.addr + size};
  const TestOutcome outcome = TRY(bpf_test_run(machine, prog, memory.span.addr, attr.test.repeat,
                                               [&frame, &first] { frame.keys = first; }));
  // Whatever the program says, the headers lie within the packet and in their order.
  bpf_flow_keys& keys = frame.keys;
  keys.nhoff = std::clamp(keys.nhoff, uint16_t(ETH_HLEN), uint16_t(size));
  keys.thoff = std::clamp(keys.thoff, keys.nhoff, uint16_t(size));
  const auto* bytes = reinterpret_cast<const uint8_t*>(&keys);
  TRY(bpf_test_finish(machine, attr, uattr, {bytes, bytes + sizeof keys}, 0, outcome.retval,
                      outcome.duration));
  return bpf_ctx_finish(machine, attr, uattr, given);
}

const VerifierOps flow_dissector_verifier_ops = {.name = "flow_dissector",
                                                 .get_func_proto = helper_for,
                                                 .is_valid_access = flow_dissector_is_valid_access,
                                                 .gen_prologue = nullptr,
                                                 .convert_ctx_access = flow_dissector_convert_ctx_access};
const ProgOps flow_dissector_prog_ops = {.name = "flow_dissector",
                                         .test_run = bpf_prog_test_run_flow_dissector};

}  // namespace bpfsim
