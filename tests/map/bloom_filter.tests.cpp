#include "map/view.h"
#include "support.h"

using namespace bpfsim;

namespace {

Errno push(Map& map, uint32_t value, uint64_t flags = BPF_ANY) {
  return map.ops->map_push_elem(map, &value, flags).err();
}
bool perhaps(Map& map, uint32_t value) { return map.ops->map_peek_elem(map, &value).ok(); }

}  // namespace

TEST_CASE("A bloom filter never denies a value that was added, and denies most others") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, 1000, BPF_F_ZERO_SEED});
  for (uint32_t value = 0; value < 1000; ++value) REQUIRE(push(map, value) == Errno::None);
  int wrong = 0;
  for (uint32_t value = 0; value < 1000; ++value) REQUIRE(perhaps(map, value));
  for (uint32_t value = 1000; value < 11000; ++value) wrong += perhaps(map, value);
  CHECK(wrong < 1000);
  free_map(map);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}

TEST_CASE("A bloom filter refuses as on a live 6.18") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, 4});
  CHECK(push(map, 1, BPF_NOEXIST) == Errno::Inval);
  CHECK(push(map, 1, BPF_EXIST) == Errno::Inval);
  uint32_t value = 1;
  CHECK(map.ops->map_pop_elem(map, &value).err() == Errno::OpNotSupp);
  CHECK(map.ops->map_lookup_elem(map, &value).err() == Errno::Inval);
  CHECK(update(map, 1u, 1u) == Errno::Inval);
  CHECK(erase(map, 1u) == Errno::OpNotSupp);
  CHECK(map.ops->map_get_next_key(map, nullptr, &value).err() == Errno::OpNotSupp);
  free_map(map);
}

TEST_CASE("map_extra is the number of hashes, and sizes are those of a live 6.18") {
  struct {
    uint32_t max_entries;
    uint64_t extra;
    uint32_t hashes;
    uint64_t usage;
  } cases[] = {{10, 0, 5, 328}, {1000, 0, 5, 1336}, {1, 1, 1, 320}};
  for (auto& c : cases) {
    Maps maps;
    Map& map = maps.need({BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, c.max_entries, 0, c.extra});
    INFO("max_entries " << c.max_entries << " map_extra " << c.extra);
    CHECK(bloom_view(map).nr_hash_funcs == c.hashes);
    CHECK(map.ops->map_mem_usage(map) == c.usage);
    free_map(map);
  }
}
