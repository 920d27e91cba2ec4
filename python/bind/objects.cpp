// Kernel objects as Python sees them: counters, ledger, holders, and the graph of who holds whom.
#include <algorithm>
#include <set>

#include "hash_of.h"
#include "machine.h"
#include "object/btf.h"
#include "object/graph.h"
#include "object/link.h"
#include "object/map.h"
#include "object/ops.h"
#include "object/prog.h"

namespace bpfsim {

namespace {

py::object refcnt(const ObjectView& self) {
  const Refcount* count = self.get().counter(Counter::Refs);
  return count ? py::object(py::int_(count->value())) : py::none();
}

int64_t usercnt(const ObjectView& self) {
  const Refcount* count = self.get().counter(Counter::UserRefs);
  if (!count) throw py::attribute_error("only maps have a usercnt");
  return count->value();
}

py::list ledger(const ObjectView& self) {
  py::list rows;
  for (const LedgerEntry& entry : self.get().ledger) {
    py::dict row;
    row["seq"] = entry.seq;
    row["time_ns"] = entry.time_ns;
    row["counter"] = entry.counter == Counter::Refs ? "refcnt" : "usercnt";
    row["delta"] = int(entry.delta);
    row["after"] = entry.after;
    row["cause"] = entry.cause.str();
    rows.append(row);
  }
  return rows;
}

// Which descriptors of which tasks a file is open as.
std::string open_as(const ObjectGraph& graph, size_t file) {
  std::string text;
  for (const GraphEdge& edge : graph.edges)
    if (edge.to == file)
      text += (text.empty() ? ": " : ", ") + edge.via + " of " + graph.nodes[edge.from]->label();
  return text;
}

std::vector<std::string> holders(const ObjectView& self) {
  ObjectGraph graph = object_graph(self.owner->machine());
  std::vector<std::string> lines;
  std::set<std::pair<size_t, std::string>> seen;  // a file holds up both counters of a map, and is one holder
  for (const GraphEdge& edge : graph.holders(self.get())) {
    if (!seen.insert({edge.from, edge.via}).second) continue;
    const Object& holder = *graph.nodes[edge.from];
    std::string line = holder.label();
    if (holder.kind == ObjectKind::File)
      line += open_as(graph, edge.from);
    else if (edge.via != line)
      line += " by " + edge.via;
    lines.push_back(edge.strong ? line : line + " (not counted)");
  }
  return lines;
}

std::string why_alive(const ObjectView& self) {
  Object& object = self.get();
  ObjectGraph graph = object_graph(self.owner->machine());
  std::vector<GraphEdge> path = graph.why_alive(object);
  const Object& root = path.empty() ? object : *graph.nodes[path.front().from];
  const auto& waiting = self.owner->machine().rcu.waiting();
  const bool waits = std::ranges::any_of(waiting, [&](const auto& entry) { return entry.object == &root; });
  if (path.empty())
    return object.label() +
           (waits ? ": waits for a grace period" : ": no task, pin, hook or link reaches it");
  std::string text = root.label() + (waits ? " (waits for a grace period)" : "");
  for (const GraphEdge& edge : path) text += " -- " + edge.via + " --> " + graph.nodes[edge.to]->label();
  return text;
}

py::tuple graph_data(PyKernel& self) { return graph_tuples(graph_picture(self.machine())); }

std::vector<std::string> labels(const std::vector<const Object*>& objects) {
  std::vector<std::string> names;
  for (const Object* object : objects) names.push_back(object->label());
  return names;
}

std::string counters_text(const GraphPicture::Node& node) {
  if (node.refs < 0) return "";
  if (node.kind == ObjectKind::Cgroup && node.root) return "";  // the kernel does not count the root's
  std::string text = (node.kind == ObjectKind::File ? "f_count " : "refcnt ") + std::to_string(node.refs);
  return node.user_refs < 0 ? text : text + ", usercnt " + std::to_string(node.user_refs);
}

}  // namespace

py::tuple graph_tuples(const GraphPicture& picture) {
  py::list nodes, edges;
  for (const GraphPicture::Node& node : picture.nodes)
    nodes.append(
        py::make_tuple(node.serial, object_kind_name(node.kind), node.label, counters_text(node), node.root));
  for (const GraphPicture::Edge& edge : picture.edges)
    edges.append(py::make_tuple(edge.holder, edge.held, edge.via, edge.strong));
  return py::make_tuple(nodes, edges);
}

Object& ObjectView::get() const {
  auto& objects = owner->machine().objects;
  auto it = objects.find(serial);
  if (it != objects.end()) return *it->second;
  const bool told = owner->kernel.journal();
  raise_error(PyExc_ReferenceError,
              label + " is gone" + (told ? "; what freed it: kernel.history.watch() of this object" : ""));
}

ObjectView object_view(const std::shared_ptr<PyKernel>& owner, const Object& object) {
  return {owner, object.serial, object.label()};
}

void bind_objects(py::module_& m) {
  py::class_<ObjectView>(m, "Object", "A kernel object. Reading it after it is gone raises ReferenceError.")
      .def_readonly("serial", &ObjectView::serial, "Its number in the order of birth, unique in its machine.")
      .def_readonly("label", &ObjectView::label,
                    "Its kind, id and name when this view of it was made; to be read also after its end.")
      .def_readonly("kernel", &ObjectView::owner, "The machine that it is of.")
      .def_property_readonly(
          "alive", [](const ObjectView& o) { return o.owner->machine().objects.count(o.serial) != 0; },
          "Whether its memory is not freed yet; also true while it waits for a grace period.")
      .def_property_readonly(
          "kind", [](const ObjectView& o) { return object_kind_name(o.get().kind); },
          "'map', 'prog', 'link', 'btf', 'file', 'inode', 'task', ...: which struct of the kernel it is.")
      .def_property_readonly(
          "id", [](const ObjectView& o) { return o.get().id; },
          "Its number for the *_GET_FD_BY_ID commands; 0 for what has none, and after it was given back.")
      .def_property_readonly(
          "refcnt", &refcnt,
          "Its reference count now, of a file f_count; None for what is not counted. Models atomic64_t "
          "refcnt.")
      .def_property_readonly("usercnt", &usercnt, "References from user space (maps).")
      .def_property_readonly("ledger", &ledger, "Each +1 and -1: seq, time_ns, counter, delta, after, cause.")
      .def("holders", &holders, "Who holds it, found by walking the holders' own fields.")
      .def("why_alive", &why_alive,
           "The shortest path from a root to it, in words: from a task or pin where one leads here, else "
           "from\n"
           "a hook. Of what nothing holds any more, that it waits for a grace period.")
      .def_property_readonly(
          "ops", &map_ops_rows,
          "A map's vtable: (member, function, the kernel's file, ours), empty strings for NULL.")
      .def(
          "__eq__",
          [](const ObjectView& a, const ObjectView& b) { return a.owner == b.owner && a.serial == b.serial; },
          py::is_operator())
      .def("__hash__", [](const ObjectView& o) { return hash_of(o.owner.get(), o.serial); })
      .def("__repr__", [](const ObjectView& o) { return "<" + o.label + ">"; });

  m.def(
      "object_on",
      [](const std::shared_ptr<PyKernel>& kernel, const ObjectView& object) {
        return ObjectView{kernel, object.serial, object.label};
      },
      py::arg("kernel").none(false), py::arg("object"), "The same object in a fork of its machine.");
  m.def(
      "objects_born", [](PyKernel& k) { return k.machine().next_serial; }, py::arg("kernel"),
      "The number that the next object will have.");
  m.def("graph_data", &graph_data, py::arg("kernel"), "Nodes and edges of the object graph as tuples.");
  m.def(
      "graph_disagreements", [](PyKernel& k) { return object_graph(k.machine()).disagreements(); },
      py::arg("kernel"),
      "Counters that differ from the strong edges that arrive; empty means that they agree.");
  m.def(
      "graph_leaks", [](PyKernel& k) { return labels(object_graph(k.machine()).leaks()); }, py::arg("kernel"),
      "Objects that no root reaches.");
  m.def(
      "graph_cycles",
      [](PyKernel& k) {
        std::vector<std::vector<uint64_t>> cycles;
        for (const auto& cycle : object_graph(k.machine()).cycles())
          for (auto& serials = cycles.emplace_back(); const Object* object : cycle)
            serials.push_back(object->serial);
        return cycles;
      },
      py::arg("kernel"), "Objects that hold each other in a ring, by their serial numbers.");
  m.def(
      "graph_dot", [](PyKernel& k) { return object_graph(k.machine()).dot(); }, py::arg("kernel"),
      "The graph in Graphviz's language.");
}

}  // namespace bpfsim
