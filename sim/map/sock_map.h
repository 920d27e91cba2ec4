// Models: net/core/sock_map.c, include/linux/skmsg.h (Linux 6.18)
//
// What bpf(2) calls by the map's type instead of through its table: maps of sockets take a descriptor from
// user space. And the programs that hang on such a map, by BPF_PROG_ATTACH with the map as target.
#pragma once

#include "object/ops.h"

namespace bpfsim {

struct Sock;

Result<void> sock_map_update_elem_sys(Map& map, const void* key, const void* value, uint64_t flags);

// BPF_PROG_ATTACH; the map takes over the caller's reference of the program when this succeeds.
Result<void> sock_map_get_from_fd(Machine& machine, const bpf_attr& attr, Prog& prog);
// BPF_PROG_DETACH of the program behind attach_bpf_fd, which must have that type.
Result<void> sock_map_prog_detach(Machine& machine, const bpf_attr& attr, bpf_prog_type ptype);
// BPF_LINK_CREATE: the link holds the map, and the map the program once more.
Result<Link*> sock_map_link_create(Prog& prog, const bpf_attr& attr);
// BPF_PROG_QUERY: such a map has at most one program for each attach type.
Result<void> sock_map_bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr);

// For iterators: the element at this place of a bucket or, when it has no more, the first of the next bucket
// that has any. A slot of an array is a bucket of one, whose socket may be null. False: no more.
struct SockMapElem {
  std::vector<uint8_t> key;
  const Sock* sk = nullptr;
};
bool sock_map_seq_find_next(const Map& map, uint64_t& bucket, uint32_t& within, SockMapElem& elem);

}  // namespace bpfsim
