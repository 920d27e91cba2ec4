// Models: kernel/bpf/lpm_trie.c (Linux 6.18)
//
// Longest prefix match, as a router needs it. A key is a prefix length and that many significant bits, most
// significant first; a lookup finds the longest stored prefix of its key. In words:
//
// - A stored prefix hangs below every shorter one that it begins with; its next bit says on which side.
// - Where two prefixes part and their common beginning is not stored, a joint stands for it: a node without a
//   value. A joint has both children, else it would join nothing: who takes a child away from it must let the
//   other one take its place.
// - Keys are walked longest first: what hangs on side 0 of a node, what hangs on side 1, the node itself.
//
// So the way of a key is a line from the root downwards, and all there is to know at each node is how it and
// the key lie to each other (Fit). Departs from the kernel: no lock; a node that is given back stays with the
// map for its next insertion.
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
  uint32_t joint;  // not a bool: no byte of a node may be left to chance, a history compares them all
  uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }
};
constexpr uint64_t kSizeofLpmTrieNode = 24;
constexpr uint64_t kSizeofNodeInRcu = 40;  // before 6.13: with an rcu_head
static_assert(sizeof(LpmNode) == kSizeofLpmTrieNode || sizeof(void*) != 8);
constexpr uint64_t LPM_VAL_SIZE_MAX = KMALLOC_MAX_SIZE - LPM_DATA_SIZE_MAX - kSizeofLpmTrieNode;

uint32_t bit_at(const uint8_t* data, uint32_t index) { return data[index / 8] >> (7 - index % 8) & 1; }

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
  uint32_t n_entries = 0;    // joints do not count
  LpmNode* spare = nullptr;  // given back, linked by child[0]
};

LpmTrie& trie_of(Map& map) { return static_cast<LpmTrie&>(map); }
const LpmTrie& trie_of(const Map& map) { return static_cast<const LpmTrie&>(map); }

// The number of leading bits that are equal in both, `limit` at most.
uint32_t equal_bits(const uint8_t* a, const uint8_t* b, uint32_t limit) {
  for (uint32_t at = 0; at < limit; at += 8)
    if (const uint8_t differ = a[at / 8] ^ b[at / 8])
      return std::min(limit, at + uint32_t(std::countl_zero(differ)));
  return limit;
}

// How a node and a key lie to each other.
enum class Fit {
  kNothing,  // there is no node
  kBegins,   // the node's prefix is a beginning of the key: the way goes on below it
  kSame,     // it is the key
  kGoesOn,   // the key is a beginning of it
  kParts,    // they differ before either ends
};

// A place on the way of a key, from the root downwards. `slot` is what points at the node here, `above` what
// points at the node over it.
class Way {
 public:
  Way(LpmTrie& trie, const LpmKey& key) : key_(key), slot(&trie.root) { look(); }

  void down() {
    above = slot;
    slot = &node()->child[bit_at(key_.data, node()->prefixlen)];
    look();
  }
  Way& to_end() {
    while (fit == Fit::kBegins) down();
    return *this;
  }
  LpmNode* node() const { return *slot; }

 private:
  void look() {
    LpmNode* const at = node();
    if (!at) {
      fit = Fit::kNothing;
      return;
    }
    const uint32_t shorter = std::min(at->prefixlen, key_.prefixlen);
    common = equal_bits(at->data(), key_.data, shorter);
    if (common < shorter)
      fit = Fit::kParts;
    else if (at->prefixlen == key_.prefixlen)
      fit = Fit::kSame;
    else
      fit = shorter == at->prefixlen ? Fit::kBegins : Fit::kGoesOn;
  }

  const LpmKey& key_;

 public:
  LpmNode** slot;
  LpmNode** above = nullptr;  // none over the root
  Fit fit = Fit::kNothing;
  uint32_t common = 0;  // bits that node and key have in common
};

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
  TRY(bpf_map_charge_init(machine, uint64_t(attr.max_entries) *
                                       (kSizeofNodeInRcu + attr.value_size + attr.key_size - kKeyHeader)));
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

// Of all stored prefixes that begin the key, the last one met is the longest.
Result<void*> trie_lookup_elem(Map& map, const void* key_bytes) {
  LpmTrie& trie = trie_of(map);
  const LpmKey key(key_bytes);
  if (key.prefixlen > trie.max_prefixlen) return nullptr;
  LpmNode* longest = nullptr;
  Way way(trie, key);
  for (; way.fit == Fit::kBegins; way.down())
    if (!way.node()->joint) longest = way.node();
  if (way.fit == Fit::kSame && !way.node()->joint) longest = way.node();
  return longest ? trie.value(longest) : nullptr;
}

// A node without children, for the first `prefixlen` bits of `data`.
Result<LpmNode*> node_alloc(LpmTrie& trie, uint32_t prefixlen, const uint8_t* data, bool joint) {
  LpmNode* node = trie.spare;
  if (node) {
    trie.spare = node->child[0];
  } else {
    Span span = TRY(trie.machine.arena.alloc(trie.node_size(), "lpm_trie node"));
    node = reinterpret_cast<LpmNode*>(span.host);
  }
  *node = {{nullptr, nullptr}, prefixlen, joint};
  std::memcpy(node->data(), data, trie.data_size);
  return node;
}

void node_give_back(LpmTrie& trie, LpmNode* node) {
  node->child[0] = trie.spare;
  trie.spare = node;
}

// The new node takes the slot at the end of its way. What stood there goes below it, or beside it below a
// joint, or, if it was the same prefix, out of the trie.
Result<void> put(LpmTrie& trie, const Way& way, LpmNode* fresh) {
  LpmNode *const there = way.node(), *top = fresh;
  switch (way.fit) {
    case Fit::kBegins:  // not the end of a way
    case Fit::kNothing: break;
    case Fit::kSame:
      std::copy_n(there->child, 2, fresh->child);
      node_give_back(trie, there);
      break;
    case Fit::kGoesOn: fresh->child[bit_at(there->data(), fresh->prefixlen)] = there; break;
    case Fit::kParts:
      top = TRY(node_alloc(trie, way.common, there->data(), true));
      for (LpmNode* side : {there, fresh}) top->child[bit_at(side->data(), way.common)] = side;
      break;
  }
  *way.slot = top;
  return {};
}

Result<void> trie_update_elem(Map& map, const void* key_bytes, const void* value, uint64_t flags) {
  LpmTrie& trie = trie_of(map);
  const LpmKey key(key_bytes);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (key.prefixlen > trie.max_prefixlen)
    return refuse(Errno::Inval, "prefix length {} is above {}", key.prefixlen, trie.max_prefixlen);
  const Way way = Way(trie, key).to_end();
  const bool stored = way.fit == Fit::kSame && !way.node()->joint;
  if (!has(Gate::lpm_trie_flags, map.machine.version)) {
    flags = BPF_ANY;
    if (trie.n_entries == trie.max_entries)
      return refuse(Errno::NoSpc, "all {} elements are in use", trie.max_entries);
  }
  if (stored && flags == BPF_NOEXIST) return refuse(Errno::Exist, "BPF_NOEXIST, but the prefix is there");
  if (!stored && flags == BPF_EXIST) return refuse(Errno::NoEnt, "BPF_EXIST, but the prefix is not there");
  if (!stored && trie.n_entries == trie.max_entries)
    return refuse(Errno::NoSpc, "all {} elements are in use", trie.max_entries);

  LpmNode* fresh = TRY(node_alloc(trie, key.prefixlen, key.data, false));
  std::memcpy(trie.value(fresh), value, trie.value_size);
  Result<void> done = put(trie, way, fresh);
  if (!done)
    node_give_back(trie, fresh);
  else if (!stored)
    ++trie.n_entries;
  return done;
}

// A joint that has lost a child joins nothing: the other child, if there is one, takes its place.
void mend_joint(LpmTrie& trie, LpmNode** slot) {
  LpmNode* const node = *slot;
  auto& [left, right] = node->child;
  if (!node->joint || (left && right)) return;
  *slot = left ? left : right;
  node_give_back(trie, node);
}

// Without its value a node is a joint; so may be the one above it, which then has lost a child.
Result<void> trie_delete_elem(Map& map, const void* key_bytes) {
  LpmTrie& trie = trie_of(map);
  const LpmKey key(key_bytes);
  if (key.prefixlen > trie.max_prefixlen)
    return refuse(Errno::Inval, "prefix length {} is above {}", key.prefixlen, trie.max_prefixlen);
  const Way way = Way(trie, key).to_end();
  if (way.fit != Fit::kSame || way.node()->joint) return refuse(Errno::NoEnt, "this prefix is not stored");
  way.node()->joint = 1;
  --trie.n_entries;
  mend_joint(trie, way.slot);
  if (way.above) mend_joint(trie, way.above);
  return {};
}

// Of a node and what hangs below it, the one to be walked first. A joint has children, so it is never a
// joint.
LpmNode* first_of(LpmNode* node) {
  while (LpmNode* below = node->child[0] ? node->child[0] : node->child[1]) node = below;
  return node;
}

// What is walked after the key. Each node above it has something to offer: its side 1, if the way went down
// side 0, else itself; the lowest offer counts. The walk begins anew with a key that is not stored.
LpmNode* next_of(LpmTrie& trie, const LpmKey& key) {
  LpmNode *side = nullptr, *self = nullptr;  // at most one of them is set
  Way way(trie, key);
  while (way.fit == Fit::kBegins) {
    LpmNode* const over = way.node();
    way.down();
    if (way.slot == &over->child[0] && over->child[1])
      side = over->child[1], self = nullptr;
    else if (!over->joint)
      side = nullptr, self = over;
  }
  const bool stored = way.fit == Fit::kSame && !way.node()->joint;
  if (!stored) return first_of(trie.root);
  return side ? first_of(side) : self;
}

Result<void> trie_get_next_key(Map& map, const void* key_bytes, void* next_key) {
  if (!has(Gate::lpm_trie_walk, map.machine.version))
    return refuse(Errno::NotSupp, "an LPM trie is walked since Linux {}", since(Gate::lpm_trie_walk));
  LpmTrie& trie = trie_of(map);
  if (!trie.root) return refuse(Errno::NoEnt, "the trie is empty");
  bool walk_on = key_bytes && LpmKey(key_bytes).prefixlen <= trie.max_prefixlen;
  LpmNode* next = walk_on ? next_of(trie, LpmKey(key_bytes)) : first_of(trie.root);
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
        node->prefixlen, node->joint != 0, bytes_of(node->data(), trie.data_size), {}, {-1, -1}};
    if (!node->joint) shown.value = bytes_of(trie.value(node), trie.value_size);
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
