// Models: kernel/bpf/verifier.c, is_scalar_branch_taken() and regs_refine_cond_op() (Linux 6.18)
//
// What a comparison of two numbers says before it (is it decided?) and after it (what each side's outcome
// tells).
#pragma once

#include "isa/insn.h"
#include "verifier/bounds.h"

namespace bpfsim {

// The condition that holds where `BPF_JSET` does not: no common bit.
constexpr uint8_t kNotJset = BPF_JSET | BPF_X;

uint8_t flip_opcode(uint8_t opcode);  // a OP b as b OP' a
uint8_t rev_opcode(uint8_t opcode);   // the condition of the other branch
int is_scalar_branch_taken(const Scalar& reg1, const Scalar& reg2, uint8_t opcode,
                           bool is_jmp32);  // 1, 0; -1 open
void regs_refine_cond_op(Scalar& reg1, Scalar& reg2, uint8_t opcode, bool is_jmp32);

}  // namespace bpfsim
