// Models: kernel/bpf/verifier.c, adjust_ptr_min_max_vals() and sanitize_ptr_alu() (Linux 6.18)
//
// A pointer plus or minus a number is a pointer; nothing else may be done to one. Constants go into its fixed
// offset, anything else into the variable part. For the unprivileged, arithmetic with an unknown number is
// also walked as a mispredicted CPU would go, and a mask is noted that fixups.cpp lays around it.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// dst = ptr OP off, or for an addition dst = off OP ptr (`ptr_is_dst` false).
[[nodiscard]] Errno adjust_ptr_min_max_vals(bpf_verifier_env& env, const bpf_insn& insn, bool ptr_is_dst,
                                            const bpf_reg_state& off_reg);
// An addition of plain numbers: another path may have a pointer here.
[[nodiscard]] Errno sanitize_val_alu(bpf_verifier_env& env, const bpf_insn& insn);
// A path that only a misprediction takes; false: too many paths wait.
bool sanitize_speculative_path(bpf_verifier_env& env, const bpf_insn* insn, uint32_t next_idx,
                               uint32_t curr_idx);
const char* alu_string(uint8_t opcode);  // "+=", "s>>="

}  // namespace bpfsim
