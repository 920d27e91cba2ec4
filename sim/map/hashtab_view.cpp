// No kernel counterpart: a kernel shows nobody how a hash lies in memory, a lesson does.
//
// The buckets with their chains, the lists of an LRU hash, and the inner maps, as map/view.h has them.
#include "map/htab.h"
#include "map/view.h"

namespace bpfsim {

FdArrayView fd_htab_view(const Map& map, size_t limit) {
  const BpfHtab& htab = htab_of(map);
  FdArrayView view{map.max_entries, htab.count, {}};
  for (uint32_t i = 0; i < htab.n_buckets; ++i)
    for (HtabElem* l = htab.bucket(i); l && view.slots.size() < limit; l = l->next)
      view.slots.push_back({bytes_of(l->key(), htab.key_size), htab.inner(l)});
  return view;
}

HashView htab_view(const Map& map, size_t limit) {
  const BpfHtab& htab = htab_of(map);
  HashView view{htab.n_buckets, htab.hashrnd, htab.prealloc(), 0, htab.count, {}};
  for (HtabElem* l = htab.freelist; l; l = l->next) ++view.free_elements;
  size_t shown = 0;
  for (uint32_t i = 0; i < htab.n_buckets && shown < limit; ++i) {
    if (htab.bucket(i)) view.buckets.push_back({i, {}});
    for (HtabElem* l = htab.bucket(i); l && shown < limit; l = l->next, ++shown) {
      ElementView element;
      const void* first = htab.percpu() ? htab.place(l) : htab.value(l);
      element.addr = map.machine.arena.addr(first);
      element.key = bytes_of(l->key(), htab.key_size);
      element.hash = l->hash;
      for (uint32_t cpu = 0; cpu < (htab.percpu() ? map.machine.cpus : 1); ++cpu)
        element.values.push_back(
            bytes_of(htab.percpu() ? htab.percpu_value(l, cpu) : first, htab.value_size));
      view.buckets.back().chain.push_back(std::move(element));
    }
  }
  return view;
}

// Key and ref bit of each node in a list, from the head.
static std::vector<LruNodeView> lru_list_view(const BpfHtab& htab, const LruNode& head) {
  std::vector<LruNodeView> nodes;
  for (LruNode* node = head.next; node != &head; node = node->next)
    nodes.push_back({bytes_of(HtabElem::of(*node)->key(), htab.key_size), node->ref});
  return nodes;
}

LruView lru_view(const Map& map, size_t limit) {
  const BpfHtab& htab = htab_of(map);
  LruView view;
  view.hash = htab_view(map, limit);
  view.target_free = htab.lru.target_free;
  for (auto& l : htab.lru.lists)
    view.lists.push_back({lru_list_view(htab, l->lists[BPF_LRU_LIST_T_ACTIVE]),
                          lru_list_view(htab, l->lists[BPF_LRU_LIST_T_INACTIVE]),
                          lru_list_view(htab, l->lists[BPF_LRU_LIST_T_FREE])});
  for (auto& local : htab.lru.locals)
    view.locals.push_back({lru_list_view(htab, local->free), lru_list_view(htab, local->pending)});
  return view;
}

}  // namespace bpfsim
