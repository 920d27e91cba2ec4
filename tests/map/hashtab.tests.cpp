#include "map/hashtab.h"

#include <map>
#include <random>

#include "map/jhash.h"
#include "map/view.h"
#include "support.h"

using namespace bpfsim;

TEST_CASE("With BPF_F_ZERO_SEED the keys of a hash come in the order of a live 6.18") {
  // Ten keys of `size` bytes, byte j of key i is i*37 + j*11 + 1, in a map of 16; their first bytes in the
  // order that the live kernel gave.
  struct {
    uint32_t size;
    std::vector<int> first_bytes;
  } cases[] = {
      {1, {4, 38, 78, 75, 41, 223, 186, 149, 112, 1}},  {2, {223, 186, 75, 78, 1, 112, 4, 41, 38, 149}},
      {3, {149, 112, 75, 38, 1, 4, 78, 41, 186, 223}},  {4, {149, 78, 1, 75, 38, 186, 41, 4, 112, 223}},
      {5, {75, 1, 38, 112, 186, 78, 223, 41, 149, 4}},  {7, {78, 149, 75, 4, 186, 223, 38, 1, 112, 41}},
      {8, {75, 1, 149, 223, 112, 38, 186, 78, 41, 4}},  {11, {149, 112, 186, 78, 75, 4, 41, 223, 38, 1}},
      {12, {1, 75, 4, 223, 186, 41, 112, 149, 38, 78}}, {13, {41, 112, 186, 4, 149, 38, 78, 1, 223, 75}},
      {16, {186, 75, 41, 4, 112, 1, 223, 38, 149, 78}}, {20, {112, 149, 75, 1, 223, 78, 41, 186, 38, 4}},
      {24, {75, 223, 112, 1, 78, 186, 4, 41, 38, 149}}, {25, {41, 78, 4, 112, 149, 223, 75, 186, 38, 1}},
      {36, {149, 1, 4, 223, 41, 186, 78, 75, 112, 38}}, {37, {75, 41, 38, 223, 4, 112, 78, 186, 149, 1}},
  };
  for (auto& c : cases) {
    Maps maps;
    Map& map = maps.need({BPF_MAP_TYPE_HASH, c.size, 4, 16, BPF_F_ZERO_SEED});
    for (int i = 0; i < 10; ++i) {
      std::vector<uint8_t> key(c.size);
      for (uint32_t j = 0; j < c.size; ++j) key[j] = uint8_t(i * 37 + j * 11 + 1);
      uint32_t value = 0;
      REQUIRE(map.ops->map_update_elem(map, key.data(), &value, BPF_ANY));
    }
    std::vector<int> got;
    for (auto& key : keys_of(map)) got.push_back(key[0]);
    INFO("key_size " << c.size);
    CHECK(got == c.first_bytes);
    free_map(map);
  }
}

TEST_CASE("Any sequence of operations on a hash agrees with a std::map") {
  for (uint32_t flags : {0u, uint32_t(BPF_F_NO_PREALLOC)}) {
    Maps maps;
    Map& map = maps.need({BPF_MAP_TYPE_HASH, 4, 8, 50, flags});
    std::map<uint32_t, uint64_t> model;
    std::mt19937 random(flags + 1);
    for (uint64_t step = 0; step < 50000; ++step) {
      uint32_t key = random() % 80;
      bool there = model.count(key);
      maps.machine.current->cpu = random() % 2;
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          uint64_t how = random() % 3;
          Errno want = there && how == BPF_NOEXIST    ? Errno::Exist
                       : !there && how == BPF_EXIST   ? Errno::NoEnt
                       : !there && model.size() == 50 ? Errno::TooBig
                                                      : Errno::None;
          REQUIRE(name(update(map, key, step, how)) == name(want));
          if (want == Errno::None) model[key] = step;
          break;
        }
        case 3:
        case 4: REQUIRE(erase(map, key) == (model.erase(key) ? Errno::None : Errno::NoEnt)); break;
        case 5: {
          uint64_t value = 0;
          Result<void> got = map.ops->map_lookup_and_delete_elem(map, &key, &value, 0);
          REQUIRE(got.ok() == there);
          if (there) REQUIRE(value == model[key]);
          model.erase(key);
          break;
        }
        default: {
          const uint8_t* value = find(map, key);
          REQUIRE((value != nullptr) == there);
          if (there) REQUIRE(std::memcmp(value, &model[key], 8) == 0);
        }
      }
    }
    std::map<uint32_t, uint64_t> walked;
    for (auto& bytes : keys_of(map)) {
      uint32_t key;
      std::memcpy(&key, bytes.data(), 4);
      walked[key] = at<uint64_t>(map, key);
    }
    CHECK(walked == model);
    free_map(map);
    CHECK(maps.machine.arena.live_bytes() == maps.live_before);
  }
}

TEST_CASE("A full hash still replaces, and refuses only a new key with E2BIG") {
  for (uint32_t flags : {0u, uint32_t(BPF_F_NO_PREALLOC)}) {
    Maps maps(4);
    Map& map = maps.need({BPF_MAP_TYPE_HASH, 4, 4, 3, flags});
    for (uint32_t key = 0; key < 3; ++key) CHECK(update(map, key, key) == Errno::None);
    for (uint32_t cpu = 0; cpu < 4; ++cpu) {
      maps.machine.current->cpu = cpu;
      CHECK(update(map, 9u, 9u) == Errno::TooBig);
      CHECK(update(map, 1u, cpu, BPF_EXIST) == Errno::None);
    }
    CHECK(erase(map, 0u) == Errno::None);
    CHECK(update(map, 9u, 9u) == Errno::None);
    free_map(map);
    CHECK(maps.machine.arena.live_bytes() == maps.live_before);
  }
}

TEST_CASE("A hash refuses flags as on a live 6.18") {
  struct {
    bpf_map_type type;
    uint32_t key;
    uint64_t flags;
    Errno want;
  } cases[] = {
      {BPF_MAP_TYPE_HASH, 1, BPF_NOEXIST, Errno::Exist},
      {BPF_MAP_TYPE_HASH, 2, BPF_EXIST, Errno::NoEnt},
      {BPF_MAP_TYPE_HASH, 1, 3, Errno::Inval},
      {BPF_MAP_TYPE_HASH, 1, 8, Errno::Inval},
      {BPF_MAP_TYPE_HASH, 1, BPF_F_LOCK, Errno::Inval},
      {BPF_MAP_TYPE_HASH, 1, BPF_F_LOCK | BPF_NOEXIST, Errno::Inval},
      {BPF_MAP_TYPE_PERCPU_HASH, 1, BPF_NOEXIST, Errno::Exist},
      {BPF_MAP_TYPE_PERCPU_HASH, 2, BPF_EXIST, Errno::NoEnt},
      {BPF_MAP_TYPE_PERCPU_HASH, 1, BPF_F_LOCK, Errno::Inval},
      {BPF_MAP_TYPE_PERCPU_HASH, 1, 3, Errno::Inval},
  };
  for (auto& c : cases) {
    Maps maps;
    Map& map = maps.need({c.type, 4, 4, 4});
    REQUIRE(update(map, 1u, 1u) == Errno::None);
    INFO("type " << c.type << " key " << c.key << " flags " << c.flags);
    CHECK(name(update(map, c.key, 2u, c.flags)) == name(c.want));
    free_map(map);
  }
}

TEST_CASE("An update links a new element at the head of the chain and leaves the old value untouched") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_HASH, 4, 4, 1});  // one bucket
  REQUIRE(update(map, 5u, 1u) == Errno::None);
  const uint8_t* before = find(map, 5u);
  REQUIRE(update(map, 5u, 2u) == Errno::None);
  CHECK(find(map, 5u) != before);
  CHECK(*before == 1);  // a program that still holds the old value reads the old value
  free_map(map);
}

TEST_CASE("A per-CPU hash: a program writes its own copy, user space all of them") {
  Maps maps(3);
  for (uint32_t flags : {0u, uint32_t(BPF_F_NO_PREALLOC)}) {
    Map& map = maps.need({BPF_MAP_TYPE_PERCPU_HASH, 4, 4, 2, flags});
    uint32_t key = 1, none = 2;
    uint64_t all[3];
    maps.machine.current->cpu = 1;
    REQUIRE(update(map, key, 7u) == Errno::None);
    REQUIRE(bpf_percpu_hash_copy(map, &key, all));
    CHECK(all[0] == 0);
    CHECK(all[1] == 7);
    CHECK(all[2] == 0);
    const uint8_t* mine = find(map, key);
    uint64_t values[3] = {1, 2, 3};
    REQUIRE(bpf_percpu_hash_update(map, &key, values, BPF_EXIST));
    CHECK(find(map, key) == mine);  // in place
    CHECK(at<uint32_t>(map, key) == 2);
    CHECK(*map.ops->map_lookup_percpu_elem(map, &key, 2) == mine + 8);
    CHECK(*map.ops->map_lookup_percpu_elem(map, &key, 3) == nullptr);
    CHECK(bpf_percpu_hash_copy(map, &none, all).err() == Errno::NoEnt);
    CHECK(bpf_percpu_hash_update(map, &none, values, BPF_EXIST).err() == Errno::NoEnt);
    REQUIRE(map.ops->map_lookup_and_delete_elem(map, &key, all, 0));
    CHECK(std::memcmp(all, values, sizeof all) == 0);
    CHECK(find(map, key) == nullptr);
    REQUIRE(update(map, key, 9u) == Errno::None);  // the element is used again, and is zero elsewhere
    REQUIRE(bpf_percpu_hash_copy(map, &key, all));
    CHECK(all[0] == 0);
    CHECK(all[1] == 9);
    CHECK(all[2] == 0);
    CHECK(update(map, 5u, 1u) == Errno::None);
    CHECK(update(map, 6u, 1u) == Errno::TooBig);
    free_map(map);
    CHECK(maps.machine.arena.live_bytes() == maps.live_before);
  }
}

TEST_CASE("The attributes of a hash are refused as on a live 6.18") {
  constexpr bpf_map_type H = BPF_MAP_TYPE_HASH, P = BPF_MAP_TYPE_PERCPU_HASH;
  constexpr uint32_t max = (4 << 20) - 48;  // key_size + value_size must stay below
  check_creations({
      {{H, 4, 4, 4, 0}, Errno::None},
      {{H, 4, 4, 4, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG}, Errno::Inval},
      {{H, 4, 4, 4, BPF_F_NUMA_NODE}, Errno::None},
      {{H, 4, 4, 4, BPF_F_NO_COMMON_LRU}, Errno::Inval},
      {{H, 4, 4, 4, BPF_F_MMAPABLE}, Errno::Inval},
      {{H, 4, 4, 4, BPF_F_INNER_MAP}, Errno::Inval},
      {{H, 0, 4, 4, 0}, Errno::Inval},
      {{H, 4, 0, 4, 0}, Errno::Inval},
      {{H, 4, 4, 0, 0}, Errno::Inval},
      {{H, 3, 5, 4, 0}, Errno::None},
      {{H, 4, max - 4 - 1, 1, BPF_F_NO_PREALLOC}, Errno::None},
      {{H, 4, max - 4, 1, BPF_F_NO_PREALLOC}, Errno::TooBig},
      {{H, 4, 0x80000000, 1, 0}, Errno::TooBig},
      {{H, 4, 1, (1 << 27) + 1, BPF_F_NO_PREALLOC}, Errno::TooBig},
      {{H, 4, 1, 0x80000001, BPF_F_NO_PREALLOC}, Errno::TooBig},
      {{H, 4, 1, 0xffffffff, 0}, Errno::TooBig},
      {{H, 4, 1 << 20, 1 << 20, 0}, Errno::NoMem},
      {{P, 4, 4, 4, 0}, Errno::None},
      {{P, 4, 4, 4, BPF_F_NUMA_NODE}, Errno::Inval},
      {{P, 4, 32768, 1, 0}, Errno::None},
      {{P, 4, 32769, 1, 0}, Errno::TooBig},
  });
}

TEST_CASE("A known seed is for CAP_SYS_ADMIN") {
  Credentials nobody{1000, 0};
  Maps maps;
  maps.machine.current->cred = &nobody;
  CHECK(maps.create({BPF_MAP_TYPE_HASH, 4, 4, 4, BPF_F_ZERO_SEED}).err() == Errno::Perm);
  CHECK(maps.create({BPF_MAP_TYPE_HASH, 0, 4, 4, BPF_F_ZERO_SEED}).err() == Errno::Perm);
}

TEST_CASE("mem_usage of a hash is what fdinfo shows on a live 6.18 with two CPUs") {
  struct {
    MapParams params;
    uint64_t empty, with_three;
  } cases[] = {
      {{BPF_MAP_TYPE_HASH, 4, 4, 4}, 1360, 1360},
      {{BPF_MAP_TYPE_HASH, 5, 9, 1000}, 89440, 89440},
      {{BPF_MAP_TYPE_HASH, 4, 4, 1000, BPF_F_NO_PREALLOC}, 17280, 17496},
      {{BPF_MAP_TYPE_PERCPU_HASH, 4, 4, 10}, 1952, 1952},
      {{BPF_MAP_TYPE_PERCPU_HASH, 4, 4, 10, BPF_F_NO_PREALLOC}, 1152, 1464},
  };
  for (auto& c : cases) {
    Maps maps;
    Map& map = maps.need(c.params);
    CHECK(map.ops->map_mem_usage(map) == c.empty);
    for (uint64_t key = 0; key < 3; ++key) {
      uint64_t value[2] = {};
      CHECK(map.ops->map_update_elem(map, &key, value, BPF_ANY));
    }
    CHECK(map.ops->map_mem_usage(map) == c.with_three);
    free_map(map);
  }
}

TEST_CASE("The view of a hash shows every element in the bucket of its hash") {
  Maps maps;
  Map& map = maps.need({BPF_MAP_TYPE_HASH, 4, 4, 8, BPF_F_ZERO_SEED});
  for (uint32_t key = 0; key < 6; ++key) REQUIRE(update(map, key, key) == Errno::None);
  HashView view = htab_view(map);
  CHECK(view.n_buckets == 8);
  CHECK(view.free_elements == 2);
  size_t elements = 0;
  for (const BucketView& bucket : view.buckets)
    for (const ElementView& element : bucket.chain) {
      ++elements;
      CHECK(element.hash % 8 == bucket.index);
      CHECK(element.hash == jhash2(element.key.data(), 1, 0));
      CHECK(element.values == std::vector<RawBytes>{element.key});
    }
  CHECK(elements == 6);
  HashView short_view = htab_view(map, 2);
  size_t shown = 0;
  for (const BucketView& bucket : short_view.buckets) shown += bucket.chain.size();
  CHECK(shown == 2);
  CHECK(short_view.count == 6);
  free_map(map);
}
