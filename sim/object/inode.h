// Models: include/linux/fs.h (struct inode), kernel/bpf/inode.c (Linux 6.18)
//
// What a file is behind its descriptors and names. BPFFS has directories and pins, found by path
// (syscall/inode.h). Every other open file has an inode too, which only inode storage ever asks for: all
// maps, programs, links and BTF share one, the anonymous inode; a terminal and a pid have their own. An inode
// lives while it has a name or an open file: i_count counts the latter.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "object/object.h"

namespace bpfsim {

struct BpfLocalStorage;  // map/bpf_local_storage.h
struct File;

inline constexpr uint32_t kModeDir = 0040000, kModeFile = 0100000, kModeSticky = 01000, kModeSetgid = 02000,
                          kModeBits = 07777;

struct Inode final : Object {
  Inode(Machine& machine, Inode* parent, std::string name, uint32_t mode, uint32_t uid);
  std::string label() const override;  // "pin /sys/fs/bpf/counts", "dir /sys/fs/bpf", "inode anon_inode"
  void each_held(const HoldVisitor&) const override;
  bool is_root() const override { return linked; }
  const Refcount* counter(Counter which) const override;  // only of one that somebody has open

  bool is_dir() const { return (mode & kModeDir) != 0; }
  std::string path() const;

  Inode* parent;     // null for the root of a file system, for what is unlinked, and outside BPFFS
  std::string name;  // with a parent the last component, without one the whole path
  uint32_t mode, uid;
  bool linked = true;           // it has a name
  Object* i_private = nullptr;  // what a pin holds
  std::map<std::string, std::unique_ptr<Inode>> children;
  BpfLocalStorage* i_storage = nullptr;  // what inode storage maps keep for it
  Refcount i_count{*this, Counter::Refs};
};

// The inode of an open file. One outside BPFFS is made when first asked for and stays until the machine
// halts.
Inode& file_inode(File& file);

}  // namespace bpfsim
