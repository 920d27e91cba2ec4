// Models: kernel/trace/bpf_trace.c (bpf_kprobe_multi_link_attach, bpf_uprobe_multi_link_attach) (Linux 6.18)
//
// Links of one program to many places at once: kernel functions, by name or address, and offsets in a file
// that tasks run. Each place may have a cookie, by which the program would know where it was called. What a
// link is tied to can be read from it again. The checks are those of 6.18 on every version; what each version
// lacks altogether (session programs, the attach types) the tables say.
//
// Not modelled yet: that these programs run. Departs from the kernel: 6.18 prints a kprobe_multi link without
// cookies in fdinfo from a null pointer (mended later); here its cookies are 0. From source, not measured:
// what an attached link tells, since attaching would touch the host.
#include <algorithm>
#include <numeric>
#include <tuple>

#include "hook/attach.h"
#include "hook/hook.h"
#include "host/tracing.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t MAX_MULTI_CNT = 1u << 20;

Result<std::vector<uint64_t>> copy_numbers(Machine& machine, uint64_t user, uint32_t count) {
  std::vector<uint64_t> numbers(count);
  TRY(copy_from_user(machine, numbers.data(), user, uint64_t(count) * sizeof numbers[0]));
  return numbers;
}

Result<void> show_numbers(Machine& machine, uint64_t user, const std::vector<uint64_t>& numbers,
                          uint32_t room) {
  const size_t shown = std::min<size_t>(room, numbers.size());
  return copy_to_user(machine, user, numbers.data(), shown * sizeof numbers[0]);
}

// Kernel functions.

struct KprobeMultiLink final : Link {
  KprobeMultiLink(Prog& prog, std::vector<uint64_t> addrs, std::vector<uint64_t> cookies, uint32_t flags);
  const std::vector<uint64_t> addrs;
  const std::vector<uint64_t> cookies;  // by the same index
  const uint32_t flags;
};
const KprobeMultiLink& kprobe_multi(const Link& link) { return static_cast<const KprobeMultiLink&>(link); }

KernelFunction* function_at(Machine& machine, uint64_t addr) {
  for (KernelFunction& function : tracing(machine).functions)
    if (function.addr == addr) return &function;
  return nullptr;
}

void bpf_kprobe_multi_link_release(Link& link) {
  KFN(link.machine, bpf_kprobe_multi_link_release);
  for (KernelFunction& function : tracing(link.machine).functions) std::erase(function.fprobes, &link);
}

std::string bpf_kprobe_multi_show_fdinfo(const Link& link) {
  if (!has(Gate::link_cookie_fdinfo, link.machine.version)) return "";
  const KprobeMultiLink& multi = kprobe_multi(link);
  std::string lines = "kprobe_cnt:\t" + std::to_string(multi.addrs.size()) + "\nmissed:\t0\ncookie\t func\n";
  for (size_t i = 0; i < multi.addrs.size(); ++i) {
    const KernelFunction* function = function_at(link.machine, multi.addrs[i]);
    lines += std::to_string(multi.cookies[i]) + "\t " + function->name + "+0x0/" +
             hex(KernelFunction::kSize) + "\n";
  }
  return lines;
}

// Addresses are for who may see kernel addresses; others read zeros.
Result<void> bpf_kprobe_multi_link_fill_link_info(const Link& link, bpf_link_info& info) {
  const KprobeMultiLink& multi = kprobe_multi(link);
  auto& out = info.kprobe_multi;
  const uint32_t room = out.count;
  if (!out.addrs != !room) return refuse(Errno::Inval, "addrs and count belong together");
  if (out.cookies && !room) return refuse(Errno::Inval, "cookies need a count");
  out.count = uint32_t(multi.addrs.size());
  out.flags = multi.flags;
  out.missed = 0;
  if (!out.addrs) return {};
  const bool visible = capable(link.machine, CAP_SYSLOG);
  if (out.cookies) TRY(show_numbers(link.machine, out.cookies, multi.cookies, room));
  TRY(show_numbers(link.machine, out.addrs, visible ? multi.addrs : std::vector<uint64_t>(out.count), room));
  if (room < out.count) return refuse(Errno::NoSpc, "{} functions, room for {}", out.count, room);
  return {};
}

const LinkOps bpf_kprobe_multi_link_lops = {.name = "kprobe_multi",
                                            .release = bpf_kprobe_multi_link_release,
                                            .detach = nullptr,
                                            .update_prog = nullptr,
                                            .show_fdinfo = bpf_kprobe_multi_show_fdinfo,
                                            .fill_link_info = bpf_kprobe_multi_link_fill_link_info};

KprobeMultiLink::KprobeMultiLink(Prog& prog, std::vector<uint64_t> addrs, std::vector<uint64_t> cookies,
                                 uint32_t flags)
    : Link(prog.machine, BPF_LINK_TYPE_KPROBE_MULTI, bpf_kprobe_multi_link_lops, &prog,
           prog.expected_attach_type),
      addrs(std::move(addrs)),
      cookies(std::move(cookies)),
      flags(flags) {}

Result<std::vector<std::string>> copy_user_syms(Machine& machine, uint64_t usyms, uint32_t count) {
  constexpr size_t KSYM_NAME_LEN = 512;
  std::vector<std::string> syms;
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t name = 0;
    TRY(copy_from_user(machine, &name, usyms + i * sizeof name, sizeof name));
    syms.push_back(TRY(strncpy_from_user(machine, name, KSYM_NAME_LEN)));
  }
  return syms;
}

// In the order of the names, each of which must be a function and stand there once.
Result<std::vector<uint64_t>> ftrace_lookup_symbols(Machine& machine, std::vector<std::string>& syms,
                                                    std::vector<uint64_t>& cookies) {
  std::vector<size_t> order(syms.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return syms[a] < syms[b]; });
  std::vector<uint64_t> addrs, sorted_cookies;
  for (size_t i = 0; i < order.size(); ++i) {
    const std::string& name = syms[order[i]];
    const KernelFunction* function = tracing(machine).function(name);
    if (!function) return refuse(Errno::Srch, "this machine has no function {}", name);
    if (i && name == syms[order[i - 1]]) return refuse(Errno::Srch, "{} is named twice", name);
    addrs.push_back(function->addr);
    if (!cookies.empty()) sorted_cookies.push_back(cookies[order[i]]);
  }
  cookies = std::move(sorted_cookies);
  return addrs;
}

void sort_by_address(std::vector<uint64_t>& addrs, std::vector<uint64_t>& cookies) {
  std::vector<std::pair<uint64_t, uint64_t>> both;
  for (size_t i = 0; i < addrs.size(); ++i) both.emplace_back(addrs[i], cookies[i]);
  std::sort(both.begin(), both.end());
  for (size_t i = 0; i < both.size(); ++i) std::tie(addrs[i], cookies[i]) = both[i];
}

// Offsets in a file.

struct UprobeMultiLink final : Link {
  UprobeMultiLink(Prog& prog, ProbedFile& file, std::vector<Uprobe> uprobes, const Task* task,
                  uint32_t flags);
  ProbedFile& file;
  const std::vector<Uprobe> uprobes;
  const Task* task;  // only in this one; null: in all
  const uint32_t flags;
  int pid() const { return task && !task->exited ? task->pid : 0; }
};
const UprobeMultiLink& uprobe_multi(const Link& link) { return static_cast<const UprobeMultiLink&>(link); }

void bpf_uprobe_unregister(ProbedFile& file, const Link& link) {
  std::erase_if(file.uprobes, [&](const Uprobe& uprobe) { return uprobe.link == &link; });
}

void bpf_uprobe_multi_link_release(Link& link) {
  KFN(link.machine, bpf_uprobe_multi_link_release);
  bpf_uprobe_unregister(uprobe_multi(link).file, link);
}

std::string bpf_uprobe_multi_show_fdinfo(const Link& link) {
  if (!has(Gate::link_cookie_fdinfo, link.machine.version)) return "";
  const UprobeMultiLink& multi = uprobe_multi(link);
  std::string lines = "uprobe_cnt:\t" + std::to_string(multi.uprobes.size()) + "\npid:\t" +
                      std::to_string(multi.pid()) + "\npath:\t" + multi.file.path +
                      "\ncookie\t offset\t ref_ctr_offset\n";
  for (const Uprobe& uprobe : multi.uprobes)
    lines += std::to_string(uprobe.cookie) + "\t " + hex(uprobe.offset) + "\t " + hex(uprobe.ref_ctr_offset) +
             "\n";
  return lines;
}

Result<void> fill_path(Machine& machine, const std::string& path, uint64_t to, uint32_t& size) {
  const uint32_t needed = uint32_t(path.size()) + 1;
  if (size && size < needed) return refuse(Errno::NameTooLong, "the path needs {} bytes", needed);
  if (to) TRY(copy_to_user(machine, to, path.c_str(), needed));
  size = needed;
  return {};
}

Result<void> bpf_uprobe_multi_link_fill_link_info(const Link& link, bpf_link_info& info) {
  const UprobeMultiLink& multi = uprobe_multi(link);
  auto& out = info.uprobe_multi;
  const uint32_t room = out.count;
  if (!out.path != !out.path_size) return refuse(Errno::Inval, "path and path_size belong together");
  const bool lists = out.offsets || out.ref_ctr_offsets || out.cookies;
  if (lists && !room) return refuse(Errno::Inval, "offsets, counters and cookies need a count");
  out.count = uint32_t(multi.uprobes.size());
  out.flags = multi.flags;
  out.pid = uint32_t(multi.pid());
  TRY(fill_path(link.machine, multi.file.path, out.path, out.path_size));
  for (auto [user, field] : {std::pair{out.offsets, &Uprobe::offset},
                             {out.ref_ctr_offsets, &Uprobe::ref_ctr_offset},
                             {out.cookies, &Uprobe::cookie}}) {
    std::vector<uint64_t> numbers;
    for (const Uprobe& uprobe : multi.uprobes) numbers.push_back(uprobe.*field);
    if (user) TRY(show_numbers(link.machine, user, numbers, room));
  }
  if (lists && room < out.count) return refuse(Errno::NoSpc, "{} places, room for {}", out.count, room);
  return {};
}

const LinkOps bpf_uprobe_multi_link_lops = {.name = "uprobe_multi",
                                            .release = bpf_uprobe_multi_link_release,
                                            .detach = nullptr,
                                            .update_prog = nullptr,
                                            .show_fdinfo = bpf_uprobe_multi_show_fdinfo,
                                            .fill_link_info = bpf_uprobe_multi_link_fill_link_info};

UprobeMultiLink::UprobeMultiLink(Prog& prog, ProbedFile& file, std::vector<Uprobe> uprobes, const Task* task,
                                 uint32_t flags)
    : Link(prog.machine, BPF_LINK_TYPE_UPROBE_MULTI, bpf_uprobe_multi_link_lops, &prog,
           prog.expected_attach_type),
      file(file),
      uprobes(std::move(uprobes)),
      task(task),
      flags(flags) {}

Result<void> uprobe_register(ProbedFile& file, const Uprobe& uprobe) {
  if (uprobe.offset > file.size)
    return refuse(Errno::Inval, "offset {} is behind the end of {}", uprobe.offset, file.path);
  if (uprobe.ref_ctr_offset % 2)
    return refuse(Errno::Inval, "ref_ctr_offset {} is not aligned to 2", uprobe.ref_ctr_offset);
  for (const Uprobe& other : file.uprobes)
    if (other.offset == uprobe.offset && other.ref_ctr_offset != uprobe.ref_ctr_offset)
      return refuse(Errno::Inval, "offset {} has the ref_ctr_offset {} already", uprobe.offset,
                    other.ref_ctr_offset);
  file.uprobes.push_back(uprobe);
  return {};
}

Result<std::vector<Uprobe>> copy_uprobes(Machine& machine, const bpf_attr& attr) {
  const auto& create = attr.link_create.uprobe_multi;
  std::vector<Uprobe> uprobes(create.cnt);
  for (auto [user, field] : {std::pair{create.offsets, &Uprobe::offset},
                             {create.ref_ctr_offsets, &Uprobe::ref_ctr_offset},
                             {create.cookies, &Uprobe::cookie}}) {
    if (!user) continue;
    const std::vector<uint64_t> numbers = TRY(copy_numbers(machine, user, create.cnt));
    for (uint32_t i = 0; i < create.cnt; ++i) uprobes[i].*field = numbers[i];
  }
  for (const Uprobe& uprobe : uprobes)
    if (int64_t(uprobe.offset) < 0)
      return refuse(Errno::Inval, "offset {} is negative", int64_t(uprobe.offset));
  return uprobes;
}

Result<const Task*> get_pid_task(Machine& machine, uint32_t pid) {
  if (!pid) return nullptr;
  if (const Task* task = find_task_by_vpid(machine, int(pid)); task && !task->exited) return task;
  return refuse(Errno::Srch, "no task has the pid {}", pid);
}

}  // namespace

Result<Link*> bpf_kprobe_multi_link_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_kprobe_multi_link_attach);
  const auto& create = attr.link_create.kprobe_multi;
  if (!machine.config.on("CONFIG_FPROBE"))
    return refuse(Errno::OpNotSupp, "this machine has no CONFIG_FPROBE");
  if (attr.link_create.flags)
    return refuse(Errno::Inval, "flags {} have no meaning here", attr.link_create.flags);
  if (prog.expected_attach_type != BPF_TRACE_KPROBE_MULTI &&
      prog.expected_attach_type != BPF_TRACE_KPROBE_SESSION)
    return refuse(Errno::Inval, "the program was not loaded for many functions");
  if (prog.aux->sleepable) return refuse(Errno::Inval, "a sleepable program cannot run at a kernel function");
  if (create.flags & ~BPF_F_KPROBE_MULTI_RETURN)
    return refuse(Errno::Inval, "kprobe_multi.flags {}: only BPF_F_KPROBE_MULTI_RETURN may be", create.flags);
  if (!create.addrs == !create.syms) return refuse(Errno::Inval, "addrs or syms, one of them");
  if (!create.cnt) return refuse(Errno::Inval, "cnt is 0");
  if (create.cnt > MAX_MULTI_CNT)
    return refuse(Errno::TooBig, "cnt {} is more than {}", create.cnt, MAX_MULTI_CNT);
  std::vector<uint64_t> addrs, cookies;
  if (create.cookies) cookies = TRY(copy_numbers(machine, create.cookies, create.cnt));
  if (create.addrs) {
    addrs = TRY(copy_numbers(machine, create.addrs, create.cnt));
  } else {
    std::vector<std::string> syms = TRY(copy_user_syms(machine, create.syms, create.cnt));
    addrs = TRY(ftrace_lookup_symbols(machine, syms, cookies));
  }
  for (uint64_t addr : addrs)
    if (!function_at(machine, addr)) return refuse(Errno::Inval, "no function begins at address {}", addr);
  if (create.cookies) sort_by_address(addrs, cookies);
  cookies.resize(addrs.size());
  auto* link = new KprobeMultiLink(prog, std::move(addrs), std::move(cookies), create.flags);
  for (uint64_t addr : link->addrs) function_at(machine, addr)->fprobes.push_back(link);
  return link;
}

Result<Link*> bpf_uprobe_multi_link_attach(Prog& prog, const bpf_attr& attr, KernPath kern_path) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_uprobe_multi_link_attach);
  const auto& create = attr.link_create.uprobe_multi;
  if (!machine.config.on("CONFIG_UPROBES"))
    return refuse(Errno::OpNotSupp, "this machine has no CONFIG_UPROBES");
  if (attr.link_create.flags)
    return refuse(Errno::Inval, "flags {} have no meaning here", attr.link_create.flags);
  if (prog.expected_attach_type != BPF_TRACE_UPROBE_MULTI &&
      prog.expected_attach_type != BPF_TRACE_UPROBE_SESSION)
    return refuse(Errno::Inval, "the program was not loaded for many uprobes");
  if (create.flags & ~BPF_F_UPROBE_MULTI_RETURN)
    return refuse(Errno::Inval, "uprobe_multi.flags {}: only BPF_F_UPROBE_MULTI_RETURN may be", create.flags);
  if (!create.path || !create.offsets || !create.cnt || int32_t(create.pid) < 0)
    return refuse(Errno::Inval, "path, offsets and cnt are needed, and a pid of 0 or more");
  if (create.cnt > MAX_MULTI_CNT)
    return refuse(Errno::TooBig, "cnt {} is more than {}", create.cnt, MAX_MULTI_CNT);
  constexpr size_t kPathMax = 4096;
  const Result<std::string> path = strncpy_from_user(machine, create.path, kPathMax);
  if (path.err() == Errno::TooBig) return refuse(Errno::Inval, "a path has at most {} bytes", kPathMax - 1);
  if (!path) return path.refusal();
  ProbedFile* file = TRY(kern_path(machine, *path));
  const Task* task = TRY(get_pid_task(machine, create.pid));
  std::vector<Uprobe> uprobes = TRY(copy_uprobes(machine, attr));
  if (!file) return refuse(Errno::Io, "{} is no file that can be run", *path);
  auto* link = new UprobeMultiLink(prog, *file, uprobes, task, create.flags);
  for (Uprobe& uprobe : uprobes) {
    uprobe.link = link;
    if (Result<void> done = uprobe_register(*file, uprobe); !done) {
      bpf_uprobe_unregister(*file, *link);
      delete link;
      return done.refusal();
    }
  }
  return link;
}

}  // namespace bpfsim
