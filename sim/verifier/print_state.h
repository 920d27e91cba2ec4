// Models: kernel/bpf/log.c (Linux 6.18), the state as text
//
// Registers, stack and instructions as the verifier's log shows them.
#pragma once

#include <string>

#include "verifier/env.h"

namespace bpfsim {

std::string reg_type_str(uint32_t type);  // "map_value_or_null", "rdonly_mem"
// " R1=ctx() R10=fp0 fp-8=0 refs=2": all, or only what changed since the last print.
std::string verifier_state_text(const bpf_verifier_env& env, const bpf_verifier_state& vstate,
                                uint32_t frameno, bool print_all);
void print_verifier_state(bpf_verifier_env& env, const bpf_verifier_state& vstate, uint32_t frameno,
                          bool print_all);
// The state behind the instruction on its own line, or after "N:" when something was printed between.
void print_insn_state(bpf_verifier_env& env, const bpf_verifier_state& vstate, uint32_t frameno);
void verbose_insn(bpf_verifier_env& env, uint32_t idx);
std::string fmt_reg_mask(uint32_t mask);        // "r1,r2"
std::string bpf_fmt_stack_mask(uint64_t mask);  // "-8,-16"

}  // namespace bpfsim
