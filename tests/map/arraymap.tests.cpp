#include "map/arraymap.h"

#include "map/view.h"
#include "support.h"

using namespace bpfsim;

TEST_CASE("An array has all its elements from the start, zeroed, at 8-byte distance") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_ARRAY, 4, 5, 3});
  const uint8_t* first = find(map, 0u);
  REQUIRE(first);
  for (uint32_t i = 0; i < 3; ++i) {
    CHECK(find(map, i) == first + 8 * i);
    CHECK(at<uint32_t>(map, i) == 0);
  }
  CHECK(find(map, 3u) == nullptr);
  CHECK(find(map, UINT32_MAX) == nullptr);
  CHECK(maps.machine.arena.contains(maps.machine.arena.addr(first), 24));
  free_map(map);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}

TEST_CASE("An array refuses what its elements cannot do, as on a live 6.18") {
  struct {
    uint32_t index;
    uint64_t flags;
    Errno want;
  } cases[] = {
      {0, BPF_ANY, Errno::None},
      {3, BPF_EXIST, Errno::None},
      {0, BPF_NOEXIST, Errno::Exist},
      {0, 3, Errno::Inval},
      {0, 8, Errno::Inval},
      {0, BPF_F_LOCK, Errno::Inval},
      {0, BPF_F_LOCK | BPF_NOEXIST, Errno::Exist},
      {4, BPF_ANY, Errno::TooBig},
      {4, BPF_NOEXIST, Errno::TooBig},
      {4, 3, Errno::Inval},
      {4, BPF_F_LOCK, Errno::TooBig},
      {UINT32_MAX, BPF_ANY, Errno::TooBig},
  };
  for (bpf_map_type type : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY}) {
    Maps maps;
    Map& map = maps.need({type, 4, 4, 4});
    for (auto& c : cases) {
      INFO("index " << c.index << " flags " << c.flags);
      CHECK(name(update(map, c.index, 1u, c.flags)) == name(c.want));
    }
    CHECK(erase(map, 0u) == Errno::Inval);
    CHECK(erase(map, 9u) == Errno::Inval);
    free_map(map);
  }
}

TEST_CASE("get_next_key walks an array by index and starts anew behind its end") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_ARRAY, 4, 4, 3});
  auto keys = keys_of(map);
  REQUIRE(keys.size() == 3);
  for (uint32_t i = 0; i < 3; ++i) CHECK(std::memcmp(keys[i].data(), &i, 4) == 0);
  uint32_t beyond = 3, next = 77;
  CHECK(map.ops->map_get_next_key(map, &beyond, &next));
  CHECK(next == 0);
  free_map(map);
}

TEST_CASE("A per-CPU array keeps one copy for each CPU, at a fixed stride") {
  Maps maps(4);
  Map& map = maps.need({BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4, 2});
  for (uint32_t cpu = 0; cpu < 4; ++cpu) {
    maps.machine.current->cpu = cpu;
    CHECK(update(map, 1u, 100 + cpu) == Errno::None);
  }
  uint64_t all[4];
  uint32_t key = 1;
  REQUIRE(bpf_percpu_array_copy(map, &key, all));
  const uint8_t* base = static_cast<const uint8_t*>(*map.ops->map_lookup_percpu_elem(map, &key, 0));
  for (uint32_t cpu = 0; cpu < 4; ++cpu) {
    CHECK(all[cpu] == 100 + cpu);
    CHECK(*map.ops->map_lookup_percpu_elem(map, &key, cpu) == base + 8 * cpu);
    maps.machine.current->cpu = cpu;
    CHECK(at<uint32_t>(map, 1u) == 100 + cpu);
    CHECK(at<uint32_t>(map, 0u) == 0);
  }
  CHECK(*map.ops->map_lookup_percpu_elem(map, &key, 4) == nullptr);
  free_map(map);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}

TEST_CASE("User space writes a per-CPU array for all CPUs at once") {
  Maps maps(3);
  Map& map = maps.need({BPF_MAP_TYPE_PERCPU_ARRAY, 4, 6, 2});
  uint64_t values[3] = {11, 22, 33}, back[3];
  uint32_t key = 0, beyond = 2;
  CHECK(bpf_percpu_array_update(map, &key, values, BPF_ANY));
  CHECK(bpf_percpu_array_copy(map, &key, back));
  CHECK(std::memcmp(values, back, sizeof back) == 0);
  CHECK(bpf_percpu_array_update(map, &key, values, BPF_NOEXIST).err() == Errno::Exist);
  CHECK(bpf_percpu_array_update(map, &key, values, BPF_F_LOCK).err() == Errno::Inval);
  CHECK(bpf_percpu_array_update(map, &beyond, values, BPF_ANY).err() == Errno::TooBig);
  CHECK(bpf_percpu_array_copy(map, &beyond, back).err() == Errno::NoEnt);
  free_map(map);
}

TEST_CASE("The attributes of an array are refused as on a live 6.18") {
  constexpr bpf_map_type A = BPF_MAP_TYPE_ARRAY, P = BPF_MAP_TYPE_PERCPU_ARRAY;
  check_creations({
      {{A, 4, 4, 4, 0}, Errno::None},
      {{A, 4, 4, 4, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG}, Errno::Inval},
      {{A, 4, 4, 4, BPF_F_NUMA_NODE}, Errno::None},
      {{A, 4, 4, 4, BPF_F_NO_PREALLOC}, Errno::Inval},
      {{A, 4, 4, 4, BPF_F_NO_COMMON_LRU}, Errno::Inval},
      {{A, 4, 4, 4, BPF_F_ZERO_SEED}, Errno::Inval},
      {{A, 4, 4, 4, BPF_F_MMAPABLE}, Errno::None},
      {{A, 4, 4, 4, BPF_F_INNER_MAP}, Errno::None},
      {{A, 4, 4, 4, BPF_F_PRESERVE_ELEMS}, Errno::Inval},
      {{A, 8, 4, 4, 0}, Errno::Inval},
      {{A, 0, 4, 4, 0}, Errno::Inval},
      {{A, 4, 0, 4, 0}, Errno::Inval},
      {{A, 4, 4, 0, 0}, Errno::Inval},
      {{A, 4, 32769, 1, 0}, Errno::None},
      {{A, 4, 0x80000000, 1, 0}, Errno::TooBig},
      {{A, 4, 0x80000000, 1, 1}, Errno::Inval},
      {{A, 4, 1, 0xffffffff, 0}, Errno::NoMem},
      {{P, 4, 4, 4, 0}, Errno::None},
      {{P, 4, 4, 4, BPF_F_NUMA_NODE}, Errno::Inval},
      {{P, 4, 4, 4, BPF_F_MMAPABLE}, Errno::Inval},
      {{P, 4, 4, 4, BPF_F_INNER_MAP}, Errno::Inval},
      {{P, 4, 32768, 1, 0}, Errno::None},
      {{P, 4, 32769, 1, 0}, Errno::TooBig},
      {{P, 4, 1, 0xffffffff, 0}, Errno::NoMem},
  });
}

TEST_CASE("An unprivileged owner's array is a power of two, which a masked index cannot leave") {
  Credentials nobody{1000, 0};
  Maps maps;
  maps.machine.current->cred = &nobody;
  Map& map = maps.need({BPF_MAP_TYPE_ARRAY, 4, 8, 5});
  CHECK(!map.bypass_spec_v1);
  CHECK(maps.machine.arena.live_bytes() - maps.live_before == 8 * 8);
  CHECK(map.max_entries == 5);
  CHECK(find(map, 5u) == nullptr);
  free_map(map);
}

TEST_CASE("Direct access is for an array of one element") {
  Maps maps;
  Map& one = maps.need({BPF_MAP_TYPE_ARRAY, 4, 12, 1});
  Map& two = maps.need({BPF_MAP_TYPE_ARRAY, 4, 12, 2});
  Addr base = maps.machine.arena.addr(find(one, 0u));
  CHECK(*one.ops->map_direct_value_addr(one, 0) == base);
  CHECK(*one.ops->map_direct_value_addr(one, 11) == base);
  CHECK(one.ops->map_direct_value_addr(one, 12).err() == Errno::Inval);
  CHECK(two.ops->map_direct_value_addr(two, 0).err() == Errno::NotSupp);
  CHECK(*one.ops->map_direct_value_meta(one, base + 5) == 5);
  CHECK(one.ops->map_direct_value_meta(one, base + 16).err() == Errno::NoEnt);
  free_map(one);
  free_map(two);
}

TEST_CASE("User space shares the pages of a BPF_F_MMAPABLE array") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_ARRAY, 4, 8, 1000, BPF_F_MMAPABLE});
  Map& plain = maps.need({BPF_MAP_TYPE_ARRAY, 4, 8, 1000});
  Result<Span> pages = mapped(map, 0, 8192, true);
  REQUIRE(pages);
  CHECK(pages->addr % kPageSize == 0);
  pages->host[8 * 7] = 42;
  CHECK(at<uint64_t>(map, 7u) == 42);
  CHECK(mapped(map, 4096, 4096, true)->host == pages->host + 4096);
  CHECK(mapped(map, 4096, 8192, true).err() == Errno::Inval);
  CHECK(mapped(map, UINT64_MAX - 4095, 4096, true).err() == Errno::Inval);
  CHECK(mapped(plain, 0, 4096, true).err() == Errno::Inval);
  free_map(map);
  free_map(plain);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}

TEST_CASE("Inner arrays must have the template's size unless BPF_F_INNER_MAP frees them of it") {
  Maps maps;
  Map& four = maps.need({BPF_MAP_TYPE_ARRAY, 4, 4, 4});
  Map& five = maps.need({BPF_MAP_TYPE_ARRAY, 4, 4, 5});
  Map& free4 = maps.need({BPF_MAP_TYPE_ARRAY, 4, 4, 4, BPF_F_INNER_MAP});
  Map& free5 = maps.need({BPF_MAP_TYPE_ARRAY, 4, 4, 5, BPF_F_INNER_MAP});
  Map& hash4 = maps.need({BPF_MAP_TYPE_HASH, 4, 4, 4});
  Map& hash5 = maps.need({BPF_MAP_TYPE_HASH, 4, 4, 5});
  CHECK(four.ops->map_meta_equal(four, four));
  CHECK(!four.ops->map_meta_equal(four, five));
  CHECK(free4.ops->map_meta_equal(free4, free5));
  CHECK(!four.ops->map_meta_equal(four, free4));
  CHECK(hash4.ops->map_meta_equal(hash4, hash5));
  CHECK(!hash4.ops->map_meta_equal(hash4, four));
  for (Map* map : {&four, &five, &free4, &free5, &hash4, &hash5}) free_map(*map);
}

TEST_CASE("mem_usage of an array is what fdinfo shows on a live 6.18 with two CPUs") {
  struct {
    MapParams params;
    uint64_t want;
  } cases[] = {
      {{BPF_MAP_TYPE_ARRAY, 4, 4, 1}, 320},
      {{BPF_MAP_TYPE_ARRAY, 4, 5, 3}, 336},
      {{BPF_MAP_TYPE_ARRAY, 4, 8, 1000, BPF_F_MMAPABLE}, 12288},
      {{BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4, 3}, 384},
  };
  Maps maps;
  for (auto& c : cases) {
    Map& map = maps.need(c.params);
    CHECK(map.ops->map_mem_usage(map) == c.want);
    free_map(map);
  }
}

TEST_CASE("The view of a per-CPU array shows each CPU's copy") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4, 2});
  maps.machine.current->cpu = 1;
  CHECK(update(map, 1u, 7u) == Errno::None);
  ArrayView view = array_view(map);
  CHECK(view.percpu_stride == 8);
  CHECK(array_view(map, 1).elements.size() == 1);
  CHECK(array_view(map, 1).max_entries == 2);
  REQUIRE(view.elements.size() == 2);
  CHECK(view.elements[1].values == std::vector<RawBytes>{{0, 0, 0, 0}, {7, 0, 0, 0}});
  free_map(map);
}
