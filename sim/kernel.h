// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// One simulated machine, whole: what a lesson boots. It owns the ground floor (base/machine.h) and everything
// that stands on it, and lets tasks enter the kernel. A system call answers as Linux's does, a number that is
// negative for an error; why it refused is kept in last_refusal().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/machine.h"
#include "uapi/bpf_attr.h"
#include "uapi/perf_event.h"

namespace bpfsim {

class Parking;
struct FileStat;
struct KernelState;
struct Net;

class Kernel {
 public:
  explicit Kernel(const MachineOptions& options = {});
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  Machine& machine();
  const Machine& machine() const;

  // Tasks. They get pids from 470 on, and stay readable after their exit.
  Task& spawn(const std::string& comm, const Credentials& cred = {});
  Task& fork(Task& parent);
  void exit(Task& task);
  std::vector<Task*> tasks();  // the live ones, by pid

  // System calls.
  int64_t sys_bpf(Task& task, int cmd, uint64_t uattr, uint32_t size);
  Result<int64_t> bpf(Task& task, int cmd, bpf_attr& attr, uint32_t size = sizeof(bpf_attr));
  Result<int> close(Task& task, int fd);
  Result<int> dup(Task& task, int fd);
  Result<void> mkdir(Task& task, const std::string& path, uint32_t mode = 0777);
  Result<void> rmdir(Task& task, const std::string& path);
  Result<void> unlink(Task& task, const std::string& path);
  Result<void> rename(Task& task, const std::string& from, const std::string& to);
  Result<void> chmod(Task& task, const std::string& path, uint32_t mode);
  Result<FileStat> stat(Task& task, const std::string& path);  // syscall/inode.h
  Result<std::vector<std::string>> listdir(Task& task, const std::string& path);
  Result<int64_t> open(Task& task, const std::string& path);  // a cgroup's directory
  // echo PID of `moved` > PATH/cgroup.procs
  Result<void> move_to_cgroup(Task& task, const std::string& path, Task& moved);
  // What a netlink socket of the task would send: RTM_SETLINK (syscall/rtnetlink.h builds and explains it).
  Result<void> rtnl_setlink(Task& task, std::span<const uint8_t> message);
  // perf_event_open(2), read(2), ioctl(2) (syscall/perf_event.h).
  Result<int> perf_event_open(Task& task, const perf_event_attr& attr, int pid = -1, int cpu = 0,
                              int group_fd = -1, uint64_t flags = 0);
  Result<std::string> read(Task& task, int fd, size_t size);
  Result<int64_t> ioctl(Task& task, int fd, uint32_t cmd, uint64_t arg = 0);
  const Refusal& last_refusal() const;  // of sys_bpf; err is None after a success

  Net& net();  // lo, eth0 and others (host/net_device.h); hook/hook.h sends packets at them

  // Contexts that can be held while others run (trace/parking.h); made when first asked for.
  Parking& parking();

 private:
  template <class Call>
  auto enter(Task& task, const Call& call) -> decltype(call());
  std::unique_ptr<KernelState> state_;
};

}  // namespace bpfsim
