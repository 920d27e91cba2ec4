// Models: kernel/bpf/syscall.c (link_create, link_update, link_detach) (Linux 6.18)
//
// Links by bpf(2): made, given another program, detached. A link has its descriptor and id reserved before it
// touches the hook, so that nothing can fail once the program is attached. A link of struct_ops has a map in
// place of the program.
#include <optional>

#include "hook/attach.h"
#include "hook/bpf_iter.h"
#include "hook/hook.h"
#include "map/bpf_struct_ops.h"
#include "map/common.h"
#include "map/sock_map.h"
#include "object/registry.h"
#include "syscall/bpf.h"
#include "syscall/inode.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

// TRACING and LSM programs.
static Result<Link*> attach_tracing(Prog& prog, const bpf_attr& attr) {
  const auto& create = attr.link_create;
  if (create.attach_type != prog.expected_attach_type)
    return refuse(Errno::Inval, "the program was loaded for attach type {}, not {}",
                  prog.expected_attach_type, create.attach_type);
  if (prog.expected_attach_type == BPF_TRACE_RAW_TP)
    return bpf_raw_tp_link_attach(prog, 0, create.tracing.cookie);
  if (prog.expected_attach_type == BPF_TRACE_ITER) return bpf_iter_link_attach(prog, attr);
  if (prog.expected_attach_type == BPF_LSM_CGROUP) return cgroup_bpf_link_attach(prog, attr);
  return bpf_tracing_prog_attach(prog, create.target_fd, create.target_btf_id, create.tracing.cookie,
                                 create.attach_type);
}

static Result<Link*> attach_extension(Prog& prog, const bpf_attr& attr) {
  if (!has(Gate::freplace_any_target, prog.machine.version))
    return refuse(Errno::Inval, "before Linux 5.10 extensions attach by RAW_TRACEPOINT_OPEN alone");
  const auto& create = attr.link_create;
  if (create.attach_type && !has(Gate::freplace_attach_type, prog.machine.version))
    return refuse(Errno::Inval, "before Linux 5.19 the attach type of an extension is 0, not {}",
                  create.attach_type);
  return bpf_tracing_prog_attach(prog, create.target_fd, create.target_btf_id, create.tracing.cookie,
                                 create.attach_type);
}

static Result<Link*> attach(Prog& prog, const bpf_attr& attr) {
  const uint32_t at = attr.link_create.attach_type;
  TRY(bpf_prog_attach_check_attach_type(prog, at));
  TRY(current_task(prog.machine).files.check_room());
  switch (prog.type) {
    case BPF_PROG_TYPE_PERF_EVENT:
    case BPF_PROG_TYPE_TRACEPOINT: return bpf_perf_link_attach(prog, attr);
    case BPF_PROG_TYPE_KPROBE:
      if (at == BPF_PERF_EVENT) return bpf_perf_link_attach(prog, attr);
      if (at == BPF_TRACE_KPROBE_MULTI || at == BPF_TRACE_KPROBE_SESSION)
        return bpf_kprobe_multi_link_attach(prog, attr);
      return bpf_uprobe_multi_link_attach(prog, attr, kern_path);
    case BPF_PROG_TYPE_EXT: return attach_extension(prog, attr);
    case BPF_PROG_TYPE_LSM:
    case BPF_PROG_TYPE_TRACING: return attach_tracing(prog, attr);
    case BPF_PROG_TYPE_CGROUP_SKB:
    case BPF_PROG_TYPE_CGROUP_SOCK:
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
    case BPF_PROG_TYPE_SOCK_OPS:
    case BPF_PROG_TYPE_CGROUP_DEVICE:
    case BPF_PROG_TYPE_CGROUP_SYSCTL:
    case BPF_PROG_TYPE_CGROUP_SOCKOPT: return cgroup_bpf_link_attach(prog, attr);
    case BPF_PROG_TYPE_FLOW_DISSECTOR:
    case BPF_PROG_TYPE_SK_LOOKUP: return netns_bpf_link_create(prog, attr);
    case BPF_PROG_TYPE_XDP:
      if (!has(Gate::xdp_link, prog.machine.version))
        return refuse(Errno::Inval, "XDP links came with Linux 5.9");
      return bpf_xdp_link_attach(prog, attr);
    case BPF_PROG_TYPE_NETFILTER: return bpf_nf_link_attach(prog, attr);
    case BPF_PROG_TYPE_SCHED_CLS: return tcx_link_attach(prog, attr);
    case BPF_PROG_TYPE_SK_MSG:
    case BPF_PROG_TYPE_SK_SKB:
      if (find_link_type(BPF_LINK_TYPE_SOCKMAP)->since > prog.machine.version)
        return refuse(Errno::Inval, "links to maps of sockets came with Linux 6.10");
      return sock_map_link_create(prog, attr);
    default: return refuse(Errno::Inval, "not modelled yet: links of program type {}", prog.type);
  }
}

SysResult bpf_link_settle(Link& link, const char* command) {
  KFN(link.machine, bpf_link_settle);
  Holding newborn(link.machine, link, command);
  bpf_link_inc(link, {"born in task {}", link.machine.current->pid});
  link.id = link.machine.registry->link_idr.alloc(&link);
  emit<LifeEvent>(link.machine, link, "born");
  return bpf_link_new_fd(link, newborn);
}

SysResult link_create(Machine& machine, const bpf_attr& attr) {
  KFN(machine, link_create);
  TRY(attach_asked(machine));
  TRY(check_attr(machine, BPF_LINK_CREATE, attr));
  if (attr.link_create.attach_type == BPF_STRUCT_OPS &&
      machine.version >= find_attach_type(BPF_STRUCT_OPS)->since)
    return bpf_link_settle(*TRY(bpf_struct_ops_link_create(machine, attr)), "bpf(BPF_LINK_CREATE)");
  Prog& prog = *TRY(bpf_prog_get(machine, int(attr.link_create.prog_fd),
                                 {"link created by task {}", machine.current->pid}));
  Holding given(machine, prog, "bpf(BPF_LINK_CREATE)");
  Result<Link*> attached = attach(prog, attr);
  given.release();
  if (!attached) {
    bpf_prog_put(prog, {"not attached"});
    return attached.refusal();
  }
  return bpf_link_settle(**attached, "bpf(BPF_LINK_CREATE)");
}

// The program that update_prog is to find in the link, if the caller names one.
static Result<Prog*> expected_prog(Machine& machine, const bpf_attr& attr) {
  if (attr.link_update.flags & BPF_F_REPLACE)
    return bpf_prog_get(machine, int(attr.link_update.old_prog_fd), {"link update: expected program"});
  if (attr.link_update.old_prog_fd) return refuse(Errno::Inval, "old_prog_fd without BPF_F_REPLACE");
  return nullptr;
}

static Result<void> update(Machine& machine, Link& link, const bpf_attr& attr) {
  Prog& new_prog =
      *TRY(bpf_prog_get(machine, int(attr.link_update.new_prog_fd), {"link {} updated", link.id}));
  Holding given(machine, new_prog, "bpf(BPF_LINK_UPDATE)");
  Result<Prog*> old_prog = expected_prog(machine, attr);
  Result<void> done = old_prog ? Result<void>{} : old_prog.refusal();
  if (done) {
    std::optional<Holding> compared;
    if (*old_prog) compared.emplace(machine, **old_prog, "bpf(BPF_LINK_UPDATE)");
    if (link.ops.update_prog)
      done = link.ops.update_prog(link, new_prog, *old_prog, given);
    else
      done = refuse(Errno::Inval, "a {} link keeps its program", link.ops.name);
    compared.reset();
    if (*old_prog) bpf_prog_put(**old_prog, {"link update: compared"});
  }
  if (!done) {
    given.release();
    bpf_prog_put(new_prog, {"not attached"});
  }
  return done;
}

static Result<Map*> bpf_map_get(Machine& machine, uint32_t fd, const Cause& cause) {
  Map* map = TRY(__bpf_map_get(machine, int(fd)));
  bpf_map_inc(*map, cause);
  return map;
}

static Result<void> link_update_map(Machine& machine, Link& link, const bpf_attr& attr) {
  const auto& given = attr.link_update;
  Map& new_map = *TRY(bpf_map_get(machine, given.new_map_fd, {"link {} updated", link.id}));
  Holding holding(machine, new_map, "bpf(BPF_LINK_UPDATE)");
  Result<Map*> old_map = nullptr;
  if (given.flags & BPF_F_REPLACE)
    old_map = bpf_map_get(machine, given.old_map_fd, {"link update: expected map"});
  else if (given.old_map_fd)
    old_map = refuse(Errno::Inval, "old_map_fd without BPF_F_REPLACE");
  Result<void> done = old_map ? Result<void>{} : old_map.refusal();
  if (old_map) {
    std::optional<Holding> compared;
    if (*old_map) compared.emplace(machine, **old_map, "bpf(BPF_LINK_UPDATE)");
    done = link.ops.update_map(link, new_map, *old_map);
    compared.reset();
    if (*old_map) bpf_map_put(**old_map, {"link update: compared"});
  }
  holding.release();
  bpf_map_put(new_map, {"link update is over"});
  return done;
}

SysResult link_update(Machine& machine, const bpf_attr& attr) {
  KFN(machine, link_update);
  TRY(attach_asked(machine));
  TRY(check_attr(machine, BPF_LINK_UPDATE, attr));
  if (attr.link_update.flags & ~BPF_F_REPLACE)
    return refuse(Errno::Inval, "flags {}: only BPF_F_REPLACE may be", attr.link_update.flags);
  Link& link = *TRY(bpf_link_get_from_fd(machine, int(attr.link_update.link_fd), {"bpf(BPF_LINK_UPDATE)"}));
  Holding held(machine, link, "bpf(BPF_LINK_UPDATE)");
  Result<void> done =
      link.ops.update_map ? link_update_map(machine, link, attr) : update(machine, link, attr);
  held.release();
  bpf_link_put(link, {"bpf(BPF_LINK_UPDATE) is over"});
  if (!done) return done.refusal();
  return 0;
}

SysResult link_detach(Machine& machine, const bpf_attr& attr) {
  KFN(machine, link_detach);
  TRY(check_attr(machine, BPF_LINK_DETACH, attr));
  Link& link = *TRY(bpf_link_get_from_fd(machine, int(attr.link_detach.link_fd), {"bpf(BPF_LINK_DETACH)"}));
  Holding held(machine, link, "bpf(BPF_LINK_DETACH)");
  Result<void> done = refuse(Errno::OpNotSupp, "a {} link cannot be detached", link.ops.name);
  if (link.ops.detach) done = link.ops.detach(link);
  held.release();
  bpf_link_put(link, {"bpf(BPF_LINK_DETACH) is over"});
  if (!done) return done.refusal();
  return 0;
}

SysResult bpf_iter_create(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_iter_create);
  TRY(check_attr(machine, BPF_ITER_CREATE, attr));
  if (attr.iter_create.flags)
    return refuse(Errno::Inval, "flags {} have no meaning here", attr.iter_create.flags);
  Link& link = *TRY(bpf_link_get_from_fd(machine, int(attr.iter_create.link_fd), {"bpf(BPF_ITER_CREATE)"}));
  Holding held(machine, link, "bpf(BPF_ITER_CREATE)");
  SysResult fd = bpf_iter_new_fd(link);
  held.release();
  bpf_link_put(link, {"bpf(BPF_ITER_CREATE) is over"});
  return fd;
}

}  // namespace bpfsim
