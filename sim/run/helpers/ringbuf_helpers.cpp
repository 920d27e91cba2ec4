// Models: kernel/bpf/ringbuf.c (the helpers) (Linux 6.18)
//
// Programs write into a ring buffer in two steps (reserve, then submit or discard) without copying, or in one
// (output). What the ring does stands in map/ringbuf.cpp. Not modelled yet: the forms with a dynptr.
#include <cstring>

#include "run/helpers/call.h"

namespace bpfsim {

static void discard(Machine& machine, Addr sample) {
  machine.calls->ringbuf_commit(machine, sample, 0, true);
}

BPF_CALL_3(bpf_ringbuf_reserve, map_reg, size, flags) {
  Map* map = map_argument(machine, map_reg);
  if (!map || !map->ops->ringbuf_reserve || flags) return 0;
  const Addr sample = MAP_OP(*map, ringbuf_reserve, *map, size);
  if (sample) machine.current->running->hold({sample, discard, nullptr});
  return sample;
}

const FuncProto bpf_ringbuf_reserve_proto = {
    .func = bpf_ringbuf_reserve,
    .ret_type = RET_PTR_TO_RINGBUF_MEM_OR_NULL,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_CONST_ALLOC_SIZE_OR_ZERO, ARG_ANYTHING},
};

static uint64_t commit(Machine& machine, Addr sample, uint64_t flags, bool discards) {
  RunFrame& frame = *machine.current->running;
  if (frame.gives_back(sample))
    machine.calls->ringbuf_commit(machine, sample, flags, discards);
  else
    oops(frame, frame.insn,
         "a helper got " + std::to_string(sample) + " where it wants a record reserved by this run");
  return 0;
}

BPF_CALL_2(bpf_ringbuf_submit, sample, flags) { return commit(machine, sample, flags, false); }

const FuncProto bpf_ringbuf_submit_proto = {
    .func = bpf_ringbuf_submit,
    .ret_type = RET_VOID,
    .arg_type = {uint32_t(ARG_PTR_TO_RINGBUF_MEM) | OBJ_RELEASE, ARG_ANYTHING},
};

BPF_CALL_2(bpf_ringbuf_discard, sample, flags) { return commit(machine, sample, flags, true); }

const FuncProto bpf_ringbuf_discard_proto = {
    .func = bpf_ringbuf_discard,
    .ret_type = RET_VOID,
    .arg_type = {uint32_t(ARG_PTR_TO_RINGBUF_MEM) | OBJ_RELEASE, ARG_ANYTHING},
};

BPF_CALL_4(bpf_ringbuf_output, map_reg, data, size, flags) {
  Map* map = map_argument(machine, map_reg);
  if (!map || !map->ops->ringbuf_reserve) return 0;
  if (flags & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP)) return fail(Errno::Inval);
  const uint8_t* from = program_memory(machine, data, size, BPF_READ);
  if (!from) return 0;
  Addr sample = MAP_OP(*map, ringbuf_reserve, *map, size);
  if (!sample) return fail(Errno::Again);
  std::memcpy(machine.arena.host(sample), from, size);
  machine.calls->ringbuf_commit(machine, sample, flags, false);
  return 0;
}

const FuncProto bpf_ringbuf_output_proto = {
    .func = bpf_ringbuf_output,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING},
};

BPF_CALL_2(bpf_ringbuf_query, map_reg, what) {
  Map* map = map_argument(machine, map_reg);
  return map && map->ops->ringbuf_query ? MAP_OP(*map, ringbuf_query, *map, what) : 0;
}

const FuncProto bpf_ringbuf_query_proto = {
    .func = bpf_ringbuf_query,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_ANYTHING},
};

}  // namespace bpfsim
