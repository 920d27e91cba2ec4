// Models: kernel/bpf/reuseport_array.c (Linux 6.18)
//
// Sockets of a SO_REUSEPORT group, for a program that picks one of them. Neither holds the other: the socket
// knows its slot (sk_user_data) and empties it when it is closed; a map that is freed tells its sockets. A
// socket stands in one slot at most.
#include "map/reuseport_array.h"

#include "host/socket.h"
#include "map/arraymap.h"
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"

namespace bpfsim {

namespace {

constexpr uint64_t kSizeofReuseportArray = 296;

struct ReuseportArray final : Map {
  using Map::Map;
  ~ReuseportArray() override { machine.arena.free(ptrs); }
  Sock*& slot(uint32_t index) const { return reinterpret_cast<Sock**>(ptrs.host)[index]; }
  Span ptrs;
};

ReuseportArray& reuseport_array(Map& map) { return static_cast<ReuseportArray&>(map); }
const ReuseportArray& reuseport_array(const Map& map) { return static_cast<const ReuseportArray&>(map); }

// The socket's way back to its slot.
struct SlotOfSock final : SkUserData {
  explicit SlotOfSock(Sock*& slot) : slot(&slot) {}
  Sock** slot;
  void sk_close(Sock& sk) override {
    KFN(sk.machine, bpf_sk_reuseport_detach);
    *slot = nullptr;
    sk.sk_user_data = nullptr;
    delete this;
  }
};

void clear(Sock*& slot) {
  if (slot) slot->sk_user_data->sk_close(*slot);
}

Result<void> reuseport_array_alloc_check(Machine& machine, const bpf_attr& attr) {
  if (attr.value_size != 4 && attr.value_size != 8)
    return refuse(Errno::Inval, "value_size must be 4 (a descriptor) or 8 (a cookie comes out), is {}",
                  attr.value_size);
  return array_map_alloc_check(machine, attr);
}

Result<void> build(ReuseportArray& array, const bpf_attr& attr) {
  TRY(bpf_map_charge_init(array.machine, uint64_t(attr.max_entries) * sizeof(Sock*)));
  array.ptrs =
      TRY(array.machine.arena.alloc(uint64_t(attr.max_entries) * sizeof(Sock*), "reuseport_array slots"));
  return {};
}

Result<Map*> reuseport_array_alloc(Machine& machine, const bpf_attr& attr) {
  return new_map<ReuseportArray>(machine, attr, build);
}

void reuseport_array_free(Map& map) {
  for (uint32_t index = 0; index < map.max_entries; ++index) clear(reuseport_array(map).slot(index));
  delete &reuseport_array(map);
}

Result<void*> reuseport_array_lookup_elem(Map&, const void*) {
  return refuse(Errno::OpNotSupp, "not modelled yet: sockets in programs");
}

Result<void> reuseport_array_delete_elem(Map& map, const void* key) {
  const uint32_t index = key_as<uint32_t>(key);
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  if (!reuseport_array(map).slot(index)) return refuse(Errno::NoEnt, "slot {} is empty", index);
  clear(reuseport_array(map).slot(index));
  return {};
}

Result<void> reuseport_array_get_next_key(Map& map, const void* key, void* next_key) {
  return array_map_get_next_key(map, key, next_key);
}

Result<void> reuseport_array_update_check(const Sock& nsk, const Sock* osk, uint64_t flags) {
  if (osk && flags == BPF_NOEXIST) return refuse(Errno::Exist, "the slot has a socket");
  if (!osk && flags == BPF_EXIST) return refuse(Errno::NoEnt, "the slot is empty");
  if (!nsk.is_tcp() && !nsk.is_udp()) return refuse(Errno::NotSupp, "{} is neither TCP nor UDP", nsk.label());
  if (!nsk.hashed() || !nsk.sk_reuseport_cb)
    return refuse(Errno::Inval, "{} neither listens nor is bound with SO_REUSEPORT", nsk.label());
  if (nsk.sk_user_data) return refuse(Errno::Busy, "{} is in a map already", nsk.label());
  return {};
}

uint64_t reuseport_array_mem_usage(const Map& map) {
  return kSizeofReuseportArray + uint64_t(map.max_entries) * sizeof(uint64_t);
}

void reuseport_array_each_held(const Map& map, const HoldVisitor& visit) {
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (const Sock* sk = reuseport_array(map).slot(index))
      visit({sk, Counter::Refs, false, "slot " + std::to_string(index)});
}

}  // namespace

Result<void> bpf_fd_reuseport_array_lookup_elem(Map& map, const void* key, void* value) {
  if (map.value_size != sizeof(uint64_t))
    return refuse(Errno::NoSpc, "a cookie has 8 bytes, a value here {}", map.value_size);
  const uint32_t index = key_as<uint32_t>(key);
  Sock* sk = index < map.max_entries ? reuseport_array(map).slot(index) : nullptr;
  if (!sk) return refuse(Errno::NoEnt, "slot {} is empty", index);
  const uint64_t cookie = sock_gen_cookie(*sk);
  std::memcpy(value, &cookie, sizeof cookie);
  return {};
}

Result<void> bpf_fd_reuseport_array_update_elem(Map& map, const void* key, const void* value,
                                                uint64_t flags) {
  const uint32_t index = key_as<uint32_t>(key);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  uint64_t fd = 0;
  std::memcpy(&fd, value, map.value_size);
  if (map.value_size == sizeof(uint64_t) && fd > INT32_MAX)
    return refuse(Errno::Inval, "{} is no descriptor", fd);
  Sock& sk = *TRY(sockfd_lookup(map.machine, int(uint32_t(fd))));
  Sock*& slot = reuseport_array(map).slot(index);
  TRY(reuseport_array_update_check(sk, slot, flags));
  clear(slot);
  slot = &sk;
  sk.sk_user_data = new SlotOfSock(slot);
  return {};
}

FdArrayView reuseport_array_view(const Map& map) {
  FdArrayView view{map.max_entries, {}};
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (const Sock* sk = reuseport_array(map).slot(index))
      view.slots.push_back({bytes_of(&index, sizeof index), sk});
  return view;
}

const MapOps reuseport_array_ops = {
    .map_alloc_check = OP(reuseport_array_alloc_check),
    .map_alloc = OP(reuseport_array_alloc),
    .map_free = OP(reuseport_array_free),
    .map_get_next_key = OP(reuseport_array_get_next_key),
    .map_lookup_elem = OP(reuseport_array_lookup_elem),
    .map_delete_elem = OP(reuseport_array_delete_elem),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(reuseport_array_mem_usage),
    .each_held = OP(reuseport_array_each_held),
};

}  // namespace bpfsim
