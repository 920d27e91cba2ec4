// Models: kernel/bpf/verifier.c, check_alu_op() (Linux 6.18)
//
// Arithmetic: the form of the instruction, then numbers by scalar_range, pointers by ptr_alu.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_alu_op(bpf_verifier_env& env, const bpf_insn& insn);

}  // namespace bpfsim
