// Models: kernel/bpf/bloom_filter.c (Linux 6.18)
//
// A set that may say "perhaps" but is never wrong when it says "no". Adding a value sets one bit for each of
// nr_hash_funcs hashes of it (map_extra, 5 if 0); a value is perhaps in the set when all of its bits are set.
// From user space UPDATE adds and LOOKUP asks. Bits for max_entries values that give a small share of wrong
// answers: max_entries * hashes * 7 / 5, rounded up to a power of two. Nothing can be taken out.
#include <algorithm>
#include <bit>

#include "map/common.h"
#include "map/jhash.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"
#include "object/btf.h"

namespace bpfsim {

namespace {

constexpr uint32_t BLOOM_CREATE_FLAG_MASK = BPF_F_NUMA_NODE | BPF_F_ZERO_SEED | BPF_F_ACCESS_MASK;
constexpr uint64_t kSizeofBpfBloomFilter = 312;
constexpr uint32_t kDefaultHashFuncs = 5;

struct BloomFilter final : Map {
  using Map::Map;
  ~BloomFilter() override { machine.arena.free(bitset); }
  uint64_t bitset_bytes() const { return (uint64_t(bitset_mask) + 1) / 8; }

  uint32_t bitset_mask = 0, hash_seed = 0, nr_hash_funcs = 0;
  Span bitset;
};

BloomFilter& bloom_of(Map& map) { return static_cast<BloomFilter&>(map); }
const BloomFilter& bloom_of(const Map& map) { return static_cast<const BloomFilter&>(map); }

uint32_t hash(const BloomFilter& bloom, const void* value, uint32_t index) {
  uint32_t size = bloom.value_size, seed = bloom.hash_seed + index;
  return (size % 4 == 0 ? jhash2(value, size / 4, seed) : jhash(value, size, seed)) & bloom.bitset_mask;
}

// Whoever may not have this type is refused before the rest is looked at, which map_alloc does.
Result<void> bloom_map_alloc_check(Machine&, const bpf_attr& attr) {
  if (attr.value_size > KMALLOC_MAX_SIZE)
    return refuse(Errno::TooBig, "value_size {} is above {}", attr.value_size, KMALLOC_MAX_SIZE);
  return {};
}

Result<void> build(BloomFilter& bloom, const bpf_attr& attr) {
  bloom.nr_hash_funcs = attr.map_extra ? uint32_t(attr.map_extra) : kDefaultHashFuncs;
  uint64_t wanted = uint64_t(attr.max_entries) * bloom.nr_hash_funcs;
  uint64_t bits = 64;
  if (wanted > UINT32_MAX || wanted / 5 * 7 > 1ull << 31) {
    bits = 1ull << 32;
  } else {
    while (bits < wanted / 5 * 7) bits *= 2;
  }
  bloom.bitset_mask = uint32_t(bits - 1);
  bloom.bitset = TRY(bloom.machine.arena.alloc(bits / 8, "bloom_filter bits"));
  if (!(attr.map_flags & BPF_F_ZERO_SEED)) bloom.hash_seed = bloom.machine.random.u32();
  return {};
}

Result<Map*> bloom_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.key_size != 0) return refuse(Errno::Inval, "key_size must be 0, is {}", attr.key_size);
  if (attr.value_size == 0) return refuse(Errno::Inval, "value_size must not be 0");
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (uint32_t extra = attr.map_flags & ~BLOOM_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a bloom filter", extra);
  if (!bpf_map_flags_access_ok(attr.map_flags))
    return refuse(Errno::Inval, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  if (attr.map_extra & ~0xfull)
    return refuse(Errno::Inval, "map_extra, the number of hashes, must be 0 to 15, is {}", attr.map_extra);
  return new_map<BloomFilter>(machine, attr, build);
}

void bloom_map_free(Map& map) { delete &bloom_of(map); }

Result<void> bloom_map_push_elem(Map& map, const void* value, uint64_t flags) {
  BloomFilter& bloom = bloom_of(map);
  if (flags != BPF_ANY) return refuse(Errno::Inval, "flags must be BPF_ANY, is {}", flags);
  for (uint32_t i = 0; i < bloom.nr_hash_funcs; ++i) {
    uint32_t bit = hash(bloom, value, i);
    bloom.bitset.host[bit / 8] |= uint8_t(1u << (bit % 8));
  }
  return {};
}

Result<void> bloom_map_peek_elem(Map& map, void* value) {
  BloomFilter& bloom = bloom_of(map);
  for (uint32_t i = 0; i < bloom.nr_hash_funcs; ++i) {
    uint32_t bit = hash(bloom, value, i);
    if (!(bloom.bitset.host[bit / 8] >> (bit % 8) & 1))
      return refuse(Errno::NoEnt, "bit {} of hash {} is not set: the value was never added", bit, i);
  }
  return {};
}

Result<void> bloom_map_pop_elem(Map&, void*) {
  return refuse(Errno::OpNotSupp, "nothing can be taken out of a bloom filter");
}

Result<void*> bloom_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::Inval, "a bloom filter has no keys: peek instead");
}

Result<void> bloom_map_update_elem(Map&, const void*, const void*, uint64_t) {
  return refuse(Errno::Inval, "a bloom filter has no keys: push instead");
}

Result<void> bloom_map_delete_elem(Map&, const void*) {
  return refuse(Errno::OpNotSupp, "nothing can be taken out of a bloom filter");
}

Result<void> bloom_map_get_next_key(Map&, const void*, void*) {
  return refuse(Errno::OpNotSupp, "a bloom filter does not know what was added");
}

Result<void> bloom_map_check_btf(const Map&, const Btf&, uint32_t key_type, uint32_t) {
  if (key_type != 0) return refuse(Errno::Inval, "a bloom filter has no keys, so no BTF key type");
  return {};
}

uint64_t bloom_map_mem_usage(const Map& map) { return kSizeofBpfBloomFilter + bloom_of(map).bitset_bytes(); }

}  // namespace

BloomView bloom_view(const Map& map, size_t limit) {
  const BloomFilter& bloom = bloom_of(map);
  const uint8_t* bits = bloom.bitset.host;
  uint64_t set = 0;
  for (uint64_t i = 0; i < bloom.bitset_bytes(); ++i) set += uint64_t(std::popcount(bits[i]));
  return {bloom.nr_hash_funcs, bloom.bitset_mask, bloom.hash_seed, set,
          bytes_of(bits, std::min<uint64_t>(bloom.bitset_bytes(), limit))};
}

const MapOps bloom_filter_map_ops = {
    .map_alloc_check = OP(bloom_map_alloc_check),
    .map_alloc = OP(bloom_map_alloc),
    .map_free = OP(bloom_map_free),
    .map_get_next_key = OP(bloom_map_get_next_key),
    .map_lookup_elem = OP(bloom_map_lookup_elem),
    .map_update_elem = OP(bloom_map_update_elem),
    .map_delete_elem = OP(bloom_map_delete_elem),
    .map_push_elem = OP(bloom_map_push_elem),
    .map_pop_elem = OP(bloom_map_pop_elem),
    .map_peek_elem = OP(bloom_map_peek_elem),
    .map_check_btf = OP(bloom_map_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(bloom_map_mem_usage),
};

}  // namespace bpfsim
