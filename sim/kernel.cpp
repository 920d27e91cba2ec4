// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// Booting and halting a machine, and the way into it for tasks. Halting lets parked guests run to their end,
// then every task exits, the pins go, and a last grace period frees what waited.
#include "kernel.h"

#include "hook/hook.h"
#include "hook/types.h"
#include "host/cgroup.h"
#include "map/map_types.h"
#include "map/ringbuf.h"
#include "object/file.h"
#include "object/ops.h"
#include "object/registry.h"
#include "run/engine.h"
#include "syscall/bpf.h"
#include "syscall/inode.h"
#include "syscall/perf_event.h"
#include "syscall/rtnetlink.h"
#include "trace/parking.h"

namespace bpfsim {

namespace {

constexpr int kFirstPid = 470;

uint64_t call_running_prog(Machine& machine, Addr function, const uint64_t (&args)[5]) {
  RunFrame& frame = *machine.current->running;
  uint64_t answer = call_bpf(machine, *frame.prog, function, args);
  return frame.stop == RunStop::Returned ? answer : 1;
}

constexpr KernelCalls kCalls = {
    .verifier_ops = verifier_ops,
    .prog_ops = prog_ops,
    .map_ops = map_ops,
    .call_bpf = call_running_prog,
    .ringbuf_commit = bpf_ringbuf_commit,
};

// A task enters the kernel: who is current, and a grace period may end when the outermost entry returns. The
// context is changed in place, since a parked one must find itself again.
class TaskEntry {
 public:
  TaskEntry(Machine& machine, Task& task) : machine_(machine), before_(*machine.current), entry_(machine) {
    Context& now = *machine.current;
    now.task = &task;
    now.pid = task.pid;
    now.cred = &task.cred;
    now.cpu = task.cpu;
    machine.clock.advance(Clock::kSyscall);
  }
  ~TaskEntry() {
    Context& now = *machine_.current;
    if (now.task->exited && now.task->in_flight.empty()) machine_.objects.erase(now.task->serial);
    now.task = before_.task;
    now.pid = before_.pid;
    now.cred = before_.cred;
    now.cpu = before_.cpu;
  }

 private:
  Machine& machine_;
  const Context before_;
  KernelEntry entry_;
};

}  // namespace

struct KernelState {
  explicit KernelState(const MachineOptions& options) : machine(options) {}

  Machine machine;
  Registry registry;
  std::unique_ptr<Inode> bpffs = bpf_mount(machine);
  std::vector<std::unique_ptr<Task>> tasks;
  int next_pid = kFirstPid;
  Refusal last_refusal;
  std::unique_ptr<Parking> parking;
};

Kernel::Kernel(const MachineOptions& options) : state_(std::make_unique<KernelState>(options)) {
  state_->machine.calls = &kCalls;
  state_->machine.registry = &state_->registry;
  state_->machine.bpffs = state_->bpffs.get();
}

Kernel::~Kernel() {
  state_->parking.reset();
  for (auto& task : state_->tasks) exit(*task);
  net_exit(state_->machine);
  state_->machine.cgroups.reset();
  bpf_kill_super(*state_->bpffs);
  Rcu& rcu = state_->machine.rcu;
  rcu.release();
  rcu.grace_period();
}

Machine& Kernel::machine() { return state_->machine; }
const Machine& Kernel::machine() const { return state_->machine; }

Task& Kernel::spawn(const std::string& comm, const Credentials& cred) {
  Machine& machine = state_->machine;
  constexpr size_t TASK_COMM_LEN = 16;
  auto task = std::make_unique<Task>(machine, state_->next_pid++, comm.substr(0, TASK_COMM_LEN - 1), cred);
  task->cpu = uint32_t(state_->tasks.size()) % machine.cpus;
  state_->tasks.push_back(std::move(task));
  emit<LifeEvent>(machine, *state_->tasks.back(), "born");
  return *state_->tasks.back();
}

Task& Kernel::fork(Task& parent) {
  Task& child = spawn(parent.comm, parent.cred);
  child.parent = &parent;
  TaskEntry in(state_->machine, parent);
  copy_files(child, parent);
  cgroup_fork(child, parent);
  return child;
}

void Kernel::exit(Task& task) {
  if (task.exited) return;
  TaskEntry in(state_->machine, task);
  KFN(state_->machine, do_exit);
  task.exited = true;
  exit_files(task);
  cgroup_exit(task);
  emit<LifeEvent>(state_->machine, task, "freed");
}

std::vector<Task*> Kernel::tasks() {
  std::vector<Task*> live;
  for (auto& task : state_->tasks)
    if (!task->exited) live.push_back(task.get());
  return live;
}

template <class Call>
auto Kernel::enter(Task& task, const Call& call) -> decltype(call()) {
  if (task.exited) return refuse(Errno::Srch, "task {} has exited", task.pid);
  TaskEntry in(state_->machine, task);
  return call();
}

int64_t Kernel::sys_bpf(Task& task, int cmd, uint64_t uattr, uint32_t size) {
  if (task.exited) {
    state_->last_refusal = refuse(Errno::Srch, "task {} has exited", task.pid);
    return -int64_t(Errno::Srch);
  }
  TaskEntry in(state_->machine, task);
  SysResult result = __sys_bpf(state_->machine, cmd, uattr, size);
  state_->last_refusal = result.refusal();
  return result ? *result : -int64_t(result.err());
}

Result<int64_t> Kernel::bpf(Task& task, int cmd, bpf_attr& attr, uint32_t size) {
  const int64_t ret = sys_bpf(task, cmd, reinterpret_cast<uintptr_t>(&attr), size);
  if (ret < 0) return state_->last_refusal;
  return ret;
}

Result<int> Kernel::close(Task& task, int fd) {
  return enter(task, [&] { return sys_close(task, fd); });
}

Result<int> Kernel::dup(Task& task, int fd) {
  return enter(task, [&] { return sys_dup(task, fd); });
}

Result<void> Kernel::mkdir(Task& task, const std::string& path, uint32_t mode) {
  return enter(task, [&] { return do_mkdirat(state_->machine, path, mode); });
}

Result<void> Kernel::rmdir(Task& task, const std::string& path) {
  return enter(task, [&] { return do_rmdir(state_->machine, path); });
}

Result<void> Kernel::unlink(Task& task, const std::string& path) {
  return enter(task, [&] { return do_unlinkat(state_->machine, path); });
}

Result<void> Kernel::rename(Task& task, const std::string& from, const std::string& to) {
  return enter(task, [&] { return do_renameat2(state_->machine, from, to); });
}

Result<void> Kernel::chmod(Task& task, const std::string& path, uint32_t mode) {
  return enter(task, [&] { return do_fchmodat(state_->machine, path, mode); });
}

Result<FileStat> Kernel::stat(Task& task, const std::string& path) {
  return enter(task, [&] { return vfs_stat(state_->machine, path); });
}

Result<std::vector<std::string>> Kernel::listdir(Task& task, const std::string& path) {
  return enter(task, [&] { return vfs_readdir(state_->machine, path); });
}

Result<int> Kernel::perf_event_open(Task& task, const perf_event_attr& attr, int pid, int cpu, int group_fd,
                                    uint64_t flags) {
  return enter(task, [&] { return sys_perf_event_open(state_->machine, attr, pid, cpu, group_fd, flags); });
}

Result<std::string> Kernel::read(Task& task, int fd, size_t size) {
  return enter(task, [&] { return sys_read(state_->machine, fd, size); });
}

Result<int64_t> Kernel::ioctl(Task& task, int fd, uint32_t cmd, uint64_t arg) {
  return enter(task, [&] { return sys_ioctl(state_->machine, fd, cmd, arg); });
}

Result<int64_t> Kernel::open(Task& task, const std::string& path) {
  return enter(task, [&] { return do_sys_open(state_->machine, path); });
}

Result<void> Kernel::move_to_cgroup(Task& task, const std::string& path, Task& moved) {
  if (moved.exited) return refuse(Errno::Srch, "task {} has exited", moved.pid);
  return enter(task, [&] { return cgroup_procs_write(state_->machine, path, moved); });
}

const Refusal& Kernel::last_refusal() const { return state_->last_refusal; }

Result<void> Kernel::rtnl_setlink(Task& task, std::span<const uint8_t> message) {
  return enter(task, [&] { return rtnetlink_rcv_msg(state_->machine, message); });
}

Net& Kernel::net() { return init_net(state_->machine); }

Parking& Kernel::parking() {
  if (!state_->parking) state_->parking = std::make_unique<Parking>(state_->machine);
  return *state_->parking;
}

}  // namespace bpfsim
