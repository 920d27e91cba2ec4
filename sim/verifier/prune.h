// Models: kernel/bpf/verifier.c, is_state_visited() and states_equal() (Linux 6.18)
//
// At a prune point a path may end early: if an earlier path came here with a state that allowed at least as
// much and was found safe, this one is safe too. states_equal() compares, is_state_visited() decides and
// keeps new states. Inside a loop (a strong component of the control flow) an earlier state may not be final
// yet: such a path is kept as a backedge until all of the loop was seen, and its precision is settled then.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// How one came to a strong component: the calls on the way, and the component.
struct bpf_scc_callchain {
  uint32_t callsites[MAX_CALL_FRAMES - 1] = {};
  uint32_t scc = 0;
  bool operator==(const bpf_scc_callchain&) const = default;
};

struct bpf_scc_visit {
  bpf_scc_callchain callchain;
  bpf_verifier_state* entry_state = nullptr;  // the first state of the current path in the component
  std::vector<std::unique_ptr<bpf_verifier_state>> backedges;
  uint32_t num_backedges = 0;
};

struct SccVisits {
  std::vector<std::vector<bpf_scc_visit>> by_scc;
};

enum exact_level { NOT_EXACT, EXACT, RANGE_WITHIN };  // states.cpp tells what each asks for

// Does the old state cover the current one? (Both are compared as they stand; equal they need not be.)
[[nodiscard]] bool states_equal(bpf_verifier_env& env, const bpf_verifier_state& old,
                                const bpf_verifier_state& cur, exact_level exact);
// Did both come here through the same calls?
[[nodiscard]] bool same_callsites(const bpf_verifier_state& a, const bpf_verifier_state& b);
// Sets `pruned` when the path need not go on.
[[nodiscard]] Errno is_state_visited(bpf_verifier_env& env, uint32_t insn_idx, bool& pruned);

}  // namespace bpfsim
