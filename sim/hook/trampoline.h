// Models: include/linux/bpf.h (bpf_trampoline_link_prog and its neighbours) (Linux 6.18)
//
// Attaching to one function: ENOENT, EBUSY, E2BIG where it takes no more; and off again.
#pragma once

#include <string>

#include "object/link.h"
#include "object/prog.h"

namespace bpfsim {

Trampoline* bpf_trampoline_of(Machine& machine, Prog* tgt_prog, uint32_t btf_id, const std::string& function);
Result<void> bpf_trampoline_link_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog);
void bpf_trampoline_unlink_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog);
// LSM programs on cgroups share one program on the hook, whatever their number.
Result<void> bpf_trampoline_link_cgroup_shim(Prog& prog, uint32_t cgroup_atype);
void bpf_trampoline_unlink_cgroup_shim(const Prog& prog);

}  // namespace bpfsim
