// Models: kernel/bpf/bpf_lru_list.h (Linux 6.18)
//
// The lists from which an LRU hash takes its elements. Nothing is ordered by the time of use: a lookup only
// sets a node's ref bit, and whoever needs a free node rotates the lists and looks at the bits. In the common
// form all CPUs share one active, one inactive and one free list, and each CPU has a local free list (filled
// a batch at a time) and a local pending list (what it inserted since then). With BPF_F_NO_COMMON_LRU each
// CPU has an active, an inactive and a free list of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace bpfsim {

enum bpf_lru_list_type : uint8_t {
  BPF_LRU_LIST_T_ACTIVE,
  BPF_LRU_LIST_T_INACTIVE,
  BPF_LRU_LIST_T_FREE,
  BPF_LRU_LOCAL_LIST_T_FREE,
  BPF_LRU_LOCAL_LIST_T_PENDING,
};

struct LruNode {  // a list's head is one too
  LruNode* next;
  LruNode* prev;
  uint16_t cpu;
  bpf_lru_list_type type;
  bool ref;
};

struct LruList {
  LruList();
  LruList(const LruList&) = delete;
  LruNode lists[3];    // by bpf_lru_list_type
  uint32_t counts[2];  // of active and inactive
  LruNode* next_inactive_rotation;
};

struct LruLocalList {
  explicit LruLocalList(uint16_t cpu);
  LruLocalList(const LruLocalList&) = delete;
  LruNode free, pending;
  uint16_t next_steal;  // the CPU to steal from first
};

struct BpfLru {
  using DelFromHtab = bool (*)(void* arg, LruNode& node);  // takes a node's element out of its bucket

  bool percpu = false;
  uint32_t target_free = 0, nr_scans = 0;
  DelFromHtab del_from_htab = nullptr;
  void* del_arg = nullptr;
  std::vector<std::unique_ptr<LruList>> lists;        // one, or one for each CPU
  std::vector<std::unique_ptr<LruLocalList>> locals;  // of the common form, by CPU
};

void bpf_lru_init(BpfLru& lru, bool percpu, uint32_t cpus, BpfLru::DelFromHtab del_from_htab, void* del_arg);
// The nodes of a block of elements, all free.
void bpf_lru_populate(BpfLru& lru, uint8_t* first_node, uint32_t elem_size, uint32_t nr_elems);
// A node for a new element, evicting others if it must; null when there is none.
LruNode* bpf_lru_pop_free(BpfLru& lru, uint32_t cpu);
void bpf_lru_push_free(BpfLru& lru, LruNode& node);
inline void bpf_lru_node_set_ref(LruNode& node) { node.ref = true; }

}  // namespace bpfsim
