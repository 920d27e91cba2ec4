// Models: kernel/bpf/syscall.c (bpf_btf_load), kernel/bpf/btf.c (btf_new_fd, btf_get_by_fd) (Linux 6.18)
//
// BTF by descriptor. What a blob may contain is btf/'s to check; here it becomes an object with an id.
#include "object/btf.h"

#include "object/registry.h"
#include "syscall/bpf.h"

namespace bpfsim {

Result<Btf*> btf_get_by_fd(Machine& machine, int fd, const Cause& cause) {
  File* file = current_task(machine).files.get(fd);
  if (!file) return refuse(Errno::BadF, "btf fd {} is not open", fd);
  if (&file->f_op != &btf_fops) return refuse(Errno::Inval, "fd {} is a {}, not a BTF", fd, file->f_op.name);
  auto* btf = static_cast<Btf*>(file->private_data);
  btf_get(*btf, cause);
  return btf;
}

}  // namespace bpfsim
