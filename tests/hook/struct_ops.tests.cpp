// STRUCT_OPS programs: members of bpf_dummy_ops, and their test runs.
#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "isa/opcodes.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct StructOps : Sim {
  using Sim::Sim;
  const uint32_t dummy = vmlinux_btf().types->find_by_name("bpf_dummy_ops", BTF_KIND_STRUCT);

  long load(const std::vector<bpf_insn>& insns, uint32_t btf_id, uint32_t member, uint32_t flags = 0,
            const char* license = "GPL") {
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_STRUCT_OPS, insns, &log);
    attr.license = user_ptr(license);
    attr.attach_btf_id = btf_id;
    attr.expected_attach_type = member;
    attr.prog_flags = flags;
    return bpf(BPF_PROG_LOAD, attr);
  }
  bool says(const char* text) const { return std::string(log.data()).starts_with(text); }
  long run(long prog, const std::vector<uint64_t>& args, uint32_t* retval = nullptr) {
    bpf_attr attr;
    attr.test.prog_fd = uint32_t(prog);
    attr.test.ctx_in = user_ptr(args.data());
    attr.test.ctx_size_in = uint32_t(args.size() * sizeof(uint64_t));
    const long done = bpf(BPF_PROG_TEST_RUN, attr);
    if (retval) *retval = attr.test.retval;
    return done;
  }
};

const std::vector<bpf_insn> kAnswer = {mov64_imm(BPF_REG_0, 7), exit_insn()};
// The state as it was comes back, and 99 stands there; without a state, -1.
const std::vector<bpf_insn> kSwap = {ldx_mem(BPF_DW, BPF_REG_2, BPF_REG_1, 0),
                                     mov64_imm(BPF_REG_0, -1),
                                     jmp_imm(BPF_JEQ, BPF_REG_2, 0, 3),
                                     ldx_mem(BPF_W, BPF_REG_0, BPF_REG_2, 0),
                                     mov64_imm(BPF_REG_3, 99),
                                     stx_mem(BPF_W, BPF_REG_2, BPF_REG_3, 0),
                                     exit_insn()};

}  // namespace

TEST_CASE("a member of bpf_dummy_ops gets its arguments from a test run, and may write the state") {
  StructOps s;
  const long prog = s.load(kSwap, s.dummy, 0);
  INFO(s.log.data());
  REQUIRE(prog >= 0);
  int32_t state = 1234;
  uint32_t retval = 0;
  CHECK(s.run(prog, {user_ptr(&state)}, &retval) == 0);
  CHECK((retval == 1234 && state == 99));
  CHECK(s.run(prog, {0}, &retval) == 0);
  CHECK(retval == uint32_t(-1));
  CHECK(s.run(prog, {}) == minus(Errno::Inval));
  CHECK(s.run(prog, {8}) == minus(Errno::Fault));

  const long second = s.load({ldx_mem(BPF_DW, BPF_REG_0, BPF_REG_1, 32), exit_insn()}, s.dummy, 1);
  REQUIRE(second >= 0);
  CHECK(s.run(second, {user_ptr(&state), 1, 2, 3, 55}, &retval) == 0);
  CHECK(retval == 55);
  CHECK(s.run(second, {0, 1, 2, 3, 4}) == minus(Errno::Inval));  // only test_1's state may be NULL
  s.close(prog), s.close(second);
  CHECK(s.alive().empty());
}

TEST_CASE("what a struct_ops program is refused, in the kernel's words") {
  StructOps s;
  const uint32_t state = vmlinux_btf().types->find_by_name("bpf_dummy_ops_state", BTF_KIND_STRUCT);
  const std::vector<bpf_insn> helper = {call_helper(BPF_FUNC_get_prandom_u32), exit_insn()};
  const std::vector<bpf_insn> past = {ldx_mem(BPF_DW, BPF_REG_2, BPF_REG_1, 0), mov64_imm(BPF_REG_0, 0),
                                      stx_mem(BPF_W, BPF_REG_2, BPF_REG_0, 4), exit_insn()};
  CHECK(s.load(kAnswer, 0, 0) == minus(Errno::NotSupp));
  CHECK(s.load(kAnswer, state, 0) == minus(Errno::NotSupp));
  CHECK(s.says(("attach_btf_id " + std::to_string(state) + " is not a supported struct\n").c_str()));
  CHECK(s.load(kAnswer, s.dummy, 3) == minus(Errno::Inval));
  CHECK(s.says("attach to invalid member idx 3 of struct bpf_dummy_ops\n"));
  CHECK(s.load(kAnswer, s.dummy, 0, BPF_F_SLEEPABLE) == minus(Errno::Inval));
  CHECK(s.says("attach to unsupported member test_1 of struct bpf_dummy_ops\n"));
  CHECK(s.load(kAnswer, s.dummy, 2, BPF_F_SLEEPABLE) >= 0);
  CHECK(s.load(kAnswer, s.dummy, 0, 0, "MIT") == minus(Errno::Inval));
  CHECK(s.says("struct ops programs must have a GPL compatible license\n"));
  CHECK(s.load(helper, s.dummy, 0) == minus(Errno::Inval));
  CHECK(s.load(past, s.dummy, 1) == minus(Errno::Access));
  CHECK(std::string(s.log.data()).find("write access at off 4 with size 4\n") != std::string::npos);
  CHECK(s.load(kSwap, s.dummy, 1) >= 0);
}

TEST_CASE("a member of tcp_congestion_ops sees a tcp_sock, and may write what is there for it") {
  StructOps s;
  const uint32_t ca = vmlinux_btf().types->find_by_name("tcp_congestion_ops", BTF_KIND_STRUCT);
  const auto writes = [&](int16_t offset, uint8_t size = BPF_W) {
    return s.load({ldx_mem(BPF_DW, BPF_REG_6, BPF_REG_1, 0), mov64_imm(BPF_REG_0, 7),
                   stx_mem(size, BPF_REG_6, BPF_REG_0, offset), exit_insn()},
                  ca, 0);
  };
  const auto last = [&](const char* text) {
    return std::string(s.log.data()).find(text) != std::string::npos;
  };
  const auto at = [](const char* name) { return int16_t(vmlinux_offset("tcp_sock", name)); };
  CHECK(writes(at("snd_cwnd")) >= 0);
  CHECK(writes(at("snd_cwnd"), BPF_DW) == minus(Errno::Access));
  CHECK(last("write access at off 1444 with size 8 beyond the member of tcp_sock ended at 1448\n"));
  CHECK(writes(at("mss_cache")) == minus(Errno::Access));
  CHECK(last("no write support to tcp_sock at off 1440\n"));
  CHECK(writes(int16_t(vmlinux_offset("inet_connection_sock", "icsk_ca_priv") + 100)) >= 0);

  CHECK(s.load(kAnswer, ca, 10) == minus(Errno::NotSupp));
  CHECK(s.says("attach to unsupported member get_info of struct tcp_congestion_ops\n"));
  CHECK(s.load(kAnswer, ca, 11) == minus(Errno::Inval));
  CHECK(s.says("attach to invalid member name(@idx 11) of struct tcp_congestion_ops\n"));
  const std::vector<bpf_insn> nothing = {exit_insn()};
  CHECK(s.load(nothing, ca, 0) == minus(Errno::Access));
  CHECK(s.load(nothing, ca, 1) >= 0);  // it returns void
  const long prog = s.load(kAnswer, ca, 0);
  CHECK(s.run(prog, {0}) == minus(Errno::OpNotSupp));
  const std::vector<bpf_insn> helper = {call_helper(BPF_FUNC_ktime_get_ns), exit_insn()};
  CHECK(s.load(helper, ca, 0) >= 0);
  const std::vector<bpf_insn> setsockopt = {call_helper(BPF_FUNC_setsockopt), exit_insn()};
  CHECK(s.load(setsockopt, ca, 16) == minus(Errno::OpNotSupp));
  CHECK(last("not modelled yet: the helper bpf_setsockopt"));
  CHECK(s.load(setsockopt, ca, 17) == minus(Errno::Inval));  // release
  CHECK(last("program of this type cannot use helper bpf_setsockopt#49\n"));
}
