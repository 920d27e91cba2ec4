// Models: kernel/bpf/helpers.c, kernel/bpf/bpf_iter.c (helpers that work on maps) (Linux 6.18)
//
// A program works on a map through the same MapOps table as bpf(2) does, with the map's own functions for
// this CPU where they differ. Lookups answer with the address of the value in the arena, not with a copy.
#include "run/helpers/call.h"

namespace bpfsim {

// Null (after a simulated oops) unless the register is a map that has the operation.
#define MAP_WITH(op, reg)                \
  Map* map = map_argument(machine, reg); \
  if (!map) return 0;                    \
  if (!map->ops->op) return fail(Errno::OpNotSupp);

static uint64_t value_address(Machine& machine, const Result<void*>& element) {
  return element && *element ? machine.arena.addr(*element) : 0;
}

static bool is_map_of_sockets(const Map& map) {
  return map.map_type == BPF_MAP_TYPE_SOCKMAP || map.map_type == BPF_MAP_TYPE_SOCKHASH;
}

BPF_CALL_2(bpf_map_lookup_elem, map_reg, key_addr) {
  Map* map = map_argument(machine, map_reg);
  if (!map || !map->ops->map_lookup_elem) return 0;
  const uint8_t* key = program_memory(machine, key_addr, map->key_size, BPF_READ);
  const uint64_t found = key ? value_address(machine, MAP_OP(*map, map_lookup_elem, *map, key)) : 0;
  if (found && is_map_of_sockets(*map)) program_holds_sock(machine, found);
  return found;
}

const FuncProto bpf_map_lookup_elem_proto = {
    .func = bpf_map_lookup_elem,
    .pkt_access = true,
    .ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY},
};

BPF_CALL_4(bpf_map_update_elem, map_reg, key_addr, value_addr, flags) {
  MAP_WITH(map_update_elem, map_reg);
  const uint8_t* key = program_memory(machine, key_addr, map->key_size, BPF_READ);
  const uint8_t* value = key ? program_memory(machine, value_addr, map->value_size, BPF_READ) : nullptr;
  return value ? status(MAP_OP(*map, map_update_elem, *map, key, value, flags)) : 0;
}

const FuncProto bpf_map_update_elem_proto = {
    .func = bpf_map_update_elem,
    .pkt_access = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY, ARG_PTR_TO_MAP_VALUE, ARG_ANYTHING},
};

BPF_CALL_2(bpf_map_delete_elem, map_reg, key_addr) {
  MAP_WITH(map_delete_elem, map_reg);
  const uint8_t* key = program_memory(machine, key_addr, map->key_size, BPF_READ);
  return key ? status(MAP_OP(*map, map_delete_elem, *map, key)) : 0;
}

const FuncProto bpf_map_delete_elem_proto = {
    .func = bpf_map_delete_elem,
    .pkt_access = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY},
};

BPF_CALL_3(bpf_map_push_elem, map_reg, value_addr, flags) {
  MAP_WITH(map_push_elem, map_reg);
  const uint8_t* value = program_memory(machine, value_addr, map->value_size, BPF_READ);
  return value ? status(MAP_OP(*map, map_push_elem, *map, value, flags)) : 0;
}

const FuncProto bpf_map_push_elem_proto = {
    .func = bpf_map_push_elem,
    .pkt_access = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_VALUE, ARG_ANYTHING},
};

BPF_CALL_2(bpf_map_pop_elem, map_reg, value_addr) {
  MAP_WITH(map_pop_elem, map_reg);
  uint8_t* value = program_memory(machine, value_addr, map->value_size, BPF_WRITE);
  return value ? status(MAP_OP(*map, map_pop_elem, *map, value)) : 0;
}

const FuncProto bpf_map_pop_elem_proto = {
    .func = bpf_map_pop_elem,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_UNINIT_MAP_VALUE},
};

BPF_CALL_2(bpf_map_peek_elem, map_reg, value_addr) {
  MAP_WITH(map_peek_elem, map_reg);
  uint8_t* value = program_memory(machine, value_addr, map->value_size, BPF_WRITE);
  return value ? status(MAP_OP(*map, map_peek_elem, *map, value)) : 0;
}

const FuncProto bpf_map_peek_elem_proto = {
    .func = bpf_map_peek_elem,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_UNINIT_MAP_VALUE},
};

BPF_CALL_3(bpf_map_lookup_percpu_elem, map_reg, key_addr, cpu) {
  Map* map = map_argument(machine, map_reg);
  if (!map || !map->ops->map_lookup_percpu_elem) return 0;
  const uint8_t* key = program_memory(machine, key_addr, map->key_size, BPF_READ);
  return key ? value_address(machine, MAP_OP(*map, map_lookup_percpu_elem, *map, key, uint32_t(cpu))) : 0;
}

const FuncProto bpf_map_lookup_percpu_elem_proto = {
    .func = bpf_map_lookup_percpu_elem,
    .pkt_access = true,
    .ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY, ARG_ANYTHING},
};

BPF_CALL_4(bpf_for_each_map_elem, map_reg, callback, context, flags) {
  MAP_WITH(map_for_each_callback, map_reg);
  Result<int64_t> walked = MAP_OP(*map, map_for_each_callback, *map, callback, context, flags);
  return walked ? uint64_t(*walked) : fail(walked.err());
}

const FuncProto bpf_for_each_map_elem_proto = {
    .func = bpf_for_each_map_elem,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_CONST_MAP_PTR, ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK_OR_NULL, ARG_ANYTHING},
};

// The verifier turns a call of this helper into the TAIL_CALL instruction, so the body is never reached. It
// is here for a program that no verifier saw.
BPF_CALL_3(bpf_tail_call, ctx, map_reg, index) {
  (void)ctx, (void)map_reg, (void)index;
  return fail(Errno::Inval);
}

const FuncProto bpf_tail_call_proto = {
    .func = bpf_tail_call,
    .ret_type = RET_VOID,
    .arg_type = {ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING},
};

BPF_CALL_4(bpf_loop, nr_loops, callback, context, flags) {
  constexpr uint32_t BPF_MAX_LOOPS = 8 * 1024 * 1024, kLookEvery = 4096;
  if (flags) return fail(Errno::Inval);
  if (uint32_t(nr_loops) > BPF_MAX_LOOPS) return fail(Errno::TooBig);
  RunFrame& frame = *machine.current->running;
  for (uint32_t i = 0; i < uint32_t(nr_loops); ++i) {
    uint64_t answer = call_bpf(machine, *frame.prog, callback, {i, context, 0, 0, 0});
    if (i % kLookEvery == kLookEvery - 1 && host_interrupts(machine)) frame.stop = RunStop::Interrupted;
    if (frame.stop != RunStop::Returned) return 0;
    if (answer) return i + 1;
  }
  return uint32_t(nr_loops);
}

const FuncProto bpf_loop_proto = {
    .func = bpf_loop,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_ANYTHING, ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK_OR_NULL, ARG_ANYTHING},
};

}  // namespace bpfsim
