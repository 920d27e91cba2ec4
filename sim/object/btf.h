// Models: include/linux/btf.h, kernel/bpf/btf.c (struct btf) (Linux 6.18)
//
// BTF as an object: the life of one loaded blob. What its types say is btf/'s; here it is only held, by
// descriptors, maps and programs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "object/object.h"

namespace bpfsim {

struct FileOps;
class BtfTypes;  // btf/btf_types.h

struct Btf final : Object {
  Btf(Machine& machine, std::vector<uint8_t> data, std::shared_ptr<const BtfTypes> types);
  std::string label() const override;  // "btf 3"
  const Refcount* counter(Counter which) const override { return which == Counter::Refs ? &refcnt : nullptr; }

  std::vector<uint8_t> data;              // the blob as user space gave it
  std::shared_ptr<const BtfTypes> types;  // parsed
  std::string name;                       // "vmlinux" for the kernel's own; empty for a program's
  bool kernel_btf = false;
  Refcount refcnt{*this, Counter::Refs};
};

// The BTF behind a descriptor of the current task, as long as that is open.
Result<Btf*> __btf_get_by_fd(Machine& machine, int fd);
void btf_get(Btf& btf, const Cause& cause);
void btf_put(Btf& btf, const Cause& cause);

extern const FileOps btf_fops;

}  // namespace bpfsim
