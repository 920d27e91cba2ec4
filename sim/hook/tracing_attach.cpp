// Models: kernel/bpf/syscall.c (bpf_raw_tp_link_attach, bpf_perf_link_attach, bpf_tracing_prog_attach),
// kernel/trace/bpf_trace.c (bpf_probe_register) (Linux 6.18)
//
// Links of tracing programs: to a raw tracepoint, to a perf event, to a kernel function by its BTF id. Each
// is attached for real and holds what the kernel's holds (those to many functions: multi_probes.cpp). A link
// to a function of another program, which an extension replaces or a tracing program watches, holds that
// program: the attached program lets it go. The lines of fdinfo for these links are from source, not
// measured: that would take an attachment to the host.
#include <algorithm>

#include "hook/hook.h"
#include "hook/trampoline.h"
#include "host/tracing.h"
#include "object/btf.h"
#include "object/file.h"
#include "uapi/gates.h"
#include "verifier/attach_target.h"

namespace bpfsim {

namespace {

struct RawTpLink final : Link {
  RawTpLink(Prog& prog, Tracepoint& btp, uint64_t cookie);
  Tracepoint& btp;
  const uint64_t cookie;
};

struct PerfLink final : Link {
  PerfLink(Prog& prog, File& perf_file);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    visit({&perf_file, Counter::Refs, true, "perf_link->perf_file"});
  }
  PerfEvent& event() const { return *perf_event_of(perf_file); }
  File& perf_file;
};

struct TracingLink final : Link {
  TracingLink(Prog& prog, bpf_attach_type attach_type, uint64_t cookie);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    if (tgt_prog) visit({tgt_prog, Counter::Refs, true, "tr_link->tgt_prog"});
  }
  uint32_t target_obj_id() const { return uint32_t(key >> 32); }
  uint32_t target_btf_id() const { return uint32_t(key) & 0x7fffffff; }
  Trampoline* trampoline = nullptr;
  Prog* tgt_prog = nullptr;  // null for a function of the kernel's
  uint64_t key = 0;
  const uint64_t cookie;
};

// Raw tracepoints.

RawTpLink& raw_tp(Link& link) { return static_cast<RawTpLink&>(link); }
const RawTpLink& raw_tp(const Link& link) { return static_cast<const RawTpLink&>(link); }

void bpf_raw_tp_link_release(Link& link) {
  KFN(link.machine, bpf_raw_tp_link_release);
  std::erase(raw_tp(link).btp.links, &link);
}

std::string bpf_raw_tp_link_show_fdinfo(const Link& link) {
  std::string lines = "tp_name:\t" + raw_tp(link).btp.name + "\n";
  if (has(Gate::link_cookie_fdinfo, link.machine.version))
    lines += "cookie:\t" + std::to_string(raw_tp(link).cookie) + "\n";
  return lines;
}

Result<void> bpf_raw_tp_link_fill_link_info(const Link& link, bpf_link_info& info) {
  auto& raw = info.raw_tracepoint;
  if (!raw.tp_name_len != !raw.tp_name)
    return refuse(Errno::Inval, "a name's buffer and its length belong together");
  raw.cookie = raw_tp(link).cookie;
  return fill_name(link.machine, raw_tp(link).btp.name, raw.tp_name, raw.tp_name_len);
}

const LinkOps bpf_raw_tp_link_lops = {.name = "raw_tracepoint",
                                      .release = bpf_raw_tp_link_release,
                                      .detach = nullptr,
                                      .update_prog = nullptr,
                                      .show_fdinfo = bpf_raw_tp_link_show_fdinfo,
                                      .fill_link_info = bpf_raw_tp_link_fill_link_info};

RawTpLink::RawTpLink(Prog& prog, Tracepoint& btp, uint64_t cookie)
    : Link(prog.machine, BPF_LINK_TYPE_RAW_TRACEPOINT, bpf_raw_tp_link_lops, &prog, BPF_TRACE_RAW_TP),
      btp(btp),
      cookie(cookie) {}

Result<void> bpf_probe_register(RawTpLink& link) {
  KFN(link.machine, bpf_probe_register);
  const ProgAux& aux = *link.prog->aux;
  if (aux.max_ctx_offset > link.btp.num_args * 8)
    return refuse(Errno::Inval, "the program reads {} bytes of arguments, the tracepoint has {}",
                  aux.max_ctx_offset, link.btp.num_args * 8);
  if (aux.max_tp_access > link.btp.writable_size)
    return refuse(Errno::Inval, "the program touches {} bytes of a buffer of which {} are writable",
                  aux.max_tp_access, link.btp.writable_size);
  link.btp.links.push_back(&link);
  return {};
}

// Perf events.

PerfLink& perf_link(Link& link) { return static_cast<PerfLink&>(link); }
const PerfLink& perf_link(const Link& link) { return static_cast<const PerfLink&>(link); }

void bpf_perf_link_release(Link& link) {
  KFN(link.machine, bpf_perf_link_release);
  perf_event_free_bpf_prog(perf_link(link).event());
  fput(perf_link(link).perf_file, {"its link is released"});
}

Result<void> bpf_perf_link_fill_link_info(const Link& link, bpf_link_info& info) {
  const PerfEvent& event = perf_link(link).event();
  auto& out = info.perf_event;
  if (event.tracepoint) {
    TRY(fill_name(link.machine, event.tracepoint->name, out.tracepoint.tp_name, out.tracepoint.name_len));
    out.type = BPF_PERF_EVENT_TRACEPOINT;
    out.tracepoint.cookie = event.bpf_cookie;
  } else if (event.function) {
    const std::string name = event.by_address ? "" : event.function->name;
    TRY(fill_name(link.machine, name, out.kprobe.func_name, out.kprobe.name_len));
    out.type = event.is_return ? BPF_PERF_EVENT_KRETPROBE : BPF_PERF_EVENT_KPROBE;
    out.kprobe.offset = uint32_t(event.probe_offset);
    out.kprobe.addr = event.function->addr + event.probe_offset;
    out.kprobe.missed = 0;
    out.kprobe.cookie = event.bpf_cookie;
  } else {
    out.event.type = event.attr.type;
    out.event.config = event.attr.config;
    out.event.cookie = event.bpf_cookie;
    out.type = BPF_PERF_EVENT_EVENT;
  }
  return {};
}

std::string bpf_perf_link_show_fdinfo(const Link& link) {
  if (!has(Gate::link_cookie_fdinfo, link.machine.version)) return "";
  const PerfEvent& event = perf_link(link).event();
  std::string lines;
  if (event.tracepoint)
    lines = "tp_name:\t" + event.tracepoint->name + "\nevent_type:\ttracepoint\n";
  else if (event.function)
    lines = "name:\t" + (event.by_address ? "(null)" : event.function->name) + "\noffset:\t" +
            hex(event.probe_offset) + "\nmissed:\t0\naddr:\t" +
            hex(event.function->addr + event.probe_offset) + "\nevent_type:\t" +
            (event.is_return ? "kretprobe" : "kprobe") + "\n";
  else
    lines = "type:\t" + std::to_string(event.attr.type) + "\nconfig:\t" + std::to_string(event.attr.config) +
            "\nevent_type:\tevent\n";
  return lines + "cookie:\t" + std::to_string(event.bpf_cookie) + "\n";
}

const LinkOps bpf_perf_link_lops = {.name = "perf_event",
                                    .release = bpf_perf_link_release,
                                    .detach = nullptr,
                                    .update_prog = nullptr,
                                    .show_fdinfo = bpf_perf_link_show_fdinfo,
                                    .fill_link_info = bpf_perf_link_fill_link_info};

PerfLink::PerfLink(Prog& prog, File& perf_file)
    : Link(prog.machine, BPF_LINK_TYPE_PERF_EVENT, bpf_perf_link_lops, &prog, BPF_PERF_EVENT),
      perf_file(perf_file) {}

// Functions, through their trampoline.

TracingLink& tracing_link(Link& link) { return static_cast<TracingLink&>(link); }
const TracingLink& tracing_link(const Link& link) { return static_cast<const TracingLink&>(link); }

void bpf_tracing_link_release(Link& link) {
  KFN(link.machine, bpf_tracing_link_release);
  TracingLink& tracing = tracing_link(link);
  bpf_trampoline_unlink_prog(*tracing.trampoline, link, tracing.tgt_prog);
  if (Prog* target = std::exchange(tracing.tgt_prog, nullptr))
    bpf_prog_put(*target, {"link {} is released", link.id});
}

Result<void> bpf_tracing_link_fill_link_info(const Link& link, bpf_link_info& info) {
  info.tracing.attach_type = link.attach_type;
  info.tracing.target_obj_id = tracing_link(link).target_obj_id();
  info.tracing.target_btf_id = tracing_link(link).target_btf_id();
  info.tracing.cookie = tracing_link(link).cookie;
  return {};
}

std::string bpf_tracing_link_show_fdinfo(const Link& link) {
  const TracingLink& tracing = tracing_link(link);
  std::string lines = "attach_type:\t" + std::to_string(link.attach_type) + "\ntarget_obj_id:\t" +
                      std::to_string(tracing.target_obj_id()) + "\ntarget_btf_id:\t" +
                      std::to_string(tracing.target_btf_id()) + "\n";
  if (has(Gate::link_cookie_fdinfo, link.machine.version))
    lines += "cookie:\t" + std::to_string(tracing.cookie) + "\n";
  return lines;
}

const LinkOps bpf_tracing_link_lops = {.name = "tracing",
                                       .release = bpf_tracing_link_release,
                                       .detach = nullptr,
                                       .update_prog = nullptr,
                                       .show_fdinfo = bpf_tracing_link_show_fdinfo,
                                       .fill_link_info = bpf_tracing_link_fill_link_info};

TracingLink::TracingLink(Prog& prog, bpf_attach_type attach_type, uint64_t cookie)
    : Link(prog.machine, BPF_LINK_TYPE_TRACING, bpf_tracing_link_lops, &prog, attach_type), cookie(cookie) {}

Result<void> check_traces(const Prog& prog) {
  const bpf_attach_type type = prog.expected_attach_type;
  bool fits = false;
  switch (prog.type) {
    case BPF_PROG_TYPE_TRACING:
      fits = type == BPF_TRACE_FENTRY || type == BPF_TRACE_FEXIT || type == BPF_MODIFY_RETURN;
      break;
    case BPF_PROG_TYPE_EXT: fits = type == 0; break;
    case BPF_PROG_TYPE_LSM: fits = type == BPF_LSM_MAC; break;
    default: break;
  }
  if (!fits)
    return refuse(Errno::Inval, "program type {} with attach type {} has no trampoline", prog.type, type);
  return {};
}

// The target that an attachment is for: the one that the call names, if it does; else the one that the
// program named at its load, where it has not been attached yet; else that function of the kernel's again.
struct Target {
  Prog* prog = nullptr;  // null: a function of the kernel's
  uint64_t key = 0;
  uint32_t btf_id = 0;
  std::string name;
};

Result<Target> find_target(const Prog& prog, Prog* named, uint32_t named_btf_id) {
  const ProgAux& aux = *prog.aux;
  Target target{named, 0, named_btf_id, {}};
  if (named) {
    target.key = bpf_trampoline_compute_key(named, nullptr, named_btf_id);
  } else if (!aux.dst_trampoline) {
    if (!has(Gate::tracing_reattach, prog.machine.version))
      return refuse(Errno::NoEnt, "program {} was attached before", prog.id);
    if (prog.type != BPF_PROG_TYPE_TRACING && prog.type != BPF_PROG_TYPE_LSM)
      return refuse(Errno::Inval, "program {} was attached before: say to which target", prog.id);
    if (!aux.attach_btf)
      return refuse(Errno::Inval, "program {} was attached before, and its target is gone", prog.id);
    target.btf_id = aux.attach_btf_id;
    target.key = bpf_trampoline_compute_key(nullptr, aux.attach_btf, target.btf_id);
  }
  if (aux.dst_trampoline && (!target.key || target.key == aux.dst_trampoline))
    return Target{aux.dst_prog, aux.dst_trampoline, aux.attach_btf_id, aux.attach_func_name};
  bpf_attach_target_info info;
  const Errno err = bpf_check_attach_target(prog, target.prog, target.btf_id, info);
  if (err != Errno::None) return refuse(err, "not for this program: {}", info.message);
  target.name = info.tgt_name;
  return target;
}

Result<Link*> attach_to_target(Prog& prog, Prog* named, uint32_t btf_id, uint64_t cookie,
                               bpf_attach_type attach_type) {
  const Target target = TRY(find_target(prog, named, btf_id));
  auto link = std::make_unique<TracingLink>(prog, attach_type, cookie);
  link->trampoline = bpf_trampoline_of(prog.machine, target.prog, target.btf_id, target.name);
  if (!link->trampoline) return refuse(Errno::NoEnt, "this machine has no function {}", target.name);
  TRY(bpf_trampoline_link_prog(*link->trampoline, *link, target.prog));
  link->tgt_prog = target.prog;
  link->key = target.key;
  // The target of the load is let go, unless its reference is the one that the link has now.
  ProgAux& aux = *prog.aux;
  Prog* dst_prog = std::exchange(aux.dst_prog, nullptr);
  if (dst_prog && (named || target.key != aux.dst_trampoline))
    bpf_prog_put(*dst_prog, {"program {} is attached", prog.id});
  aux.dst_trampoline = 0;
  return link.release();
}

}  // namespace

std::string raw_tp_link_name(const Link& link) {
  return &link.ops == &bpf_raw_tp_link_lops ? raw_tp(link).btp.name : "";
}

Result<Link*> bpf_tracing_prog_attach(Prog& prog, uint32_t tgt_prog_fd, uint32_t btf_id, uint64_t cookie,
                                      uint32_t attach_type) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_tracing_prog_attach);
  TRY(check_traces(prog));
  if (!tgt_prog_fd != !btf_id)
    return refuse(Errno::Inval, "target_fd {} and target_btf_id {} belong together", tgt_prog_fd, btf_id);
  Prog* named = nullptr;
  if (tgt_prog_fd) {
    if (prog.type != BPF_PROG_TYPE_EXT)
      return refuse(Errno::Inval, "only EXT programs name their target here");
    named = TRY(bpf_prog_get(machine, int(tgt_prog_fd), {"target of program {}", prog.id}));
  }
  if (!has(Gate::link_attach_type, machine.version)) attach_type = prog.expected_attach_type;
  Result<Link*> link = attach_to_target(prog, named, btf_id, cookie, bpf_attach_type(attach_type));
  if (!link && named) bpf_prog_put(*named, {"not the target of program {}", prog.id});
  return link;
}

bool copy_tp_name(Machine& machine, uint64_t user_tp_name, std::string& name) {
  constexpr size_t kLongest = 127;  // a longer name is cut, and then not found
  Result<std::string> given = strncpy_from_user(machine, user_tp_name, kLongest);
  if (given) name = *given;
  return given || given.err() != Errno::Fault;
}

Result<Link*> bpf_raw_tp_link_attach(Prog& prog, uint64_t user_tp_name, uint64_t cookie) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_raw_tp_link_attach);
  std::string name;
  switch (prog.type) {
    case BPF_PROG_TYPE_TRACING:
    case BPF_PROG_TYPE_EXT:
    case BPF_PROG_TYPE_LSM:
      if (user_tp_name) return refuse(Errno::Inval, "the program named its target when it was loaded");
      if (prog.type != BPF_PROG_TYPE_TRACING || prog.expected_attach_type != BPF_TRACE_RAW_TP)
        return bpf_tracing_prog_attach(prog, 0, 0, 0, prog.expected_attach_type);
      name = prog.aux->attach_func_name;
      break;
    case BPF_PROG_TYPE_RAW_TRACEPOINT:
    case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
      if (!copy_tp_name(machine, user_tp_name, name)) return refuse(Errno::Fault, "the tracepoint's name");
      break;
    default: return refuse(Errno::Inval, "program type {} is no raw tracepoint's", prog.type);
  }
  Tracepoint* btp = tracing(machine).raw_tracepoint(name);
  if (!btp) return refuse(Errno::NoEnt, "this machine has no tracepoint {}", name);
  auto link = std::make_unique<RawTpLink>(prog, *btp, cookie);
  TRY(bpf_probe_register(*link));
  return link.release();
}

Result<Link*> bpf_perf_link_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_perf_link_attach);
  if (attr.link_create.flags)
    return refuse(Errno::Inval, "flags {} have no meaning here", attr.link_create.flags);
  File& file = *TRY(perf_event_get(machine, int(attr.link_create.target_fd),
                                   {"perf link created by task {}", machine.current->pid}));
  bpf_prog_inc(prog, {"set on a perf event by its link"});
  PerfEvent& event = *perf_event_of(file);
  if (Result<void> set = perf_event_set_bpf_prog(event, prog, attr.link_create.perf_event.bpf_cookie); !set) {
    bpf_prog_put(prog, {"not set on the perf event"});
    fput(file, {"no perf link"});
    return set.refusal();
  }
  return new PerfLink(prog, file);
}

}  // namespace bpfsim
