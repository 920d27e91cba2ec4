// Models: kernel/bpf/verifier.c, mark_reg_*() and check_reg_arg() (Linux 6.18)
//
// Setting what is known of a register, and the check that every operand passes: may it be read, may it be
// written. Who reads 64 bits of a register that was last written with 32 marks the writing instruction: it
// must zero the rest.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// For an operand: read; written, its value unknown; written, the caller says what.
enum reg_arg_type { SRC_OP, DST_OP, DST_OP_NO_MARK };

void mark_reg_unknown_imprecise(bpf_reg_state& reg);
void mark_reg_unknown(const bpf_verifier_env& env, bpf_reg_state& reg);
void mark_reg_not_init(const bpf_verifier_env& env, bpf_reg_state& reg);
void mark_reg_known(bpf_reg_state& reg, uint64_t imm);  // keeps the type
inline void mark_reg_known_zero(bpf_reg_state& reg) { mark_reg_known(reg, 0); }
void mark_reg_const_zero(const bpf_verifier_env& env, bpf_reg_state& reg);
// After a reference was released or packet data moved: unknown, or unusable for the unprivileged.
void mark_reg_invalid(const bpf_verifier_env& env, bpf_reg_state& reg);
bpf_reg_state fake_scalar(uint64_t imm);

bool is_reg64(const bpf_insn& insn, uint32_t regno, const bpf_reg_state* reg, reg_arg_type t);
int insn_def_regno(const bpf_insn& insn);  // the register that it writes, or -1
[[nodiscard]] Errno check_reg_arg(bpf_verifier_env& env, std::array<bpf_reg_state, MAX_BPF_REG>& regs,
                                  uint32_t regno, reg_arg_type t);
[[nodiscard]] inline Errno check_reg_arg(bpf_verifier_env& env, uint32_t regno, reg_arg_type t) {
  return check_reg_arg(env, env.cur_regs(), regno, t);
}
void clear_caller_saved_regs(bpf_verifier_env& env, std::array<bpf_reg_state, MAX_BPF_REG>& regs);
[[nodiscard]] Errno reg_bounds_sanity_check(bpf_verifier_env& env, bpf_reg_state& reg, const char* where);

// Before a scalar is copied: give it an id, so that what a branch tells of one copy holds for the other.
void assign_scalar_id_before_mov(bpf_verifier_env& env, bpf_reg_state& src);
inline int get_reg_width(const bpf_reg_state& reg) { return std::bit_width(reg.r64.umax); }

// Whether a value may not be shown: any pointer, unless the loader may see addresses.
inline bool is_pointer_value(bool allow_ptr_leaks, const bpf_reg_state& reg) {
  return !allow_ptr_leaks && reg.type != SCALAR_VALUE;
}
inline bool is_pointer_value(bpf_verifier_env& env, uint32_t regno) {
  return is_pointer_value(env.allow_ptr_leaks, env.cur_regs()[regno]);
}
bool is_trusted_reg(const bpf_reg_state& reg);
bool reg_not_null(const bpf_reg_state& reg);
void mark_ptr_not_null_reg(bpf_reg_state& reg);

}  // namespace bpfsim
