// Models: fs/inode.c, fs/anon_inodes.c, kernel/bpf/inode.c (Linux 6.18)
//
// What an inode holds, and which inode a file has. Departs from the kernel: inodes outside BPFFS are known by
// name and never go, where the kernel frees those of a pid or a terminal with their last user.
#include "object/inode.h"

#include "object/file.h"

namespace bpfsim {

Inode::Inode(Machine& machine, Inode* parent, std::string name, uint32_t mode, uint32_t uid)
    : Object(machine, ObjectKind::Inode), parent(parent), name(std::move(name)), mode(mode), uid(uid) {}

std::string Inode::path() const { return parent ? parent->path() + "/" + name : name; }

std::string Inode::label() const {
  const char* what = is_dir() ? "dir " : i_private ? "pin " : "inode ";
  return what + path() + (linked ? "" : " (deleted)");
}

void Inode::each_held(const HoldVisitor& visit) const {
  if (!i_private) return;
  const std::string via = "pin " + path();
  visit({i_private, Counter::Refs, true, via});
  if (i_private->kind == ObjectKind::Map) visit({i_private, Counter::UserRefs, true, via});
}

const Refcount* Inode::counter(Counter which) const {
  return which == Counter::Refs && i_count.value() > 0 ? &i_count : nullptr;
}

Inode& file_inode(File& file) {
  if (file.f_inode) return *file.f_inode;
  if (file.private_data && file.private_data->kind == ObjectKind::Inode)
    return static_cast<Inode&>(*file.private_data);
  const std::string name = file.f_op.inode_name ? file.f_op.inode_name(file) : "anon_inode";
  std::shared_ptr<Inode>& inode = file.machine.other_inodes[name];
  if (!inode) inode = std::make_shared<Inode>(file.machine, nullptr, name, kModeFile | 0600, 0);
  return *inode;
}

}  // namespace bpfsim
