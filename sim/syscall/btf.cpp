// Models: kernel/bpf/syscall.c (bpf_btf_load), kernel/bpf/btf.c (btf_new_fd, btf_get_by_fd) (Linux 6.18)
//
// BTF by descriptor. What a blob may contain is btf/'s to check; here it becomes an object with an id.
#include "object/btf.h"

#include <cstddef>

#include "btf/btf_check.h"
#include "btf/btf_fields.h"
#include "object/registry.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "verifier/log.h"

namespace bpfsim {

// The log is finished whatever the checker said; a log that did not fit or could not be written has the last
// word, which it had not before 6.4.
static Result<void> finalize_log(Machine& machine, bpf_verifier_log& log, uint64_t uattr,
                                 uint32_t uattr_size) {
  uint32_t log_true_size = 0;
  Result<void> result = bpf_vlog_finalize(log, log_true_size);
  constexpr uint32_t offset = offsetof(bpf_attr, btf_log_true_size);
  if (uattr_size < offset + sizeof log_true_size) return result;
  TRY(copy_to_user(machine, uattr + offset, &log_true_size, sizeof log_true_size));
  return result;
}

static Result<Btf*> btf_parse_attr(Machine& machine, const bpf_attr& attr, uint64_t uattr,
                                   uint32_t uattr_size) {
  KFN(machine, btf_parse);
  if (attr.btf_size > BTF_MAX_SIZE)
    return refuse(Errno::TooBig, "btf_size must be at most {}, is {}", BTF_MAX_SIZE, attr.btf_size);
  bpf_verifier_log log;
  TRY(bpf_vlog_init(log, *machine.user, attr.btf_log_level, attr.btf_log_buf, attr.btf_log_size,
                    machine.version));
  std::vector<uint8_t> data(attr.btf_size);
  std::string text;
  Result<void> copied = copy_from_user(machine, data.data(), attr.btf, data.size());
  Result<BtfTypes> types = copied.refusal();
  if (copied) types = btf_parse(data, log.needed() ? &text : nullptr, machine.version);
  if (types)
    if (Result<void> metas = btf_check_struct_metas(*types, machine.version); !metas) types = metas.refusal();
  bpf_vlog_write(log, text);
  Result<void> logged = finalize_log(machine, log, uattr, uattr_size);
  if (!types && !has(Gate::log_rotating, machine.version)) return types.refusal();
  TRY(logged);
  auto parsed = std::make_shared<const BtfTypes>(TRY(std::move(types)));
  return new Btf(machine, std::move(data), std::move(parsed));
}

static SysResult btf_new_fd(Machine& machine, const bpf_attr& attr, uint64_t uattr, uint32_t uattr_size) {
  KFN(machine, btf_new_fd);
  Btf* btf = TRY(btf_parse_attr(machine, attr, uattr, uattr_size));
  btf->refcnt.inc({"born in task {}", machine.current->pid});
  btf->id = machine.registry->btf_idr.alloc(btf);
  emit<LifeEvent>(machine, *btf, "born");
  Holding newborn(machine, *btf, "bpf(BPF_BTF_LOAD)");
  SysResult fd = anon_inode_getfd(machine, btf_fops, *btf, O_RDONLY_ | O_CLOEXEC_, newborn);
  if (!fd) {
    newborn.release();
    btf_put(*btf, {"no descriptor for the new BTF"});
  }
  return fd;
}

SysResult bpf_btf_load(Machine& machine, const bpf_attr& attr, uint64_t uattr, uint32_t uattr_size) {
  KFN(machine, bpf_btf_load);
  TRY(check_attr(machine, BPF_BTF_LOAD, attr));
  if (attr.btf_flags & ~BPF_F_TOKEN_FD)
    return refuse(Errno::Inval, "btf_flags {} are not known", attr.btf_flags);
  if (attr.btf_flags) TRY(bpf_token_get_from_fd(machine, attr.btf_token_fd));
  if (!bpf_capable(machine)) return refuse(Errno::Perm, "BTF_LOAD needs CAP_BPF");
  return btf_new_fd(machine, attr, uattr, uattr_size);
}

Result<Btf*> btf_get_by_fd(Machine& machine, int fd, const Cause& cause) {
  Btf* btf = TRY(object_of_fd<Btf>(machine, fd, btf_fops));
  btf_get(*btf, cause);
  return btf;
}

}  // namespace bpfsim
