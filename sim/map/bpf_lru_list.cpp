// Models: kernel/bpf/bpf_lru_list.c (Linux 6.18)
//
// How an LRU hash finds a free node. First the CPU's local free list. If that is empty: what is pending goes
// to the shared lists, the lists are rotated (the ref bit moves a node up or saves it, and is cleared), free
// nodes come over in a batch, and if they are too few, inactive nodes without the bit are evicted, or one
// with it if there is no other. Last, a node is stolen from some CPU's local lists. Each step looks at a
// bounded number of nodes. Departs from the kernel: no locks; nodes that another CPU frees move at once.
#include "map/bpf_lru_list.h"

#include <algorithm>
#include <memory>

namespace bpfsim {

namespace {

constexpr uint32_t LOCAL_FREE_TARGET = 128, LOCAL_NR_SCANS = LOCAL_FREE_TARGET;
constexpr uint32_t PERCPU_FREE_TARGET = 4, PERCPU_NR_SCANS = PERCPU_FREE_TARGET;

bool empty(const LruNode& head) { return head.next == &head; }

void init_head(LruNode& head) { head.next = head.prev = &head; }

void list_del(LruNode& node) {
  node.next->prev = node.prev;
  node.prev->next = node.next;
}

void list_add(LruNode& node, LruNode& head) {
  node.next = head.next;
  node.prev = &head;
  head.next->prev = &node;
  head.next = &node;
}

void list_move(LruNode& node, LruNode& head) {
  list_del(node);
  list_add(node, head);
}

bool counted(bpf_lru_list_type type) { return type <= BPF_LRU_LIST_T_INACTIVE; }

// A node that leaves its place must not take the mark of the next rotation with it.
void step_rotation_off(LruList& l, LruNode& node) {
  if (l.next_inactive_rotation == &node) l.next_inactive_rotation = node.prev;
}

void move_to_free(LruList& l, LruNode& node, LruNode& free_list, bpf_lru_list_type free_type) {
  step_rotation_off(l, node);
  if (counted(node.type)) --l.counts[node.type];
  node.type = free_type;
  list_move(node, free_list);
}

void move_in(LruList& l, LruNode& node, bpf_lru_list_type to) {
  if (counted(to)) ++l.counts[to];
  node.type = to;
  node.ref = false;
  list_move(node, l.lists[to]);
}

void move(LruList& l, LruNode& node, bpf_lru_list_type to) {
  if (node.type != to) {
    if (counted(node.type)) --l.counts[node.type];
    if (counted(to)) ++l.counts[to];
    node.type = to;
  }
  node.ref = false;
  step_rotation_off(l, node);
  list_move(node, l.lists[to]);
}

// From the tail: a node with the ref bit gets another round at the head, one without becomes inactive.
void rotate_active(BpfLru& lru, LruList& l) {
  LruNode& active = l.lists[BPF_LRU_LIST_T_ACTIVE];
  LruNode* first = active.next;
  LruNode* node = active.prev;
  for (uint32_t i = 0; i < lru.nr_scans && node != &active; ++i) {
    LruNode* before = node->prev;
    bool last = node == first;
    move(l, *node, node->ref ? BPF_LRU_LIST_T_ACTIVE : BPF_LRU_LIST_T_INACTIVE);
    if (last) break;
    node = before;
  }
}

// From where the last rotation stopped, towards the head and round: nodes with the ref bit become active.
void rotate_inactive(BpfLru& lru, LruList& l) {
  LruNode& inactive = l.lists[BPF_LRU_LIST_T_INACTIVE];
  if (empty(inactive)) return;
  LruNode* last = l.next_inactive_rotation->next;
  if (last == &inactive) last = last->next;
  LruNode* node = l.next_inactive_rotation;
  LruNode* next = &inactive;
  for (uint32_t i = 0; i < lru.nr_scans;) {
    if (node == &inactive) {
      node = node->prev;
      continue;
    }
    next = node->prev;
    if (node->ref) move(l, *node, BPF_LRU_LIST_T_ACTIVE);
    if (node == last) break;
    node = next;
    ++i;
  }
  l.next_inactive_rotation = next;
}

// The active list is rotated only while it is the longer one.
void rotate(BpfLru& lru, LruList& l) {
  if (l.counts[BPF_LRU_LIST_T_INACTIVE] < l.counts[BPF_LRU_LIST_T_ACTIVE]) rotate_active(lru, l);
  rotate_inactive(lru, l);
}

// Evicts inactive nodes from the tail; the ref bit saves a node and makes it active.
uint32_t shrink_inactive(BpfLru& lru, LruList& l, uint32_t target, LruNode& free_list,
                         bpf_lru_list_type free_type) {
  LruNode& inactive = l.lists[BPF_LRU_LIST_T_INACTIVE];
  uint32_t evicted = 0;
  LruNode* node = inactive.prev;
  for (uint32_t i = 0; i < lru.nr_scans && node != &inactive; ++i) {
    LruNode* before = node->prev;
    if (node->ref) {
      move(l, *node, BPF_LRU_LIST_T_ACTIVE);
    } else if (lru.del_from_htab(lru.del_arg, *node)) {
      move_to_free(l, *node, free_list, free_type);
      if (++evicted == target) break;
    }
    node = before;
  }
  return evicted;
}

// If every bit said "keep", the oldest node goes all the same.
void shrink(BpfLru& lru, LruList& l, uint32_t target, LruNode& free_list, bpf_lru_list_type free_type) {
  if (shrink_inactive(lru, l, target, free_list, free_type)) return;
  LruNode& inactive = l.lists[BPF_LRU_LIST_T_INACTIVE];
  LruNode& victims = empty(inactive) ? l.lists[BPF_LRU_LIST_T_ACTIVE] : inactive;
  for (LruNode* node = victims.prev; node != &victims; node = node->prev) {
    if (!lru.del_from_htab(lru.del_arg, *node)) continue;
    move_to_free(l, *node, free_list, free_type);
    return;
  }
}

void local_list_flush(LruList& l, LruLocalList& local) {
  while (!empty(local.pending)) {
    LruNode& oldest = *local.pending.prev;
    move_in(l, oldest, oldest.ref ? BPF_LRU_LIST_T_ACTIVE : BPF_LRU_LIST_T_INACTIVE);
  }
}

void pop_free_to_local(BpfLru& lru, LruLocalList& local) {
  LruList& l = *lru.lists[0];
  local_list_flush(l, local);
  rotate(lru, l);
  uint32_t taken = 0;
  LruNode& free_list = l.lists[BPF_LRU_LIST_T_FREE];
  while (taken < lru.target_free && !empty(free_list)) {
    move_to_free(l, *free_list.next, local.free, BPF_LRU_LOCAL_LIST_T_FREE);
    ++taken;
  }
  if (taken < lru.target_free) shrink(lru, l, lru.target_free - taken, local.free, BPF_LRU_LOCAL_LIST_T_FREE);
}

LruNode* local_pop_free(LruLocalList& local) {
  if (empty(local.free)) return nullptr;
  LruNode* node = local.free.next;
  list_del(*node);
  return node;
}

// The oldest pending node without the ref bit, else the oldest.
LruNode* local_pop_pending(BpfLru& lru, LruLocalList& local) {
  for (bool force : {false, true})
    for (LruNode* node = local.pending.prev; node != &local.pending; node = node->prev)
      if ((!node->ref || force) && lru.del_from_htab(lru.del_arg, *node)) {
        list_del(*node);
        return node;
      }
  return nullptr;
}

LruNode* steal(BpfLru& lru, LruLocalList& local) {
  uint16_t first = local.next_steal, cpu = first;
  LruNode* node;
  do {
    node = local_pop_free(*lru.locals[cpu]);
    if (!node) node = local_pop_pending(lru, *lru.locals[cpu]);
    cpu = uint16_t((cpu + 1) % lru.locals.size());
  } while (!node && cpu != first);
  local.next_steal = cpu;
  return node;
}

LruNode* common_pop_free(BpfLru& lru, uint32_t cpu) {
  LruLocalList& local = *lru.locals[cpu];
  LruNode* node = local_pop_free(local);
  if (!node) {
    pop_free_to_local(lru, local);
    node = local_pop_free(local);
  }
  if (!node) node = steal(lru, local);
  if (!node) return nullptr;
  node->cpu = uint16_t(cpu);
  node->type = BPF_LRU_LOCAL_LIST_T_PENDING;
  node->ref = false;
  list_add(*node, local.pending);
  return node;
}

LruNode* percpu_pop_free(BpfLru& lru, uint32_t cpu) {
  LruList& l = *lru.lists[cpu];
  LruNode& free_list = l.lists[BPF_LRU_LIST_T_FREE];
  rotate(lru, l);
  if (empty(free_list)) shrink(lru, l, PERCPU_FREE_TARGET, free_list, BPF_LRU_LIST_T_FREE);
  if (empty(free_list)) return nullptr;
  LruNode* node = free_list.next;
  move(l, *node, BPF_LRU_LIST_T_INACTIVE);
  return node;
}

}  // namespace

LruList::LruList() : lists{}, counts{}, next_inactive_rotation(&lists[BPF_LRU_LIST_T_INACTIVE]) {
  for (LruNode& head : lists) init_head(head);
}

LruLocalList::LruLocalList(uint16_t cpu) : free{}, pending{}, next_steal(cpu) {
  init_head(free);
  init_head(pending);
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
  uint32_t share = lru.percpu ? nr_elems / uint32_t(lru.lists.size()) : nr_elems;
  for (uint32_t i = 0; i < nr_elems; ++i) {
    LruNode& node = *reinterpret_cast<LruNode*>(first_node + uint64_t(i) * elem_size);
    node.cpu = uint16_t(i / share);
    node.type = BPF_LRU_LIST_T_FREE;
    node.ref = false;
    list_add(node, lru.lists[i / share]->lists[BPF_LRU_LIST_T_FREE]);
  }
  if (!lru.percpu)
    lru.target_free = std::clamp(nr_elems / uint32_t(lru.locals.size()) / 2, 1u, LOCAL_FREE_TARGET);
}

LruNode* bpf_lru_pop_free(BpfLru& lru, uint32_t cpu) {
  return lru.percpu ? percpu_pop_free(lru, cpu) : common_pop_free(lru, cpu);
}

void bpf_lru_push_free(BpfLru& lru, LruNode& node) {
  if (node.type == BPF_LRU_LOCAL_LIST_T_PENDING) {
    node.type = BPF_LRU_LOCAL_LIST_T_FREE;
    node.ref = false;
    list_move(node, lru.locals[node.cpu]->free);
  } else {
    move(*lru.lists[lru.percpu ? node.cpu : 0], node, BPF_LRU_LIST_T_FREE);
  }
}

}  // namespace bpfsim
