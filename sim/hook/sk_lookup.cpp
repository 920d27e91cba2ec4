// Models: net/core/filter.c (sk_lookup_verifier_ops), net/bpf/test_run.c (bpf_prog_test_run_sk_lookup)
// (Linux 6.18)
//
// SK_LOOKUP programs: for which socket is this new connection? Their context tells who talks to whom; each
// access becomes one of struct bpf_sk_lookup_kern. A test run tells the cookie of the socket that the program
// selected. Not modelled yet: that a packet's arrival asks them, and reading the members of a socket.
#include "host/sk_lookup.h"

#include <cstddef>
#include <cstring>

#include "hook/ctx_fields.h"
#include "hook/test_run.h"
#include "hook/types.h"
#include "host/socket.h"
#include "uapi/context.h"

namespace bpfsim {

namespace {

using enum CtxAccess;
constexpr CtxField sk_lookup_fields[] = {
    {CTX(bpf_sk_lookup, sk), Dword, No, uint32_t(PTR_TO_SOCKET) | PTR_MAYBE_NULL},
    {CTX(bpf_sk_lookup, remote_port), WordOrHalf},
    {int(offsetof(bpf_sk_lookup, remote_port) + 2), int(offsetof(bpf_sk_lookup, local_ip4)), NarrowHalf},
    {CTX_TILL(bpf_sk_lookup, family, ingress_ifindex), Narrow},
};

bool sk_lookup_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                               InsnAccessAux& info) {
  return ctx_access_allowed(sk_lookup_fields, sizeof(bpf_sk_lookup), {off, size, type}, prog, info);
}

constexpr struct {
  int from, to, size;
  uint32_t width;
} kPlainFields[] = {
    {offsetof(bpf_sk_lookup, sk), offsetof(bpf_sk_lookup_kern, selected_sk), BPF_DW, 0},
    {offsetof(bpf_sk_lookup, family), offsetof(bpf_sk_lookup_kern, family), BPF_H, 2},
    {offsetof(bpf_sk_lookup, protocol), offsetof(bpf_sk_lookup_kern, protocol), BPF_H, 2},
    {offsetof(bpf_sk_lookup, remote_ip4), offsetof(bpf_sk_lookup_kern, v4_saddr), BPF_W, 4},
    {offsetof(bpf_sk_lookup, local_ip4), offsetof(bpf_sk_lookup_kern, v4_daddr), BPF_W, 4},
    {offsetof(bpf_sk_lookup, remote_port), offsetof(bpf_sk_lookup_kern, sport), BPF_H, 2},
    {offsetof(bpf_sk_lookup, local_port), offsetof(bpf_sk_lookup_kern, dport), BPF_H, 2},
    {offsetof(bpf_sk_lookup, ingress_ifindex), offsetof(bpf_sk_lookup_kern, ingress_ifindex), BPF_W, 4},
};

Insns sk_lookup_convert_ctx_access(bpf_access_type, const bpf_insn& insn, const Prog&,
                                   uint32_t* target_size) {
  const int dst = insn.dst_reg, src = insn.src_reg, off = insn.off;
  for (const auto& field : kPlainFields) {
    if (field.from != off) continue;
    if (field.width) *target_size = field.width;
    return program(ldx_mem(field.size, dst, src, field.to));
  }
  if (off == int(offsetof(bpf_sk_lookup, remote_port) + 2)) {  // the port's empty half
    *target_size = 2;
    return program(mov32_imm(dst, 0));
  }
  const bool remote = off < int(offsetof(bpf_sk_lookup, remote_port));
  const int first =
      remote ? int(offsetof(bpf_sk_lookup, remote_ip6)) : int(offsetof(bpf_sk_lookup, local_ip6));
  const int address =
      remote ? int(offsetof(bpf_sk_lookup_kern, v6_saddr)) : int(offsetof(bpf_sk_lookup_kern, v6_daddr));
  *target_size = 4;
  return program(ldx_mem(BPF_DW, dst, src, address), jmp_imm(BPF_JEQ, dst, 0, 1),
                 ldx_mem(BPF_W, dst, dst, off - first));
}

// What the caller says of the connection: no socket yet, nothing behind the ports.
Result<bpf_sk_lookup*> connection_of(TestContext& given) {
  if (!given.given) return refuse(Errno::Inval, "the connection must be told in ctx_in");
  auto* user = reinterpret_cast<bpf_sk_lookup*>(given.bytes.data());
  if (user->sk) return refuse(Errno::Inval, "sk must be 0");
  for (size_t at = offsetof(bpf_sk_lookup, ingress_ifindex); at < sizeof *user; ++at)
    if (given.bytes[at]) return refuse(Errno::Inval, "byte {} of the context must be 0", at);
  if (user->local_port > UINT16_MAX)
    return refuse(Errno::Range, "local_port must be at most 65535, is {}", user->local_port);
  constexpr uint16_t AF_INET = 2, AF_INET6 = 10;
  if (uint16_t(user->family) != AF_INET && uint16_t(user->family) != AF_INET6)
    return refuse(Errno::AfNoSupport, "family must be AF_INET or AF_INET6, is {}", uint16_t(user->family));
  return user;
}

// The cookie of the socket that the run selected, 0 for none. Which socket of a group it would be, a test run
// cannot tell.
Result<uint64_t> cookie_of_selected(const Machine& machine, const bpf_sk_lookup_kern& ctx) {
  Sock* selected = sock_from_handle(machine, ctx.selected_sk);
  if (!selected) return 0;
  if (selected->sk_reuseport && !ctx.no_reuseport)
    return refuse(Errno::OpNotSupp, "{} may share its port, and BPF_SK_LOOKUP_F_NO_REUSEPORT is not set",
                  selected->label());
  return sock_gen_cookie(*selected);
}

Result<void> bpf_prog_test_run_sk_lookup(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_sk_lookup);
  TRY(test_run_since(prog, Gate::test_run_sk_lookup));
  TRY(no_test_flags(attr));
  if (attr.test.data_in || attr.test.data_size_in || attr.test.data_out || attr.test.data_size_out)
    return refuse(Errno::Inval, "this program type sees no packet: no data");
  TestContext given = TRY(bpf_ctx_init(machine, attr, sizeof(bpf_sk_lookup)));
  bpf_sk_lookup& user = *TRY(connection_of(given));

  struct Frame {
    bpf_sk_lookup_kern ctx;
    uint32_t saddr[4], daddr[4];
  };
  TestMemory memory(machine, TRY(machine.arena.alloc(sizeof(Frame), "test connection")));
  Frame& frame = *new (memory.span.host) Frame{};
  frame.ctx.family = uint16_t(user.family);
  frame.ctx.protocol = uint16_t(user.protocol);
  frame.ctx.sport = user.remote_port;
  frame.ctx.dport = uint16_t(user.local_port);
  if (frame.ctx.family == 2) {
    frame.ctx.v4_saddr = user.remote_ip4;
    frame.ctx.v4_daddr = user.local_ip4;
  } else {
    std::memcpy(frame.saddr, user.remote_ip6, sizeof frame.saddr);
    std::memcpy(frame.daddr, user.local_ip6, sizeof frame.daddr);
    frame.ctx.v6_saddr = memory.span.addr + offsetof(Frame, saddr);
    frame.ctx.v6_daddr = memory.span.addr + offsetof(Frame, daddr);
  }
  auto select_none = [&] { frame.ctx.selected_sk = 0, frame.ctx.no_reuseport = 0; };
  // A grace period in between must not free what the program selected.
  RcuReader reading(machine.rcu);
  const TestOutcome outcome =
      TRY(bpf_test_run(machine, prog, memory.span.addr, attr.test.repeat, select_none));
  if (outcome.retval != SK_PASS) select_none();
  user.cookie = TRY(cookie_of_selected(machine, frame.ctx));
  TRY(bpf_test_finish(machine, attr, uattr, {}, 0, outcome.retval, outcome.duration));
  return bpf_ctx_finish(machine, attr, uattr, given);
}

}  // namespace

const VerifierOps sk_lookup_verifier_ops = {.name = "sk_lookup",
                                            .get_func_proto = helper_for,
                                            .is_valid_access = sk_lookup_is_valid_access,
                                            .gen_prologue = nullptr,
                                            .convert_ctx_access = sk_lookup_convert_ctx_access};
const ProgOps sk_lookup_prog_ops = {.name = "sk_lookup", .test_run = bpf_prog_test_run_sk_lookup};

}  // namespace bpfsim
