// Models: kernel/bpf/syscall.c (__sys_bpf) (Linux 6.18)
//
// The door of bpf(2): how many bytes of union bpf_attr come in, who may come in at all, and which room they
// go to. A command that this version lacks is EINVAL, as a number that no version has.
#include "syscall/bpf.h"

#include <algorithm>
#include <source_location>

#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

Result<void> check_attr(const Machine& machine, bpf_cmd cmd, const bpf_attr& attr,
                        std::source_location where) {
  const LastFieldRow* last = last_field(cmd, machine.version);
  if (!last) return {};
  static constexpr uint8_t zeros[sizeof attr] = {};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&attr);
  if (std::memcmp(bytes + last->end, zeros, sizeof attr - last->end) == 0) return {};
  uint32_t at = last->end;
  while (bytes[at] == 0) ++at;
  return refuse(Errno::Inval, Fact("byte {} of union bpf_attr must be 0: this command reads up to {}", where),
                at, last->field);
}

// Who kernel.unprivileged_bpf_disabled keeps out, on a kernel where bpf(2) itself asks and refuses.
static Result<void> unprivileged_gate(const Machine& machine, int cmd,
                                      std::source_location where = std::source_location::current()) {
  if (has(Gate::unpriv_asked_late, machine.version) || !machine.sysctl.unprivileged_bpf_disabled ||
      bpf_capable(machine))
    return {};
  const bool creates = cmd == BPF_MAP_CREATE || cmd == BPF_PROG_LOAD;
  if (has(Gate::unpriv_gate_narrow, machine.version) && !creates) return {};
  return refuse(Errno::Perm, Fact("kernel.unprivileged_bpf_disabled is {} and the task lacks {}", where),
                machine.sysctl.unprivileged_bpf_disabled,
                has(Gate::cap_bpf, machine.version) ? "CAP_BPF" : "CAP_SYS_ADMIN");
}

// Seen from entry to exit. The result is built in its final place: a refusal's values are too much to copy.
static SysResult dispatch(Machine& machine, int cmd, bpf_attr& attr, uint64_t uattr, uint32_t size);
static SysResult observed(Machine& machine, const CommandRow& command, bpf_attr& attr, uint64_t uattr,
                          uint32_t size) {
  emit<SyscallEvent>(machine, command.number, command.name, true, 0);
  SysResult result = dispatch(machine, command.number, attr, uattr, size);
  emit<SyscallEvent>(machine, command.number, command.name, false, result ? *result : -int64_t(result.err()));
  return result;
}

static SysResult dispatch(Machine& machine, int cmd, bpf_attr& attr, uint64_t uattr, uint32_t size) {
  switch (cmd) {
    case BPF_MAP_CREATE: return map_create(machine, attr);
    case BPF_MAP_LOOKUP_ELEM: return map_lookup_elem(machine, attr);
    case BPF_MAP_UPDATE_ELEM: return map_update_elem(machine, attr);
    case BPF_MAP_DELETE_ELEM: return map_delete_elem(machine, attr);
    case BPF_MAP_GET_NEXT_KEY: return map_get_next_key(machine, attr);
    case BPF_MAP_LOOKUP_AND_DELETE_ELEM: return map_lookup_and_delete_elem(machine, attr);
    case BPF_MAP_LOOKUP_BATCH:
    case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case BPF_MAP_UPDATE_BATCH:
    case BPF_MAP_DELETE_BATCH: return bpf_map_do_batch(machine, bpf_cmd(cmd), attr, uattr);
    case BPF_MAP_FREEZE: return map_freeze(machine, attr);
    case BPF_BTF_LOAD: return bpf_btf_load(machine, attr, uattr, size);
    case BPF_PROG_LOAD: return bpf_prog_load(machine, attr, uattr, size);
    case BPF_PROG_TEST_RUN: return bpf_prog_test_run(machine, attr, uattr);
    case BPF_PROG_ATTACH: return bpf_prog_attach(machine, attr);
    case BPF_PROG_DETACH: return bpf_prog_detach(machine, attr);
    case BPF_PROG_QUERY: return bpf_prog_query(machine, attr, uattr, size);
    case BPF_LINK_CREATE: return link_create(machine, attr);
    case BPF_LINK_UPDATE: return link_update(machine, attr);
    case BPF_LINK_DETACH: return link_detach(machine, attr);
    case BPF_OBJ_PIN: return bpf_obj_pin(machine, attr);
    case BPF_OBJ_GET: return bpf_obj_get(machine, attr);
    case BPF_MAP_GET_NEXT_ID:
      return bpf_obj_get_next_id(machine, BPF_MAP_GET_NEXT_ID, ObjectKind::Map, attr, uattr);
    case BPF_PROG_GET_NEXT_ID:
      return bpf_obj_get_next_id(machine, BPF_PROG_GET_NEXT_ID, ObjectKind::Prog, attr, uattr);
    case BPF_LINK_GET_NEXT_ID:
      return bpf_obj_get_next_id(machine, BPF_LINK_GET_NEXT_ID, ObjectKind::Link, attr, uattr);
    case BPF_BTF_GET_NEXT_ID:
      return bpf_obj_get_next_id(machine, BPF_BTF_GET_NEXT_ID, ObjectKind::Btf, attr, uattr);
    case BPF_MAP_GET_FD_BY_ID:
      return bpf_obj_get_fd_by_id(machine, BPF_MAP_GET_FD_BY_ID, ObjectKind::Map, attr);
    case BPF_PROG_GET_FD_BY_ID:
      return bpf_obj_get_fd_by_id(machine, BPF_PROG_GET_FD_BY_ID, ObjectKind::Prog, attr);
    case BPF_LINK_GET_FD_BY_ID:
      return bpf_obj_get_fd_by_id(machine, BPF_LINK_GET_FD_BY_ID, ObjectKind::Link, attr);
    case BPF_BTF_GET_FD_BY_ID:
      return bpf_obj_get_fd_by_id(machine, BPF_BTF_GET_FD_BY_ID, ObjectKind::Btf, attr);
    case BPF_OBJ_GET_INFO_BY_FD: return bpf_obj_get_info_by_fd(machine, attr, uattr);
    case BPF_RAW_TRACEPOINT_OPEN: return bpf_raw_tracepoint_open(machine, attr);
    case BPF_TASK_FD_QUERY: return bpf_task_fd_query(machine, attr, uattr);
    case BPF_ITER_CREATE: return bpf_iter_create(machine, attr);
    case BPF_ENABLE_STATS: return bpf_enable_stats(machine, attr);
    case BPF_PROG_BIND_MAP: return bpf_prog_bind_map(machine, attr);
    case BPF_TOKEN_CREATE: return token_create(machine, attr);
    case BPF_PROG_STREAM_READ_BY_FD: return prog_stream_read(machine, attr);
    default: return refuse(Errno::Inval, "not modelled yet: command {}", cmd);
  }
}

SysResult __sys_bpf(Machine& machine, int cmd, uint64_t uattr, uint32_t size) {
  KFN(machine, __sys_bpf);
  TRY(unprivileged_gate(machine, cmd));
  const uint32_t known = bpf_attr_size(machine.version);
  TRY(bpf_check_uarg_tail_zero(machine, uattr, known, size, "union bpf_attr"));
  bpf_attr attr;
  TRY(copy_from_user(machine, &attr, uattr, std::min(size, known)));
  const CommandRow* command = find_command(uint32_t(cmd));
  if (!command) return refuse(Errno::Inval, "no command has the number {}", cmd);
  if (command->since > machine.version)
    return refuse(Errno::Inval, "{} came with Linux {}.{}", command->name, command->since.major,
                  command->since.minor);
  return observed(machine, *command, attr, uattr, size);
}

}  // namespace bpfsim
