// Models: kernel/bpf/lpm_trie.c (Linux 6.18)
//
// Longest prefix match, as a router needs it. A key is a prefix length and that many significant bits, most
// significant first; a lookup finds the longest stored prefix of its key. The trie is binary: below a node of
// prefix length n hang, by bit n, the longer prefixes that begin with it. Where two prefixes part and none is
// stored, an intermediate node without a value joins them; it always has two children. Keys are walked in
// postorder, so a longer prefix comes before a shorter one of the same branch. Departs from the kernel: no
// lock; a node that is given back stays with the map for its next insertion.
#include <algorithm>
#include <bit>

#include "btf/btf_types.h"
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/map_value.h"
#include "map/view.h"
#include "object/btf.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t LPM_DATA_SIZE_MIN = 1, LPM_DATA_SIZE_MAX = 256;
constexpr uint32_t kKeyHeader = 4;  // struct bpf_lpm_trie_key_u8: u32 prefixlen, then the data
constexpr uint32_t LPM_CREATE_FLAG_MASK = BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK;

struct LpmNode {
  LpmNode* child[2];
  uint32_t prefixlen;
  uint32_t intermediate;  // not a bool: no byte of a node may be left to chance, a history compares them all
  uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }
};
constexpr uint64_t kSizeofLpmTrieNode = 24;
static_assert(sizeof(LpmNode) == kSizeofLpmTrieNode || sizeof(void*) != 8);
constexpr uint64_t LPM_VAL_SIZE_MAX = KMALLOC_MAX_SIZE - LPM_DATA_SIZE_MAX - kSizeofLpmTrieNode;

struct LpmKey {
  explicit LpmKey(const void* key) : data(static_cast<const uint8_t*>(key) + kKeyHeader) {
    std::memcpy(&prefixlen, key, sizeof prefixlen);
  }
  uint32_t prefixlen;
  const uint8_t* data;
};

struct LpmTrie final : Map {
  LpmTrie(Machine& machine, const bpf_attr& attr)
      : Map(machine, attr), data_size(attr.key_size - kKeyHeader), max_prefixlen(data_size * 8) {}
  ~LpmTrie() override;
  uint64_t node_size() const { return sizeof(LpmNode) + data_size + value_size; }
  uint8_t* value(LpmNode* node) const { return node->data() + data_size; }

  const uint32_t data_size, max_prefixlen;
  LpmNode* root = nullptr;
  uint32_t n_entries = 0;    // intermediate nodes do not count
  LpmNode* spare = nullptr;  // given back, linked by child[0]
};

LpmTrie& trie_of(Map& map) { return static_cast<LpmTrie&>(map); }
const LpmTrie& trie_of(const Map& map) { return static_cast<const LpmTrie&>(map); }

uint32_t extract_bit(const uint8_t* data, uint32_t index) { return data[index / 8] >> (7 - index % 8) & 1; }

// How many leading bits a node and a key have in common, up to the shorter prefix.
uint32_t longest_prefix_match(const LpmTrie& trie, LpmNode& node, const LpmKey& key) {
  uint32_t limit = std::min(node.prefixlen, key.prefixlen), matched = 0;
  for (uint32_t i = 0; i < trie.data_size && matched < limit; ++i) {
    uint8_t differ = node.data()[i] ^ key.data[i];
    matched += uint32_t(std::countl_zero(differ));
    if (differ) break;
  }
  return std::min(matched, limit);
}

Result<Map*> trie_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (!(attr.map_flags & BPF_F_NO_PREALLOC)) return refuse(Errno::Inval, "a trie needs BPF_F_NO_PREALLOC");
  if (uint32_t extra = attr.map_flags & ~LPM_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a trie", extra);
  if (!bpf_map_flags_access_ok(attr.map_flags))
    return refuse(Errno::Inval, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  if (attr.key_size < kKeyHeader + LPM_DATA_SIZE_MIN || attr.key_size > kKeyHeader + LPM_DATA_SIZE_MAX)
    return refuse(Errno::Inval, "key_size must be 4 for the prefix length and 1 to 256 for data, is {}",
                  attr.key_size);
  if (attr.value_size == 0 || attr.value_size > LPM_VAL_SIZE_MAX)
    return refuse(Errno::Inval, "value_size must be 1 to {}, is {}", LPM_VAL_SIZE_MAX, attr.value_size);
  return new LpmTrie(machine, attr);
}

LpmTrie::~LpmTrie() {
  std::vector<LpmNode*> left{root};
  while (!left.empty()) {
    LpmNode* node = left.back();
    left.pop_back();
    if (!node) continue;
    left.insert(left.end(), {node->child[0], node->child[1]});
    machine.arena.free({machine.arena.addr(node), reinterpret_cast<uint8_t*>(node), node_size()});
  }
  while (LpmNode* node = spare) {
    spare = node->child[0];
    machine.arena.free({machine.arena.addr(node), reinterpret_cast<uint8_t*>(node), node_size()});
  }
}

void trie_free(Map& map) { delete &trie_of(map); }

Result<void*> trie_lookup_elem(Map& map, const void* key_bytes) {
  LpmTrie& trie = trie_of(map);
  LpmKey key(key_bytes);
  if (key.prefixlen > trie.max_prefixlen) return nullptr;
  LpmNode* found = nullptr;
  for (LpmNode* node = trie.root; node; node = node->child[extract_bit(key.data, node->prefixlen)]) {
    uint32_t matched = longest_prefix_match(trie, *node, key);
    if (matched < node->prefixlen) break;
    if (!node->intermediate) found = node;
    if (matched == trie.max_prefixlen || matched == key.prefixlen) break;
  }
  return found ? trie.value(found) : nullptr;
}

Result<LpmNode*> node_alloc(LpmTrie& trie) {
  LpmNode* node = trie.spare;
  if (node) {
    trie.spare = node->child[0];
  } else {
    Span span = TRY(trie.machine.arena.alloc(trie.node_size(), "lpm_trie node"));
    node = reinterpret_cast<LpmNode*>(span.host);
  }
  *node = {{nullptr, nullptr}, 0, 0};
  return node;
}

void node_give_back(LpmTrie& trie, LpmNode* node) {
  node->child[0] = trie.spare;
  trie.spare = node;
}

// The way from the root to where a key belongs: `slot` points at the node that is the key, that must go below
// it or beside it, or is empty; `parent_slot` points at the node above.
struct Place {
  LpmNode** slot;
  LpmNode** parent_slot = nullptr;
  uint32_t matched = 0;
};

Place find_place(LpmTrie& trie, const LpmKey& key) {
  Place place{&trie.root};
  while (LpmNode* node = *place.slot) {
    place.matched = longest_prefix_match(trie, *node, key);
    if (node->prefixlen != place.matched || node->prefixlen == key.prefixlen) break;
    place.parent_slot = place.slot;
    place.slot = &node->child[extract_bit(key.data, node->prefixlen)];
  }
  return place;
}

Result<void> trie_check_add_elem(const LpmTrie& trie, uint64_t flags) {
  if (flags == BPF_EXIST) return refuse(Errno::NoEnt, "BPF_EXIST, but the prefix is not there");
  if (trie.n_entries == trie.max_entries)
    return refuse(Errno::NoSpc, "all {} elements are in use", trie.max_entries);
  return {};
}

Result<void> trie_update_elem(Map& map, const void* key_bytes, const void* value, uint64_t flags) {
  LpmTrie& trie = trie_of(map);
  LpmKey key(key_bytes);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (key.prefixlen > trie.max_prefixlen)
    return refuse(Errno::Inval, "prefix length {} is above {}", key.prefixlen, trie.max_prefixlen);
  Place place = find_place(trie, key);
  LpmNode* node = *place.slot;
  bool same = node && node->prefixlen == place.matched;  // as long as the key, then
  if (same && !node->intermediate) {
    if (flags == BPF_NOEXIST) return refuse(Errno::Exist, "BPF_NOEXIST, but the prefix is there");
  } else {
    TRY(trie_check_add_elem(trie, flags));
  }

  LpmNode* fresh = TRY(node_alloc(trie));
  fresh->prefixlen = key.prefixlen;
  std::memcpy(fresh->data(), key.data, trie.data_size);
  std::memcpy(trie.value(fresh), value, trie.value_size);
  if (!same || node->intermediate) ++trie.n_entries;
  if (!node) {
    *place.slot = fresh;
  } else if (same) {
    fresh->child[0] = node->child[0];
    fresh->child[1] = node->child[1];
    *place.slot = fresh;
    node_give_back(trie, node);
  } else if (place.matched == key.prefixlen) {  // a prefix of the node: goes above it
    fresh->child[extract_bit(node->data(), place.matched)] = node;
    *place.slot = fresh;
  } else {
    Result<LpmNode*> fork = node_alloc(trie);
    if (!fork) {
      --trie.n_entries;
      node_give_back(trie, fresh);
      return fork.refusal();
    }
    (*fork)->prefixlen = place.matched;
    (*fork)->intermediate = 1;
    std::memcpy((*fork)->data(), node->data(), trie.data_size);
    uint32_t side = extract_bit(key.data, place.matched);
    (*fork)->child[side] = fresh;
    (*fork)->child[1 - side] = node;
    *place.slot = *fork;
  }
  return {};
}

Result<void> trie_delete_elem(Map& map, const void* key_bytes) {
  LpmTrie& trie = trie_of(map);
  LpmKey key(key_bytes);
  if (key.prefixlen > trie.max_prefixlen)
    return refuse(Errno::Inval, "prefix length {} is above {}", key.prefixlen, trie.max_prefixlen);
  Place place = find_place(trie, key);
  LpmNode* node = *place.slot;
  if (!node || node->prefixlen != key.prefixlen || node->prefixlen != place.matched || node->intermediate)
    return refuse(Errno::NoEnt, "this prefix is not stored");
  --trie.n_entries;
  if (node->child[0] && node->child[1]) {  // still joins two others
    node->intermediate = 1;
    return {};
  }
  LpmNode* parent = place.parent_slot ? *place.parent_slot : nullptr;
  if (parent && parent->intermediate && !node->child[0] && !node->child[1]) {  // joins nothing any more
    *place.parent_slot = parent->child[parent->child[0] == node];
    node_give_back(trie, parent);
  } else {
    *place.slot = node->child[0] ? node->child[0] : node->child[1];
  }
  node_give_back(trie, node);
  return {};
}

// The first in postorder among a node and what hangs below it.
LpmNode* leftmost(LpmNode* node) {
  while (LpmNode* next = node->child[0] ? node->child[0] : node->child[1]) node = next;
  return node;
}

// The key after `key` in postorder: what hangs to the right of it under its parent, else the parent.
LpmNode* next_in_postorder(LpmTrie& trie, const LpmKey& key) {
  std::vector<LpmNode*> way;
  uint32_t matched = 0;
  LpmNode* node = trie.root;
  while (node) {
    way.push_back(node);
    matched = longest_prefix_match(trie, *node, key);
    if (node->prefixlen != matched || node->prefixlen == key.prefixlen) break;
    node = node->child[extract_bit(key.data, node->prefixlen)];
  }
  if (!node || node->prefixlen != matched || node->intermediate) return leftmost(trie.root);
  for (size_t depth = way.size() - 1; depth > 0; --depth) {
    LpmNode* parent = way[depth - 1];
    if (parent->child[0] == way[depth] && parent->child[1]) return leftmost(parent->child[1]);
    if (!parent->intermediate) return parent;
  }
  return nullptr;
}

Result<void> trie_get_next_key(Map& map, const void* key_bytes, void* next_key) {
  if (!has(Gate::lpm_trie_walk, map.machine.version))
    return refuse(Errno::NotSupp, "an LPM trie is walked since Linux {}", since(Gate::lpm_trie_walk));
  LpmTrie& trie = trie_of(map);
  if (!trie.root) return refuse(Errno::NoEnt, "the trie is empty");
  bool walk_on = key_bytes && LpmKey(key_bytes).prefixlen <= trie.max_prefixlen;
  LpmNode* next = walk_on ? next_in_postorder(trie, LpmKey(key_bytes)) : leftmost(trie.root);
  if (!next) return refuse(Errno::NoEnt, "no key follows");
  std::memcpy(next_key, &next->prefixlen, kKeyHeader);
  std::memcpy(static_cast<uint8_t*>(next_key) + kKeyHeader, next->data(), trie.data_size);
  return {};
}

Result<void> trie_check_btf(const Map&, const Btf& btf, uint32_t key_type, uint32_t) {
  const btf_type* key = btf.types->type_by_id(key_type);
  if (!key || key_type == 0 || btf_kind(*key) != BTF_KIND_STRUCT)
    return refuse(Errno::Inval, "the BTF key type must be a STRUCT: prefix length and data");
  return {};
}

uint64_t trie_mem_usage(const Map& map) { return trie_of(map).node_size() * trie_of(map).n_entries; }

}  // namespace

TrieView trie_view(const Map& map) {
  const LpmTrie& trie = trie_of(map);
  TrieView view;
  struct Left {
    LpmNode* node;
    int parent;
    int side;
  };
  std::vector<Left> left{{trie.root, -1, 0}};
  while (!left.empty()) {
    auto [node, parent, side] = left.back();
    left.pop_back();
    if (!node) continue;
    int index = int(view.nodes.size());
    if (parent >= 0) view.nodes[size_t(parent)].child[side] = index;
    TrieNodeView shown{
        node->prefixlen, node->intermediate != 0, bytes_of(node->data(), trie.data_size), {}, {-1, -1}};
    if (!node->intermediate) shown.value = bytes_of(trie.value(node), trie.value_size);
    view.nodes.push_back(std::move(shown));
    left.push_back({node->child[1], index, 1});
    left.push_back({node->child[0], index, 0});
  }
  return view;
}

const MapOps trie_map_ops = {
    .map_alloc = OP(trie_alloc),
    .map_free = OP(trie_free),
    .map_get_next_key = OP(trie_get_next_key),
    .map_lookup_batch = OP(generic_map_lookup_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_delete_batch = OP(generic_map_delete_batch),
    .map_lookup_elem = OP(trie_lookup_elem),
    .map_update_elem = OP(trie_update_elem),
    .map_delete_elem = OP(trie_delete_elem),
    .map_check_btf = OP(trie_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(trie_mem_usage),
};

}  // namespace bpfsim
