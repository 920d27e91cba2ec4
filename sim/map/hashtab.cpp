// Models: kernel/bpf/hashtab.c (Linux 6.18)
//
// Buckets, as many as the power of two above max_entries, each the head of a chain. An element is a header,
// the key and the value, both rounded up to 8 bytes; a per-CPU element holds instead of the value the place
// of its copies, copy `cpu` at `place + cpu * stride`. A new element goes to the head of its chain. An update
// never writes over the old value of a shared element: it links a new element and unlinks the old one, which
// is why every CPU keeps one spare element. Preallocated elements lie in one block; with BPF_F_NO_PREALLOC
// each is allocated when first needed. An LRU hash takes its elements from bpf_lru_list.cpp, which evicts
// others when none is free. In a hash of maps the value is the inner map, replaced in place. With
// BPF_F_ZERO_SEED the order of keys is that of a live kernel. Departs from the kernel: no bucket locks, one
// free list instead of one for each CPU, and an element given back by a BPF_F_NO_PREALLOC map stays with the
// map for its next insertion.
#include "map/hashtab.h"

#include "map/htab.h"
#include "map/jhash.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/map_value.h"
#include "object/btf.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t HTAB_CREATE_FLAG_MASK =
    BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK | BPF_F_ZERO_SEED;
constexpr uint64_t kSizeofBpfHtab = 832, kSizeofBucket = 16, kMapLocks = 8, kSizeofLlistNode = 8;

// ---- Creating and freeing

Result<void> htab_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  bool percpu = is_percpu_map(bpf_map_type(attr.map_type));
  bool lru = attr.map_type == BPF_MAP_TYPE_LRU_HASH || attr.map_type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
  bool percpu_lru = attr.map_flags & BPF_F_NO_COMMON_LRU;  // lists for each CPU; values are another matter
  if (attr.map_flags & BPF_F_ZERO_SEED && !capable(machine, CAP_SYS_ADMIN))
    return refuse(Errno::Perm, "BPF_F_ZERO_SEED needs CAP_SYS_ADMIN");
  if (uint32_t extra = attr.map_flags & ~HTAB_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a hash", extra);
  if (!bpf_map_flags_access_ok(attr.map_flags))
    return refuse(Errno::Inval, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  if (!lru && percpu_lru) return refuse(Errno::Inval, "BPF_F_NO_COMMON_LRU is for LRU hashes");
  if (lru && attr.map_flags & BPF_F_NO_PREALLOC)
    return refuse(Errno::NotSupp, "an LRU hash has all its elements from the start");
  if ((percpu || percpu_lru) && bpf_map_attr_numa_node(attr) != NUMA_NO_NODE)
    return refuse(Errno::Inval, "what is per CPU cannot lie on one NUMA node");
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size == 0) return refuse(Errno::Inval, "key_size must not be 0");
  if (attr.value_size == 0) return refuse(Errno::Inval, "value_size must not be 0");
  if (!has(Gate::hash_big_keys, machine.version)) {
    if (attr.key_size > MAX_BPF_STACK)
      return refuse(Errno::TooBig, "key_size {} is above {}, before Linux {}", attr.key_size, MAX_BPF_STACK,
                    since(Gate::hash_big_keys));
    if (attr.value_size >= KMALLOC_MAX_SIZE - MAX_BPF_STACK - sizeof(HtabElem))
      return refuse(Errno::TooBig, "a value of {} bytes does not fit into one allocation", attr.value_size);
  }
  if (uint64_t(attr.key_size) + attr.value_size >= KMALLOC_MAX_SIZE - sizeof(HtabElem))
    return refuse(Errno::TooBig, "key and value of {} and {} bytes do not fit into one allocation",
                  attr.key_size, attr.value_size);
  if (percpu && has(Gate::percpu_value_size, machine.version) &&
      round_up(attr.value_size, 8) > PCPU_MIN_UNIT_SIZE)
    return refuse(Errno::TooBig, "a per-CPU value of {} bytes is above {}", attr.value_size,
                  PCPU_MIN_UNIT_SIZE);
  return {};
}

void push_free(BpfHtab& htab, HtabElem* l) {
  l->next = htab.freelist;
  htab.freelist = l;
}

HtabElem* pop_free(BpfHtab& htab) {
  HtabElem* l = htab.freelist;
  if (l) htab.freelist = l->next;
  return l;
}

bool lru_map_delete_node(void* arg, LruNode& node);

Result<void> prealloc_init(BpfHtab& htab) {
  uint64_t entries = uint64_t(htab.max_entries) + (htab.has_extra_elems() ? htab.machine.cpus : 0);
  uint64_t percpu_size = uint64_t(htab.stride()) * htab.machine.cpus;
  htab.elems = TRY(htab.machine.arena.alloc(entries * htab.elem_size, "htab elements"));
  if (htab.percpu()) TRY(pcpu_fits(htab.stride()));
  if (htab.percpu())
    htab.percpu_area = TRY(htab.machine.arena.alloc(entries * percpu_size, "htab per-CPU values"));
  for (uint64_t i = entries; i-- > 0;) {
    HtabElem* l = reinterpret_cast<HtabElem*>(htab.elems.host + i * htab.elem_size);
    if (htab.percpu()) htab.place(l) = htab.percpu_area.host + i * percpu_size;
    if (!htab.is_lru()) push_free(htab, l);
  }
  if (htab.is_lru()) {
    bpf_lru_init(htab.lru, htab.map_flags & BPF_F_NO_COMMON_LRU, htab.machine.cpus, lru_map_delete_node,
                 &htab);
    bpf_lru_populate(htab.lru, htab.elems.host + offsetof(HtabElem, lru_node), htab.elem_size,
                     uint32_t(entries));
  }
  if (htab.has_extra_elems())
    for (uint32_t cpu = 0; cpu < htab.machine.cpus; ++cpu) htab.extra_elems.push_back(pop_free(htab));
  return {};
}

Result<void> build(BpfHtab& htab, const bpf_attr& attr) {
  if (attr.map_flags & BPF_F_NO_COMMON_LRU) {  // every CPU's lists get the same number of elements
    uint64_t rounded = round_up(attr.max_entries, htab.machine.cpus);
    htab.max_entries = uint32_t(rounded <= UINT32_MAX ? rounded : rounded - htab.machine.cpus);
  }
  if (htab.max_entries > 1u << 31)
    return refuse(Errno::TooBig, "max_entries {} is above 2^31", htab.max_entries);
  uint64_t n_buckets = 1;
  while (n_buckets < htab.max_entries) n_buckets *= 2;
  if (n_buckets > UINT32_MAX / kSizeofBucket)
    return refuse(Errno::TooBig, "{} buckets of {} bytes need 4 GiB or more", n_buckets, kSizeofBucket);
  htab.n_buckets = uint32_t(n_buckets);
  htab.elem_size = uint32_t(sizeof(HtabElem) + round_up(attr.key_size, 8) +
                            (htab.percpu() ? sizeof(void*) : round_up(attr.value_size, 8)));
  const uint64_t elems = uint64_t(htab.elem_size) * htab.max_entries;
  TRY(bpf_map_charge_init(htab.machine,
                          n_buckets * kSizeofBucket + elems +
                              (htab.percpu() ? uint64_t(htab.stride()) * htab.machine.cpus * htab.max_entries
                                             : uint64_t(htab.elem_size) * htab.machine.cpus)));
  htab.buckets = TRY(htab.machine.arena.alloc(n_buckets * sizeof(HtabElem*), "htab buckets"));
  htab.hashrnd = attr.map_flags & BPF_F_ZERO_SEED ? 0 : htab.machine.random.u32();
  return htab.prealloc() ? prealloc_init(htab) : Result<void>();
}

Result<Map*> htab_map_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<BpfHtab>(machine, attr, build);
}

// Back to the arena, for elements that were allocated one by one.
void free_chain(BpfHtab& htab, HtabElem* l) {
  Arena& arena = htab.machine.arena;
  while (l) {
    HtabElem* next = l->next;
    if (htab.percpu())
      arena.free({arena.addr(htab.place(l)), htab.place(l), uint64_t(htab.stride()) * htab.machine.cpus});
    arena.free({arena.addr(l), reinterpret_cast<uint8_t*>(l), htab.elem_size});
    l = next;
  }
}

void htab_map_free(Map& map) { delete &htab_of(map); }

Result<void> htab_map_check_btf(const Map&, const Btf&, uint32_t key_type, uint32_t) {
  if (key_type == 0) return refuse(Errno::Inval, "a hash needs a BTF key type");
  return {};
}

// ---- A hash of maps

Result<void> fd_htab_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  if (attr.value_size != sizeof(uint32_t))
    return refuse(Errno::Inval, "value_size must be 4, a descriptor, is {}", attr.value_size);
  return htab_map_alloc_check(machine, attr);
}

Result<Map*> htab_of_map_alloc(Machine& machine, const bpf_attr& attr) {
  Map* meta = TRY(bpf_map_meta_alloc(machine, int(attr.inner_map_fd)));
  Result<Map*> map = htab_map_alloc(machine, attr);
  if (map)
    (*map)->inner_map_meta = meta;
  else
    bpf_map_meta_free(meta);
  return map;
}

void htab_of_map_free(Map& map) {
  BpfHtab& htab = htab_of(map);
  for (uint32_t i = 0; i < htab.n_buckets; ++i)
    for (HtabElem* l = htab.bucket(i); l; l = l->next) map.ops->map_fd_put_ptr(map, htab.inner(l), false);
  htab_map_free(map);
}

void each_inner_map(const Map& map, const HoldVisitor& visit) {
  const BpfHtab& htab = htab_of(map);
  for (uint32_t i = 0; i < htab.n_buckets; ++i)
    for (HtabElem* l = htab.bucket(i); l; l = l->next)
      visit({htab.inner(l), Counter::Refs, true, "bucket " + std::to_string(i)});
  if (map.inner_map_meta && map.inner_map_meta->btf)
    visit({map.inner_map_meta->btf, Counter::Refs, true, "inner_map_meta->btf"});
}

// ---- Looking up

uint32_t htab_map_hash(const void* key, uint32_t key_len, uint32_t hashrnd) {
  return key_len % 4 == 0 ? jhash2(key, key_len / 4, hashrnd) : jhash(key, key_len, hashrnd);
}

bool same_key(const void* a, const void* b, uint32_t size) {
  if (size == 4) return std::memcmp(a, b, 4) == 0;  // the compiler makes these one comparison
  if (size == 8) return std::memcmp(a, b, 8) == 0;
  return std::memcmp(a, b, size) == 0;
}

HtabElem* lookup_elem_raw(const BpfHtab& htab, uint32_t hash, const void* key) {
  for (HtabElem* l = htab.bucket(hash); l; l = l->next)
    if (l->hash == hash && same_key(l->key(), key, htab.key_size)) return l;
  return nullptr;
}

HtabElem* htab_map_lookup(const BpfHtab& htab, const void* key) {
  return lookup_elem_raw(htab, htab_map_hash(key, htab.key_size, htab.hashrnd), key);
}

Result<void*> htab_map_lookup_elem(Map& map, const void* key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  return l ? htab.value(l) : nullptr;
}

Result<void*> htab_of_map_lookup_elem(Map& map, const void* key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  return l ? inner_map_pointer(*htab.inner(l)) : nullptr;
}

// From a program, a lookup marks the element as used; from user space it does not.
Result<void*> htab_lru_map_lookup_elem(Map& map, const void* key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return nullptr;
  bpf_lru_node_set_ref(l->lru_node);
  return htab.value(l);
}

Result<void*> htab_lru_map_lookup_elem_sys(Map& map, const void* key) {
  return htab_map_lookup_elem(map, key);
}

Result<void*> htab_percpu_map_lookup_elem(Map& map, const void* key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  return l ? htab.percpu_value(l, map.machine.current->cpu) : nullptr;
}

Result<void*> htab_percpu_map_lookup_percpu_elem(Map& map, const void* key, uint32_t cpu) {
  BpfHtab& htab = htab_of(map);
  if (cpu >= map.machine.cpus) return nullptr;
  HtabElem* l = htab_map_lookup(htab, key);
  return l ? htab.percpu_value(l, cpu) : nullptr;
}

Result<void*> htab_lru_percpu_map_lookup_percpu_elem(Map& map, const void* key, uint32_t cpu) {
  BpfHtab& htab = htab_of(map);
  if (cpu >= map.machine.cpus) return nullptr;
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return nullptr;
  bpf_lru_node_set_ref(l->lru_node);
  return htab.percpu_value(l, cpu);
}

Result<void*> htab_lru_percpu_map_lookup_elem(Map& map, const void* key) {
  return htab_lru_percpu_map_lookup_percpu_elem(map, key, map.machine.current->cpu);
}

// The next key in the chain, else the first of the next chain. A key that is not there starts anew.
Result<void> htab_map_get_next_key(Map& map, const void* key, void* next_key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* next = nullptr;
  uint32_t i = 0;
  if (key) {
    if (HtabElem* l = htab_map_lookup(htab, key)) {
      next = l->next;
      i = (l->hash & (htab.n_buckets - 1)) + 1;
    }
  }
  for (; !next && i < htab.n_buckets; ++i) next = htab.bucket(i);
  if (!next) return refuse(Errno::NoEnt, "no key follows");
  std::memcpy(next_key, next->key(), htab.key_size);
  return {};
}

// ---- Updating

void link_first(BpfHtab& htab, HtabElem* l) {
  HtabElem*& head = htab.bucket(l->hash);
  l->next = head;
  head = l;
}

Result<void> check_flags(const HtabElem* old, uint64_t flags) {
  if (old && (flags & ~BPF_F_LOCK) == BPF_NOEXIST)
    return refuse(Errno::Exist, "BPF_NOEXIST, but the key is there");
  if (!old && (flags & ~BPF_F_LOCK) == BPF_EXIST)
    return refuse(Errno::NoEnt, "BPF_EXIST, but the key is not there");
  return {};
}

// A value for all CPUs, or from a program for its own CPU.
void pcpu_copy_value(BpfHtab& htab, HtabElem* l, const void* value, bool onallcpus) {
  if (onallcpus)
    copy_map_values(htab, htab.place(l), value, false);
  else
    copy_map_value(htab, htab.percpu_value(l, htab.machine.current->cpu), value);
}

Result<HtabElem*> alloc_one(BpfHtab& htab) {
  Arena& arena = htab.machine.arena;
  if (htab.percpu()) TRY(pcpu_fits(htab.stride()));
  Span elem = TRY(arena.alloc(htab.elem_size, "htab element"));
  HtabElem* l = reinterpret_cast<HtabElem*>(elem.host);
  if (!htab.percpu()) return l;
  Result<Span> values = arena.alloc(uint64_t(htab.stride()) * htab.machine.cpus, "htab per-CPU value");
  if (!values) {
    arena.free(elem);
    return values.refusal();
  }
  htab.place(l) = values->host;
  return l;
}

// An element with key and hash. A preallocated map that replaces takes this CPU's spare one and leaves the
// old one in its place; BPF_F_NO_PREALLOC may go above max_entries for that moment.
Result<HtabElem*> alloc_htab_elem(BpfHtab& htab, const void* key, uint32_t hash, HtabElem* old) {
  HtabElem* l;
  if (htab.prealloc() && old) {
    HtabElem*& spare = htab.extra_elems[htab.machine.current->cpu];
    l = spare;
    spare = old;
  } else {
    if (!old && htab.count >= htab.max_entries)
      return refuse(Errno::TooBig, "all {} elements are in use", htab.max_entries);
    l = pop_free(htab);
    if (!l) l = TRY(alloc_one(htab));
  }
  std::memcpy(l->key(), key, htab.key_size);
  l->hash = hash;
  return l;
}

Result<void> htab_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  BpfHtab& htab = htab_of(map);
  if ((flags & ~BPF_F_LOCK) > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  TRY(check_lock_flag(map, flags));
  uint32_t hash = htab_map_hash(key, htab.key_size, htab.hashrnd);
  HtabElem* old = lookup_elem_raw(htab, hash, key);
  TRY(check_flags(old, flags));
  if (old && flags & BPF_F_LOCK) {  // under the lock, the old element itself is written over
    copy_map_value(map, htab.value(old), value);
    return {};
  }
  HtabElem* l = TRY(alloc_htab_elem(htab, key, hash, old));
  copy_map_value(map, htab.value(l), value);
  link_first(htab, l);
  if (!old) {
    ++htab.count;
    return {};
  }
  htab_unlink(htab, old);
  if (!htab.prealloc()) push_free(htab, old);
  return {};
}

// The element stays; only which map it holds changes.
Result<void> of_map_update(Map& map, const void* key, Object* inner, uint64_t flags) {
  BpfHtab& htab = htab_of(map);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  uint32_t hash = htab_map_hash(key, htab.key_size, htab.hashrnd);
  HtabElem* l = lookup_elem_raw(htab, hash, key);
  TRY(check_flags(l, flags));
  if (l) {
    Map* old = std::exchange(htab.inner(l), static_cast<Map*>(inner));
    map.ops->map_fd_put_ptr(map, old, true);
    return {};
  }
  l = TRY(alloc_htab_elem(htab, key, hash, nullptr));
  htab.inner(l) = static_cast<Map*>(inner);
  link_first(htab, l);
  ++htab.count;
  return {};
}

// A per-CPU value is updated in place: other CPUs' copies must stay. A new one from a program is zero on
// them.
Result<void> htab_percpu_map_update(Map& map, const void* key, const void* value, uint64_t flags,
                                    bool onallcpus) {
  BpfHtab& htab = htab_of(map);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  uint32_t hash = htab_map_hash(key, htab.key_size, htab.hashrnd);
  HtabElem* l = lookup_elem_raw(htab, hash, key);
  TRY(check_flags(l, flags));
  if (!l) {
    l = TRY(alloc_htab_elem(htab, key, hash, nullptr));
    if (!onallcpus) std::memset(htab.place(l), 0, uint64_t(htab.stride()) * htab.machine.cpus);
    link_first(htab, l);
    ++htab.count;
  }
  pcpu_copy_value(htab, l, value, onallcpus);
  return {};
}

Result<void> htab_percpu_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  return htab_percpu_map_update(map, key, value, flags, false);
}

bool lru_map_delete_node(void* arg, LruNode& node) {
  BpfHtab& htab = *static_cast<BpfHtab*>(arg);
  htab_unlink(htab, HtabElem::of(node));
  --htab.count;
  return true;
}

// An element that was taken from the lists of an LRU hash, though another may have had to go for it. Unless
// it is kept, it goes back.
class LruTaken {
 public:
  explicit LruTaken(BpfHtab& htab) : htab_(htab) {}
  LruTaken(const LruTaken&) = delete;
  ~LruTaken() {
    if (elem_) bpf_lru_push_free(htab_.lru, elem_->lru_node);
  }

  Result<void> take(const void* key, uint32_t hash) {
    LruNode* node = bpf_lru_pop_free(htab_.lru, htab_.machine.current->cpu);
    if (!node) return refuse(Errno::NoMem, "no element is free and none can be evicted");
    elem_ = HtabElem::of(*node);
    std::memcpy(elem_->key(), key, htab_.key_size);
    elem_->hash = hash;
    return {};
  }
  HtabElem* keep() {  // as an element of the hash
    link_first(htab_, elem_);
    return std::exchange(elem_, nullptr);
  }

 private:
  BpfHtab& htab_;
  HtabElem* elem_ = nullptr;
};

// The element is taken before the key is looked for: what has to go for it may be the very one that has the
// key. So even an update that is then refused may have evicted another.
Result<void> htab_lru_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  BpfHtab& htab = htab_of(map);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  const uint32_t hash = htab_map_hash(key, htab.key_size, htab.hashrnd);
  LruTaken taken(htab);
  TRY(taken.take(key, hash));
  HtabElem* const there = lookup_elem_raw(htab, hash, key);
  TRY(check_flags(there, flags));
  HtabElem* const fresh = taken.keep();
  copy_map_value(map, htab.value(fresh), value);
  if (!there) {
    ++htab.count;
    return {};
  }
  bpf_lru_node_set_ref(fresh->lru_node);
  htab_unlink(htab, there);
  bpf_lru_push_free(htab.lru, there->lru_node);
  return {};
}

// BPF_EXIST says that no new element is needed, so none has to go.
Result<void> htab_lru_percpu_map_update(Map& map, const void* key, const void* value, uint64_t flags,
                                        bool onallcpus) {
  BpfHtab& htab = htab_of(map);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  const uint32_t hash = htab_map_hash(key, htab.key_size, htab.hashrnd);
  LruTaken taken(htab);
  if (flags != BPF_EXIST) TRY(taken.take(key, hash));
  HtabElem* l = lookup_elem_raw(htab, hash, key);
  TRY(check_flags(l, flags));
  if (l) {
    bpf_lru_node_set_ref(l->lru_node);
  } else {
    l = taken.keep();
    ++htab.count;
    if (!onallcpus) std::memset(htab.place(l), 0, uint64_t(htab.stride()) * htab.machine.cpus);
  }
  pcpu_copy_value(htab, l, value, onallcpus);
  return {};
}

Result<void> htab_lru_percpu_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  return htab_lru_percpu_map_update(map, key, value, flags, false);
}

// ---- Deleting

void delete_elem(BpfHtab& htab, HtabElem* l) {
  htab_unlink(htab, l);
  free_htab_elem(htab, l);
}

Result<void> htab_map_delete_elem(Map& map, const void* key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return refuse(Errno::NoEnt, "the key is not there");
  delete_elem(htab, l);
  return {};
}

Result<void> htab_map_lookup_and_delete_elem(Map& map, const void* key, void* value, uint64_t) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return refuse(Errno::NoEnt, "the key is not there");
  copy_map_value(map, value, htab.value(l));
  bpf_obj_init(map.record, value);
  delete_elem(htab, l);
  return {};
}

Result<void> htab_lru_map_delete_elem(Map& map, const void* key) { return htab_map_delete_elem(map, key); }

Result<void> htab_lru_map_lookup_and_delete_elem(Map& map, const void* key, void* value, uint64_t flags) {
  return htab_map_lookup_and_delete_elem(map, key, value, flags);
}

Result<void> htab_percpu_map_lookup_and_delete_elem(Map& map, const void* key, void* value, uint64_t) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return refuse(Errno::NoEnt, "the key is not there");
  copy_map_values(map, value, htab.place(l), true);
  delete_elem(htab, l);
  return {};
}

Result<void> htab_lru_percpu_map_lookup_and_delete_elem(Map& map, const void* key, void* value,
                                                        uint64_t flags) {
  return htab_percpu_map_lookup_and_delete_elem(map, key, value, flags);
}

// Every element in turn, until the callback answers other than 0: how many were visited. The callback may
// delete and insert; of a bucket, those are visited that stood in it before and still do.
Result<int64_t> bpf_for_each_hash_elem(Map& map, Addr callback, Addr context, uint64_t flags) {
  BpfHtab& htab = htab_of(map);
  Machine& machine = map.machine;
  if (flags != 0) return refuse(Errno::Inval, "flags must be 0, is {}", flags);
  int64_t visited = 0;
  std::vector<HtabElem*> chain;
  for (uint32_t i = 0; i < htab.n_buckets; ++i) {
    chain.clear();
    for (HtabElem* l = htab.bucket(i); l; l = l->next) chain.push_back(l);
    for (HtabElem* l : chain) {
      HtabElem* there = htab.bucket(i);
      while (there && there != l) there = there->next;
      if (!there) continue;
      ++visited;
      const void* value = htab.percpu() ? htab.percpu_value(l, machine.current->cpu) : htab.value(l);
      if (machine.calls->call_bpf(
              machine, callback,
              {map.handle, machine.arena.addr(l->key()), machine.arena.addr(value), context, 0}))
        return visited;
    }
  }
  return visited;
}

uint64_t htab_map_mem_usage(const Map& map) {
  const BpfHtab& htab = htab_of(map);
  uint64_t cpus = map.machine.cpus;
  uint64_t usage = kSizeofBpfHtab + kSizeofBucket * htab.n_buckets + sizeof(int) * cpus * kMapLocks;
  if (htab.prealloc()) {
    uint64_t entries = uint64_t(map.max_entries) + (htab.has_extra_elems() ? cpus : 0);
    usage += entries * htab.elem_size;
    if (htab.percpu()) usage += entries * htab.stride() * cpus;
    if (!htab.percpu() && !htab.is_lru()) usage += cpus * sizeof(void*);
  } else {
    usage += (htab.elem_size + kSizeofLlistNode) * uint64_t(htab.count);
    if (htab.percpu()) usage += (kSizeofLlistNode + sizeof(void*) + htab.stride() * cpus) * htab.count;
  }
  return usage;
}

std::string htab_map_seq_show_elem(Map& map, const void* key) {
  HtabElem* l = htab_map_lookup(htab_of(map), key);
  return l ? seq_show_elem(map, seq_show_key(map, key), htab_of(map).value(l)) : "";
}

std::string htab_percpu_map_seq_show_elem(Map& map, const void* key) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return "";
  return seq_show_percpu_elem(map, seq_show_key(map, key),
                              [&](uint32_t cpu) { return htab.percpu_value(l, cpu); });
}

// Timers and work queues in the values end with the last user; no program can start one yet.
void htab_map_free_timers_and_wq(Map&) {}

}  // namespace

// ---- For the rest of the kernel

BpfHtab::~BpfHtab() {
  if (!prealloc() && buckets) {
    for (uint32_t i = 0; i < n_buckets; ++i) free_chain(*this, bucket(i));
    free_chain(*this, freelist);
  }
  bpf_map_meta_free(inner_map_meta);
  machine.arena.free(percpu_area);
  machine.arena.free(elems);
  machine.arena.free(buckets);
}

void free_htab_elem(BpfHtab& htab, HtabElem* l) {
  --htab.count;
  if (htab.of_maps()) htab.ops->map_fd_put_ptr(htab, htab.inner(l), true);
  if (htab.is_lru())
    bpf_lru_push_free(htab.lru, l->lru_node);
  else
    push_free(htab, l);
}

Result<void> bpf_percpu_hash_copy(Map& map, const void* key, void* values) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return refuse(Errno::NoEnt, "the key is not there");
  copy_map_values(map, values, htab.place(l), true);
  return {};
}

Result<void> bpf_percpu_hash_update(Map& map, const void* key, const void* values, uint64_t flags) {
  if (htab_of(map).is_lru()) return htab_lru_percpu_map_update(map, key, values, flags, true);
  return htab_percpu_map_update(map, key, values, flags, true);
}

Result<void> bpf_fd_htab_map_lookup_elem(Map& map, const void* key, uint32_t* id) {
  BpfHtab& htab = htab_of(map);
  HtabElem* l = htab_map_lookup(htab, key);
  if (!l) return refuse(Errno::NoEnt, "the key is not there");
  *id = map.ops->map_fd_sys_lookup_elem(htab.inner(l));
  return {};
}

Result<void> bpf_fd_htab_map_update_elem(Map& map, File& map_file, const void* key, const void* value,
                                         uint64_t flags) {
  int fd;
  std::memcpy(&fd, value, sizeof fd);
  Object* inner = TRY(map.ops->map_fd_get_ptr(map, map_file, fd));
  Result<void> done = of_map_update(map, key, inner, flags);
  if (!done) map.ops->map_fd_put_ptr(map, inner, false);
  return done;
}

const MapOps htab_map_ops = {
    .map_alloc_check = OP(htab_map_alloc_check),
    .map_alloc = OP(htab_map_alloc),
    .map_free = OP(htab_map_free),
    .map_get_next_key = OP(htab_map_get_next_key),
    .map_release_uref = OP(htab_map_free_timers_and_wq),
    .map_lookup_batch = OP(htab_map_lookup_batch),
    .map_lookup_and_delete_elem = OP(htab_map_lookup_and_delete_elem),
    .map_lookup_and_delete_batch = OP(htab_map_lookup_and_delete_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_delete_batch = OP(generic_map_delete_batch),
    .map_lookup_elem = OP(htab_map_lookup_elem),
    .map_update_elem = OP(htab_map_update_elem),
    .map_delete_elem = OP(htab_map_delete_elem),
    .map_gen_lookup = OP_LATER(htab_map_gen_lookup),
    .map_seq_show_elem = OP(htab_map_seq_show_elem),
    .map_check_btf = OP(htab_map_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_set_for_each_callback_args = OP_LATER(map_set_for_each_callback_args),
    .map_for_each_callback = OP(bpf_for_each_hash_elem),
    .map_mem_usage = OP(htab_map_mem_usage),
};

const MapOps htab_percpu_map_ops = {
    .map_alloc_check = OP(htab_map_alloc_check),
    .map_alloc = OP(htab_map_alloc),
    .map_free = OP(htab_map_free),
    .map_get_next_key = OP(htab_map_get_next_key),
    .map_lookup_batch = OP(htab_percpu_map_lookup_batch),
    .map_lookup_and_delete_elem = OP(htab_percpu_map_lookup_and_delete_elem),
    .map_lookup_and_delete_batch = OP(htab_percpu_map_lookup_and_delete_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_delete_batch = OP(generic_map_delete_batch),
    .map_lookup_elem = OP(htab_percpu_map_lookup_elem),
    .map_update_elem = OP(htab_percpu_map_update_elem),
    .map_delete_elem = OP(htab_map_delete_elem),
    .map_lookup_percpu_elem = OP(htab_percpu_map_lookup_percpu_elem),
    .map_gen_lookup = OP_LATER(htab_percpu_map_gen_lookup),
    .map_seq_show_elem = OP(htab_percpu_map_seq_show_elem),
    .map_check_btf = OP(htab_map_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_set_for_each_callback_args = OP_LATER(map_set_for_each_callback_args),
    .map_for_each_callback = OP(bpf_for_each_hash_elem),
    .map_mem_usage = OP(htab_map_mem_usage),
};

const MapOps htab_lru_map_ops = {
    .map_alloc_check = OP(htab_map_alloc_check),
    .map_alloc = OP(htab_map_alloc),
    .map_free = OP(htab_map_free),
    .map_get_next_key = OP(htab_map_get_next_key),
    .map_release_uref = OP(htab_map_free_timers_and_wq),
    .map_lookup_elem_sys_only = OP(htab_lru_map_lookup_elem_sys),
    .map_lookup_batch = OP(htab_lru_map_lookup_batch),
    .map_lookup_and_delete_elem = OP(htab_lru_map_lookup_and_delete_elem),
    .map_lookup_and_delete_batch = OP(htab_lru_map_lookup_and_delete_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_delete_batch = OP(generic_map_delete_batch),
    .map_lookup_elem = OP(htab_lru_map_lookup_elem),
    .map_update_elem = OP(htab_lru_map_update_elem),
    .map_delete_elem = OP(htab_lru_map_delete_elem),
    .map_gen_lookup = OP_LATER(htab_lru_map_gen_lookup),
    .map_seq_show_elem = OP(htab_map_seq_show_elem),
    .map_check_btf = OP(htab_map_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_set_for_each_callback_args = OP_LATER(map_set_for_each_callback_args),
    .map_for_each_callback = OP(bpf_for_each_hash_elem),
    .map_mem_usage = OP(htab_map_mem_usage),
};

const MapOps htab_lru_percpu_map_ops = {
    .map_alloc_check = OP(htab_map_alloc_check),
    .map_alloc = OP(htab_map_alloc),
    .map_free = OP(htab_map_free),
    .map_get_next_key = OP(htab_map_get_next_key),
    .map_lookup_batch = OP(htab_lru_percpu_map_lookup_batch),
    .map_lookup_and_delete_elem = OP(htab_lru_percpu_map_lookup_and_delete_elem),
    .map_lookup_and_delete_batch = OP(htab_lru_percpu_map_lookup_and_delete_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_delete_batch = OP(generic_map_delete_batch),
    .map_lookup_elem = OP(htab_lru_percpu_map_lookup_elem),
    .map_update_elem = OP(htab_lru_percpu_map_update_elem),
    .map_delete_elem = OP(htab_lru_map_delete_elem),
    .map_lookup_percpu_elem = OP(htab_lru_percpu_map_lookup_percpu_elem),
    .map_seq_show_elem = OP(htab_percpu_map_seq_show_elem),
    .map_check_btf = OP(htab_map_check_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_set_for_each_callback_args = OP_LATER(map_set_for_each_callback_args),
    .map_for_each_callback = OP(bpf_for_each_hash_elem),
    .map_mem_usage = OP(htab_map_mem_usage),
};

const MapOps htab_of_maps_map_ops = {
    .map_alloc_check = OP(fd_htab_map_alloc_check),
    .map_alloc = OP(htab_of_map_alloc),
    .map_free = OP(htab_of_map_free),
    .map_get_next_key = OP(htab_map_get_next_key),
    .map_lookup_batch = OP(htab_map_lookup_batch),
    .map_lookup_and_delete_batch = OP(htab_map_lookup_and_delete_batch),
    .map_update_batch = OP(generic_map_update_batch),
    .map_delete_batch = OP(generic_map_delete_batch),
    .map_lookup_elem = OP(htab_of_map_lookup_elem),
    .map_delete_elem = OP(htab_map_delete_elem),
    .map_fd_get_ptr = OP(bpf_map_fd_get_ptr),
    .map_fd_put_ptr = OP(bpf_map_fd_put_ptr),
    .map_gen_lookup = OP_LATER(htab_of_map_gen_lookup),
    .map_fd_sys_lookup_elem = OP(bpf_map_fd_sys_lookup_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_mem_usage = OP(htab_map_mem_usage),
    .each_held = OP(each_inner_map),
};

}  // namespace bpfsim
