// Models: kernel/bpf/queue_stack_maps.c (Linux 6.18)
//
// Values without keys, in a ring of max_entries + 1 slots, so that head == tail means empty and never full. A
// push writes at the head; a queue pops at the tail, a stack just behind the head. From user space UPDATE
// pushes, LOOKUP peeks, LOOKUP_AND_DELETE pops. Departs from the kernel: no spinlock, since one simulated CPU
// runs at a time, so nothing is ever -EBUSY. (Before 6.18 a map of 4 GiB was -E2BIG.)
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"

namespace bpfsim {

namespace {

constexpr uint32_t QUEUE_STACK_CREATE_FLAG_MASK = BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK;
constexpr uint64_t kSizeofBpfQueueStack = 312;

struct QueueStackMap final : Map {
  using Map::Map;
  ~QueueStackMap() override { machine.arena.free(elements); }
  uint8_t* slot(uint32_t index) const { return elements.host + uint64_t(index) * value_size; }
  uint32_t after(uint32_t index) const { return index + 1 >= size ? 0 : index + 1; }
  uint32_t before(uint32_t index) const { return index == 0 ? size - 1 : index - 1; }
  bool empty() const { return head == tail; }
  bool full() const { return after(head) == tail; }

  uint32_t head = 0, tail = 0, size = 0;
  Span elements;
};

QueueStackMap& queue_stack(Map& map) { return static_cast<QueueStackMap&>(map); }

Result<void> queue_stack_map_alloc_check(Machine&, const bpf_attr& attr) {
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size != 0) return refuse(Errno::Inval, "key_size must be 0, is {}", attr.key_size);
  if (attr.value_size == 0) return refuse(Errno::Inval, "value_size must not be 0");
  if (uint32_t extra = attr.map_flags & ~QUEUE_STACK_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a queue or stack", extra);
  if (!bpf_map_flags_access_ok(attr.map_flags))
    return refuse(Errno::Inval, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  if (attr.value_size > KMALLOC_MAX_SIZE)
    return refuse(Errno::TooBig, "value_size {} is above {}", attr.value_size, KMALLOC_MAX_SIZE);
  return {};
}

Result<void> build(QueueStackMap& qs, const bpf_attr& attr) {
  const uint64_t slots = uint64_t(attr.max_entries) + 1;
  TRY(bpf_map_charge_init(qs.machine, slots * attr.value_size));
  qs.elements = TRY(qs.machine.arena.alloc(slots * attr.value_size, "queue_stack_map elements"));
  qs.size = uint32_t(slots);
  return {};
}

Result<Map*> queue_stack_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<QueueStackMap>(machine, attr, build);
}

void queue_stack_map_free(Map& map) { delete &queue_stack(map); }

// An empty map still clears the caller's value, so that a program never reads what it did not write.
Result<void> refuse_empty(QueueStackMap& qs, void* value) {
  std::memset(value, 0, qs.value_size);
  return refuse(Errno::NoEnt, "the map is empty");
}

Result<void> queue_map_get(Map& map, void* value, bool remove) {
  QueueStackMap& qs = queue_stack(map);
  if (qs.empty()) return refuse_empty(qs, value);
  std::memcpy(value, qs.slot(qs.tail), qs.value_size);
  if (remove) qs.tail = qs.after(qs.tail);
  return {};
}

Result<void> stack_map_get(Map& map, void* value, bool remove) {
  QueueStackMap& qs = queue_stack(map);
  if (qs.empty()) return refuse_empty(qs, value);
  uint32_t top = qs.before(qs.head);
  std::memcpy(value, qs.slot(top), qs.value_size);
  if (remove) qs.head = top;
  return {};
}

Result<void> queue_map_peek_elem(Map& map, void* value) { return queue_map_get(map, value, false); }
Result<void> stack_map_peek_elem(Map& map, void* value) { return stack_map_get(map, value, false); }
Result<void> queue_map_pop_elem(Map& map, void* value) { return queue_map_get(map, value, true); }
Result<void> stack_map_pop_elem(Map& map, void* value) { return stack_map_get(map, value, true); }

// BPF_EXIST makes room in a full map by dropping the oldest value.
Result<void> queue_stack_map_push_elem(Map& map, const void* value, uint64_t flags) {
  QueueStackMap& qs = queue_stack(map);
  if (flags & BPF_NOEXIST || flags > BPF_EXIST)
    return refuse(Errno::Inval, "flags {}: a push takes BPF_ANY or BPF_EXIST", flags);
  if (qs.full()) {
    if (!(flags & BPF_EXIST)) return refuse(Errno::TooBig, "all {} slots are taken", qs.max_entries);
    qs.tail = qs.after(qs.tail);
  }
  std::memcpy(qs.slot(qs.head), value, qs.value_size);
  qs.head = qs.after(qs.head);
  return {};
}

Result<void*> queue_stack_map_lookup_elem(Map&, const void*) { return nullptr; }

Result<void> queue_stack_map_update_elem(Map&, const void*, const void*, uint64_t) {
  return refuse(Errno::Inval, "a queue or stack has no keys: push instead");
}

Result<void> queue_stack_map_delete_elem(Map&, const void*) {
  return refuse(Errno::Inval, "a queue or stack has no keys: pop instead");
}

Result<void> queue_stack_map_get_next_key(Map&, const void*, void*) {
  return refuse(Errno::Inval, "a queue or stack has no keys");
}

uint64_t queue_stack_map_mem_usage(const Map& map) {
  return kSizeofBpfQueueStack + (uint64_t(map.max_entries) + 1) * map.value_size;
}

}  // namespace

RingView queue_stack_view(const Map& map) {
  const QueueStackMap& qs = static_cast<const QueueStackMap&>(map);
  RingView view{qs.size, qs.head, qs.tail, {}};
  for (uint32_t at = qs.tail; at != qs.head; at = qs.after(at))
    view.slots.push_back({at, qs.machine.arena.addr(qs.slot(at)), bytes_of(qs.slot(at), qs.value_size)});
  return view;
}

const MapOps queue_map_ops = {
    .map_alloc_check = OP(queue_stack_map_alloc_check),
    .map_alloc = OP(queue_stack_map_alloc),
    .map_free = OP(queue_stack_map_free),
    .map_get_next_key = OP(queue_stack_map_get_next_key),
    .map_lookup_elem = OP(queue_stack_map_lookup_elem),
    .map_update_elem = OP(queue_stack_map_update_elem),
    .map_delete_elem = OP(queue_stack_map_delete_elem),
    .map_push_elem = OP(queue_stack_map_push_elem),
    .map_pop_elem = OP(queue_map_pop_elem),
    .map_peek_elem = OP(queue_map_peek_elem),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(queue_stack_map_mem_usage),
};

const MapOps stack_map_ops = {
    .map_alloc_check = OP(queue_stack_map_alloc_check),
    .map_alloc = OP(queue_stack_map_alloc),
    .map_free = OP(queue_stack_map_free),
    .map_get_next_key = OP(queue_stack_map_get_next_key),
    .map_lookup_elem = OP(queue_stack_map_lookup_elem),
    .map_update_elem = OP(queue_stack_map_update_elem),
    .map_delete_elem = OP(queue_stack_map_delete_elem),
    .map_push_elem = OP(queue_stack_map_push_elem),
    .map_pop_elem = OP(stack_map_pop_elem),
    .map_peek_elem = OP(stack_map_peek_elem),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(queue_stack_map_mem_usage),
};

}  // namespace bpfsim
