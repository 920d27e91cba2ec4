// Models: kernel/bpf/verifier.c (bpf_verifier_ops[]), kernel/bpf/syscall.c (bpf_prog_types[]) (Linux 6.18)
//
// Which program type has which tables. All 32 types have a row; a type that is not modelled has null in it
// and loading such a program is refused in plain words. Packets and TEST_RUN run XDP, SOCKET_FILTER,
// SCHED_CLS, SCHED_ACT and CGROUP_SKB programs, device accesses CGROUP_DEVICE ones; those of sock_types.cpp
// load and attach, as those of tracing do (tracing_types.cpp).
#pragma once

#include <string_view>

#include "object/ops.h"

namespace bpfsim {

// Null for a type that is not modelled.
const VerifierOps* verifier_ops(bpf_prog_type type);
const ProgOps* prog_ops(bpf_prog_type type);

#define TYPE_TABLES(prefix)                       \
  extern const VerifierOps prefix##_verifier_ops; \
  extern const ProgOps prefix##_prog_ops;
TYPE_TABLES(xdp)
TYPE_TABLES(sk_filter)
TYPE_TABLES(tc_cls_act)
TYPE_TABLES(cg_skb)
TYPE_TABLES(sk_skb)
TYPE_TABLES(cg_dev)
TYPE_TABLES(cg_sock)
TYPE_TABLES(cg_sock_addr)
TYPE_TABLES(cg_sysctl)
TYPE_TABLES(cg_sockopt)
TYPE_TABLES(sock_ops)
TYPE_TABLES(sk_msg)
TYPE_TABLES(sk_lookup)
TYPE_TABLES(sk_reuseport)
TYPE_TABLES(flow_dissector)
TYPE_TABLES(lwt_in)
TYPE_TABLES(lwt_out)
TYPE_TABLES(lwt_xmit)
TYPE_TABLES(lwt_seg6local)
TYPE_TABLES(netfilter)
// tracing_types.cpp
TYPE_TABLES(kprobe)
TYPE_TABLES(tracepoint)
TYPE_TABLES(perf_event)
TYPE_TABLES(raw_tracepoint)
TYPE_TABLES(raw_tracepoint_writable)
TYPE_TABLES(bpf_syscall)
TYPE_TABLES(bpf_extension)  // bpf_lsm.cpp
TYPE_TABLES(lsm)
#undef TYPE_TABLES

extern const VerifierOps bpf_struct_ops_verifier_ops;  // bpf_dummy_ops.cpp
extern const ProgOps bpf_struct_ops_prog_ops;
extern const VerifierOps bpf_tcp_ca_verifier_ops;
const VerifierOps* struct_ops_verifier_ops(std::string_view name);  // of a struct, by its name
// A context of arguments, as the function's prototype in BTF has them; and the same for reading only.
bool btf_ctx_access(int off, int size, const Prog& prog, InsnAccessAux& info);
bool bpf_tracing_btf_ctx_access(int off, int size, bpf_access_type type, const Prog& prog,
                                InsnAccessAux& info);
extern const VerifierOps tracing_verifier_ops;  // tracing_btf.cpp
extern const ProgOps tracing_prog_ops;

// The helpers that a program of a type may call on the machine's version, from hook/helper_sets.def; null for
// one that it may not, and without a function where its body is not modelled (hook/helpers_allowed.def).
const FuncProto* helper_for(bpf_func_id id, const Prog& prog);

}  // namespace bpfsim
