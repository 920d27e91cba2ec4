// Models: kernel/bpf/bpf_inode_storage.c (Linux 6.18)
//
// Local storage of inodes. User space names the inode by any descriptor of it, one opened with O_PATH
// included: a directory or pin of BPFFS, a terminal, a pidfd. All maps, programs, links and BTF share one
// inode, so a value stored by way of one is found by way of the others. Not modelled yet:
// bpf_inode_storage_get and bpf_inode_storage_delete, which only LSM programs may call.
#include "map/bpf_local_storage.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "object/file.h"
#include "object/inode.h"

namespace bpfsim {

namespace {

BpfLocalStorage** inode_storage_ptr(Object& owner) { return &static_cast<Inode&>(owner).i_storage; }

Result<Inode*> inode_of_key(const Map& map, const void* key) {
  const int fd = key_as<int>(key);
  File* file = map.machine.current->task ? map.machine.current->task->files.get_raw(fd) : nullptr;
  if (!file) return refuse(Errno::BadF, "fd {} is not open", fd);
  return &file_inode(*file);
}

Result<void*> bpf_fd_inode_storage_lookup_elem(Map& map, const void* key) {
  return bpf_local_storage_lookup(*TRY(inode_of_key(map, key)), map);
}

Result<void> bpf_fd_inode_storage_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  return bpf_local_storage_update(*TRY(inode_of_key(map, key)), map, value, flags);
}

Result<void> bpf_fd_inode_storage_delete_elem(Map& map, const void* key) {
  return bpf_local_storage_delete(*TRY(inode_of_key(map, key)), map);
}

}  // namespace

static Result<Map*> inode_storage_map_alloc(Machine& machine, const bpf_attr& attr) {
  return bpf_local_storage_map_alloc(machine, attr);
}
static void inode_storage_map_free(Map& map) { bpf_local_storage_map_free(map); }

const MapOps inode_storage_map_ops = {
    .map_alloc_check = OP(bpf_local_storage_map_alloc_check),
    .map_alloc = OP(inode_storage_map_alloc),
    .map_free = OP(inode_storage_map_free),
    .map_get_next_key = OP(notsupp_get_next_key),
    .map_lookup_elem = OP(bpf_fd_inode_storage_lookup_elem),
    .map_update_elem = OP(bpf_fd_inode_storage_update_elem),
    .map_delete_elem = OP(bpf_fd_inode_storage_delete_elem),
    .map_check_btf = OP(bpf_local_storage_map_check_btf),
    .map_owner_storage_ptr = OP(inode_storage_ptr),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(bpf_local_storage_map_mem_usage),
    .each_held = OP(bpf_local_storage_map_each_held),
};

}  // namespace bpfsim
