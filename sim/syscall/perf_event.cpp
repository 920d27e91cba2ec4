// Models: kernel/events/core.c (perf_event_open), kernel/trace/trace_event_perf.c (perf_trace_init,
// perf_kprobe_init), fs/read_write.c, fs/ioctl.c (Linux 6.18)
//
// Opening a perf event: what the attributes may say, who may ask, and what it listens to. Software clocks and
// counters, trace events and kprobes exist; hardware events answer as on a machine without a PMU (ENOENT, as
// live). Not modelled yet: samples, groups, events in cgroups, breakpoints, uprobes.
#include "syscall/perf_event.h"

#include "host/tracing.h"

namespace bpfsim {

namespace {

// perf_copy_attr(): sizes are the caller's to have handled, since the struct here is the kernel's newest.
Result<void> check_attr_fields(const perf_event_attr& attr) {
  if (attr.size < PERF_ATTR_SIZE_VER0 || attr.size > sizeof attr)
    return refuse(Errno::TooBig, "perf_event_attr has {} to {} bytes, not {}", PERF_ATTR_SIZE_VER0,
                  sizeof attr, attr.size);
  if (attr.bits >> PERF_ATTR_BITS || attr.reserved_2 || attr.reserved_3)
    return refuse(Errno::Inval, "reserved bits of perf_event_attr must be 0");
  if (attr.sample_type >= PERF_SAMPLE_MAX)
    return refuse(Errno::Inval, "sample_type {} has unknown bits", attr.sample_type);
  if (attr.read_format >= PERF_FORMAT_MAX)
    return refuse(Errno::Inval, "read_format {} has unknown bits", attr.read_format);
  return {};
}

Result<void> check_period(const perf_event_attr& attr) {
  constexpr uint64_t kSampleRate = 100000;  // kernel.perf_event_max_sample_rate
  if (attr.bits & PERF_ATTR_FREQ) {
    if (attr.sample_period > kSampleRate)
      return refuse(Errno::Inval, "sample_freq {} is more than {}", attr.sample_period, kSampleRate);
  } else if (attr.sample_period >> 63) {
    return refuse(Errno::Inval, "sample_period must be below 2^63");
  }
  return {};
}

Result<void> perf_tp_event_init(PerfEvent& event) {
  KFN(event.machine, perf_tp_event_init);
  event.tracepoint = tracing(event.machine).trace_event(uint32_t(event.attr.config));
  if (!event.tracepoint || event.attr.config >> 32)
    return refuse(Errno::Inval, "no trace event has the id {}", event.attr.config);
  if (!perfmon_capable(event.machine)) return refuse(Errno::Perm, "trace events need CAP_PERFMON");
  return {};
}

Result<void> perf_kprobe_event_init(PerfEvent& event) {
  KFN(event.machine, perf_kprobe_event_init);
  constexpr size_t KSYM_NAME_LEN = 512;
  Machine& machine = event.machine;
  if (!perfmon_capable(machine)) return refuse(Errno::Access, "kprobes need CAP_PERFMON");
  event.is_return = event.attr.config & 1;
  std::string name;
  if (event.attr.config1) {
    Result<std::string> func = strncpy_from_user(machine, event.attr.config1, KSYM_NAME_LEN);
    if (!func) return refuse(func.err() == Errno::TooBig ? Errno::Inval : func.err(), "kprobe_func");
    name = *func;
  }
  if (!name.empty()) {
    event.function = tracing(machine).function(name);
    event.probe_offset = event.attr.config2;
    if (!event.function) return refuse(Errno::NoEnt, "this machine has no function {}", name);
    return {};
  }
  for (KernelFunction& function : tracing(machine).functions)
    if (function.addr == event.attr.config2) event.function = &function;
  if (!event.function) return refuse(Errno::Inval, "no function starts at {}", event.attr.config2);
  event.by_address = true;
  return {};
}

// perf_init_event(): the driver of the type says whether it knows the event.
Result<void> perf_init_event(PerfEvent& event) {
  KFN(event.machine, perf_init_event);
  switch (event.attr.type) {
    case PERF_TYPE_SOFTWARE:
      if (event.attr.config < PERF_COUNT_SW_MAX) return {};
      return refuse(Errno::NoEnt, "no software event has the number {}", event.attr.config);
    case PERF_TYPE_TRACEPOINT: return perf_tp_event_init(event);
    case PERF_TYPE_KPROBE: return perf_kprobe_event_init(event);
    case PERF_TYPE_BREAKPOINT: return refuse(Errno::Inval, "not modelled yet: breakpoints");
    default: return refuse(Errno::NoEnt, "this machine has no PMU for events of type {}", event.attr.type);
  }
}

}  // namespace

Result<int> sys_perf_event_open(Machine& machine, perf_event_attr attr, int pid, int cpu, int group_fd,
                                uint64_t flags) {
  KFN(machine, perf_event_open);
  constexpr uint64_t kKnown =
      PERF_FLAG_FD_NO_GROUP | PERF_FLAG_FD_OUTPUT | PERF_FLAG_PID_CGROUP | PERF_FLAG_FD_CLOEXEC;
  if (flags & ~kKnown) return refuse(Errno::Inval, "flags {}: only the bits {} are known", flags, kKnown);
  if (!attr.size) attr.size = PERF_ATTR_SIZE_VER0;
  TRY(check_attr_fields(attr));
  if (!(attr.bits & PERF_ATTR_EXCLUDE_KERNEL) && !perfmon_capable(machine))
    return refuse(Errno::Access, "measuring the kernel needs CAP_PERFMON; exclude_kernel is not set");
  TRY(check_period(attr));
  if (flags & PERF_FLAG_PID_CGROUP) return refuse(Errno::Inval, "not modelled yet: PERF_FLAG_PID_CGROUP");
  Task& task = current_task(machine);
  TRY(task.files.check_room());
  if (group_fd != -1) {
    const File* leader = task.files.get(group_fd);
    if (!leader || !perf_event_of(*leader))
      return refuse(Errno::BadF, "group_fd {} is no perf event", group_fd);
    return refuse(Errno::Inval, "not modelled yet: groups of perf events");
  }
  if (pid != -1 && pid != 0 && !find_task_by_vpid(machine, pid))
    return refuse(Errno::Srch, "no task has the pid {}", pid);
  if (cpu < -1 || cpu >= int(machine.cpus) || (pid == -1 && cpu == -1))
    return refuse(Errno::Inval, "cpu {} with pid {}: this machine has {} CPUs", cpu, pid, machine.cpus);
  if (pid == -1 && !perfmon_capable(machine))
    return refuse(Errno::Access, "an event of every task on a CPU needs CAP_PERFMON");
  auto event = std::make_unique<PerfEvent>(machine, attr, pid == 0 ? task.pid : pid, cpu);
  TRY(perf_init_event(*event));
  event->refcount.inc({"born in task {}", task.pid});
  emit<LifeEvent>(machine, *event, "born");
  PerfEvent& born = *event.release();
  Holding newborn(machine, born, "perf_event_open()");
  const uint32_t f_flags = O_RDWR_ | (flags & PERF_FLAG_FD_CLOEXEC ? O_CLOEXEC_ : 0);
  return int(TRY(anon_inode_getfd(machine, perf_fops, born, f_flags, newborn)));
}

Result<std::string> sys_read(Machine& machine, int fd, size_t size) {
  BorrowedFile borrowed(machine, current_task(machine).files.get(fd));
  File* file = borrowed.get();
  if (!file) return refuse(Errno::BadF, "fd {} is not open", fd);
  if (!(file->f_mode & FMODE_READ)) return refuse(Errno::BadF, "fd {} is not open for reading", fd);
  if (!file->f_op.read) return refuse(Errno::Inval, "a {} file cannot be read", file->f_op.name);
  return file->f_op.read(*file, size);
}

Result<int64_t> sys_ioctl(Machine& machine, int fd, uint32_t cmd, uint64_t arg) {
  BorrowedFile borrowed(machine, current_task(machine).files.get(fd));
  File* file = borrowed.get();
  if (!file) return refuse(Errno::BadF, "fd {} is not open", fd);
  if (!file->f_op.unlocked_ioctl) return refuse(Errno::NoTty, "a {} file has no ioctl", file->f_op.name);
  return file->f_op.unlocked_ioctl(*file, cmd, arg);
}

}  // namespace bpfsim
