// Models: kernel/bpf/syscall.c (bpf_prog_attach, bpf_prog_detach, bpf_prog_query) (Linux 6.18)
//
// The commands that attach a program without a link: the attach point then holds the program, until somebody
// detaches it or the point goes. Each finds the family by the attach type and hands on. LIRC devices are not
// there, as in a kernel without them.
#include "hook/attach.h"

#include "map/sock_map.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

static bpf_prog_type attach_type_to_prog_type(const Machine& machine, uint32_t attach_type) {
  if (!knows_attach_type(machine.version, attach_type)) return BPF_PROG_TYPE_UNSPEC;
  const bpf_prog_type type = find_attach_type(attach_type)->prog_type;
  const bool traces =
      (type == BPF_PROG_TYPE_TRACING && attach_type != BPF_TRACE_ITER) || type == BPF_PROG_TYPE_LSM;
  return traces && !has(Gate::tracing_link_create, machine.version) ? BPF_PROG_TYPE_UNSPEC : type;
}

// A kprobe's program may have said at load time that it wants many functions at once.
static bool kprobe_takes(const Prog& prog, uint32_t attach_type) {
  const uint32_t expected = prog.expected_attach_type;
  auto multi = [&](uint32_t type) {
    return knows_attach_type(prog.machine.version, type) &&
           (type == BPF_TRACE_KPROBE_MULTI || type == BPF_TRACE_KPROBE_SESSION ||
            type == BPF_TRACE_UPROBE_MULTI || type == BPF_TRACE_UPROBE_SESSION);
  };
  if (multi(expected)) return attach_type == expected;
  return attach_type == BPF_PERF_EVENT || multi(attach_type);
}

Result<void> bpf_prog_attach_check_attach_type(const Prog& prog, uint32_t attach_type) {
  const Machine& machine = prog.machine;
  auto wrong = [&] {
    const AttachTypeRow* row = find_attach_type(attach_type);
    const std::string type = row ? row->name : "attach type " + std::to_string(attach_type);
    if (row && knows_attach_type(machine.version, attach_type) && row->prog_type == prog.type)
      return refuse(Errno::Inval, "before Linux {} {} is attached by RAW_TRACEPOINT_OPEN alone",
                    since(Gate::tracing_link_create), type);
    const std::string when =
        row && row->since > machine.version ? ", which came with Linux " + row->since.str() : "";
    return refuse(Errno::Inval, "{} is not attached as {}{}", find_prog_type(prog.type)->name, type, when);
  };
  if (prog.type == BPF_PROG_TYPE_EXT) return {};
  const bool perf = prog.type == BPF_PROG_TYPE_PERF_EVENT || prog.type == BPF_PROG_TYPE_TRACEPOINT;
  if (perf || prog.type == BPF_PROG_TYPE_KPROBE) {
    const bool fits = perf ? attach_type == BPF_PERF_EVENT : kprobe_takes(prog, attach_type);
    if (!fits || !knows_attach_type(machine.version, attach_type)) return wrong();
    return {};
  }
  if (prog.type == BPF_PROG_TYPE_NETFILTER) {
    if (attach_type != BPF_NETFILTER) return wrong();
    return {};
  }
  if (prog.type == BPF_PROG_TYPE_CGROUP_SKB && !net_admin_capable(machine))
    return refuse(Errno::Perm, "attaching needs CAP_NET_ADMIN");
  if (attach_type_to_prog_type(machine, attach_type) != prog.type) return wrong();
  bool as_expected = true;
  switch (prog.type) {
    case BPF_PROG_TYPE_CGROUP_SOCK:
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
    case BPF_PROG_TYPE_CGROUP_SOCKOPT:
    case BPF_PROG_TYPE_SK_LOOKUP: as_expected = attach_type == prog.expected_attach_type; break;
    case BPF_PROG_TYPE_CGROUP_SKB:
      as_expected = !prog.enforce_expected_attach_type || attach_type == prog.expected_attach_type;
      break;
    default: break;
  }
  if (!as_expected)
    return refuse(Errno::Inval, "the program was loaded for attach type {}, not {}",
                  uint32_t(prog.expected_attach_type), attach_type);
  return {};
}

// Before 5.8 the commands that attach ask who calls, whatever they attach.
Result<void> attach_asked(const Machine& machine, std::source_location where) {
  if (has(Gate::attach_unasked, machine.version) || net_admin_capable(machine)) return {};
  return refuse(Errno::Perm, Fact("needs CAP_NET_ADMIN", where));
}

constexpr uint32_t kOrderFlags = BPF_F_REPLACE | BPF_F_BEFORE | BPF_F_AFTER | BPF_F_ID | BPF_F_LINK;

// Only classifiers put themselves in order by bpf_mprog.
static bool bpf_mprog_supported(bpf_prog_type type) { return type == BPF_PROG_TYPE_SCHED_CLS; }

static uint32_t base_flags(Version version) {
  uint32_t known = BPF_F_ALLOW_OVERRIDE;
  if (has(Gate::cgroup_multi, version)) known |= BPF_F_ALLOW_MULTI;
  if (has(Gate::cgroup_replace, version)) known |= BPF_F_REPLACE;
  if (has(Gate::cgroup_preorder, version)) known |= BPF_F_PREORDER;
  return known;
}

static Result<void> check_attach_flags(const Machine& machine, bpf_prog_type type, const bpf_attr& attr) {
  const bool ordered_cgroup = is_cgroup_prog_type(type) && has(Gate::cgroup_mprog, machine.version);
  uint32_t known = bpf_mprog_supported(type) ? kOrderFlags : base_flags(machine.version);
  if (ordered_cgroup) known |= kOrderFlags;
  if (attr.attach_flags & ~known)
    return refuse(Errno::Inval, "attach_flags {}: known are {}", attr.attach_flags, known);
  if (!bpf_mprog_supported(type) && !ordered_cgroup && (attr.relative_fd || attr.expected_revision))
    return refuse(Errno::Inval, "programs of this type have no order");
  return {};
}

static Result<void> attach(Prog& prog, bpf_prog_type type, const bpf_attr& attr) {
  // The kernel makes nothing of why, here only.
  if (Result<void> fits = bpf_prog_attach_check_attach_type(prog, attr.attach_type); !fits) {
    Refusal refusal = fits.refusal();
    refusal.err = Errno::Inval;
    return refusal;
  }
  const bool cgroup_lsm = type == BPF_PROG_TYPE_LSM && prog.expected_attach_type == BPF_LSM_CGROUP;
  if (cgroup_lsm || (is_cgroup_prog_type(type) && type != BPF_PROG_TYPE_LSM))
    return cgroup_bpf_prog_attach(prog, attr);
  switch (type) {
    case BPF_PROG_TYPE_FLOW_DISSECTOR: return netns_bpf_prog_attach(prog, attr);
    case BPF_PROG_TYPE_SCHED_CLS: return tcx_prog_attach(prog, attr);
    case BPF_PROG_TYPE_SK_SKB:
    case BPF_PROG_TYPE_SK_MSG: return sock_map_get_from_fd(prog.machine, attr, prog);
    default: return refuse(Errno::Inval, "programs of type {} are attached by links only", type);
  }
}

SysResult bpf_prog_attach(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_prog_attach);
  TRY(attach_asked(machine));
  TRY(check_attr(machine, BPF_PROG_ATTACH, attr));
  const bpf_prog_type type = attach_type_to_prog_type(machine, attr.attach_type);
  if (type == BPF_PROG_TYPE_UNSPEC) {
    const AttachTypeRow* row = find_attach_type(attr.attach_type);
    if (row && row->since > machine.version)
      return refuse(Errno::Inval, "{} came with Linux {}", row->name, row->since.str());
    return refuse(Errno::Inval, "attach type {} has no program type", attr.attach_type);
  }
  TRY(check_attach_flags(machine, type, attr));
  Prog& prog = *TRY(bpf_prog_get_type(machine, int(attr.attach_bpf_fd), type,
                                      {"attached by task {}", machine.current->pid}));
  Holding held(machine, prog, "bpf(BPF_PROG_ATTACH)");
  const Result<void> done = attach(prog, type, attr);
  held.release();
  if (done) return 0;
  bpf_prog_put(prog, {"not attached"});
  return done.refusal();
}

static Result<void> detach(Machine& machine, bpf_prog_type type, const bpf_attr& attr, Prog* prog) {
  if (is_cgroup_prog_type(type)) return cgroup_bpf_prog_detach(machine, attr, type);
  switch (type) {
    case BPF_PROG_TYPE_FLOW_DISSECTOR: return netns_bpf_prog_detach(machine, attr, type);
    case BPF_PROG_TYPE_SCHED_CLS: return tcx_prog_detach(machine, attr, prog);
    case BPF_PROG_TYPE_SK_SKB:
    case BPF_PROG_TYPE_SK_MSG: return sock_map_prog_detach(machine, attr, type);
    default: return refuse(Errno::Inval, "attach type {} knows no detach", attr.attach_type);
  }
}

SysResult bpf_prog_detach(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_prog_detach);
  TRY(attach_asked(machine));
  TRY(check_attr(machine, BPF_PROG_DETACH, attr));
  const bpf_prog_type type = attach_type_to_prog_type(machine, attr.attach_type);
  Prog* prog = nullptr;
  if (bpf_mprog_supported(type)) {
    if (attr.attach_flags & ~kOrderFlags)
      return refuse(Errno::Inval, "attach_flags {}: known are {}", attr.attach_flags, kOrderFlags);
    if (attr.attach_bpf_fd)
      prog = TRY(bpf_prog_get_type(machine, int(attr.attach_bpf_fd), type, {"to be detached"}));
  } else if (has(Gate::cgroup_mprog, machine.version)) {
    const bool revision = attr.expected_revision && !is_cgroup_prog_type(type);
    if (attr.attach_flags || attr.relative_fd || revision)
      return refuse(Errno::Inval, "flags and neighbours have no meaning here");
  }
  Result<void> done = detach(machine, type, attr, prog);
  if (prog) bpf_prog_put(*prog, {"bpf(BPF_PROG_DETACH) is over"});
  if (!done) return done.refusal();
  return 0;
}

SysResult bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr, uint32_t size) {
  KFN(machine, bpf_prog_query);
  if (!net_admin_capable(machine)) return refuse(Errno::Perm, "needs CAP_NET_ADMIN");
  TRY(check_attr(machine, BPF_PROG_QUERY, attr));
  if (attr.query.query_flags & ~BPF_F_QUERY_EFFECTIVE)
    return refuse(Errno::Inval, "query_flags {}: only BPF_F_QUERY_EFFECTIVE is known",
                  attr.query.query_flags);
  const uint32_t at = attr.query.attach_type;
  const bpf_prog_type type = attach_type_to_prog_type(machine, at);
  Result<void> done = refuse(Errno::Inval, "attach type {} knows no query", at);
  if (is_cgroup_prog_type(type) && at != BPF_LSM_MAC)
    done = cgroup_bpf_prog_query(machine, attr, uattr, size);
  else if (type == BPF_PROG_TYPE_SK_LOOKUP ||
           (type == BPF_PROG_TYPE_FLOW_DISSECTOR && has(Gate::query_flow_dissector, machine.version)))
    done = netns_bpf_prog_query(machine, attr, uattr);
  else if (type == BPF_PROG_TYPE_SCHED_CLS)
    done = tcx_prog_query(machine, attr, uattr);
  else if ((type == BPF_PROG_TYPE_SK_SKB || type == BPF_PROG_TYPE_SK_MSG) &&
           has(Gate::query_sockmap, machine.version))
    done = sock_map_bpf_prog_query(machine, attr, uattr);
  if (!done) return done.refusal();
  return 0;
}

}  // namespace bpfsim
