// Models: kernel/events/core.c, kernel/trace/trace_event_perf.c, kernel/trace/bpf_trace.c
// (perf_event_attach_bpf_prog) (Linux 6.18)
//
// The machine's tracepoints and functions, and the life of perf events and of the programs that are set on
// them.
#include "host/tracing.h"

#include <algorithm>

#include "btf/vmlinux.h"
#include "host/bpf_lsm.h"
#include "object/btf.h"
#include "object/file.h"
#include "object/registry.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr size_t BPF_TRACE_MAX_PROGS = 64;

const char* type_name(uint32_t type) {
  switch (type) {
    case PERF_TYPE_SOFTWARE: return "software";
    case PERF_TYPE_TRACEPOINT: return "tracepoint";
    default: return "kprobe";
  }
}

void perf_release(File& file) {
  KFN(file.machine, perf_release);
  auto& event = static_cast<PerfEvent&>(*file.private_data);
  if (!event.refcount.dec_and_test({"file released"})) return;
  perf_event_free_bpf_prog(event);
  emit<LifeEvent>(file.machine, event, "freed");
  delete &event;
}

// Counted in simulated time: what a clock event has seen while it was enabled.
uint64_t count_of(const PerfEvent& event) {
  const bool clock = event.attr.type == PERF_TYPE_SOFTWARE && event.attr.config <= PERF_COUNT_SW_TASK_CLOCK;
  return event.count + (clock && event.enabled ? event.machine.clock.now_ns - event.enabled_at : 0);
}

Result<std::string> perf_read(File& file, size_t size) {
  const auto& event = static_cast<const PerfEvent&>(*file.private_data);
  if (event.attr.read_format)
    return refuse(Errno::Inval, "not modelled yet: read_format {}", event.attr.read_format);
  const uint64_t count = count_of(event);
  if (size < sizeof count) return refuse(Errno::NoSpc, "the count has 8 bytes, {} are asked for", size);
  return std::string(reinterpret_cast<const char*>(&count), sizeof count);
}

void enable(PerfEvent& event, bool on) {
  if (on == event.enabled) return;
  if (!on) event.count = count_of(event);
  event.enabled = on;
  event.enabled_at = event.machine.clock.now_ns;
}

Result<int64_t> perf_ioctl_set_bpf(PerfEvent& event, uint64_t fd) {
  Machine& machine = event.machine;
  Prog& prog = *TRY(bpf_prog_get(machine, int(fd), {"set on a perf event by task {}", machine.current->pid}));
  Holding given(machine, prog, "ioctl(PERF_EVENT_IOC_SET_BPF)");
  Result<void> set = perf_event_set_bpf_prog(event, prog, 0);
  given.release();
  if (set) return 0;
  bpf_prog_put(prog, {"not set"});
  return set.refusal();
}

Result<int64_t> perf_ioctl(File& file, uint32_t cmd, uint64_t arg) {
  KFN(file.machine, perf_ioctl);
  auto& event = static_cast<PerfEvent&>(*file.private_data);
  switch (cmd) {
    case PERF_EVENT_IOC_ENABLE:
    case PERF_EVENT_IOC_DISABLE: enable(event, cmd == PERF_EVENT_IOC_ENABLE); return 0;
    case PERF_EVENT_IOC_RESET:
      event.count = 0;
      event.enabled_at = event.machine.clock.now_ns;
      return 0;
    case PERF_EVENT_IOC_ID: TRY(copy_to_user(event.machine, arg, &event.serial, 8)); return 0;
    case PERF_EVENT_IOC_SET_BPF: return perf_ioctl_set_bpf(event, arg);
    default: return refuse(Errno::NoTty, "a perf event has no ioctl {}", cmd);
  }
}

// bpf_prog_array: a trace event or probe runs each program once.
Result<void> perf_event_attach_bpf_prog(PerfEvent& event, Prog& prog, uint64_t bpf_cookie) {
  KFN(event.machine, perf_event_attach_bpf_prog);
  if (event.prog) return refuse(Errno::Exist, "the event has program {} already", event.prog->id);
  std::vector<Prog*>& array = *event.prog_array();
  if (array.size() >= BPF_TRACE_MAX_PROGS)
    return refuse(Errno::TooBig, "{} programs are attached there already", array.size());
  if (std::find(array.begin(), array.end(), &prog) != array.end())
    return refuse(Errno::Exist, "program {} is attached there already, by another event", prog.id);
  array.push_back(&prog);
  event.prog = &prog;
  event.bpf_cookie = bpf_cookie;
  return {};
}

Result<void> perf_event_set_bpf_handler(PerfEvent& event, Prog& prog, uint64_t bpf_cookie) {
  KFN(event.machine, perf_event_set_bpf_handler);
  if (event.prog) return refuse(Errno::Exist, "the event has program {} already", event.prog->id);
  if (prog.type != BPF_PROG_TYPE_PERF_EVENT)
    return refuse(Errno::Inval, "a clock takes a PERF_EVENT program, this one has type {}", prog.type);
  event.prog = &prog;
  event.bpf_cookie = bpf_cookie;
  return {};
}

}  // namespace

PerfEvent::PerfEvent(Machine& machine, const perf_event_attr& attr, int pid, int cpu)
    : Object(machine, ObjectKind::PerfEvent), attr(attr), pid(pid), cpu(cpu) {
  enable(*this, !(attr.bits & PERF_ATTR_DISABLED));
}

std::string PerfEvent::label() const {
  std::string what = type_name(attr.type);
  if (tracepoint) what += " " + tracepoint->event();
  if (function) what = (is_return ? "kretprobe " : "kprobe ") + function->name;
  return "perf_event " + std::to_string(serial) + " (" + what + ")";
}

void PerfEvent::each_held(const HoldVisitor& visit) const {
  if (prog) visit({prog, Counter::Refs, true, "event->prog"});
}

std::vector<Prog*>* PerfEvent::prog_array() const {
  if (tracepoint) return &tracepoint->progs;
  if (function) return is_return ? &function->return_progs : &function->progs;
  return nullptr;
}

Tracing::Tracing(Machine& machine) : Object(machine, ObjectKind::Kernel) {
  static const struct {
    const char *system, *name;
    uint32_t num_args;
  } raw[] = {
      {"raw_syscalls", "sys_enter", 2},  // struct pt_regs *regs, long id
      {"raw_syscalls", "sys_exit", 2},   // struct pt_regs *regs, long ret
      {"sched", "sched_switch", 4},      // bool preempt, struct task_struct *prev, *next, unsigned prev_state
      {"sched", "sched_wakeup", 1},      // struct task_struct *p
      {"sched", "sched_process_fork", 2}, {"sched", "sched_process_exec", 3},
      {"sched", "sched_process_exit", 2}, {"xdp", "xdp_exception", 3},
      {"net", "netif_receive_skb", 1},    {"skb", "kfree_skb", 4},
  };
  for (const auto& row : raw) add_tracepoint(row.system, row.name, row.num_args);
  // Fields behind the 8 bytes that every record begins with, as in the format files of 6.18.
  static const struct {
    const char* name;
    uint32_t record_size;
  } syscalls[] = {
      {"sys_enter_bpf", 40}, {"sys_exit_bpf", 24}, {"sys_enter_openat", 48}, {"sys_exit_openat", 24}};
  for (const auto& row : syscalls) {
    Tracepoint& made = add_tracepoint("syscalls", row.name, 0);
    made.is_raw = false;
    made.record_size = row.record_size;
  }
  raw_tracepoint("sys_enter")->record_size = 64;
  raw_tracepoint("sys_exit")->record_size = 24;
  raw_tracepoint("sched_switch")->record_size = 64;
  raw_tracepoint("sched_wakeup")->record_size = 36;
  raw_tracepoint("sched_process_fork")->record_size = 24;
  raw_tracepoint("sched_process_exec")->record_size = 20;
  raw_tracepoint("sched_process_exit")->record_size = 36;
  raw_tracepoint("xdp_exception")->record_size = 20;
  raw_tracepoint("netif_receive_skb")->record_size = 24;
  raw_tracepoint("kfree_skb")->record_size = 48;
  for (const char* name :
       {"__x64_sys_bpf", "__x64_sys_openat", "__x64_sys_clone", "do_sys_openat2", "vfs_read", "vfs_write",
        "wake_up_new_task", "do_exit", "netif_receive_skb", "tcp_connect"})
    add_function(name);
}

void Tracing::each_held(const HoldVisitor& visit) const {
  if (btf_vmlinux) visit({btf_vmlinux, Counter::Refs, true, "btf_vmlinux"});
  for (const Tracepoint& tracepoint : tracepoints)
    for (const Link* link : tracepoint.links)
      visit({link, Counter::Refs, false, "raw tracepoint " + tracepoint.name});
  for (const KernelFunction& function : functions) {
    for (const Link* link : function.fprobes)
      visit({link, Counter::Refs, false, "function " + function.name});
    for (const Link* link : function.trampoline.links)
      visit({link, Counter::Refs, false, "trampoline of " + function.name});
  }
  for (const Uprobe& uprobe : bash.uprobes) visit({uprobe.link, Counter::Refs, false, "file " + bash.path});
}

Tracepoint* Tracing::raw_tracepoint(const std::string& name) {
  for (Tracepoint& tracepoint : tracepoints)
    if (tracepoint.is_raw && tracepoint.name == name) return &tracepoint;
  return nullptr;
}

Tracepoint* Tracing::trace_event(uint32_t id) {
  for (Tracepoint& tracepoint : tracepoints)
    if (id && tracepoint.event_id == id) return &tracepoint;
  return nullptr;
}

KernelFunction* Tracing::function(const std::string& name) {
  for (KernelFunction& function : functions)
    if (function.name == name) return &function;
  return bpf_lsm_is_hook(name) ? &add_function(name) : nullptr;
}

Tracepoint& Tracing::add_tracepoint(const std::string& system, const std::string& name, uint32_t num_args) {
  for (Tracepoint& tracepoint : tracepoints)
    if (tracepoint.system == system && tracepoint.name == name) return tracepoint;
  constexpr uint32_t kFirstEvent = 100;
  return tracepoints.emplace_back(Tracepoint{.system = system,
                                             .name = name,
                                             .num_args = num_args,
                                             .event_id = kFirstEvent + uint32_t(tracepoints.size()),
                                             .record_size = 8 + num_args * 8});
}

KernelFunction& Tracing::add_function(const std::string& name) {
  for (KernelFunction& function : functions)
    if (function.name == name) return function;
  constexpr Addr kKernelText = 0xffffffff81000000;
  return functions.emplace_back(KernelFunction{name, kKernelText + functions.size() * KernelFunction::kSize});
}

Tracing& tracing(Machine& machine) {
  if (!machine.tracing) machine.tracing = std::make_shared<Tracing>(machine);
  return *machine.tracing;
}

void register_vmlinux_btf(Machine& machine) {
  if (!machine.config.on("CONFIG_DEBUG_INFO_BTF") || !has(Gate::vmlinux_btf, machine.version)) return;
  const VmlinuxBtf& vmlinux = vmlinux_btf();
  Btf& btf = *new Btf(machine, vmlinux.data, vmlinux.types);
  btf.kernel_btf = true;
  btf.name = "vmlinux";
  btf.refcnt.inc({"the kernel's own"});
  if (has(Gate::vmlinux_btf_id, machine.version)) btf.id = machine.registry->btf_idr.alloc(&btf);
  tracing(machine).btf_vmlinux = &btf;
}

void tracing_exit(Machine& machine) {
  if (!machine.tracing) return;
  if (Btf* btf = std::exchange(machine.tracing->btf_vmlinux, nullptr)) btf_put(*btf, {"the machine halts"});
}

PerfEvent* perf_event_of(const File& file) {
  return &file.f_op == &perf_fops ? static_cast<PerfEvent*>(file.private_data) : nullptr;
}

Result<File*> perf_event_get(Machine& machine, int fd, const Cause& cause) {
  File* file = current_task(machine).files.get(fd);
  if (!file) return refuse(Errno::BadF, "fd {} is not open", fd);
  if (!perf_event_of(*file))
    return refuse(Errno::BadF, "fd {} is a {}, not a perf event", fd, file->f_op.name);
  get_file(*file, cause);
  return file;
}

Result<void> perf_event_set_bpf_prog(PerfEvent& event, Prog& prog, uint64_t bpf_cookie) {
  KFN(event.machine, perf_event_set_bpf_prog);
  if (!event.is_tracing()) return perf_event_set_bpf_handler(event, prog, bpf_cookie);
  const bpf_prog_type wanted = event.function ? BPF_PROG_TYPE_KPROBE : BPF_PROG_TYPE_TRACEPOINT;
  if (prog.type != wanted)
    return refuse(Errno::Inval, "the event takes programs of type {}, not {}", wanted, prog.type);
  if (event.function && prog.aux->sleepable)
    return refuse(Errno::Inval, "a kprobe's program cannot be sleepable");
  if (event.tracepoint && prog.aux->max_ctx_offset > event.tracepoint->record_size)
    return refuse(Errno::Access, "the program reads {} bytes of a record that has {}",
                  prog.aux->max_ctx_offset, event.tracepoint->record_size);
  return perf_event_attach_bpf_prog(event, prog, bpf_cookie);
}

void perf_event_free_bpf_prog(PerfEvent& event) {
  KFN(event.machine, perf_event_free_bpf_prog);
  Prog* prog = std::exchange(event.prog, nullptr);
  if (!prog) return;
  if (std::vector<Prog*>* array = event.prog_array()) std::erase(*array, prog);
  bpf_prog_put(*prog, {"off its perf event"});
}

const FileOps perf_fops = {.name = "[perf_event]",
                           .release = perf_release,
                           .show_fdinfo = nullptr,
                           .holds = Counter::Refs,
                           .read = perf_read,
                           .unlocked_ioctl = perf_ioctl};

}  // namespace bpfsim
