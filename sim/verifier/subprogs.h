// Models: kernel/bpf/verifier.c, add_subprog_and_kfunc(), check_subprogs() and the BTF of functions
// (Linux 6.18)
//
// Where the functions of a program begin and end, and what their BTF says of them.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_btf_info_early(bpf_verifier_env& env);
[[nodiscard]] Errno add_subprog_and_kfunc(bpf_verifier_env& env);
[[nodiscard]] Errno check_subprogs(bpf_verifier_env& env);
[[nodiscard]] Errno check_btf_info(bpf_verifier_env& env);
void adjust_btf_func(bpf_verifier_env& env);  // after the rewrites: where each function starts now
[[nodiscard]] Errno check_max_stack_depth(bpf_verifier_env& env);

}  // namespace bpfsim
