// XDP on a device: ways to attach, what each holds, and what happens to packets.
#include <random>

#include "catch.h"
#include "object/graph.h"
#include "object/registry.h"
#include "support.h"
#include "uapi/if_link.h"

using namespace bpfsim;

namespace {

std::vector<bpf_insn> answer(int verdict) { return program(mov64_imm(0, verdict), exit_insn()); }

struct Bench {
  Kernel kernel{small_machine()};
  Machine& machine = kernel.machine();
  NetDevice& lo = *init_net(machine).by_index(1);
  NetDevice& eth0 = *init_net(machine).by_name("eth0");
  HookProgram drop{machine, BPF_PROG_TYPE_XDP, answer(XDP_DROP)},
      pass{machine, BPF_PROG_TYPE_XDP, answer(XDP_PASS)};

  ~Bench() { net_exit(machine); }

  // Programs' counters must be what their holders say, beside the one reference of the test itself.
  void check_references() {
    for (HookProgram* program : {&drop, &pass}) {
      int64_t edges = 1;
      for (auto& [serial, object] : machine.objects)
        object->each_held([&](const Held& held) { edges += held.object == &program->prog && held.strong; });
      CHECK(program->prog.aux->refcnt.value() == edges);
    }
  }
};

Errno err(const Result<void>& result) { return result.err(); }

}  // namespace

TEST_CASE("Attaching as rtnetlink does has the kernel's modes and refusals") {
  Bench b;
  CHECK(b.eth0.ifindex == 2);
  CHECK(err(dev_change_xdp(b.eth0, &b.drop.prog, nullptr, XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE)) ==
        Errno::Inval);
  CHECK(err(dev_change_xdp(b.eth0, &b.drop.prog, nullptr, XDP_FLAGS_HW_MODE)) == Errno::Inval);
  CHECK(err(dev_change_xdp(b.lo, &b.drop.prog, nullptr, XDP_FLAGS_DRV_MODE)) == Errno::OpNotSupp);
  CHECK(err(dev_change_xdp(b.lo, &b.drop.prog, nullptr, 0)) == Errno::None);
  CHECK(b.lo.xdp_state[XDP_MODE_SKB].prog == &b.drop.prog);
  b.check_references();
  CHECK(err(dev_change_xdp(b.eth0, &b.drop.prog, nullptr, 0)) == Errno::None);
  CHECK(b.eth0.xdp_state[XDP_MODE_DRV].prog == &b.drop.prog);
  b.check_references();
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, nullptr, XDP_FLAGS_SKB_MODE)) == Errno::Exist);
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, nullptr, XDP_FLAGS_UPDATE_IF_NOEXIST)) == Errno::Busy);
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, &b.pass.prog, XDP_FLAGS_REPLACE)) == Errno::Exist);
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, &b.drop.prog, 0)) == Errno::Inval);
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, &b.drop.prog, XDP_FLAGS_REPLACE)) == Errno::None);
  b.check_references();
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, nullptr, 0)) == Errno::None);  // the same again
  b.check_references();
  CHECK(err(dev_change_xdp(b.eth0, nullptr, nullptr, 0)) == Errno::None);
  CHECK(err(dev_change_xdp(b.lo, nullptr, nullptr, 0)) == Errno::None);
  b.check_references();
  CHECK(b.drop.prog.aux->refcnt.value() == 1);
  CHECK(b.pass.prog.aux->refcnt.value() == 1);
}

TEST_CASE("A link holds its program, keeps others off the device, and lets go when it dies") {
  Bench b;
  bpf_attr attr;
  attr.link_create.target_ifindex = 2;
  bpf_prog_inc(b.drop.prog, {"for the link"});
  auto link = bpf_xdp_link_attach(b.drop.prog, attr);
  REQUIRE(link.ok());
  (*link)->refcnt.inc({"held by a test"});
  b.check_references();
  CHECK(b.drop.prog.aux->refcnt.value() == 3);  // the test, the link, the driver
  CHECK(err(dev_change_xdp(b.eth0, &b.pass.prog, nullptr, 0)) == Errno::Busy);
  CHECK(bpf_xdp_link_attach(b.pass.prog, attr).err() == Errno::Busy);
  attr.link_create.flags = XDP_FLAGS_REPLACE;
  CHECK(bpf_xdp_link_attach(b.pass.prog, attr).err() == Errno::Inval);
  attr.link_create.flags = 0;
  attr.link_create.target_ifindex = 77;
  CHECK(bpf_xdp_link_attach(b.pass.prog, attr).err() == Errno::Inval);

  bpf_link_info info = {};
  REQUIRE((*link)->ops.fill_link_info(**link, info).ok());
  CHECK(info.xdp.ifindex == 2);
  CHECK((*link)->ops.show_fdinfo(**link) == "ifindex:\t2\n");

  bpf_prog_inc(b.pass.prog, {"for the update"});
  Holding given(b.machine, b.pass.prog, "the update");
  CHECK(err((*link)->ops.update_prog(**link, b.pass.prog, &b.pass.prog, given)) == Errno::Perm);
  CHECK(err((*link)->ops.update_prog(**link, b.pass.prog, &b.drop.prog, given)) == Errno::None);
  b.check_references();
  CHECK(receive(b.eth0, std::vector<uint8_t>(64)).verdict == XDP_PASS);

  REQUIRE((*link)->ops.detach(**link).ok());
  CHECK(err((*link)->ops.update_prog(**link, b.drop.prog, nullptr, given)) == Errno::NoLink);
  CHECK(!receive(b.eth0, std::vector<uint8_t>(64)).ran);
  b.check_references();
  bpf_link_put(**link, {"the test is over"});
  b.check_references();
  CHECK(b.drop.prog.aux->refcnt.value() == 1);
  CHECK(b.pass.prog.aux->refcnt.value() == 1);
}

TEST_CASE("Packets meet the program, and each verdict is counted") {
  Bench b;
  std::vector<uint8_t> packet(60, 7);
  CHECK(!receive(b.eth0, packet).ran);
  CHECK(b.eth0.counters.to_stack == 1);
  struct {
    int answer;
    uint32_t verdict;
    bool dropped;
  } const cases[] = {{XDP_ABORTED, 0, true}, {XDP_DROP, 1, true},     {XDP_PASS, 2, false},
                     {XDP_TX, 3, false},     {XDP_REDIRECT, 4, true}, {77, 77, true}};
  for (auto& c : cases) {
    HookProgram program(b.machine, BPF_PROG_TYPE_XDP, answer(c.answer));
    REQUIRE(dev_change_xdp(b.eth0, &program.prog, nullptr, 0).ok());
    Receipt receipt = receive(b.eth0, packet);
    CHECK(receipt.ran);
    CHECK(receipt.verdict == c.verdict);
    CHECK(receipt.dropped == c.dropped);
    CHECK((receipt.packet == packet));
    REQUIRE(dev_change_xdp(b.eth0, nullptr, nullptr, 0).ok());
  }
  CHECK(b.eth0.counters.verdict == std::array<uint64_t, 5>{1, 1, 1, 1, 1});
  CHECK(b.eth0.counters.invalid_verdict == 1);
  CHECK(b.eth0.counters.rx_packets == 7);
  CHECK(b.eth0.counters.rx_dropped == 4);
  CHECK(b.eth0.counters.to_stack == 2);
  CHECK(b.machine.dmesg.back().find("Illegal XDP return value 77") != std::string::npos);

  // a redirect to a device that is there
  HookProgram redirect(b.machine, BPF_PROG_TYPE_XDP,
                       program(mov64_imm(1, 1), mov64_imm(2, 0), call_helper(BPF_FUNC_redirect), exit_insn()),
                       9);
  REQUIRE(dev_change_xdp(b.eth0, &redirect.prog, nullptr, 0).ok());
  CHECK(!receive(b.eth0, packet).dropped);
  CHECK(b.lo.counters.tx_packets == 1);
  REQUIRE(dev_change_xdp(b.eth0, nullptr, nullptr, 0).ok());
}

TEST_CASE("Packets of any size and a program that oopses do no harm") {
  Bench b;
  std::mt19937 random(3);
  HookProgram wild(b.machine, BPF_PROG_TYPE_XDP,
                   program(ldx_mem(BPF_W, 2, 1, 0), ldx_mem(BPF_B, 0, 2, 0), mov64_imm(3, 0),
                           ldx_mem(BPF_B, 0, 3, 0), exit_insn()));
  for (Prog* prog : {static_cast<Prog*>(nullptr), &b.pass.prog, &wild.prog}) {
    REQUIRE(dev_change_xdp(b.eth0, prog, nullptr, 0).ok());
    for (size_t size : {0, 1, 13, 14, 60, 1514, 3520, 3521, 9000, 65535, 65536, 70000}) {
      Receipt receipt = receive(b.eth0, std::vector<uint8_t>(size, uint8_t(random())));
      bool runs = prog && size >= 14 && size <= 3520;
      INFO("size " << size);
      CHECK(receipt.ran == runs);
      if (prog == &wild.prog && runs) CHECK(receipt.stop == RunStop::Oops);
      if (!prog) CHECK(receipt.dropped == (size < 14 || size > 65550));
    }
  }
  CHECK(receive(b.eth0, std::vector<uint8_t>(64), 5).dropped);  // no such queue
  CHECK(b.machine.rcu.readers() == 0);
  REQUIRE(dev_change_xdp(b.eth0, nullptr, nullptr, 0).ok());
}
