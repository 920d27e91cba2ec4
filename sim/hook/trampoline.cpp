// Models: kernel/bpf/trampoline.c (Linux 6.18)
//
// What is attached to one function: up to 38 programs that run before it, behind it or in its stead, or one
// extension that replaces it. A function is the kernel's (host/tracing.h) or a program's own, and then its
// trampoline stands with that program. LSM programs on cgroups are not attached to the hook themselves: one
// program of the kernel's own is, for all of them, which looks up the cgroup when it runs; here it is a
// count. Departs from the kernel: a trampoline is no object with references, it is there for as long as its
// function is, and has no code; the program of the kernel's own holds no reference of the BTF.
#include "hook/trampoline.h"

#include <algorithm>

#include "host/cgroup.h"
#include "host/tracing.h"
#include "object/btf.h"

namespace bpfsim {

static constexpr size_t BPF_MAX_TRAMP_LINKS = 38;

Trampoline* bpf_trampoline_of(Machine& machine, Prog* tgt_prog, uint32_t btf_id,
                              const std::string& function) {
  KFN(machine, bpf_trampoline_get);
  if (tgt_prog) return &tgt_prog->aux->trampolines[btf_id];
  KernelFunction* known = tracing(machine).function(function);
  return known ? &known->trampoline : nullptr;
}

// An extension could call, by a tail call, the very program that it is part of, and so on without end.
static Result<void> bpf_freplace_check_tgt_prog(Prog& tgt_prog) {
  KFN(tgt_prog.machine, bpf_freplace_check_tgt_prog);
  if (tgt_prog.aux->prog_array_member_cnt)
    return refuse(Errno::Busy, "program {} can be tail called: it is in {} slots of prog arrays", tgt_prog.id,
                  tgt_prog.aux->prog_array_member_cnt);
  tgt_prog.aux->is_extended = true;
  return {};
}

static Result<void> __bpf_trampoline_link_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog) {
  KFN(link.machine, __bpf_trampoline_link_prog);
  if (trampoline.extension)
    return refuse(Errno::Busy, "program {} replaces the function already", trampoline.extension->prog->id);
  if (link.prog->type == BPF_PROG_TYPE_EXT) {
    if (trampoline.count())
      return refuse(Errno::Busy, "{} programs trace the function already", trampoline.count());
    TRY(bpf_freplace_check_tgt_prog(*tgt_prog));
    trampoline.extension = &link;
    return {};
  }
  if (trampoline.count() >= BPF_MAX_TRAMP_LINKS)
    return refuse(Errno::TooBig, "{} programs are attached to the function already", trampoline.count());
  for (const Link* other : trampoline.links)
    if (other->prog == link.prog)
      return refuse(Errno::Busy, "program {} is attached there already", link.prog->id);
  trampoline.links.push_back(&link);
  return {};
}

Result<void> bpf_trampoline_link_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog) {
  KFN(link.machine, bpf_trampoline_link_prog);
  return __bpf_trampoline_link_prog(trampoline, link, tgt_prog);
}

void bpf_trampoline_unlink_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog) {
  KFN(link.machine, bpf_trampoline_unlink_prog);
  if (trampoline.extension == &link) {
    trampoline.extension = nullptr;
    tgt_prog->aux->is_extended = false;
  }
  std::erase(trampoline.links, &link);
}

Result<void> bpf_trampoline_link_cgroup_shim(Prog& prog, uint32_t cgroup_atype) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_trampoline_link_cgroup_shim);
  Trampoline* found = bpf_trampoline_of(machine, nullptr, 0, prog.aux->attach_func_name);
  if (!found) return refuse(Errno::NoEnt, "this machine has no function {}", prog.aux->attach_func_name);
  if (!found->cgroup_shims) {
    if (found->count() >= BPF_MAX_TRAMP_LINKS)
      return refuse(Errno::TooBig, "{} programs are attached to the hook already", found->count());
    found->cgroup_atype = cgroup_atype;
    machine.cgroups->lsm_atypes[cgroup_atype - CGROUP_LSM_START] = prog.aux->attach_btf_id;
  }
  ++found->cgroup_shims;
  return {};
}

void bpf_trampoline_unlink_cgroup_shim(const Prog& prog) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_trampoline_unlink_cgroup_shim);
  Trampoline* found = bpf_trampoline_of(machine, nullptr, 0, prog.aux->attach_func_name);
  if (!found || !found->cgroup_shims || --found->cgroup_shims) return;
  machine.cgroups->lsm_atypes[found->cgroup_atype - CGROUP_LSM_START] = 0;  // the next hook may have it
}

}  // namespace bpfsim
