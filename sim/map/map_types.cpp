// Models: include/linux/bpf_types.h (Linux 6.18)
//
// One row for each map type that is modelled. Not modelled yet: every type without a row; BPF_MAP_CREATE
// refuses it.
#include "map/map_types.h"

#include "map/view.h"

namespace bpfsim {

const MapOps* map_ops(bpf_map_type type) {
  switch (type) {
    case BPF_MAP_TYPE_HASH: return &htab_map_ops;
    case BPF_MAP_TYPE_ARRAY: return &array_map_ops;
    case BPF_MAP_TYPE_PERCPU_HASH: return &htab_percpu_map_ops;
    case BPF_MAP_TYPE_PERCPU_ARRAY: return &percpu_array_map_ops;
    case BPF_MAP_TYPE_PROG_ARRAY: return &prog_array_map_ops;
    case BPF_MAP_TYPE_LPM_TRIE: return &trie_map_ops;
    case BPF_MAP_TYPE_ARRAY_OF_MAPS: return &array_of_maps_map_ops;
    case BPF_MAP_TYPE_HASH_OF_MAPS: return &htab_of_maps_map_ops;
    case BPF_MAP_TYPE_RINGBUF: return &ringbuf_map_ops;
    case BPF_MAP_TYPE_USER_RINGBUF: return &user_ringbuf_map_ops;
    case BPF_MAP_TYPE_BLOOM_FILTER: return &bloom_filter_map_ops;
    case BPF_MAP_TYPE_LRU_HASH: return &htab_lru_map_ops;
    case BPF_MAP_TYPE_LRU_PERCPU_HASH: return &htab_lru_percpu_map_ops;
    case BPF_MAP_TYPE_DEVMAP: return &dev_map_ops;
    case BPF_MAP_TYPE_DEVMAP_HASH: return &dev_map_hash_ops;
    case BPF_MAP_TYPE_CPUMAP: return &cpu_map_ops;
    case BPF_MAP_TYPE_XSKMAP: return &xsk_map_ops;
    case BPF_MAP_TYPE_SOCKMAP: return &sock_map_ops;
    case BPF_MAP_TYPE_SOCKHASH: return &sock_hash_ops;
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: return &reuseport_array_ops;
    case BPF_MAP_TYPE_STACK_TRACE: return &stack_trace_map_ops;
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY: return &perf_event_array_map_ops;
    case BPF_MAP_TYPE_CGROUP_ARRAY: return &cgroup_array_map_ops;
    case BPF_MAP_TYPE_QUEUE: return &queue_map_ops;
    case BPF_MAP_TYPE_STACK: return &stack_map_ops;
    case BPF_MAP_TYPE_SK_STORAGE: return &sk_storage_map_ops;
    case BPF_MAP_TYPE_INODE_STORAGE: return &inode_storage_map_ops;
    case BPF_MAP_TYPE_CGRP_STORAGE: return &cgrp_storage_map_ops;
    case BPF_MAP_TYPE_TASK_STORAGE: return &task_storage_map_ops;
    case BPF_MAP_TYPE_CGROUP_STORAGE:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: return &cgroup_storage_map_ops;
    case BPF_MAP_TYPE_STRUCT_OPS: return &bpf_struct_ops_map_ops;
    case BPF_MAP_TYPE_ARENA: return &arena_map_ops;
    default: return nullptr;
  }
}

MapView view_map(const Map& map, size_t limit) {
  switch (map.map_type) {
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_PERCPU_HASH: return htab_view(map, limit);
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH: return lru_view(map, limit);
    case BPF_MAP_TYPE_LPM_TRIE: return trie_view(map);
    case BPF_MAP_TYPE_BLOOM_FILTER: return bloom_view(map, limit);
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_USER_RINGBUF: return ringbuf_view(map);
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS: return fd_array_view(map, limit);
    case BPF_MAP_TYPE_HASH_OF_MAPS: return fd_htab_view(map, limit);
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH: return dev_map_view(map);
    case BPF_MAP_TYPE_XSKMAP: return xsk_map_view(map);
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_SOCKHASH: return sock_map_view(map);
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: return reuseport_array_view(map);
    case BPF_MAP_TYPE_CPUMAP: return cpu_map_view(map);
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY: return array_view(map, limit);
    case BPF_MAP_TYPE_QUEUE:
    case BPF_MAP_TYPE_STACK: return queue_stack_view(map);
    case BPF_MAP_TYPE_STACK_TRACE: return stack_map_view(map, limit);
    case BPF_MAP_TYPE_SK_STORAGE:
    case BPF_MAP_TYPE_INODE_STORAGE:
    case BPF_MAP_TYPE_TASK_STORAGE:
    case BPF_MAP_TYPE_CGRP_STORAGE: return local_storage_view(map);
    case BPF_MAP_TYPE_CGROUP_STORAGE:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: return cgroup_storage_view(map);
    case BPF_MAP_TYPE_ARENA: return arena_view(map);
    default: return {};
  }
}

}  // namespace bpfsim
