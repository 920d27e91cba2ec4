// Models: kernel/bpf/verifier.c, check_cond_jmp_op() (Linux 6.18)
//
// A conditional jump: decided by what is known, or two paths, each of which knows more than before.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// Sets env.insn_idx to the instruction before the next one when the jump is taken for sure.
[[nodiscard]] Errno check_cond_jmp_op(bpf_verifier_env& env, const bpf_insn& insn);

}  // namespace bpfsim
