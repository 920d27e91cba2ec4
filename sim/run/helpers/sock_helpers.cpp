// Models: net/core/filter.c (bpf_sk_release, bpf_sk_lookup_assign) (Linux 6.18)
//
// Helpers that take a socket, which a register holds by its handle. Not modelled yet: bpf_sk_assign of
// SCHED_CLS, and helpers that find a socket by its address.
#include "host/sk_lookup.h"
#include "host/socket.h"
#include "run/helpers/call.h"

namespace bpfsim {

// Null for 0, and (after a simulated oops) for what is no socket.
static Sock* sock_argument(Machine& machine, uint64_t reg) {
  Sock* sk = sock_from_handle(machine, reg);
  RunFrame* frame = machine.current->running;
  if (!sk && reg && frame)
    oops(*frame, frame->insn, "a helper got " + std::to_string(reg) + " where it wants a socket");
  return sk;
}

static void put(Machine& machine, Addr handle) {
  sock_put(*sock_from_handle(machine, handle), {"released by a program"});
}

void program_holds_sock(Machine& machine, Addr handle) {
  const Sock* sk = sock_from_handle(machine, handle);
  if (!sk || !sk_is_refcounted(*sk)) return;
  machine.current->running->hold({handle, put, std::make_unique<Holding>(machine, *sk, "held by a program")});
}

BPF_CALL_1(bpf_sk_release, sk_reg) {
  const Sock* sk = sock_argument(machine, sk_reg);
  if (!sk || !sk_is_refcounted(*sk)) return 0;
  RunFrame& frame = *machine.current->running;
  if (frame.gives_back(sk_reg))
    put(machine, sk_reg);
  else
    oops(frame, frame.insn, "a program releases " + sk->label() + ", to which it holds no reference");
  return 0;
}

const FuncProto bpf_sk_release_proto = {
    .func = bpf_sk_release,
    .ret_type = RET_INTEGER,
    .arg_type = {uint32_t(ARG_PTR_TO_BTF_ID_SOCK_COMMON) | OBJ_RELEASE},
};

// Whether packets of this protocol and family can be for the socket, which must be one that waits for them.
static Errno may_be_selected(const Sock& sk, const bpf_sk_lookup_kern& ctx) {
  if (sk_is_refcounted(sk)) return Errno::SockTNoSupport;
  if (sk.is_tcp() && sk.sk_state != TCP_LISTEN) return Errno::SockTNoSupport;
  if (sk.is_udp() && sk.sk_state != TCP_CLOSE) return Errno::SockTNoSupport;
  if (sk.sk_protocol != ctx.protocol) return Errno::ProtoType;
  // A socket of version 6 takes packets of version 4, too, unless bind gave it an address of its own.
  const bool one_family = sk.sk_family == AF_INET_ || sk.local.address != "::";
  if (sk.sk_family != ctx.family && one_family) return Errno::AfNoSupport;
  return Errno::None;
}

BPF_CALL_3(bpf_sk_lookup_assign, ctx_addr, sk_reg, flags) {
  auto* ctx = reinterpret_cast<bpf_sk_lookup_kern*>(
      program_memory(machine, ctx_addr, sizeof(bpf_sk_lookup_kern), BPF_READ));
  const Sock* sk = sock_argument(machine, sk_reg);
  if (!ctx || (!sk && sk_reg)) return 0;
  if (flags & ~(BPF_SK_LOOKUP_F_REPLACE | BPF_SK_LOOKUP_F_NO_REUSEPORT)) return fail(Errno::Inval);
  const Errno unfit = sk ? may_be_selected(*sk, *ctx) : Errno::None;
  if (unfit != Errno::None) return fail(unfit);
  if (ctx->selected_sk && !(flags & BPF_SK_LOOKUP_F_REPLACE)) return fail(Errno::Exist);
  ctx->selected_sk = sk_reg;
  ctx->no_reuseport = (flags & BPF_SK_LOOKUP_F_NO_REUSEPORT) != 0;
  return 0;
}

// Of SK_LOOKUP programs; the one of SCHED_CLS has the same number.
const FuncProto bpf_sk_assign_proto = {
    .func = bpf_sk_lookup_assign,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_CTX, ARG_PTR_TO_SOCKET_OR_NULL, ARG_ANYTHING},
};

}  // namespace bpfsim
