// Models: kernel/bpf/btf.c, btf_prepare_func_args(); kernel/bpf/verifier.c, btf_check_subprog_call()
// (Linux 6.18)
//
// What BTF says of a function's arguments: the context, a number, or memory of a known size. A global
// function is verified once, for any arguments of these types, and each call of it is checked against them
// alone. Of a static function the BTF is only compared with the calls; where they differ nobody may rely on
// it.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// Fills the subprogram's args. What it prints is not fatal for a static function, nor for the main one.
[[nodiscard]] Errno btf_prepare_func_args(bpf_verifier_env& env, uint32_t subprog);
// Whether R1 to R5 are what the function's BTF wants; if not, its BTF is unreliable from now on.
[[nodiscard]] Errno btf_check_subprog_call(bpf_verifier_env& env, uint32_t subprog);
// R1 to R5 as a function that is verified on its own finds them.
[[nodiscard]] Errno set_func_args(bpf_verifier_env& env, uint32_t subprog);
// The main function must take the context and nothing else, or its BTF is unreliable.
void judge_main_func(bpf_verifier_env& env);

}  // namespace bpfsim
