#include <algorithm>
#include <random>
#include <set>

#include "map/hashtab.h"
#include "map/view.h"
#include "support.h"

using namespace bpfsim;

namespace {

std::vector<uint32_t> sorted_keys(Map& map) {
  std::vector<uint32_t> keys;
  for (auto& bytes : keys_of(map)) {
    uint32_t key;
    std::memcpy(&key, bytes.data(), 4);
    keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace

TEST_CASE("A full LRU hash evicts what a live 6.18 with two CPUs evicts") {
  Maps maps(2);
  Map& map = maps.need({BPF_MAP_TYPE_LRU_HASH, 4, 4, 8, BPF_F_ZERO_SEED});
  // What the live kernel held after inserting 0..9, 0..12 and 0..29 into a map of 8.
  struct {
    uint32_t last;
    std::vector<uint32_t> keys;
  } cases[] = {
      {9, {2, 3, 4, 5, 6, 7, 8, 9}}, {12, {6, 7, 8, 9, 10, 11, 12}}, {29, {22, 23, 24, 25, 26, 27, 28, 29}}};
  uint32_t key = 0;
  for (auto& c : cases) {
    for (; key <= c.last; ++key) REQUIRE(update(map, key, key) == Errno::None);
    INFO("after key " << c.last);
    CHECK(sorted_keys(map) == c.keys);
  }
  free_map(map);
}

TEST_CASE("A key that a program looks up outlives keys that nobody asks for") {
  Maps maps(1);
  Map& map = maps.need({BPF_MAP_TYPE_LRU_HASH, 4, 4, 16});
  for (uint32_t key = 0; key < 200; ++key) {
    REQUIRE(update(map, key, key) == Errno::None);
    REQUIRE(find(map, 0u));  // map_lookup_elem sets the ref bit
  }
  free_map(map);
  Map& other = maps.need({BPF_MAP_TYPE_LRU_HASH, 4, 4, 16});
  uint32_t zero = 0;
  for (uint32_t key = 0; key < 200; ++key) {
    REQUIRE(update(other, key, key) == Errno::None);
    (void)other.ops->map_lookup_elem_sys_only(other, &zero);  // a lookup from user space does not
  }
  CHECK(find(other, 0u) == nullptr);
  free_map(other);
}

TEST_CASE("The lists of an LRU hash account for every element, whatever happens") {
  for (uint32_t flags : {0u, BPF_F_NO_COMMON_LRU})
    for (bpf_map_type type : {BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH}) {
      Maps maps(3);
      Map& map = maps.need({type, 4, 8, 31, flags});
      std::mt19937 random(flags + type);
      for (uint32_t step = 0; step < 5000; ++step) {
        maps.machine.current->cpu = random() % 3;
        uint32_t key = random() % 60;
        switch (random() % 4) {
          case 0: (void)find(map, key); break;
          case 1: (void)erase(map, key); break;
          default: REQUIRE(update(map, key, uint64_t(step)) == Errno::None);
        }
      }
      LruView view = lru_view(map);
      size_t nodes = 0, stored = 0;
      std::multiset<RawBytes> used;
      auto count = [&](const std::vector<LruNodeView>& list, bool in_use) {
        nodes += list.size();
        if (in_use)
          for (const LruNodeView& node : list) used.insert(node.key);
      };
      for (const LruListView& list : view.lists) {
        count(list.active, true);
        count(list.inactive, true);
        count(list.free, false);
      }
      for (const LruLocalView& local : view.locals) {
        count(local.free, false);
        count(local.pending, true);
      }
      CHECK(nodes == map.max_entries);
      for (auto& bucket : view.hash.buckets)
        for (const ElementView& element : bucket.chain) {
          ++stored;
          CHECK(used.count(element.key) == 1);
        }
      CHECK(stored == used.size());
      free_map(map);
      CHECK(maps.machine.arena.live_bytes() == maps.live_before);
    }
}

TEST_CASE("With lists for each CPU max_entries is rounded up to a multiple of the CPUs") {
  Maps maps(3);
  Map& map = maps.need({BPF_MAP_TYPE_LRU_HASH, 4, 4, 10, BPF_F_NO_COMMON_LRU});
  CHECK(map.max_entries == 12);
  free_map(map);
  CHECK(maps.create({BPF_MAP_TYPE_LRU_HASH, 4, 4, 10, BPF_F_NO_PREALLOC}).err() == Errno::NotSupp);
}

TEST_CASE("mem_usage of an LRU hash is what fdinfo shows on a live 6.18 with two CPUs") {
  Maps maps(2);
  struct {
    MapParams params;
    uint64_t want;
  } cases[] = {{{BPF_MAP_TYPE_LRU_HASH, 4, 4, 10}, 1792},
               {{BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 4, 10}, 1952},
               {{BPF_MAP_TYPE_LRU_HASH, 4, 4, 11, BPF_F_NO_COMMON_LRU}, 1920}};
  for (auto& c : cases) {
    Map& map = maps.need(c.params);
    CHECK(map.ops->map_mem_usage(map) == c.want);
    free_map(map);
  }
}
