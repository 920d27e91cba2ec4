// SK_LOOKUP and FLOW_DISSECTOR beside the live kernel: what they may read, what each access becomes, and
// their test runs. Nothing is attached.
#include "catch.h"
#include "support.h"
#include "uapi/context.h"
#include "uapi/info.h"

using namespace bpfsim;

namespace {

// The same command on the simulator and on the live kernel.
class Both {
 public:
  Both() : kernel_(small_machine()), task_(kernel_.spawn("test")) {}

  int64_t call(bool live, int cmd, bpf_attr& attr, uint32_t size = sizeof(bpf_attr)) {
    return live ? live::sys_bpf(cmd, &attr, size) : kernel_.sys_bpf(task_, cmd, user_ptr(&attr), size);
  }

  int64_t load(bool live, bpf_prog_type type, const std::vector<bpf_insn>& insns) {
    bpf_attr attr = prog_load_attr(type, insns, &log_);
    attr.expected_attach_type = type == BPF_PROG_TYPE_SK_LOOKUP ? BPF_SK_LOOKUP : BPF_FLOW_DISSECTOR;
    return call(live, BPF_PROG_LOAD, attr);
  }

  std::vector<bpf_insn> xlated(bool live, int64_t fd) {
    bpf_prog_info info = {};
    std::vector<bpf_insn> insns(64);
    info.xlated_prog_len = uint32_t(insns.size() * sizeof(bpf_insn));
    info.xlated_prog_insns = user_ptr(insns.data());
    bpf_attr attr;
    attr.info.bpf_fd = uint32_t(fd);
    attr.info.info_len = sizeof info;
    attr.info.info = user_ptr(&info);
    REQUIRE(call(live, BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
    insns.resize(info.xlated_prog_len / sizeof(bpf_insn));
    return insns;
  }

  void close(bool live, int64_t fd) {
    if (live)
      live::close_fd(fd);
    else if (fd >= 0)
      (void)kernel_.close(task_, int(fd));
  }

  // A program of one read is refused by both, or becomes the same instructions.
  void check_access(bpf_prog_type type, int off, int size) {
    const auto insns = program(ldx_mem(size, 2, 1, off), mov64_imm(0, 0), exit_insn());
    const int64_t ours = load(false, type, insns), theirs = load(true, type, insns);
    INFO("type " << type << " off " << off << " size " << bpf_size_to_bytes(uint8_t(size)));
    CHECK((ours < 0 ? ours : 0) == (theirs < 0 ? theirs : 0));
    if (ours >= 0 && theirs >= 0) {
      const auto here = xlated(false, ours), there = xlated(true, theirs);
      CHECK(here.size() == there.size());
      CHECK((here == there));
    }
    close(false, ours);
    close(true, theirs);
  }

  void check_runs(bpf_prog_type type, const std::vector<bpf_insn>& insns,
                  const std::vector<TestInput>& inputs) {
    const int64_t ours = load(false, type, insns), theirs = load(true, type, insns);
    INFO(log_.data());
    REQUIRE(ours >= 0);
    REQUIRE(theirs >= 0);
    for (const TestInput& in : inputs) {
      auto run = [&](bool live) {
        return test_run(in, [&](bpf_attr& attr) {
          attr.test.prog_fd = uint32_t(live ? theirs : ours);
          return call(live, BPF_PROG_TEST_RUN, attr, sizeof attr.test);
        });
      };
      const TestRun here = run(false), there = run(true);
      INFO("data " << in.data.size() << " ctx " << in.ctx.size() << " room " << in.room);
      CHECK(here.ret == there.ret);
      CHECK(here.retval == there.retval);
      CHECK(here.data_size_out == there.data_size_out);
      CHECK(here.ctx_size_out == there.ctx_size_out);
      CHECK((here.data_out == there.data_out));
      CHECK((here.ctx_out == there.ctx_out));
    }
    close(false, ours);
    close(true, theirs);
  }

 private:
  std::vector<char> log_;
  Kernel kernel_;
  Task& task_;
};

template <class T>
std::vector<uint8_t> bytes_of(const T& value) {
  auto first = reinterpret_cast<const uint8_t*>(&value);
  return {first, first + sizeof value};
}

TestInput connection(const bpf_sk_lookup& user) {
  TestInput in;
  in.ctx = bytes_of(user);
  in.room = 0;
  in.null_out = true;
  return in;
}

TestInput frame(size_t size) {
  TestInput in;
  in.data.resize(size);
  for (size_t i = 0; i < size; ++i) in.data[i] = uint8_t(i * 7 + 1);
  return in;
}

bpf_sk_lookup somebody(uint32_t family) {
  bpf_sk_lookup user = {};
  user.family = family;
  user.protocol = 6;
  user.remote_ip4 = 0x81234567;
  user.local_ip4 = 0x0100007f;
  for (uint32_t i = 0; i < 4; ++i)
    user.remote_ip6[i] = 0x89abcdef * (i + 1), user.local_ip6[i] = 0x13579bdf + i;
  user.remote_port = 0xbeef;
  user.local_port = 0x8001;
  return user;
}

}  // namespace

TEST_CASE("SK_LOOKUP and FLOW_DISSECTOR read their contexts as on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
  for (int size : {BPF_B, BPF_H, BPF_W, BPF_DW}) {
    for (int off = 0; off < 76; ++off) both.check_access(BPF_PROG_TYPE_SK_LOOKUP, off, size);
    for (int off : {0, 72, 76, 78, 80, 84, 140, 144, 148, 152})
      both.check_access(BPF_PROG_TYPE_FLOW_DISSECTOR, off, size);
  }
}

TEST_CASE("A test run of SK_LOOKUP shows the connection that the caller describes") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
  std::vector<TestInput> inputs;
  for (uint32_t family : {0u, 2u, 10u, 0x10002u}) inputs.push_back(connection(somebody(family)));
  bpf_sk_lookup wrong = somebody(2);
  wrong.local_port = 65536;
  inputs.push_back(connection(wrong));
  wrong = somebody(2), wrong.sk = 1;
  inputs.push_back(connection(wrong));
  wrong = somebody(2), wrong.ingress_ifindex = 1;
  inputs.push_back(connection(wrong));
  TestInput bent = connection(somebody(2));
  bent.room = 4;
  inputs.push_back(bent);
  bent = connection(somebody(2)), bent.flags = 1;
  inputs.push_back(bent);
  bent = connection(somebody(2)), bent.repeat = 3, bent.ctx_room = 10;
  inputs.push_back(bent);
  bent = connection(somebody(2)), bent.ctx.clear();
  inputs.push_back(bent);
  both.check_runs(BPF_PROG_TYPE_SK_LOOKUP, program(mov64_imm(0, 1), exit_insn()), inputs);
  // One bit of each field at a time: the answer of such a program is 0 or 1.
  for (int off = 8; off <= int(offsetof(bpf_sk_lookup, ingress_ifindex)); off += 4)
    for (int bit : {0, 7, 9, 14, 15, 16, 31})
      both.check_runs(BPF_PROG_TYPE_SK_LOOKUP,
                      program(ldx_mem(BPF_W, 0, 1, off), alu64_imm(BPF_RSH, 0, bit), alu64_imm(BPF_AND, 0, 1),
                              exit_insn()),
                      {connection(somebody(2)), connection(somebody(10))});
}

TEST_CASE("A test run of FLOW_DISSECTOR gives the flow keys back, the headers inside the packet") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
  std::vector<TestInput> inputs;
  for (size_t size : {0, 13, 14, 15, 64, 4095, 4096, 4097}) inputs.push_back(frame(size));
  for (size_t at = 0; at < sizeof(bpf_flow_keys); ++at) {
    TestInput in = frame(64);
    in.ctx.assign(sizeof(bpf_flow_keys), 0);
    in.ctx[at] = 1;
    inputs.push_back(in);
  }
  TestInput bent = frame(64);
  bent.room = 20, bent.repeat = 4;
  inputs.push_back(bent);
  bent = frame(64), bent.flags = 1;
  inputs.push_back(bent);
  both.check_runs(BPF_PROG_TYPE_FLOW_DISSECTOR, program(mov64_imm(0, 129), exit_insn()), inputs);
  for (auto [nhoff, thoff] : {std::pair{0, 0}, {20, 34}, {34, 20}, {40, 65535}, {65535, 0}}) {
    auto says = program(ldx_mem(BPF_DW, 2, 1, 144), ldx_mem(BPF_H, 0, 2, 10), mov64_imm(3, nhoff),
                        stx_mem(BPF_H, 2, 3, 0), mov64_imm(3, thoff), stx_mem(BPF_H, 2, 3, 2), exit_insn());
    both.check_runs(BPF_PROG_TYPE_FLOW_DISSECTOR, says, {frame(14), frame(64), bent});
  }
  auto looks =
      program(ldx_mem(BPF_W, 2, 1, 76), ldx_mem(BPF_W, 3, 1, 80), mov64_reg(4, 2), alu64_imm(BPF_ADD, 4, 40),
              mov64_imm(0, 2), jmp_reg(BPF_JGT, 4, 3, 1), ldx_mem(BPF_W, 0, 2, 30), exit_insn());
  both.check_runs(BPF_PROG_TYPE_FLOW_DISSECTOR, looks, {frame(14), frame(39), frame(40), frame(64)});
}
