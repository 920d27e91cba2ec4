// Models: kernel/cgroup/cgroup.c (Linux 6.18)
//
// The tree of groups: its directories, who is in them, and the references that keep a removed one. What a
// directory counts for its group stands with its parent, which keeps it while it is online.
#include "host/cgroup.h"

#include "object/ops.h"
#include "uapi/tables.h"

namespace bpfsim {

Cgroup::Cgroup(Machine& machine, Cgroup* parent, std::string name)
    : Object(machine, ObjectKind::Cgroup), parent(parent), name(std::move(name)) {}

std::string Cgroup::path() const {
  if (parent) return parent->path() + "/" + name;
  return name.empty() ? "/sys/fs/cgroup" : name;  // the root, or the path that a removed group had
}

std::string Cgroup::label() const { return "cgroup " + path() + (online ? "" : " (removed)"); }

void Cgroup::each_held(const HoldVisitor& visit) const {
  for (const auto& [child_name, child] : children) visit({child, Counter::Refs, true, "dir " + child_name});
  for (const auto& [type, slot] : bpf) {
    for (size_t i = 0; i < slot.progs.size(); ++i) {
      const uint32_t at = type >= CGROUP_LSM_START ? uint32_t(BPF_LSM_CGROUP) : type;
      const std::string where = short_name(find_attach_type(at)->name) + "[" + std::to_string(i) + "]";
      if (slot.progs[i].prog) visit({slot.progs[i].prog, Counter::Refs, true, where});
      if (slot.progs[i].link) visit({slot.progs[i].link, Counter::Refs, false, where});
    }
  }
}

Cgroups::Cgroups(Machine& machine) : root(std::make_unique<Cgroup>(machine, nullptr, "")) {
  root->id = next_id++;
}

static void drop_children(Cgroup& cgroup) {
  while (!cgroup.children.empty()) {
    Cgroup& child = *cgroup.children.begin()->second;
    drop_children(child);
    cgroup_destroy(child);
  }
}

Cgroups::~Cgroups() { drop_children(*root); }

Cgroup& cgroup_root(Machine& machine) {
  if (!machine.cgroups) machine.cgroups = std::make_shared<Cgroups>(machine);
  return *machine.cgroups->root;
}

void cgroup_get(Cgroup& cgroup, const Cause& cause) { cgroup.refcnt.inc(cause); }

void cgroup_put(Cgroup& cgroup, const Cause& cause) {
  if (!cgroup.refcnt.dec_and_test(cause) || cgroup.is_root()) return;
  KFN(cgroup.machine, css_free_rwork_fn);
  if (cgroup.bpf_cgrp_storage) cgroup.machine.calls->bpf_local_storage_destroy(*cgroup.bpf_cgrp_storage);
  emit<LifeEvent>(cgroup.machine, cgroup, "freed");
  delete &cgroup;
}

Result<Cgroup*> cgroup_mkdir(Cgroup& parent, const std::string& name) {
  KFN(parent.machine, cgroup_mkdir);
  if (name.find('\n') != name.npos) return refuse(Errno::Inval, "the name has a line break in it");
  if (!parent.online) return refuse(Errno::NoDev, "{} is removed", parent.name);
  auto* cgroup = new Cgroup(parent.machine, &parent, name);
  cgroup->id = parent.machine.cgroups->next_id++;
  parent.children.emplace(name, cgroup);
  cgroup_get(*cgroup, {"mkdir by task {}", parent.machine.current->pid});
  emit<LifeEvent>(parent.machine, *cgroup, "born");
  return cgroup;
}

Result<void> cgroup_may_rmdir(const Cgroup& cgroup) {
  if (!cgroup.children.empty())
    return refuse(Errno::Busy, "{} has {} groups below it", cgroup.name, cgroup.children.size());
  if (cgroup.tasks) return refuse(Errno::Busy, "{} tasks are in {}", cgroup.tasks, cgroup.name);
  return {};
}

void cgroup_destroy(Cgroup& cgroup) {
  KFN(cgroup.machine, cgroup_destroy_locked);
  while (!cgroup.storages.empty()) cgroup.machine.calls->bpf_cgroup_storage_free(*cgroup.storages.back());
  std::string was = cgroup.path();
  cgroup.parent->children.erase(cgroup.name);
  cgroup.online = false;
  cgroup.parent = nullptr;
  cgroup.name = std::move(was);
  cgroup_put(cgroup, {"rmdir by task {}", cgroup.machine.current->pid});
}

static void cgroup_file_release(File& file) {
  cgroup_put(static_cast<Cgroup&>(*file.private_data), {"file released"});
}

static std::string cgroup_inode_name(const File& file) {
  return "cgroup:[" + std::to_string(file.private_data->id) + "]";
}

const FileOps cgroup_dir_fops = {.name = "cgroup",
                                 .release = cgroup_file_release,
                                 .show_fdinfo = nullptr,
                                 .holds = Counter::Refs,
                                 .read = generic_read_dir,
                                 .inode_name = cgroup_inode_name};

Result<int64_t> cgroup_open(Cgroup& cgroup) {
  constexpr uint32_t O_LARGEFILE_ = 0100000;
  Machine& machine = cgroup.machine;
  cgroup_get(cgroup, {"opened by task {}", machine.current->pid});
  Holding held(machine, cgroup, "open()");
  Result<int64_t> fd =
      anon_inode_getfd(machine, cgroup_dir_fops, cgroup, O_RDONLY_ | O_LARGEFILE_ | O_DIRECTORY_, held);
  held.release();
  if (!fd) cgroup_put(cgroup, {"not opened"});
  return fd;
}

Result<Cgroup*> cgroup_get_from_fd(Machine& machine, int fd, const Cause& cause) {
  KFN(machine, cgroup_get_from_fd);
  BorrowedFile borrowed(machine, current_task(machine).files.get(fd));
  File* file = borrowed.get();
  if (!file) return refuse(Errno::BadF, "fd {} is not open", fd);
  if (&file->f_op != &cgroup_dir_fops) return refuse(Errno::BadF, "fd {} is no cgroup directory", fd);
  auto& cgroup = static_cast<Cgroup&>(*file->private_data);
  if (!cgroup.online) return refuse(Errno::NoEnt, "the cgroup of fd {} is removed", fd);
  cgroup_get(cgroup, cause);
  return &cgroup;
}

Cgroup& task_cgroup(const Task& task) {
  return task.cgroup ? static_cast<Cgroup&>(*task.cgroup) : cgroup_root(task.machine);
}

void cgroup_attach_task(Cgroup& cgroup, Task& task) {
  KFN(cgroup.machine, cgroup_attach_task);
  if (!cgroup.is_root()) {
    cgroup_get(cgroup, {"task {} moved in", task.pid});
    ++cgroup.tasks;
  }
  cgroup_exit(task);
  if (!cgroup.is_root()) task.cgroup = &cgroup;
}

void cgroup_fork(Task& child, const Task& parent) {
  if (parent.cgroup) cgroup_attach_task(task_cgroup(parent), child);
}

void cgroup_exit(Task& task) {
  if (!task.cgroup) return;
  auto& left = static_cast<Cgroup&>(*std::exchange(task.cgroup, nullptr));
  --left.tasks;
  cgroup_put(left, {"task {} left", task.pid});
}

}  // namespace bpfsim
