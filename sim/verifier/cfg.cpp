// Models: kernel/bpf/verifier.c, check_cfg(), compute_postorder() and compute_scc() (Linux 6.18)
//
// The instructions seen as a graph, without a copy: InsnGraph models Boost.Graph's IncidenceGraph and
// VertexListGraph over them. An instruction has at most two edges, the fall-through first; a call of a
// subprogram and a function pointer have one to the callee, which only check_cfg() follows. Depth-first
// search in that order is the kernel's, so the first back-edge that it meets is the one that the kernel
// names, and components get the kernel's numbers. Departs from the kernel: its search stops at the first
// refusal, Boost's runs to the end with nothing left to say. Not modelled yet: prune points of kfunc calls
// (iterators, callbacks).
#include "verifier/cfg.h"

#include <algorithm>
#include <boost/graph/depth_first_search.hpp>
#include <boost/graph/graph_traits.hpp>
#include <boost/graph/strong_components.hpp>
#include <boost/iterator/counting_iterator.hpp>
#include <boost/property_map/property_map.hpp>

#include "uapi/gates.h"
#include "verifier/linfo.h"

namespace bpfsim {
namespace {

struct InsnEdge {
  uint32_t from = 0, to = 0;
  bool operator==(const InsnEdge&) const = default;
};

class InsnEdges {  // walks the edges that leave one instruction
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = InsnEdge;
  using difference_type = std::ptrdiff_t;
  using pointer = const InsnEdge*;
  using reference = InsnEdge;

  InsnEdges() = default;
  InsnEdges(uint32_t from, const uint32_t (&succ)[2], int at) : from_(from), to_{succ[0], succ[1]}, at_(at) {}
  InsnEdge operator*() const { return {from_, to_[at_]}; }
  InsnEdges& operator++() { return ++at_, *this; }
  InsnEdges operator++(int) { return {from_, to_, at_++}; }
  bool operator==(const InsnEdges& other) const { return at_ == other.at_; }

 private:
  uint32_t from_ = 0, to_[2] = {};
  int at_ = 0;
};

struct InsnGraph {
  const std::vector<bpf_insn>& insns;
  bool with_calls;
};

bool calls_subprog(const bpf_insn& insn) { return bpf_pseudo_call(insn) || bpf_pseudo_func(insn); }
uint32_t callee_start(const bpf_insn& insn, uint32_t at) { return at + 1 + uint32_t(insn.imm); }

int successors(const InsnGraph& graph, uint32_t at, uint32_t (&succ)[2]) {
  int n = bpf_insn_successors(graph.insns, at, succ);
  const bpf_insn& insn = graph.insns[at];
  if (graph.with_calls && calls_subprog(insn)) succ[n++] = callee_start(insn, at);
  // check_subprogs() has seen to it that no edge leaves the program; search no further where it was not
  // asked.
  return int(std::remove_if(succ, succ + n, [&](uint32_t to) { return to >= graph.insns.size(); }) - succ);
}

}  // namespace
}  // namespace bpfsim

namespace boost {
template <>
struct graph_traits<bpfsim::InsnGraph> {
  using vertex_descriptor = uint32_t;
  using edge_descriptor = bpfsim::InsnEdge;
  using directed_category = directed_tag;
  using edge_parallel_category = allow_parallel_edge_tag;
  struct traversal_category : incidence_graph_tag, vertex_list_graph_tag {};
  using out_edge_iterator = bpfsim::InsnEdges;
  using vertex_iterator = counting_iterator<uint32_t>;
  using degree_size_type = uint32_t;
  using vertices_size_type = uint32_t;
  using edges_size_type = uint32_t;
  static uint32_t null_vertex() { return UINT32_MAX; }
};
}  // namespace boost

namespace bpfsim {
namespace {

// The functions that the concepts ask for; Boost finds them by their argument.
std::pair<InsnEdges, InsnEdges> out_edges(uint32_t at, const InsnGraph& graph) {
  uint32_t succ[2] = {};
  int n = successors(graph, at, succ);
  return {{at, succ, 0}, {at, succ, n}};
}
[[maybe_unused]] uint32_t out_degree(uint32_t at, const InsnGraph& graph) {
  uint32_t succ[2] = {};
  return uint32_t(successors(graph, at, succ));
}
uint32_t source(const InsnEdge& edge, const InsnGraph&) { return edge.from; }
uint32_t target(const InsnEdge& edge, const InsnGraph&) { return edge.to; }
uint32_t num_vertices(const InsnGraph& graph) { return uint32_t(graph.insns.size()); }
std::pair<boost::counting_iterator<uint32_t>, boost::counting_iterator<uint32_t>> vertices(
    const InsnGraph& graph) {
  return {boost::counting_iterator<uint32_t>(0), boost::counting_iterator<uint32_t>(num_vertices(graph))};
}

// A property map of one value per instruction.
template <class T>
auto by_insn(std::vector<T>& values) {
  return boost::make_iterator_property_map(values.begin(), boost::identity_property_map());
}

bool is_async_callback_calling_insn(const bpf_insn& insn) {
  return is_helper_call(insn) && insn.imm == BPF_FUNC_timer_set_callback;
}
bool is_sync_callback_calling_insn(const bpf_insn& insn) {
  return is_helper_call(insn) && (insn.imm == BPF_FUNC_for_each_map_elem || insn.imm == BPF_FUNC_find_vma ||
                                  insn.imm == BPF_FUNC_loop || insn.imm == BPF_FUNC_user_ringbuf_drain);
}

void mark_prune_point(bpf_verifier_env& env, uint32_t at) { env.insn_aux_data[at].prune_point = true; }
void mark_jmp_point(bpf_verifier_env& env, uint32_t at) { env.insn_aux_data[at].jmp_point = true; }
void mark_join(bpf_verifier_env& env, uint32_t at) {
  if (at < env.insn_cnt()) mark_prune_point(env, at), mark_jmp_point(env, at);
}

void mark_call(bpf_verifier_env& env, uint32_t at) {
  const bpf_insn& insn = env.insns[at];
  bpf_insn_aux_data& aux = env.insn_aux_data[at];
  // A callback is pushed as a path of its own: compare states before each call that would push it again.
  if (is_async_callback_calling_insn(insn)) aux.prune_point = true;
  // The body of a callback is walked again and again until a state repeats; so there must be states to find.
  if (is_sync_callback_calling_insn(insn))
    aux.calls_callback = aux.force_checkpoint = aux.prune_point = aux.jmp_point = true;
  if (!is_helper_call(insn)) return;
  if (const FuncProto* proto = get_helper_proto(env, insn.imm)) {
    bpf_subprog_info& sub = env.subprog_info[bpf_find_containing_subprog(env, at)];
    sub.might_sleep |= proto->might_sleep;
    sub.changes_pkt_data |= proto->changes_pkt_data;
  }
  // An extension has no helpers of its own, and those of its target only later: of that which moves packets
  // the number alone is asked.
  const Prog* target = env.prog.type == BPF_PROG_TYPE_EXT ? env.prog.aux->dst_prog : nullptr;
  const VerifierOps* ops = target ? env.machine.calls->verifier_ops(target->type) : nullptr;
  const FuncProto* proto =
      ops && ops->get_func_proto ? ops->get_func_proto(bpf_func_id(insn.imm), *target) : nullptr;
  if (proto && proto->changes_pkt_data)
    env.subprog_info[bpf_find_containing_subprog(env, at)].changes_pkt_data = true;
}

// Where states will be compared and history kept.
void mark_insn(bpf_verifier_env& env, uint32_t at) {
  const bpf_insn& insn = env.insns[at];
  const bool call = is_jmp(insn) && BPF_OP(insn.code) == BPF_CALL;
  if (call) mark_call(env, at);
  if (call || bpf_pseudo_func(insn)) mark_join(env, at + (is_ld_imm64(insn) ? 2 : 1));
  if (calls_subprog(insn)) {
    mark_prune_point(env, at);
    mark_join(env, callee_start(insn, at));
  }
  if (!is_jmp(insn) || call || BPF_OP(insn.code) == BPF_EXIT) return;
  if (BPF_OP(insn.code) != BPF_JA) {
    mark_prune_point(env, at);
    if (is_may_goto(insn)) env.insn_aux_data[at].force_checkpoint = true;
  }
  mark_join(env, at + 1 + uint32_t(insn.code == (BPF_JMP32 | BPF_JA) ? insn.imm : insn.off));
}

// What the search does at each instruction and edge. Boost copies visitors, so what they learn lies outside.
struct CfgVisitor : boost::default_dfs_visitor {
  bpf_verifier_env* env;
  Errno* err;
  CfgVisitor(bpf_verifier_env& env, Errno& err) : env(&env), err(&err) {}

  void discover_vertex(uint32_t at, const InsnGraph&) const { mark_insn(*env, at); }

  void back_edge(const InsnEdge& edge, const InsnGraph&) const {
    if (may_lead_back(env->insns[edge.from]) || *err != Errno::None) return;
    verbose_linfo(*env, edge.from, "%u: ", edge.from);
    verbose_linfo(*env, edge.to, "%u: ", edge.to);
    *err = reject(*env, Errno::Inval, "back-edge from insn %u to %u\n", edge.from, edge.to);
  }

  bool may_lead_back(const bpf_insn& insn) const {
    if (!env->bpf_capable || !env->limits.loops) return false;
    const bool calls = BPF_OP(insn.code) == BPF_CALL || BPF_OP(insn.code) == BPF_EXIT;
    return has(Gate::loops_anywhere, env->machine.version) || (is_jmp(insn) && !calls) ||
           bpf_pseudo_func(insn);
  }

  // All that the callee does is known, unless it is still on the way because it calls itself.
  void finish_vertex(uint32_t at, const InsnGraph& graph) const {
    const bpf_insn& insn = graph.insns[at];
    if (!calls_subprog(insn)) return;
    bpf_subprog_info& caller = env->subprog_info[bpf_find_containing_subprog(*env, at)];
    const bpf_subprog_info& callee =
        env->subprog_info[bpf_find_containing_subprog(*env, callee_start(insn, at))];
    caller.changes_pkt_data |= callee.changes_pkt_data;
    caller.might_sleep |= callee.might_sleep;
  }
};

}  // namespace

bool is_may_goto(const bpf_insn& insn) {
  return insn.code == (BPF_JMP | BPF_JCOND) && insn.src_reg == BPF_MAY_GOTO;
}

Errno check_cfg(bpf_verifier_env& env) {
  KFN(env.machine, check_cfg);
  const InsnGraph graph{env.insns, true};
  BOOST_CONCEPT_ASSERT((boost::IncidenceGraphConcept<InsnGraph>));
  BOOST_CONCEPT_ASSERT((boost::VertexListGraphConcept<InsnGraph>));

  std::vector<boost::default_color_type> color(env.insn_cnt(), boost::white_color);
  Errno err = Errno::None;
  boost::depth_first_visit(graph, 0, CfgVisitor(env, err), by_insn(color),
                           [&](uint32_t, const InsnGraph&) { return err != Errno::None; });
  MUST(err);

  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    if (color[i] == boost::white_color) return reject(env, Errno::Inval, "unreachable insn %u\n", i);
    if (!is_ld_imm64(env.insns[i])) continue;
    if (color[i + 1] != boost::white_color)
      return reject(env, Errno::Inval, "jump into the middle of ldimm64 insn %u\n", i);
    i++;
  }
  env.prog.aux->changes_pkt_data = env.subprog_info[0].changes_pkt_data;
  env.prog.aux->might_sleep = env.subprog_info[0].might_sleep;
  return Errno::None;
}

// Each function's instructions, every one after those that hang below it in a tree: an instruction takes, as
// soon as it is entered, all its successors that no other has taken, and the last one taken is entered first.
// (A depth-first search, Boost's too, leaves a successor free until it is entered. Its order would be as good
// for the data-flow, but the log tells how many rounds that took.)
Errno compute_postorder(bpf_verifier_env& env) {
  KFN(env.machine, compute_postorder);
  struct Entered {
    uint32_t insn, children[2], left;
  };
  const InsnGraph graph{env.insns, false};
  std::vector<bool> taken(env.insn_cnt());
  auto enter = [&](uint32_t insn) {
    uint32_t succ[2] = {};
    const int n = successors(graph, insn, succ);
    Entered entered{insn, {}, 0};
    taken[insn] = true;
    for (int i = 0; i < n; i++) {
      if (taken[succ[i]]) continue;
      taken[succ[i]] = true;
      entered.children[entered.left++] = succ[i];
    }
    return entered;
  };

  std::vector<uint32_t>& postorder = env.cfg.insn_postorder;
  postorder.clear();
  for (uint32_t sub = 0; sub < env.subprog_cnt; sub++) {
    env.subprog_info[sub].postorder_start = uint32_t(postorder.size());
    std::vector<Entered> path{enter(env.subprog_info[sub].start)};
    while (!path.empty()) {
      Entered& last = path.back();
      if (last.left > 0) {
        path.push_back(enter(last.children[--last.left]));
      } else {
        postorder.push_back(last.insn);
        path.pop_back();
      }
    }
  }
  env.subprog_info[env.subprog_cnt].postorder_start = uint32_t(postorder.size());
  return Errno::None;
}

// A component of one instruction is no loop unless it jumps to itself: its number stays 0.
Errno compute_scc(bpf_verifier_env& env) {
  KFN(env.machine, compute_scc);
  const InsnGraph graph{env.insns, false};
  std::vector<uint32_t> component(env.insn_cnt());
  uint32_t count = uint32_t(boost::strong_components(
      graph, by_insn(component), boost::vertex_index_map(boost::identity_property_map())));

  std::vector<uint32_t> size(count, 0);
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    uint32_t succ[2] = {};
    int n = successors(graph, i, succ);
    size[component[i]] += std::find(succ, succ + n, i) != succ + n ? 2 : 1;
  }
  std::vector<uint32_t> id(count, 0);
  env.scc_cnt = 1;
  for (uint32_t c = 0; c < count; c++)
    if (size[c] > 1) id[c] = env.scc_cnt++;
  for (uint32_t i = 0; i < env.insn_cnt(); i++) env.insn_aux_data[i].scc = id[component[i]];
  return Errno::None;
}

}  // namespace bpfsim
