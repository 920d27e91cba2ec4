// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// Everything that code of the simulated kernel may need without knowing who called it: memory, time, chance,
// RCU, configuration, version, the current context and the recorder. Every object holds a Machine&. kernel.h
// owns one and fills in what stands on higher floors.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/capability.h"
#include "base/clock.h"
#include "base/handles.h"
#include "base/rcu.h"
#include "base/sysctl.h"
#include "base/user_memory.h"
#include "uapi/version.h"

namespace bpfsim {

class Recorder;
class Parking;
class Watcher;
struct Task;
struct Object;
struct KernelCalls;
struct Net;
struct Cgroups;
struct Sockets;
struct Tracing;
struct CongestionControls;
struct RunFrame;
struct RunStacks;
struct Registry;
struct Inode;

// One line of execution inside the machine: a task in a syscall, or a CPU that runs a program for a packet.
// The machine runs one context at a time; a parked one waits, with this as all that must be kept.
struct Context {
  Task* task = nullptr;
  int pid = 0;
  const Credentials* cred = nullptr;
  uint32_t cpu = 0;
  int kernel_depth = 0;  // nested entries into the kernel
  int trace_depth = 0;   // open KFN scopes
  int tail_calls = 0;
  RunFrame* running = nullptr;  // the innermost program that this context is inside of (run/engine.h)
};

struct MachineOptions {
  Version version = kLatest;
  uint32_t cpus = 2;
  uint64_t seed = 0;
  Config config;
  uint64_t arena_bytes = 1ull << 30;
};

class Machine {
 public:
  explicit Machine(const MachineOptions& options)
      : version(options.version),
        cpus(options.cpus),
        config(options.config),
        arena(options.arena_bytes),
        random(options.seed),
        sysctl(options.config, options.version) {}
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const Version version;
  const uint32_t cpus;
  const Config config;
  Arena arena;
  Handles handles;
  Clock clock;
  Random random;
  Sysctls sysctl;
  Rcu rcu;
  TrustedUserMemory trusted_memory;
  UserMemory* user = &trusted_memory;
  UserMemory* mapped = nullptr;  // what the current task has mapped, above kMmapBase (object/mmap.h)

  Context boot;  // what runs when no task does
  Context* current = &boot;

  bool watched = false;  // a recorder, a watcher or a parking lot wants to hear of every choke point
  Recorder* recorder = nullptr;
  std::vector<Watcher*> watchers;
  Parking* parking = nullptr;
  std::shared_ptr<RunStacks> run_stacks;  // stacks of programs that are not in use (run/engine.h)
  const KernelCalls* calls = nullptr;     // what lower floors need from higher ones (object/ops.h)
  Registry* registry = nullptr;           // who has which id (object/registry.h)
  Inode* bpffs = nullptr;                 // the root of /sys/fs/bpf (syscall/inode.h)

  uint64_t next_ref_event = 1;
  uint64_t next_serial = 1;             // objects are numbered in the order of their birth
  std::map<uint64_t, Object*> objects;  // every live object by serial, for the graph and for leak tests

  std::map<std::string, std::shared_ptr<Inode>> other_inodes;  // outside BPFFS, by name (object/inode.h)

  // What programs and maps meet (host/), each made when first asked for.
  std::shared_ptr<Net> net;          // network devices: host/net_device.h
  std::shared_ptr<Cgroups> cgroups;  // the cgroup hierarchy: host/cgroup.h
  std::shared_ptr<Sockets> sockets;  // sockets: host/socket.h
  std::shared_ptr<Tracing> tracing;  // kernel functions, tracepoints, perf events: host/tracing.h
  std::shared_ptr<CongestionControls> congestion_controls;  // of TCP: host/tcp_cong.h

  std::deque<std::string> dmesg;       // the kernel log; printk() appends
  std::deque<std::string> trace_pipe;  // what bpf_trace_printk wrote and nobody has read yet
  uint64_t interrupt_checks = 0;
  std::function<bool()> interrupted;  // the host asks long work to stop (Ctrl-C in a notebook)
};

void printk(Machine& machine, const std::string& text);

// Now and then in long work: whether the host wants to stop it (Ctrl-C in a notebook).
bool host_interrupts(Machine& machine);

// The capability checks of the current context, under the kernel's names.
bool capable(const Machine& machine, Capability cap);
bool bpf_capable(const Machine& machine);
bool perfmon_capable(const Machine& machine);
bool bpf_net_capable(const Machine& machine);
bool net_admin_capable(const Machine& machine);  // before 6.9 CAP_SYS_ADMIN is no CAP_NET_ADMIN

Result<void> copy_from_user(Machine& machine, void* to, uint64_t user, size_t size);
Result<void> copy_to_user(Machine& machine, uint64_t user, const void* from, size_t size);
// strncpy_from_user: at most `size` bytes including the NUL; the length without it. -EFAULT, or -E2BIG when
// no NUL.
Result<std::string> strncpy_from_user(Machine& machine, uint64_t user, size_t size);
// A struct of user space may be longer than ours, as long as the rest is 0: E2BIG. `what` names it.
Result<void> bpf_check_uarg_tail_zero(Machine& machine, uint64_t user, uint32_t expected_size,
                                      uint32_t actual_size, const char* what);
// A name with its NUL: all of it, or what fits and -ENOSPC. There is room for one byte at least.
Result<void> bpf_copy_to_user(Machine& machine, uint64_t user, const std::string& name, uint32_t room);

// Entering the simulated kernel. When the outermost entry of a context returns, a grace period may end.
class KernelEntry {
 public:
  explicit KernelEntry(Machine& machine) : machine_(machine) { ++machine.current->kernel_depth; }
  ~KernelEntry() {
    if (--machine_.current->kernel_depth == 0 && !machine_.rcu.waiting().empty()) machine_.rcu.grace_period();
  }
  KernelEntry(const KernelEntry&) = delete;

 private:
  Machine& machine_;
};

}  // namespace bpfsim
