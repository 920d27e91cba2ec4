// XDP_REDIRECT through maps of devices and CPUs: where the packet goes, and which programs see it on its way.
#include "hook/hook.h"
#include "sim.h"
#include "uapi/context.h"

using namespace bpfsim;

namespace {

struct Redirect : Sim {
  NetDevice& eth0 = *init_net(machine()).by_name("eth0");
  NetDevice& veth0 = register_netdevice(machine(), "veth0", true);
  NetDevice& veth1 = register_netdevice(machine(), "veth1", true);

  int xdp(std::vector<bpf_insn> insns, bpf_attach_type attach = BPF_XDP) {
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, insns);
    attr.expected_attach_type = attach;
    const int fd = int(bpf(BPF_PROG_LOAD, attr));
    INFO(why());
    REQUIRE(fd >= 0);
    return fd;
  }
  // A program that redirects by this key of the map, and what becomes of a packet.
  Receipt send(long map, int key, int flags) {
    std::vector<bpf_insn> insns = {make_insn(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, int(map)),
                                   make_insn(0, 0, 0, 0, 0),
                                   mov64_imm(2, key),
                                   mov64_imm(3, flags),
                                   call_helper(BPF_FUNC_redirect_map),
                                   exit_insn()};
    const int fd = xdp(insns);
    REQUIRE(dev_change_xdp(eth0, &prog(fd), nullptr, 0).ok());
    Receipt receipt = receive(eth0, std::vector<uint8_t>(64, 1));
    REQUIRE(dev_change_xdp(eth0, nullptr, nullptr, 0).ok());
    close(fd);
    return receipt;
  }
  void put(long map, uint32_t key, uint32_t number, int prog_fd = 0) {
    const uint32_t value[2] = {number, uint32_t(prog_fd)};
    REQUIRE(map_update(map, &key, value) == 0);
  }
};

}  // namespace

TEST_CASE("bpf_redirect_map sends a packet to the device of an entry") {
  Redirect s;
  for (bpf_map_type type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH}) {
    const long map = s.map_create(type, 4, 8, 4);
    s.put(map, 2, uint32_t(s.veth0.ifindex));
    const uint64_t before = s.veth0.counters.tx_packets;
    Receipt receipt = s.send(map, 2, XDP_PASS);
    CHECK(receipt.verdict == XDP_REDIRECT);
    CHECK(receipt.redirect_ifindex == s.veth0.ifindex);
    CHECK(receipt.redirect_map_id == s.map(map).id);
    CHECK(s.veth0.counters.tx_packets == before + 1);
    // no such entry: the lower bits of the flags are the answer
    CHECK(s.send(map, 1, XDP_PASS).verdict == XDP_PASS);
    CHECK(s.send(map, 1, XDP_DROP).verdict == XDP_DROP);
    CHECK(s.send(map, 2, 64).verdict == XDP_ABORTED);
  }
}

TEST_CASE("A broadcast goes to every device of the map, or to every other") {
  Redirect s;
  for (bpf_map_type type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH}) {
    const long map = s.map_create(type, 4, 8, 4);
    s.put(map, 0, uint32_t(s.eth0.ifindex));
    s.put(map, 1, uint32_t(s.veth0.ifindex));
    s.put(map, 3, uint32_t(s.veth1.ifindex));
    CHECK(s.send(map, 0, int(BPF_F_BROADCAST)).redirected_to.size() == 3);
    const Receipt others = s.send(map, 0, int(BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS));
    CHECK(others.redirected_to == std::vector<int>{s.veth0.ifindex, s.veth1.ifindex});
  }
}

TEST_CASE("The program of an entry sees the packet on its way out, and which device that is") {
  Redirect s;
  // Passes what leaves by veth1, drops the rest.
  const int choosy = s.xdp({ldx_mem(BPF_W, 2, 1, offsetof(xdp_md, egress_ifindex)), mov64_imm(0, XDP_DROP),
                            jmp_imm(BPF_JNE, 2, s.veth1.ifindex, 1), mov64_imm(0, XDP_PASS), exit_insn()},
                           BPF_XDP_DEVMAP);
  const long map = s.map_create(BPF_MAP_TYPE_DEVMAP, 4, 8, 4);
  s.put(map, 0, uint32_t(s.veth0.ifindex), choosy);
  s.put(map, 1, uint32_t(s.veth1.ifindex), choosy);
  CHECK(s.send(map, 0, 0).redirected_to.empty());
  CHECK(s.send(map, 1, 0).redirected_to == std::vector<int>{s.veth1.ifindex});
  CHECK(s.veth0.counters.tx_packets == 0);
}

TEST_CASE("A map of CPUs sends a packet to another CPU, where its program decides") {
  Redirect s;
  const long map = s.map_create(BPF_MAP_TYPE_CPUMAP, 4, 8, 2);
  const int drop = s.xdp({mov64_imm(0, XDP_DROP), exit_insn()}, BPF_XDP_CPUMAP);
  s.put(map, 1, 64);
  const uint64_t before = s.eth0.counters.to_stack;
  const Receipt receipt = s.send(map, 1, 0);
  CHECK(receipt.verdict == XDP_REDIRECT);
  CHECK(receipt.redirect_cpu == 1);
  CHECK(s.eth0.counters.to_stack == before + 1);
  s.put(map, 1, 64, drop);
  CHECK(s.send(map, 1, 0).redirect_cpu == 1);
  CHECK(s.eth0.counters.to_stack == before + 1);
  CHECK(s.send(map, 1, int(BPF_F_BROADCAST)).verdict == XDP_ABORTED);  // not for CPUs
}
