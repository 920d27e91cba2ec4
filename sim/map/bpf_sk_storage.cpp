// Models: net/core/bpf_sk_storage.c (Linux 6.18)
//
// Local storage of sockets. User space names the socket by its descriptor; its values are charged to the
// socket, as much as net.core.optmem_max allows, and go when the socket's memory does. A connection that a
// listener accepts gets a copy of the listener's values from maps with BPF_F_CLONE. Not modelled yet:
// bpf_sk_storage_get and bpf_sk_storage_delete, and sock_diag, which shows the values.
#include "host/socket.h"
#include "map/bpf_local_storage.h"
#include "map/map_in_map.h"
#include "map/map_types.h"

namespace bpfsim {

namespace {

constexpr uint32_t kOptmemMax = 128 << 10;  // net.core.optmem_max

Sock& sock_of(Object& owner) { return static_cast<Sock&>(owner); }

BpfLocalStorage** bpf_sk_storage_ptr(Object& owner) { return &sock_of(owner).sk_bpf_storage; }

Result<void> bpf_sk_storage_charge(Object& owner, uint32_t size) {
  Sock& sk = sock_of(owner);
  if (sk.sk_omem_alloc + size >= kOptmemMax)
    return refuse(Errno::NoMem, "the socket has {} of {} bytes, {} more are too many", sk.sk_omem_alloc,
                  kOptmemMax, size);
  sk.sk_omem_alloc += size;
  return {};
}

void bpf_sk_storage_uncharge(Object& owner, uint32_t size) { sock_of(owner).sk_omem_alloc -= size; }

Result<void*> bpf_fd_sk_storage_lookup_elem(Map& map, const void* key) {
  return bpf_local_storage_lookup(*TRY(sockfd_lookup(map.machine, key_as<int>(key))), map);
}

Result<void> bpf_fd_sk_storage_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  return bpf_local_storage_update(*TRY(sockfd_lookup(map.machine, key_as<int>(key))), map, value, flags);
}

Result<void> bpf_fd_sk_storage_delete_elem(Map& map, const void* key) {
  return bpf_local_storage_delete(*TRY(sockfd_lookup(map.machine, key_as<int>(key))), map);
}

}  // namespace

// The kernel gives up the whole connection when memory for a copy is lacking; here such a copy is left out.
void bpf_sk_storage_clone(const Sock& sk, Sock& newsk) {
  if (!sk.sk_bpf_storage) return;
  for (const BpfLocalStorageElem* selem : sk.sk_bpf_storage->list)
    if (Map& map = *selem->smap; map.map_flags & BPF_F_CLONE)
      (void)bpf_local_storage_update(newsk, map, selem->data(), BPF_NOEXIST);
}

static Result<Map*> bpf_sk_storage_map_alloc(Machine& machine, const bpf_attr& attr) {
  return bpf_local_storage_map_alloc(machine, attr);
}
static void bpf_sk_storage_map_free(Map& map) { bpf_local_storage_map_free(map); }

const MapOps sk_storage_map_ops = {
    .map_alloc_check = OP(bpf_local_storage_map_alloc_check),
    .map_alloc = OP(bpf_sk_storage_map_alloc),
    .map_free = OP(bpf_sk_storage_map_free),
    .map_get_next_key = OP(notsupp_get_next_key),
    .map_lookup_elem = OP(bpf_fd_sk_storage_lookup_elem),
    .map_update_elem = OP(bpf_fd_sk_storage_update_elem),
    .map_delete_elem = OP(bpf_fd_sk_storage_delete_elem),
    .map_check_btf = OP(bpf_local_storage_map_check_btf),
    .map_local_storage_charge = OP(bpf_sk_storage_charge),
    .map_local_storage_uncharge = OP(bpf_sk_storage_uncharge),
    .map_owner_storage_ptr = OP(bpf_sk_storage_ptr),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(bpf_local_storage_map_mem_usage),
    .each_held = OP(bpf_local_storage_map_each_held),
};

}  // namespace bpfsim
