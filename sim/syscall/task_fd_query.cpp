// Models: kernel/bpf/syscall.c (bpf_raw_tracepoint_open, bpf_task_fd_query), kernel/trace/bpf_trace.c
// (bpf_get_perf_event_info) (Linux 6.18)
//
// The old way to a raw tracepoint, and the question what a task's descriptor traces: a raw tracepoint's link,
// or a perf event with its program.
#include <cstddef>

#include "hook/hook.h"
#include "host/tracing.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

struct Traced {
  uint32_t prog_id;
  uint32_t fd_type;  // BPF_FD_TYPE_*
  std::string name;
  uint64_t probe_offset = 0, probe_addr = 0;
};

Result<Traced> bpf_get_perf_event_info(const PerfEvent& event) {
  KFN(event.machine, bpf_get_perf_event_info);
  if (!event.prog) return refuse(Errno::NoEnt, "the perf event has no program");
  if (event.prog->type == BPF_PROG_TYPE_PERF_EVENT)
    return refuse(Errno::OpNotSupp, "a PERF_EVENT program's event is not told");
  if (event.tracepoint) return Traced{event.prog->id, BPF_FD_TYPE_TRACEPOINT, event.tracepoint->name};
  const std::string name = event.by_address ? "" : event.function->name;
  const bool has_address = event.by_address || has(Gate::kprobe_addr, event.machine.version);
  return Traced{event.prog->id, event.is_return ? BPF_FD_TYPE_KRETPROBE : BPF_FD_TYPE_KPROBE, name,
                event.probe_offset, has_address ? event.function->addr + event.probe_offset : 0};
}

Result<Traced> traced_by(const File& file) {
  if (&file.f_op == &bpf_link_fops || &file.f_op == &bpf_raw_tp_fops) {
    const auto& link = static_cast<const Link&>(*file.private_data);
    if (link.type == BPF_LINK_TYPE_RAW_TRACEPOINT)
      return Traced{link.prog->id, BPF_FD_TYPE_RAW_TRACEPOINT, raw_tp_link_name(link)};
    return refuse(Errno::NotSupp, "a {} link is not told", link.ops.name);
  }
  if (const PerfEvent* event = perf_event_of(file)) return bpf_get_perf_event_info(*event);
  return refuse(Errno::NotSupp, "the descriptor is a {}: neither raw tracepoint nor perf event",
                file.f_op.name);
}

// The name's length always; of the name what fits, with a NUL behind it, and ENOSPC when that is not all.
Result<void> bpf_task_fd_query_copy(Machine& machine, const bpf_attr& attr, UserAttr uattr,
                                    const Traced& traced) {
  const auto& query = attr.task_fd_query;
  const uint32_t length = uint32_t(traced.name.size());
  auto put = [&](size_t offset, const auto& value) {
    return copy_to_user(machine, uattr + offset, &value, sizeof value);
  };
  TRY(put(offsetof(bpf_attr, task_fd_query.buf_len), length));
  Result<void> named;
  if (query.buf_len && query.buf) named = bpf_copy_to_user(machine, query.buf, traced.name, query.buf_len);
  if (named.err() == Errno::Fault) return named;
  TRY(put(offsetof(bpf_attr, task_fd_query.prog_id), traced.prog_id));
  TRY(put(offsetof(bpf_attr, task_fd_query.fd_type), traced.fd_type));
  TRY(put(offsetof(bpf_attr, task_fd_query.probe_offset), traced.probe_offset));
  TRY(put(offsetof(bpf_attr, task_fd_query.probe_addr), traced.probe_addr));
  return named;
}

// Before 5.7: a descriptor, and nothing else that leads to what is attached.
SysResult getfd_of_no_link(Link& attached) {
  Holding newborn(attached.machine, attached, "bpf(BPF_RAW_TRACEPOINT_OPEN)");
  bpf_link_inc(attached, {"born in task {}", attached.machine.current->pid});
  emit<LifeEvent>(attached.machine, attached, "born");
  const bool raw_tp = attached.type == BPF_LINK_TYPE_RAW_TRACEPOINT;
  return anon_inode_getfd(attached.machine, raw_tp ? bpf_raw_tp_fops : bpf_tracing_prog_fops, attached,
                          O_CLOEXEC_, newborn);
}

}  // namespace

SysResult bpf_raw_tracepoint_open(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_raw_tracepoint_open);
  const auto& open = attr.raw_tracepoint;
  if (has(Gate::raw_tp_prog_first, machine.version)) {
    TRY(check_attr(machine, BPF_RAW_TRACEPOINT_OPEN, attr));
  } else {
    std::string name;
    if (!copy_tp_name(machine, open.name, name)) return refuse(Errno::Fault, "the tracepoint's name");
    if (!tracing(machine).raw_tracepoint(name))
      return refuse(Errno::NoEnt, "this machine has no tracepoint {}", name);
  }
  Prog& prog = *TRY(
      bpf_prog_get(machine, int(open.prog_fd), {"raw tracepoint opened by task {}", machine.current->pid}));
  Holding given(machine, prog, "bpf(BPF_RAW_TRACEPOINT_OPEN)");
  Result<void> room = current_task(machine).files.check_room();
  Result<Link*> attached = room ? bpf_raw_tp_link_attach(prog, open.name, open.cookie) : room.refusal();
  given.release();
  if (!attached) {
    bpf_prog_put(prog, {"not attached"});
    return attached.refusal();
  }
  if (!has(Gate::raw_tp_link, machine.version)) return getfd_of_no_link(**attached);
  return bpf_link_settle(**attached, "bpf(BPF_RAW_TRACEPOINT_OPEN)");
}

SysResult bpf_task_fd_query(Machine& machine, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_task_fd_query);
  TRY(check_attr(machine, BPF_TASK_FD_QUERY, attr));
  if (!capable(machine, CAP_SYS_ADMIN)) return refuse(Errno::Perm, "needs CAP_SYS_ADMIN");
  const auto& query = attr.task_fd_query;
  if (query.flags) return refuse(Errno::Inval, "flags {} have no meaning here", query.flags);
  const Task* task = find_task_by_vpid(machine, int(query.pid));
  if (!task) return refuse(Errno::NoEnt, "no task has the pid {}", query.pid);
  const File* file = task->files.get(int(query.fd));
  if (!file) return refuse(Errno::BadF, "fd {} of task {} is not open", query.fd, query.pid);
  const Traced traced = TRY(traced_by(*file));
  TRY(bpf_task_fd_query_copy(machine, attr, uattr, traced));
  return 0;
}

}  // namespace bpfsim
