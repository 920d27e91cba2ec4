// Models: kernel/bpf/verifier.c, check_ld_imm() (Linux 6.18)
//
// The instruction of two slots: a 64-bit number, a map, a place in a map's value, a function.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_ld_imm(bpf_verifier_env& env, const bpf_insn& insn);

}  // namespace bpfsim
