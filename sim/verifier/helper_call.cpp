// Models: kernel/bpf/verifier.c, check_helper_call() (Linux 6.18)
//
// See helper_call.h. Not modelled yet: helpers that call back, the format of bpf_snprintf, dynptrs,
// kptr_xchg, results that are kernel structs.
#include "verifier/helper_call.h"

#include "isa/disasm.h"
#include "verifier/args.h"
#include "verifier/backtrack.h"
#include "verifier/calls.h"
#include "verifier/map_func.h"
#include "verifier/mem.h"
#include "verifier/paths.h"
#include "verifier/refs.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {
constexpr int kMaxErrno = 4095;

bool is_acquire_function(int func_id, const Map* map) {
  switch (func_id) {
    case BPF_FUNC_sk_lookup_tcp:
    case BPF_FUNC_sk_lookup_udp:
    case BPF_FUNC_skc_lookup_tcp:
    case BPF_FUNC_ringbuf_reserve:
    case BPF_FUNC_kptr_xchg: return true;
    case BPF_FUNC_map_lookup_elem:
      return map && (map->map_type == BPF_MAP_TYPE_SOCKMAP || map->map_type == BPF_MAP_TYPE_SOCKHASH);
    default: return false;
  }
}

// The same socket under another type: it carries the reference of the one that was cast.
bool is_ptr_cast_function(int func_id) {
  switch (func_id) {
    case BPF_FUNC_tcp_sock:
    case BPF_FUNC_sk_fullsock:
    case BPF_FUNC_skc_to_tcp_sock:
    case BPF_FUNC_skc_to_tcp6_sock:
    case BPF_FUNC_skc_to_udp6_sock:
    case BPF_FUNC_skc_to_mptcp_sock:
    case BPF_FUNC_skc_to_tcp_timewait_sock:
    case BPF_FUNC_skc_to_tcp_request_sock: return true;
    default: return false;
  }
}

Errno may_call(bpf_verifier_env& env, int func_id, const FuncProto*& fn) {
  if (func_id < 0 || func_id >= BPF_FUNC_MAX_ID)
    return reject(env, Errno::Inval, "invalid func %s#%d\n", func_id_name(func_id), func_id);
  fn = env.ops->get_func_proto ? env.ops->get_func_proto(bpf_func_id(func_id), env.prog) : nullptr;
  if (!fn)
    return reject(env, Errno::Inval,
                  has(Gate::helper_refusal, env.machine.version)
                      ? "program of this type cannot use helper %s#%d\n"
                      : "unknown func %s#%d\n",
                  func_id_name(func_id), func_id);
  if (!fn->func) return not_modelled(env, "the helper %s", func_id_name(func_id));
  const bool was_gpl_only =
      func_id == BPF_FUNC_ktime_get_ns && !has(Gate::ktime_not_gpl, env.machine.version);
  if ((fn->gpl_only || was_gpl_only) && !env.prog.gpl_compatible)
    return reject(env, Errno::Inval, "cannot call GPL-restricted function from non-GPL compatible program\n");
  const bpf_verifier_state& state = *env.cur_state;
  if (!fn->might_sleep) return Errno::None;
  if (!state.in_sleepable)
    return reject(env, Errno::Inval, "helper call might sleep in a non-sleepable prog\n");
  auto in = [&](const char* region) {
    return reject(env, Errno::Inval, "sleepable helper %s#%d in %s region\n", func_id_name(func_id), func_id,
                  region);
  };
  if (state.active_rcu_lock) return in("rcu_read_lock");
  if (state.active_preempt_locks) return in("non-preemptible");
  if (state.active_irq_id) return in("IRQ-disabled");
  return Errno::None;
}

// Calls with one map for all paths can be inlined later.
Errno record_func_map(bpf_verifier_env& env, const bpf_call_arg_meta& meta, int func_id) {
  switch (func_id) {
    case BPF_FUNC_tail_call:
    case BPF_FUNC_map_lookup_elem:
    case BPF_FUNC_map_update_elem:
    case BPF_FUNC_map_delete_elem:
    case BPF_FUNC_map_push_elem:
    case BPF_FUNC_map_pop_elem:
    case BPF_FUNC_map_peek_elem:
    case BPF_FUNC_for_each_map_elem:
    case BPF_FUNC_redirect_map:
    case BPF_FUNC_map_lookup_percpu_elem: break;
    default: return Errno::None;
  }
  Map* map = meta.map_ptr;
  if (!map) return verifier_bug(env, "expected map for helper call");
  bool writes = func_id == BPF_FUNC_map_delete_elem || func_id == BPF_FUNC_map_update_elem ||
                func_id == BPF_FUNC_map_push_elem || func_id == BPF_FUNC_map_pop_elem;
  if ((map->map_flags & BPF_F_RDONLY_PROG) && writes)
    return reject(env, Errno::Access, "write into map forbidden\n");
  bpf_insn_aux_data& aux = env.cur_aux();
  if (aux.map_ptr == map) return Errno::None;
  aux.map_ptr_poisoned = aux.map_ptr != nullptr;
  aux.map_ptr_unpriv |= !map->bypass_spec_v1;
  aux.map_ptr = map;
  return Errno::None;
}

// A tail call whose index is one constant can become a direct jump, which is not modelled: only that the
// constant matters to it.
Errno record_func_key(bpf_verifier_env& env, const bpf_call_arg_meta& meta, int func_id) {
  if (func_id != BPF_FUNC_tail_call) return Errno::None;
  const Map* map = meta.map_ptr;
  if (!map || map->map_type != BPF_MAP_TYPE_PROG_ARRAY)
    return reject(env, Errno::Inval, "expected prog array map for tail call");
  const bpf_reg_state& index = env.cur_regs()[BPF_REG_3];
  if (!index.is_scalar_const() || index.var_off.value >= map->max_entries) return Errno::None;
  return mark_chain_precision(env, BPF_REG_3);
}

Errno release_argument(bpf_verifier_env& env, const bpf_call_arg_meta& meta, int func_id) {
  if (!meta.release_regno) return Errno::None;
  bool released = meta.ref_obj_id ? release_reference(env, meta.ref_obj_id)
                                  : env.cur_regs()[meta.release_regno].is_null();
  if (released) return Errno::None;
  return reject(env, Errno::Inval, "func %s#%d reference has not been acquired before\n",
                func_id_name(func_id), func_id);
}

// What single helpers ask for beyond their prototype.
Errno check_special(bpf_verifier_env& env, int func_id) {
  switch (func_id) {
    case BPF_FUNC_tail_call: return check_resource_leak(env, true, LeakAt::TailCall);
    case BPF_FUNC_get_local_storage:
      if (env.cur_regs()[BPF_REG_2].is_null()) return Errno::None;
      return reject(env, Errno::Inval, "get_local_storage() doesn't support non-zero flags\n");
    case BPF_FUNC_for_each_map_elem:
    case BPF_FUNC_timer_set_callback:
    case BPF_FUNC_find_vma:
    case BPF_FUNC_loop:
    case BPF_FUNC_user_ringbuf_drain:
      return not_modelled(env, "callbacks (%s#%d)", func_id_name(func_id), func_id);
    case BPF_FUNC_snprintf: return not_modelled(env, "the format string of bpf_snprintf");
    case BPF_FUNC_get_func_ip: return not_modelled(env, "bpf_get_func_ip");
    default: return Errno::None;
  }
}

Errno set_helper_result(bpf_verifier_env& env, const FuncProto& fn, const bpf_call_arg_meta& meta,
                        int func_id) {
  bpf_reg_state& r0 = env.cur_regs()[BPF_REG_0];
  uint32_t flags = type_flag(fn.ret_type);
  switch (base_type(fn.ret_type)) {
    case RET_INTEGER: mark_reg_unknown(env, r0); return Errno::None;
    case RET_VOID: r0.type = NOT_INIT; return Errno::None;
    case RET_PTR_TO_MAP_VALUE: {
      if (!meta.map_ptr) return verifier_bug(env, "unexpected null map_ptr");
      bool cannot_miss = func_id == BPF_FUNC_map_lookup_elem &&
                         can_elide_value_nullness(meta.map_ptr->map_type) && meta.const_map_key >= 0 &&
                         meta.const_map_key < int64_t{meta.map_ptr->max_entries};
      if (cannot_miss) flags &= ~uint32_t{PTR_MAYBE_NULL};
      mark_reg_known_zero(r0);
      r0.map_ptr = meta.map_ptr;
      r0.map_uid = meta.map_uid;
      r0.type = PTR_TO_MAP_VALUE | flags;
      break;
    }
    case RET_PTR_TO_SOCKET:
    case RET_PTR_TO_SOCK_COMMON:
    case RET_PTR_TO_TCP_SOCK: {
      uint32_t base = base_type(fn.ret_type);
      mark_reg_known_zero(r0);
      r0.type = flags | (base == RET_PTR_TO_SOCKET        ? PTR_TO_SOCKET
                         : base == RET_PTR_TO_SOCK_COMMON ? PTR_TO_SOCK_COMMON
                                                          : PTR_TO_TCP_SOCK);
      break;
    }
    case RET_PTR_TO_MEM:
      mark_reg_known_zero(r0);
      r0.type = PTR_TO_MEM | flags;
      r0.mem_size = uint32_t(meta.mem_size);
      break;
    case RET_PTR_TO_MEM_OR_BTF_ID:
    case RET_PTR_TO_BTF_ID: return not_modelled(env, "kernel structs as results of helpers");
    default:
      return reject(env, Errno::Inval, "unknown return type %u of func %s#%d\n", base_type(fn.ret_type),
                    func_id_name(func_id), func_id);
  }
  if (type_may_be_null(r0.type)) r0.id = ++env.id_gen;
  return Errno::None;
}

Errno do_refine_retval_range(bpf_verifier_env& env, const FuncProto& fn, const bpf_call_arg_meta& meta,
                             int func_id) {
  bpf_reg_state& r0 = env.cur_regs()[BPF_REG_0];
  if (fn.ret_type != RET_INTEGER) return Errno::None;
  auto signed_range = [&](int64_t lo, int64_t hi) {
    r0.r64.smin = lo, r0.r64.smax = hi;
    r0.r32.smin = int32_t(lo), r0.r32.smax = int32_t(hi);
  };
  switch (func_id) {
    case BPF_FUNC_get_stack:
    case BPF_FUNC_get_task_stack:
    case BPF_FUNC_probe_read_str:
    case BPF_FUNC_probe_read_kernel_str:
    case BPF_FUNC_probe_read_user_str:
      signed_range(-kMaxErrno, int64_t(meta.msize_max_value));
      reg_bounds_sync(r0);
      break;
    case BPF_FUNC_get_smp_processor_id:
      signed_range(0, env.machine.cpus - 1);
      r0.r64.umin = 0, r0.r64.umax = env.machine.cpus - 1;
      r0.r32.umin = 0, r0.r32.umax = env.machine.cpus - 1;
      reg_bounds_sync(r0);
      break;
  }
  return reg_bounds_sanity_check(env, r0, "retval");
}

// In a subprogram a tail call that succeeds ends the subprogram, not the program: one path returns, one goes
// on.
Errno tail_call_in_subprog(bpf_verifier_env& env) {
  env.mark_reg_scratched(BPF_REG_0);
  if (!push_stack(env, env.insn_idx + 1, env.insn_idx, false)) return Errno::TooBig;
  clear_all_pkt_pointers(env);
  mark_reg_unknown(env, env.cur_regs()[BPF_REG_0]);
  MUST(prepare_func_exit(env));
  env.insn_idx--;
  return Errno::None;
}
}  // namespace

void clear_all_pkt_pointers(bpf_verifier_env& env) {
  for_each_reg_in_vstate(*env.cur_state, [&](bpf_reg_state& reg) {
    if (reg_is_pkt_pointer_any(reg)) mark_reg_invalid(env, reg);
  });
}

Errno check_helper_call(bpf_verifier_env& env, const bpf_insn& insn) {
  int func_id = insn.imm;
  const FuncProto* fn = nullptr;
  MUST(may_call(env, func_id, fn));
  bool changes_data = fn->changes_pkt_data;

  bpf_call_arg_meta meta;
  meta.pkt_access = fn->pkt_access;
  meta.func_id = func_id;
  for (uint32_t arg = 0; arg < 5; arg++) MUST(check_func_arg(env, arg, meta, *fn));
  MUST(record_func_map(env, meta, func_id));
  MUST(record_func_key(env, meta, func_id));
  // What the helper will have written into the buffer, byte by byte.
  for (int i = 0; i < meta.access_size; i++)
    MUST(check_mem_access(env, env.insn_idx, meta.regno, i, BPF_B, BPF_WRITE, -1, false, false));
  MUST(release_argument(env, meta, func_id));
  MUST(check_special(env, func_id));

  auto& regs = env.cur_regs();
  clear_caller_saved_regs(env, regs);
  regs[BPF_REG_0].subreg_def = DEF_NOT_SUBREG;
  MUST(set_helper_result(env, *fn, meta, func_id));
  if (is_ptr_cast_function(func_id)) {
    regs[BPF_REG_0].ref_obj_id = meta.ref_obj_id;
  } else if (is_acquire_function(func_id, meta.map_ptr)) {
    uint32_t id = acquire_reference(env, env.insn_idx);
    regs[BPF_REG_0].id = id;
    regs[BPF_REG_0].ref_obj_id = id;
  }
  MUST(do_refine_retval_range(env, *fn, meta, func_id));
  MUST(check_map_func_compatibility(env, meta.map_ptr, func_id));

  if (func_id == BPF_FUNC_tail_call) {
    if (env.cur_state->curframe) return tail_call_in_subprog(env);
    changes_data = false;  // it does not come back
  }
  if (changes_data) clear_all_pkt_pointers(env);
  return Errno::None;
}

}  // namespace bpfsim
