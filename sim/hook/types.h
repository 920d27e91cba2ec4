// Models: kernel/bpf/verifier.c (bpf_verifier_ops[]), kernel/bpf/syscall.c (bpf_prog_types[]) (Linux 6.18)
//
// Which program type has which tables. All 32 types have a row; a type that is not modelled has null in it
// and loading such a program is refused in plain words. Packets and TEST_RUN run XDP, SOCKET_FILTER,
// SCHED_CLS, SCHED_ACT and CGROUP_SKB programs, device accesses CGROUP_DEVICE ones; those of sock_types.cpp
// load and attach, as those of tracing do (tracing_types.cpp).
#pragma once

#include <span>

#include "object/ops.h"

namespace bpfsim {

struct ProgTypeOps {
  bpf_prog_type type;
  const char* name;             // "BPF_PROG_TYPE_XDP"
  const VerifierOps* verifier;  // null: not modelled
  const ProgOps* prog;
};

std::span<const ProgTypeOps> prog_type_ops();  // by number, from 1

const VerifierOps* verifier_ops(bpf_prog_type type);
const ProgOps* prog_ops(bpf_prog_type type);

// The helpers that a program of a type may call on the machine's version, from hook/helper_sets.def; null for
// one that it may not, or whose body is not modelled.
const FuncProto* helper_for(bpf_func_id id, const Prog& prog);

}  // namespace bpfsim
