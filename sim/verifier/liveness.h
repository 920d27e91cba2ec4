// Models: kernel/bpf/liveness.c and compute_live_registers() of kernel/bpf/verifier.c (Linux 6.18)
//
// What a later instruction may read. Registers: a data-flow over the instructions, done before the walk
// (live_regs_before in the aux data). Stack slots: the walk reports reads and writes of each instruction, per
// chain of calls, and a fixed point over the instructions follows whenever a path has ended. States forget
// what is dead, so that more of them compare equal.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno compute_live_registers(bpf_verifier_env& env);

[[nodiscard]] Errno bpf_stack_liveness_init(bpf_verifier_env& env);
void bpf_reset_live_stack_callchain(bpf_verifier_env& env);  // the walk entered or left a function
// Before and after each instruction of the walk; between them the marks are collected.
[[nodiscard]] Errno bpf_reset_stack_write_marks(bpf_verifier_env& env, uint32_t insn_idx);
[[nodiscard]] Errno bpf_commit_stack_write_marks(bpf_verifier_env& env);
[[nodiscard]] Errno bpf_mark_stack_read(bpf_verifier_env& env, uint32_t frame, uint32_t insn_idx,
                                        uint64_t mask);
void bpf_mark_stack_write(bpf_verifier_env& env, uint32_t frame, uint64_t mask);
[[nodiscard]] Errno bpf_update_live_stack(bpf_verifier_env& env);  // a path of the current state has ended
// Ask about one state: first say which, then ask for its slots.
[[nodiscard]] Errno bpf_live_stack_query_init(bpf_verifier_env& env, const bpf_verifier_state& st);
bool bpf_stack_slot_alive(bpf_verifier_env& env, uint32_t frameno, uint32_t spi);

}  // namespace bpfsim
