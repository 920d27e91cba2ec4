// Models: kernel/bpf/bpf_iter.c (Linux 6.18)
//
// Iterators: a program that runs once for each task, map, program, link, socket, or element of a map, and
// writes text. What it is shown is its target; a link binds it to one, ITER_CREATE makes a file of the link,
// and reading the file runs it.
#pragma once

#include <span>

#include "object/ops.h"

namespace bpfsim {

// An argument of an iterator's context that is not simply a trusted pointer to its struct.
struct CtxArg {
  uint32_t offset;  // in the context
  uint32_t reg_type;
  const char* structure;  // for PTR_TO_BTF_ID
};

struct IterOps;  // hook/iter_seq.h

struct IterTarget {
  const char* name;  // "bpf_map": the function bpf_iter_bpf_map stands for it
  CtxArg args[2];
  bool resched;  // sleepable programs may use it
  const IterOps& ops;
};

// The target that a program named when it was loaded; null: it is no iterator.
const IterTarget* iter_target_of(const Prog& prog);

// As bpf_xdp_link_attach().
Result<Link*> bpf_iter_link_attach(Prog& prog, const bpf_attr& attr);
bool is_bpf_iter_link(const Link& link);
// A new descriptor of the current task; EINVAL for a link that is no iterator's.
Result<int64_t> bpf_iter_new_fd(Link& link);

}  // namespace bpfsim
