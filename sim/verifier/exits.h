// Models: kernel/bpf/verifier.c, check_return_code() and check_ld_abs() (Linux 6.18)
//
// How a program ends: what its kind and attach point allow it to answer. And LD_ABS, which may end it, too.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_return_code(bpf_verifier_env& env, uint32_t regno);
[[nodiscard]] Errno check_ld_abs(bpf_verifier_env& env, const bpf_insn& insn);
// "... the register R0 has smin=2 smax=2 should have been in [0, 1]"
[[nodiscard]] Errno verbose_invalid_scalar(bpf_verifier_env& env, const bpf_reg_state& reg,
                                           bpf_retval_range range, const char* context, const char* reg_name);

}  // namespace bpfsim
