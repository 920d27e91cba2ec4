#include "map/stackmap.h"

#include <array>
#include <map>
#include <vector>

#include "map/view.h"
#include "sim.h"

using namespace bpfsim;

TEST_CASE("A map of stack traces is created with the sizes and flags of the kernel") {
  Sim s;
  struct Case {
    uint32_t key, value, entries, flags;
    Errno err;
  };
  const Case cases[] = {
      {4, 8, 1, 0, Errno::None},
      {4, 127 * 8, 3, 0, Errno::None},
      {4, 128 * 8, 3, 0, Errno::Inval},
      {4, 4, 1, 0, Errno::Inval},
      {4, 12, 1, 0, Errno::Inval},
      {8, 8, 1, 0, Errno::Inval},
      {4, 8, 0, 0, Errno::Inval},
      {4, 8, (1u << 31) + 1, 0, Errno::TooBig},
      {4, 8, 1, BPF_F_NO_PREALLOC, Errno::Inval},
      {4, 32, 1, BPF_F_STACK_BUILD_ID, Errno::None},
      {4, 40, 1, BPF_F_STACK_BUILD_ID, Errno::Inval},
      {4, 128 * 32, 1, BPF_F_STACK_BUILD_ID, Errno::Inval},
  };
  for (const Case& c : cases) {
    INFO(c.key << " " << c.value << " " << c.entries << " " << c.flags);
    const long fd = s.map_create(BPF_MAP_TYPE_STACK_TRACE, c.key, c.value, c.entries, c.flags);
    CHECK((fd < 0 ? fd : 0) == -long(c.err));
  }
}

TEST_CASE("User space reads and deletes stack traces, and cannot put any in") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_STACK_TRACE, 4, 24, 5);
  Map& map = s.map(fd);
  const std::array<uint64_t, 4> trace = {0xffffffff81000010, 0xffffffff81000020, 0xffffffff81000030, 7};
  Result<uint32_t> id = __bpf_get_stackid(map, trace, 0);
  REQUIRE(id);
  CHECK(*__bpf_get_stackid(map, trace, 0) == *id);  // stored once
  CHECK(__bpf_get_stackid(map, {trace.data(), 2}, 2).err() == Errno::Fault);
  uint32_t key = *id, eight = 8, next = 0;
  std::array<uint64_t, 3> value{};
  CHECK(s.map_lookup(fd, &key, value.data()) == 0);
  CHECK(value == std::array<uint64_t, 3>{trace[0], trace[1], trace[2]});  // cut to the value's size
  CHECK(s.map_update(fd, &key, value.data()) == minus(Errno::Inval));
  CHECK(s.map_get_next_key(fd, nullptr, &next) == 0);
  CHECK(next == key);
  CHECK(s.map_get_next_key(fd, &key, &next) == minus(Errno::NoEnt));
  CHECK(s.map_delete(fd, &eight) == minus(Errno::TooBig));
  CHECK(s.map_lookup(fd, &eight, value.data()) == minus(Errno::NoEnt));
  CHECK(s.map_delete(fd, &key) == 0);
  CHECK(s.map_delete(fd, &key) == minus(Errno::NoEnt));
  REQUIRE(__bpf_get_stackid(map, trace, 0));
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, &key, value.data()) == 0);
  CHECK(value[0] == trace[0]);
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, &key, value.data()) == minus(Errno::NoEnt));
}

TEST_CASE("Another trace with the same id is refused, or takes the place") {
  Sim s;
  Map& map = s.map(s.map_create(BPF_MAP_TYPE_STACK_TRACE, 4, 8, 2));  // two buckets: the third trace collides
  bool refused = false;
  for (uint64_t address = 1; address <= 3; ++address) {
    Result<uint32_t> id = __bpf_get_stackid(map, {&address, 1}, 0);
    if (id) continue;
    CHECK(id.err() == Errno::Exist);
    refused = true;
    const Result<uint32_t> taken = __bpf_get_stackid(map, {&address, 1}, BPF_F_REUSE_STACKID);
    if (!taken) CHECK(taken.err() == Errno::NoMem);  // both elements hold other traces
  }
  CHECK(refused);
}

TEST_CASE("A picture of stack traces has them by their ids, and counts those that it leaves out") {
  Sim s;
  Map& map = s.map(s.map_create(BPF_MAP_TYPE_STACK_TRACE, 4, 24, 64));
  CHECK(stack_map_view(map).traces.empty());
  std::map<uint32_t, std::vector<uint64_t>> put;
  for (uint64_t i = 1; i <= 12; ++i) {
    const std::vector<uint64_t> trace = {0xffffffff81000000 + i, i, 2 * i};
    if (Result<uint32_t> id = __bpf_get_stackid(map, trace, 0)) put[*id] = trace;
  }
  REQUIRE(put.size() > 4);
  const StackTracesView all = stack_map_view(map);
  CHECK(all.n_buckets == 64);
  CHECK(all.max_entries == 64);
  CHECK(all.count == put.size());
  std::map<uint32_t, std::vector<uint64_t>> seen;
  for (const StackTraceView& trace : all.traces) {
    seen[trace.id] = trace.frames;
    CHECK((trace.hash & 63) == trace.id);
  }
  CHECK(seen == put);
  const StackTracesView some = stack_map_view(map, 3);
  CHECK(some.traces.size() == 3);
  CHECK(some.count == put.size());
  CHECK(some.traces[0].id == put.begin()->first);
  CHECK(std::holds_alternative<StackTracesView>(view_map(map)));
}
