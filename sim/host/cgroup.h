// Models: include/linux/cgroup-defs.h, include/linux/bpf-cgroup-defs.h, kernel/cgroup/cgroup.c (Linux 6.18)
//
// The cgroup-v2 hierarchy, mounted at /sys/fs/cgroup: a tree of groups in which every task has its place,
// made with mkdir, removed with rmdir, named to bpf(2) by a descriptor of the directory. Each group has a
// list of programs for every kind of attachment, and what is effective there: its own and those inherited
// (hook/cgroup.cpp attaches and computes). A removed group lives on as long as a descriptor, a link, a map or
// a task holds it, but is offline: nothing finds it any more.
//
// Departs from the kernel: no controllers and no control files (a task is moved by cgroup_attach_task, as a
// write to cgroup.procs does), and references that css_sets hold stand with their tasks.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "object/file.h"
#include "object/link.h"
#include "object/prog.h"

namespace bpfsim {

// One attachment: a program of its own, or a link that holds one.
struct bpf_prog_list {
  Prog* prog = nullptr;
  Link* link = nullptr;
  uint32_t flags = 0;
  Prog* program() const { return prog ? prog : link ? link->prog : nullptr; }
};

// What hangs on a group for one attach type.
struct cgroup_bpf {
  std::vector<bpf_prog_list> progs;
  std::vector<Prog*> effective;  // its own and those inherited, in the order in which they run
  uint32_t flags = 0;            // BPF_F_ALLOW_*, as the first attachment set it
  uint64_t revision = 1;
};

// enum cgroup_bpf_attach_type: a bpf_attach_type, or one of few places for hooks of LSM programs, of which
// each goes to the hook that comes first and stays its own while programs are attached there.
constexpr uint32_t CGROUP_LSM_START = 0x10000, CGROUP_LSM_NUM = 10;

struct BpfCgroupStorage;

struct Cgroup final : Object {
  Cgroup(Machine& machine, Cgroup* parent, std::string name);
  std::string label() const override;  // "cgroup /sys/fs/cgroup/a"
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter which) const override { return which == Counter::Refs ? &refcnt : nullptr; }
  bool is_root() const override { return online && !parent; }

  std::string path() const;  // "/sys/fs/cgroup/a/b"

  Cgroup* parent;  // null for the root, and when offline
  std::string name;
  std::map<std::string, Cgroup*> children;
  int tasks = 0;  // live tasks in it
  bool online = true;
  std::map<uint32_t, cgroup_bpf> bpf;           // by cgroup_bpf_attach_type; what is not here is empty
  BpfLocalStorage* bpf_cgrp_storage = nullptr;  // what cgroup storage maps keep for this group
  std::vector<BpfCgroupStorage*> storages;      // and the older maps of that kind (map/local_storage.h)
  Refcount refcnt{*this, Counter::Refs};
};

struct Cgroups {
  explicit Cgroups(Machine& machine);
  ~Cgroups();

  std::unique_ptr<Cgroup> root;
  std::array<uint32_t, CGROUP_LSM_NUM> lsm_atypes{};  // attach_btf_id of the hook that has it; 0: free
  uint32_t next_id = 1;  // cgroup_id(): the inode number of the directory; the root has 1
};

Cgroup& cgroup_root(Machine& machine);  // the hierarchy is made when first asked for

void cgroup_get(Cgroup& cgroup, const Cause& cause);
void cgroup_put(Cgroup& cgroup, const Cause& cause);

Result<Cgroup*> cgroup_mkdir(Cgroup& parent, const std::string& name);
// Takes the group out of the tree; what hangs on it goes by cgroup_bpf_offline first (hook/attach.h).
Result<void> cgroup_may_rmdir(const Cgroup& cgroup);
void cgroup_destroy(Cgroup& cgroup);

// A descriptor of the current task for the directory.
Result<int64_t> cgroup_open(Cgroup& cgroup);
// The group behind a descriptor of the current task, with a reference: EBADF, or ENOENT when it is offline.
Result<Cgroup*> cgroup_get_from_fd(Machine& machine, int fd, const Cause& cause);

Cgroup& task_cgroup(const Task& task);
void cgroup_attach_task(Cgroup& cgroup, Task& task);
void cgroup_fork(Task& child, const Task& parent);
void cgroup_exit(Task& task);

extern const FileOps cgroup_dir_fops;

}  // namespace bpfsim
