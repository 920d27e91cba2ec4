// Models: kernel/events/core.c (struct perf_event), kernel/trace/bpf_trace.c (bpf_raw_event_map),
// include/linux/tracepoint.h (Linux 6.18)
//
// What tracing programs meet: the tracepoints and functions that this machine's kernel has, and perf events.
// One small table of each stands here, and a teacher may add to it. A raw tracepoint hands its arguments to
// the links on its list; a trace event and a probe are reached through a perf event, a file of
// perf_event_open(2), which holds the program that was set on it. The object "kernel" is what lives as long
// as the machine does, and holds its vmlinux BTF.
//
// Not modelled yet: that they fire. A tracepoint, function or clock takes programs and holds them as the
// kernel does, and never calls them.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "object/link.h"
#include "object/prog.h"
#include "uapi/perf_event.h"

namespace bpfsim {

struct File;
struct Btf;
struct SeqFile;

struct Tracepoint {
  std::string system, name;       // "raw_syscalls", "sys_enter"
  uint32_t num_args;              // of a raw tracepoint, 8 bytes each
  uint32_t event_id = 0;          // as /sys/kernel/tracing/events/SYSTEM/NAME/id; 0: it has no trace event
  uint32_t record_size = 0;       // what a trace event's program may read
  bool is_raw = true;             // false: a trace event only (syscalls:sys_enter_bpf)
  uint32_t writable_size = 0;     // bytes behind the first argument that a writable program may change
  std::vector<Link*> links = {};  // raw tracepoint programs, in the order in which they came
  std::vector<Prog*> progs = {};  // of perf events on the trace event (bpf_prog_array)
  std::string event() const { return system + ":" + name; }
};

struct KernelFunction {
  std::string name;
  Addr addr;
  std::vector<Prog*> progs = {}, return_progs = {};  // of kprobes and kretprobes on it
  Trampoline trampoline = {};                        // fentry, fexit, fmod_ret and LSM programs
  std::vector<Link*> fprobes = {};                   // kprobe_multi programs
  static constexpr uint64_t kSize = 0x400;           // of its code
};

// A file that tasks run, and the places in it where programs would be called.
struct Uprobe {
  uint64_t offset = 0, ref_ctr_offset = 0, cookie = 0;
  Link* link = nullptr;
};
struct ProbedFile {
  std::string path;
  uint64_t size;
  std::vector<Uprobe> uprobes = {};
};

// struct perf_event. Its descriptor is a file "[perf_event]", and maps and links hold that file.
struct PerfEvent final : Object {
  PerfEvent(Machine& machine, const perf_event_attr& attr, int pid, int cpu);
  std::string label() const override;  // "perf_event 3 (tracepoint sched:sched_switch)"
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter counter) const override {
    return counter == Counter::Refs ? &refcount : nullptr;
  }

  const perf_event_attr attr;
  const int pid, cpu;                  // -1: any
  Tracepoint* tracepoint = nullptr;    // PERF_TYPE_TRACEPOINT
  KernelFunction* function = nullptr;  // PERF_TYPE_KPROBE
  uint64_t probe_offset = 0;
  bool is_return = false;
  bool by_address = false;  // the caller gave no name for the function
  bool enabled = false;
  uint64_t enabled_at = 0, count = 0;
  Prog* prog = nullptr;
  uint64_t bpf_cookie = 0;
  Refcount refcount{*this, Counter::Refs};

  bool is_tracing() const { return tracepoint || function; }
  // The programs of what it listens to; null for a clock.
  std::vector<Prog*>* prog_array() const;
};

struct Tracing final : Object {
  explicit Tracing(Machine& machine);
  std::string label() const override { return "kernel"; }
  bool is_root() const override { return true; }
  void each_held(const HoldVisitor&) const override;

  std::deque<Tracepoint> tracepoints;
  std::deque<KernelFunction> functions;
  ProbedFile bash{"/bin/bash", 1265648};  // the one file that every task runs; as large as on Debian 12
  Btf* btf_vmlinux = nullptr;
  std::map<Addr, SeqFile*> seq_files;  // by the address that programs know

  Tracepoint* raw_tracepoint(const std::string& name);
  Tracepoint* trace_event(uint32_t id);
  // The hooks of LSM programs (bpf_lsm.h) are there when they are first asked for.
  KernelFunction* function(const std::string& name);
  // For a teacher's own; an existing one of that name is given back as it is.
  Tracepoint& add_tracepoint(const std::string& system, const std::string& name, uint32_t num_args);
  KernelFunction& add_function(const std::string& name);
};

// The machine's, made when first asked for.
Tracing& tracing(Machine& machine);
// At boot: the machine's own BTF becomes an object, with an id where the version gives it one. And at halt.
void register_vmlinux_btf(Machine& machine);
void tracing_exit(Machine& machine);

// The file behind a descriptor of the current task if it is a perf event, with a reference: EBADF otherwise.
Result<File*> perf_event_get(Machine& machine, int fd, const Cause& cause);
PerfEvent* perf_event_of(const File& file);  // null: another kind of file

// Sets a program on an event, which takes over the caller's reference; and takes it off again.
Result<void> perf_event_set_bpf_prog(PerfEvent& event, Prog& prog, uint64_t bpf_cookie);
void perf_event_free_bpf_prog(PerfEvent& event);

extern const FileOps perf_fops;

}  // namespace bpfsim
