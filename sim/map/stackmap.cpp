// Models: kernel/bpf/stackmap.c (Linux 6.18)
//
// Stack traces, each stored once. Its id is the lower bits of its hash, which is also the index of its
// bucket; another trace with the same id is refused, or takes its place. Programs fill the map, user space
// reads and deletes. All elements are there from the start. Not modelled yet: the helper that walks a stack,
// so no program fills the map; build ids.
#include "map/stackmap.h"

#include <bit>

#include "map/common.h"
#include "map/jhash.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t STACK_CREATE_FLAG_MASK =
    BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_STACK_BUILD_ID;
constexpr uint32_t kMaxStack = 127;      // kernel.perf_event_max_stack
constexpr uint32_t kSizeofBuildId = 32;  // struct bpf_stack_build_id
constexpr uint64_t kSizeofBpfStackMap = 320, kSizeofBucket = 16;

struct StackMapBucket {  // struct stack_map_bucket, followed by the trace
  StackMapBucket* next_free;
  uint32_t hash, nr;
  uint64_t* data() { return reinterpret_cast<uint64_t*>(this + 1); }
};

struct BpfStackMap final : Map {
  using Map::Map;
  ~BpfStackMap() override {
    machine.arena.free(elems);
    machine.arena.free(heads);
  }
  StackMapBucket*& bucket(uint32_t id) const { return reinterpret_cast<StackMapBucket**>(heads.host)[id]; }

  Span elems, heads;
  uint32_t n_buckets = 0;
  StackMapBucket* freelist = nullptr;
};

BpfStackMap& stack_map(Map& map) { return static_cast<BpfStackMap&>(map); }
const BpfStackMap& stack_map(const Map& map) { return static_cast<const BpfStackMap&>(map); }

void push_free(BpfStackMap& smap, StackMapBucket* bucket) {
  bucket->next_free = smap.freelist;
  smap.freelist = bucket;
}

Result<void> build(BpfStackMap& smap, const bpf_attr& attr) {
  const uint64_t elem_size = sizeof(StackMapBucket) + attr.value_size;
  smap.n_buckets = std::bit_ceil(attr.max_entries);
  smap.heads = TRY(smap.machine.arena.alloc(uint64_t(smap.n_buckets) * sizeof(void*), "stack_map buckets"));
  smap.elems = TRY(smap.machine.arena.alloc(elem_size * attr.max_entries, "stack_map elements"));
  for (uint64_t i = attr.max_entries; i-- > 0;)
    push_free(smap, reinterpret_cast<StackMapBucket*>(smap.elems.host + i * elem_size));
  return {};
}

Result<Map*> stack_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (uint32_t extra = attr.map_flags & ~STACK_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for stack traces", extra);
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size != 4) return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.value_size < 8 || attr.value_size % 8)
    return refuse(Errno::Inval, "value_size must be a multiple of 8, is {}", attr.value_size);
  const uint32_t each = attr.map_flags & BPF_F_STACK_BUILD_ID ? kSizeofBuildId : sizeof(uint64_t);
  if (attr.value_size % each)
    return refuse(Errno::Inval, "value_size must be a multiple of {}, is {}", each, attr.value_size);
  if (attr.value_size / each > kMaxStack)
    return refuse(Errno::Inval, "a trace of {} frames is above kernel.perf_event_max_stack, {}",
                  attr.value_size / each, kMaxStack);
  if (attr.max_entries > 1u << 31)
    return refuse(Errno::TooBig, "max_entries {} is above 2^31", attr.max_entries);
  TRY(bpf_map_charge_init(machine, uint64_t(std::bit_ceil(attr.max_entries)) *
                                       (sizeof(void*) + attr.value_size + kSizeofBucket)));
  return new_map<BpfStackMap>(machine, attr, build);
}

void stack_map_free(Map& map) { delete &stack_map(map); }

Result<void*> stack_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::OpNotSupp, "programs do not look into stack traces");
}

Result<void> stack_map_lookup_and_delete_elem(Map& map, const void* key, void* value, uint64_t) {
  return bpf_stackmap_extract(map, key, value, true);
}

Result<void> stack_map_get_next_key(Map& map, const void* key, void* next_key) {
  if (!has(Gate::stack_trace_walk, map.machine.version))
    return refuse(Errno::Inval, "before {} stack traces have no next key", since(Gate::stack_trace_walk));
  const BpfStackMap& smap = stack_map(map);
  uint32_t id = key ? key_as<uint32_t>(key) : 0;
  if (key) id = id >= smap.n_buckets || !smap.bucket(id) ? 0 : id + 1;
  while (id < smap.n_buckets && !smap.bucket(id)) ++id;
  if (id >= smap.n_buckets) return refuse(Errno::NoEnt, "that was the last id");
  std::memcpy(next_key, &id, sizeof id);
  return {};
}

Result<void> stack_map_update_elem(Map&, const void*, const void*, uint64_t) {
  return refuse(Errno::Inval, "only bpf_get_stackid puts traces into the map");
}

Result<void> stack_map_delete_elem(Map& map, const void* key) {
  BpfStackMap& smap = stack_map(map);
  const uint32_t id = key_as<uint32_t>(key);
  if (id >= smap.n_buckets) return refuse(Errno::TooBig, "id {} is not below {}", id, smap.n_buckets);
  StackMapBucket* old = std::exchange(smap.bucket(id), nullptr);
  if (!old) return refuse(Errno::NoEnt, "no trace has the id {}", id);
  push_free(smap, old);
  return {};
}

uint64_t stack_map_mem_usage(const Map& map) {
  return kSizeofBpfStackMap + uint64_t(stack_map(map).n_buckets) * sizeof(uint64_t) +
         map.max_entries * (kSizeofBucket + map.value_size);
}

}  // namespace

Result<void> bpf_stackmap_extract(Map& map, const void* key, void* value, bool remove) {
  BpfStackMap& smap = stack_map(map);
  const uint32_t id = key_as<uint32_t>(key);
  StackMapBucket* bucket = id < smap.n_buckets ? smap.bucket(id) : nullptr;
  if (!bucket) return refuse(Errno::NoEnt, "no trace has the id {}", id);
  std::memset(value, 0, map.value_size);
  std::memcpy(value, bucket->data(), bucket->nr * sizeof(uint64_t));
  if (!remove) return {};
  smap.bucket(id) = nullptr;
  push_free(smap, bucket);
  return {};
}

Result<uint32_t> __bpf_get_stackid(Map& map, std::span<const uint64_t> trace, uint64_t flags) {
  BpfStackMap& smap = stack_map(map);
  const size_t skip = flags & BPF_F_SKIP_FIELD_MASK;
  if (trace.size() <= skip) return refuse(Errno::Fault, "{} frames, {} to skip", trace.size(), skip);
  trace = trace.subspan(skip, std::min<size_t>(trace.size() - skip, map.value_size / sizeof(uint64_t)));
  const uint32_t nr = uint32_t(trace.size()), hash = jhash2(trace.data(), 2 * nr, 0);
  const uint32_t id = hash & (smap.n_buckets - 1);
  StackMapBucket* bucket = smap.bucket(id);
  if (bucket && bucket->hash == hash) {
    if (flags & BPF_F_FAST_STACK_CMP) return id;
    if (bucket->nr == nr && std::memcmp(bucket->data(), trace.data(), trace.size_bytes()) == 0) return id;
  }
  if (bucket && !(flags & BPF_F_REUSE_STACKID))
    return refuse(Errno::Exist, "another trace has the id {}", id);
  StackMapBucket* fresh = smap.freelist;
  if (!fresh) return refuse(Errno::NoMem, "all {} elements are taken", map.max_entries);
  smap.freelist = fresh->next_free;
  fresh->hash = hash;
  fresh->nr = nr;
  std::memcpy(fresh->data(), trace.data(), trace.size_bytes());
  smap.bucket(id) = fresh;
  if (bucket) push_free(smap, bucket);
  return id;
}

StackTracesView stack_map_view(const Map& map, size_t limit) {
  const BpfStackMap& smap = stack_map(map);
  StackTracesView view{smap.n_buckets, map.max_entries, 0, {}};
  for (uint32_t id = 0; id < smap.n_buckets; ++id) {
    StackMapBucket* bucket = smap.bucket(id);
    if (!bucket || view.count++ >= limit) continue;
    view.traces.push_back({id, bucket->hash, {bucket->data(), bucket->data() + bucket->nr}});
  }
  return view;
}

const MapOps stack_trace_map_ops = {
    .map_alloc = OP(stack_map_alloc),
    .map_free = OP(stack_map_free),
    .map_get_next_key = OP(stack_map_get_next_key),
    .map_lookup_and_delete_elem = OP(stack_map_lookup_and_delete_elem),
    .map_lookup_elem = OP(stack_map_lookup_elem),
    .map_update_elem = OP(stack_map_update_elem),
    .map_delete_elem = OP(stack_map_delete_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(stack_map_mem_usage),
};

}  // namespace bpfsim
