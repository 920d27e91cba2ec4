// Models: kernel/bpf/verifier.c, scalar_min_max_*() (Linux 6.18)
//
// Arithmetic on what is known of two numbers. Each takes the left operand as the place of the result. The
// callers (scalar_alu, ptr_alu, branch) settle what the kernel settles before: shifts have a known amount
// below the width.
#pragma once

#include "verifier/bounds.h"

namespace bpfsim {

// Both widths, without the bits: tnum_add and tnum_sub are the caller's, as in the kernel.
void scalar_min_max_add(Scalar& dst, const Scalar& src);
void scalar_min_max_sub(Scalar& dst, const Scalar& src);
void scalar_add(Scalar& dst, const Scalar& src);
void scalar_sub(Scalar& dst, const Scalar& src);
void scalar_neg(Scalar& dst);
void scalar_mul(Scalar& dst, const Scalar& src);
void scalar_and(Scalar& dst, const Scalar& src);
void scalar_or(Scalar& dst, const Scalar& src);
void scalar_xor(Scalar& dst, const Scalar& src);
void scalar_lsh(Scalar& dst, unsigned shift);
void scalar_rsh(Scalar& dst, unsigned shift);
void scalar_arsh(Scalar& dst, unsigned shift);
void scalar32_lsh(Scalar& dst, unsigned shift);
void scalar32_rsh(Scalar& dst, unsigned shift);
void scalar32_arsh(Scalar& dst, unsigned shift);
void scalar_bswap(Scalar& dst,
                  unsigned bits);  // forgets the ranges; coerce_reg_to_size() follows below 64 bits

}  // namespace bpfsim
