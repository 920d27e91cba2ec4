// Models: kernel/bpf/verifier.c, do_check() (Linux 6.18)
//
// The walk over all paths of the program, and nothing else: each instruction's own rules stand in its room.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno do_check_main(bpf_verifier_env& env);
[[nodiscard]] Errno do_check_subprogs(bpf_verifier_env& env);  // global functions, each on its own

}  // namespace bpfsim
