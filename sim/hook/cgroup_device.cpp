// Models: kernel/bpf/cgroup.c (__cgroup_bpf_check_dev_permission, cg_dev_verifier_ops) (Linux 6.18)
//
// The program type CGROUP_DEVICE, and the hook that fires it: a task opens or makes a device node, and the
// programs effective in its cgroup are asked, each with the same context. One 0 among their answers is EPERM.
#include <cstring>

#include "hook/attach.h"
#include "hook/ctx_fields.h"
#include "hook/types.h"
#include "run/select_runtime.h"
#include "uapi/context.h"

namespace bpfsim {

static bool cgroup_dev_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                       InsnAccessAux& info) {
  static constexpr CtxField fields[] = {
      {CTX(bpf_cgroup_dev_ctx, access_type), CtxAccess::Narrow},
      {CTX(bpf_cgroup_dev_ctx, major), CtxAccess::Word},
      {CTX(bpf_cgroup_dev_ctx, minor), CtxAccess::Word},
  };
  return ctx_access_allowed(fields, sizeof(bpf_cgroup_dev_ctx), {off, size, type}, prog, info);
}

const VerifierOps cg_dev_verifier_ops = {
    .name = "cg_dev",
    .get_func_proto = helper_for,
    .is_valid_access = cgroup_dev_is_valid_access,
    .gen_prologue = nullptr,
    .convert_ctx_access = nullptr,  // the context is the kernel's own struct
};
const ProgOps cg_dev_prog_ops = {.name = "cg_dev", .test_run = nullptr};

Result<void> cgroup_bpf_check_dev_permission(const Task& task, uint32_t type, uint32_t major, uint32_t minor,
                                             uint32_t access) {
  Machine& machine = task.machine;
  KFN(machine, __cgroup_bpf_check_dev_permission);
  const auto& bpf = task_cgroup(task).bpf;
  auto slot = bpf.find(BPF_CGROUP_DEVICE);
  if (slot == bpf.end() || slot->second.effective.empty()) return {};
  auto room = machine.arena.alloc(sizeof(bpf_cgroup_dev_ctx), "bpf_cgroup_dev_ctx");
  if (!room) return refuse(Errno::NoMem, "no memory for the context");
  uint32_t denied_by = 0;
  for (Prog* prog : std::vector<Prog*>(slot->second.effective)) {
    const bpf_cgroup_dev_ctx ctx{access << 16 | type, major, minor};
    std::memcpy(room->host, &ctx, sizeof ctx);
    const RunOutcome run = bpf_prog_run(machine, *prog, room->addr);
    if (!uint32_t(run.value) || run.stop != RunStop::Returned) denied_by = prog->id;
  }
  machine.arena.free(*room);
  if (denied_by) return refuse(Errno::Perm, "program {} of the task's cgroup denies it", denied_by);
  return {};
}

}  // namespace bpfsim
