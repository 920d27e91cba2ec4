// Models: net/ipv4/bpf_tcp_ca.c (bpf_tcp_ca_verifier_ops) (Linux 6.18)
//
// STRUCT_OPS programs that are members of a TCP congestion control: their arguments are the kernel's own,
// with the socket seen as the tcp_sock that it is, of which they may write the few members that a congestion
// control is there for. What registers them says map/bpf_tcp_ca.cpp.
//
// Not modelled yet: that they run; kernel functions (tcp_reno_cong_avoid and its like); of the helpers
// bpf_tcp_send_ack, bpf_sk_storage_get and _delete, bpf_setsockopt and bpf_getsockopt, which are refused as
// if the type did not have them.
#include <algorithm>
#include <string>

#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "hook/hook.h"
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

// Every helper that the measured 6.18 lets such a program call.
constexpr uint8_t kHelpers[] = {
    1,   2,   3,   5,   6,   7,   8,   12,  14,  15,  16,  17,  22,  35,  37,  42,  49,  55,  57,  80,
    87,  88,  89,  93,  94,  105, 106, 107, 108, 109, 112, 113, 114, 115, 116, 117, 118, 120, 123, 125,
    130, 131, 132, 133, 134, 141, 148, 149, 153, 154, 156, 157, 158, 160, 164, 165, 169, 170, 171, 172,
    175, 176, 177, 180, 181, 182, 191, 194, 195, 197, 198, 199, 200, 201, 202, 203, 208, 209, 210, 211};

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
