// Models: include/linux/bpf_types.h (Linux 6.18)
//
// Which table of operations a map type has.
#pragma once

#include "object/ops.h"

namespace bpfsim {

extern const MapOps array_map_ops, percpu_array_map_ops;
extern const MapOps htab_map_ops, htab_percpu_map_ops, htab_lru_map_ops, htab_lru_percpu_map_ops;
extern const MapOps htab_of_maps_map_ops, array_of_maps_map_ops, prog_array_map_ops;
extern const MapOps trie_map_ops;
extern const MapOps bloom_filter_map_ops, ringbuf_map_ops, user_ringbuf_map_ops;
extern const MapOps dev_map_ops, dev_map_hash_ops, cpu_map_ops, xsk_map_ops;
extern const MapOps sock_map_ops, sock_hash_ops, reuseport_array_ops, stack_trace_map_ops;
extern const MapOps perf_event_array_map_ops, cgroup_array_map_ops;
extern const MapOps queue_map_ops, stack_map_ops;
extern const MapOps sk_storage_map_ops, task_storage_map_ops, inode_storage_map_ops, cgrp_storage_map_ops;
extern const MapOps cgroup_storage_map_ops;
extern const MapOps arena_map_ops, bpf_struct_ops_map_ops;

// Null for a type that is not modelled.
const MapOps* map_ops(bpf_map_type type);

}  // namespace bpfsim
