// BPF_PROG_TEST_RUN against the live kernel: sizes, errors, contexts, and what programs do to packets.
#include <random>

#include "catch.h"
#include "support.h"
#include "uapi/context.h"

using namespace bpfsim;

namespace {

std::vector<uint8_t> numbered(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = uint8_t(i * 7 + 1);
  return bytes;
}

template <class T>
std::vector<uint8_t> bytes_of(const T& value) {
  auto first = reinterpret_cast<const uint8_t*>(&value);
  return {first, first + sizeof value};
}

// Runs the same bytes on both kernels and compares everything that user space sees.
void check_agrees(bpf_prog_type type, const std::vector<bpf_insn>& insns, const std::vector<TestInput>& inputs,
           int ctx = 1) {
  Kernel kernel(small_machine());
  HookProgram sim(kernel.machine(), type, insns, ctx);
  REQUIRE(sim.prepared.ok());
  long fd = live_load(type, insns);
  REQUIRE(fd >= 0);
  for (const TestInput& in : inputs) {
    TestRun here = sim_test_run(sim.prog, in), there = live_test_run(fd, in);
    INFO("data " << in.data.size() << " ctx " << in.ctx.size() << " room " << in.room << " repeat "
                 << in.repeat);
    CHECK(here.ret == there.ret);
    CHECK(here.retval == there.retval);
    CHECK(here.data_size_out == there.data_size_out);
    CHECK(here.ctx_size_out == there.ctx_size_out);
    CHECK((here.data_out == there.data_out));
    CHECK((here.ctx_out == there.ctx_out));
  }
  live::close_fd(fd);
}

TestInput packet(size_t size, uint32_t room = 1 << 17) {
  TestInput in;
  in.data = numbered(size);
  in.room = room;
  return in;
}

TestInput with_md(size_t size, const xdp_md& md) {
  TestInput in = packet(size);
  in.ctx = bytes_of(md);
  return in;
}

const std::vector<bpf_insn> kPass = program(mov64_imm(0, 2), exit_insn());

// r6 = ctx; the helper with one number; answer its result
std::vector<bpf_insn> adjust(int helper, int by) {
  return program(mov64_imm(2, by), call_helper(helper), exit_insn());
}

}  // namespace

TEST_CASE("XDP test runs take the sizes that the live kernel takes, and give back the same bytes") {
  LIVE_KERNEL_OR_SKIP();
  std::vector<TestInput> inputs;
  for (size_t size :
       {0, 1, 13, 14, 15, 60, 1500, 3519, 3520, 3521, 4096, 7616, 7617, 20000, 65535, 73152, 73153, 80000})
    inputs.push_back(packet(size));
  for (uint32_t room : {0u, 1u, 14u, 63u, 64u, 65u}) inputs.push_back(packet(64, room));
  for (uint32_t room : {1u, 3520u, 4000u, 4999u}) inputs.push_back(packet(5000, room));
  TestInput no_out = packet(64);
  no_out.null_out = true;
  inputs.push_back(no_out);
  TestInput repeated = packet(64);
  repeated.repeat = 5;
  inputs.push_back(repeated);
  TestInput flags = packet(64);
  flags.flags = 8;
  inputs.push_back(flags);
  check_agrees(BPF_PROG_TYPE_XDP, kPass, inputs);
}

TEST_CASE("An XDP context that user space gives is checked and given back as on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  auto reads = program(ldx_mem(BPF_W, 0, 1, 12), ldx_mem(BPF_W, 2, 1, 16), alu64_imm(BPF_LSH, 2, 8),
                       alu64_reg(BPF_ADD, 0, 2), exit_insn());
  std::vector<TestInput> inputs;
  auto add = [&](size_t size, uint32_t data, uint32_t end, uint32_t meta, uint32_t ifindex, uint32_t queue,
                 uint32_t egress) {
    inputs.push_back(with_md(size, {data, end, meta, ifindex, queue, egress}));
  };
  add(64, 0, 64, 0, 0, 0, 0);
  add(64, 0, 64, 0, 1, 0, 0);
  add(64, 0, 64, 0, 1, 1, 0);
  add(64, 0, 64, 0, 0, 1, 0);
  add(64, 0, 64, 0, 12345, 0, 0);
  add(64, 0, 64, 0, 1, 0, 1);
  add(64, 0, 64, 4, 1, 0, 0);
  add(64, 0, 65, 0, 1, 0, 0);
  add(64, 8, 4, 0, 1, 0, 0);
  for (uint32_t meta : {4, 6, 8, 32, 36, 50, 51, 52, 216, 220, 256}) add(300, meta, 300, 0, 0, 0, 0);
  add(64, 0, 20, 0, 0, 0, 0);
  add(64, 0, 0, 0, 0, 0, 0);
  add(64, 48, 64, 0, 0, 0, 0);
  add(64, 52, 64, 0, 0, 0, 0);
  TestInput longer = with_md(64, {0, 64, 0, 1, 0, 0});
  longer.ctx.resize(40);
  inputs.push_back(longer);
  longer.ctx[30] = 1;
  inputs.push_back(longer);
  longer.ctx.assign(5000, 0);
  inputs.push_back(longer);
  TestInput shorter = with_md(64, {0, 64, 0, 1, 0, 0});
  shorter.ctx.resize(16);
  inputs.push_back(shorter);
  TestInput little_room = with_md(64, {0, 64, 0, 1, 0, 0});
  little_room.ctx_room = 10;
  inputs.push_back(little_room);
  check_agrees(BPF_PROG_TYPE_XDP, reads, inputs);
}

TEST_CASE("Moving head, tail and metadata has the live kernel's limits") {
  LIVE_KERNEL_OR_SKIP();
  const int amounts[] = {0,
                         1,
                         -1,
                         4,
                         -4,
                         14,
                         49,
                         50,
                         51,
                         63,
                         64,
                         65,
                         -32,
                         -36,
                         -100,
                         -215,
                         -216,
                         -217,
                         -252,
                         -256,
                         -4096,
                         100,
                         2000,
                         3455,
                         3456,
                         3457,
                         4000,
                         0x7fffffff,
                         int(0x80000000)};
  for (int by : amounts) {
    INFO("by " << by);
    check_agrees(BPF_PROG_TYPE_XDP, adjust(BPF_FUNC_xdp_adjust_head, by), {packet(64), packet(5000)});
    check_agrees(BPF_PROG_TYPE_XDP, adjust(BPF_FUNC_xdp_adjust_tail, by), {packet(64), packet(5000), packet(7616)});
    check_agrees(BPF_PROG_TYPE_XDP, adjust(BPF_FUNC_xdp_adjust_meta, by),
          {packet(64), with_md(64, {16, 64, 0, 0, 0, 0}), with_md(300, {0, 300, 0, 0, 0, 0})});
  }
  // shrinking again and again, until the packet has its least size
  TestInput repeated = packet(64);
  repeated.repeat = 70;
  check_agrees(BPF_PROG_TYPE_XDP, adjust(BPF_FUNC_xdp_adjust_tail, -1), {repeated});
  TestInput frags = packet(9000);
  frags.repeat = 7;
  check_agrees(BPF_PROG_TYPE_XDP, adjust(BPF_FUNC_xdp_adjust_tail, -1500), {frags});
}

TEST_CASE("Bytes are copied in and out of packets as on the live kernel, across fragments too") {
  LIVE_KERNEL_OR_SKIP();
  for (int off : {0, 1, 50, 56, 57, 3510, 3512, 3513, 3520, 4992, 4993, 5000, 65535, 65536, -1}) {
    INFO("offset " << off);
    auto load = program(mov64_imm(2, off), mov64_reg(3, 10), alu64_imm(BPF_ADD, 3, -8), mov64_imm(4, 8),
                        call_helper(BPF_FUNC_xdp_load_bytes), jmp_imm(BPF_JNE, 0, 0, 2),
                        ldx_mem(BPF_W, 0, 10, -8), ja(0), exit_insn());
    check_agrees(BPF_PROG_TYPE_XDP, load, {packet(64), packet(5000)});
    auto store = program(st_mem(BPF_DW, 10, -8, 0x11223344), mov64_imm(2, off), mov64_reg(3, 10),
                         alu64_imm(BPF_ADD, 3, -8), mov64_imm(4, 8), call_helper(BPF_FUNC_xdp_store_bytes),
                         exit_insn());
    check_agrees(BPF_PROG_TYPE_XDP, store, {packet(64), packet(5000)});
  }
  check_agrees(BPF_PROG_TYPE_XDP, program(call_helper(BPF_FUNC_xdp_get_buff_len), exit_insn()),
        {packet(64), packet(5000)});
}

TEST_CASE("A program that reads and writes the packet leaves what it leaves on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  // if data + 20 > data_end: drop; swap bytes 0 and 6, answer byte 12
  auto insns = program(mov64_reg(6, 1), ldx_mem(BPF_W, 2, 6, 0), ldx_mem(BPF_W, 3, 6, 4), mov64_reg(4, 2),
                       alu64_imm(BPF_ADD, 4, 20), jmp_reg(BPF_JGT, 4, 3, 6), ldx_mem(BPF_B, 5, 2, 0),
                       ldx_mem(BPF_B, 4, 2, 6), stx_mem(BPF_B, 2, 4, 0), stx_mem(BPF_B, 2, 5, 6),
                       ldx_mem(BPF_B, 0, 2, 12), exit_insn(), mov64_imm(0, 1), exit_insn());
  check_agrees(BPF_PROG_TYPE_XDP, insns, {packet(14), packet(19), packet(20), packet(64), packet(5000)}, 6);
}

TEST_CASE("Socket filter and classifier test runs agree with the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  auto inputs = [] {
    std::vector<TestInput> all;
    for (size_t size : {0, 13, 14, 15, 33, 34, 64, 1500, 3711, 3712, 3713, 4096}) all.push_back(packet(size));
    for (auto [high, low] : {std::pair{0x08, 0x00}, {0x86, 0xdd}, {0x05, 0xdc}, {0x06, 0x00}}) {
      for (size_t size : {20, 33, 34, 53, 54, 64}) {
        TestInput in = packet(size);
        in.data[12] = uint8_t(high);
        in.data[13] = uint8_t(low);
        all.push_back(in);
      }
    }
    for (int first : {0x00, 0xff, 0x01, 0x02}) {
      TestInput in = packet(64);
      std::fill_n(in.data.begin(), 6, uint8_t(first));
      all.push_back(in);
    }
    all.push_back(packet(64, 10));
    return all;
  }();
  for (bpf_prog_type type : {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS}) {
    for (int off : {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 84, 164, 176}) {
      INFO("type " << type << " field at " << off);
      check_agrees(type, program(ldx_mem(BPF_W, 0, 1, off), exit_insn()), inputs);
    }
    for (int off : {0, 8, 42, 43, 50, 56, 57, 64}) {
      auto load = program(mov64_imm(2, off), mov64_reg(3, 10), alu64_imm(BPF_ADD, 3, -8), mov64_imm(4, 8),
                          call_helper(BPF_FUNC_skb_load_bytes), jmp_imm(BPF_JNE, 0, 0, 1),
                          ldx_mem(BPF_W, 0, 10, -8), exit_insn());
      check_agrees(type, load, {packet(64)});
    }
  }
}

TEST_CASE("A packet whose checksum was complete must not be changed behind its back") {
  LIVE_KERNEL_OR_SKIP();
  constexpr uint32_t kChecksumComplete = 4;
  std::vector<TestInput> inputs;
  for (size_t size : {15, 34, 63, 64}) inputs.push_back(packet(size));
  inputs.push_back(packet(64));
  std::fill(inputs.back().data.begin(), inputs.back().data.end(), uint8_t(0));
  for (TestInput& in : inputs) in.flags = kChecksumComplete;
  // Writes a byte at 20, which was 0x8d (or 0): the same one, another, and one of the Ethernet header.
  for (auto [at, byte] : {std::pair{20, 0x8d}, {20, 0}, {20, 7}, {3, 7}}) {
    auto writes = program(mov64_reg(6, 1), ldx_mem(BPF_W, 2, 1, 76), ldx_mem(BPF_W, 3, 1, 80),
                          mov64_reg(4, 2), alu64_imm(BPF_ADD, 4, 21), mov64_imm(0, 0),
                          jmp_reg(BPF_JGT, 4, 3, 1), st_mem(BPF_B, 2, at, byte), exit_insn());
    check_agrees(BPF_PROG_TYPE_SCHED_CLS, writes, inputs);
  }
  check_agrees(BPF_PROG_TYPE_SOCKET_FILTER, kPass, inputs);
}

TEST_CASE("A __sk_buff that user space gives is checked and given back as on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  std::vector<TestInput> inputs;
  for (int at = 0; at < 192; at += 4) {
    __sk_buff md = {};
    std::vector<uint8_t> ctx = bytes_of(md);
    ctx[size_t(at)] = 1;
    TestInput in = packet(64);
    in.ctx = ctx;
    inputs.push_back(in);
  }
  for (uint32_t wire_len : {63u, 64u, 65u, 65536u, 65537u}) {
    __sk_buff md = {};
    md.wire_len = wire_len;
    TestInput in = packet(64);
    in.ctx = bytes_of(md);
    inputs.push_back(in);
  }
  auto uses_cb = program(ldx_mem(BPF_W, 2, 1, 48), alu64_imm(BPF_ADD, 2, 5), stx_mem(BPF_W, 1, 2, 52),
                         ldx_mem(BPF_W, 0, 1, 8), exit_insn());
  check_agrees(BPF_PROG_TYPE_SOCKET_FILTER, uses_cb, inputs);
  check_agrees(BPF_PROG_TYPE_SCHED_CLS, uses_cb, inputs);
  auto writes = program(mov64_imm(2, 77), stx_mem(BPF_W, 1, 2, 8), stx_mem(BPF_W, 1, 2, 32),
                        stx_mem(BPF_W, 1, 2, 12), ldx_mem(BPF_W, 0, 1, 160), exit_insn());
  check_agrees(BPF_PROG_TYPE_SCHED_CLS, writes, inputs);
}

TEST_CASE("A test run of a program that oopses or is interrupted is an error with its reason") {
  Kernel kernel(small_machine());
  HookProgram wild(kernel.machine(), BPF_PROG_TYPE_XDP,
                   program(mov64_imm(2, 0), ldx_mem(BPF_W, 0, 2, 0), exit_insn()));
  CHECK(sim_test_run(wild.prog, packet(64)).ret == -int64_t(Errno::Fault));
  HookProgram endless(kernel.machine(), BPF_PROG_TYPE_XDP, program(ja(-1), exit_insn()));
  kernel.machine().interrupted = [] { return true; };
  CHECK(sim_test_run(endless.prog, packet(64)).ret == -int64_t(Errno::Intr));
  kernel.machine().interrupted = nullptr;
  TestInput live_frames = packet(64);
  live_frames.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  CHECK(sim_test_run(wild.prog, live_frames).ret == -int64_t(Errno::OpNotSupp));
}
