// Models: kernel/bpf/token.c, kernel/bpf/syscall.c (token_create) (Linux 6.18)
//
// BPF tokens: what a container may be given of bpf(2). Every task here lives in the initial user namespace,
// where the kernel makes no token either; so TOKEN_CREATE refuses even the descriptor of a BPFFS's root, and
// the commands that take a token never find one.
#include "object/inode.h"
#include "syscall/bpf.h"

namespace bpfsim {

static SysResult bpf_token_create(Machine& machine, int bpffs_fd) {
  KFN(machine, bpf_token_create);
  const File* file = current_task(machine).files.get(bpffs_fd);
  if (!file) return refuse(Errno::BadF, "bpffs_fd {} is not open", bpffs_fd);
  if (file->private_data != machine.bpffs)
    return refuse(Errno::Inval, "fd {} is a {}, not the root of a BPFFS", bpffs_fd, file->f_op.name);
  if (!capable(machine, CAP_BPF))  // here CAP_SYS_ADMIN does not stand for it
    return refuse(Errno::Perm, "needs CAP_BPF");
  return refuse(Errno::OpNotSupp, "the initial user namespace needs no token");
}

SysResult token_create(Machine& machine, const bpf_attr& attr) {
  KFN(machine, token_create);
  TRY(check_attr(machine, BPF_TOKEN_CREATE, attr));
  if (attr.token_create.flags)
    return refuse(Errno::Inval, "flags {} have no meaning yet", attr.token_create.flags);
  return bpf_token_create(machine, int(attr.token_create.bpffs_fd));
}

Result<void> bpf_token_get_from_fd(Machine& machine, int fd) {
  const File* file = current_task(machine).files.get(fd);
  if (!file) return refuse(Errno::BadF, "token fd {} is not open", fd);
  return refuse(Errno::Inval, "fd {} is a {}, not a token", fd, file->f_op.name);
}

}  // namespace bpfsim
