// Models: kernel/bpf/syscall.c (bpf_map_get_with_uref, bpf_obj_get_next_id, bpf_*_get_fd_by_id),
// kernel/bpf/inode.c (bpf_any_get, bpf_fd_probe_obj) (Linux 6.18)
//
// How a command comes to an object: by a descriptor of the task, or by an id, which only CAP_SYS_ADMIN may
// turn into a descriptor.
#include "object/btf.h"
#include "object/registry.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"

namespace bpfsim {

Result<Map*> bpf_map_get_with_uref(Machine& machine, int fd, const Cause& cause) {
  Map* map = TRY(__bpf_map_get(machine, fd));
  bpf_map_inc_with_uref(*map, cause);
  return map;
}

void bpf_any_get(Object& object, const Cause& cause) {
  switch (object.kind) {
    case ObjectKind::Map: return bpf_map_inc_with_uref(static_cast<Map&>(object), cause);
    case ObjectKind::Prog: return bpf_prog_inc(static_cast<Prog&>(object), cause);
    case ObjectKind::Link: return bpf_link_inc(static_cast<Link&>(object), cause);
    default: return btf_get(static_cast<Btf&>(object), cause);
  }
}

void bpf_any_put(Object& object, const Cause& cause) {
  switch (object.kind) {
    case ObjectKind::Map: return bpf_map_put_with_uref(static_cast<Map&>(object), cause);
    case ObjectKind::Prog: return bpf_prog_put(static_cast<Prog&>(object), cause);
    case ObjectKind::Link: return bpf_link_put(static_cast<Link&>(object), cause);
    default: return btf_put(static_cast<Btf&>(object), cause);
  }
}

SysResult bpf_prog_new_fd(Prog& prog, Holding& reference) {
  KFN(prog.machine, bpf_prog_new_fd);
  return anon_inode_getfd(prog.machine, bpf_prog_fops, prog, O_RDWR_ | O_CLOEXEC_, reference);
}

SysResult bpf_link_new_fd(Link& link, Holding& reference) {
  KFN(link.machine, bpf_link_new_fd);
  return anon_inode_getfd(link.machine, bpf_link_fops, link, O_CLOEXEC_, reference);
}

static SysResult __btf_new_fd(Btf& btf, Holding& reference) {
  KFN(btf.machine, __btf_new_fd);
  return anon_inode_getfd(btf.machine, btf_fops, btf, O_RDONLY_ | O_CLOEXEC_, reference);
}

SysResult bpf_any_new_fd(Object& object, int f_flags, Holding& reference) {
  switch (object.kind) {
    case ObjectKind::Map: return bpf_map_new_fd(static_cast<Map&>(object), f_flags, reference);
    case ObjectKind::Prog: return bpf_prog_new_fd(static_cast<Prog&>(object), reference);
    case ObjectKind::Link: return bpf_link_new_fd(static_cast<Link&>(object), reference);
    default: return __btf_new_fd(static_cast<Btf&>(object), reference);
  }
}

// A descriptor that is no map, program or link gives EINVAL whatever else is wrong with it.
Result<Object*> bpf_fd_probe_obj(Machine& machine, int fd, const Cause& cause) {
  if (auto map = bpf_map_get_with_uref(machine, fd, cause)) return static_cast<Object*>(*map);
  if (auto prog = bpf_prog_get(machine, fd, cause)) return static_cast<Object*>(*prog);
  if (auto link = bpf_link_get_from_fd(machine, fd, cause)) return static_cast<Object*>(*link);
  return refuse(Errno::Inval, "fd {} is neither map, program nor link", fd);
}

// The object of a registry with exactly this id, or the first after it.
static Object* find_object(const Registry& registry, ObjectKind kind, uint32_t id, bool or_after) {
  auto in = [&](const auto& idr) -> Object* { return or_after ? idr.at_or_after(id) : idr.find(id); };
  switch (kind) {
    case ObjectKind::Map: return in(registry.map_idr);
    case ObjectKind::Prog: return in(registry.prog_idr);
    case ObjectKind::Link: return in(registry.link_idr);
    default: return in(registry.btf_idr);
  }
}

SysResult bpf_obj_get_next_id(Machine& machine, bpf_cmd cmd, ObjectKind kind, const bpf_attr& attr,
                              UserAttr uattr) {
  KFN(machine, bpf_obj_get_next_id);
  TRY(check_attr(machine, cmd, attr));
  if (attr.start_id >= INT32_MAX)
    return refuse(Errno::Inval, "start_id {} leaves no id after it", attr.start_id);
  if (!capable(machine, CAP_SYS_ADMIN)) return refuse(Errno::Perm, "needs CAP_SYS_ADMIN");
  const Object* next = find_object(*machine.registry, kind, attr.start_id + 1, true);
  if (!next) return refuse(Errno::NoEnt, "no {} has an id after {}", object_kind_name(kind), attr.start_id);
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, next_id), &next->id, sizeof next->id));
  return 0;
}

SysResult bpf_obj_get_fd_by_id(Machine& machine, bpf_cmd cmd, ObjectKind kind, const bpf_attr& attr) {
  KFN(machine, bpf_obj_get_fd_by_id);
  TRY(check_attr(machine, cmd, attr));
  const bool knows_tokens = kind == ObjectKind::Btf && has(Gate::btf_by_token, machine.version);
  const uint32_t allowed = kind == ObjectKind::Map ? BPF_F_RDONLY | BPF_F_WRONLY
                           : knows_tokens          ? BPF_F_TOKEN_FD
                                                   : 0;
  if (attr.open_flags & ~allowed)
    return refuse(Errno::Inval, "open_flags {} have no meaning here", attr.open_flags);
  if (attr.open_flags & BPF_F_TOKEN_FD) TRY(bpf_token_get_from_fd(machine, attr.fd_by_id_token_fd));
  if (!capable(machine, CAP_SYS_ADMIN)) return refuse(Errno::Perm, "needs CAP_SYS_ADMIN");
  const int f_flags = TRY(bpf_get_file_flag(attr.open_flags));
  Object* object = find_object(*machine.registry, kind, attr.start_id, false);
  if (!object) return refuse(Errno::NoEnt, "no {} has the id {}", object_kind_name(kind), attr.start_id);
  // The registry holds nothing: between the last put and the end of the id the counter is 0, and stays so.
  if (object->counter(Counter::Refs)->value() == 0)
    return refuse(Errno::NoEnt, "{} {} is going", object_kind_name(kind), attr.start_id);
  bpf_any_get(*object, {"by its id, task {}", machine.current->pid});
  Holding found(machine, *object, "bpf(GET_FD_BY_ID)", kind == ObjectKind::Map);
  SysResult fd = bpf_any_new_fd(*object, f_flags, found);
  if (!fd) {
    found.release();
    bpf_any_put(*object, {"no descriptor"});
  }
  return fd;
}

}  // namespace bpfsim
