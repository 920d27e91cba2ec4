// Models: net/core/sock_map.c, net/core/skmsg.c (sk_psock) (Linux 6.18)
//
// Sockets by index (SOCKMAP) or by any key (SOCKHASH). User space gives a descriptor of a TCP, UDP or AF_UNIX
// socket in the right state and reads its cookie back. A socket in such a map has a psock, which knows each
// slot it stands in and has the programs of the maps; when the socket is closed it leaves them all. Programs
// are attached to the map (sock_map_progs.cpp), and go to each socket that is added afterwards. Departs from
// the kernel: each slot holds its socket, where the psock does so once for all slots; a psock is freed at
// once. A program that looks up a key gets the socket, with a reference where no grace period protects it.
// Not modelled yet: that the map's programs run (no data is sent), bpf_sock_map_update and its like.
#include "map/sock_map.h"

#include <bit>

#include "host/socket.h"
#include "map/common.h"
#include "map/jhash.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/psock_progs.h"
#include "map/view.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t SOCK_CREATE_FLAG_MASK = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;
constexpr uint32_t kMaxKeySize = 512;  // MAX_BPF_STACK
constexpr uint64_t kSizeofBpfStab = 376, kSizeofBpfShtab = 384, kSizeofBucket = 16, kSizeofShtabElem = 48;

void each_prog(const PsockProgs& progs, const HoldVisitor& visit) {
  for (const auto& [member, name] : kPsockProgs)
    if (progs.*member) visit({progs.*member, Counter::Refs, true, std::string("progs.") + name});
}

void psock_progs_drop(PsockProgs& progs, const Cause& cause) {
  for (const auto& [member, name] : kPsockProgs)
    if (Prog* prog = std::exchange(progs.*member, nullptr)) bpf_prog_put(*prog, cause);
}

struct ShtabElem {  // struct bpf_shtab_elem
  uint32_t hash;
  Sock* sk;
  RawBytes key;
};

// A slot of an array of sockets is its own link_raw, as is an element of a hash.
struct BpfStab final : SockMap {
  using SockMap::SockMap;
  ~BpfStab() override { machine.arena.free(sks); }
  Sock*& slot(uint32_t index) const { return reinterpret_cast<Sock**>(sks.host)[index]; }
  void remove(void* link_raw) override;
  Span sks;
};

struct BpfShtab final : SockMap {
  using SockMap::SockMap;
  uint32_t bucket_of(uint32_t hash) const { return hash & uint32_t(buckets.size() - 1); }
  void remove(void* link_raw) override;
  std::vector<std::vector<ShtabElem*>> buckets;  // each chain from its head
  uint32_t count = 0;
};

BpfStab& stab_of(Map& map) { return static_cast<BpfStab&>(map); }
const BpfStab& stab_of(const Map& map) { return static_cast<const BpfStab&>(map); }
BpfShtab& shtab_of(Map& map) { return static_cast<BpfShtab&>(map); }
const BpfShtab& shtab_of(const Map& map) { return static_cast<const BpfShtab&>(map); }

// ---- What stands at the socket

struct SkPsock final : SkUserData {  // struct sk_psock
  struct Link {
    SockMap* map;
    void* link_raw;
  };
  std::vector<Link> links;
  PsockProgs progs;
  bool started = false;  // saved_data_ready: a verdict program sees what arrives

  void sk_close(Sock& sk) override {
    KFN(sk.machine, sock_map_close);
    while (!links.empty() && sk.sk_user_data == this) {
      const Link link = links.front();
      const bool last = links.size() == 1;
      link.map->remove(link.link_raw);
      if (last) return;  // and with the last slot, this went
    }
  }
  void each_held(const HoldVisitor& visit) const override { each_prog(progs, visit); }
};

SkPsock* sk_psock(const Sock& sk) { return dynamic_cast<SkPsock*>(sk.sk_user_data); }

// sk_psock_put(): a psock without a slot goes.
void drop_if_unused(Sock& sk, SkPsock& psock) {
  if (!psock.links.empty()) return;
  KFN(sk.machine, sk_psock_drop);
  sk.sk_user_data = nullptr;
  psock_progs_drop(psock.progs, {"the psock of sock {} is gone", sk.id});
  delete &psock;
}

void sock_map_add_link(Sock& sk, SockMap& map, void* link_raw) {
  sk_psock(sk)->links.push_back({&map, link_raw});
  sock_hold(sk, {"in map {}", map.id});
}

void sock_map_unref(Sock& sk, void* link_raw) {
  SkPsock* psock = sk_psock(sk);
  auto at = std::find_if(psock->links.begin(), psock->links.end(),
                         [&](const auto& link) { return link.link_raw == link_raw; });
  const SockMap& map = *at->map;
  if (map.progs.stream_parser || map.progs.stream_verdict || map.progs.skb_verdict) psock->started = false;
  psock->links.erase(at);
  drop_if_unused(sk, *psock);
  sock_put(sk, {"out of map {}", map.id});
}

bool programs_collide(const PsockProgs& mine, const PsockProgs& its) {
  return (mine.msg_parser && its.msg_parser) || (mine.stream_parser && its.stream_parser) ||
         (mine.skb_verdict && (its.skb_verdict || its.stream_verdict)) ||
         (mine.stream_verdict && (its.skb_verdict || its.stream_verdict));
}

Result<void> start(Sock& sk, SkPsock& psock, const PsockProgs& progs) {
  if (psock.started) return {};
  if (progs.stream_parser && progs.stream_verdict && !sk.is_tcp())
    return refuse(Errno::OpNotSupp, "a stream parser is for TCP");
  if (progs.stream_verdict || progs.skb_verdict) psock.started = true;
  return {};
}

// The socket gets a psock, if it has none, and the programs of the map.
Result<void> sock_map_link(SockMap& map, Sock& sk) {
  KFN(map.machine, sock_map_link);
  SkPsock* psock = sk_psock(sk);
  if (!psock && sk.sk_user_data) return refuse(Errno::Busy, "a reuseport array has the socket");
  if (psock && programs_collide(map.progs, psock->progs))
    return refuse(Errno::Busy, "another map gave the socket such a program already");
  if (!psock) sk.sk_user_data = psock = new SkPsock;
  for (const auto& [member, name] : kPsockProgs) {
    if (Prog* prog = map.progs.*member) {
      bpf_prog_inc(*prog, {"psock of sock {}, from map {}", sk.id, map.id});
      psock->progs.*member = prog;
    }
  }
  Result<void> started = start(sk, *psock, map.progs);
  if (!started) drop_if_unused(sk, *psock);
  return started;
}

// ---- What both kinds of map share

Result<void> check_value_and_flags(const Machine& machine, const bpf_attr& attr) {
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.value_size != 4 && attr.value_size != 8)
    return refuse(Errno::Inval, "value_size must be 4 (a descriptor) or 8 (a cookie comes out), is {}",
                  attr.value_size);
  if (attr.value_size == 8 && !has(Gate::sockmap_cookie, machine.version))
    return refuse(Errno::Inval, "value_size must be 4 (a descriptor); 8 came with Linux {}",
                  since(Gate::sockmap_cookie));
  if (uint32_t extra = attr.map_flags & ~SOCK_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a map of sockets", extra);
  return {};
}

bool sock_map_sk_is_suitable(const Sock& sk) {
  if (sk.sk_family == AF_UNIX_) return sk.sk_type != SOCK_SEQPACKET_;
  return sk.is_tcp() || sk.is_udp();
}

// What a map of an older version does not take yet.
bool came_later(const Sock& sk) {
  const Version version = sk.machine.version;
  if (!has(Gate::sockmap_sockets, version)) return !sk.is_tcp() || sk.sk_state != TCP_ESTABLISHED;
  return sk.sk_family == AF_UNIX_ && !has(Gate::sockmap_unix, version);
}

bool sock_map_sk_state_allowed(const Sock& sk) {
  if (sk.is_tcp()) return sk.sk_state == TCP_ESTABLISHED || sk.sk_state == TCP_LISTEN;
  if (sk.is_udp()) return sk.hashed();
  return sk.sk_type != SOCK_STREAM_ || sk.sk_state == TCP_ESTABLISHED;
}

Result<void> check_slot(const Sock* old, uint64_t flags) {
  if (old && flags == BPF_NOEXIST) return refuse(Errno::Exist, "the key has a socket");
  if (!old && flags == BPF_EXIST) return refuse(Errno::NoEnt, "the key has no socket");
  return {};
}

Result<void*> cookie_of(const Map& map, Sock* sk) {
  const Version version = map.machine.version;
  if (!has(Gate::sockmap_cookie, version))
    return refuse(has(Gate::lookup_says_why, version) ? Errno::OpNotSupp : Errno::NoEnt,
                  "before {} user space cannot read a socket back", since(Gate::sockmap_cookie));
  if (map.value_size != sizeof(uint64_t))
    return refuse(Errno::NoSpc, "a cookie has 8 bytes, a value here {}", map.value_size);
  if (!sk) return refuse(Errno::NoEnt, "the key has no socket");
  sock_gen_cookie(*sk);
  return &sk->sk_cookie;
}

// The handle, in the form of a host pointer, as bpf_map_lookup_elem expects it.
Result<void*> sock_for_program(const Map& map, Sock* sk) {
  if (!sk) return refuse(Errno::NoEnt, "the key has no socket");
  if (sk_is_refcounted(*sk)) sock_hold(*sk, {"looked up in map {} by a program", map.id});
  return static_cast<void*>(map.machine.arena.host(sk->handle));
}

Result<void> sock_map_update_elem(Map&, const void*, const void*, uint64_t) {
  return refuse(Errno::OpNotSupp, "not modelled yet: programs that put sockets into maps");
}

void release_progs(Map& map) {
  psock_progs_drop(static_cast<SockMap&>(map).progs, {"the last descriptor of map {} is gone", map.id});
}

// ---- The array

Result<void> build_stab(BpfStab& stab, const bpf_attr& attr) {
  TRY(bpf_map_charge_init(stab.machine, uint64_t(attr.max_entries) * sizeof(Sock*)));
  stab.sks = TRY(stab.machine.arena.alloc(uint64_t(attr.max_entries) * sizeof(Sock*), "sockmap slots"));
  return {};
}

Result<Map*> sock_map_alloc(Machine& machine, const bpf_attr& attr) {
  TRY(check_value_and_flags(machine, attr));
  if (attr.max_entries > INT32_MAX)
    return refuse(Errno::Inval, "max_entries {} is too many", attr.max_entries);
  if (attr.key_size != 4) return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  return new_map<BpfStab>(machine, attr, build_stab);
}

void BpfStab::remove(void* link_raw) {
  Sock** at = static_cast<Sock**>(link_raw);
  if (Sock* sk = std::exchange(*at, nullptr)) sock_map_unref(*sk, at);
}

void sock_map_free(Map& map) {
  BpfStab& stab = stab_of(map);
  for (uint32_t index = 0; index < map.max_entries; ++index) stab.remove(&stab.slot(index));
  psock_progs_drop(stab.progs, {"map {} is freed", map.id});
  delete &stab;
}

void sock_map_release_progs(Map& map) { release_progs(map); }

Result<void*> sock_map_lookup(Map& map, const void* key) {
  const uint32_t index = key_as<uint32_t>(key);
  return sock_for_program(map, index < map.max_entries ? stab_of(map).slot(index) : nullptr);
}

Result<void*> sock_map_lookup_sys(Map& map, const void* key) {
  const uint32_t index = key_as<uint32_t>(key);
  return cookie_of(map, index < map.max_entries ? stab_of(map).slot(index) : nullptr);
}

Result<void> sock_map_delete_elem(Map& map, const void* key) {
  const uint32_t index = key_as<uint32_t>(key);
  if (index >= map.max_entries)
    return refuse(Errno::Inval, "index {} is not below max_entries {}", index, map.max_entries);
  if (!stab_of(map).slot(index)) return refuse(Errno::Inval, "slot {} is empty", index);
  stab_of(map).remove(&stab_of(map).slot(index));
  return {};
}

Result<void> sock_map_get_next_key(Map& map, const void* key, void* next_key) {
  const uint32_t index = key ? key_as<uint32_t>(key) : UINT32_MAX;
  if (index == map.max_entries - 1) return refuse(Errno::NoEnt, "{} was the last index", index);
  const uint32_t next = index >= map.max_entries ? 0 : index + 1;
  std::memcpy(next_key, &next, sizeof next);
  return {};
}

Result<void> sock_map_update_common(Map& map, uint32_t index, Sock& sk, uint64_t flags) {
  BpfStab& stab = stab_of(map);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  TRY(sock_map_link(stab, sk));
  Sock*& slot = stab.slot(index);
  if (Result<void> may = check_slot(slot, flags); !may) {
    drop_if_unused(sk, *sk_psock(sk));
    return may;
  }
  sock_map_add_link(sk, stab, &slot);
  if (Sock* old = std::exchange(slot, &sk)) sock_map_unref(*old, &slot);
  return {};
}

uint64_t sock_map_mem_usage(const Map& map) {
  return kSizeofBpfStab + uint64_t(map.max_entries) * sizeof(uint64_t);
}

void sock_map_each_held(const Map& map, const HoldVisitor& visit) {
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (const Sock* sk = stab_of(map).slot(index))
      visit({sk, Counter::Refs, true, "slot " + std::to_string(index)});
  each_prog(stab_of(map).progs, visit);
}

// ---- The hash

Result<void> build_shtab(BpfShtab& htab, const bpf_attr& attr) {
  constexpr uint64_t most = UINT32_MAX / kSizeofBucket;
  if (attr.max_entries > most) return refuse(Errno::Inval, "max_entries {} is too many", attr.max_entries);
  const uint64_t buckets = std::bit_ceil(attr.max_entries);
  if (buckets > most) return refuse(Errno::Inval, "{} buckets need 4 GiB or more", buckets);
  if (buckets * sizeof(htab.buckets[0]) > htab.machine.arena.reserve())
    return refuse(Errno::NoMem, "{} buckets are more than this machine has room for", buckets);
  htab.buckets.resize(buckets);
  return {};
}

Result<Map*> sock_hash_alloc(Machine& machine, const bpf_attr& attr) {
  TRY(check_value_and_flags(machine, attr));
  if (attr.key_size == 0) return refuse(Errno::Inval, "key_size must not be 0");
  if (attr.key_size > kMaxKeySize)
    return refuse(Errno::TooBig, "key_size {} is above {}", attr.key_size, kMaxKeySize);
  return new_map<BpfShtab>(machine, attr, build_shtab);
}

ShtabElem* sock_hash_lookup_elem_raw(const BpfShtab& htab, const void* key) {
  const uint32_t hash = jhash(key, htab.key_size, 0);
  for (ShtabElem* elem : htab.buckets[htab.bucket_of(hash)])
    if (elem->hash == hash && std::memcmp(elem->key.data(), key, htab.key_size) == 0) return elem;
  return nullptr;
}

void BpfShtab::remove(void* link_raw) {
  ShtabElem* elem = static_cast<ShtabElem*>(link_raw);
  std::erase(buckets[bucket_of(elem->hash)], elem);
  --count;
  sock_map_unref(*elem->sk, elem);
  delete elem;
}

void sock_hash_free(Map& map) {
  BpfShtab& htab = shtab_of(map);
  for (auto& bucket : htab.buckets)
    while (!bucket.empty()) htab.remove(bucket.front());
  psock_progs_drop(htab.progs, {"map {} is freed", map.id});
  delete &htab;
}

void sock_hash_release_progs(Map& map) { release_progs(map); }

Result<void*> sock_hash_lookup(Map& map, const void* key) {
  const ShtabElem* elem = sock_hash_lookup_elem_raw(shtab_of(map), key);
  return sock_for_program(map, elem ? elem->sk : nullptr);
}

Result<void*> sock_hash_lookup_sys(Map& map, const void* key) {
  const ShtabElem* elem = sock_hash_lookup_elem_raw(shtab_of(map), key);
  return cookie_of(map, elem ? elem->sk : nullptr);
}

Result<void> sock_hash_delete_elem(Map& map, const void* key) {
  ShtabElem* elem = sock_hash_lookup_elem_raw(shtab_of(map), key);
  if (!elem) return refuse(Errno::NoEnt, "no element has this key");
  shtab_of(map).remove(elem);
  return {};
}

Result<void> sock_hash_update_common(Map& map, const void* key, Sock& sk, uint64_t flags) {
  BpfShtab& htab = shtab_of(map);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  TRY(sock_map_link(htab, sk));
  ShtabElem* old = sock_hash_lookup_elem_raw(htab, key);
  Result<void> may = check_slot(old ? old->sk : nullptr, flags);
  if (may && !old && htab.count >= htab.max_entries)
    may = refuse(Errno::TooBig, "all {} elements are taken", htab.max_entries);
  if (!may) {
    drop_if_unused(sk, *sk_psock(sk));
    return may;
  }
  auto* fresh = new ShtabElem{jhash(key, htab.key_size, 0), &sk, bytes_of(key, htab.key_size)};
  sock_map_add_link(sk, htab, fresh);
  auto& bucket = htab.buckets[htab.bucket_of(fresh->hash)];
  bucket.insert(bucket.begin(), fresh);
  ++htab.count;
  if (old) htab.remove(old);
  return {};
}

Result<void> sock_hash_get_next_key(Map& map, const void* key, void* next_key) {
  const BpfShtab& htab = shtab_of(map);
  const ShtabElem* elem = key ? sock_hash_lookup_elem_raw(htab, key) : nullptr;
  size_t bucket = 0;
  if (elem) {
    const auto& chain = htab.buckets[bucket = htab.bucket_of(elem->hash)];
    const auto next = std::find(chain.begin(), chain.end(), elem) + 1;
    elem = next == chain.end() ? nullptr : *next;
    ++bucket;
  }
  for (; !elem && bucket < htab.buckets.size(); ++bucket)
    if (!htab.buckets[bucket].empty()) elem = htab.buckets[bucket].front();
  if (!elem) return refuse(Errno::NoEnt, "that was the last key");
  std::memcpy(next_key, elem->key.data(), htab.key_size);
  return {};
}

uint64_t sock_hash_mem_usage(const Map& map) {
  const BpfShtab& htab = shtab_of(map);
  return kSizeofBpfShtab + htab.buckets.size() * kSizeofBucket +
         htab.count * (kSizeofShtabElem + round_up(map.key_size, 8));
}

void sock_hash_each_held(const Map& map, const HoldVisitor& visit) {
  for (const auto& bucket : shtab_of(map).buckets)
    for (const ShtabElem* elem : bucket) visit({elem->sk, Counter::Refs, true, "element"});
  each_prog(shtab_of(map).progs, visit);
}

}  // namespace

Result<void> sock_map_update_elem_sys(Map& map, const void* key, const void* value, uint64_t flags) {
  KFN(map.machine, sock_map_update_elem_sys);
  uint64_t fd = 0;
  std::memcpy(&fd, value, map.value_size);
  if (fd > INT32_MAX && has(Gate::sockmap_cookie, map.machine.version))
    return refuse(Errno::Inval, "{} is no descriptor", fd);
  Sock& sk = *TRY(sockfd_lookup(map.machine, int(fd)));
  if (!sock_map_sk_is_suitable(sk) || came_later(sk))
    return refuse(Errno::OpNotSupp, "no map takes a {}", sk.label());
  if (!sock_map_sk_state_allowed(sk))
    return refuse(Errno::OpNotSupp, "{} is neither connected nor listening nor bound", sk.label());
  if (map.map_type == BPF_MAP_TYPE_SOCKMAP)
    return sock_map_update_common(map, key_as<uint32_t>(key), sk, flags);
  return sock_hash_update_common(map, key, sk, flags);
}

bool sock_map_seq_find_next(const Map& map, uint64_t& bucket, uint32_t& within, SockMapElem& elem) {
  if (map.map_type == BPF_MAP_TYPE_SOCKMAP) {
    if (std::exchange(within, 0)) ++bucket;
    if (bucket >= map.max_entries) return false;
    const uint32_t index = uint32_t(bucket);
    elem = {bytes_of(&index, sizeof index), stab_of(map).slot(index)};
    return true;
  }
  const auto& buckets = shtab_of(map).buckets;
  for (; bucket < buckets.size(); ++bucket, within = 0) {
    if (within >= buckets[bucket].size()) continue;
    const ShtabElem& found = *buckets[bucket][within];
    elem = {found.key, found.sk};
    return true;
  }
  return false;
}

FdArrayView sock_map_view(const Map& map) {
  FdArrayView view{map.max_entries, {}};
  if (map.map_type == BPF_MAP_TYPE_SOCKMAP) {
    for (uint32_t index = 0; index < map.max_entries; ++index)
      if (const Sock* sk = stab_of(map).slot(index))
        view.slots.push_back({bytes_of(&index, sizeof index), sk});
  } else {
    for (const auto& bucket : shtab_of(map).buckets)
      for (const ShtabElem* elem : bucket) view.slots.push_back({elem->key, elem->sk});
  }
  return view;
}

const MapOps sock_map_ops = {
    .map_alloc = OP(sock_map_alloc),
    .map_free = OP(sock_map_free),
    .map_get_next_key = OP(sock_map_get_next_key),
    .map_release_uref = OP(sock_map_release_progs),
    .map_lookup_elem_sys_only = OP(sock_map_lookup_sys),
    .map_lookup_elem = OP(sock_map_lookup),
    .map_update_elem = OP(sock_map_update_elem),
    .map_delete_elem = OP(sock_map_delete_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(sock_map_mem_usage),
    .each_held = OP(sock_map_each_held),
};

const MapOps sock_hash_ops = {
    .map_alloc = OP(sock_hash_alloc),
    .map_free = OP(sock_hash_free),
    .map_get_next_key = OP(sock_hash_get_next_key),
    .map_release_uref = OP(sock_hash_release_progs),
    .map_lookup_elem_sys_only = OP(sock_hash_lookup_sys),
    .map_lookup_elem = OP(sock_hash_lookup),
    .map_update_elem = OP(sock_map_update_elem),
    .map_delete_elem = OP(sock_hash_delete_elem),
    .map_check_btf = OP(map_check_no_btf),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(sock_hash_mem_usage),
    .each_held = OP(sock_hash_each_held),
};

}  // namespace bpfsim
