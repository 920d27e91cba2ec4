// Models: kernel/bpf/hashtab.c: struct bpf_htab, struct htab_elem (Linux 6.18)
//
// The inside of a hash, for the files that share it: hashtab.cpp has the operations on single elements,
// hashtab_batch.cpp those on many, hashtab_view.cpp what a lesson sees.
#pragma once

#include "map/bpf_lru_list.h"
#include "map/common.h"
#include "object/ops.h"

namespace bpfsim {

struct HtabElem {
  HtabElem* next;    // in the chain, or in the free list
  HtabElem** pprev;  // the kernel's back link; here always null
  LruNode lru_node;
  uint32_t hash;
  uint8_t* key() { return reinterpret_cast<uint8_t*>(this + 1); }
  static HtabElem* of(LruNode& node) {
    return reinterpret_cast<HtabElem*>(reinterpret_cast<uint8_t*>(&node) - offsetof(HtabElem, lru_node));
  }
};
static_assert(sizeof(HtabElem) == 48 || sizeof(void*) != 8, "the kernel's struct htab_elem");

struct BpfHtab final : Map {
  using Map::Map;
  ~BpfHtab() override;
  bool percpu() const { return is_percpu_map(map_type); }
  bool is_lru() const {
    return map_type == BPF_MAP_TYPE_LRU_HASH || map_type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
  }
  bool has_extra_elems() const { return !percpu() && !is_lru() && !of_maps(); }
  bool prealloc() const { return !(map_flags & BPF_F_NO_PREALLOC); }
  uint32_t stride() const { return uint32_t(round_up(value_size, 8)); }
  HtabElem*& bucket(uint32_t hash) const {
    return reinterpret_cast<HtabElem**>(buckets.host)[hash & (n_buckets - 1)];
  }
  bool of_maps() const { return map_type == BPF_MAP_TYPE_HASH_OF_MAPS; }
  Map*& inner(HtabElem* l) const { return *static_cast<Map**>(value(l)); }
  void* value(HtabElem* l) const { return l->key() + round_up(key_size, 8); }
  uint8_t*& place(HtabElem* l) const { return *static_cast<uint8_t**>(value(l)); }
  uint8_t* percpu_value(HtabElem* l, uint32_t cpu) const { return place(l) + uint64_t(cpu) * stride(); }

  Span buckets;
  Span elems, percpu_area;  // all of them, when preallocated
  HtabElem* freelist = nullptr;
  BpfLru lru;                          // in its place, for the LRU types
  std::vector<HtabElem*> extra_elems;  // each CPU's spare one
  uint32_t n_buckets = 0, elem_size = 0, hashrnd = 0;
  uint32_t count = 0;  // elements in the buckets
};

inline BpfHtab& htab_of(Map& map) { return static_cast<BpfHtab&>(map); }
inline const BpfHtab& htab_of(const Map& map) { return static_cast<const BpfHtab&>(map); }

// The chain is walked from its head: who unlinks has just looked the element up, so the walk finds its lines
// in the cache, where a back link would cost a write to each neighbour's.
inline void htab_unlink(BpfHtab& htab, HtabElem* l) {
  HtabElem** link = &htab.bucket(l->hash);
  while (*link != l) link = &(*link)->next;
  *link = l->next;
}

// Of an element that is in no bucket any more: what it holds, and its memory.
void free_htab_elem(BpfHtab& htab, HtabElem* l);

Result<void> htab_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_percpu_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_percpu_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_lru_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_lru_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_lru_percpu_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> htab_lru_percpu_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr);

}  // namespace bpfsim
