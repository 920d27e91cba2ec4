// Two contexts, one machine: a syscall is held in its middle while another runs.
#include "trace/parking.h"

#include "object/ops.h"
#include "sim.h"

using namespace bpfsim;

namespace {

Parking::Stop at_map_op(const char* op) {
  return [op](const Event& event) {
    const auto* call = dynamic_cast<const MapOpEvent*>(&event);
    return call && std::string(call->op) == op;
  };
}
const Parking::Stop never = [](const Event&) { return false; };

}  // namespace

TEST_CASE("two guests interleave in an update, and the last to go on wins") {
  Sim s;
  Task& other = s.k.spawn("other");
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  Task& child = s.k.fork(s.t);
  (void)other;
  const uint32_t key = 0, ten = 10, twenty = 20;
  uint32_t now = 0;
  long first = -1, second = -1;
  Parking& lot = s.k.parking();
  auto update = [&](Task& task, const uint32_t& value, long& ret) {
    return [&] {
      bpf_attr attr;
      attr.map_fd = uint32_t(fd);
      attr.key = user_ptr(&key);
      attr.value = user_ptr(&value);
      ret = long(s.k.sys_bpf(task, BPF_MAP_UPDATE_ELEM, user_ptr(&attr), sizeof attr));
    };
  };
  const int a = lot.start(Context{}, update(s.t, ten, first), at_map_op("map_update_elem"));
  REQUIRE(lot.parked(a));
  CHECK(lot.context(a).task == &s.t);
  CHECK(s.machine().current->task == nullptr);
  CHECK(object_graph(s.machine()).disagreements().empty());  // the borrowed file is an edge of the task
  CHECK(s.map_freeze(fd) == minus(Errno::Busy));             // somebody stands in an update

  const int b = lot.start(Context{}, update(child, twenty, second), at_map_op("map_update_elem"));
  REQUIRE(lot.parked(b));
  CHECK(s.map_lookup(fd, &key, &now) == 0);
  CHECK(now == 0);
  CHECK_FALSE(lot.resume(b, never));
  CHECK(second == 0);
  CHECK(s.map_lookup(fd, &key, &now) == 0);
  CHECK(now == 20);
  CHECK_FALSE(lot.resume(a, never));
  CHECK(first == 0);
  CHECK(s.map_lookup(fd, &key, &now) == 0);
  CHECK(now == 10);
}

TEST_CASE("a descriptor that is closed under a parked lookup keeps the map alive until it ends") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 4, 4);
  const uint32_t key = 7, value = 70;
  CHECK(s.map_update(fd, &key, &value) == 0);
  uint32_t out = 0;
  long ret = -1;
  Parking& lot = s.k.parking();
  const int guest = lot.start(
      Context{}, [&] { ret = s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, &out); }, at_map_op("map_lookup_elem"));
  REQUIRE(lot.parked(guest));
  CHECK(s.close(fd) == 0);
  CHECK(s.alive().size() == 2);  // the file and the map, held by the syscall
  CHECK(object_graph(s.machine()).disagreements().empty());
  CHECK(object_graph(s.machine()).leaks().empty());
  CHECK_FALSE(lot.resume(guest, never));
  CHECK(ret == 0);
  CHECK(out == 70);
  CHECK(s.alive().empty());
}

TEST_CASE("a free waits while a reader of RCU is parked") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 4, 4), other = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 4);
  const uint32_t key = 7;
  uint32_t out = 0;
  Parking& lot = s.k.parking();
  const int guest = lot.start(
      Context{}, [&] { s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, &out); }, at_map_op("map_lookup_elem"));
  REQUIRE(lot.parked(guest));
  CHECK(s.close(other) == 0);
  CHECK(s.machine().rcu.waiting().size() == 1);
  CHECK_FALSE(lot.resume(guest, never));
  CHECK(s.machine().rcu.waiting().empty());
}

TEST_CASE("a task that exits inside a syscall leaves when the syscall ends") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 4, 4);
  const uint32_t key = 7;
  uint32_t out = 0;
  Parking& lot = s.k.parking();
  const int guest = lot.start(
      Context{}, [&] { s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, &out); }, at_map_op("map_lookup_elem"));
  REQUIRE(lot.parked(guest));
  s.k.exit(s.t);
  CHECK(s.machine().objects.count(s.t.serial) == 1);
  CHECK(object_graph(s.machine()).disagreements().empty());
  CHECK_FALSE(lot.resume(guest, never));
  CHECK(s.machine().objects.count(s.t.serial) == 0);
  CHECK(s.alive().empty());
}

TEST_CASE("a machine that is halted lets parked guests run to their end") {
  long ret = -1;
  {
    Sim s;
    const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
    static uint32_t key = 0, value = 1;
    s.k.parking().start(
        Context{},
        [&s, &ret, fd] {
          bpf_attr attr;
          attr.map_fd = uint32_t(fd);
          attr.key = user_ptr(&key);
          attr.value = user_ptr(&value);
          ret = long(s.k.sys_bpf(s.t, BPF_MAP_UPDATE_ELEM, user_ptr(&attr), sizeof attr));
        },
        at_map_op("map_update_elem"));
    CHECK(ret == -1);
  }
  CHECK(ret == 0);
}
