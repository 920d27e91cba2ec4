// Arrays of perf events and of cgroups.
#include "host/cgroup.h"
#include "host/tracing.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Arrays : Sim {
  int event(uint64_t bits = 0) {
    perf_event_attr attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_BPF_OUTPUT;
    attr.bits = bits;
    return *k.perf_event_open(t, attr);
  }
  long put(long map, uint32_t index, long fd, uint64_t flags = BPF_ANY) {
    const uint32_t value = uint32_t(fd);
    return map_update(map, &index, &value, flags);
  }
  long drop(long map, uint32_t index) { return map_delete(map, &index); }
  int64_t file_refs(int fd) { return t.files.get(fd)->f_count.value(); }
  bool agrees() { return object_graph(machine()).disagreements().empty(); }
};

}  // namespace

TEST_CASE("An array of perf events holds their files until a delete or the end of the map's descriptor") {
  Arrays s;
  const long map = s.map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4);
  REQUIRE(map >= 0);
  const int event = s.event(), inherited = s.event(2);
  uint32_t zero = 0, value = 0;
  CHECK(s.put(map, 0, 999) == minus(Errno::BadF));
  CHECK(s.put(map, 0, map) == minus(Errno::BadF));
  CHECK(s.put(map, 0, inherited) == minus(Errno::OpNotSupp));
  CHECK(s.put(map, 4, event) == minus(Errno::TooBig));
  CHECK(s.put(map, 0, event, BPF_NOEXIST) == minus(Errno::Inval));
  CHECK(s.put(map, 0, event) == 0);
  CHECK(s.put(map, 1, event) == 0);
  CHECK(s.put(map, 1, event) == 0);
  CHECK(s.file_refs(event) == 3);
  CHECK(s.map_lookup(map, &zero, &value) == minus(Errno::NotSupp));
  CHECK(s.drop(map, 0) == 0);
  CHECK(s.drop(map, 0) == minus(Errno::NoEnt));
  CHECK(s.drop(map, 4) == minus(Errno::TooBig));
  CHECK(s.file_refs(event) == 2);

  // Another open file of the same map brings an entry: it goes when that file is closed, and no earlier.
  bpf_attr attr;
  attr.map_id = s.map(map).id;
  const long again = s.bpf(BPF_MAP_GET_FD_BY_ID, attr);
  REQUIRE(again >= 0);
  CHECK(s.put(again, 2, event) == 0);
  CHECK(s.close(map) == 0);
  CHECK(s.file_refs(event) == 2);
  CHECK(s.drop(again, 1) == minus(Errno::NoEnt));
  CHECK(s.close(again) == 0);
  CHECK(s.file_refs(event) == 1);
  CHECK(s.agrees());
}

TEST_CASE("With BPF_F_PRESERVE_ELEMS an array of perf events keeps them until it is freed") {
  Arrays s;
  const long map = s.map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4, BPF_F_PRESERVE_ELEMS);
  const int event = s.event();
  CHECK(s.put(map, 0, event) == 0);
  bpf_attr attr;
  attr.map_id = s.map(map).id;
  const long again = s.bpf(BPF_MAP_GET_FD_BY_ID, attr);
  CHECK(s.close(map) == 0);
  CHECK(s.file_refs(event) == 2);
  CHECK(s.agrees());
  CHECK(s.close(again) == 0);
  CHECK(s.file_refs(event) == 1);
}

TEST_CASE("An array of cgroups holds them, also when they are removed") {
  Arrays s;
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a"));
  const int group = int(*s.k.open(s.t, "/sys/fs/cgroup/a"));
  const long map = s.map_create(BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 2);
  Cgroup& cgroup = static_cast<Cgroup&>(*s.object(group));
  const int64_t before = cgroup.refcnt.value();
  uint32_t zero = 0, value;
  CHECK(s.put(map, 0, map) == minus(Errno::BadF));
  CHECK(s.put(map, 0, 999) == minus(Errno::BadF));
  CHECK(s.put(map, 0, group) == 0);
  CHECK(cgroup.refcnt.value() == before + 1);
  CHECK(s.map_lookup(map, &zero, &value) == minus(Errno::NotSupp));
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(s.close(group) == 0);
  CHECK(s.agrees());
  CHECK(cgroup.refcnt.value() == 1);  // the map's
  CHECK(s.drop(map, 0) == 0);
  CHECK(s.close(map) == 0);
  for (const auto& [serial, object] : s.machine().objects)
    CHECK(object->label().find("/sys/fs/cgroup/a") == std::string::npos);
}
