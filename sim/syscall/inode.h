// Models: kernel/bpf/inode.c, fs/namei.c (Linux 6.18)
//
// BPFFS, mounted at /sys/fs/bpf: directories, and files that are pins. A pin holds its object as a descriptor
// does, and outlives every task. The calls of the VFS that a lesson needs stand here too; they know this file
// system and the cgroup hierarchy (host/cgroup.h), and the directories above them only so that a path can
// pass.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "object/inode.h"

namespace bpfsim {

std::unique_ptr<Inode> bpf_mount(Machine& machine);  // an empty file system: drwxrwxrwt root
void bpf_kill_super(Inode& root);                    // drops every pin

struct Task;

struct FileStat {
  uint32_t mode = 0, uid = 0;
  uint64_t ino = 0, nlink = 0;
  Object* object = nullptr;  // what a pin holds
};

// open(2): a directory, of cgroups too; a pin that can be read (pin_file.cpp); or with O_PATH any pin, which
// is then held without its object.
Result<int64_t> do_sys_openat2(Machine& machine, const std::string& path, uint32_t flags);
Result<void> do_mkdirat(Machine& machine, const std::string& path, uint32_t mode);
Result<void> do_rmdir(Machine& machine, const std::string& path);
Result<void> do_unlinkat(Machine& machine, const std::string& path);
Result<void> do_renameat2(Machine& machine, const std::string& from, const std::string& to);
Result<void> do_fchmodat(Machine& machine, const std::string& path, uint32_t mode);
Result<FileStat> vfs_stat(Machine& machine, const std::string& path);
// The task's pid is written to the cgroup.procs of the group with that path.
Result<void> cgroup_procs_write(Machine& machine, const std::string& path, Task& task);
Result<std::vector<std::string>> vfs_readdir(Machine& machine, const std::string& path);  // sorted

void bpffs_iput(Inode& inode);  // a file of it is released
Result<int64_t> bpffs_open_pin(Inode& inode, uint32_t flags);

// The file of a path, for uprobes: EBADF for a directory; null for a pin, which is no file that can be run.
struct ProbedFile;
Result<ProbedFile*> kern_path(Machine& machine, const std::string& path);

// What a pin needs of path walking (obj_pin.cpp). A relative path begins at the directory of descriptor dfd.
Result<void> bpf_obj_do_pin(Machine& machine, int dfd, const std::string& path, Object& object,
                            uint32_t mode);
Result<Inode*> bpf_obj_lookup(Machine& machine, int dfd, const std::string& path,
                              uint32_t may);  // MAY_* bits
inline constexpr int AT_FDCWD_ = -100;
inline constexpr uint32_t MAY_EXEC = 1, MAY_WRITE = 2, MAY_READ = 4;

}  // namespace bpfsim
