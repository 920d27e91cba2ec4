// Models: kernel/bpf/verifier.c, mark_chain_precision() and the jump history (Linux 6.18)
//
// Most numbers do not matter: two states that differ in a loop counter nobody looks at are equal. A number
// matters ("is precise") when a verdict rests on it: it bounds an access, decides a branch, is a size. Then
// the verifier walks back along the path that it came, from register to register and slot to slot, to where
// the number was made, and marks it in every kept state on the way, so that pruning compares it there.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno mark_chain_precision(bpf_verifier_env& env, uint32_t regno);
// What is set in env.bt already, of the current state.
[[nodiscard]] Errno mark_chain_precision_batch(bpf_verifier_env& env, bpf_verifier_state& starting_state);
// Takes over into `cur` what is precise in `old`, of which `cur` is about to be found a part.
[[nodiscard]] Errno propagate_precision(bpf_verifier_env& env, const bpf_verifier_state& old,
                                        bpf_verifier_state& cur, bool* changed);
void mark_all_scalars_precise(bpf_verifier_env& env, bpf_verifier_state& st);
void mark_all_scalars_imprecise(bpf_verifier_state& st);
inline void bt_set_frame_slot(backtrack_state& bt, uint32_t frame, uint32_t slot) {
  bt.wanted[frame].slots |= 1ull << slot;
}

// The path as it was walked: jumps, calls, exits and stack accesses; what lies between went one by one.
void push_jmp_history(bpf_verifier_env& env, bpf_verifier_state& cur, uint32_t insn_flags,
                      const linked_regs& linked = {});
inline uint32_t insn_stack_access_flags(uint32_t frameno, int spi) {
  return INSN_F_STACK_ACCESS | uint32_t(spi) << INSN_F_SPI_SHIFT | frameno;
}

}  // namespace bpfsim
