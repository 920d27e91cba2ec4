// No kernel counterpart: the kernel shows a map's elements; a lesson wants to see how they lie.
//
// The inside of a map as plain data, for drawing: slots of an array, buckets and their chains, rings with
// their positions. Each element carries its simulated address, its key and its value (one value for each CPU
// where the type is per-CPU). A map file fills in its own view; view_map() picks it by type. A map may be far
// larger than a picture: those types whose memory a view could exceed take a limit of elements, and say how
// many there are.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "object/map.h"

namespace bpfsim {

using RawBytes = std::vector<uint8_t>;
inline RawBytes bytes_of(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  return RawBytes(bytes, bytes + size);
}

struct ElementView {
  Addr addr = 0;  // of the value that CPU 0 sees
  RawBytes key;
  std::vector<RawBytes> values;  // one, or one for each CPU
  uint32_t hash = 0;
};

struct ArrayView {
  uint32_t elem_size = 0;
  uint64_t percpu_stride = 0;  // 0: shared by all CPUs
  uint32_t max_entries = 0;
  std::vector<ElementView> elements;
};

struct BucketView {
  uint32_t index;
  std::vector<ElementView> chain;  // from its head
};
struct HashView {
  uint32_t n_buckets = 0, hashrnd = 0;
  bool prealloc = false;
  uint32_t free_elements = 0, count = 0;
  std::vector<BucketView> buckets;  // those that hold something, in order
};

struct LruNodeView {
  RawBytes key;  // of a free node: what it held last
  bool ref;
};
struct LruListView {
  std::vector<LruNodeView> active, inactive, free;  // each from its head; evicted from the tail
};
struct LruLocalView {
  std::vector<LruNodeView> free, pending;
};
struct LruView {
  HashView hash;
  uint32_t target_free = 0;
  std::vector<LruListView> lists;    // one, or with BPF_F_NO_COMMON_LRU one for each CPU
  std::vector<LruLocalView> locals;  // of the common form, by CPU
};

struct TrieNodeView {
  uint32_t prefixlen;
  bool intermediate;
  RawBytes data, value;
  int child[2];  // indices, or -1
};
struct TrieView {
  std::vector<TrieNodeView> nodes;  // the root first
};

struct FdSlotView {
  RawBytes key;
  const Object* object;
  const Object* prog = nullptr;  // that a devmap's entry runs on what is sent there
};
struct FdArrayView {
  uint32_t max_entries = 0;
  uint32_t count = 0;
  std::vector<FdSlotView> slots;  // those that hold something
};

struct CpuSlotView {
  uint32_t cpu, qsize;
  const Object* prog;  // or null
};
struct CpuMapView {
  uint32_t max_entries = 0;
  std::vector<CpuSlotView> slots;  // those that hold something
};

struct RingSlot {
  uint32_t index;
  Addr addr;
  RawBytes value;
};
struct RingView {
  uint32_t size = 0, head = 0, tail = 0;
  std::vector<RingSlot> slots;  // the live ones, oldest first
};

struct BloomView {
  uint32_t nr_hash_funcs, bitset_mask, hash_seed;
  uint64_t bits_set;
  RawBytes bits;  // bit n is bit n % 8 of byte n / 8
};

struct StackTraceView {
  uint32_t id, hash;
  std::vector<uint64_t> frames;  // addresses, the innermost first
};
struct StackTracesView {
  uint32_t n_buckets = 0, max_entries = 0, count = 0;
  std::vector<StackTraceView> traces;  // by id
};

struct RingbufRecord {
  uint64_t pos;
  bool busy, discarded;
  RawBytes sample;
};
struct RingbufView {
  uint64_t size, consumer_pos, producer_pos, pending_pos, wakeups;
  std::vector<RingbufRecord> records;  // from the consumer's position to the producer's
};

// Values that lie with their owner, which the map does not hold.
struct OwnedValue {
  const Object* owner;
  std::string at;                // of an older cgroup storage: the attach type
  std::vector<RawBytes> values;  // one, or one for each CPU
};
struct OwnedView {
  std::vector<OwnedValue> values;
};

struct PagesView {  // an arena
  uint32_t max_entries;
  uint64_t user_vm_start, user_vm_end;  // 0: not said yet
  Addr addr;                            // where the pages lie; 0: none yet
};

using MapView = std::variant<std::monostate, ArrayView, HashView, LruView, TrieView, FdArrayView, CpuMapView,
                             RingView, BloomView, RingbufView, StackTracesView, OwnedView, PagesView>;
inline constexpr size_t kNoLimit = SIZE_MAX;
MapView view_map(const Map& map, size_t limit = kNoLimit);

// Each in its own map file.
ArrayView array_view(const Map& map, size_t limit = kNoLimit);
HashView htab_view(const Map& map, size_t limit = kNoLimit);
LruView lru_view(const Map& map, size_t limit = kNoLimit);
TrieView trie_view(const Map& map);
FdArrayView fd_array_view(const Map& map, size_t limit = kNoLimit);
FdArrayView fd_htab_view(const Map& map, size_t limit = kNoLimit);
FdArrayView dev_map_view(const Map& map);
FdArrayView sock_map_view(const Map& map);
FdArrayView reuseport_array_view(const Map& map);
FdArrayView xsk_map_view(const Map& map);
CpuMapView cpu_map_view(const Map& map);
RingView queue_stack_view(const Map& map);
BloomView bloom_view(const Map& map, size_t limit = kNoLimit);  // of bytes
RingbufView ringbuf_view(const Map& map);
StackTracesView stack_map_view(const Map& map, size_t limit = kNoLimit);
OwnedView local_storage_view(const Map& map);
OwnedView cgroup_storage_view(const Map& map);
PagesView arena_view(const Map& map);

}  // namespace bpfsim
