// Models: kernel/bpf/map_iter.c, hashtab.c and arraymap.c (their iterators), net/core/sock_map.c,
// net/core/bpf_sk_storage.c (sock_map_iter_reg, bpf_sk_storage_map_reg_info) (Linux 6.18)
//
// Iterators over what is in one map, which the link names by a descriptor and holds: elements of hashes and
// arrays, sockets of a SOCKMAP or SOCKHASH, values that a map keeps for sockets. The verifier has noted how
// far a program reaches into keys and values; a map where they are shorter is refused here. Departs from the
// kernel: a hash's iteration goes on behind the key that was shown last and not at a place in its bucket.
#include <algorithm>
#include <cstring>

#include "base/align.h"
#include "hook/iter_seq.h"
#include "host/socket.h"
#include "map/bpf_local_storage.h"
#include "map/sock_map.h"
#include "object/file.h"
#include "object/ops.h"

namespace bpfsim {

namespace {

using RawBytes = std::vector<uint8_t>;

bool has_percpu_values(const Map& map) {
  return map.map_type == BPF_MAP_TYPE_PERCPU_HASH || map.map_type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
         map.map_type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

bool has_elements(const Map& map) {
  return has_percpu_values(map) || map.map_type == BPF_MAP_TYPE_HASH ||
         map.map_type == BPF_MAP_TYPE_LRU_HASH || map.map_type == BPF_MAP_TYPE_ARRAY;
}

Result<Map*> map_of_info(const Prog& prog, const IterLinkInfo& info) {
  const int fd = int(info.words[0]);
  if (!fd) return refuse(Errno::BadF, "iter_info names no map");
  return __bpf_map_get(prog.machine, fd);
}

// The map of a link, with a uref, if the program does not reach further than keys and values do.
Result<void> take_map(Map& map, const Prog& prog, uint32_t key_size, uint32_t value_size, IterAux& aux) {
  if (prog.aux->max_rdonly_access > key_size || prog.aux->max_rdwr_access > value_size)
    return refuse(Errno::Access,
                  "the program touches {} bytes of a key and {} of a value: more than there are",
                  prog.aux->max_rdonly_access, prog.aux->max_rdwr_access);
  bpf_map_inc_with_uref(map, {"iterated by a link of task {}", prog.machine.current->pid});
  aux.map = &map;
  return {};
}

std::string bpf_iter_map_show_fdinfo(const IterAux& aux) {
  return "map_id:\t" + std::to_string(aux.map->id) + "\n";
}

void bpf_iter_map_fill_link_info(const IterAux& aux, bpf_link_info& info) {
  info.iter.map.map_id = aux.map->id;
}

// ---- Elements of hashes and arrays

Result<void> bpf_iter_attach_map(Prog& prog, const IterLinkInfo& info, IterAux& aux) {
  KFN(prog.machine, bpf_iter_attach_map);
  Map& map = *TRY(map_of_info(prog, info));
  if (!has_elements(map))
    return refuse(Errno::Inval, "elements of map type {} are not iterated", map.map_type);
  const uint32_t percpu = bpf_map_value_size(map);
  return take_map(map, prog, map.key_size, has_percpu_values(map) ? percpu : map.value_size, aux);
}

// All CPUs' values in a row, as the program sees them; what it writes there is lost, as in the kernel.
Errno show_percpu_values(IterSeq& seq, Addr key) {
  Map& map = *seq.aux.map;
  const uint32_t cpus = map.machine.cpus, each = uint32_t(round_up(map.value_size, 8));
  auto all = map.machine.arena.alloc(each * cpus, "an iterator's values");
  if (!all) return Errno::NoMem;
  std::memset(all->host, 0, all->size);
  for (uint32_t cpu = 0; cpu < cpus; ++cpu)
    if (auto value = MAP_OP(map, map_lookup_percpu_elem, map, seq.at.key.data(), cpu); value && *value)
      std::memcpy(all->host + cpu * each, *value, map.value_size);
  const Errno said = bpf_iter_run_prog(seq, key, all->addr);
  map.machine.arena.free(*all);
  return said;
}

Errno show_element(IterSeq& seq, Addr key) {
  Map& map = *seq.aux.map;
  if (has_percpu_values(map)) return show_percpu_values(seq, key);
  auto value = MAP_OP(map, map_lookup_elem, map, seq.at.key.data());
  if (!value || !*value) return Errno::None;
  return bpf_iter_run_prog(seq, key, map.machine.arena.addr(static_cast<const uint8_t*>(*value)));
}

// Runs `show` with the address of a copy of the key.
template <class Show>
Errno with_key(Machine& machine, const RawBytes& bytes, Show show) {
  auto key = machine.arena.alloc(bytes.size(), "an iterator's key");
  if (!key) return Errno::NoMem;
  std::memcpy(key->host, bytes.data(), bytes.size());
  const Errno said = show(key->addr);
  machine.arena.free(*key);
  return said;
}

Result<bool> bpf_map_elem_seq_show(IterSeq& seq, Errno& said) {
  Map& map = *seq.aux.map;
  RawBytes next(map.key_size);
  const void* from = seq.at.key.empty() ? nullptr : seq.at.key.data();
  if (!MAP_OP(map, map_get_next_key, map, from, next.data())) return false;
  seq.at.key = std::move(next);
  said = with_key(map.machine, seq.at.key, [&](Addr key) { return show_element(seq, key); });
  return true;
}

// ---- Sockets of a map

Result<void> sock_map_iter_attach_target(Prog& prog, const IterLinkInfo& info, IterAux& aux) {
  KFN(prog.machine, sock_map_iter_attach_target);
  Map& map = *TRY(map_of_info(prog, info));
  if (map.map_type != BPF_MAP_TYPE_SOCKMAP && map.map_type != BPF_MAP_TYPE_SOCKHASH)
    return refuse(Errno::Inval, "map type {} holds no sockets", map.map_type);
  return take_map(map, prog, map.key_size, UINT32_MAX, aux);
}

// Of an array each slot is shown, also an empty one. Of a hash, a new read begins the bucket of
// the next element again, also if the last one has shown elements of it.
Result<bool> sock_map_seq_show(IterSeq& seq, Errno& said) {
  SockMapElem elem;
  if (!sock_map_seq_find_next(*seq.aux.map, seq.at.number, seq.at.within, elem)) return false;
  if (seq.new_read && std::exchange(seq.at.within, 0))
    sock_map_seq_find_next(*seq.aux.map, seq.at.number, seq.at.within, elem);
  ++seq.at.within;
  Images images;
  const Addr sk = elem.sk ? show_sock(images, *elem.sk) : 0;
  said = with_key(seq.machine, elem.key, [&](Addr key) { return bpf_iter_run_prog(seq, key, sk); });
  return true;
}

// ---- Values of sockets

Result<void> bpf_iter_attach_sk_storage_map(Prog& prog, const IterLinkInfo& info, IterAux& aux) {
  KFN(prog.machine, bpf_iter_attach_map);
  Map& map = *TRY(map_of_info(prog, info));
  if (map.map_type != BPF_MAP_TYPE_SK_STORAGE)
    return refuse(Errno::Inval, "map type {} keeps nothing for sockets", map.map_type);
  return take_map(map, prog, UINT32_MAX, map.value_size, aux);
}

Result<bool> bpf_sk_storage_map_seq_show(IterSeq& seq, Errno& said) {
  const BpfLocalStorageElem* selem =
      bpf_sk_storage_map_seq_find_next(*seq.aux.map, seq.at.number, seq.at.within);
  if (!selem) return false;
  ++seq.at.within;
  Images images;
  const Addr sk = show_sock(images, static_cast<const Sock&>(*selem->local_storage->owner));
  said = bpf_iter_run_prog(seq, sk, seq.machine.arena.addr(selem->data()));
  return true;
}

}  // namespace

const IterOps bpf_map_elem_iter = {.attach_target = bpf_iter_attach_map,
                                   .show_fdinfo = bpf_iter_map_show_fdinfo,
                                   .fill_link_info = bpf_iter_map_fill_link_info,
                                   .show_next = bpf_map_elem_seq_show};
const IterOps sockmap_iter = {.attach_target = sock_map_iter_attach_target,
                              .show_fdinfo = bpf_iter_map_show_fdinfo,
                              .fill_link_info = bpf_iter_map_fill_link_info,
                              .show_next = sock_map_seq_show};
const IterOps sk_storage_map_iter = {.attach_target = bpf_iter_attach_sk_storage_map,
                                     .show_fdinfo = bpf_iter_map_show_fdinfo,
                                     .fill_link_info = bpf_iter_map_fill_link_info,
                                     .show_next = bpf_sk_storage_map_seq_show};

}  // namespace bpfsim
