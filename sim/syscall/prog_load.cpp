// Models: kernel/bpf/syscall.c (bpf_prog_load) (Linux 6.18)
//
// BPF_PROG_LOAD: who may load what, then the program is copied in, verified, made ready to run, and gets an
// id and a descriptor.
//
// Tokens, signatures and devices that a program may name: token.cpp, offload.cpp.
#include <algorithm>

#include "host/tracing.h"
#include "object/btf.h"
#include "object/registry.h"
#include "object/tail_call.h"
#include "run/select_runtime.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"
#include "verifier/verifier.h"

namespace bpfsim {

namespace {

void bpf_prog_load_fixup_attach_type(Version version, bpf_attr& attr) {
  if (attr.expected_attach_type) return;
  if (attr.prog_type == BPF_PROG_TYPE_CGROUP_SOCK) attr.expected_attach_type = BPF_CGROUP_INET_SOCK_CREATE;
  if (attr.prog_type == BPF_PROG_TYPE_SK_REUSEPORT && has(Gate::reuseport_attach_type, version))
    attr.expected_attach_type = BPF_SK_REUSEPORT_SELECT;
}

// What a later version brought is to this one a number without a meaning: no rule of its own, no need of its
// own.
bool is_known(const auto* row, Version version) { return row && row->since <= version; }

// Who may load a program of this type, and how long it may be.
Result<void> check_privileges(const Machine& machine, const bpf_attr& attr) {
  const bool bpf_cap = bpf_capable(machine);
  if (machine.sysctl.unprivileged_bpf_disabled && !bpf_cap)
    return refuse(Errno::Perm, "kernel.unprivileged_bpf_disabled is {} and the task lacks CAP_BPF",
                  machine.sysctl.unprivileged_bpf_disabled);
  const uint32_t most = max_insn_cnt(machine.version, bpf_cap);
  if (attr.insn_cnt == 0) return refuse(Errno::TooBig, "insn_cnt is 0");
  if (attr.insn_cnt > most) return refuse(Errno::TooBig, "insn_cnt {} is more than {}", attr.insn_cnt, most);
  const bool free =
      attr.prog_type == BPF_PROG_TYPE_SOCKET_FILTER || attr.prog_type == BPF_PROG_TYPE_CGROUP_SKB;
  const char* wanted = has(Gate::cap_bpf, machine.version) ? "CAP_BPF" : "CAP_SYS_ADMIN";
  if (!free && !bpf_cap) return refuse(Errno::Perm, "program type {} needs {}", attr.prog_type, wanted);
  const ProgTypeRow* row = find_prog_type(attr.prog_type);
  const uint8_t needs = is_known(row, machine.version) ? row->capabilities : 0;
  if ((needs & LOAD_NET_ADMIN) && !bpf_net_capable(machine))
    return refuse(Errno::Perm, "program type {} needs CAP_NET_ADMIN", attr.prog_type);
  if ((needs & LOAD_PERFMON) && !perfmon_capable(machine))
    return refuse(Errno::Perm, "program type {} needs CAP_PERFMON", attr.prog_type);
  return {};
}

// Program types that must say at load time where they will be attached.
bool attach_type_fits(Version version, uint32_t prog_type, uint32_t attach_type) {
  if (prog_type == BPF_PROG_TYPE_CGROUP_SKB && !has(Gate::cgroup_skb_attach_type, version)) return true;
  if (prog_type == BPF_PROG_TYPE_SK_REUSEPORT && !has(Gate::reuseport_attach_type, version)) return true;
  switch (prog_type) {
    case BPF_PROG_TYPE_CGROUP_SOCK:
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
    case BPF_PROG_TYPE_CGROUP_SKB:
    case BPF_PROG_TYPE_CGROUP_SOCKOPT:
    case BPF_PROG_TYPE_SK_LOOKUP:
      return knows_attach_type(version, attach_type) && find_attach_type(attach_type)->prog_type == prog_type;
    case BPF_PROG_TYPE_SK_REUSEPORT:
      return attach_type == BPF_SK_REUSEPORT_SELECT || attach_type == BPF_SK_REUSEPORT_SELECT_OR_MIGRATE;
    case BPF_PROG_TYPE_NETFILTER: return attach_type == BPF_NETFILTER;
    case BPF_PROG_TYPE_SYSCALL:
    case BPF_PROG_TYPE_EXT: return attach_type == 0;
    default: return true;
  }
}

// What the new program will be attached to inside the kernel, if it says so: a program, or a function by BTF.
struct AttachTarget {
  Prog* dst_prog = nullptr;
  Btf* attach_btf = nullptr;
};

Result<AttachTarget> find_attach_target(Machine& machine, const bpf_attr& attr) {
  if (!attr.attach_prog_fd) {
    if (!attr.attach_btf_id) return AttachTarget{};
    Btf* vmlinux = tracing(machine).btf_vmlinux;  // bpf_get_btf_vmlinux()
    if (!vmlinux) return refuse(Errno::Inval, "this machine has no BTF of its own");
    btf_get(*vmlinux, {"attach_btf_id {}", int64_t(attr.attach_btf_id)});
    return AttachTarget{nullptr, vmlinux};
  }
  const bool traces = attr.prog_type == BPF_PROG_TYPE_TRACING || attr.prog_type == BPF_PROG_TYPE_EXT;
  if (!traces && !has(Gate::attach_prog_or_btf, machine.version))
    return refuse(Errno::Inval, "program type {} is not attached to a program", attr.prog_type);
  const Cause cause{"attach_prog_fd {} of task {}", int64_t(attr.attach_prog_fd), machine.current->pid};
  if (Result<Prog*> prog = bpf_prog_get(machine, int(attr.attach_prog_fd), cause))
    return AttachTarget{*prog, nullptr};
  else if (!has(Gate::attach_prog_or_btf, machine.version))
    return prog.refusal();
  Result<Btf*> btf = btf_get_by_fd(machine, int(attr.attach_btf_obj_fd), cause);
  if (!btf) return refuse(Errno::Inval, "fd {} is neither program nor BTF", attr.attach_prog_fd);
  if ((*btf)->kernel_btf) return AttachTarget{nullptr, *btf};
  btf_put(**btf, {"no attach target"});
  return refuse(Errno::NotSupp, "attaching through a program's own BTF");
}

Result<void> bpf_prog_load_check_attach(Version version, const bpf_attr& attr, const AttachTarget& target) {
  const uint32_t type = attr.prog_type;
  const bool traces = type == BPF_PROG_TYPE_TRACING || type == BPF_PROG_TYPE_EXT;
  if (attr.attach_btf_id) {
    constexpr uint32_t BTF_MAX_TYPE = 0x000fffff;
    if (attr.attach_btf_id > BTF_MAX_TYPE)
      return refuse(Errno::Inval, "attach_btf_id {} is no type id", attr.attach_btf_id);
    if (!traces && type != BPF_PROG_TYPE_LSM && type != BPF_PROG_TYPE_STRUCT_OPS)
      return refuse(Errno::Inval, "program type {} is not attached by a BTF id", type);
  }
  if (target.attach_btf && !attr.attach_btf_id) return refuse(Errno::Inval, "a BTF without attach_btf_id");
  if (target.dst_prog && !traces)
    return refuse(Errno::Inval, "program type {} is not attached to a program", type);
  if (!is_known(find_prog_type(type), version) || attach_type_fits(version, type, attr.expected_attach_type))
    return {};
  const AttachTypeRow* row = find_attach_type(attr.expected_attach_type);
  if (row && !is_known(row, version))
    return refuse(Errno::Inval, "expected_attach_type {} came with Linux {}.{}", attr.expected_attach_type,
                  row->since.major, row->since.minor);
  return refuse(Errno::Inval, "program type {} is not attached as expected_attach_type {}", type,
                attr.expected_attach_type);
}

bool license_is_gpl_compatible(const std::string& license) {
  constexpr std::string_view kCompatible[] = {"GPL",          "GPL v2",       "GPL and additional rights",
                                              "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"};
  return std::find(std::begin(kCompatible), std::end(kCompatible), license) != std::end(kCompatible);
}

// At most 127 bytes; a longer text is cut, not refused.
Result<std::string> copy_license(Machine& machine, uint64_t user) {
  std::string license;
  for (char c; license.size() < 127; license.push_back(c)) {
    TRY(copy_from_user(machine, &c, user + license.size(), 1));
    if (c == 0) break;
  }
  return license;
}

Result<void> find_prog_type(Prog& prog, uint32_t type) {
  const ProgTypeRow* row = bpfsim::find_prog_type(type);
  if (!row || type == BPF_PROG_TYPE_UNSPEC)
    return refuse(Errno::Inval, "no program type has the number {}", type);
  if (row->since > prog.machine.version)
    return refuse(Errno::Inval, "program type {} came with Linux {}.{}", type, row->since.major,
                  row->since.minor);
  if (type == BPF_PROG_TYPE_LIRC_MODE2)
    return refuse(Errno::Inval, "this machine has no infrared receivers (CONFIG_BPF_LIRC_MODE2)");
  const KernelCalls& calls = *prog.machine.calls;
  if (!calls.verifier_ops || !calls.verifier_ops(bpf_prog_type(type)))
    return refuse(Errno::Inval, "not modelled yet: program type {}", short_name(row->name));
  prog.type = bpf_prog_type(type);
  prog.aux->ops = calls.prog_ops(prog.type);
  return {};
}

// From the caller's bytes to a program that may run. The program is the caller's to free.
Result<void> init_prog(Prog& prog, const bpf_attr& attr, UserAttr uattr, uint32_t size) {
  Machine& machine = prog.machine;
  prog.expected_attach_type = bpf_attach_type(attr.expected_attach_type);
  prog.aux->sleepable = (attr.prog_flags & BPF_F_SLEEPABLE) != 0;
  prog.aux->xdp_has_frags = (attr.prog_flags & BPF_F_XDP_HAS_FRAGS) != 0;
  prog.aux->attach_btf_id = attr.attach_btf_id;
  prog.aux->uid = machine.current->cred->uid;
  prog.insnsi.resize(attr.insn_cnt);
  TRY(copy_from_user(machine, prog.insnsi.data(), attr.insns, attr.insn_cnt * sizeof(bpf_insn)));
  prog.jit_requested =
      machine.sysctl.jit_enable != 0;  // as bpf_prog_alloc() has it; some of the verifier's rules ask
  prog.gpl_compatible = license_is_gpl_compatible(TRY(copy_license(machine, attr.license)));
  if (attr.signature) TRY(bpf_prog_verify_signature(machine, attr));
  if (attr.prog_ifindex) TRY(bpf_prog_dev_bound_init(prog, attr));
  TRY(find_prog_type(prog, attr.prog_type));
  prog.aux->load_time_ns = machine.clock.now_ns;
  const Prog* dst_prog = prog.aux->dst_prog;
  prog.aux->attach_tracing_prog =
      prog.type == BPF_PROG_TYPE_TRACING && dst_prog && dst_prog->type == BPF_PROG_TYPE_TRACING;
  prog.aux->name = TRY(bpf_obj_name_cpy(attr.prog_name, prog.machine.version));
  TRY(bpf_check(prog, attr, uattr, size));
  TRY(bpf_prog_select_runtime(prog));
  return bpf_check_tail_call(prog);
}

void bpf_prog_alloc_id(Prog& prog) {
  KFN(prog.machine, bpf_prog_alloc_id);
  prog.id = prog.machine.registry->prog_idr.alloc(&prog);
  emit<LifeEvent>(prog.machine, prog, "born");
}

}  // namespace

SysResult bpf_prog_load(Machine& machine, bpf_attr& attr, UserAttr uattr, uint32_t size) {
  KFN(machine, bpf_prog_load);
  TRY(check_attr(machine, BPF_PROG_LOAD, attr));
  const uint32_t known =
      known_prog_flags(machine.version) | (BPF_F_TOKEN_FD & known_map_flags(machine.version));
  for (const FlagRow& flag : prog_flags())
    if (attr.prog_flags & flag.number && flag.since > machine.version)
      return refuse(Errno::Inval, "prog_flags has {}, which came with Linux {}; this is {}", flag.name,
                    flag.since.str(), machine.version.str());
  if (attr.prog_flags & ~known)
    return refuse(Errno::Inval, "prog_flags {}: this version knows the bits {}", attr.prog_flags, known);
  bpf_prog_load_fixup_attach_type(machine.version, attr);
  if (attr.prog_flags & BPF_F_TOKEN_FD) TRY(bpf_token_get_from_fd(machine, attr.prog_token_fd));
  if (attr.prog_type == BPF_PROG_TYPE_KPROBE && !has(Gate::kern_version_ignored, machine.version) &&
      attr.kern_version != (uint32_t(machine.version.major) << 16 | uint32_t(machine.version.minor) << 8))
    return refuse(Errno::Inval, "kern_version {} is not this kernel's", attr.kern_version);
  // What it says matters later, but before 6.5 an unreadable one is the first to be told.
  if (!has(Gate::license_late, machine.version)) TRY(copy_license(machine, attr.license));
  TRY(check_privileges(machine, attr));
  const AttachTarget target = TRY(find_attach_target(machine, attr));
  if (Result<void> fits = bpf_prog_load_check_attach(machine.version, attr, target); !fits) {
    if (target.dst_prog) bpf_prog_put(*target.dst_prog, {"not attached to"});
    if (target.attach_btf) btf_put(*target.attach_btf, {"no attach target"});
    return fits.refusal();
  }

  Prog& prog = *new Prog(machine);
  prog.aux->dst_prog = target.dst_prog;
  prog.aux->attach_btf = target.attach_btf;
  prog.aux->refcnt.inc({"born in task {}", machine.current->pid});
  Holding newborn(machine, prog, "bpf(BPF_PROG_LOAD)");
  if (Result<void> ready = init_prog(prog, attr, uattr, size); !ready) {
    newborn.release();
    bpf_prog_free(prog);
    return ready.refusal();
  }
  bpf_prog_alloc_id(prog);
  SysResult fd = bpf_prog_new_fd(prog, newborn);
  if (!fd) {
    newborn.release();
    bpf_prog_put(prog, {"no descriptor for the new program"});
  }
  return fd;
}

}  // namespace bpfsim
