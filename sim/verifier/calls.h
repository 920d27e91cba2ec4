// Models: kernel/bpf/verifier.c, check_func_call() and prepare_func_exit() (Linux 6.18)
//
// Calls from BPF to BPF. A static function is walked at each call, in a frame of its own; its arguments are
// what the caller has in R1 to R5.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_func_call(bpf_verifier_env& env, const bpf_insn& insn);
// The callee returns: its frame goes, R0 is the caller's.
[[nodiscard]] Errno prepare_func_exit(bpf_verifier_env& env);

}  // namespace bpfsim
