// Models: kernel/bpf/bpf_task_storage.c (Linux 6.18)
//
// Local storage of processes. User space names the process by a pidfd; the values go when the process does.
// Not modelled yet: bpf_task_storage_get and bpf_task_storage_delete, whose task is a BTF pointer that the
// verifier does not track yet.
#include "map/bpf_local_storage.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "object/pidfd.h"

namespace bpfsim {

namespace {

BpfLocalStorage** task_storage_ptr(Object& owner) { return &static_cast<Task&>(owner).bpf_storage; }

Result<void*> bpf_pid_task_storage_lookup_elem(Map& map, const void* key) {
  return bpf_local_storage_lookup(*TRY(pidfd_get_task(map.machine, key_as<int>(key))), map);
}

Result<void> bpf_pid_task_storage_update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  return bpf_local_storage_update(*TRY(pidfd_get_task(map.machine, key_as<int>(key))), map, value, flags);
}

Result<void> bpf_pid_task_storage_delete_elem(Map& map, const void* key) {
  return bpf_local_storage_delete(*TRY(pidfd_get_task(map.machine, key_as<int>(key))), map);
}

}  // namespace

void bpf_task_storage_free(Task& task) {
  if (task.bpf_storage) bpf_local_storage_destroy(*task.bpf_storage);
}

static Result<Map*> task_storage_map_alloc(Machine& machine, const bpf_attr& attr) {
  return bpf_local_storage_map_alloc(machine, attr);
}
static void task_storage_map_free(Map& map) { bpf_local_storage_map_free(map); }

const MapOps task_storage_map_ops = {
    .map_alloc_check = OP(bpf_local_storage_map_alloc_check),
    .map_alloc = OP(task_storage_map_alloc),
    .map_free = OP(task_storage_map_free),
    .map_get_next_key = OP(notsupp_get_next_key),
    .map_lookup_elem = OP(bpf_pid_task_storage_lookup_elem),
    .map_update_elem = OP(bpf_pid_task_storage_update_elem),
    .map_delete_elem = OP(bpf_pid_task_storage_delete_elem),
    .map_check_btf = OP(bpf_local_storage_map_check_btf),
    .map_owner_storage_ptr = OP(task_storage_ptr),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(bpf_local_storage_map_mem_usage),
    .each_held = OP(bpf_local_storage_map_each_held),
};

}  // namespace bpfsim
