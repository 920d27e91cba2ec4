// No kernel counterpart: the kernel has only counters; a learner wants to see who holds whom.
//
// The graph is a plain list of nodes and edges; Boost.Graph answers the questions over it. Two vertices more
// than there are objects point at the roots, so that "why is this alive" is a breadth-first search from each:
// first from what users made and can undo, the tasks and pins, and only then from the hooks, which hold what
// a task or a link put there.
#include "object/graph.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/breadth_first_search.hpp>
#include <boost/graph/strong_components.hpp>
#include <boost/pending/queue.hpp>
#include <set>
#include <unordered_map>

#include "object/btf.h"
#include "object/file.h"

namespace bpfsim {

namespace {

constexpr size_t kFromMachine = SIZE_MAX;  // the edge from the machine to a root

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, boost::no_property, size_t>;

bool made_by_users(const Object& root) {
  return root.kind == ObjectKind::Task || root.kind == ObjectKind::Inode;
}

// Vertices 0..n-1 are the nodes, n points at the users' roots and n+1 at the others; an edge carries its
// index in graph.edges.
Graph boost_graph(const ObjectGraph& graph, bool with_roots) {
  const size_t n = graph.nodes.size();
  Graph out(n + (with_roots ? 2 : 0));
  if (with_roots)
    for (size_t i = 0; i < n; ++i)
      if (graph.root[i]) boost::add_edge(made_by_users(*graph.nodes[i]) ? n : n + 1, i, kFromMachine, out);
  for (size_t i = 0; i < graph.edges.size(); ++i)
    if (graph.edges[i].strong || !with_roots) boost::add_edge(graph.edges[i].from, graph.edges[i].to, i, out);
  return out;
}

// Over which edge each vertex was first reached.
struct ReachedBy : boost::default_bfs_visitor {
  std::vector<size_t>* edge_into;
  std::vector<bool>* reached;
  void tree_edge(Graph::edge_descriptor edge, const Graph& graph) const {
    (*edge_into)[boost::target(edge, graph)] = graph[edge];
    (*reached)[boost::target(edge, graph)] = true;
  }
};

struct Reach {
  std::vector<size_t> edge_into;
  std::vector<bool> reached;
};

Reach from_the_roots(const ObjectGraph& graph) {
  const size_t n = graph.nodes.size();
  Graph view = boost_graph(graph, true);
  Reach reach{std::vector<size_t>(n + 2, kFromMachine), std::vector<bool>(n + 2)};
  ReachedBy visitor;
  visitor.edge_into = &reach.edge_into;
  visitor.reached = &reach.reached;
  boost::queue<size_t> queue;
  boost::two_bit_color_map<> colors(n + 2);  // the second search goes on where the first has not been
  for (size_t start : {n, n + 1}) boost::breadth_first_visit(view, start, queue, visitor, colors);
  return reach;
}

// What the counter says; -1 for an object that has no such counter.
int64_t counted(const Object& object, Counter counter) {
  const Refcount* count = object.counter(counter);
  return count ? count->value() : -1;
}

const char* shape_of(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::Task: return "house";
    case ObjectKind::File: return "note";
    case ObjectKind::Prog: return "component";
    case ObjectKind::Map: return "cylinder";
    case ObjectKind::Link: return "cds";
    case ObjectKind::Inode: return "folder";
    default: return "box";
  }
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

bool is_drawn(const Object& object) {
  if (object.kind == ObjectKind::Kernel) {  // where it holds a map that a task made
    bool holds_map = false;
    object.each_held([&](const Held& held) { holds_map |= held.object->kind == ObjectKind::Map; });
    return holds_map;
  }
  if (object.kind == ObjectKind::Btf) {
    const auto& btf = static_cast<const Btf&>(object);
    if (btf.kernel_btf) return btf.refcnt.value() > 1;  // when somebody but the machine holds it
  }
  return object.kind != ObjectKind::File || &static_cast<const File&>(object).f_op != &tty_fops;
}

ObjectGraph object_graph(const Machine& machine) {
  ObjectGraph graph;
  std::unordered_map<const Object*, size_t> index;
  for (const auto& [serial, object] : machine.objects) {
    index.emplace(object, graph.nodes.size());
    graph.nodes.push_back(object);
    // An exited task and a gone device leave the table of objects, so kind decides.
    graph.root.push_back(object->kind == ObjectKind::Task || object->kind == ObjectKind::NetDevice ||
                         object->is_root());
  }
  for (const Rcu::Waiting& waiting : machine.rcu.waiting())
    if (auto node = index.find(static_cast<const Object*>(waiting.object)); node != index.end())
      graph.root[node->second] = true;
  for (size_t from = 0; from < graph.nodes.size(); ++from) {
    graph.nodes[from]->each_held([&](const Held& held) {
      auto to = index.find(held.object);
      if (to != index.end()) graph.edges.push_back({from, to->second, held.counter, held.strong, held.via});
    });
  }
  return graph;
}

size_t ObjectGraph::index_of(const Object& object) const {
  return size_t(std::find(nodes.begin(), nodes.end(), &object) - nodes.begin());
}

std::vector<GraphEdge> ObjectGraph::holders(const Object& object) const {
  const size_t to = index_of(object);
  std::vector<GraphEdge> found;
  for (const GraphEdge& edge : edges)
    if (edge.to == to) found.push_back(edge);
  return found;
}

std::vector<GraphEdge> ObjectGraph::why_alive(const Object& object) const {
  size_t at = index_of(object);
  if (at == nodes.size()) return {};
  const Reach reach = from_the_roots(*this);
  std::vector<GraphEdge> path;
  while (reach.edge_into[at] != kFromMachine) {
    path.push_back(edges[reach.edge_into[at]]);
    at = path.back().from;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

std::vector<const Object*> ObjectGraph::leaks() const {
  const Reach reach = from_the_roots(*this);
  std::vector<const Object*> found;
  for (size_t i = 0; i < nodes.size(); ++i)
    if (!reach.reached[i]) found.push_back(nodes[i]);
  return found;
}

std::vector<std::vector<const Object*>> ObjectGraph::cycles() const {
  Graph view = boost_graph(*this, false);
  std::vector<size_t> component(nodes.size());
  if (nodes.empty()) return {};
  const size_t count = boost::strong_components(
      view, boost::make_iterator_property_map(component.begin(), boost::get(boost::vertex_index, view)));
  std::vector<std::vector<const Object*>> members(count);
  for (size_t i = 0; i < nodes.size(); ++i) members[component[i]].push_back(nodes[i]);
  std::erase_if(members, [](auto& component_members) { return component_members.size() < 2; });
  return members;
}

std::vector<std::string> ObjectGraph::disagreements() const {
  std::vector<int64_t> arriving[2];
  for (auto& counts : arriving) counts.resize(nodes.size());
  for (const GraphEdge& edge : edges)
    if (edge.strong) ++arriving[size_t(edge.counter)][edge.to];
  std::vector<std::string> found;
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (Counter counter : {Counter::Refs, Counter::UserRefs}) {
      const int64_t says = counted(*nodes[i], counter), arrive = arriving[size_t(counter)][i];
      if (says < 0 || says == arrive) continue;
      found.push_back(nodes[i]->label() + (counter == Counter::Refs ? ": refcnt " : ": usercnt ") +
                      std::to_string(says) + ", but " + std::to_string(arrive) +
                      (arrive == 1 ? " strong edge" : " strong edges"));
    }
  }
  return found;
}

std::string ObjectGraph::dot() const {
  std::string out = "digraph objects {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n";
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!is_drawn(*nodes[i])) continue;
    std::string text = nodes[i]->label();
    if (int64_t refs = counted(*nodes[i], Counter::Refs); refs >= 0)
      text += "\\nrefcnt " + std::to_string(refs);
    if (int64_t urefs = counted(*nodes[i], Counter::UserRefs); urefs >= 0)
      text += ", usercnt " + std::to_string(urefs);
    std::string label = quoted(text);
    for (size_t at = 0; (at = label.find("\\\\n", at)) != label.npos;) label.erase(at, 1);
    out += "  n" + std::to_string(i) + " [label=" + label + ", shape=" + shape_of(nodes[i]->kind) +
           (root[i] ? ", penwidth=2" : "") + "];\n";
  }
  std::set<std::string> drawn;  // an edge that holds two counters is one arrow
  for (const GraphEdge& edge : edges) {
    if (!is_drawn(*nodes[edge.from]) || !is_drawn(*nodes[edge.to])) continue;
    std::string line = "  n" + std::to_string(edge.from) + " -> n" + std::to_string(edge.to) +
                       " [label=" + quoted(edge.via) + (edge.strong ? "" : ", style=dashed") + "];\n";
    if (drawn.insert(line).second) out += line;
  }
  return out + "}\n";
}

GraphPicture graph_picture(const Machine& machine) {
  const ObjectGraph graph = object_graph(machine);
  GraphPicture picture;
  picture.nodes.reserve(graph.nodes.size());
  picture.edges.reserve(graph.edges.size());
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Object& node = *graph.nodes[i];
    if (!is_drawn(node)) continue;
    picture.nodes.push_back({node.serial, node.kind, node.label(), counted(node, Counter::Refs),
                             counted(node, Counter::UserRefs), graph.root[i]});
  }
  for (const GraphEdge& edge : graph.edges) {
    if (!is_drawn(*graph.nodes[edge.from]) || !is_drawn(*graph.nodes[edge.to])) continue;
    picture.edges.push_back(
        {graph.nodes[edge.from]->serial, graph.nodes[edge.to]->serial, edge.counter, edge.strong, edge.via});
  }
  return picture;
}

std::string GraphPicture::str() const {
  std::string text;
  for (const Node& node : nodes) {
    text += std::to_string(node.serial) + " " + node.label;
    if (node.refs >= 0) text += ", refcnt " + std::to_string(node.refs);
    if (node.user_refs >= 0) text += ", usercnt " + std::to_string(node.user_refs);
    text += "\n";
    for (const Edge& edge : edges)
      if (edge.holder == node.serial)
        text += (edge.strong ? "  -> " : "  .> ") + std::to_string(edge.held) + " by " + edge.via + "\n";
  }
  return text;
}

}  // namespace bpfsim
