// Models: net/core/filter.c, kernel/bpf/cgroup.c (the verifier_ops of program types on sockets) (Linux 6.18)
//
// Program types whose contexts are tables: CGROUP_SOCK, CGROUP_SOCK_ADDR, CGROUP_SYSCTL, CGROUP_SOCKOPT,
// SOCK_OPS, SK_MSG, SK_REUSEPORT. They load, and those of cgroups attach. Not modelled yet: that they run, so
// that accesses of their contexts stay as the program wrote them, where the kernel rewrites them into
// accesses of its own structs; and the helpers that only they have.
#include "hook/ctx_fields.h"
#include "hook/types.h"
#include "uapi/context.h"

namespace bpfsim {

namespace {

using enum CtxAccess;
constexpr uint32_t kSocketOrNull = uint32_t(PTR_TO_SOCKET) | PTR_MAYBE_NULL;

constexpr uint64_t kSockLife = at_types(BPF_CGROUP_INET_SOCK_CREATE, BPF_CGROUP_INET_SOCK_RELEASE);
constexpr uint64_t kBound4 = at_types(BPF_CGROUP_INET4_POST_BIND),
                   kBound6 = at_types(BPF_CGROUP_INET6_POST_BIND);
constexpr CtxField sock_fields[] = {
    {CTX(bpf_sock, bound_dev_if), Word, Word, 0, kSockLife, kSockLife},
    wider_since(Gate::sock_narrow, {CTX_START(bpf_sock, family), Narrow}),
    wider_since(Gate::sock_narrow, {CTX_START(bpf_sock, type), Narrow}),
    wider_since(Gate::sock_narrow, {CTX_START(bpf_sock, protocol), Narrow}),
    {CTX(bpf_sock, mark), Word, Word, 0, kSockLife, kSockLife},
    {CTX(bpf_sock, priority), Word, Word, 0, kSockLife, kSockLife},
    {CTX(bpf_sock, src_ip4), Narrow, No, 0, kBound4},
    {CTX(bpf_sock, src_ip6), Narrow, No, 0, kBound6},
    wider_since(Gate::sock_narrow, {CTX_START(bpf_sock, src_port), Narrow, No, 0, kBound4 | kBound6}),
    {CTX(bpf_sock, dst_port), WordOrHalf},
    {CTX(bpf_sock, dst_ip4), Narrow},
    {CTX(bpf_sock, dst_ip6), Narrow},
    {CTX_START(bpf_sock, state), Narrow},
    {CTX_START(bpf_sock, rx_queue_mapping), Narrow},
};

constexpr uint64_t kAddr4 =
    at_types(BPF_CGROUP_INET4_BIND, BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET4_GETPEERNAME,
             BPF_CGROUP_INET4_GETSOCKNAME, BPF_CGROUP_UDP4_SENDMSG, BPF_CGROUP_UDP4_RECVMSG);
constexpr uint64_t kAddr6 =
    at_types(BPF_CGROUP_INET6_BIND, BPF_CGROUP_INET6_CONNECT, BPF_CGROUP_INET6_GETPEERNAME,
             BPF_CGROUP_INET6_GETSOCKNAME, BPF_CGROUP_UDP6_SENDMSG, BPF_CGROUP_UDP6_RECVMSG);
constexpr uint64_t kSend4 = at_types(BPF_CGROUP_UDP4_SENDMSG), kSend6 = at_types(BPF_CGROUP_UDP6_SENDMSG);
constexpr CtxField sock_addr_fields[] = {
    {CTX(bpf_sock_addr, user_family), Word},
    {CTX(bpf_sock_addr, user_ip4), Narrow, Word, 0, kAddr4, kAddr4},
    wider_since(Gate::sock_addr_wide, {CTX(bpf_sock_addr, user_ip6), Wide, Wide, 0, kAddr6, kAddr6}),
    wider_since(Gate::sock_addr_narrow_port, {CTX(bpf_sock_addr, user_port), Narrow, Word}),
    {CTX_TILL(bpf_sock_addr, family, protocol), Word},
    {CTX(bpf_sock_addr, msg_src_ip4), Narrow, Word, 0, kSend4, kSend4},
    wider_since(Gate::sock_addr_wide, {CTX(bpf_sock_addr, msg_src_ip6), Wide, Wide, 0, kSend6, kSend6}),
    {CTX(bpf_sock_addr, sk), Dword, No, PTR_TO_SOCKET},
};

constexpr CtxField sysctl_fields[] = {
    {CTX(bpf_sysctl, write), Narrow},
    {CTX(bpf_sysctl, file_pos), Narrow, Word},
};

constexpr uint64_t kGetsockopt = at_types(BPF_CGROUP_GETSOCKOPT),
                   kSetsockopt = at_types(BPF_CGROUP_SETSOCKOPT);
constexpr CtxField sockopt_fields[] = {
    {CTX(bpf_sockopt, sk), Dword, No, PTR_TO_SOCKET},
    {CTX(bpf_sockopt, optval), Dword, No, PTR_TO_PACKET},
    {CTX(bpf_sockopt, optval_end), Dword, No, PTR_TO_PACKET_END},
    {CTX_TILL(bpf_sockopt, level, optname), Word, Word, 0, kAnyAttachType, kSetsockopt},
    {CTX(bpf_sockopt, optlen), Word, Word},
    {CTX(bpf_sockopt, retval), Word, Word, 0, kGetsockopt, kGetsockopt},
};

constexpr CtxField sock_ops_fields[] = {
    {CTX(bpf_sock_ops, reply), Word, Word},
    {CTX(bpf_sock_ops, sk_txhash), Word, Word},
    {CTX_TILL(bpf_sock_ops, bytes_received, bytes_acked), Dword},
    {CTX(bpf_sock_ops, sk), Dword, No, kSocketOrNull},
    {CTX(bpf_sock_ops, skb_data), Dword, No, PTR_TO_PACKET},
    {CTX(bpf_sock_ops, skb_data_end), Dword, No, PTR_TO_PACKET_END},
    {CTX_START(bpf_sock_ops, skb_tcp_flags), Narrow},
    {CTX(bpf_sock_ops, skb_hwtstamp), Dword},
    {0, sizeof(bpf_sock_ops), Word},
};

constexpr CtxField sk_msg_fields[] = {
    {CTX(sk_msg_md, data), Dword, No, PTR_TO_PACKET},
    {CTX(sk_msg_md, data_end), Dword, No, PTR_TO_PACKET_END},
    {CTX(sk_msg_md, sk), Dword, No, PTR_TO_SOCKET},
    {CTX_TILL(sk_msg_md, family, size), Word},
};

constexpr CtxField sk_reuseport_fields[] = {
    {CTX_START(sk_reuseport_md, data), Dword, No, PTR_TO_PACKET},
    {CTX_START(sk_reuseport_md, data_end), Dword, No, PTR_TO_PACKET_END},
    {CTX_START(sk_reuseport_md, hash), Word},
    {CTX_START(sk_reuseport_md, sk), Dword, No, PTR_TO_SOCKET},
    {CTX_START(sk_reuseport_md, migrating_sk), Dword, No, uint32_t(PTR_TO_SOCK_COMMON) | PTR_MAYBE_NULL},
    {CTX(sk_reuseport_md, eth_protocol), HalfOrWord},
    {CTX(sk_reuseport_md, ip_protocol), Narrow},
    {CTX(sk_reuseport_md, bind_inany), Narrow},
    {CTX(sk_reuseport_md, len), Narrow},
};

}  // namespace

// A type's three tables: is_valid_access, verifier_ops and prog_ops.
#define TYPE_OF_TABLE(prefix, fields, context)                                                    \
  static bool prefix##_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog, \
                                       InsnAccessAux& info) {                                     \
    return ctx_access_allowed(fields, sizeof(context), {off, size, type}, prog, info);            \
  }                                                                                               \
  const VerifierOps prefix##_verifier_ops = {                                                     \
      .name = #prefix,                                                                            \
      .get_func_proto = helper_for,                                                               \
      .is_valid_access = prefix##_is_valid_access,                                                \
      .gen_prologue = nullptr,                                                                    \
      .convert_ctx_access = nullptr,                                                              \
  };                                                                                              \
  const ProgOps prefix##_prog_ops = {.name = #prefix, .test_run = nullptr};

TYPE_OF_TABLE(cg_sock, sock_fields, bpf_sock)
TYPE_OF_TABLE(cg_sock_addr, sock_addr_fields, bpf_sock_addr)
TYPE_OF_TABLE(cg_sysctl, sysctl_fields, bpf_sysctl)
TYPE_OF_TABLE(cg_sockopt, sockopt_fields, bpf_sockopt)
TYPE_OF_TABLE(sock_ops, sock_ops_fields, bpf_sock_ops)
TYPE_OF_TABLE(sk_msg, sk_msg_fields, sk_msg_md)
TYPE_OF_TABLE(sk_reuseport, sk_reuseport_fields, sk_reuseport_md)
#undef TYPE_OF_TABLE

}  // namespace bpfsim
