#include "map/cpumap.h"

#include "map/view.h"
#include "sim.h"

using namespace bpfsim;

namespace {

int load(Sim& s, bpf_attach_type attach) {
  const std::vector<bpf_insn> insns = {mov64_imm(0, XDP_PASS), exit_insn()};
  bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, insns);
  attr.expected_attach_type = attach;
  return int(s.bpf(BPF_PROG_LOAD, attr));
}

long put(Sim& s, long map, uint32_t cpu, uint32_t qsize, int prog = 0, uint64_t flags = BPF_ANY) {
  const uint32_t value[2] = {qsize, uint32_t(prog)};
  return s.map_update(map, &cpu, value, flags);
}

}  // namespace

TEST_CASE("A map of CPUs is created with the sizes and flags of the kernel") {
  Sim s;
  struct Case {
    uint32_t key, value, entries, flags;
    Errno err;
  };
  const Case cases[] = {
      {4, 4, 256, 0, Errno::None},
      {4, 8, 2, BPF_F_NUMA_NODE, Errno::None},
      {4, 4, 257, 0, Errno::TooBig},
      {4, 4, 0, 0, Errno::Inval},
      {2, 4, 2, 0, Errno::Inval},
      {4, 5, 2, 0, Errno::Inval},
      {4, 4, 2, BPF_F_RDONLY, Errno::Inval},
  };
  for (const Case& c : cases) {
    INFO(c.key << " " << c.value << " " << c.entries << " " << c.flags);
    const long fd = s.map_create(BPF_MAP_TYPE_CPUMAP, c.key, c.value, c.entries, c.flags);
    CHECK((fd < 0 ? fd : 0) == -long(c.err));
  }
}

TEST_CASE("An entry of a map of CPUs holds its program until it is replaced, deleted or freed") {
  Sim s;
  const int prog = load(s, BPF_XDP_CPUMAP), other = load(s, BPF_XDP_DEVMAP);
  const long map = s.map_create(BPF_MAP_TYPE_CPUMAP, 4, 8, 4);
  Prog& held = s.prog(prog);
  uint32_t cpu = 1, value[2];
  CHECK(put(s, map, 1, 64, prog) == 0);
  CHECK(held.aux->refcnt.value() == 2);
  CHECK(s.map_lookup(map, &cpu, value) == 0);
  CHECK(value[0] == 64);
  CHECK(value[1] == held.id);
  CHECK(put(s, map, 1, 64, other) == minus(Errno::NoMem));
  CHECK(put(s, map, 1, 64, 999) == minus(Errno::NoMem));
  CHECK(put(s, map, 1, 0) == 0);  // a queue of length 0: the slot is empty
  CHECK(s.map_lookup(map, &cpu, value) == minus(Errno::NoEnt));
  CHECK(held.aux->refcnt.value() == 1);
  CHECK(put(s, map, 0, 8, prog) == 0);
  CHECK(s.map_delete(map, (cpu = 0, &cpu)) == 0);
  CHECK(s.map_delete(map, &cpu) == 0);
  CHECK(put(s, map, 0, 8, prog) == 0);
  CHECK(std::get<CpuMapView>(view_map(s.map(map))).slots.size() == 1);
  CHECK(s.close(map) == 0);
  CHECK(held.aux->refcnt.value() == 1);
}

TEST_CASE("A map of CPUs refuses CPUs that are not there, long queues and wrong flags") {
  Sim s;  // of two CPUs
  const long map = s.map_create(BPF_MAP_TYPE_CPUMAP, 4, 4, 4);
  uint32_t four = 4;
  CHECK(put(s, map, 3, 64) == minus(Errno::NoDev));
  CHECK(put(s, map, 4, 64) == minus(Errno::TooBig));
  CHECK(put(s, map, 1, 16385) == minus(Errno::Overflow));
  CHECK(put(s, map, 1, 16384) == 0);
  CHECK(put(s, map, 1, 64, 0, BPF_NOEXIST) == minus(Errno::Exist));
  CHECK(put(s, map, 1, 64, 0, BPF_EXIST) == 0);
  CHECK(put(s, map, 1, 64, 0, 3) == minus(Errno::Inval));
  CHECK(s.map_delete(map, &four) == minus(Errno::Inval));
}
