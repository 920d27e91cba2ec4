// Models: include/linux/bpf.h, include/linux/netdevice.h (what attaches and fires) (Linux 6.18)
//
// The tables of the program types that are modelled, and the places where their programs run.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "host/net_device.h"
#include "object/ops.h"
#include "run/engine.h"

namespace bpfsim {

struct ProbedFile;

#define TYPE_TABLES(prefix)                       \
  extern const VerifierOps prefix##_verifier_ops; \
  extern const ProgOps prefix##_prog_ops;
TYPE_TABLES(xdp)
TYPE_TABLES(sk_filter)
TYPE_TABLES(tc_cls_act)
TYPE_TABLES(cg_skb)
TYPE_TABLES(sk_skb)
TYPE_TABLES(cg_dev)
TYPE_TABLES(cg_sock)
TYPE_TABLES(cg_sock_addr)
TYPE_TABLES(cg_sysctl)
TYPE_TABLES(cg_sockopt)
TYPE_TABLES(sock_ops)
TYPE_TABLES(sk_msg)
TYPE_TABLES(sk_lookup)
TYPE_TABLES(sk_reuseport)
TYPE_TABLES(flow_dissector)
TYPE_TABLES(lwt_in)
TYPE_TABLES(lwt_out)
TYPE_TABLES(lwt_xmit)
TYPE_TABLES(lwt_seg6local)
TYPE_TABLES(netfilter)
// tracing_types.cpp
TYPE_TABLES(kprobe)
TYPE_TABLES(tracepoint)
TYPE_TABLES(perf_event)
TYPE_TABLES(raw_tracepoint)
TYPE_TABLES(raw_tracepoint_writable)
TYPE_TABLES(bpf_syscall)
TYPE_TABLES(bpf_extension)  // bpf_lsm.cpp
TYPE_TABLES(lsm)
#undef TYPE_TABLES

// Attaching XDP as rtnetlink does: `new_prog` (null: detach) replaces what is there; with XDP_FLAGS_REPLACE
// only if that is `expected`. The device takes a reference of its own.
Result<void> dev_change_xdp(NetDevice& dev, Prog* new_prog, Prog* expected, uint32_t flags);

// BPF_LINK_CREATE for XDP. The link takes over the caller's reference of the program when this succeeds; it
// has no reference, id or descriptor yet.
Result<Link*> bpf_xdp_link_attach(Prog& prog, const bpf_attr& attr);

// tracing_attach.cpp: the same for tracing programs; a raw tracepoint is named by user space, or by a TRACING
// program's BTF id.
Result<Link*> bpf_raw_tp_link_attach(Prog& prog, uint64_t user_tp_name, uint64_t cookie);
Result<Link*> bpf_perf_link_attach(Prog& prog, const bpf_attr& attr);
Result<Link*> bpf_tracing_prog_attach(Prog& prog, uint32_t tgt_prog_fd, uint32_t btf_id, uint64_t cookie,
                                      uint32_t attach_type);
// trampoline.cpp: ENOENT, EBUSY, E2BIG where the function takes no more; and off again.
Trampoline* bpf_trampoline_of(Machine& machine, Prog* tgt_prog, uint32_t btf_id, const std::string& function);
Result<void> bpf_trampoline_link_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog);
void bpf_trampoline_unlink_prog(Trampoline& trampoline, Link& link, Prog* tgt_prog);
// LSM programs on cgroups share one program on the hook, whatever their number.
Result<void> bpf_trampoline_link_cgroup_shim(Prog& prog, uint32_t cgroup_atype);
void bpf_trampoline_unlink_cgroup_shim(const Prog& prog);
// multi_probes.cpp; kern_path finds the file of a path, null for one that cannot be run (a pin).
using KernPath = Result<ProbedFile*> (*)(Machine& machine, const std::string& path);
Result<Link*> bpf_kprobe_multi_link_attach(Prog& prog, const bpf_attr& attr);
Result<Link*> bpf_uprobe_multi_link_attach(Prog& prog, const bpf_attr& attr, KernPath kern_path);
std::string raw_tp_link_name(const Link& link);  // the tracepoint's; empty for another kind of link

extern const VerifierOps bpf_struct_ops_verifier_ops;  // bpf_dummy_ops.cpp
extern const ProgOps bpf_struct_ops_prog_ops;
extern const VerifierOps bpf_tcp_ca_verifier_ops;
const VerifierOps* struct_ops_verifier_ops(std::string_view name);  // of a struct, by its name
// A context of arguments, as the function's prototype in BTF has them; and the same for reading only.
bool btf_ctx_access(int off, int size, const Prog& prog, InsnAccessAux& info);
bool bpf_tracing_btf_ctx_access(int off, int size, bpf_access_type type, const Prog& prog,
                                InsnAccessAux& info);
extern const VerifierOps tracing_verifier_ops;  // tracing_btf.cpp
extern const ProgOps tracing_prog_ops;

// Takes every XDP program off every device, as a machine does that shuts down.
void net_exit(Machine& machine);
// Takes a device away: programs come off it, links lose it, maps forget it.
void unregister_netdevice(NetDevice& dev);

// What became of a packet that arrived.
struct Receipt {
  bool ran = false;      // an XDP program saw it
  uint32_t verdict = 2;  // what it answered (XDP_PASS when none ran)
  RunStop stop = RunStop::Returned;
  bool dropped = false;            // also by the driver: runts, and what is too large for the program
  int redirect_ifindex = 0;        // XDP_REDIRECT: to this device,
  uint32_t redirect_map_id = 0;    // as an entry of this map says, or 0
  std::vector<int> redirected_to;  // every device that sent it
  int redirect_cpu = -1;           // or to this CPU
  std::vector<uint8_t> packet;     // as the program left it
};
Receipt receive(NetDevice& dev, std::span<const uint8_t> packet, uint32_t queue = 0);

// Helpers of BPF_PROG_TEST_RUN that its program types share (hook/test_run.cpp).
struct TestContext {
  bool given = false;          // user space passed ctx_in or ctx_out
  std::vector<uint8_t> bytes;  // max_size, zero behind what was given
};
Result<TestContext> bpf_ctx_init(Machine& machine, const bpf_attr& attr, uint32_t max_size);
Result<void> bpf_ctx_finish(Machine& machine, const bpf_attr& attr, UserAttr uattr, const TestContext& ctx);
// `whole` is what the program left, of which the last `frags` bytes lie in fragments.
Result<void> bpf_test_finish(Machine& machine, const bpf_attr& attr, UserAttr uattr,
                             const std::vector<uint8_t>& whole, uint64_t frags, uint32_t retval,
                             uint32_t duration);
void eth_type_trans(const Skb& skb, const NetDevice& dev, const uint8_t* frame);  // skb.cpp
struct TestOutcome {
  uint32_t retval = 0, duration = 0;
};
// `before_each` makes anew what a run may have changed.
Result<TestOutcome> bpf_test_run(Machine& machine, Prog& prog, Addr ctx, uint32_t repeat,
                                 const std::function<void()>& before_each = nullptr);
// What a test program may reach, for as long as the test lasts.
struct TestMemory {
  TestMemory(Machine& machine, Span span) : machine(machine), span(span) {}
  ~TestMemory() { machine.arena.free(span); }
  TestMemory(const TestMemory&) = delete;
  Machine& machine;
  Span span;
};

struct XdpEvent final : Event {
  XdpEvent(const NetDevice& dev, uint32_t verdict) : ifindex(dev.ifindex), verdict(verdict) {}
  int ifindex;
  uint32_t verdict;
  const char* kind() const override { return "xdp"; }
  void fields(FieldSink& sink) const override {
    sink.number("ifindex", ifindex);
    sink.number("verdict", verdict);
  }
};

}  // namespace bpfsim
