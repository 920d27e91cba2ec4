// Models: net/xdp/xskmap.c (Linux 6.18)
//
// AF_XDP sockets by queue, for XDP_REDIRECT. User space gives a descriptor and reads nothing back. The map
// does not hold the socket: the socket holds the map, once for each slot it stands in, and leaves the slots
// when it is closed. So a map of an open socket outlives its last descriptor. Not modelled yet: a socket that
// receives (its rings, binding to a queue), so a redirected packet is dropped; and lookups from programs.
#include "host/socket.h"
#include "map/arraymap.h"
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"
#include "map/xdp_redirect.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint64_t kSizeofXskMap = 304;

struct XskMap final : Map {
  using Map::Map;
  ~XskMap() override { machine.arena.free(slots); }
  Sock*& slot(uint32_t index) const { return reinterpret_cast<Sock**>(slots.host)[index]; }
  Span slots;
};

XskMap& xsk_map(Map& map) { return static_cast<XskMap&>(map); }
const XskMap& xsk_map(const Map& map) { return static_cast<const XskMap&>(map); }

// The socket's list of slots that it stands in (xdp_sock.map_list).
struct XskMapList final : SkUserData {
  struct Node {
    XskMap* map;
    uint32_t index;
  };
  std::vector<Node> nodes;

  void sk_close(Sock& sk) override {
    KFN(sk.machine, xsk_delete_from_maps);
    for (const Node& node : std::exchange(nodes, {})) {
      node.map->slot(node.index) = nullptr;
      bpf_map_put(*node.map, {"AF_XDP sock {} leaves slot {}", sk.id, node.index});
    }
    sk.sk_user_data = nullptr;
    delete this;
  }
  void each_held(const HoldVisitor& visit) const override {
    for (const Node& node : nodes)
      visit({node.map, Counter::Refs, true, "map_list slot " + std::to_string(node.index)});
  }
};

Result<void> build(XskMap& map, const bpf_attr& attr) {
  TRY(bpf_map_charge_init(map.machine, uint64_t(attr.max_entries) * sizeof(Sock*)));
  map.slots = TRY(map.machine.arena.alloc(uint64_t(attr.max_entries) * sizeof(Sock*), "xskmap slots"));
  return {};
}

Result<Map*> xsk_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries must not be 0");
  if (attr.key_size != 4) return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.value_size != 4) return refuse(Errno::Inval, "value_size must be 4, is {}", attr.value_size);
  if (uint32_t extra = attr.map_flags & ~uint32_t(BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY))
    return refuse(Errno::Inval, "map_flags {} are not for a map of AF_XDP sockets", extra);
  return new_map<XskMap>(machine, attr, build);
}

// No socket is left in it: each would hold the map.
void xsk_map_free(Map& map) { delete &xsk_map(map); }

Result<void> xsk_map_get_next_key(Map& map, const void* key, void* next_key) {
  return array_map_get_next_key(map, key, next_key);
}

Result<void*> xsk_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::OpNotSupp, "not modelled yet: AF_XDP sockets in programs");
}

Result<void*> xsk_map_lookup_elem_sys_only(Map& map, const void*) {
  return refuse(has(Gate::lookup_says_why, map.machine.version) ? Errno::OpNotSupp : Errno::NoEnt,
                "user space cannot read a socket back");
}

void xsk_map_sock_add(Sock& sk, XskMap& map, uint32_t index) {
  if (!sk.sk_user_data) sk.sk_user_data = new XskMapList;
  bpf_map_inc(map, {"slot {} has AF_XDP sock {}", index, sk.id});
  static_cast<XskMapList*>(sk.sk_user_data)->nodes.push_back({&map, index});
}

void xsk_map_sock_delete(Sock& sk, XskMap& map, uint32_t index) {
  std::erase_if(static_cast<XskMapList*>(sk.sk_user_data)->nodes,
                [&](const auto& node) { return node.map == &map && node.index == index; });
  bpf_map_put(map, {"slot {} has AF_XDP sock {} no more", index, sk.id});
}

Result<void> xsk_map_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  const uint32_t index = key_as<uint32_t>(key);
  if (flags > BPF_EXIST) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (index >= map.max_entries)
    return refuse(Errno::TooBig, "index {} is not below max_entries {}", index, map.max_entries);
  Sock& sk = *TRY(sockfd_lookup(map.machine, int(key_as<uint32_t>(value))));
  if (sk.sk_family != AF_XDP_)
    return refuse(Errno::OpNotSupp, "the socket is of family {}, not AF_XDP", sk.sk_family);
  Sock* old = xsk_map(map).slot(index);
  if (old == &sk) return {};
  if (old && flags == BPF_NOEXIST) return refuse(Errno::Exist, "slot {} has a socket", index);
  if (!old && flags == BPF_EXIST) return refuse(Errno::NoEnt, "slot {} is empty", index);
  xsk_map_sock_add(sk, xsk_map(map), index);
  xsk_map(map).slot(index) = &sk;
  if (old) xsk_map_sock_delete(*old, xsk_map(map), index);
  return {};
}

Result<void> xsk_map_delete_elem(Map& map, const void* key) {
  const uint32_t index = key_as<uint32_t>(key);
  if (index >= map.max_entries)
    return refuse(Errno::Inval, "index {} is not below max_entries {}", index, map.max_entries);
  if (Sock* old = std::exchange(xsk_map(map).slot(index), nullptr))
    xsk_map_sock_delete(*old, xsk_map(map), index);
  return {};
}

uint64_t xsk_map_redirect(Map& map, uint64_t index, uint64_t flags) {
  return __bpf_xdp_redirect_map(map, index, flags, 0, [&](uint32_t key) {
    return key < map.max_entries ? xsk_map(map).slot(key) : nullptr;
  });
}

bool xsk_map_meta_equal(const Map& meta, const Map& inner) {
  return meta.max_entries == inner.max_entries && bpf_map_meta_equal(meta, inner);
}

uint64_t xsk_map_mem_usage(const Map& map) {
  return kSizeofXskMap + uint64_t(map.max_entries) * sizeof(uint64_t);
}

void xsk_map_each_held(const Map& map, const HoldVisitor& visit) {
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (const Sock* sk = xsk_map(map).slot(index))
      visit({sk, Counter::Refs, false, "slot " + std::to_string(index)});
}

}  // namespace

FdArrayView xsk_map_view(const Map& map) {
  FdArrayView view{map.max_entries, {}};
  for (uint32_t index = 0; index < map.max_entries; ++index)
    if (const Sock* sk = xsk_map(map).slot(index)) view.slots.push_back({bytes_of(&index, sizeof index), sk});
  return view;
}

const MapOps xsk_map_ops = {
    .map_alloc = OP(xsk_map_alloc),
    .map_free = OP(xsk_map_free),
    .map_get_next_key = OP(xsk_map_get_next_key),
    .map_lookup_elem_sys_only = OP(xsk_map_lookup_elem_sys_only),
    .map_lookup_elem = OP(xsk_map_lookup_elem),
    .map_update_elem = OP(xsk_map_update_elem),
    .map_delete_elem = OP(xsk_map_delete_elem),
    .map_gen_lookup = OP_LATER(xsk_map_gen_lookup),
    .map_check_btf = OP(map_check_no_btf),
    .map_redirect = OP(xsk_map_redirect),
    .map_meta_equal = OP(xsk_map_meta_equal),
    .map_mem_usage = OP(xsk_map_mem_usage),
    .each_held = OP(xsk_map_each_held),
};

}  // namespace bpfsim
