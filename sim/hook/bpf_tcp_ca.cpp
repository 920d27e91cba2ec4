// Models: net/ipv4/bpf_tcp_ca.c (bpf_tcp_ca_verifier_ops) (Linux 6.18)
//
// STRUCT_OPS programs that are members of a TCP congestion control: their arguments are the kernel's own,
// with the socket seen as the tcp_sock that it is, of which they may write the few members that a congestion
// control is there for. What registers them says map/bpf_tcp_ca.cpp.
//
// Not modelled yet: that they run; kernel functions (tcp_reno_cong_avoid and its like); the helpers below.
#include <algorithm>
#include <string>

#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "hook/types.h"
#include "object/btf.h"

namespace bpfsim {

namespace {

bool bpf_tcp_ca_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                InsnAccessAux& info) {
  if (!bpf_tracing_btf_ctx_access(off, size, type, prog, info)) return false;
  const BtfTypes& types = *prog.aux->attach_btf->types;
  if (base_type(info.reg_type) == PTR_TO_BTF_ID && info.btf_id == types.find_by_name("sock", BTF_KIND_STRUCT))
    info.btf_id = types.find_by_name("tcp_sock", BTF_KIND_STRUCT);
  return true;
}

// What the measured 6.18 lets such a program call besides the rows of helper_sets.def: known, not modelled.
constexpr bpf_func_id kHelpers[] = {BPF_FUNC_get_cgroup_classid,
                                    BPF_FUNC_perf_event_read,
                                    BPF_FUNC_get_current_task,
                                    BPF_FUNC_current_task_under_cgroup,
                                    BPF_FUNC_setsockopt,
                                    BPF_FUNC_perf_event_read_value,
                                    BPF_FUNC_getsockopt,
                                    BPF_FUNC_get_current_cgroup_id,
                                    BPF_FUNC_spin_lock,
                                    BPF_FUNC_spin_unlock,
                                    BPF_FUNC_sk_storage_get,
                                    BPF_FUNC_sk_storage_delete,
                                    BPF_FUNC_send_signal,
                                    BPF_FUNC_tcp_send_ack,
                                    BPF_FUNC_send_signal_thread,
                                    BPF_FUNC_get_ns_current_pid_tgid,
                                    BPF_FUNC_get_current_ancestor_cgroup_id,
                                    BPF_FUNC_get_task_stack,
                                    BPF_FUNC_copy_from_user,
                                    BPF_FUNC_snprintf_btf,
                                    BPF_FUNC_per_cpu_ptr,
                                    BPF_FUNC_this_cpu_ptr,
                                    BPF_FUNC_task_storage_get,
                                    BPF_FUNC_task_storage_delete,
                                    BPF_FUNC_get_current_task_btf,
                                    BPF_FUNC_timer_init,
                                    BPF_FUNC_timer_set_callback,
                                    BPF_FUNC_timer_start,
                                    BPF_FUNC_timer_cancel,
                                    BPF_FUNC_task_pt_regs,
                                    BPF_FUNC_get_branch_snapshot,
                                    BPF_FUNC_trace_vprintk,
                                    BPF_FUNC_find_vma,
                                    BPF_FUNC_copy_from_user_task,
                                    BPF_FUNC_kptr_xchg,
                                    BPF_FUNC_dynptr_from_mem,
                                    BPF_FUNC_ringbuf_reserve_dynptr,
                                    BPF_FUNC_ringbuf_submit_dynptr,
                                    BPF_FUNC_ringbuf_discard_dynptr,
                                    BPF_FUNC_dynptr_read,
                                    BPF_FUNC_dynptr_write,
                                    BPF_FUNC_dynptr_data,
                                    BPF_FUNC_user_ringbuf_drain,
                                    BPF_FUNC_cgrp_storage_get,
                                    BPF_FUNC_cgrp_storage_delete};

const FuncProto* bpf_tcp_ca_get_func_proto(bpf_func_id func_id, const Prog& prog) {
  static constexpr FuncProto kNoBody;  // the verifier says that it is not modelled
  // A congestion control that is being left changes nothing at its socket any more.
  const bool sockopt = func_id == BPF_FUNC_setsockopt || func_id == BPF_FUNC_getsockopt;
  if (sockopt && prog.aux->attach_func_name == "release") return nullptr;
  if (const FuncProto* proto = helper_for(func_id, prog)) return proto;
  return std::ranges::find(kHelpers, func_id) == std::end(kHelpers) ? nullptr : &kNoBody;
}

// What may be written: at its first byte, or where `anywhere` is set at any.
struct Writable {
  const char *structure, *member;
  int size;
  bool anywhere;
};
constexpr Writable kWritable[] = {
    {"sock", "sk_pacing_rate", 8, false},
    {"sock", "sk_pacing_status", 4, false},
    {"inet_connection_sock", "icsk_ca_priv", 104, true},
    {"tcp_sock", "snd_cwnd", 4, false},
    {"tcp_sock", "snd_cwnd_cnt", 4, false},
    {"tcp_sock", "snd_cwnd_stamp", 4, false},
    {"tcp_sock", "snd_ssthresh", 4, false},
    {"tcp_sock", "ecn_flags", 1, false},
    {"tcp_sock", "app_limited", 4, false},
};
constexpr int kAckPending = 1256;  // icsk_ack.pending, one byte of an unnamed struct

// Where the member ends that begins, or lies, at an offset; 0 where nothing may be written.
int writable_until(int off) {
  if (off == kAckPending) return kAckPending + 1;
  for (const Writable& may : kWritable) {
    const int at = int(vmlinux_offset(may.structure, may.member));
    if (off == at || (may.anywhere && off > at && off < at + may.size)) return at + may.size;
  }
  return 0;
}

std::string bpf_tcp_ca_btf_struct_access(std::string_view structure, int off, int size) {
  if (structure != "tcp_sock") return "only read is supported";
  const int end = writable_until(off);
  if (!end) return "no write support to tcp_sock at off " + std::to_string(off);
  if (off + size <= end) return "";
  return "write access at off " + std::to_string(off) + " with size " + std::to_string(size) +
         " beyond the member of tcp_sock ended at " + std::to_string(end);
}

}  // namespace

const VerifierOps bpf_tcp_ca_verifier_ops = {.name = "bpf_tcp_ca",
                                             .get_func_proto = bpf_tcp_ca_get_func_proto,
                                             .is_valid_access = bpf_tcp_ca_is_valid_access,
                                             .btf_struct_access = bpf_tcp_ca_btf_struct_access};

}  // namespace bpfsim
