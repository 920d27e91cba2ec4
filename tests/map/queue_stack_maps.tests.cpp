#include <deque>
#include <random>

#include "map/view.h"
#include "support.h"

using namespace bpfsim;

namespace {

Errno push(Map& map, uint32_t value, uint64_t flags = BPF_ANY) {
  return map.ops->map_push_elem(map, &value, flags).err();
}
uint32_t pop(Map& map) {
  uint32_t value = 77;
  REQUIRE(map.ops->map_pop_elem(map, &value));
  return value;
}
uint32_t peek(Map& map) {
  uint32_t value = 77;
  REQUIRE(map.ops->map_peek_elem(map, &value));
  return value;
}

}  // namespace

TEST_CASE("A queue gives values back in their order, a stack in reverse") {
  Maps maps;
  Map& queue = maps.need({BPF_MAP_TYPE_QUEUE, 0, 4, 3});
  Map& stack = maps.need({BPF_MAP_TYPE_STACK, 0, 4, 3});
  for (uint32_t i = 1; i <= 3; ++i) {
    CHECK(push(queue, i) == Errno::None);
    CHECK(push(stack, i) == Errno::None);
  }
  CHECK(push(queue, 4) == Errno::TooBig);
  CHECK(push(stack, 4) == Errno::TooBig);
  CHECK(peek(queue) == 1);
  CHECK(peek(stack) == 3);
  for (uint32_t i = 1; i <= 3; ++i) {
    CHECK(pop(queue) == i);
    CHECK(pop(stack) == 4 - i);
  }
  free_map(queue);
  free_map(stack);
}

TEST_CASE("An empty queue or stack refuses with ENOENT and clears the caller's value") {
  for (bpf_map_type type : {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK}) {
    Maps maps;
    Map& map = maps.need({type, 0, 4, 1});
    uint32_t value = 77;
    CHECK(map.ops->map_peek_elem(map, &value).err() == Errno::NoEnt);
    CHECK(value == 0);
    value = 77;
    CHECK(map.ops->map_pop_elem(map, &value).err() == Errno::NoEnt);
    CHECK(value == 0);
    free_map(map);
  }
}

TEST_CASE("BPF_EXIST pushes over the oldest value of a full map") {
  for (bpf_map_type type : {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK}) {
    Maps maps;
    Map& map = maps.need({type, 0, 4, 2});
    for (uint32_t i = 1; i <= 3; ++i) CHECK(push(map, i, BPF_EXIST) == Errno::None);
    CHECK(pop(map) == (type == BPF_MAP_TYPE_QUEUE ? 2 : 3));
    CHECK(pop(map) == (type == BPF_MAP_TYPE_QUEUE ? 3 : 2));
    CHECK(push(map, 1, BPF_NOEXIST) == Errno::Inval);
    CHECK(push(map, 1, BPF_NOEXIST | BPF_EXIST) == Errno::Inval);
    CHECK(push(map, 1, BPF_F_LOCK) == Errno::Inval);
    free_map(map);
  }
}

TEST_CASE("A queue or stack has no keys") {
  for (bpf_map_type type : {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK}) {
    Maps maps;
    Map& map = maps.need({type, 0, 4, 2});
    CHECK(find(map, 0u) == nullptr);
    CHECK(update(map, 0u, 0u) == Errno::Inval);
    CHECK(erase(map, 0u) == Errno::Inval);
    uint32_t next;
    CHECK(map.ops->map_get_next_key(map, nullptr, &next).err() == Errno::Inval);
    free_map(map);
  }
}

TEST_CASE("Any sequence of pushes and pops agrees with a deque, and the ring wraps") {
  for (bpf_map_type type : {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK}) {
    Maps maps;
    Map& map = maps.need({type, 0, 4, 7});
    std::deque<uint32_t> model;
    std::mt19937 random(1);
    for (uint32_t step = 0; step < 20000; ++step) {
      uint32_t value = 77;
      switch (random() % 4) {
        case 0:
        case 1: {
          bool replace = random() % 4 == 0, full = model.size() == 7;
          CHECK(push(map, step, replace ? BPF_EXIST : BPF_ANY) ==
                (full && !replace ? Errno::TooBig : Errno::None));
          if (full && !replace) break;
          if (full) model.pop_front();
          model.push_back(step);
          break;
        }
        case 2:
          if (map.ops->map_pop_elem(map, &value)) {
            REQUIRE(!model.empty());
            CHECK(value == (type == BPF_MAP_TYPE_QUEUE ? model.front() : model.back()));
            type == BPF_MAP_TYPE_QUEUE ? model.pop_front() : model.pop_back();
          } else {
            CHECK(model.empty());
          }
          break;
        default: CHECK(map.ops->map_peek_elem(map, &value).ok() == !model.empty());
      }
    }
    RingView view = queue_stack_view(map);
    REQUIRE(view.slots.size() == model.size());
    for (size_t i = 0; i < model.size(); ++i)
      CHECK(std::memcmp(view.slots[i].value.data(), &model[i], sizeof model[i]) == 0);
    free_map(map);
    CHECK(maps.machine.arena.live_bytes() == maps.live_before);
  }
}

TEST_CASE("The attributes of a queue or stack are refused as on a live 6.18") {
  check_creations({
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 4, 0}, Errno::None},
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 4, BPF_F_NUMA_NODE}, Errno::None},
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 4, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 4, BPF_F_NO_PREALLOC}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 4, BPF_F_ZERO_SEED}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 4, BPF_F_MMAPABLE}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 4, 4, 4, 0}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 0, 0, 4, 0}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 0, 4, 0, 0}, Errno::Inval},
      {{BPF_MAP_TYPE_STACK, 0, 4 << 20, 1, 0}, Errno::None},
      {{BPF_MAP_TYPE_STACK, 0, (4 << 20) + 1, 1, 0}, Errno::TooBig},
      {{BPF_MAP_TYPE_STACK, 0, 0xffffffff, 1, 0}, Errno::TooBig},
      {{BPF_MAP_TYPE_STACK, 3, 5, 4, 0}, Errno::Inval},
      {{BPF_MAP_TYPE_QUEUE, 0, 4 << 20, 0xffffffff, 0}, Errno::NoMem},
      {{BPF_MAP_TYPE_STACK, 0, 1, 0xffffffff, 0}, Errno::NoMem},
  });
}

TEST_CASE("mem_usage of a queue or stack is what fdinfo shows on a live 6.18") {
  Maps maps;
  Map& queue = maps.need({BPF_MAP_TYPE_QUEUE, 0, 4, 10});
  Map& stack = maps.need({BPF_MAP_TYPE_STACK, 0, 7, 10});
  CHECK(queue.ops->map_mem_usage(queue) == 356);
  CHECK(stack.ops->map_mem_usage(stack) == 389);
  free_map(queue);
  free_map(stack);
}
