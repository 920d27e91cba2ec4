// Programs attached to cgroups, devices and the network namespace: who holds them, and what runs.
#include "hook/attach.h"

#include "isa/opcodes.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Attaching : Sim {
  long load(bpf_prog_type type, int answer = 1) {
    return prog_load(type, {mov64_imm(BPF_REG_0, answer), exit_insn()});
  }
  long group(const std::string& path) {
    (void)k.mkdir(t, path).ok();
    return long(*k.open(t, path));
  }
  long attach(long target, long prog, uint32_t type, uint32_t flags = 0, int cmd = BPF_PROG_ATTACH) {
    bpf_attr attr;
    attr.target_fd = uint32_t(target);
    attr.attach_bpf_fd = uint32_t(prog);
    attr.attach_type = type;
    attr.attach_flags = flags;
    return bpf(cmd, attr);
  }
  std::vector<std::string> holders(const Object& object) {
    const ObjectGraph graph = object_graph(machine());
    std::vector<std::string> names;
    for (const GraphEdge& edge : graph.holders(object))
      names.push_back(graph.nodes[edge.from]->label() + ", " + edge.via);
    return names;
  }
};

}  // namespace

TEST_CASE("a cgroup holds the program that was attached to it, also when the loader is gone") {
  Attaching s;
  const long top = s.group("/sys/fs/cgroup/a"), prog = s.load(BPF_PROG_TYPE_CGROUP_DEVICE);
  const Prog& object = s.prog(prog);
  REQUIRE(s.attach(top, prog, BPF_CGROUP_DEVICE) == 0);
  REQUIRE(s.close(prog) == 0);
  REQUIRE(s.close(top) == 0);
  CHECK((s.holders(object) == std::vector<std::string>{"cgroup /sys/fs/cgroup/a, cgroup_device[0]"}));
  CHECK(object_graph(s.machine()).leaks().empty());
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(s.alive().empty());
}

TEST_CASE("a link on a cgroup holds both, and loses the group when that is removed") {
  Attaching s;
  const long top = s.group("/sys/fs/cgroup/a"), prog = s.load(BPF_PROG_TYPE_CGROUP_DEVICE);
  const long link = s.link_create(prog, top, BPF_CGROUP_DEVICE);
  REQUIRE(link > 0);
  const auto& group = static_cast<const Cgroup&>(*s.object(top));
  CHECK(group.refcnt.value() == 3);  // its directory, the descriptor, the link
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(group.refcnt.value() == 1);
  s.close(top), s.close(prog);
  CHECK(s.alive().size() == 3);  // the link, its file, and the program
  s.close(link);
  CHECK(s.alive().empty());
}

TEST_CASE("a device may be opened only if every program of the task's cgroup and those above say 1") {
  Attaching s;
  const long top = s.group("/sys/fs/cgroup/a"), below = s.group("/sys/fs/cgroup/a/b");
  // Denies writing: returns 0 where the access type has BPF_DEVCG_ACC_WRITE.
  const long no_writes = s.prog_load(BPF_PROG_TYPE_CGROUP_DEVICE,
                                     {ldx_mem(BPF_W, BPF_REG_2, BPF_REG_1, 0), mov64_imm(BPF_REG_0, 1),
                                      jmp_imm(BPF_JSET, BPF_REG_2, BPF_DEVCG_ACC_WRITE << 16, 1), exit_insn(),
                                      mov64_imm(BPF_REG_0, 0), exit_insn()});
  const long yes = s.load(BPF_PROG_TYPE_CGROUP_DEVICE);
  REQUIRE(no_writes > 0);
  REQUIRE(s.attach(top, no_writes, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI) == 0);
  REQUIRE(s.attach(below, yes, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI) == 0);
  auto open = [&](uint32_t access) {
    return cgroup_bpf_check_dev_permission(s.t, BPF_DEVCG_DEV_CHAR, 1, 3, access).err();
  };
  CHECK(open(BPF_DEVCG_ACC_WRITE) == Errno::None);
  REQUIRE(s.k.move_to_cgroup(s.t, "/sys/fs/cgroup/a/b", s.t));
  CHECK(open(BPF_DEVCG_ACC_READ) == Errno::None);
  CHECK(open(BPF_DEVCG_ACC_WRITE) == Errno::Perm);
  REQUIRE(s.attach(top, no_writes, BPF_CGROUP_DEVICE, 0, BPF_PROG_DETACH) == 0);
  CHECK(open(BPF_DEVCG_ACC_WRITE) == Errno::None);
}

TEST_CASE("classifiers on a device and flow dissectors are held by what they are attached to") {
  Attaching s;
  const long cls = s.load(BPF_PROG_TYPE_SCHED_CLS, 0), flow = s.load(BPF_PROG_TYPE_FLOW_DISSECTOR, 0);
  const Prog &classifier = s.prog(cls), &dissector = s.prog(flow);
  REQUIRE(s.attach(2, cls, BPF_TCX_INGRESS) == 0);
  REQUIRE(s.attach(0, flow, BPF_FLOW_DISSECTOR) == 0);
  s.close(cls), s.close(flow);
  CHECK((s.holders(classifier) == std::vector<std::string>{"netdev 2 (eth0), tcx ingress[0]"}));
  CHECK((s.holders(dissector) == std::vector<std::string>{"netns 4026531840, flow_dissector"}));
  CHECK(object_graph(s.machine()).leaks().empty());
}

TEST_CASE("attaching makes the value of a cgroup storage map, which goes with the group") {
  Attaching s;
  const long map = s.map_create(BPF_MAP_TYPE_CGROUP_STORAGE, 16, 8, 0), top = s.group("/sys/fs/cgroup/a");
  auto prog = [&] {
    return s.prog_load(BPF_PROG_TYPE_CGROUP_SKB,
                       {bpf_insn{BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, int(map)},
                        {},
                        mov64_imm(BPF_REG_0, 1),
                        exit_insn()});
  };
  const long one = prog(), two = prog();
  REQUIRE(one > 0);
  const Object& group = *s.object(top);
  const struct {
    uint64_t cgroup;
    uint32_t attach_type, pad;
  } key{static_cast<const Cgroup&>(group).id, BPF_CGROUP_INET_INGRESS, 0};
  uint64_t value = 5;
  CHECK(s.map_update(map, &key, &value) == minus(Errno::NoEnt));
  REQUIRE(s.attach(top, one, BPF_CGROUP_INET_INGRESS, BPF_F_ALLOW_MULTI) == 0);
  CHECK(s.map_update(map, &key, &value) == 0);
  REQUIRE(s.attach(top, two, BPF_CGROUP_INET_INGRESS, BPF_F_ALLOW_MULTI) == 0);
  value = 0;
  CHECK(s.map_lookup(map, &key, &value) == 0);  // shared, and as it was
  CHECK(value == 5);
  REQUIRE(s.attach(top, one, BPF_CGROUP_INET_INGRESS, 0, BPF_PROG_DETACH) == 0);
  REQUIRE(s.attach(top, two, BPF_CGROUP_INET_INGRESS, 0, BPF_PROG_DETACH) == 0);
  CHECK(s.map_lookup(map, &key, &value) == 0);
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(s.map_lookup(map, &key, &value) == minus(Errno::NoEnt));
  for (long fd : {map, top, one, two}) CHECK(s.close(fd) == 0);
  CHECK(s.alive().empty());
  CHECK(s.machine().arena.live_objects() == 0);
}
