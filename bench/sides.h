// No kernel counterpart: whose bpf(2) a benchmark calls.
//
// The simulated machine and the live kernel answer the same bytes, so a benchmark is written once for both
// and opens on its side what its map holds. On the live kernel that is the process' own: sockets in a network
// namespace and a cgroup that are made here and go with the Side, nothing of the host's.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "host/socket.h"
#include "isa/asm.h"
#include "kernel.h"
#include "live_bpf.h"
#include "map/stackmap.h"
#include "object/file.h"
#include "uapi/perf_event.h"

#ifdef __linux__
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#endif

namespace bpfsim::bench {

// What has a descriptor; None: nothing.
enum class Thing { None, Socket, ReuseportSocket, XdpSocket, Task, File, Event, Cgroup };

inline uint64_t user(const void* p) { return reinterpret_cast<uintptr_t>(p); }

inline perf_event_attr an_event() {
  perf_event_attr attr;
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  return attr;
}

// A descriptor that stays open is the Side's end to close.
struct Side {
  virtual ~Side() = default;
  virtual int64_t bpf(int cmd, bpf_attr& attr) = 0;
  virtual int64_t open(Thing thing) = 0;
  virtual void close(int64_t fd) = 0;
  // Of a ring buffer: how many bytes were ever produced, all of them consumed now.
  virtual uint64_t consume(int64_t ring) = 0;
  // Puts a stack trace into a map of such: its id.
  virtual int64_t put_trace(int64_t map) = 0;

  // The descriptor of a program; map[...] in its text is `map`.
  int64_t load(const std::string& text, int64_t map, bpf_prog_type type = BPF_PROG_TYPE_XDP) {
    Assembly assembly = assemble(text);
    if (!assembly.ok()) return -1;
    for (const MapRef& ref : assembly.maps) assembly.insns[ref.insn].imm = int(map);
    bpf_attr attr;
    attr.prog_type = type;
    attr.insns = user(assembly.insns.data());
    attr.insn_cnt = uint32_t(assembly.insns.size());
    attr.license = user("GPL");
    return bpf(BPF_PROG_LOAD, attr);
  }
};

struct Simulated final : Side {
  Simulated() : kernel(MachineOptions{.arena_bytes = 512 << 20}), task(kernel.spawn("bench")) {}
  int64_t bpf(int cmd, bpf_attr& attr) override {
    return kernel.sys_bpf(task, cmd, user(&attr), sizeof attr);
  }
  void close(int64_t fd) override { (void)*kernel.close(task, int(fd)); }
  int64_t open(Thing thing) override {
    switch (thing) {
      case Thing::None: break;
      case Thing::Socket: return (*kernel.socketpair(task, AF_UNIX_, SOCK_STREAM_)).first;
      case Thing::ReuseportSocket: {
        const int64_t fd = *kernel.socket(task, AF_INET_, SOCK_DGRAM_);
        const int on = 1;
        const std::span bytes(reinterpret_cast<const uint8_t*>(&on), sizeof on);
        const bool bound = kernel.setsockopt(task, int(fd), SOL_SOCKET_, SO_REUSEPORT_, bytes) &&
                           kernel.bind(task, int(fd), {"0.0.0.0", 0});
        return bound ? fd : -1;
      }
      case Thing::XdpSocket: return *kernel.socket(task, AF_XDP_, SOCK_RAW_);
      case Thing::Task: return *kernel.pidfd_open(task, task.pid);
      case Thing::File: return *kernel.open(task, "/sys/fs/bpf");
      case Thing::Event: return *kernel.perf_event_open(task, an_event());
      case Thing::Cgroup: {
        const std::string path = "/sys/fs/cgroup/bench";
        return kernel.mkdir(task, path) ? *kernel.open(task, path) : -1;
      }
    }
    return -1;
  }
  uint64_t consume(int64_t ring) override {
    constexpr uint32_t kRead = 1, kReadWrite = 3, kShared = 1;
    if (!positions[0]) {
      positions[0] = *kernel.mmap(task, int(ring), kPageSize, kReadWrite, kShared, 0);
      positions[1] = *kernel.mmap(task, int(ring), kPageSize, kRead, kShared, kPageSize);
    }
    uint64_t produced = 0;
    if (!kernel.user_load(task, positions[1], &produced, sizeof produced) ||
        !kernel.user_store(task, positions[0], &produced, sizeof produced))
      return 0;
    return produced;
  }
  Map& map(int64_t fd) { return *static_cast<Map*>(task.files.get(int(fd))->private_data); }
  // No program can here yet: the trace is put where the helper would put the one that it walked.
  int64_t put_trace(int64_t fd) override {
    const uint64_t trace[] = {0xffffffff81000010, 0xffffffff81000020, 0xffffffff81000030};
    const Result<uint32_t> id = __bpf_get_stackid(map(fd), trace, 0);
    return id ? *id : -1;
  }
  Kernel kernel;
  Task& task;
  uint64_t positions[2] = {};  // where the consumer's and the producer's page are mapped
};

#ifdef __linux__
// The sockets that a thread makes meanwhile stand in a network namespace of their own.
class OwnNetwork {
 public:
  OwnNetwork() : before_(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
    made_ = before_ >= 0 && unshare(CLONE_NEWNET) == 0;
  }
  ~OwnNetwork() {
    if (made_ && setns(before_, CLONE_NEWNET) != 0) std::abort();
    if (before_ >= 0) ::close(before_);
  }
  OwnNetwork(const OwnNetwork&) = delete;
  bool made() const { return made_; }

 private:
  const int before_;
  bool made_;
};

// A new group in the unified hierarchy: its path, empty where there can be none.
inline std::string make_cgroup() {
  constexpr long kCgroup2Magic = 0x63677270;
  for (const char* root : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
    struct statfs fs;
    if (statfs(root, &fs) != 0 || fs.f_type != kCgroup2Magic) continue;
    std::string path = std::string(root) + "/bpfsim-bench-XXXXXX";
    if (mkdtemp(path.data())) return path;
  }
  return "";
}

struct Live final : Side {
  ~Live() override {
    if (positions) munmap(positions, 2 * kPageSize);
    for (int64_t fd : fds) live::close_fd(fd);
    for (const std::string& path : cgroups) rmdir(path.c_str());
  }
  int64_t bpf(int cmd, bpf_attr& attr) override {
    const int64_t result = live::sys_bpf(cmd, &attr, sizeof attr);
    const bool made =
        cmd == BPF_MAP_CREATE || cmd == BPF_PROG_LOAD || cmd == BPF_BTF_LOAD || cmd == BPF_LINK_CREATE;
    return made ? keep(result) : result;
  }
  void close(int64_t fd) override {
    std::erase(fds, fd);
    live::close_fd(fd);
  }
  int64_t open(Thing thing) override {
    switch (thing) {
      case Thing::None: break;
      case Thing::Socket:
      case Thing::ReuseportSocket:
      case Thing::XdpSocket: return open_socket(thing);
      case Thing::Task: return keep(syscall(SYS_pidfd_open, getpid(), 0));
      case Thing::File: return keep(memfd_create("bench", 0));
      case Thing::Event: {
        perf_event_attr event = an_event();
        return keep(syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
      }
      case Thing::Cgroup:
        cgroups.push_back(make_cgroup());
        return keep(::open(cgroups.back().c_str(), O_RDONLY | O_DIRECTORY));
    }
    return -1;
  }
  // The first two pages of a ring buffer: where the consumer is, which we may write, and where the producer
  // is.
  uint64_t consume(int64_t ring) override {
    if (!positions) {
      void* both = mmap(nullptr, 2 * kPageSize, PROT_READ, MAP_SHARED, int(ring), 0);
      if (both == MAP_FAILED) return 0;
      positions = static_cast<uint64_t*>(both);
      if (mmap(both, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, int(ring), 0) != both)
        return 0;
    }
    volatile uint64_t& producer = positions[kPageSize / sizeof *positions];
    return positions[0] = producer;
  }
  // A tracepoint's program that is run by hand, not attached.
  int64_t put_trace(int64_t map) override {
    bpf_attr run;
    run.test.prog_fd = uint32_t(
        load("r2 = map[m]\nr3 = 0\ncall bpf_get_stackid\nexit\n", map, BPF_PROG_TYPE_RAW_TRACEPOINT));
    return bpf(BPF_PROG_TEST_RUN, run) < 0 ? -1 : int32_t(run.test.retval);
  }

 private:
  int64_t keep(int64_t fd) {
    if (fd >= 0) fds.push_back(fd);
    return fd;
  }
  int64_t open_socket(Thing thing) {
    const OwnNetwork network;
    if (!network.made()) return -1;
    if (thing == Thing::XdpSocket) return keep(::socket(AF_XDP_, SOCK_RAW, 0));
    if (thing == Thing::Socket) {
      int pair[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -1;
      keep(pair[1]);
      return keep(pair[0]);
    }
    const int64_t fd = keep(::socket(AF_INET, SOCK_DGRAM, 0));
    const int on = 1;
    sockaddr_in any{};
    any.sin_family = AF_INET;
    if (::setsockopt(int(fd), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return -1;
    return ::bind(int(fd), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0 ? fd : -1;
  }

  std::vector<int64_t> fds;
  std::vector<std::string> cgroups;
  uint64_t* positions = nullptr;
};
#else
struct Live final : Side {  // never asked: live::permitted() is false
  int64_t bpf(int, bpf_attr&) override { return -1; }
  void close(int64_t) override {}
  int64_t open(Thing) override { return -1; }
  uint64_t consume(int64_t) override { return 0; }
  int64_t put_trace(int64_t) override { return -1; }
};
#endif

}  // namespace bpfsim::bench
