// Models: kernel/bpf/verifier.c, check_map_func_compatibility() (Linux 6.18)
//
// Which helper takes which kind of map. Some maps are served by special helpers only, some helpers serve
// special maps only; a pair must satisfy both lists.
#include "verifier/map_func.h"

#include <algorithm>
#include <iterator>

#include "isa/disasm.h"

namespace bpfsim {

namespace {
// Helpers that a kind of map accepts. A kind without a row accepts all.
struct MapRow {
  bpf_map_type map;
  int helpers[8];
};
constexpr MapRow kMapRows[] = {
    {BPF_MAP_TYPE_PROG_ARRAY, {BPF_FUNC_tail_call}},
    {BPF_MAP_TYPE_PERF_EVENT_ARRAY,
     {BPF_FUNC_perf_event_read, BPF_FUNC_perf_event_output, BPF_FUNC_skb_output,
      BPF_FUNC_perf_event_read_value, BPF_FUNC_xdp_output}},
    {BPF_MAP_TYPE_RINGBUF,
     {BPF_FUNC_ringbuf_output, BPF_FUNC_ringbuf_reserve, BPF_FUNC_ringbuf_query,
      BPF_FUNC_ringbuf_reserve_dynptr, BPF_FUNC_ringbuf_submit_dynptr, BPF_FUNC_ringbuf_discard_dynptr}},
    {BPF_MAP_TYPE_USER_RINGBUF, {BPF_FUNC_user_ringbuf_drain}},
    {BPF_MAP_TYPE_STACK_TRACE, {BPF_FUNC_get_stackid}},
    {BPF_MAP_TYPE_CGROUP_ARRAY, {BPF_FUNC_skb_under_cgroup, BPF_FUNC_current_task_under_cgroup}},
    {BPF_MAP_TYPE_CGROUP_STORAGE, {BPF_FUNC_get_local_storage}},
    {BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, {BPF_FUNC_get_local_storage}},
    {BPF_MAP_TYPE_DEVMAP, {BPF_FUNC_redirect_map, BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_DEVMAP_HASH, {BPF_FUNC_redirect_map, BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_CPUMAP, {BPF_FUNC_redirect_map}},
    {BPF_MAP_TYPE_XSKMAP, {BPF_FUNC_redirect_map, BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_ARRAY_OF_MAPS, {BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_HASH_OF_MAPS, {BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_SOCKMAP,
     {BPF_FUNC_sk_redirect_map, BPF_FUNC_sock_map_update, BPF_FUNC_msg_redirect_map,
      BPF_FUNC_sk_select_reuseport, BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_SOCKHASH,
     {BPF_FUNC_sk_redirect_hash, BPF_FUNC_sock_hash_update, BPF_FUNC_msg_redirect_hash,
      BPF_FUNC_sk_select_reuseport, BPF_FUNC_map_lookup_elem}},
    {BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, {BPF_FUNC_sk_select_reuseport}},
    {BPF_MAP_TYPE_QUEUE, {BPF_FUNC_map_peek_elem, BPF_FUNC_map_pop_elem, BPF_FUNC_map_push_elem}},
    {BPF_MAP_TYPE_STACK, {BPF_FUNC_map_peek_elem, BPF_FUNC_map_pop_elem, BPF_FUNC_map_push_elem}},
    {BPF_MAP_TYPE_SK_STORAGE, {BPF_FUNC_sk_storage_get, BPF_FUNC_sk_storage_delete, BPF_FUNC_kptr_xchg}},
    {BPF_MAP_TYPE_INODE_STORAGE,
     {BPF_FUNC_inode_storage_get, BPF_FUNC_inode_storage_delete, BPF_FUNC_kptr_xchg}},
    {BPF_MAP_TYPE_TASK_STORAGE,
     {BPF_FUNC_task_storage_get, BPF_FUNC_task_storage_delete, BPF_FUNC_kptr_xchg}},
    {BPF_MAP_TYPE_CGRP_STORAGE,
     {BPF_FUNC_cgrp_storage_get, BPF_FUNC_cgrp_storage_delete, BPF_FUNC_kptr_xchg}},
    {BPF_MAP_TYPE_BLOOM_FILTER, {BPF_FUNC_map_peek_elem, BPF_FUNC_map_push_elem}},
};

// Maps that a helper accepts. A helper without a row accepts all.
struct HelperRow {
  int helper;
  bpf_map_type maps[4];
};
constexpr HelperRow kHelperRows[] = {
    {BPF_FUNC_tail_call, {BPF_MAP_TYPE_PROG_ARRAY}},
    {BPF_FUNC_perf_event_read, {BPF_MAP_TYPE_PERF_EVENT_ARRAY}},
    {BPF_FUNC_perf_event_output, {BPF_MAP_TYPE_PERF_EVENT_ARRAY}},
    {BPF_FUNC_perf_event_read_value, {BPF_MAP_TYPE_PERF_EVENT_ARRAY}},
    {BPF_FUNC_skb_output, {BPF_MAP_TYPE_PERF_EVENT_ARRAY}},
    {BPF_FUNC_xdp_output, {BPF_MAP_TYPE_PERF_EVENT_ARRAY}},
    {BPF_FUNC_ringbuf_output, {BPF_MAP_TYPE_RINGBUF}},
    {BPF_FUNC_ringbuf_reserve, {BPF_MAP_TYPE_RINGBUF}},
    {BPF_FUNC_ringbuf_query, {BPF_MAP_TYPE_RINGBUF}},
    {BPF_FUNC_ringbuf_reserve_dynptr, {BPF_MAP_TYPE_RINGBUF}},
    {BPF_FUNC_ringbuf_submit_dynptr, {BPF_MAP_TYPE_RINGBUF}},
    {BPF_FUNC_ringbuf_discard_dynptr, {BPF_MAP_TYPE_RINGBUF}},
    {BPF_FUNC_user_ringbuf_drain, {BPF_MAP_TYPE_USER_RINGBUF}},
    {BPF_FUNC_get_stackid, {BPF_MAP_TYPE_STACK_TRACE}},
    {BPF_FUNC_current_task_under_cgroup, {BPF_MAP_TYPE_CGROUP_ARRAY}},
    {BPF_FUNC_skb_under_cgroup, {BPF_MAP_TYPE_CGROUP_ARRAY}},
    {BPF_FUNC_redirect_map,
     {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_CPUMAP, BPF_MAP_TYPE_XSKMAP}},
    {BPF_FUNC_sk_redirect_map, {BPF_MAP_TYPE_SOCKMAP}},
    {BPF_FUNC_msg_redirect_map, {BPF_MAP_TYPE_SOCKMAP}},
    {BPF_FUNC_sock_map_update, {BPF_MAP_TYPE_SOCKMAP}},
    {BPF_FUNC_sk_redirect_hash, {BPF_MAP_TYPE_SOCKHASH}},
    {BPF_FUNC_msg_redirect_hash, {BPF_MAP_TYPE_SOCKHASH}},
    {BPF_FUNC_sock_hash_update, {BPF_MAP_TYPE_SOCKHASH}},
    {BPF_FUNC_get_local_storage, {BPF_MAP_TYPE_CGROUP_STORAGE, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE}},
    {BPF_FUNC_sk_select_reuseport,
     {BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH}},
    {BPF_FUNC_map_pop_elem, {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK}},
    {BPF_FUNC_map_peek_elem, {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK, BPF_MAP_TYPE_BLOOM_FILTER}},
    {BPF_FUNC_map_push_elem, {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK, BPF_MAP_TYPE_BLOOM_FILTER}},
    {BPF_FUNC_map_lookup_percpu_elem,
     {BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH}},
    {BPF_FUNC_sk_storage_get, {BPF_MAP_TYPE_SK_STORAGE}},
    {BPF_FUNC_sk_storage_delete, {BPF_MAP_TYPE_SK_STORAGE}},
    {BPF_FUNC_inode_storage_get, {BPF_MAP_TYPE_INODE_STORAGE}},
    {BPF_FUNC_inode_storage_delete, {BPF_MAP_TYPE_INODE_STORAGE}},
    {BPF_FUNC_task_storage_get, {BPF_MAP_TYPE_TASK_STORAGE}},
    {BPF_FUNC_task_storage_delete, {BPF_MAP_TYPE_TASK_STORAGE}},
    {BPF_FUNC_cgrp_storage_get, {BPF_MAP_TYPE_CGRP_STORAGE}},
    {BPF_FUNC_cgrp_storage_delete, {BPF_MAP_TYPE_CGRP_STORAGE}},
};

// Pairs of the first list that an older kernel does not accept.
struct LaterPair {
  int helper;
  bpf_map_type maps[3];
  Gate gate;
};
constexpr LaterPair kLaterPairs[] = {
    {BPF_FUNC_map_lookup_elem, {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_XSKMAP}, Gate::devmap_lookup},
    {BPF_FUNC_map_lookup_elem, {BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH}, Gate::sockmap_lookup},
    {BPF_FUNC_sk_select_reuseport, {BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH}, Gate::sockmap_reuseport},
    {BPF_FUNC_map_update_elem, {BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH}, Gate::sockmap_update},
};

bool came_as_pair_later(const Map& map, int func_id, Version version) {
  for (const LaterPair& pair : kLaterPairs)
    if (pair.helper == func_id && !has(pair.gate, version) &&
        std::find(std::begin(pair.maps), std::end(pair.maps), map.map_type) != std::end(pair.maps))
      return true;
  return false;
}

// A sockmap is changed only where no socket can be locked.
bool runs_without_locked_sockets(const Prog& prog, int func_id) {
  constexpr bpf_prog_type always[] = {
      BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS,      BPF_PROG_TYPE_SCHED_ACT, BPF_PROG_TYPE_XDP,
      BPF_PROG_TYPE_SK_REUSEPORT,  BPF_PROG_TYPE_FLOW_DISSECTOR, BPF_PROG_TYPE_SK_LOOKUP};
  if (prog.type == BPF_PROG_TYPE_TRACING) return prog.expected_attach_type == BPF_TRACE_ITER;
  if (prog.type == BPF_PROG_TYPE_SOCK_OPS) return func_id == BPF_FUNC_map_delete_elem;
  return std::find(std::begin(always), std::end(always), prog.type) != std::end(always);
}

bool may_update_sockmap(bpf_verifier_env& env, int func_id) {
  bool changes = func_id == BPF_FUNC_map_update_elem || func_id == BPF_FUNC_map_delete_elem;
  if (!changes) return false;
  if (func_id == BPF_FUNC_map_delete_elem && !has(Gate::sockmap_delete, env.machine.version)) return true;
  bool may = runs_without_locked_sockets(env.prog, func_id);
  if (!may) verbose(env, "cannot update sockmap in this context\n");
  return may;
}

bool map_accepts(bpf_verifier_env& env, const Map& map, int func_id) {
  if (came_as_pair_later(map, func_id, env.machine.version)) return false;
  for (const MapRow& row : kMapRows) {
    if (row.map != map.map_type) continue;
    for (int helper : row.helpers)
      if (helper == func_id) return true;
    bool sockmap = map.map_type == BPF_MAP_TYPE_SOCKMAP || map.map_type == BPF_MAP_TYPE_SOCKHASH;
    return sockmap && may_update_sockmap(env, func_id);
  }
  return true;
}

bool helper_accepts(const Map& map, int func_id) {
  for (const HelperRow& row : kHelperRows) {
    if (row.helper != func_id) continue;
    for (bpf_map_type type : row.maps)
      if (type == map.map_type) return true;
    return false;
  }
  return true;
}
}  // namespace

Errno check_values_are_plain(bpf_verifier_env& env, const Map& map) {
  if (!map.record && !(map.inner_map_meta && map.inner_map_meta->record)) return Errno::None;
  return not_modelled(env, "a map with special fields (locks, timers, kptrs) in its values");
}

Errno check_map_func_compatibility(bpf_verifier_env& env, const Map* map, int func_id) {
  if (!map) return Errno::None;
  if (!map_accepts(env, *map, func_id) || !helper_accepts(*map, func_id))
    return reject(env, Errno::Inval, "cannot pass map_type %d into func %s#%d\n", int(map->map_type),
                  func_id_name(func_id), func_id);
  const bool tail_call = func_id == BPF_FUNC_tail_call && env.subprog_cnt > 1;
  if (tail_call && !has(Gate::tail_call_in_subprogs, env.machine.version))
    return reject(env, Errno::Inval, "tail_calls are not allowed in programs with bpf-to-bpf calls\n");
  if (tail_call && !env.prog.jit_requested)
    return reject(env, Errno::Inval, "mixing of tail_calls and bpf-to-bpf calls is not supported\n");
  return check_values_are_plain(env, *map);
}

}  // namespace bpfsim
