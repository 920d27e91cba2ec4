// Models: include/linux/bpf_types.h, kernel/bpf/helpers.c (bpf_base_func_proto) (Linux 6.18)
//
// One row per program type, and the one question that all types ask: may this program call this helper. A
// helper newer than the machine's version does not exist there.
#include "hook/types.h"

#include <array>

#include "hook/hook.h"
#include "run/helpers/table.h"
#include "uapi/version.h"

namespace bpfsim {

namespace {

enum : uint16_t { FILTER = 1, TC = 2, XDP = 4, TRACE = 8, ITER = 16, ANY = FILTER | TC | XDP };
enum class Needs : uint8_t { NONE, BPF, PERFMON };

struct HelperSet {
  bpf_func_id id;
  uint16_t types;
  const char* from;
  Needs needs;
};

constexpr HelperSet helper_sets[] = {
#define HELPER_SET(name, types, from, needs) {BPF_FUNC_##name, types, from, Needs::needs},
#include "hook/helper_sets.def"
#undef HELPER_SET
};

uint16_t set_of(const Prog& prog) {
  switch (prog.type) {
    case BPF_PROG_TYPE_SOCKET_FILTER: return FILTER;
    case BPF_PROG_TYPE_SCHED_CLS:
    case BPF_PROG_TYPE_SCHED_ACT: return TC;
    case BPF_PROG_TYPE_XDP: return XDP;
    case BPF_PROG_TYPE_KPROBE:
    case BPF_PROG_TYPE_TRACEPOINT:
    case BPF_PROG_TYPE_PERF_EVENT:
    case BPF_PROG_TYPE_RAW_TRACEPOINT:
    case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
    case BPF_PROG_TYPE_SYSCALL: return TRACE;
    case BPF_PROG_TYPE_TRACING: return prog.expected_attach_type == BPF_TRACE_ITER ? TRACE | ITER : TRACE;
    default: return 0;
  }
}

const char* helper_since(bpf_func_id id) {
  switch (id) {
#define HELPER(name, number, since, gpl_only, signature) \
  case BPF_FUNC_##name: return since;
#include "uapi/helpers.def"
#undef HELPER
    default: return "";
  }
}

bool may(const Machine& machine, Needs needs) {
  if (needs == Needs::BPF) return bpf_capable(machine);
  if (needs == Needs::PERFMON) return bpf_capable(machine) && perfmon_capable(machine);
  return true;
}

const VerifierOps* verifier_of(bpf_prog_type type) {
  switch (type) {
    case BPF_PROG_TYPE_XDP: return &xdp_verifier_ops;
    case BPF_PROG_TYPE_SOCKET_FILTER: return &sk_filter_verifier_ops;
    case BPF_PROG_TYPE_SCHED_CLS:
    case BPF_PROG_TYPE_SCHED_ACT: return &tc_cls_act_verifier_ops;
    case BPF_PROG_TYPE_KPROBE: return &kprobe_verifier_ops;
    case BPF_PROG_TYPE_TRACEPOINT: return &tracepoint_verifier_ops;
    case BPF_PROG_TYPE_PERF_EVENT: return &perf_event_verifier_ops;
    case BPF_PROG_TYPE_RAW_TRACEPOINT: return &raw_tracepoint_verifier_ops;
    case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE: return &raw_tracepoint_writable_verifier_ops;
    case BPF_PROG_TYPE_TRACING: return &tracing_verifier_ops;
    case BPF_PROG_TYPE_SYSCALL: return &bpf_syscall_verifier_ops;
    default: return nullptr;
  }
}

const ProgOps* prog_of(bpf_prog_type type) {
  switch (type) {
    case BPF_PROG_TYPE_XDP: return &xdp_prog_ops;
    case BPF_PROG_TYPE_SOCKET_FILTER: return &sk_filter_prog_ops;
    case BPF_PROG_TYPE_SCHED_CLS:
    case BPF_PROG_TYPE_SCHED_ACT: return &tc_cls_act_prog_ops;
    case BPF_PROG_TYPE_KPROBE: return &kprobe_prog_ops;
    case BPF_PROG_TYPE_TRACEPOINT: return &tracepoint_prog_ops;
    case BPF_PROG_TYPE_PERF_EVENT: return &perf_event_prog_ops;
    case BPF_PROG_TYPE_RAW_TRACEPOINT: return &raw_tracepoint_prog_ops;
    case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE: return &raw_tracepoint_writable_prog_ops;
    case BPF_PROG_TYPE_TRACING: return &tracing_prog_ops;
    case BPF_PROG_TYPE_SYSCALL: return &bpf_syscall_prog_ops;
    default: return nullptr;
  }
}

}  // namespace

std::span<const ProgTypeOps> prog_type_ops() {
  static const ProgTypeOps rows[] = {
#define PROG_TYPE(name, ...) {name, #name, verifier_of(name), prog_of(name)},
#include "uapi/prog_types.def"
#undef PROG_TYPE
  };
  return rows;
}

const VerifierOps* verifier_ops(bpf_prog_type type) { return verifier_of(type); }
const ProgOps* prog_ops(bpf_prog_type type) { return prog_of(type); }

const FuncProto* helper_for(bpf_func_id id, const Prog& prog) {
  const Machine& machine = prog.machine;
  for (const HelperSet& set : helper_sets) {
    if (set.id != id || !(set.types & set_of(prog))) continue;
    auto since = Version::parse(helper_since(id)), from = Version::parse(set.from);
    if ((since && machine.version < *since) || (from && machine.version < *from)) return nullptr;
    return may(machine, set.needs) ? helper_proto(id) : nullptr;
  }
  return nullptr;
}

}  // namespace bpfsim
