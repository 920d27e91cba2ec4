// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// One simulated machine, whole: what a lesson boots. It owns the ground floor (base/machine.h) and everything
// that stands on it, and lets tasks enter the kernel. A system call answers as Linux's does, a number that is
// negative for an error; why it refused is kept in last_refusal().
//
// Whatever comes from outside and may change the machine comes through a member of this class, and each of
// them is a door: `return door(task, {"close({})", fd}, [=](Kernel&, Task& t) { return sys_close(t, fd);
// });`. A door that captures values only (never `this`, a reference or a pointer into the machine) can be
// gone through again on another machine; what is done behind the doors' back ends the history (journal.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/machine.h"
#include "uapi/bpf_attr.h"
#include "uapi/perf_event.h"

namespace bpfsim {

class Journal;
class Parking;
class Says;
class SteppedRun;
struct FileStat;
struct KernelState;
struct Net;
struct Receipt;
struct JournalStep;
struct SockAddr;

// What every call of such a task is answered.
Refusal task_has_exited(const Task& task);

class Kernel {
 public:
  // Keeps a history of at most so many bytes; none for 0.
  explicit Kernel(const MachineOptions& options = {}, size_t history_bytes = 0);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  Machine& machine();
  const Machine& machine() const;
  const MachineOptions& options() const;

  // Tasks. They get pids from 470 on, and stay readable after their exit.
  Task& spawn(const std::string& comm, const Credentials& cred = {});
  Task& fork(Task& parent);
  void exit(Task& task);
  std::vector<Task*> tasks();  // the live ones, by pid
  Task* task(int pid);         // also one that has exited; null when there never was one
  Result<void> set_caps(Task& task, CapabilitySet effective);

  // System calls.
  int64_t sys_bpf(Task& task, int cmd, uint64_t uattr, uint32_t size);
  Result<int64_t> bpf(Task& task, int cmd, bpf_attr& attr, uint32_t size = sizeof(bpf_attr));
  Result<int> close(Task& task, int fd);
  Result<int> dup(Task& task, int fd);
  // mmap(2), munmap(2), and what the task's own code loads and stores in what it has mapped (object/mmap.h).
  Result<uint64_t> mmap(Task& task, int fd, uint64_t length, uint32_t prot, uint32_t flags, uint64_t offset,
                        uint64_t address = 0);
  Result<void> munmap(Task& task, uint64_t addr, uint64_t length);
  Result<void> user_load(const Task& task, uint64_t addr, void* to, uint64_t size) const;
  Result<void> user_store(Task& task, uint64_t addr, const void* from, uint64_t size);
  Result<int64_t> open(Task& task, const std::string& path, uint32_t flags = 0);  // BPFFS and cgroups
  Result<int> pidfd_open(Task& task, int pid, uint32_t flags = 0);
  Result<void> mkdir(Task& task, const std::string& path, uint32_t mode = 0777);
  Result<void> rmdir(Task& task, const std::string& path);
  Result<void> unlink(Task& task, const std::string& path);
  Result<void> rename(Task& task, const std::string& from, const std::string& to);
  Result<void> chmod(Task& task, const std::string& path, uint32_t mode);
  Result<FileStat> stat(Task& task, const std::string& path);  // syscall/inode.h
  Result<std::vector<std::string>> listdir(Task& task, const std::string& path);
  // echo PID of `moved` > PATH/cgroup.procs
  Result<void> move_to_cgroup(Task& task, const std::string& path, Task& moved);
  // What open(2) ("r", "w") or mknod(2) ("m") of a device node asks of the task's cgroup. There are no
  // devices behind: nothing is opened. `type` is 'c' or 'b'.
  Result<void> open_device(Task& task, char type, uint32_t major, uint32_t minor, const std::string& access);
  // What a netlink socket of the task would send: RTM_SETLINK (syscall/rtnetlink.h builds and explains it).
  Result<void> rtnl_setlink(Task& task, std::span<const uint8_t> message);
  // perf_event_open(2), read(2), ioctl(2) (syscall/perf_event.h).
  Result<int> perf_event_open(Task& task, const perf_event_attr& attr, int pid = -1, int cpu = 0,
                              int group_fd = -1, uint64_t flags = 0);
  Result<std::string> read(Task& task, int fd, size_t size);
  Result<int64_t> ioctl(Task& task, int fd, uint32_t cmd, uint64_t arg = 0);
  // Sockets (host/socket.h). setsockopt's value is what the C library passes: usually an int.
  Result<int64_t> socket(Task& task, int family, int type, int protocol = 0);
  Result<std::pair<int, int>> socketpair(Task& task, int family, int type, int protocol = 0);
  Result<void> bind(Task& task, int fd, const SockAddr& address);
  Result<void> listen(Task& task, int fd);
  Result<void> connect(Task& task, int fd, const SockAddr& address);
  Result<int64_t> accept(Task& task, int fd);
  Result<void> setsockopt(Task& task, int fd, int level, int name, std::span<const uint8_t> value);
  const Refusal& last_refusal() const;  // of sys_bpf; err is None after a success

  // What the world outside does.
  Net& net();          // lo, eth0 and others (host/net_device.h)
  Tracing& tracing();  // kernel functions and tracepoints (host/tracing.h)
  void add_tracepoint(const std::string& system, const std::string& name, uint32_t num_args);
  void add_function(const std::string& name);
  Result<void> add_net_device(const std::string& name, bool has_native_xdp);
  Result<void> add_netkit(const std::string& primary, const std::string& peer);  // a pair; CONFIG_NETKIT
  Result<void> remove_net_device(const std::string& name);
  Result<Receipt> receive(int ifindex, std::span<const uint8_t> packet, uint32_t queue = 0);  // hook/hook.h
  Result<void> sysctl_write(const std::string& name, int64_t value);
  std::vector<std::string> read_trace_pipe();  // takes the lines that nobody has read yet
  void rcu_hold();
  int rcu_release();  // how many frees ran

  // Programs in the checked engine that stand between two instructions (hook/stepping.h), by number.
  Result<int> step_prog(Task& task, int prog_fd, std::span<const uint8_t> packet);
  bool step_insn(int run);  // false when the program has ended
  void step_end(int run);
  const SteppedRun* stepped(int run) const;

  // Whether the context that runs now is in the middle of a call already: then it may not begin another.
  bool busy() const;

  // Contexts that can be held while others run (trace/parking.h); made when first asked for.
  Parking& parking();

  Journal* journal();                       // null where no history is kept
  int64_t repeat(const JournalStep& step);  // a step of another machine's journal
  // While somebody watches the machine: a call that entered through a door has answered `result`, and is
  // this step of the journal, if it is kept. May throw.
  std::function<void(std::optional<size_t> step, int64_t result)> after_call;

 private:
  template <class Call>
  auto door(Task& task, const Says& says, Call call) -> decltype(call(*this, task));
  template <class Call>
  decltype(auto) door(const Says& says, Call call);
  template <class Call>
  decltype(auto) through(Task* task, const Says& says, Call call);
  std::unique_ptr<KernelState> state_;
};

}  // namespace bpfsim
