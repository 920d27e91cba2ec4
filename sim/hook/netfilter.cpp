// Models: net/netfilter/nf_bpf_link.c, net/netfilter/core.c (nf_register_net_hook) (Linux 6.18)
//
// Programs at the hooks of netfilter: one for each protocol and place that a packet passes, in the order of
// their priorities, attached by links only, to the namespace of the task. No two of them may have the same
// priority. With BPF_F_NETFILTER_IP_DEFRAG the namespace puts fragments together before the program, at a
// priority of its own. TEST_RUN makes a packet and the state of a hook. Not modelled yet: that these hooks
// fire, and the members sk, net and okfn of struct nf_hook_state.
#include <algorithm>
#include <cstring>

#include "btf/btf_types.h"
#include "hook/attach.h"
#include "hook/test_run.h"
#include "hook/types.h"
#include "host/tracing.h"
#include "object/btf.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

enum : uint32_t { NFPROTO_IPV4 = 2, NFPROTO_IPV6 = 10 };
enum : uint32_t { NF_INET_PRE_ROUTING = 0, NF_INET_LOCAL_OUT = 3, NF_INET_NUMHOOKS = 5 };
constexpr int NF_IP_PRI_FIRST = INT32_MIN, NF_IP_PRI_LAST = INT32_MAX, NF_IP_PRI_CONNTRACK_DEFRAG = -400;
constexpr size_t MAX_HOOK_COUNT = 1024;

struct NfLink final : Link {
  NfLink(NetNs& net, Prog& prog, NfHook place, bool defrag);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    if (!dead) visit({&net, Counter::Refs, true, "nf_link->net"});
  }
  NetNs& net;
  const NfHook place;
  const bool defrag;
  bool dead = false;  // detached
};
NfLink& nf_link(Link& link) { return static_cast<NfLink&>(link); }
const NfLink& nf_link(const Link& link) { return static_cast<const NfLink&>(link); }

bool same_place(const NfHook& one, const NfHook& other) {
  return one.pf == other.pf && one.hooknum == other.hooknum;
}

void add_hook(NetNs& net, const NfHook& hook) {
  auto after = std::find_if(net.nf_hooks.begin(), net.nf_hooks.end(), [&](const NfHook& one) {
    return std::tie(one.pf, one.hooknum, one.priority) > std::tie(hook.pf, hook.hooknum, hook.priority);
  });
  net.nf_hooks.insert(after, hook);
}

// The kernel's own hooks may share a priority with a program's; a program's with nobody's.
Result<void> nf_register_net_hook(NetNs& net, const NfHook& hook) {
  KFN(net.machine, nf_register_net_hook);
  size_t there = 0;
  for (const NfHook& one : net.nf_hooks) {
    if (!same_place(one, hook)) continue;
    ++there;
    if (one.priority == hook.priority)
      return refuse(Errno::Busy, "a hook of priority {} is there already", hook.priority);
  }
  if (there >= MAX_HOOK_COUNT) return refuse(Errno::TooBig, "{} hooks are there already", there);
  add_hook(net, hook);
  return {};
}

constexpr uint32_t kDefragAt[] = {NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT};

void bpf_nf_enable_defrag(NetNs& net, uint32_t pf) {
  if (net.defrag_users[pf]++) return;
  for (uint32_t hooknum : kDefragAt) add_hook(net, {pf, hooknum, NF_IP_PRI_CONNTRACK_DEFRAG, nullptr});
}

void bpf_nf_disable_defrag(NetNs& net, uint32_t pf) {
  if (--net.defrag_users[pf]) return;
  std::erase_if(net.nf_hooks, [&](const NfHook& one) { return one.pf == pf && !one.link; });
}

void bpf_nf_link_release(Link& link) {
  KFN(link.machine, bpf_nf_link_release);
  NfLink& nf = nf_link(link);
  if (std::exchange(nf.dead, true)) return;
  std::erase_if(nf.net.nf_hooks, [&](const NfHook& one) { return one.link == &link; });
  if (nf.defrag) bpf_nf_disable_defrag(nf.net, nf.place.pf);
}

Result<void> bpf_nf_link_detach(Link& link) {
  bpf_nf_link_release(link);
  return {};
}

Result<void> bpf_nf_link_update(Link& link, Prog&, Prog*, Holding&) {
  return refuse(Errno::OpNotSupp, "a {} link keeps its program", link.ops.name);
}

std::string bpf_nf_link_show_info(const Link& link) {
  const NfHook& place = nf_link(link).place;
  return "pf:\t" + std::to_string(place.pf) + "\thooknum:\t" + std::to_string(place.hooknum) + "\tprio:\t" +
         std::to_string(place.priority) + "\n";
}

Result<void> bpf_nf_link_fill_link_info(const Link& link, bpf_link_info& info) {
  const NfHook& place = nf_link(link).place;
  info.netfilter.pf = place.pf;
  info.netfilter.hooknum = place.hooknum;
  info.netfilter.priority = place.priority;
  info.netfilter.flags = nf_link(link).defrag ? BPF_F_NETFILTER_IP_DEFRAG : 0;
  return {};
}

const LinkOps bpf_nf_link_lops = {
    .name = "netfilter",
    .release = bpf_nf_link_release,
    .detach = bpf_nf_link_detach,
    .update_prog = bpf_nf_link_update,
    .show_fdinfo = bpf_nf_link_show_info,
    .fill_link_info = bpf_nf_link_fill_link_info,
};

NfLink::NfLink(NetNs& net, Prog& prog, NfHook place, bool defrag)
    : Link(net.machine, BPF_LINK_TYPE_NETFILTER, bpf_nf_link_lops, &prog, BPF_NETFILTER),
      net(net),
      place{place.pf, place.hooknum, place.priority, this},
      defrag(defrag) {}

Result<void> bpf_nf_check_pf_and_hooks(const Machine& machine, const bpf_attr& attr) {
  const auto& at = attr.link_create.netfilter;
  if (at.pf != NFPROTO_IPV4 && at.pf != NFPROTO_IPV6)
    return refuse(Errno::AfNoSupport, "pf {}: only IPv4 (2) and IPv6 (10) have such hooks", at.pf);
  if (at.hooknum >= NF_INET_NUMHOOKS)
    return refuse(Errno::Proto, "hooknum {}: there are {} hooks", at.hooknum, uint32_t(NF_INET_NUMHOOKS));
  const uint32_t known = has(Gate::netfilter_defrag, machine.version) ? BPF_F_NETFILTER_IP_DEFRAG : 0;
  if (at.flags & ~known) return refuse(Errno::OpNotSupp, "flags {}: known are {}", at.flags, known);
  if (at.priority == NF_IP_PRI_FIRST || at.priority == NF_IP_PRI_LAST)
    return refuse(Errno::Range, "the first and the last priority are the kernel's own");
  if ((at.flags & BPF_F_NETFILTER_IP_DEFRAG) && at.priority <= NF_IP_PRI_CONNTRACK_DEFRAG)
    return refuse(Errno::Range, "priority {} is before fragments are put together, at {}", at.priority,
                  NF_IP_PRI_CONNTRACK_DEFRAG);
  return {};
}

bool nf_ptr_to_btf_id(const Prog& prog, InsnAccessAux& info, const char* name) {
  const Btf* vmlinux = tracing(prog.machine).btf_vmlinux;
  if (!vmlinux) return false;
  info.btf_id = vmlinux->types->find_by_name(name, BTF_KIND_STRUCT);
  info.reg_type = uint32_t(PTR_TO_BTF_ID) | PTR_TRUSTED;
  return info.btf_id != 0;
}

// struct nf_hook_state and struct bpf_nf_ctx, as they lie in memory.
struct HookState {
  uint8_t hook = NF_INET_LOCAL_OUT, pf = NFPROTO_IPV4;
  uint8_t unused[6] = {};  // programs see these bytes too
  Addr in = 0, out = 0, sk = 0, net = 0, okfn = 0;
};
static_assert(sizeof(HookState) == 48 && offsetof(HookState, in) == 8);
struct NfCtx {
  Addr state, skb;
};

// What user space says of the hook. The device is that of the hook which the state has by itself, whatever
// hook the caller names: so does 6.18.
Result<HookState> verify_and_copy_hook_state(const TestContext& given, const NetDevice& dev) {
  HookState state, user;
  if (!given.given) return state;
  std::memcpy(&user, given.bytes.data(), sizeof user);
  if (user.in || user.out || user.sk || user.net || user.okfn)
    return refuse(Errno::Inval, "the context's pointers must be 0");
  if (user.pf != NFPROTO_IPV4 && user.pf != NFPROTO_IPV6)
    return refuse(Errno::Inval, "pf {}: only IPv4 (2) and IPv6 (10) have such hooks", user.pf);
  state.out = dev.dev();
  state.pf = user.pf;
  state.hook = user.hook;
  return state;
}

// A packet that leaves has no Ethernet header yet; at the other hooks it had one, which names its protocol.
Result<void> set_protocol(const Skb& skb, const HookState& state, const NetDevice& dev,
                          const std::vector<uint8_t>& data) {
  constexpr uint16_t kIpv4 = 0x0008, kIpv6 = 0xdd86;  // htons(ETH_P_IP), htons(ETH_P_IPV6)
  constexpr size_t kIpv4Header = 20, kIpv6Header = 40;
  const uint16_t expected = state.pf == NFPROTO_IPV4 ? kIpv4 : kIpv6;
  if (state.hook == NF_INET_LOCAL_OUT) {
    skb.skb().protocol = expected;
    return {};
  }
  if (data.size() < ETH_HLEN + kIpv4Header)
    return refuse(Errno::Inval, "{} bytes hold no packet", data.size());
  eth_type_trans(skb, dev, data.data());
  const uint16_t protocol = skb.skb().protocol;
  if (protocol != kIpv4 && protocol != kIpv6)
    return refuse(Errno::Proto, "the frame carries neither IPv4 nor IPv6");
  if (protocol == kIpv6 && data.size() < ETH_HLEN + kIpv6Header)
    return refuse(Errno::Inval, "{} bytes hold no IPv6 packet", data.size());
  if (protocol != expected)
    return refuse(Errno::Inval, "the frame carries another protocol than pf {}", state.pf);
  return {};
}

Result<void> bpf_prog_test_run_nf(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_nf);
  constexpr uint32_t headroom = 64, kLeast = 20;  // NET_SKB_PAD; an IPv4 header
  const uint32_t size = attr.test.data_size_in;
  if (attr.test.flags || attr.test.cpu || attr.test.batch_size)
    return refuse(Errno::Inval, "flags {}, cpu {} and batch_size {} must be 0", attr.test.flags,
                  attr.test.cpu, attr.test.batch_size);
  if (size < kLeast || size > kFrameSize - headroom - kSharedInfoSize)
    return refuse(Errno::Inval, "a packet of {} bytes: {} to {} may be", size, kLeast,
                  kFrameSize - headroom - kSharedInfoSize);
  std::vector<uint8_t> data(size);
  TRY(copy_from_user(machine, data.data(), attr.test.data_in, size));
  const TestContext given = TRY(bpf_ctx_init(machine, attr, sizeof(HookState)));
  const NetDevice& lo = *init_net(machine).by_index(1);
  const HookState state = TRY(verify_and_copy_hook_state(given, lo));
  const std::unique_ptr<Skb> skb = TRY(Skb::make(machine, data.data(), size, headroom));
  TRY(set_protocol(*skb, state, lo, data));
  const TestMemory memory(machine, TRY(machine.arena.alloc(sizeof state + sizeof(NfCtx), "test context")));
  const NfCtx ctx{memory.span.addr, skb->ctx()};
  std::memcpy(memory.span.host, &state, sizeof state);
  std::memcpy(memory.span.host + sizeof state, &ctx, sizeof ctx);
  const TestOutcome outcome =
      TRY(bpf_test_run(machine, prog, memory.span.addr + sizeof state, attr.test.repeat));
  return bpf_test_finish(machine, attr, uattr, {}, 0, outcome.retval, outcome.duration);
}

bool nf_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog, InsnAccessAux& info) {
  if (off < 0 || off >= int(sizeof(NfCtx)) || type != BPF_READ || size != 8 || off % 8) return false;
  return nf_ptr_to_btf_id(prog, info, off < 8 ? "nf_hook_state" : "sk_buff");
}

}  // namespace

Result<Link*> bpf_nf_link_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_nf_link_attach);
  if (attr.link_create.flags)
    return refuse(Errno::Inval, "flags {} have no meaning here", attr.link_create.flags);
  TRY(bpf_nf_check_pf_and_hooks(machine, attr));
  const auto& at = attr.link_create.netfilter;
  NetNs& net = netns_of(machine);
  const bool defrag = (at.flags & BPF_F_NETFILTER_IP_DEFRAG) != 0;
  auto link = std::make_unique<NfLink>(net, prog, NfHook{at.pf, at.hooknum, at.priority, nullptr}, defrag);
  if (defrag) bpf_nf_enable_defrag(net, at.pf);
  if (Result<void> hooked = nf_register_net_hook(net, link->place); !hooked) {
    if (defrag) bpf_nf_disable_defrag(net, at.pf);
    link->dead = true;
    return hooked.refusal();
  }
  return link.release();
}

const VerifierOps netfilter_verifier_ops = {
    .name = "netfilter", .get_func_proto = helper_for, .is_valid_access = nf_is_valid_access};
const ProgOps netfilter_prog_ops = {.name = "netfilter", .test_run = bpf_prog_test_run_nf};

}  // namespace bpfsim
