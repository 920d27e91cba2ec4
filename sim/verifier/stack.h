// Models: kernel/bpf/verifier.c, check_stack_read() and check_stack_write() (Linux 6.18)
//
// The stack is remembered in slots of eight bytes. A register stored whole is remembered with all that is
// known of it (a spill) and read back as it was (a fill); other bytes are known to be zero, known to be
// written, or not at all.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

struct bpf_call_arg_meta;

[[nodiscard]] Errno check_stack_access_within_bounds(bpf_verifier_env& env, uint32_t regno, int off,
                                                     int access_size, bpf_access_type type);
// value_regno -1: no register takes part (the immediate of ST, or a helper).
[[nodiscard]] Errno check_stack_read(bpf_verifier_env& env, uint32_t ptr_regno, int off, int size,
                                     int dst_regno);
[[nodiscard]] Errno check_stack_write(bpf_verifier_env& env, uint32_t ptr_regno, int off, int size,
                                      int value_regno, uint32_t insn_idx);
// A helper reads (or fills) access_size bytes from the register on.
[[nodiscard]] Errno check_stack_range_initialized(bpf_verifier_env& env, uint32_t regno, int off,
                                                  int access_size, bool zero_size_allowed,
                                                  bpf_access_type type, bpf_call_arg_meta* meta);

inline int get_spi(int off) { return (-off - 1) / BPF_REG_SIZE; }
inline bpf_func_state& func(bpf_verifier_env& env, const bpf_reg_state& reg) {
  return *env.cur_state->frame[reg.frameno];
}

}  // namespace bpfsim
