// Models: kernel/bpf/verifier.c, check_mem_access() (Linux 6.18)
//
// May this access be? By the type of the pointer: inside the value of a map, the proven part of the packet,
// the fields of the context, the stack frame. And what is known of what was read.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

struct bpf_call_arg_meta;

[[nodiscard]] Errno check_mem_access(bpf_verifier_env& env, uint32_t insn_idx, uint32_t regno, int off,
                                     uint8_t bpf_size, bpf_access_type t, int value_regno,
                                     bool strict_alignment_once, bool is_ldsx);
[[nodiscard]] Errno check_load_mem(bpf_verifier_env& env, const bpf_insn& insn, bool strict_alignment_once,
                                   bool is_ldsx, bool allow_trust_mismatch, const char* where);
[[nodiscard]] Errno check_store_reg(bpf_verifier_env& env, const bpf_insn& insn, bool strict_alignment_once);
[[nodiscard]] Errno check_atomic(bpf_verifier_env& env, const bpf_insn& insn);
// One instruction must not access both memory and, on another path, what is rewritten (a context, a socket).
[[nodiscard]] Errno save_aux_ptr_type(bpf_verifier_env& env, uint32_t type, bool allow_trust_mismatch);

[[nodiscard]] Errno check_ptr_alignment(bpf_verifier_env& env, const bpf_reg_state& reg, int off, int size,
                                        bool strict_alignment_once);
[[nodiscard]] Errno check_ptr_off_reg(bpf_verifier_env& env, const bpf_reg_state& reg, uint32_t regno,
                                      bool fixed_off_ok);
[[nodiscard]] Errno check_map_access(bpf_verifier_env& env, uint32_t regno, int off, int size,
                                     bool zero_size_allowed);
bool may_access_direct_pkt_data(bpf_verifier_env& env, const bpf_call_arg_meta* meta, bpf_access_type t);
// access_size bytes from the register on, by a helper.
[[nodiscard]] Errno check_helper_mem_access(bpf_verifier_env& env, uint32_t regno, int access_size,
                                            bpf_access_type access_type, bool zero_size_allowed,
                                            bpf_call_arg_meta* meta);
bool bpf_map_is_rdonly(const Map& map);  // for programs, and frozen for user space: its content is a constant

}  // namespace bpfsim
