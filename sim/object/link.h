// Models: include/linux/bpf.h (struct bpf_link), kernel/bpf/syscall.c (Linux 6.18)
//
// A link holds a program attached to a hook, and its descriptors and pins hold the link: when the last goes,
// the program is detached. Each hook derives its own struct and fills a LinkOps table (object/ops.h).
#pragma once

#include <source_location>

#include "object/object.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"
#include "uapi/info.h"

namespace bpfsim {

struct Prog;
struct FileOps;
struct LinkOps;

struct Link : Object {
  Link(Machine& machine, bpf_link_type type, const LinkOps& ops, Prog* prog, bpf_attach_type attach_type);
  std::string label() const override;  // "link 2 (xdp)"
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter which) const override { return which == Counter::Refs ? &refcnt : nullptr; }

  const bpf_link_type type;
  const LinkOps& ops;
  Prog* prog;  // null after a detach has taken it
  bpf_attach_type attach_type;
  Refcount refcnt{*this, Counter::Refs};
};

// A link by a descriptor of the current task, or by its id; each takes a reference.
Result<Link*> bpf_link_get_from_fd(Machine& machine, int fd, const Cause& cause);
Result<Link*> bpf_link_by_id(Machine& machine, uint32_t id, const Cause& cause);

void bpf_link_inc(Link& link, const Cause& cause);
void bpf_link_put(Link& link, const Cause& cause);

// For what links tell of themselves. A name: the caller gave a buffer and its length, or neither, and the
// length becomes the one that the name needs; a number as "%#llx" has it.
Result<void> fill_name(Machine& machine, const std::string& name, uint64_t to, uint32_t& length,
                       std::source_location where = std::source_location::current());
std::string hex(uint64_t value);

extern const FileOps bpf_link_fops;
// Before 5.7, of what RAW_TRACEPOINT_OPEN attached: a raw tracepoint, or a tracing program.
extern const FileOps bpf_raw_tp_fops, bpf_tracing_prog_fops;

}  // namespace bpfsim
