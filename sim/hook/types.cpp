// Models: include/linux/bpf_types.h, kernel/bpf/helpers.c (bpf_base_func_proto) (Linux 6.18)
//
// One row per program type, and the one question that all types ask: may this program call this helper. A
// helper newer than the machine's version does not exist there.
#include "hook/types.h"

#include <string_view>
#include <utility>

#include "run/helpers/table.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

// Sets of program types, as helper_sets.def names them.
enum : uint32_t {
  FILTER = 1 << 0,
  TC = 1 << 1,
  XDP = 1 << 2,
  CG_SKB = 1 << 3,
  CG_DEV = 1 << 4,
  CG_SOCKOPT = 1 << 5,
  SK_SKB = 1 << 6,
  REUSEPORT = 1 << 7,
  FLOW = 1 << 8,
  CG_SOCK = 1 << 9,  // CGROUP_SOCK, CGROUP_SOCK_ADDR
  TRACE = 1 << 10,
  ITER = 1 << 11,
  LWT = 1 << 12,
  NETFILTER = 1 << 13,
  TCP_CA = 1 << 14,  // STRUCT_OPS; bpf_dummy_ops asks for none
  LOOKUP = 1 << 15,
  CG_SYSCTL = 1 << 16,
  SOCK_OPS = 1 << 17,
  SK_MSG = 1 << 18,
  CGROUP = CG_DEV | CG_SOCKOPT | CG_SYSCTL,
  ANY = (1 << 19) - 1 - TRACE - ITER,
};
enum class Needs : uint8_t { NONE, BPF, PERFMON };

struct HelperSet {
  bpf_func_id id;
  uint32_t types;
  Version from;
  Needs needs;
};

constexpr HelperSet helper_sets[] = {
#define HELPER_SET(name, types, from, needs) \
  {BPF_FUNC_##name, types, Version::parse(from).value_or(Version{}), Needs::needs},
#include "hook/helper_sets.def"
#undef HELPER_SET
};

// Numbers of program types as a set: "1-3 6" has bits 1, 2, 3 and 6.
consteval uint64_t type_numbers(std::string_view text) {
  uint64_t set = 0;
  unsigned number = 0, first = 0;
  auto finish = [&] {
    for (unsigned type = first ? first : number; type <= number; ++type) set |= 1ull << type;
    number = first = 0;
  };
  for (char c : text) {
    if (c == ' ') {
      finish();
    } else if (c == '-') {
      first = std::exchange(number, 0);
    } else {
      number = number * 10 + unsigned(c - '0');
    }
  }
  finish();
  return set;
}

struct AllowedHelper {
  bpf_func_id id;
  uint64_t types;    // bits by enum bpf_prog_type
  uint64_t guarded;  // those whose loader needs CAP_PERFMON for it
};
constexpr AllowedHelper allowed_helpers[] = {
#define HELPER_ALLOWED(name, types, guarded) {BPF_FUNC_##name, type_numbers(types), type_numbers(guarded)},
#include "hook/helpers_allowed.def"
#undef HELPER_ALLOWED
};

// The tables of each type that is modelled, and the set that it is in.
struct TypeTables {
  bpf_prog_type type;
  uint32_t set;
  const VerifierOps* verifier;
  const ProgOps* prog;
};
#define TABLES(prefix) &prefix##_verifier_ops, &prefix##_prog_ops
constexpr TypeTables type_tables[] = {
    {BPF_PROG_TYPE_SOCKET_FILTER, FILTER, TABLES(sk_filter)},
    {BPF_PROG_TYPE_SCHED_CLS, TC, TABLES(tc_cls_act)},
    {BPF_PROG_TYPE_SCHED_ACT, TC, TABLES(tc_cls_act)},
    {BPF_PROG_TYPE_XDP, XDP, TABLES(xdp)},
    {BPF_PROG_TYPE_CGROUP_SKB, CG_SKB, TABLES(cg_skb)},
    {BPF_PROG_TYPE_CGROUP_SOCK, CG_SOCK, TABLES(cg_sock)},
    {BPF_PROG_TYPE_SOCK_OPS, SOCK_OPS, TABLES(sock_ops)},
    {BPF_PROG_TYPE_SK_SKB, SK_SKB, TABLES(sk_skb)},
    {BPF_PROG_TYPE_CGROUP_DEVICE, CG_DEV, TABLES(cg_dev)},
    {BPF_PROG_TYPE_SK_MSG, SK_MSG, TABLES(sk_msg)},
    {BPF_PROG_TYPE_CGROUP_SOCK_ADDR, CG_SOCK, TABLES(cg_sock_addr)},
    {BPF_PROG_TYPE_SK_REUSEPORT, REUSEPORT, TABLES(sk_reuseport)},
    {BPF_PROG_TYPE_FLOW_DISSECTOR, FLOW, TABLES(flow_dissector)},
    {BPF_PROG_TYPE_CGROUP_SYSCTL, CG_SYSCTL, TABLES(cg_sysctl)},
    {BPF_PROG_TYPE_CGROUP_SOCKOPT, CG_SOCKOPT, TABLES(cg_sockopt)},
    {BPF_PROG_TYPE_SK_LOOKUP, LOOKUP, TABLES(sk_lookup)},
    {BPF_PROG_TYPE_LWT_IN, LWT, TABLES(lwt_in)},
    {BPF_PROG_TYPE_LWT_OUT, LWT, TABLES(lwt_out)},
    {BPF_PROG_TYPE_LWT_XMIT, LWT, TABLES(lwt_xmit)},
    {BPF_PROG_TYPE_LWT_SEG6LOCAL, LWT, TABLES(lwt_seg6local)},
    {BPF_PROG_TYPE_NETFILTER, NETFILTER, TABLES(netfilter)},
    {BPF_PROG_TYPE_KPROBE, TRACE, TABLES(kprobe)},
    {BPF_PROG_TYPE_TRACEPOINT, TRACE, TABLES(tracepoint)},
    {BPF_PROG_TYPE_PERF_EVENT, TRACE, TABLES(perf_event)},
    {BPF_PROG_TYPE_RAW_TRACEPOINT, TRACE, TABLES(raw_tracepoint)},
    {BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, TRACE, TABLES(raw_tracepoint_writable)},
    {BPF_PROG_TYPE_SYSCALL, TRACE, TABLES(bpf_syscall)},
    {BPF_PROG_TYPE_TRACING, TRACE, TABLES(tracing)},
    {BPF_PROG_TYPE_STRUCT_OPS, TCP_CA, TABLES(bpf_struct_ops)},
    {BPF_PROG_TYPE_EXT, 0, TABLES(bpf_extension)},  // the set of what it extends
    {BPF_PROG_TYPE_LSM, TRACE, TABLES(lsm)},
};
#undef TABLES

const TypeTables& tables_of(bpf_prog_type type) {
  static constexpr TypeTables none{BPF_PROG_TYPE_UNSPEC, 0, nullptr, nullptr};
  for (const TypeTables& row : type_tables)
    if (row.type == type) return row;
  return none;
}

uint32_t set_of(const Prog& prog) {
  const bpf_prog_type type = resolve_prog_type(prog);
  const bool iterator = type == BPF_PROG_TYPE_TRACING && prog.expected_attach_type == BPF_TRACE_ITER;
  return tables_of(type).set | (iterator ? uint32_t(ITER) : 0);
}

bool may(const Machine& machine, Needs needs) {
  if (needs == Needs::BPF) return bpf_capable(machine);
  if (needs == Needs::PERFMON) return bpf_capable(machine) && perfmon_capable(machine);
  return true;
}

// Whether 6.18 lets such a program call it. What wants a target was not asked: tracing and LSM programs may
// call what raw tracepoints may, and more.
bool allowed(bpf_func_id id, const Prog& prog) {
  bpf_prog_type type = resolve_prog_type(prog);
  if (type == BPF_PROG_TYPE_TRACING || type == BPF_PROG_TYPE_LSM) type = BPF_PROG_TYPE_RAW_TRACEPOINT;
  for (const AllowedHelper& row : allowed_helpers)
    if (row.id == id)
      return row.types >> type & 1 && (!(row.guarded >> type & 1) || may(prog.machine, Needs::PERFMON));
  return false;
}

}  // namespace

const VerifierOps* verifier_ops(bpf_prog_type type) { return tables_of(type).verifier; }
const ProgOps* prog_ops(bpf_prog_type type) { return tables_of(type).prog; }

const FuncProto* helper_for(bpf_func_id id, const Prog& prog) {
  static constexpr FuncProto kNoBody;  // the verifier says that it is not modelled
  const Machine& machine = prog.machine;
  const HelperRow* helper = find_helper(int32_t(id));
  if (!helper || machine.version < helper->since) return nullptr;
  bool came_later = false;
  for (const HelperSet& set : helper_sets) {
    if (set.id != id || !(set.types & set_of(prog))) continue;
    came_later = machine.version < set.from;
    if (!came_later) return may(machine, set.needs) ? helper_proto(id) : nullptr;
  }
  return !came_later && allowed(id, prog) ? &kNoBody : nullptr;
}

}  // namespace bpfsim
