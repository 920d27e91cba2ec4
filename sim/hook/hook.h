// Models: include/linux/bpf.h, include/linux/netdevice.h (what attaches and fires) (Linux 6.18)
//
// Where XDP and tracing programs are attached, and packets that arrive. The others: hook/attach.h.
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

// Attaching XDP as rtnetlink does: `new_prog` (null: detach) replaces what is there; with XDP_FLAGS_REPLACE
// only if that is `expected`. The device takes a reference of its own.
Result<void> dev_change_xdp(NetDevice& dev, Prog* new_prog, Prog* expected, uint32_t flags);

// BPF_LINK_CREATE for XDP. The link takes over the caller's reference of the program when this succeeds; it
// has no reference, id or descriptor yet.
Result<Link*> bpf_xdp_link_attach(Prog& prog, const bpf_attr& attr);

// tracing_attach.cpp: the same for tracing programs; a raw tracepoint is named by user space, or by a TRACING
// program's BTF id.
Result<Link*> bpf_raw_tp_link_attach(Prog& prog, uint64_t user_tp_name, uint64_t cookie);
bool copy_tp_name(Machine& machine, uint64_t user_tp_name, std::string& name);  // false: EFAULT
Result<Link*> bpf_perf_link_attach(Prog& prog, const bpf_attr& attr);
Result<Link*> bpf_tracing_prog_attach(Prog& prog, uint32_t tgt_prog_fd, uint32_t btf_id, uint64_t cookie,
                                      uint32_t attach_type);
// multi_probes.cpp; kern_path finds the file of a path, null for one that cannot be run (a pin).
using KernPath = Result<ProbedFile*> (*)(Machine& machine, const std::string& path);
Result<Link*> bpf_kprobe_multi_link_attach(Prog& prog, const bpf_attr& attr);
Result<Link*> bpf_uprobe_multi_link_attach(Prog& prog, const bpf_attr& attr, KernPath kern_path);
std::string raw_tp_link_name(const Link& link);  // the tracepoint's; empty for another kind of link

// Takes every XDP program off every device, as a machine does that shuts down.
void net_exit(Machine& machine);
// Takes a device away: programs come off it, links lose it, maps forget it.
void unregister_netdevice(NetDevice& dev);

// What became of a packet that arrived.
struct Receipt {
  bool ran = false;      // an XDP program saw it
  uint32_t verdict = 2;  // what it answered (XDP_PASS when none ran)
  RunStop stop = RunStop::Returned;
  bool dropped = false;            // also by the driver, without a program:
  const char* refused = "";        // then why; "" otherwise
  int redirect_ifindex = 0;        // XDP_REDIRECT: to this device,
  uint32_t redirect_map_id = 0;    // as an entry of this map says, or 0
  std::vector<int> redirected_to;  // every device that sent it
  int redirect_cpu = -1;           // or to this CPU
  std::vector<uint8_t> packet;     // as the program left it
};
Receipt receive(NetDevice& dev, std::span<const uint8_t> packet, uint32_t queue = 0);

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
