// One machine and maps on it, driven through their tables without a syscall.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "catch.h"
#include "map/map_types.h"

namespace bpfsim {

struct MapParams {
  bpf_map_type type;
  uint32_t key_size, value_size, max_entries, flags = 0;
  uint64_t extra = 0;
};

// mmap(2) of a map as its type sees it.
inline Result<Span> mapped(Map& map, uint64_t offset, uint64_t length, bool writable) {
  Vma vma{kMmapBase, length, offset, nullptr, true, true, writable, {}};
  return map.ops->map_mmap(map, vma);
}

struct Maps {
  explicit Maps(uint32_t cpus = 2) : machine(options(cpus)), live_before(machine.arena.live_bytes()) {}
  static MachineOptions options(uint32_t cpus) {
    MachineOptions options;
    options.cpus = cpus;
    return options;
  }

  Result<Map*> create(const MapParams& params) {
    bpf_attr attr;
    attr.map_type = params.type;
    attr.key_size = params.key_size;
    attr.value_size = params.value_size;
    attr.max_entries = params.max_entries;
    attr.map_flags = params.flags;
    attr.map_extra = params.extra;
    const MapOps* ops = map_ops(params.type);
    REQUIRE(ops);
    if (ops->map_alloc_check) {
      Result<void> checked = ops->map_alloc_check(machine, attr);
      if (!checked) return checked.refusal();
    }
    Result<Map*> map = ops->map_alloc(machine, attr);
    if (map) (*map)->ops = ops;
    return map;
  }

  Map& need(const MapParams& params) {
    Result<Map*> map = create(params);
    INFO(map.refusal().reason());
    REQUIRE(map);
    return **map;
  }

  Machine machine;
  const uint64_t live_before;
};

// The same calls with numbers in place of pointers.
template <class K>
const uint8_t* find(Map& map, K key) {
  Result<void*> value = map.ops->map_lookup_elem(map, &key);
  REQUIRE(value);
  return static_cast<const uint8_t*>(*value);
}
template <class V, class K>
V at(Map& map, K key) {
  const uint8_t* value = find(map, key);
  REQUIRE(value);
  V out;
  std::memcpy(&out, value, sizeof out);
  return out;
}
template <class K, class V>
Errno update(Map& map, K key, V value, uint64_t flags = BPF_ANY) {
  return map.ops->map_update_elem(map, &key, &value, flags).err();
}
template <class K>
Errno erase(Map& map, K key) {
  return map.ops->map_delete_elem(map, &key).err();
}
inline void free_map(Map& map) { map.ops->map_free(map); }

// Every key, in the order in which BPF_MAP_GET_NEXT_KEY gives them.
inline std::vector<std::vector<uint8_t>> keys_of(Map& map) {
  std::vector<std::vector<uint8_t>> keys;
  std::vector<uint8_t> next(map.key_size);
  const void* key = nullptr;
  while (map.ops->map_get_next_key(map, key, next.data())) {
    keys.push_back(next);
    key = keys.back().data();
  }
  return keys;
}

inline std::string name(Errno err) { return errno_name(err); }

// What a type says of being made with these parameters.
struct Creation {
  MapParams params;
  Errno want;
};
inline void check_creations(const std::vector<Creation>& cases) {
  Maps maps;
  for (const auto& [params, want] : cases) {
    INFO("type " << params.type << " key " << params.key_size << " value " << params.value_size << " max "
                 << params.max_entries << " flags " << params.flags);
    Result<Map*> map = maps.create(params);
    CHECK(name(map.err()) == name(want));
    if (map) free_map(**map);
  }
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}

}  // namespace bpfsim
