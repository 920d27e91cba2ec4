// Models: kernel/bpf/verifier.c, bpf_check() (Linux 6.18)
//
// The verifier as the syscall calls it.
#pragma once

#include "object/ops.h"

namespace bpfsim {

// Checks the program of prog.insnsi and rewrites it there. On success the program holds its maps. The
// verifier's log goes to the user buffer of `attr`, its size to log_true_size of the user's attr at `uattr`
// (0: nowhere).
Result<void> bpf_check(Prog& prog, const bpf_attr& attr, UserAttr uattr, uint32_t uattr_size);

}  // namespace bpfsim
