// Models: kernel/bpf/verifier.c, push_stack(), pop_stack() and update_branch_counts() (Linux 6.18)
//
// The search is depth first: at a branch one side is walked, the other waits on a stack. Kept states form the
// tree of how the walk came here (`parent`); each counts the paths below it that have not ended (`branches`).
#pragma once

#include "verifier/env.h"
#include "verifier/prune.h"

namespace bpfsim {

// Another path from here: a copy of the current state, to go on at insn_idx. Null, with the reason logged,
// when too many wait.
bpf_verifier_state* push_stack(bpf_verifier_env& env, uint32_t insn_idx, uint32_t prev_insn_idx,
                               bool speculative);
// The newest waiting path becomes the current one; false: none is left.
bool pop_stack(bpf_verifier_env& env, int& prev_insn_idx, bool pop_log);

// A path of this state has ended: the states that wait for it count down; one that reaches zero may prune.
[[nodiscard]] Errno update_branch_counts(bpf_verifier_env& env, bpf_verifier_state* st);
void update_peak_states(bpf_verifier_env& env);

[[nodiscard]] Errno maybe_enter_scc(bpf_verifier_env& env, bpf_verifier_state& st);
[[nodiscard]] Errno add_scc_backedge(bpf_verifier_env& env, bpf_verifier_state& st,
                                     std::unique_ptr<bpf_verifier_state> backedge);
// The state lies in a loop that was not walked to its end: what is precise in it is not known yet.
bool incomplete_read_marks(bpf_verifier_env& env, const bpf_verifier_state& st);

void link_state(bpf_verifier_state_list*& head, bpf_verifier_state_list* sl);
void unlink_state(bpf_verifier_state_list* sl);
void maybe_free_verifier_state(bpf_verifier_env& env, bpf_verifier_state_list* sl);
void free_states(bpf_verifier_env& env);

}  // namespace bpfsim
