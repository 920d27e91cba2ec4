// Models: kernel/bpf/verifier.c, check_cfg(), compute_postorder() and compute_scc() (Linux 6.18)
//
// The control flow before any value is known: every instruction must be reachable, no jump may leave its
// function, and back-edges are loops. Marks in the aux data where states are compared (prune points) and
// where history is kept.
#pragma once

#include <optional>

#include "verifier/env.h"

namespace bpfsim {

bool is_may_goto(const bpf_insn& insn);
[[nodiscard]] Errno check_cfg(bpf_verifier_env& env);
[[nodiscard]] Errno compute_postorder(bpf_verifier_env& env);
[[nodiscard]] Errno compute_scc(bpf_verifier_env& env);
[[nodiscard]] Errno mark_fastcall_patterns(bpf_verifier_env& env);

// What can be said of a helper call before its arguments are known. Nothing if the helper does not exist
// here.
struct call_summary {
  uint32_t num_params = 0;
  bool is_void = false;
  bool fastcall = false;  // the call becomes a few instructions that leave other registers alone
};
std::optional<call_summary> get_call_summary(const bpf_verifier_env& env, const bpf_insn& call);
const FuncProto* get_helper_proto(const bpf_verifier_env& env, int32_t func_id);

}  // namespace bpfsim
