// Models: kernel/bpf/syscall.c (bpf_obj_pin, bpf_obj_get), kernel/bpf/inode.c (Linux 6.18)
//
// BPF_OBJ_PIN gives an object a name in BPFFS, BPF_OBJ_GET makes a descriptor of it again. With BPF_F_PATH_FD
// a relative path begins at the directory of path_fd; an absolute one ignores it, as everywhere in Linux.
#include "object/ops.h"
#include "syscall/bpf.h"
#include "syscall/inode.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

static Result<std::string> getname(Machine& machine, const bpf_attr& attr) {
  constexpr size_t kPathMax = 4096;
  Result<std::string> path = strncpy_from_user(machine, attr.pathname, kPathMax);
  if (path.err() == Errno::TooBig)
    return refuse(Errno::NameTooLong, "a path has at most {} bytes", kPathMax - 1);
  return path;
}

// path_fd may be named only where BPF_F_PATH_FD says so.
static bool stray_path_fd(const bpf_attr& attr) { return !(attr.file_flags & BPF_F_PATH_FD) && attr.path_fd; }

// Which directory a relative path begins at.
static int path_fd_of(const bpf_attr& attr) {
  return attr.file_flags & BPF_F_PATH_FD ? int(attr.path_fd) : AT_FDCWD_;
}

SysResult bpf_obj_pin(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_obj_pin);
  TRY(check_attr(machine, BPF_OBJ_PIN, attr));
  if (attr.file_flags & ~(BPF_F_PATH_FD & known_map_flags(machine.version)))
    return refuse(Errno::Inval, "file_flags {} have no meaning here", attr.file_flags);
  if (stray_path_fd(attr)) return refuse(Errno::Inval, "path_fd without BPF_F_PATH_FD");
  Object* object =
      TRY(bpf_fd_probe_obj(machine, int(attr.bpf_fd), {"pinned by task {}", machine.current->pid}));
  Holding probed(machine, *object, "bpf(BPF_OBJ_PIN)", object->kind == ObjectKind::Map);
  Result<std::string> path = getname(machine, attr);
  constexpr uint32_t kOwnerReadsAndWrites = 0600;
  Result<void> pinned =
      path ? bpf_obj_do_pin(machine, path_fd_of(attr), *path, *object, kOwnerReadsAndWrites) : path.refusal();
  probed.release();
  if (!pinned) {
    bpf_any_put(*object, {"not pinned"});
    return pinned.refusal();
  }
  return 0;
}

SysResult bpf_obj_get(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_obj_get);
  TRY(check_attr(machine, BPF_OBJ_GET, attr));
  if (attr.bpf_fd) return refuse(Errno::Inval, "bpf_fd must be 0, is {}", attr.bpf_fd);
  if (attr.file_flags & ~(BPF_F_RDONLY | BPF_F_WRONLY | (BPF_F_PATH_FD & known_map_flags(machine.version))))
    return refuse(Errno::Inval, "file_flags {} have no meaning here", attr.file_flags);
  if (stray_path_fd(attr)) return refuse(Errno::Inval, "path_fd without BPF_F_PATH_FD");
  const int f_flags = TRY(bpf_get_file_flag(attr.file_flags));
  const std::string path = TRY(getname(machine, attr));
  const uint32_t may = f_flags == int(O_RDONLY_)   ? MAY_READ
                       : f_flags == int(O_WRONLY_) ? MAY_WRITE
                                                   : MAY_READ | MAY_WRITE;
  Object& object = *TRY(bpf_obj_lookup(machine, path_fd_of(attr), path, may))->i_private;
  bpf_any_get(object, {"opened from BPFFS by task {}", machine.current->pid});
  Holding opened(machine, object, "bpf(BPF_OBJ_GET)", object.kind == ObjectKind::Map);
  SysResult fd = 0;
  if (object.kind == ObjectKind::Link && f_flags != int(O_RDWR_) &&
      has(Gate::link_opened_whole, machine.version))
    fd = refuse(Errno::Inval, "a link is opened for reading and writing");
  else
    fd = bpf_any_new_fd(object, f_flags, opened);
  if (!fd) {
    opened.release();
    bpf_any_put(object, {"no descriptor"});
  }
  return fd;
}

}  // namespace bpfsim
