// Programs of a type without a verifier: context accesses are rewritten by the type's own table, as the
// verifier's last pass does it. And the same programs on the live kernel.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "hook/hook.h"
#include "hook/types.h"
#include "kernel.h"
#include "live_bpf.h"
#include "run/select_runtime.h"
#include "sim.h"

namespace bpfsim {

inline MachineOptions small_machine() {
  MachineOptions options;
  options.arena_bytes = 64 << 20;
  return options;
}

// Replaces every LDX and STX/ST through `ctx` (a register that holds nothing else), and keeps jumps where
// they led.
inline std::vector<bpf_insn> rewrite_ctx(Prog& prog, const std::vector<bpf_insn>& insns, int ctx) {
  std::vector<std::vector<bpf_insn>> parts;
  for (const bpf_insn& insn : insns) {
    bool load = BPF_CLASS(insn.code) == BPF_LDX && insn.src_reg == ctx;
    bool store = (BPF_CLASS(insn.code) == BPF_STX || BPF_CLASS(insn.code) == BPF_ST) && insn.dst_reg == ctx;
    uint32_t size = 0;
    parts.push_back(load || store ? verifier_ops(prog.type)->convert_ctx_access(load ? BPF_READ : BPF_WRITE,
                                                                                insn, prog, &size)
                                  : std::vector<bpf_insn>{insn});
  }
  std::vector<int> start = {0};
  for (auto& part : parts) start.push_back(start.back() + int(part.size()));
  std::vector<bpf_insn> all;
  for (size_t i = 0; i < parts.size(); ++i) {
    bool is_jump = is_jmp(insns[i]) && BPF_OP(insns[i].code) != BPF_CALL && BPF_OP(insns[i].code) != BPF_EXIT;
    if (is_jump) parts[i][0].off = int16_t(start[i + 1 + size_t(insns[i].off)] - start[i] - 1);
    all.insert(all.end(), parts[i].begin(), parts[i].end());
  }
  return all;
}

struct HookProgram {
  HookProgram(Machine& machine, bpf_prog_type type, const std::vector<bpf_insn>& insns, int ctx = 1)
      : prog(*new Prog(machine)) {
    prog.type = type;
    prog.expected_attach_type = type == BPF_PROG_TYPE_XDP ? BPF_XDP : bpf_attach_type(0);
    prog.aux->name = "test";
    prog.insnsi = rewrite_ctx(prog, insns, ctx);
    bpf_prog_inc(prog, {"held by a test"});
    prepared = bpf_prog_select_runtime(prog);
  }
  ~HookProgram() {
    bpf_prog_put(prog, {"the test is over"});
    prog.machine.rcu.grace_period();
  }

  Prog& prog;
  Result<void> prepared;
};

// What one BPF_PROG_TEST_RUN gave, on either kernel.
struct TestRun {
  int64_t ret = 0;
  uint32_t retval = 0xeeeeeeee, data_size_out = 0, ctx_size_out = 0;
  std::vector<uint8_t> data_out, ctx_out;
  bool operator==(const TestRun&) const = default;
};

struct TestInput {
  std::vector<uint8_t> data, ctx;
  uint32_t room = 1 << 17;  // data_size_out
  uint32_t repeat = 1, flags = 0, ctx_room = 192;
  bool null_out = false;
};

template <class Call>
TestRun test_run(const TestInput& in, const Call& call) {
  TestRun out;
  out.data_out.assign(in.room ? in.room : 1 << 17, 0xcc);
  out.ctx_out.assign(256, 0xcc);
  bpf_attr attr;
  attr.test.retval = 0xeeeeeeee;
  attr.test.data_in = user_ptr(in.data.data());
  attr.test.data_size_in = uint32_t(in.data.size());
  attr.test.data_out = in.null_out ? 0 : user_ptr(out.data_out.data());
  attr.test.data_size_out = in.room;
  attr.test.repeat = in.repeat;
  attr.test.flags = in.flags;
  if (!in.ctx.empty()) {
    attr.test.ctx_in = user_ptr(in.ctx.data());
    attr.test.ctx_size_in = uint32_t(in.ctx.size());
    attr.test.ctx_out = user_ptr(out.ctx_out.data());
    attr.test.ctx_size_out = in.ctx_room;
  }
  out.ret = call(attr);
  out.retval = attr.test.retval;
  out.data_size_out = attr.test.data_size_out;
  out.ctx_size_out = attr.test.ctx_size_out;
  return out;
}

inline TestRun sim_test_run(Prog& prog, const TestInput& in) {
  return test_run(in, [&](bpf_attr& attr) -> int64_t {
    KernelEntry entry(prog.machine);
    Result<void> result = prog_ops(prog.type)->test_run(prog, attr, user_ptr(&attr));
    return result ? 0 : -int64_t(result.err());
  });
}

inline TestRun live_test_run(long fd, const TestInput& in) {
  return test_run(in, [&](bpf_attr& attr) -> int64_t {
    attr.test.prog_fd = uint32_t(fd);
    return live::sys_bpf(BPF_PROG_TEST_RUN, &attr, sizeof attr.test);
  });
}

inline long live_load(bpf_prog_type type, const std::vector<bpf_insn>& insns) {
  bpf_attr attr = prog_load_attr(type, insns);
  return live::sys_bpf(BPF_PROG_LOAD, &attr, sizeof attr);
}

}  // namespace bpfsim
