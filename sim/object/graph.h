// No kernel counterpart: the kernel has only counters; a learner wants to see who holds whom.
//
// The object graph, found by walking the holders' own fields. Roots are what the machine itself holds: tasks,
// the BPFFS tree, net devices, cgroups. "Why is this alive" is a path from a root; a leak is what no root
// reaches; a prog array that holds a program that uses it is a strong component.
#pragma once

#include <string>
#include <vector>

#include "object/object.h"

namespace bpfsim {

struct GraphEdge {
  size_t from, to;  // indices into nodes
  Counter counter;
  bool strong;
  std::string via;
};

struct ObjectGraph {
  std::vector<const Object*> nodes;  // in the order of birth
  std::vector<GraphEdge> edges;
  std::vector<bool> root;

  size_t index_of(const Object& object) const;
  std::vector<GraphEdge> holders(const Object& object) const;
  // The edges from a root to the object, nearest root first; empty when no root reaches it.
  std::vector<GraphEdge> why_alive(const Object& object) const;
  std::vector<const Object*> leaks() const;                // reached from no root
  std::vector<std::vector<const Object*>> cycles() const;  // strong components with more than one member
  // Counters that differ from the strong edges that arrive: "map 3: refcnt 2, but 1 strong edge". Empty =
  // agree.
  std::vector<std::string> disagreements() const;
  std::string dot() const;
};

ObjectGraph object_graph(const Machine& machine);

// Drawings leave out what says nothing about BPF: the terminal that every task has open.
bool is_drawn(const Object& object);

// The graph as plain data: it stays as it was when the machine goes on, or ends.
struct GraphPicture {
  struct Node {
    uint64_t serial;
    ObjectKind kind;
    std::string label;
    int64_t refs, user_refs;  // -1: no such counter
    bool root;
    bool operator==(const Node&) const = default;
  };
  struct Edge {
    uint64_t holder, held;  // serials
    Counter counter;
    bool strong;
    std::string via;
    bool operator==(const Edge&) const = default;
  };
  std::vector<Node> nodes;
  std::vector<Edge> edges;
  bool operator==(const GraphPicture&) const = default;
  std::string str() const;
};

GraphPicture graph_picture(const Machine& machine);

}  // namespace bpfsim
