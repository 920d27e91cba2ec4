// Models: kernel/bpf/verifier.c, push_stack(), pop_stack() and update_branch_counts() (Linux 6.18)
//
// See paths.h. States that are done with go to a pool and keep their memory: the next branch takes them from
// there. Departs from the kernel: popping a path swaps states instead of copying.
#include "verifier/paths.h"

#include "uapi/gates.h"
#include "verifier/backtrack.h"
#include "verifier/events.h"

namespace bpfsim {

static std::unique_ptr<bpf_verifier_state> fresh_state(bpf_verifier_env& env) {
  if (env.state_pool.empty()) return std::make_unique<bpf_verifier_state>();
  auto state = std::move(env.state_pool.back());
  env.state_pool.pop_back();
  return state;
}

bpf_verifier_state* push_stack(bpf_verifier_env& env, uint32_t insn_idx, uint32_t prev_insn_idx,
                               bool speculative) {
  bpf_verifier_stack_elem elem;
  elem.insn_idx = insn_idx;
  elem.prev_insn_idx = int(prev_insn_idx);
  elem.log_pos = env.log.end_pos;
  elem.st = fresh_state(env);
  copy_verifier_state(*elem.st, *env.cur_state);
  elem.st->speculative |= speculative;
  env.stack.push_back(std::move(elem));
  if (env.stack.size() > env.limits.jmp_seq) {
    if (has(Gate::jmp_seq_8192, env.machine.version))
      (void)reject(env, Errno::TooBig, "The sequence of %zu jumps is too complex.\n", env.stack.size());
    else
      (void)reject(env, Errno::TooBig, "BPF program is too complex\n");
    return nullptr;
  }
  bpf_verifier_state& state = *env.stack.back().st;
  if (state.parent) ++state.parent->branches;
  state.path = ++env.next_path;
  emit<PathPushed>(env.machine, env, state.path, insn_idx, speculative);
  return &state;
}

bool pop_stack(bpf_verifier_env& env, int& prev_insn_idx, bool pop_log) {
  if (env.stack.empty()) return false;
  bpf_verifier_stack_elem& elem = env.stack.back();
  std::swap(env.cur_state, elem.st);
  env.state_pool.push_back(std::move(elem.st));
  if (pop_log) bpf_vlog_reset(env.log, elem.log_pos);
  env.insn_idx = elem.insn_idx;
  prev_insn_idx = elem.prev_insn_idx;
  env.stack.pop_back();
  emit<PathPopped>(env.machine, env);
  return true;
}

void update_peak_states(bpf_verifier_env& env) {
  env.peak_states =
      std::max(env.peak_states, env.explored_states_size + env.free_list_size + env.num_backedges);
}

void link_state(bpf_verifier_state_list*& head, bpf_verifier_state_list* sl) {
  sl->next = head;
  sl->pprev = &head;
  if (head) head->pprev = &sl->next;
  head = sl;
}

void unlink_state(bpf_verifier_state_list* sl) {
  *sl->pprev = sl->next;
  if (sl->next) sl->next->pprev = sl->pprev;
}

void maybe_free_verifier_state(bpf_verifier_env& env, bpf_verifier_state_list* sl) {
  if (!sl->in_free_list || sl->branches != 0 || incomplete_read_marks(env, *sl)) return;
  unlink_state(sl);
  delete sl;
  env.free_list_size--;
}

// The calls on the way to the first frame that stands in a strong component, and that component.
static bool compute_scc_callchain(const bpf_verifier_env& env, const bpf_verifier_state& st,
                                  bpf_scc_callchain& chain) {
  chain = {};
  for (uint32_t i = 0; i <= st.curframe; i++) {
    uint32_t insn_idx = frame_insn_idx(st, i);
    chain.scc = env.insn_aux_data[insn_idx].scc;
    if (chain.scc) return true;
    if (i == st.curframe) return false;
    chain.callsites[i] = insn_idx;
  }
  return false;
}

static bpf_scc_visit* scc_visit_lookup(bpf_verifier_env& env, const bpf_scc_callchain& chain) {
  if (!env.scc_visits || chain.scc >= env.scc_visits->by_scc.size()) return nullptr;
  for (bpf_scc_visit& visit : env.scc_visits->by_scc[chain.scc])
    if (visit.callchain == chain) return &visit;
  return nullptr;
}

static std::string format_callchain(const bpf_scc_callchain& chain) {
  std::string text = "(";
  for (uint32_t site : chain.callsites) {
    if (!site) break;
    text += std::to_string(site) + ',';
  }
  return text + std::to_string(chain.scc) + ')';
}

Errno maybe_enter_scc(bpf_verifier_env& env, bpf_verifier_state& st) {
  bpf_scc_callchain chain;
  if (!compute_scc_callchain(env, st, chain)) return Errno::None;
  bpf_scc_visit* visit = scc_visit_lookup(env, chain);
  if (!visit) {
    if (!env.scc_visits) env.scc_visits = std::make_unique<SccVisits>();
    auto& by_scc = env.scc_visits->by_scc;
    if (by_scc.size() <= chain.scc) by_scc.resize(chain.scc + 1);
    visit = &by_scc[chain.scc].emplace_back();
    visit->callchain = chain;
  }
  if (!visit->entry_state) {
    visit->entry_state = &st;
    if (log_level2(env)) verbose(env, "SCC enter %s\n", format_callchain(chain).c_str());
  }
  return Errno::None;
}

// The component was walked to its end: precision flows around its backedges until nothing changes.
static Errno propagate_backedges(bpf_verifier_env& env, bpf_scc_visit& visit) {
  constexpr int kMaxRounds = 64;
  bool changed = true;
  for (int round = 0; changed; round++) {
    if (round > kMaxRounds) {
      if (log_level2(env)) verbose(env, "propagate_backedges: too many iterations\n");
      for (auto& edge : visit.backedges) mark_all_scalars_precise(env, *edge);
      break;
    }
    changed = false;
    for (auto edge = visit.backedges.rbegin(); edge != visit.backedges.rend(); ++edge)
      MUST(propagate_precision(env, *(*edge)->equal_state, **edge, &changed));
  }
  visit.backedges.clear();
  return Errno::None;
}

static Errno maybe_exit_scc(bpf_verifier_env& env, bpf_verifier_state& st) {
  bpf_scc_callchain chain;
  if (!compute_scc_callchain(env, st, chain)) return Errno::None;
  bpf_scc_visit* visit = scc_visit_lookup(env, chain);
  if (!visit) {
    if (st.speculative) return Errno::None;
    return verifier_bug(env, "scc exit: no visit info for call chain %s", format_callchain(chain).c_str());
  }
  if (visit->entry_state != &st) return Errno::None;
  if (log_level2(env)) verbose(env, "SCC exit %s\n", format_callchain(chain).c_str());
  visit->entry_state = nullptr;
  env.num_backedges -= visit->num_backedges;
  visit->num_backedges = 0;
  update_peak_states(env);
  return propagate_backedges(env, *visit);
}

Errno add_scc_backedge(bpf_verifier_env& env, bpf_verifier_state& st,
                       std::unique_ptr<bpf_verifier_state> backedge) {
  bpf_scc_callchain chain;
  if (!compute_scc_callchain(env, st, chain))
    return verifier_bug(env, "add backedge: no SCC in verification path, insn_idx %u", st.insn_idx);
  bpf_scc_visit* visit = scc_visit_lookup(env, chain);
  if (!visit)
    return verifier_bug(env, "add backedge: no visit info for call chain %s",
                        format_callchain(chain).c_str());
  if (log_level2(env)) verbose(env, "SCC backedge %s\n", format_callchain(chain).c_str());
  visit->backedges.push_back(std::move(backedge));
  visit->num_backedges++;
  env.num_backedges++;
  update_peak_states(env);
  return Errno::None;
}

bool incomplete_read_marks(bpf_verifier_env& env, const bpf_verifier_state& st) {
  if (env.num_backedges == 0 && !env.scc_visits) return false;
  bpf_scc_callchain chain;
  if (!compute_scc_callchain(env, st, chain)) return false;
  bpf_scc_visit* visit = scc_visit_lookup(env, chain);
  return visit && !visit->backedges.empty();
}

Errno update_branch_counts(bpf_verifier_env& env, bpf_verifier_state* st) {
  bpf_verifier_state_list* kept = nullptr;  // st, when it is a kept state and not the current one
  while (st) {
    if (--st->branches) break;
    MUST(maybe_exit_scc(env, *st));
    bpf_verifier_state_list* parent = st->parent;
    if (kept) maybe_free_verifier_state(env, kept);
    st = kept = parent;
  }
  return Errno::None;
}

void free_states(bpf_verifier_env& env) {
  env.cur_state.reset();
  env.stack.clear();
  env.state_pool.clear();
  env.scc_visits.reset();
  auto free_all = [](bpf_verifier_state_list*& head) {
    while (bpf_verifier_state_list* sl = head) {
      head = sl->next;
      delete sl;
    }
  };
  free_all(env.free_list);
  for (auto& head : env.explored_states) free_all(head);
}

}  // namespace bpfsim
