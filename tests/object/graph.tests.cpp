// Who holds whom, found by walking the holders' fields.
#include "object/graph.h"

#include "object/ops.h"
#include "sim.h"

using namespace bpfsim;

namespace {

std::vector<std::string> vias(const std::vector<GraphEdge>& edges) {
  std::vector<std::string> names;
  for (const GraphEdge& edge : edges) names.push_back(edge.via);
  return names;
}

// A program object that no syscall made, for shapes that tests want.
Prog& loose_prog(Sim& s) {
  auto* prog = new Prog(s.machine());
  prog->id = s.machine().registry->prog_idr.alloc(prog);
  prog->aux->refcnt.inc({"born"});
  return *prog;
}

}  // namespace

TEST_CASE("why a map is alive is a path from a task") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0, "m");
  const ObjectGraph graph = object_graph(s.machine());
  CHECK(vias(graph.why_alive(s.map(fd))) == std::vector<std::string>{"fd 3", "private_data"});
  CHECK(graph.leaks().empty());
  CHECK(graph.cycles().empty());
  CHECK(graph.disagreements().empty());
  CHECK_THAT(graph.dot(), Catch::Matchers::Contains("map 1 (m)\\nrefcnt 1, usercnt 1") &&
                              Catch::Matchers::Contains("label=\"fd 3\""));
}

TEST_CASE("a reference without a holder is a leak, and a counter that lies is found") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  Map& map = s.map(fd);
  bpf_map_inc(map, {"nobody"});
  CHECK(object_graph(s.machine()).disagreements() ==
        std::vector<std::string>{"map 1: refcnt 2, but 1 strong edge"});
  CHECK(s.close(fd) == 0);
  const ObjectGraph graph = object_graph(s.machine());
  REQUIRE(graph.leaks().size() == 1);
  CHECK(graph.leaks()[0] == &map);
  CHECK(graph.why_alive(map).empty());
  bpf_map_put(map, {"nobody"});
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
}

TEST_CASE("a program holds its maps until a grace period after its own last put") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0, "m");
  Map& map = s.map(fd);
  Prog& prog = loose_prog(s);
  bpf_map_inc(map, {"used_maps[0]"});
  prog.aux->used_maps.push_back(&map);
  CHECK(s.close(fd) == 0);
  CHECK(map.refcnt.value() == 1);
  CHECK(map.usercnt.value() == 0);
  s.machine().rcu.hold();
  bpf_prog_put(prog, {"test"});
  CHECK(prog.id == 0);
  const ObjectGraph graph = object_graph(s.machine());
  CHECK(graph.leaks().empty());  // what waits for its grace period is no leak
  CHECK(graph.disagreements().empty());
  CHECK(vias(graph.holders(map)) == std::vector<std::string>{"used_maps[0]"});
  s.machine().rcu.release();
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
}

TEST_CASE("programs that hold each other are a cycle and a leak") {
  Sim s;
  Prog &a = loose_prog(s), &b = loose_prog(s);
  a.aux->dst_prog = &b;
  b.aux->dst_prog = &a;
  const ObjectGraph graph = object_graph(s.machine());
  REQUIRE(graph.cycles().size() == 1);
  CHECK(graph.cycles()[0].size() == 2);
  CHECK(graph.leaks().size() == 2);
  CHECK(graph.disagreements().empty());
  a.aux->dst_prog = nullptr;
  bpf_prog_put(b, {"cycle cut"});
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
}
