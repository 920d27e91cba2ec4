// Models: kernel/bpf/bpf_lru_list.c (Linux 6.18)
//
// How an LRU hash finds a node for a new element. To keep the elements in the order of their use would cost a
// list operation at every lookup; so a lookup only sets a bit, `ref`, and what was used is found out when a
// node is wanted:
//
// - A node in use is inactive or active. It enters a list as the newest, at the head; the oldest is at the
//   tail. With each move it loses its ref bit: to be kept once more it must be used once more.
// - Rotation comes first. While more nodes are active than inactive, the oldest active ones are judged: a
//   used one becomes the newest active, any other becomes inactive. Then a cursor goes on, from where it
//   stopped the last time, round the inactive list from old to new, and what was used there becomes active.
// - Shrinking comes when free nodes are still too few: from the oldest inactive node on, a used one becomes
//   active and any other leaves the hash table. If none left, one must, used or not: the oldest inactive one,
//   or the oldest active one where none is inactive.
// - Each of these three walks looks at nr_scans nodes at most, so that no insertion is slow.
//
// With BPF_F_NO_COMMON_LRU every CPU does this on lists of its own, at each insertion. In the common form the
// lists are shared, and a CPU comes to them only when its local free list is empty: it hands in what it
// inserted since the last time (its pending nodes), rotates, and takes a batch of free nodes along, of 128 or
// of half its share of a small map. If nothing is free or can be evicted, all nodes are in local lists: then
// one is stolen from the next CPU that has one free or pending, the oldest unused one before the oldest.
// Departs from the kernel: no locks, since one simulated CPU runs at a time.
#include "map/bpf_lru_list.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace bpfsim {

namespace {

constexpr uint32_t LOCAL_FREE_TARGET = 128, LOCAL_NR_SCANS = LOCAL_FREE_TARGET;
constexpr uint32_t PERCPU_FREE_TARGET = 4, PERCPU_NR_SCANS = PERCPU_FREE_TARGET;

void make_empty(LruNode& list) { list.next = list.prev = &list; }
bool is_empty(const LruNode& list) { return list.next == &list; }
LruNode& newest(LruNode& list) { return *list.next; }
LruNode& oldest(LruNode& list) { return *list.prev; }

void unlink(LruNode& node) {
  node.next->prev = node.prev;
  node.prev->next = node.next;
}

void put(LruNode& node, LruNode& list, bpf_lru_list_type type) {
  node.type = type;
  node.ref = false;
  node.prev = &list;
  node.next = std::exchange(list.next, &node);
  node.next->prev = &node;
}

bool in_use(bpf_lru_list_type type) {
  return type == BPF_LRU_LIST_T_ACTIVE || type == BPF_LRU_LIST_T_INACTIVE;
}

// The cursor must not leave the inactive list with the node on which it stands.
void take_out(LruNode& node, LruList& l) {
  if (in_use(node.type)) --l.counts[node.type];
  if (l.next_inactive_rotation == &node) l.next_inactive_rotation = node.prev;
  unlink(node);
}

void put_in(LruNode& node, LruList& l, bpf_lru_list_type type) {
  if (in_use(type)) ++l.counts[type];
  put(node, l.lists[type], type);
}

void move(LruNode& node, LruList& l, bpf_lru_list_type type) {
  take_out(node, l);
  put_in(node, l, type);
}

// How many nodes a walk may look at: none twice.
uint32_t scans(BpfLru& lru, const LruList& l, bpf_lru_list_type type) {
  return std::min(lru.nr_scans, l.counts[type]);
}

// Goes round a list from old to new; the list's head is no node. What it has shown may leave the list.
struct Cursor {
  LruNode& list;
  LruNode* at;  // what it shows next

  LruNode& advance() {
    if (at == &list) at = &oldest(list);
    return *std::exchange(at, at->prev);
  }
};

void rotate_active(BpfLru& lru, LruList& l) {
  LruNode& active = l.lists[BPF_LRU_LIST_T_ACTIVE];
  Cursor cursor{active, &oldest(active)};
  for (uint32_t left = scans(lru, l, BPF_LRU_LIST_T_ACTIVE); left > 0; --left) {
    LruNode& node = cursor.advance();
    move(node, l, node.ref ? BPF_LRU_LIST_T_ACTIVE : BPF_LRU_LIST_T_INACTIVE);
  }
}

void rotate_inactive(BpfLru& lru, LruList& l) {
  Cursor cursor{l.lists[BPF_LRU_LIST_T_INACTIVE], l.next_inactive_rotation};
  for (uint32_t left = scans(lru, l, BPF_LRU_LIST_T_INACTIVE); left > 0; --left)
    if (LruNode& node = cursor.advance(); node.ref) move(node, l, BPF_LRU_LIST_T_ACTIVE);
  l.next_inactive_rotation = cursor.at;
}

void rotate(BpfLru& lru, LruList& l) {
  if (l.counts[BPF_LRU_LIST_T_ACTIVE] > l.counts[BPF_LRU_LIST_T_INACTIVE]) rotate_active(lru, l);
  rotate_inactive(lru, l);
}

// The list that gets the free nodes: the shared one or a CPU's own.
struct FreeList {
  LruNode& list;
  bpf_lru_list_type type;
};

void move_to_free(LruNode& node, LruList& l, FreeList free) {
  take_out(node, l);
  put(node, free.list, free.type);
}

bool leaves_htab(BpfLru& lru, LruNode& node) { return lru.del_from_htab(lru.del_arg, node); }

// Says how many it evicted, which is no more than wanted.
uint32_t shrink_inactive(BpfLru& lru, LruList& l, uint32_t wanted, FreeList free) {
  uint32_t evicted = 0;
  LruNode& inactive = l.lists[BPF_LRU_LIST_T_INACTIVE];
  Cursor cursor{inactive, &oldest(inactive)};
  for (uint32_t left = scans(lru, l, BPF_LRU_LIST_T_INACTIVE); left > 0 && evicted < wanted; --left) {
    LruNode& node = cursor.advance();
    if (node.ref) {
      move(node, l, BPF_LRU_LIST_T_ACTIVE);
    } else if (leaves_htab(lru, node)) {
      move_to_free(node, l, free);
      ++evicted;
    }
  }
  return evicted;
}

enum class Among { Unused, All };

// The oldest node of a list that leaves the hash table. It is still in the list.
LruNode* oldest_to_leave(BpfLru& lru, LruNode& list, Among among) {
  for (LruNode* node = list.prev; node != &list; node = node->prev) {
    bool asked = among == Among::All || !node->ref;
    if (asked && leaves_htab(lru, *node)) return node;
  }
  return nullptr;
}

void shrink(BpfLru& lru, LruList& l, uint32_t wanted, FreeList free) {
  if (shrink_inactive(lru, l, wanted, free) > 0) return;
  bool none_inactive = l.counts[BPF_LRU_LIST_T_INACTIVE] == 0;
  LruNode& list = l.lists[none_inactive ? BPF_LRU_LIST_T_ACTIVE : BPF_LRU_LIST_T_INACTIVE];
  if (LruNode* node = oldest_to_leave(lru, list, Among::All)) move_to_free(*node, l, free);
}

void local_list_flush(LruList& l, LruLocalList& local) {
  while (!is_empty(local.pending)) {
    LruNode& node = oldest(local.pending);
    unlink(node);
    put_in(node, l, node.ref ? BPF_LRU_LIST_T_ACTIVE : BPF_LRU_LIST_T_INACTIVE);
  }
}

void pop_free_to_local(BpfLru& lru, LruLocalList& local) {
  LruList& l = *lru.lists[0];
  LruNode& shared = l.lists[BPF_LRU_LIST_T_FREE];
  FreeList free{local.free, BPF_LRU_LOCAL_LIST_T_FREE};
  local_list_flush(l, local);
  rotate(lru, l);
  uint32_t wanted = lru.target_free;
  for (; wanted > 0 && !is_empty(shared); --wanted) move_to_free(newest(shared), l, free);
  if (wanted > 0) shrink(lru, l, wanted, free);
}

LruNode* local_pop_free(LruLocalList& local) {
  if (is_empty(local.free)) return nullptr;
  LruNode& node = newest(local.free);
  unlink(node);
  return &node;
}

LruNode* local_pop_pending(BpfLru& lru, LruLocalList& local) {
  LruNode* node = oldest_to_leave(lru, local.pending, Among::Unused);
  if (!node) node = oldest_to_leave(lru, local.pending, Among::All);
  if (node) unlink(*node);
  return node;
}

// Every CPU is asked once, the thief's own among them; the next theft begins where this one ended.
LruNode* steal(BpfLru& lru, LruLocalList& thief) {
  for (size_t asked = 0; asked < lru.locals.size(); ++asked) {
    LruLocalList& local = *lru.locals[thief.next_steal];
    thief.next_steal = uint16_t((thief.next_steal + 1) % lru.locals.size());
    if (LruNode* node = local_pop_free(local)) return node;
    if (LruNode* node = local_pop_pending(lru, local)) return node;
  }
  return nullptr;
}

LruNode* common_lru_pop_free(BpfLru& lru, uint32_t cpu) {
  LruLocalList& local = *lru.locals[cpu];
  if (is_empty(local.free)) pop_free_to_local(lru, local);
  LruNode* node = local_pop_free(local);
  if (!node) node = steal(lru, local);
  if (!node) return nullptr;
  node->cpu = uint16_t(cpu);
  put(*node, local.pending, BPF_LRU_LOCAL_LIST_T_PENDING);
  return node;
}

LruNode* percpu_lru_pop_free(BpfLru& lru, uint32_t cpu) {
  LruList& l = *lru.lists[cpu];
  LruNode& free = l.lists[BPF_LRU_LIST_T_FREE];
  rotate(lru, l);
  if (is_empty(free)) shrink(lru, l, PERCPU_FREE_TARGET, {free, BPF_LRU_LIST_T_FREE});
  if (is_empty(free)) return nullptr;
  LruNode& node = newest(free);
  move(node, l, BPF_LRU_LIST_T_INACTIVE);
  return &node;
}

}  // namespace

LruList::LruList() : lists{}, counts{}, next_inactive_rotation(&lists[BPF_LRU_LIST_T_INACTIVE]) {
  for (LruNode& list : lists) make_empty(list);
}

LruLocalList::LruLocalList(uint16_t cpu) : free{}, pending{}, next_steal(cpu) {
  make_empty(free);
  make_empty(pending);
}

void bpf_lru_init(BpfLru& lru, bool percpu, uint32_t cpus, BpfLru::DelFromHtab del_from_htab, void* del_arg) {
  lru.percpu = percpu;
  lru.nr_scans = percpu ? PERCPU_NR_SCANS : LOCAL_NR_SCANS;
  lru.del_from_htab = del_from_htab;
  lru.del_arg = del_arg;
  for (uint32_t i = 0; i < (percpu ? cpus : 1); ++i) lru.lists.push_back(std::make_unique<LruList>());
  for (uint32_t i = 0; i < (percpu ? 0 : cpus); ++i)
    lru.locals.push_back(std::make_unique<LruLocalList>(uint16_t(i)));
}

void bpf_lru_populate(BpfLru& lru, uint8_t* first_node, uint32_t elem_size, uint32_t nr_elems) {
  uint32_t share = nr_elems / uint32_t(lru.lists.size());
  for (uint32_t i = 0; i < nr_elems; ++i) {
    LruNode& node = *reinterpret_cast<LruNode*>(first_node + uint64_t(i) * elem_size);
    node.cpu = uint16_t(i / share);
    put_in(node, *lru.lists[node.cpu], BPF_LRU_LIST_T_FREE);
  }
  if (!lru.percpu)
    lru.target_free = std::clamp(nr_elems / uint32_t(lru.locals.size()) / 2, 1u, LOCAL_FREE_TARGET);
}

LruNode* bpf_lru_pop_free(BpfLru& lru, uint32_t cpu) {
  return lru.percpu ? percpu_lru_pop_free(lru, cpu) : common_lru_pop_free(lru, cpu);
}

void bpf_lru_push_free(BpfLru& lru, LruNode& node) {
  if (node.type != BPF_LRU_LOCAL_LIST_T_PENDING)
    return move(node, *lru.lists[lru.percpu ? node.cpu : 0], BPF_LRU_LIST_T_FREE);
  unlink(node);
  put(node, lru.locals[node.cpu]->free, BPF_LRU_LOCAL_LIST_T_FREE);
}

}  // namespace bpfsim
