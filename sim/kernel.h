// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// One simulated machine, whole: what a lesson boots. It owns the ground floor (base/machine.h) and everything
// that stands on it, and lets tasks enter the kernel. A system call answers as Linux's does, a number that is
// negative for an error; why it refused is kept in last_refusal().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/machine.h"
#include "uapi/bpf_attr.h"

namespace bpfsim {

class Parking;
struct KernelState;

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
  const Refusal& last_refusal() const;  // of sys_bpf; err is None after a success

  // Contexts that can be held while others run (trace/parking.h); made when first asked for.
  Parking& parking();

 private:
  template <class T>
  Result<T> enter(Task& task, const std::function<Result<T>()>& call);
  std::unique_ptr<KernelState> state_;
};

}  // namespace bpfsim
