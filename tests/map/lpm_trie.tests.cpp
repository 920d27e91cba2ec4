#include <map>
#include <random>

#include "map/view.h"
#include "support.h"

using namespace bpfsim;

namespace {

struct Key {
  uint32_t prefixlen;
  uint8_t data[4];
};
Key ip(uint32_t prefixlen, uint8_t a, uint8_t b = 0, uint8_t c = 0, uint8_t d = 0) {
  return {prefixlen, {a, b, c, d}};
}
constexpr MapParams kIpv4{BPF_MAP_TYPE_LPM_TRIE, 8, 4, 64, BPF_F_NO_PREALLOC};

uint32_t bits_of(const Key& key) {
  return uint32_t(key.data[0]) << 24 | uint32_t(key.data[1]) << 16 | uint32_t(key.data[2]) << 8 | key.data[3];
}
uint32_t masked(uint32_t bits, uint32_t prefixlen) { return prefixlen ? bits >> (32 - prefixlen) : 0; }

// What a trie is for, without a trie: every stored prefix, by length and bits.
using Model = std::map<std::pair<uint32_t, uint32_t>, uint32_t>;
const uint32_t* longest(const Model& model, const Key& key) {
  for (int length = int(key.prefixlen); length >= 0; --length) {
    auto it = model.find({uint32_t(length), masked(bits_of(key), uint32_t(length))});
    if (it != model.end()) return &it->second;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("A lookup finds the longest prefix, as a router does") {
  Maps maps;
  Map& map = maps.need(kIpv4);
  REQUIRE(update(map, ip(0, 0), 1u) == Errno::None);
  REQUIRE(update(map, ip(8, 10), 2u) == Errno::None);
  REQUIRE(update(map, ip(16, 10, 1), 3u) == Errno::None);
  REQUIRE(update(map, ip(32, 10, 1, 2, 3), 4u) == Errno::None);
  CHECK(at<uint32_t>(map, ip(32, 192, 168)) == 1);
  CHECK(at<uint32_t>(map, ip(32, 10, 9)) == 2);
  CHECK(at<uint32_t>(map, ip(32, 10, 1, 9, 9)) == 3);
  CHECK(at<uint32_t>(map, ip(32, 10, 1, 2, 3)) == 4);
  CHECK(at<uint32_t>(map, ip(12, 10, 1)) == 2);  // a shorter key matches shorter prefixes only
  CHECK(find(map, ip(33, 10)) == nullptr);
  REQUIRE(erase(map, ip(0, 0)) == Errno::None);
  CHECK(find(map, ip(32, 192, 168)) == nullptr);
  free_map(map);
}

TEST_CASE("A trie refuses as on a live 6.18") {
  Maps maps;
  MapParams small = kIpv4;
  small.max_entries = 2;
  Map& map = maps.need(small);
  CHECK(update(map, ip(8, 10), 1u, BPF_EXIST) == Errno::NoEnt);
  CHECK(update(map, ip(8, 10), 1u, BPF_NOEXIST) == Errno::None);
  CHECK(update(map, ip(8, 10), 1u, BPF_NOEXIST) == Errno::Exist);
  CHECK(update(map, ip(8, 10), 2u, BPF_EXIST) == Errno::None);
  CHECK(update(map, ip(8, 10), 2u, 3) == Errno::Inval);
  CHECK(update(map, ip(33, 10), 2u) == Errno::Inval);
  CHECK(update(map, ip(8, 11), 1u) == Errno::None);
  CHECK(update(map, ip(8, 12), 1u) == Errno::NoSpc);
  CHECK(update(map, ip(8, 12), 1u, BPF_EXIST) == Errno::NoEnt);
  CHECK(update(map, ip(8, 10), 3u) == Errno::None);  // full, but this one is there
  CHECK(erase(map, ip(7, 10)) == Errno::NoEnt);      // only an intermediate node stands there
  CHECK(erase(map, ip(9, 10)) == Errno::NoEnt);
  CHECK(erase(map, ip(33, 10)) == Errno::Inval);
  free_map(map);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}

TEST_CASE("Keys come in postorder: longer prefixes of a branch first") {
  Maps maps;
  Map& map = maps.need(kIpv4);
  for (Key key : {ip(16, 192, 168), ip(24, 192, 168, 0), ip(24, 192, 168, 128), ip(24, 192, 168, 1)})
    REQUIRE(update(map, key, 1u) == Errno::None);
  std::vector<std::pair<int, int>> got;  // third byte, prefix length
  for (auto& key : keys_of(map)) got.push_back({key[6], key[0]});
  CHECK(got == std::vector<std::pair<int, int>>{{0, 24}, {1, 24}, {128, 24}, {0, 16}});
  free_map(map);
}

TEST_CASE("Any sequence of operations on a trie agrees with trying every length") {
  Maps maps;
  MapParams params = kIpv4;
  params.max_entries = 40;
  Map& map = maps.need(params);
  Model model;
  std::mt19937 random(3);
  for (uint32_t step = 0; step < 30000; ++step) {
    // Few different bits, so that prefixes share branches.
    Key key{uint32_t(random() % 33),
            {uint8_t(random() & 0x83), uint8_t(random() & 0x11), 0, uint8_t(random() & 1)}};
    std::pair<uint32_t, uint32_t> id{key.prefixlen, masked(bits_of(key), key.prefixlen)};
    switch (random() % 5) {
      case 0:
      case 1: {
        Errno want = !model.count(id) && model.size() == 40 ? Errno::NoSpc : Errno::None;
        REQUIRE(update(map, key, step) == want);
        if (want == Errno::None) model[id] = step;
        break;
      }
      case 2: REQUIRE(erase(map, key) == (model.erase(id) ? Errno::None : Errno::NoEnt)); break;
      default: {
        const uint8_t* value = find(map, key);
        const uint32_t* want = longest(model, key);
        REQUIRE((value != nullptr) == (want != nullptr));
        if (want) REQUIRE(std::memcmp(value, want, 4) == 0);
      }
    }
    if (step % 1000 == 0) REQUIRE(keys_of(map).size() == model.size());
  }
  CHECK(map.ops->map_mem_usage(map) == 32 * model.size());
  TrieView view = trie_view(map);
  size_t stored = 0;
  for (const TrieNodeView& node : view.nodes) {
    stored += !node.intermediate;
    if (node.intermediate) CHECK((node.child[0] >= 0 && node.child[1] >= 0));
    for (int child : node.child)
      if (child >= 0) CHECK(view.nodes[size_t(child)].prefixlen > node.prefixlen);
  }
  CHECK(stored == model.size());
  free_map(map);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}
