// Models: kernel/bpf/inode.c, fs/namei.c (Linux 6.18)
//
// Paths are walked as the VFS does: search permission on each directory, then the name. A name with a dot is
// refused by BPFFS itself, which keeps such names for files of the kernel. The last put of what a pin held
// happens with the unlink, or with the last close of one that is open. Departs from the kernel: no groups (a
// file has an owner and the others), no symbolic links, no working directory ("/" is it), umask 022, and
// nothing can be made outside of BPFFS and the cgroup hierarchy.
#include "syscall/inode.h"

#include <algorithm>

#include "hook/attach.h"
#include "host/tracing.h"
#include "object/file.h"
#include "object/ops.h"
#include "syscall/bpf.h"

namespace bpfsim {

namespace {

constexpr size_t PATH_MAX_ = 4096, NAME_MAX_ = 255;
constexpr uint32_t kUmask = 022;
constexpr std::string_view kMountPoint = "/sys/fs/bpf", kCgroupMount = "/sys/fs/cgroup";
// What other file systems have: directories, and one file.
constexpr std::string_view kForeign[] = {"/", "/bin", "/sys", "/sys/fs", "/tmp", "/bin/bash"};
constexpr std::string_view kForeignFile = "/bin/bash";

// Where a walk stands: in BPFFS, in a cgroup, or in a directory of another file system.
struct Place {
  Inode* inode = nullptr;
  std::string foreign;
  Cgroup* cgroup = nullptr;
  bool is_dir() const { return inode ? inode->is_dir() : foreign != kForeignFile; }
  const std::string& name() const { return inode ? inode->name : foreign; }
};

uint32_t fsuid(const Machine& machine) { return machine.current->cred ? machine.current->cred->uid : 0; }

// 0644 as the number 644, which is how everybody writes it.
uint32_t in_octal(uint32_t mode) { return mode < 8 ? mode : 10 * in_octal(mode / 8) + mode % 8; }

Result<void> inode_permission(const Machine& machine, const Inode& inode, uint32_t mask) {
  const uint32_t granted = (fsuid(machine) == inode.uid ? inode.mode >> 6 : inode.mode) & 7;
  if ((granted & mask) == mask) return {};
  if (capable(machine, CAP_DAC_OVERRIDE)) return {};
  const bool only_looks = (mask & MAY_WRITE) == 0;
  if (only_looks && (inode.is_dir() || mask == MAY_READ) && capable(machine, CAP_DAC_READ_SEARCH)) return {};
  return refuse(Errno::Access, "uid {} may not: mode 0{}, owner {}", fsuid(machine),
                in_octal(inode.mode & kModeBits), inode.uid);
}

Place foreign_place(const std::string& path) { return {nullptr, path}; }
Place cgroup_place(Cgroup& cgroup) { return {nullptr, "", &cgroup}; }

Result<void> may_change_roots(const Machine& machine) {
  if (fsuid(machine) == 0 || capable(machine, CAP_DAC_OVERRIDE)) return {};
  return refuse(Errno::Access, "uid {} may not: directories outside of BPFFS are root's", fsuid(machine));
}

Place step_in_cgroup(Cgroup& at, const std::string& name) {
  if (name == "..") return at.parent ? cgroup_place(*at.parent) : foreign_place("/sys/fs");
  auto child = at.children.find(name);
  return child == at.children.end() ? Place{} : cgroup_place(*child->second);
}

// Whether names may be looked up here at all.
Result<void> may_lookup(const Machine& machine, const Place& at) {
  if (!at.is_dir()) return refuse(Errno::NotDir, "{} is not a directory", at.name());
  return at.inode ? inode_permission(machine, *at.inode, MAY_EXEC) : Result<void>{};
}

// A directory of mode 0 takes names with a dot too, and what is there by such a name is found ever after.
Result<Place> bpf_lookup(const Inode& dir, const std::string& name) {
  if (auto child = dir.children.find(name); child != dir.children.end())
    return Place{child->second.get(), ""};
  if ((dir.mode & kModeBits) && name.find('.') != name.npos)
    return refuse(Errno::Perm, "names with a dot are reserved in BPFFS: {}", name);
  if (name.size() > NAME_MAX_) return refuse(Errno::NameTooLong, "a name has at most {} bytes", NAME_MAX_);
  return Place{};
}

// One component further. A null inode with an empty path: there is nothing of that name.
Result<Place> step(Machine& machine, const Place& at, const std::string& name) {
  if (name == ".") return at;
  if (at.inode) {
    if (!at.inode->linked && name != "..") return Place{};
    if (name == "..") return at.inode->parent ? Place{at.inode->parent, ""} : foreign_place("/sys/fs");
    return bpf_lookup(*at.inode, name);
  }
  if (name == ".." && !at.cgroup) {
    const size_t slash = at.foreign.rfind('/');
    return foreign_place(slash == 0 ? "/" : at.foreign.substr(0, slash));
  }
  if (at.cgroup) return step_in_cgroup(*at.cgroup, name);  // kernfs does not ask how long a name is
  if (name.size() > NAME_MAX_) return refuse(Errno::NameTooLong, "a name has at most {} bytes", NAME_MAX_);
  const std::string path = at.foreign == "/" ? "/" + name : at.foreign + "/" + name;
  if (path == kMountPoint) return Place{machine.bpffs, ""};
  if (path == kCgroupMount) return cgroup_place(cgroup_root(machine));
  const bool known = std::find(std::begin(kForeign), std::end(kForeign), path) != std::end(kForeign);
  return known ? foreign_place(path) : Place{};
}

bool exists(const Place& place) { return place.inode || place.cgroup || !place.foreign.empty(); }

extern const FileOps bpffs_fops;

// A path cut into its last component and the directory before it.
struct Parent {
  Place dir;
  std::string last;    // empty: the path is "/"
  bool slash = false;  // something followed by '/'
};

// Where a walk begins: "/" is also every task's working directory, and a descriptor counts for relative paths
// only.
Result<Place> path_init(Machine& machine, const std::string& path, int dfd) {
  if (path.starts_with('/') || dfd == AT_FDCWD_) return foreign_place("/");
  const File* file = current_task(machine).files.get_raw(dfd);
  if (!file) return refuse(Errno::BadF, "path_fd {} is not open", dfd);
  if (&file->f_op == &cgroup_dir_fops) return cgroup_place(static_cast<Cgroup&>(*file->private_data));
  if (&file->f_op == &bpffs_fops) return Place{static_cast<Inode*>(file->private_data), ""};
  return refuse(Errno::NotDir, "path_fd {} is a {}, not a directory", dfd, file->f_op.name);
}

Result<Parent> filename_parentat(Machine& machine, const std::string& path, int dfd = AT_FDCWD_) {
  if (path.empty()) return refuse(Errno::NoEnt, "the path is empty");
  if (path.size() >= PATH_MAX_)
    return refuse(Errno::NameTooLong, "a path has at most {} bytes", PATH_MAX_ - 1);
  Parent parent{TRY(path_init(machine, path, dfd)), "", false};
  for (size_t at = 0; at < path.size();) {
    const size_t start = path.find_first_not_of('/', at);
    if (start == path.npos) {
      parent.slash = true;
      break;
    }
    at = std::min(path.find('/', start), path.size());
    if (!parent.last.empty()) {
      parent.dir = TRY(step(machine, parent.dir, parent.last));
      if (!exists(parent.dir)) return refuse(Errno::NoEnt, "there is no directory {}", parent.last);
    }
    TRY(may_lookup(machine, parent.dir));
    parent.last = path.substr(start, at - start);
  }
  return parent;
}

Result<Place> filename_lookup(Machine& machine, const std::string& path, int dfd = AT_FDCWD_) {
  const Parent parent = TRY(filename_parentat(machine, path, dfd));
  if (parent.last.empty()) return parent.dir;
  Place place = TRY(step(machine, parent.dir, parent.last));
  if (!exists(place)) return refuse(Errno::NoEnt, "there is no {}", parent.last);
  if (parent.slash && !place.is_dir()) return refuse(Errno::NotDir, "{} is not a directory", parent.last);
  return place;
}

// The directory in which something new can be made, and its name.
Result<Parent> filename_create(Machine& machine, const std::string& path, bool directory,
                               int dfd = AT_FDCWD_) {
  Parent parent = TRY(filename_parentat(machine, path, dfd));
  if (parent.last.empty() || parent.last == "." || parent.last == "..")
    return refuse(Errno::Exist, "{} exists", path);
  const Place place = TRY(step(machine, parent.dir, parent.last));
  if (exists(place)) return refuse(Errno::Exist, "{} exists", parent.last);
  if (parent.slash && !directory)
    return refuse(Errno::NoEnt, "only a directory may be named with a '/' behind");
  return parent;
}

Result<void> may_create(const Machine& machine, const Inode& dir) {
  if (!dir.linked) return refuse(Errno::NoEnt, "the directory {} is removed", dir.name);
  return inode_permission(machine, dir, MAY_WRITE | MAY_EXEC);
}

Result<void> may_delete(const Machine& machine, const Inode& dir, const Inode& victim, bool want_dir) {
  TRY(inode_permission(machine, dir, MAY_WRITE | MAY_EXEC));
  const uint32_t uid = fsuid(machine);
  if ((dir.mode & kModeSticky) && uid != victim.uid && uid != dir.uid && !capable(machine, CAP_FOWNER))
    return refuse(Errno::Perm, "the directory is sticky, and {} belongs to uid {}", victim.name, victim.uid);
  if (want_dir && !victim.is_dir()) return refuse(Errno::NotDir, "{} is not a directory", victim.name);
  if (!want_dir && victim.is_dir()) return refuse(Errno::IsDir, "{} is a directory", victim.name);
  return {};
}

Inode& new_inode(Inode& dir, const std::string& name, uint32_t mode) {
  auto inode = std::make_unique<Inode>(dir.machine, &dir, name, mode, fsuid(dir.machine));
  Inode& made = *inode;
  dir.children.emplace(name, std::move(inode));
  emit<LifeEvent>(dir.machine, made, "born");
  return made;
}

// Neither a name nor an open file: what the inode held is put, what maps kept for it goes.
void bpf_destroy_inode(std::unique_ptr<Inode> inode, const Cause& cause) {
  KFN(inode->machine, bpf_destroy_inode);
  if (inode->i_storage) inode->machine.calls->bpf_local_storage_destroy(*inode->i_storage);
  emit<LifeEvent>(inode->machine, *inode, "freed");
  Object* held = inode->i_private;
  inode.reset();
  if (held) bpf_any_put(*held, cause);
}

// The inode leaves its directory. One that somebody has open goes with the last close.
void evict(Inode& inode, const Cause& cause) {
  const std::string path = inode.path();
  std::unique_ptr<Inode> owned = std::move(inode.parent->children.extract(inode.name).mapped());
  inode.parent = nullptr;
  inode.name = path;
  if (inode.i_count.value() == 0) return bpf_destroy_inode(std::move(owned), cause);
  inode.linked = false;
  (void)owned.release();
}

void bpffs_release(File& file) { bpffs_iput(static_cast<Inode&>(*file.private_data)); }

const FileOps bpffs_fops = {.name = "bpffs",
                            .release = bpffs_release,
                            .show_fdinfo = nullptr,
                            .holds = Counter::Refs,
                            .read = generic_read_dir};

}  // namespace

void bpffs_iput(Inode& inode) {
  if (!inode.i_count.dec_and_test({"file released"}) || inode.linked) return;
  bpf_destroy_inode(std::unique_ptr<Inode>(&inode), {"the last file of a deleted inode is closed"});
}

namespace {

// What unlink and rmdir have in common: the thing must be there, in BPFFS, and may go.
Result<Place> find_victim(Machine& machine, const std::string& path, bool want_dir) {
  const Parent parent = TRY(filename_parentat(machine, path));
  if (parent.last.empty()) return refuse(want_dir ? Errno::Busy : Errno::IsDir, "/ cannot go");
  if (parent.last == "." || parent.last == "..") {
    if (!want_dir) return refuse(Errno::IsDir, "{} is a directory", parent.last);
    return refuse(parent.last == "." ? Errno::Inval : Errno::NotEmpty, "{} cannot be removed", parent.last);
  }
  const Place place = TRY(step(machine, parent.dir, parent.last));
  if (!exists(place)) return refuse(Errno::NoEnt, "there is no {}", parent.last);
  if (parent.slash && !want_dir)
    return refuse(place.is_dir() ? Errno::IsDir : Errno::NotDir, "{} with a '/' behind", parent.last);
  if (place.cgroup && place.cgroup->parent) {
    TRY(may_change_roots(machine));
    if (!want_dir) return refuse(Errno::IsDir, "{} is a directory", parent.last);
    return place;
  }
  if (!place.inode || !place.inode->parent) {
    TRY(may_change_roots(machine));
    return refuse(want_dir ? Errno::Busy : Errno::IsDir, "{} is in use by the machine", parent.last);
  }
  TRY(may_delete(machine, *place.inode->parent, *place.inode, want_dir));
  return place;
}

}  // namespace

std::unique_ptr<Inode> bpf_mount(Machine& machine) {
  return std::make_unique<Inode>(machine, nullptr, std::string(kMountPoint), kModeDir | kModeSticky | 0777,
                                 0);
}

void bpf_kill_super(Inode& root) {
  while (!root.children.empty()) {
    Inode& child = *root.children.begin()->second;
    if (child.is_dir()) bpf_kill_super(child);
    evict(child, {"BPFFS is unmounted"});
  }
}

// What the access mode asks for; 3, which gives neither, asks for both.
static uint32_t acc_mode(uint32_t flags) {
  constexpr uint32_t kMay[] = {MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE};
  return kMay[flags & O_ACCMODE_];
}

// What may be opened how.
static Result<void> may_open(const Machine& machine, const Inode& inode, uint32_t flags) {
  if ((flags & O_DIRECTORY_) && !inode.is_dir())
    return refuse(Errno::NotDir, "{} is not a directory", inode.name);
  if (flags & O_PATH_) return {};
  const uint32_t may = acc_mode(flags);
  if (inode.is_dir() && (may & MAY_WRITE)) return refuse(Errno::IsDir, "{} is a directory", inode.name);
  return inode_permission(machine, inode, may);
}

Result<int64_t> do_sys_openat2(Machine& machine, const std::string& path, uint32_t flags) {
  KFN(machine, do_sys_openat2);
  if (flags & ~(O_ACCMODE_ | O_DIRECTORY_ | O_PATH_ | O_CLOEXEC_))
    return refuse(Errno::Inval, "not modelled yet: flags {} of open(2)", flags);
  Task& task = current_task(machine);
  TRY(task.files.check_room());
  if (path == "/proc/self/ns/net") return netns_open(machine);
  const Place place = TRY(filename_lookup(machine, path));
  if (place.cgroup && !(flags & O_PATH_) && (acc_mode(flags) & MAY_WRITE))
    return refuse(Errno::IsDir, "{} is a directory", path);
  if (place.cgroup) return cgroup_open(*place.cgroup);
  if (!place.inode) return refuse(Errno::OpNotSupp, "not modelled yet: opening {}", path);
  TRY(may_open(machine, *place.inode, flags));
  if (!place.inode->is_dir() && !(flags & O_PATH_)) return bpffs_open_pin(*place.inode, flags);
  auto* file = new File(machine, bpffs_fops, place.inode, flags);
  place.inode->i_count.inc({"opened by task {}", task.pid});
  return TRY(fd_install(task, *file));
}

Result<void> do_mkdirat(Machine& machine, const std::string& path, uint32_t mode) {
  KFN(machine, bpf_mkdir);
  const Parent parent = TRY(filename_create(machine, path, true));
  if (parent.dir.cgroup) {
    TRY(may_change_roots(machine));
    cgroup_bpf_inherit(*TRY(cgroup_mkdir(*parent.dir.cgroup, parent.last)));
    return {};
  }
  if (!parent.dir.inode)
    return refuse(Errno::Perm, "{} is in neither /sys/fs/bpf nor /sys/fs/cgroup", parent.last);
  TRY(may_create(machine, *parent.dir.inode));
  const uint32_t setgid = parent.dir.inode->mode & kModeSetgid;  // a directory passes it on
  new_inode(*parent.dir.inode, parent.last, kModeDir | setgid | (mode & 01777 & ~kUmask));
  return {};
}

Result<void> do_rmdir(Machine& machine, const std::string& path) {
  KFN(machine, simple_rmdir);
  const Place place = TRY(find_victim(machine, path, true));
  if (place.cgroup) {
    TRY(cgroup_may_rmdir(*place.cgroup));
    cgroup_bpf_offline(*place.cgroup);
    cgroup_destroy(*place.cgroup);
    return {};
  }
  Inode* dir = place.inode;
  if (!dir->children.empty())
    return refuse(Errno::NotEmpty, "directory {} is not empty, names in it: {}", dir->name,
                  dir->children.size());
  evict(*dir, {"rmdir"});
  return {};
}

Result<void> do_unlinkat(Machine& machine, const std::string& path) {
  KFN(machine, simple_unlink);
  Inode* file = TRY(find_victim(machine, path, false)).inode;
  evict(*file, {"unlinked by task {}", machine.current->pid});
  return {};
}

Result<void> do_renameat2(Machine& machine, const std::string& from, const std::string& to) {
  KFN(machine, simple_rename);
  const Parent old_parent = TRY(filename_parentat(machine, from));
  const Parent new_parent = TRY(filename_parentat(machine, to));
  for (const std::string& last : {old_parent.last, new_parent.last})
    if (last.empty() || last == "." || last == "..")
      return refuse(Errno::Busy, "'{}' cannot be renamed", last);
  const Place old_place = TRY(step(machine, old_parent.dir, old_parent.last));
  if (!exists(old_place)) return refuse(Errno::NoEnt, "there is no {}", old_parent.last);
  const Place new_place = TRY(step(machine, new_parent.dir, new_parent.last));
  if (!old_parent.dir.inode || !new_parent.dir.inode)
    return refuse(Errno::Perm, "only what is in /sys/fs/bpf can be renamed");
  Inode &moved = *old_place.inode, &dir = *new_parent.dir.inode;
  if (!moved.is_dir() && (old_parent.slash || new_parent.slash))
    return refuse(Errno::NotDir, "{} is not a directory", moved.name);
  for (const Inode* above = &dir; above; above = above->parent)
    if (above == &moved) return refuse(Errno::Inval, "a directory cannot go into itself");
  for (const Inode* above = moved.parent; above; above = above->parent)
    if (above == new_place.inode) return refuse(Errno::NotEmpty, "the target holds what is moved");
  if (new_place.inode == &moved) return {};
  TRY(may_delete(machine, *moved.parent, moved, moved.is_dir()));
  TRY(new_place.inode ? may_delete(machine, dir, *new_place.inode, moved.is_dir())
                      : may_create(machine, dir));
  if (moved.is_dir() && moved.parent != &dir)  // its ".." is written anew
    TRY(inode_permission(machine, moved, MAY_WRITE));
  if (new_place.inode) {
    if (!new_place.inode->children.empty())
      return refuse(Errno::NotEmpty, "{} is not empty", new_parent.last);
    evict(*new_place.inode, {"renamed over by task {}", machine.current->pid});
  }
  auto node = moved.parent->children.extract(moved.name);
  node.key() = moved.name = new_parent.last;
  moved.parent = &dir;
  dir.children.insert(std::move(node));
  return {};
}

Result<void> do_fchmodat(Machine& machine, const std::string& path, uint32_t mode) {
  const Place place = TRY(filename_lookup(machine, path));
  if (!place.inode) return refuse(Errno::Perm, "only what is in /sys/fs/bpf has a mode to change");
  if (fsuid(machine) != place.inode->uid && !capable(machine, CAP_FOWNER))
    return refuse(Errno::Perm, "only the owner, uid {}, may change the mode", place.inode->uid);
  place.inode->mode = (place.inode->mode & ~kModeBits) | (mode & kModeBits);
  return {};
}

Result<void> cgroup_procs_write(Machine& machine, const std::string& path, Task& task) {
  KFN(machine, cgroup_procs_write);
  const Place place = TRY(filename_lookup(machine, path));
  if (!place.cgroup) return refuse(Errno::NoEnt, "{} is no directory of /sys/fs/cgroup", path);
  TRY(may_change_roots(machine));
  cgroup_attach_task(*place.cgroup, task);
  return {};
}

Result<FileStat> vfs_stat(Machine& machine, const std::string& path) {
  const Place place = TRY(filename_lookup(machine, path));
  if (place.cgroup)
    return FileStat{.mode = kModeDir | 0755,
                    .uid = 0,
                    .ino = place.cgroup->id,
                    .nlink = 2 + place.cgroup->children.size(),
                    .object = place.cgroup};
  if (!place.is_dir() && !place.inode)
    return FileStat{.mode = kModeFile | 0755, .uid = 0, .ino = 2, .nlink = 1};
  if (!place.inode) return FileStat{.mode = kModeDir | 0755, .uid = 0, .ino = 1, .nlink = 2};
  const Inode& inode = *place.inode;
  FileStat stat{
      .mode = inode.mode, .uid = inode.uid, .ino = inode.serial, .nlink = 1, .object = inode.i_private};
  if (inode.is_dir())
    stat.nlink = 2 + size_t(std::count_if(inode.children.begin(), inode.children.end(),
                                          [](auto& child) { return child.second->is_dir(); }));
  return stat;
}

Result<std::vector<std::string>> vfs_readdir(Machine& machine, const std::string& path) {
  const Place place = TRY(filename_lookup(machine, path));
  std::vector<std::string> names;
  if (place.cgroup) {
    for (const auto& [name, child] : place.cgroup->children) names.push_back(name);
    return names;
  }
  if (!place.is_dir()) return refuse(Errno::NotDir, "{} is not a directory", place.name());
  if (!place.inode) {  // what lies directly in it
    const std::string prefix = place.foreign == "/" ? "/" : place.foreign + "/";
    std::vector<std::string_view> known(std::begin(kForeign) + 1, std::end(kForeign));
    known.insert(known.end(), {kMountPoint, kCgroupMount});
    for (std::string_view path : known)
      if (path.starts_with(prefix) && path.find('/', prefix.size()) == path.npos)
        names.emplace_back(path.substr(prefix.size()));
    return names;
  }
  TRY(inode_permission(machine, *place.inode, MAY_READ));
  for (const auto& [name, inode] : place.inode->children) names.push_back(name);
  return names;
}

Result<ProbedFile*> kern_path(Machine& machine, const std::string& path) {
  KFN(machine, kern_path);
  // The kernel's own walks take an empty path for the directory in which they begin.
  const Place place = TRY(filename_lookup(machine, path.empty() ? "/" : path));
  if (place.is_dir()) return refuse(Errno::BadF, "'{}' is a directory", path);
  return place.inode ? nullptr : &tracing(machine).bash;
}

Result<void> bpf_obj_do_pin(Machine& machine, int dfd, const std::string& path, Object& object,
                            uint32_t mode) {
  KFN(machine, bpf_obj_do_pin);
  const Parent parent = TRY(filename_create(machine, path, false, dfd));
  if (!parent.dir.inode) return refuse(Errno::Perm, "{} is not in BPFFS: pin below /sys/fs/bpf", parent.last);
  TRY(may_create(machine, *parent.dir.inode));
  new_inode(*parent.dir.inode, parent.last, kModeFile | (mode & ~kUmask)).i_private = &object;
  return {};
}

Result<Inode*> bpf_obj_lookup(Machine& machine, int dfd, const std::string& path, uint32_t may) {
  const Place place = TRY(filename_lookup(machine, path, dfd));
  if (!place.inode) return refuse(Errno::Access, "{} is not in BPFFS", path);
  TRY(inode_permission(machine, *place.inode, may));
  if (!place.inode->i_private) return refuse(Errno::Access, "{} is a directory, not a pin", path);
  return place.inode;
}

}  // namespace bpfsim
