// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// Booting and halting a machine, and the way into it for tasks. Halting lets parked guests run to their end,
// then every task exits, the pins go, and a last grace period frees what waited.
#include "kernel.h"

#include <algorithm>
#include <map>
#include <utility>

#include "hook/attach.h"
#include "hook/hook.h"
#include "hook/stepping.h"
#include "hook/types.h"
#include "host/socket.h"
#include "host/tcp_cong.h"
#include "host/tracing.h"
#include "journal.h"
#include "map/bpf_local_storage.h"
#include "map/bpf_struct_ops.h"
#include "map/local_storage.h"
#include "map/map_types.h"
#include "map/ringbuf.h"
#include "object/file.h"
#include "object/mmap.h"
#include "object/ops.h"
#include "object/pidfd.h"
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
    .struct_ops_verifier_ops = struct_ops_verifier_ops,
    .call_bpf = call_running_prog,
    .ringbuf_commit = bpf_ringbuf_commit,
    .bpf_local_storage_destroy = bpf_local_storage_destroy,
    .bpf_cgroup_storage_free = bpf_cgroup_storage_free,
    .bpf_sk_storage_clone = bpf_sk_storage_clone,
    .iput = bpffs_iput,
};

// A task enters the kernel: who is current, and a grace period may end when the outermost entry returns. The
// context is changed in place, since a parked one must find itself again.
class TaskEntry {
 public:
  TaskEntry(Machine& machine, Task& task)
      : machine_(machine),
        before_{machine.current->task, machine.current->pid, machine.current->cred, machine.current->cpu},
        entry_(machine) {
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
  const struct {
    Task* task;
    int pid;
    const Credentials* cred;
    uint32_t cpu;
  } before_;
  KernelEntry entry_;
};

}  // namespace

struct KernelState {
  explicit KernelState(const MachineOptions& options) : options(options), machine(options) {}

  const MachineOptions options;
  Machine machine;
  MappedMemory mapped{machine};
  Registry registry;
  std::unique_ptr<Inode> bpffs = bpf_mount(machine);
  std::vector<std::unique_ptr<Task>> tasks;  // by pid, from kFirstPid on
  Refusal last_refusal;
  std::unique_ptr<Parking> parking;
  std::map<int, std::unique_ptr<SteppedRun>> stepped;
  int next_stepped = 1;
  std::unique_ptr<Journal> journal;
  std::vector<const Context*> inside;  // contexts that have gone through a door and not come back
};

Kernel::Kernel(const MachineOptions& options, size_t history_bytes)
    : state_(std::make_unique<KernelState>(options)) {
  state_->machine.calls = &kCalls;
  state_->machine.mapped = &state_->mapped;
  state_->machine.registry = &state_->registry;
  state_->machine.bpffs = state_->bpffs.get();
  register_vmlinux_btf(state_->machine);
  if (history_bytes) state_->journal = std::make_unique<Journal>(state_->machine, history_bytes);
}

Kernel::~Kernel() {
  state_->journal.reset();
  state_->parking.reset();
  state_->stepped.clear();
  for (auto& task : state_->tasks) exit(*task);
  net_exit(state_->machine);
  cgroup_exit_all(state_->machine);
  bpf_kill_super(*state_->bpffs);
  tracing_exit(state_->machine);
  tcp_cong_exit(state_->machine);
  bpf_struct_ops_exit(state_->machine);
  Rcu& rcu = state_->machine.rcu;
  rcu.release();
  rcu.grace_period();
}

Machine& Kernel::machine() { return state_->machine; }
const Machine& Kernel::machine() const { return state_->machine; }
const MachineOptions& Kernel::options() const { return state_->options; }
Journal* Kernel::journal() { return state_->journal.get(); }

Refusal task_has_exited(const Task& task) {
  return refuse(Errno::Srch, "task {} has exited, and makes no more calls", task.pid);
}

// ---- the doors ----

namespace {

// Notes which context goes through a door, for as long as it is behind it: busy() asks.
class Inside {
 public:
  explicit Inside(KernelState& state) : state_(state), context_(state.machine.current) {
    state.inside.push_back(context_);
  }
  ~Inside() { state_.inside.erase(std::ranges::find(state_.inside, context_)); }
  Inside(const Inside&) = delete;

 private:
  KernelState& state_;
  const Context* const context_;
};

}  // namespace

bool Kernel::busy() const {
  return std::ranges::find(state_->inside, state_->machine.current) != state_->inside.end();
}

// Makes the call, and hands its outcome to `then` before it gives the answer.
template <class Call, class Then>
static decltype(auto) answered(Call call, Then then) {
  if constexpr (std::is_void_v<decltype(call())>) {
    call();
    then(0);
  } else {
    decltype(auto) answer = call();
    then(outcome(answer));
    return answer;
  }
}

// Everything that a door does beside its call: a recorder hears of it, a history keeps it, and who watches
// the machine gets its outcome. With none of them it is the call and a few branches.
template <class Call>
decltype(auto) Kernel::through(Task* task, const Says& says, Call call) {
  const bool outermost = state_->machine.watched && !busy();
  if (state_->machine.watched && state_->machine.current->kernel_depth == 0) [[unlikely]]
    emit<CallEvent>(state_->machine, task ? task->pid : 0,
                    says.command < 0 ? says.str() : describe_command(says.command));
  Inside inside(*state_);
  Journal* journal = state_->journal.get();
  auto tell = [&](std::optional<size_t> step, int64_t result) {
    if (outermost && after_call) after_call(step, result);
  };
  auto made = [&]() -> decltype(auto) { return call(*this, task); };
  if (!journal || !journal->listens()) [[likely]] {
    if (!outermost) [[likely]]
      return made();
    return answered(made, [&](int64_t result) { tell({}, result); });
  }
  using Answer = decltype(call(*this, task));
  auto again = [call](Kernel& kernel, Task* task) -> int64_t {
    if constexpr (std::is_void_v<Answer>)
      return call(kernel, task), 0;
    else
      return outcome(call(kernel, task));
  };
  JournalEntry entry(*journal, {task ? task->pid : 0, says.command, says.uattr, says.str(), again});
  return answered(made, [&](int64_t result) {
    entry.close(result);
    tell(journal->ended().empty() ? std::optional(journal->steps().size() - 1) : std::nullopt, result);
  });
}

// A task enters: `call(Kernel&, Task&)` gives a Result.
template <class Call>
auto Kernel::door(Task& task, const Says& says, Call call) -> decltype(call(*this, task)) {
  if (task.exited) return task_has_exited(task);
  return through(&task, says, [call](Kernel& kernel, Task* task) {
    TaskEntry in(kernel.machine(), *task);
    return call(kernel, *task);
  });
}

// The world outside does something: `call(Kernel&)`.
template <class Call>
decltype(auto) Kernel::door(const Says& says, Call call) {
  return through(nullptr, says, [call](Kernel& kernel, Task*) -> decltype(auto) { return call(kernel); });
}

int64_t Kernel::repeat(const JournalStep& step) {
  Task* task = step.pid ? this->task(step.pid) : nullptr;
  Journal* journal = state_->journal.get();
  if (!journal || !journal->listens()) return step.again(*this, task);
  JournalEntry entry(*journal, step);
  const int64_t result = step.again(*this, task);
  entry.close(result);
  return result;
}

// ---- tasks ----

static Task& new_task(KernelState& state, const std::string& comm, const Credentials& cred) {
  constexpr size_t TASK_COMM_LEN = 16;
  const int pid = kFirstPid + int(state.tasks.size());
  auto task = std::make_unique<Task>(state.machine, pid, comm.substr(0, TASK_COMM_LEN - 1), cred);
  task->cpu = uint32_t(state.tasks.size()) % state.machine.cpus;
  state.tasks.push_back(std::move(task));
  emit<LifeEvent>(state.machine, *state.tasks.back(), "born");
  return *state.tasks.back();
}

Task& Kernel::spawn(const std::string& comm, const Credentials& cred) {
  return door({"spawn(\"{}\")", comm}, [=](Kernel& k) -> Task& {
    Task& task = new_task(*k.state_, comm, cred);
    open_terminal(task);
    return task;
  });
}

Task& Kernel::fork(Task& parent) {
  return through(&parent, {"fork()"}, [](Kernel& k, Task* parent) -> Task& {
    Task& child = new_task(*k.state_, parent->comm, parent->cred);
    child.parent = parent;
    TaskEntry in(k.machine(), *parent);
    copy_files(child, *parent);
    cgroup_fork(child, *parent);
    dup_mmap(child, *parent);
    return child;
  });
}

void Kernel::exit(Task& task) {
  if (task.exited) return;
  through(&task, {"exit()"}, [](Kernel& k, Task* task) {
    TaskEntry in(k.machine(), *task);
    KFN(k.machine(), do_exit);
    task->exited = true;
    exit_mmap(*task);
    exit_files(*task);
    cgroup_exit(*task);
    if (task->bpf_storage)  // after a grace period, as the task itself
      k.machine().rcu.call_rcu("storage of " + task->label(), task, [task] { bpf_task_storage_free(*task); });
    emit<LifeEvent>(k.machine(), *task, "freed");
  });
}

std::vector<Task*> Kernel::tasks() {
  std::vector<Task*> live;
  for (auto& task : state_->tasks)
    if (!task->exited) live.push_back(task.get());
  return live;
}

Task* Kernel::task(int pid) {
  const auto at = size_t(pid - kFirstPid);
  return at < state_->tasks.size() ? state_->tasks[at].get() : nullptr;
}

Result<void> Kernel::set_caps(Task& task, CapabilitySet effective) {
  return door(task, {"capset({})", effective}, [=](Kernel&, Task& task) -> Result<void> {
    task.cred.effective = effective;
    return {};
  });
}

// ---- system calls ----

int64_t Kernel::sys_bpf(Task& task, int cmd, uint64_t uattr, uint32_t size) {
  const SysResult result = door(task, {cmd, uattr}, [uattr, cmd, size](Kernel& k, Task&) {
    return __sys_bpf(k.machine(), cmd, uattr, size);
  });
  if (result) {
    state_->last_refusal.err = Errno::None;
    return *result;
  }
  state_->last_refusal = result.refusal();
  return -int64_t(result.err());
}

Result<int64_t> Kernel::bpf(Task& task, int cmd, bpf_attr& attr, uint32_t size) {
  const int64_t ret = sys_bpf(task, cmd, reinterpret_cast<uintptr_t>(&attr), size);
  if (ret < 0) return state_->last_refusal;
  return ret;
}

Result<int> Kernel::close(Task& task, int fd) {
  return door(task, {"close({})", fd}, [=](Kernel&, Task& task) { return sys_close(task, fd); });
}

Result<int> Kernel::dup(Task& task, int fd) {
  return door(task, {"dup({})", fd}, [=](Kernel&, Task& task) { return sys_dup(task, fd); });
}

Result<int64_t> Kernel::open(Task& task, const std::string& path, uint32_t flags) {
  return door(task, {"open(\"{}\", {})", path, flags},
              [=](Kernel& k, Task&) { return do_sys_openat2(k.machine(), path, flags); });
}

Result<int> Kernel::pidfd_open(Task& task, int pid, uint32_t flags) {
  return door(task, {"pidfd_open({}, {})", pid, flags},
              [=](Kernel& k, Task&) { return bpfsim::pidfd_open(k.machine(), pid, flags); });
}

Result<uint64_t> Kernel::mmap(Task& task, int fd, uint64_t length, uint32_t prot, uint32_t flags,
                              uint64_t offset, uint64_t address) {
  return door(task, {"mmap({}, {} bytes, offset {})", fd, length, offset},
              [=](Kernel&, Task& task) { return sys_mmap(task, fd, length, prot, flags, offset, address); });
}

Result<void> Kernel::munmap(Task& task, uint64_t addr, uint64_t length) {
  return door(task, {"munmap({}, {} bytes)", addr, length},
              [=](Kernel&, Task& task) { return sys_munmap(task, addr, length); });
}

Result<void> Kernel::user_load(const Task& task, uint64_t addr, void* to, uint64_t size) const {
  return bpfsim::user_load(task, addr, to, size);
}

Result<void> Kernel::user_store(Task& task, uint64_t addr, const void* from, uint64_t size) {
  const std::string bytes(static_cast<const char*>(from), size);
  return door(task, {"stores {} bytes at {}", size, addr},
              [=](Kernel&, Task& task) { return bpfsim::user_store(task, addr, bytes.data(), size); });
}

Result<void> Kernel::mkdir(Task& task, const std::string& path, uint32_t mode) {
  return door(task, {"mkdir(\"{}\")", path},
              [=](Kernel& k, Task&) { return do_mkdirat(k.machine(), path, mode); });
}

Result<void> Kernel::rmdir(Task& task, const std::string& path) {
  return door(task, {"rmdir(\"{}\")", path}, [=](Kernel& k, Task&) { return do_rmdir(k.machine(), path); });
}

Result<void> Kernel::unlink(Task& task, const std::string& path) {
  return door(task, {"unlink(\"{}\")", path},
              [=](Kernel& k, Task&) { return do_unlinkat(k.machine(), path); });
}

Result<void> Kernel::rename(Task& task, const std::string& from, const std::string& to) {
  return door(task, {"rename(\"{}\", \"{}\")", from, to},
              [=](Kernel& k, Task&) { return do_renameat2(k.machine(), from, to); });
}

Result<void> Kernel::chmod(Task& task, const std::string& path, uint32_t mode) {
  return door(task, {"chmod(\"{}\", {})", path, mode},
              [=](Kernel& k, Task&) { return do_fchmodat(k.machine(), path, mode); });
}

Result<FileStat> Kernel::stat(Task& task, const std::string& path) {
  return door(task, {"stat(\"{}\")", path}, [=](Kernel& k, Task&) { return vfs_stat(k.machine(), path); });
}

Result<std::vector<std::string>> Kernel::listdir(Task& task, const std::string& path) {
  return door(task, {"getdents(\"{}\")", path},
              [=](Kernel& k, Task&) { return vfs_readdir(k.machine(), path); });
}

Result<int> Kernel::perf_event_open(Task& task, const perf_event_attr& attr, int pid, int cpu, int group_fd,
                                    uint64_t flags) {
  return door(task, {"perf_event_open(type {}, config {})", attr.type, attr.config}, [=](Kernel& k, Task&) {
    return sys_perf_event_open(k.machine(), attr, pid, cpu, group_fd, flags);
  });
}

Result<std::string> Kernel::read(Task& task, int fd, size_t size) {
  return door(task, {"read({}, {})", fd, size},
              [=](Kernel& k, Task&) { return sys_read(k.machine(), fd, size); });
}

Result<int64_t> Kernel::ioctl(Task& task, int fd, uint32_t cmd, uint64_t arg) {
  return door(task, {"ioctl({}, {}, {})", fd, cmd, arg},
              [=](Kernel& k, Task&) { return sys_ioctl(k.machine(), fd, cmd, arg); });
}

Result<void> Kernel::open_device(Task& task, char type, uint32_t major, uint32_t minor,
                                 const std::string& access) {
  if (type != 'c' && type != 'b') return refuse(Errno::Inval, "a device node is 'c' or 'b'");
  uint32_t asked = 0;
  for (char c : access) {
    if (c != 'm' && c != 'r' && c != 'w')
      return refuse(Errno::Inval, "access is of m, r and w, not {}", access);
    asked |= c == 'm' ? BPF_DEVCG_ACC_MKNOD : c == 'r' ? BPF_DEVCG_ACC_READ : BPF_DEVCG_ACC_WRITE;
  }
  const uint32_t kind = type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK;
  return door(task, {"open of the device {}:{} for {}", major, minor, access}, [=](Kernel&, Task& task) {
    return cgroup_bpf_check_dev_permission(task, kind, major, minor, asked);
  });
}

Result<void> Kernel::move_to_cgroup(Task& task, const std::string& path, Task& moved) {
  if (moved.exited) return task_has_exited(moved);
  return door(
      task, {"write({} to {}/cgroup.procs)", moved.pid, path},
      [=, pid = moved.pid](Kernel& k, Task&) { return cgroup_procs_write(k.machine(), path, *k.task(pid)); });
}

const Refusal& Kernel::last_refusal() const { return state_->last_refusal; }

Result<void> Kernel::rtnl_setlink(Task& task, std::span<const uint8_t> message) {
  return door(task, {"sendmsg(RTM_SETLINK)"}, [=](Kernel& k, Task&) {
    return rtnetlink_rcv_msg(k.machine(), k.machine().user->handed(message));
  });
}

// ---- sockets ----

Result<int64_t> Kernel::socket(Task& task, int family, int type, int protocol) {
  return door(task, {"socket({}, {}, {})", family, type, protocol},
              [=](Kernel& k, Task&) { return __sys_socket(k.machine(), family, type, protocol); });
}

Result<std::pair<int, int>> Kernel::socketpair(Task& task, int family, int type, int protocol) {
  return door(task, {"socketpair({}, {}, {})", family, type, protocol},
              [=](Kernel& k, Task&) { return __sys_socketpair(k.machine(), family, type, protocol); });
}

Result<void> Kernel::bind(Task& task, int fd, const SockAddr& address) {
  return door(task, {"bind({}, {}:{})", fd, address.address, address.port},
              [=](Kernel& k, Task&) { return __sys_bind(k.machine(), fd, address); });
}

Result<void> Kernel::listen(Task& task, int fd) {
  return door(task, {"listen({})", fd}, [=](Kernel& k, Task&) { return __sys_listen(k.machine(), fd); });
}

Result<void> Kernel::connect(Task& task, int fd, const SockAddr& address) {
  return door(task, {"connect({}, {}:{})", fd, address.address, address.port},
              [=](Kernel& k, Task&) { return __sys_connect(k.machine(), fd, address); });
}

Result<int64_t> Kernel::accept(Task& task, int fd) {
  return door(task, {"accept({})", fd}, [=](Kernel& k, Task&) { return __sys_accept(k.machine(), fd); });
}

Result<void> Kernel::setsockopt(Task& task, int fd, int level, int name, std::span<const uint8_t> value) {
  return door(task, {"setsockopt({}, {}, {})", fd, level, name}, [=](Kernel& k, Task&) {
    return __sys_setsockopt(k.machine(), fd, level, name, k.machine().user->handed(value));
  });
}

// ---- the world outside ----

Net& Kernel::net() {
  if (!state_->machine.net) door({"lo and eth0 come up"}, [](Kernel& k) { init_net(k.machine()); });
  return *state_->machine.net;
}

Tracing& Kernel::tracing() {
  if (!state_->machine.tracing) door({"tracing is set up"}, [](Kernel& k) { bpfsim::tracing(k.machine()); });
  return *state_->machine.tracing;
}

void Kernel::add_tracepoint(const std::string& system, const std::string& name, uint32_t num_args) {
  door({"a tracepoint {}:{} is added", system, name},
       [=](Kernel& k) { bpfsim::tracing(k.machine()).add_tracepoint(system, name, num_args); });
}

void Kernel::add_function(const std::string& name) {
  door({"a function {}() is added", name},
       [=](Kernel& k) { bpfsim::tracing(k.machine()).add_function(name); });
}

Result<void> Kernel::add_net_device(const std::string& name, bool has_native_xdp) {
  return door({"a device {} is plugged in", name}, [=](Kernel& k) -> Result<void> {
    if (init_net(k.machine()).by_name(name)) return refuse(Errno::Exist, "the device {} is there", name);
    register_netdevice(k.machine(), name, has_native_xdp);
    return {};
  });
}

Result<void> Kernel::add_netkit(const std::string& primary, const std::string& peer) {
  return door({"netkit devices {} and {} are made", primary, peer}, [=](Kernel& k) -> Result<void> {
    if (!k.machine().config.on("CONFIG_NETKIT"))
      return refuse(Errno::OpNotSupp, "this machine has no CONFIG_NETKIT");
    if (primary == peer || init_net(k.machine()).by_name(primary) || init_net(k.machine()).by_name(peer))
      return refuse(Errno::Exist, "the device {} or {} is there", primary, peer);
    register_netkit(k.machine(), primary, peer);
    return {};
  });
}

Result<void> Kernel::remove_net_device(const std::string& name) {
  return door({"the device {} is pulled out", name}, [=](Kernel& k) -> Result<void> {
    NetDevice* dev = init_net(k.machine()).by_name(name);
    if (!dev) return refuse(Errno::NoDev, "there is no device {}", name);
    if (dev->ifindex == 1) return refuse(Errno::OpNotSupp, "lo stays");
    unregister_netdevice(*dev);
    return {};
  });
}

Result<Receipt> Kernel::receive(int ifindex, std::span<const uint8_t> packet, uint32_t queue) {
  return door({"a packet of {} bytes arrives at netdev {}", packet.size(), ifindex},
              [=](Kernel& k) -> Result<Receipt> {
                NetDevice* dev = init_net(k.machine()).by_index(ifindex);
                if (!dev) return refuse(Errno::NoDev, "no device has ifindex {}", ifindex);
                return bpfsim::receive(*dev, k.machine().user->handed(packet), queue);
              });
}

Result<void> Kernel::sysctl_write(const std::string& name, int64_t value) {
  return door({"sysctl {}={}", name, value},
              [=](Kernel& k) { return k.machine().sysctl.write(name, value); });
}

std::vector<std::string> Kernel::read_trace_pipe() {
  return door({"read(trace_pipe)"}, [](Kernel& k) {
    auto lines = std::exchange(k.machine().trace_pipe, {});
    return std::vector<std::string>(lines.begin(), lines.end());
  });
}

void Kernel::rcu_hold() {
  door({"the grace period is held open"}, [](Kernel& k) { k.machine().rcu.hold(); });
}

int Kernel::rcu_release() {
  return door({"the grace period may end"}, [](Kernel& k) {
    k.machine().rcu.release();
    return k.machine().rcu.grace_period();
  });
}

Result<int> Kernel::step_prog(Task& task, int prog_fd, std::span<const uint8_t> packet) {
  return door(task, {"the program of fd {} is stepped", prog_fd}, [=](Kernel& k, Task& task) -> Result<int> {
    auto run = TRY(SteppedRun::start(task, prog_fd, k.machine().user->handed(packet)));
    const int number = k.state_->next_stepped++;
    k.state_->stepped.emplace(number, std::move(run));
    return number;
  });
}

bool Kernel::step_insn(int run) {
  return door({"run {}: one instruction", run}, [=](Kernel& k) {
    auto found = k.state_->stepped.find(run);
    return found != k.state_->stepped.end() && found->second->step();
  });
}

void Kernel::step_end(int run) {
  if (stepped(run)) door({"run {} is over", run}, [=](Kernel& k) { k.state_->stepped.erase(run); });
}

const SteppedRun* Kernel::stepped(int run) const {
  auto found = state_->stepped.find(run);
  return found == state_->stepped.end() ? nullptr : found->second.get();
}

Parking& Kernel::parking() {
  if (!state_->parking) state_->parking = std::make_unique<Parking>(state_->machine);
  return *state_->parking;
}

}  // namespace bpfsim
