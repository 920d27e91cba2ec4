// Models: kernel/bpf/verifier.c, check_cfg(), compute_postorder() and compute_scc() (Linux 6.18)
//
// The control flow before any value is known: every instruction must be reachable, no jump may leave its
// function, and back-edges are loops. Marks in the aux data where states are compared (prune points) and
// where history is kept.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_cfg(bpf_verifier_env& env);
[[nodiscard]] Errno compute_postorder(bpf_verifier_env& env);
[[nodiscard]] Errno compute_scc(bpf_verifier_env& env);
[[nodiscard]] Errno mark_fastcall_patterns(bpf_verifier_env& env);

}  // namespace bpfsim
