// The interpreter against an oracle of its own: each operation as the opcode table's equation states it,
// worked out with 128-bit integers so that no shortcut of the interpreter is repeated here.
#include <functional>
#include <random>

#include "catch.h"
#include "isa/opcodes.h"
#include "program.h"

using namespace bpfsim;

namespace {

using Wide = __int128;

const uint64_t kEdges[] = {0,
                           1,
                           2,
                           7,
                           31,
                           32,
                           63,
                           64,
                           0x7f,
                           0x80,
                           0xff,
                           0x7fff,
                           0x8000,
                           0xffff,
                           0x7fffffff,
                           0x80000000,
                           0xffffffff,
                           0x100000000,
                           0x123456789abcdef0,
                           0x7fffffffffffffff,
                           0x8000000000000000,
                           0xfffffffffffffffe,
                           0xffffffffffffffff};

// The value of an operation on `bits`-wide numbers.
uint64_t oracle_alu(int op, bool is_signed, uint64_t a, uint64_t b, int bits) {
  uint64_t mask = bits == 64 ? ~0ull : 0xffffffffull;
  Wide limit = Wide(1) << bits;
  auto as_signed = [&](uint64_t v) {
    return Wide(v & mask) >= limit / 2 ? Wide(v & mask) - limit : Wide(v & mask);
  };
  Wide x = Wide(a & mask), y = Wide(b & mask), sx = as_signed(a), sy = as_signed(b);
  Wide shift = y % bits, r = 0;
  switch (op) {
    case BPF_ADD: r = x + y; break;
    case BPF_SUB: r = x - y; break;
    case BPF_MUL: r = Wide(uint64_t(x) * uint64_t(y)); break;
    case BPF_DIV: r = y == 0 ? 0 : is_signed ? sx / sy : x / y; break;
    case BPF_MOD: r = y == 0 ? x : is_signed ? sx % sy : x % y; break;
    case BPF_OR: r = x | y; break;
    case BPF_AND: r = x & y; break;
    case BPF_XOR: r = x ^ y; break;
    case BPF_LSH: r = x * (Wide(1) << shift); break;
    case BPF_RSH: r = x / (Wide(1) << shift); break;
    case BPF_ARSH: r = sx >> shift; break;
    case BPF_MOV: r = y; break;
    case BPF_NEG: r = -x; break;
  }
  return uint64_t(r) & mask;
}

bool oracle_jump(int op, uint64_t a, uint64_t b, int bits) {
  uint64_t x = bits == 64 ? a : uint32_t(a), y = bits == 64 ? b : uint32_t(b);
  int64_t sx = bits == 64 ? int64_t(a) : int32_t(a), sy = bits == 64 ? int64_t(b) : int32_t(b);
  switch (op) {
    case BPF_JEQ: return x == y;
    case BPF_JNE: return x != y;
    case BPF_JGT: return x > y;
    case BPF_JGE: return x >= y;
    case BPF_JLT: return x < y;
    case BPF_JLE: return x <= y;
    case BPF_JSET: return (x & y) != 0;
    case BPF_JSGT: return sx > sy;
    case BPF_JSGE: return sx >= sy;
    case BPF_JSLT: return sx < sy;
    case BPF_JSLE: return sx <= sy;
  }
  return false;
}

uint64_t run_value(Machine& machine, const std::vector<bpf_insn>& insns) {
  LooseProgram program(machine, insns);
  REQUIRE(program.prepared.ok());
  RunOutcome outcome = program.run();
  CHECK(outcome.stop == RunStop::Returned);
  return outcome.value;
}

}  // namespace

TEST_CASE("Every ALU operation gives what its equation says, at the edges of both widths") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  struct {
    int op;
    int off;
  } const operations[] = {{BPF_ADD, 0}, {BPF_SUB, 0}, {BPF_MUL, 0},  {BPF_DIV, 0}, {BPF_DIV, 1},
                          {BPF_MOD, 0}, {BPF_MOD, 1}, {BPF_OR, 0},   {BPF_AND, 0}, {BPF_XOR, 0},
                          {BPF_LSH, 0}, {BPF_RSH, 0}, {BPF_ARSH, 0}, {BPF_MOV, 0}, {BPF_NEG, 0}};
  for (auto [op, off] : operations) {
    for (int bits : {32, 64}) {
      for (uint64_t a : kEdges) {
        for (uint64_t b : kEdges) {
          int cls = bits == 64 ? BPF_ALU64 : BPF_ALU;
          uint64_t expected = oracle_alu(op, off != 0, a, b, bits);
          bpf_insn by_register =
              make_insn(cls | op | (op == BPF_NEG ? BPF_K : BPF_X), 3, op == BPF_NEG ? 0 : 4, off, 0);
          INFO("op " << op << " off " << off << " bits " << bits << " a " << a << " b " << b);
          CHECK(run_value(machine, program(ld_imm64(3, a), ld_imm64(4, b), by_register, mov64_reg(0, 3),
                                           exit_insn())) == expected);
          if (op == BPF_NEG) continue;
          uint64_t imm = uint64_t(int64_t(int32_t(b)));
          bpf_insn by_immediate = make_insn(cls | op | BPF_K, 3, 0, off, int32_t(b));
          CHECK(run_value(machine, program(ld_imm64(3, a), by_immediate, mov64_reg(0, 3), exit_insn())) ==
                oracle_alu(op, off != 0, a, imm, bits));
        }
      }
    }
  }
}

TEST_CASE("Moves extend signs, and byte swaps swap") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  struct {
    bpf_insn insn;
    uint64_t in, out;
  } const cases[] = {
      {movsx64(0, 4, 8), 0x80, 0xffffffffffffff80},
      {movsx64(0, 4, 8), 0x17f, 0x7f},
      {movsx64(0, 4, 16), 0x12348000, 0xffffffffffff8000},
      {movsx64(0, 4, 32), 0x180000000, 0xffffffff80000000},
      {movsx32(0, 4, 8), 0x80, 0xffffff80},
      {movsx32(0, 4, 16), 0xfffff8000, 0xffff8000},
      {mov32_reg(0, 4), 0x1122334455667788, 0x55667788},
      {mov64_reg(0, 4), 0x1122334455667788, 0x1122334455667788},
  };
  for (auto& c : cases) {
    INFO("code " << int(c.insn.code) << " off " << c.insn.off);
    CHECK(run_value(machine, program(ld_imm64(4, c.in), mov64_imm(0, 0), c.insn, exit_insn())) == c.out);
  }
  const uint64_t v = 0x1122334455667788;
  struct {
    bpf_insn insn;
    uint64_t out;
  } const swaps[] = {
      {to_le(0, 16), 0x7788}, {to_le(0, 32), 0x55667788}, {to_le(0, 64), v},
      {to_be(0, 16), 0x8877}, {to_be(0, 32), 0x88776655}, {to_be(0, 64), 0x8877665544332211},
      {bswap(0, 16), 0x8877}, {bswap(0, 32), 0x88776655}, {bswap(0, 64), 0x8877665544332211},
  };
  for (auto& c : swaps) {
    INFO("code " << int(c.insn.code) << " imm " << c.insn.imm);
    CHECK(run_value(machine, program(ld_imm64(0, v), c.insn, exit_insn())) == c.out);
  }
}

TEST_CASE("Every conditional jump jumps exactly when its condition holds") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  for (int op : {BPF_JEQ, BPF_JNE, BPF_JGT, BPF_JGE, BPF_JLT, BPF_JLE, BPF_JSET, BPF_JSGT, BPF_JSGE, BPF_JSLT,
                 BPF_JSLE}) {
    for (int bits : {32, 64}) {
      for (uint64_t a : kEdges) {
        for (uint64_t b : kEdges) {
          int cls = bits == 64 ? BPF_JMP : BPF_JMP32;
          INFO("op " << op << " bits " << bits << " a " << a << " b " << b);
          auto ask = [&](const bpf_insn& jump) {
            return run_value(machine, program(ld_imm64(3, a), ld_imm64(4, b), mov64_imm(0, 1), jump,
                                              mov64_imm(0, 0), exit_insn()));
          };
          CHECK(ask(make_insn(cls | op | BPF_X, 3, 4, 1, 0)) == uint64_t(oracle_jump(op, a, b, bits)));
          uint64_t imm = uint64_t(int64_t(int32_t(b)));
          CHECK(ask(make_insn(cls | op | BPF_K, 3, 0, 1, int32_t(b))) ==
                uint64_t(oracle_jump(op, a, imm, bits)));
        }
      }
    }
  }
}

TEST_CASE("goto, gotol and nospec go where they say") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  CHECK(run_value(machine, program(mov64_imm(0, 1), ja(1), mov64_imm(0, 2), exit_insn())) == 1);
  CHECK(run_value(machine, program(mov64_imm(0, 1), gotol(1), mov64_imm(0, 2), exit_insn())) == 1);
  CHECK(run_value(machine, program(mov64_imm(0, 1), st_nospec(), may_goto(0), exit_insn())) == 1);
  CHECK(run_value(machine, program(mov64_imm(0, 0), mov64_imm(1, 1000), alu64_reg(BPF_ADD, 0, 1),
                                   alu64_imm(BPF_SUB, 1, 1), jmp_imm(BPF_JNE, 1, 0, -3), exit_insn())) ==
        500500);
}

TEST_CASE("Loads and stores of each size read and write just their bytes, little end first") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  const uint64_t v = 0x8182838485868788, fill = 0xaaaaaaaaaaaaaaaa;
  struct {
    int size, bytes;
  } const sizes[] = {{BPF_B, 1}, {BPF_H, 2}, {BPF_W, 4}, {BPF_DW, 8}};
  for (auto [size, bytes] : sizes) {
    uint64_t mask = bytes == 8 ? ~0ull : (1ull << (bytes * 8)) - 1;
    INFO("size " << bytes);
    // what a store leaves of eight bytes
    CHECK(run_value(machine, program(ld_imm64(2, fill), stx_mem(BPF_DW, 10, 2, -8), ld_imm64(3, v),
                                     stx_mem(size, 10, 3, -8), ldx_mem(BPF_DW, 0, 10, -8), exit_insn())) ==
          ((fill & ~mask) | (v & mask)));
    CHECK(run_value(machine, program(ld_imm64(2, fill), stx_mem(BPF_DW, 10, 2, -8), st_mem(size, 10, -8, -2),
                                     ldx_mem(BPF_DW, 0, 10, -8), exit_insn())) ==
          ((fill & ~mask) | (0xfffffffffffffffe & mask)));
    // what a load makes of them
    auto load = [&](const bpf_insn& insn) {
      return run_value(machine, program(ld_imm64(2, v), stx_mem(BPF_DW, 10, 2, -8), insn, exit_insn()));
    };
    CHECK(load(ldx_mem(size, 0, 10, -8)) == (v & mask));
    uint64_t extended = bytes == 8 ? v : uint64_t(int64_t(v << (64 - bytes * 8)) >> (64 - bytes * 8));
    if (bytes < 8) CHECK(load(ldx_memsx(size, 0, 10, -8)) == extended);
    CHECK(load(load_acquire(size, 0, 10, -8)) == (v & mask));
    CHECK(run_value(machine, program(ld_imm64(2, fill), stx_mem(BPF_DW, 10, 2, -8), ld_imm64(3, v),
                                     store_release(size, 10, 3, -8), ldx_mem(BPF_DW, 0, 10, -8),
                                     exit_insn())) == ((fill & ~mask) | (v & mask)));
    // a guarded load of nothing is 0
    CHECK(run_value(machine, program(mov64_imm(1, 0), mov64_imm(0, 5),
                                     make_insn(BPF_LDX | BPF_PROBE_MEM | size, 0, 1, 16, 0), exit_insn())) ==
          0);
    CHECK(load(make_insn(BPF_LDX | BPF_PROBE_MEM | size, 0, 10, -8, 0)) == (v & mask));
  }
}

TEST_CASE("Atomics change memory and fetch what was there, in both widths") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  const uint64_t before = 0x1111111180000001, operand = 0x22222222fffffff3, r0 = 0x3333333380000001;
  struct {
    int32_t op;
    std::function<uint64_t(uint64_t old, uint64_t s)> result;
  } const operations[] = {
      {BPF_ADD, [](uint64_t old, uint64_t s) { return old + s; }},
      {BPF_OR, [](uint64_t old, uint64_t s) { return old | s; }},
      {BPF_AND, [](uint64_t old, uint64_t s) { return old & s; }},
      {BPF_XOR, [](uint64_t old, uint64_t s) { return old ^ s; }},
      {BPF_XCHG, [](uint64_t, uint64_t s) { return s; }},
  };
  auto build = [&](int size, int32_t op, const std::vector<bpf_insn>& answer) {
    auto insns = program(ld_imm64(2, before), stx_mem(BPF_DW, 10, 2, -8), ld_imm64(3, operand),
                         ld_imm64(0, r0), atomic_op(size, op, 10, 3, -8));
    insns.insert(insns.end(), answer.begin(), answer.end());
    insns.push_back(exit_insn());
    return run_value(machine, insns);
  };
  const auto memory = program(ldx_mem(BPF_DW, 0, 10, -8)), fetched = program(mov64_reg(0, 3));
  for (int size : {BPF_W, BPF_DW}) {
    uint64_t mask = size == BPF_W ? 0xffffffff : ~0ull;
    for (auto& [op, result] : operations) {
      uint64_t after = (before & ~mask) | (result(before & mask, operand & mask) & mask);
      INFO("size " << size << " op " << op);
      CHECK(build(size, op, memory) == after);
      CHECK(build(size, op | BPF_FETCH, memory) == after);
      CHECK(build(size, op | BPF_FETCH, fetched) == (before & mask));
    }
    bool equal = (before & mask) == (r0 & mask);
    CHECK(build(size, BPF_CMPXCHG, memory) == (equal ? (before & ~mask) | (operand & mask) : before));
    CHECK(build(size, BPF_CMPXCHG, {}) == (before & mask));
  }
}

TEST_CASE("Subprograms have their own stack and registers, and callbacks find theirs") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  // r6 to r9 and the caller's stack survive a call that overwrites its own
  auto insns =
      program(mov64_imm(6, 6), mov64_imm(7, 70), st_mem(BPF_DW, 10, -8, 1000), mov64_imm(1, 5), call_local(4),
              alu64_reg(BPF_ADD, 0, 6), ldx_mem(BPF_DW, 1, 10, -8), alu64_reg(BPF_ADD, 0, 1), exit_insn(),
              mov64_imm(6, 99), st_mem(BPF_DW, 10, -8, 77), mov64_reg(0, 1), exit_insn());
  CHECK(run_value(machine, insns) == 5 + 6 + 1000);

  // bpf_loop: five rounds that add their index to a number on the main program's stack
  auto loop = program(st_mem(BPF_DW, 10, -8, 100), mov64_imm(1, 5), ld_func(2, 6), mov64_reg(3, 10),
                      alu64_imm(BPF_ADD, 3, -8), mov64_imm(4, 0), call_helper(BPF_FUNC_loop),
                      ldx_mem(BPF_DW, 0, 10, -8), exit_insn(), ldx_mem(BPF_DW, 3, 2, 0),
                      alu64_reg(BPF_ADD, 3, 1), stx_mem(BPF_DW, 2, 3, 0), mov64_imm(0, 0), exit_insn());
  // ld_func counts from the slot after its first: instruction 2 + 1 + imm = 10
  loop[2].imm = 7;
  CHECK(run_value(machine, loop) == 100 + 0 + 1 + 2 + 3 + 4);

  // eight frames are there, a ninth is not
  auto deep = program(mov64_imm(1, 7), call_local(1), exit_insn(), mov64_reg(0, 1), jmp_imm(BPF_JEQ, 1, 1, 2),
                      alu64_imm(BPF_SUB, 1, 1), call_local(-4), exit_insn());
  CHECK(run_value(machine, deep) == 1);
  deep[0].imm = 8;
  LooseProgram too_deep(machine, deep);
  CHECK(too_deep.run().stop == RunStop::Oops);
  CHECK(machine.dmesg.front().find("call stack of 8 frames is used up") != std::string::npos);
}

TEST_CASE("A wild access is a report in dmesg and ends the program, nothing more") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  struct {
    uint64_t addr;
    const char* report;
  } const cases[] = {
      {0, "a NULL pointer dereference"},
      {0x1000, "outside of the machine's memory"},
      {~0ull, "outside of the machine's memory"},
      {kArenaBase - 1, "outside of the machine's memory"},
      {kArenaBase + (64 << 20), "outside of the machine's memory"},
      {kArenaBase + (64 << 20) - 7, "bytes at"},
      {kHandleBase + 8, "inside a kernel object that a program only holds a handle of"},
  };
  for (auto& [addr, report] : cases) {
    for (const bpf_insn& access : {ldx_mem(BPF_DW, 0, 1, 0), stx_mem(BPF_DW, 1, 2, 0),
                                   st_mem(BPF_DW, 1, 0, 1), atomic_op(BPF_DW, BPF_ADD, 1, 2, 0)}) {
      machine.dmesg.clear();
      LooseProgram program(
          machine, bpfsim::program(mov64_imm(2, 0), ld_imm64(1, addr), access, mov64_imm(0, 7), exit_insn()));
      RunOutcome outcome = program.run();
      INFO("address " << addr << " code " << int(access.code));
      CHECK(outcome.stop == RunStop::Oops);
      CHECK(outcome.value == 0);
      REQUIRE(machine.dmesg.size() == 2);
      CHECK(machine.dmesg[0].find(report) != std::string::npos);
      CHECK(machine.dmesg[0].find("insn 3") != std::string::npos);
    }
  }
}

TEST_CASE("What no verifier would let pass is refused when the program is made ready") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  struct {
    std::vector<bpf_insn> insns;
    const char* reason;
  } const cases[] = {
      {program(make_insn(0xff, 0, 0, 0, 0)), "insn 0 has no meaning: code 255"},
      {program(ja(5), exit_insn()), "insn 0 jumps to 6, out of a program of 2"},
      {program(ja(-3), exit_insn()), "insn 0 jumps to -2, out of a program of 2"},
      {program(ld_imm64(1, 5)[0]), "insn 0 is half of an LD_IMM64"},
      {program(call_helper(100000), exit_insn()),
       "insn 0 calls helper 100000, which this machine does not have"},
      {program(mov64_imm(13, 0), exit_insn()), "insn 0 names a register that does not exist"},
  };
  for (auto& [insns, reason] : cases) {
    LooseProgram program(machine, insns);
    CHECK(!program.prepared.ok());
    CHECK(program.prepared.refusal().reason() == reason);
  }
  LooseProgram endless(machine, program(mov64_imm(0, 1)));
  CHECK(endless.run().stop == RunStop::Oops);
}

TEST_CASE("The host can stop a program that runs for ever") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  int asked = 0;
  machine.interrupted = [&] { return ++asked == 3; };
  LooseProgram program(machine, bpfsim::program(mov64_imm(0, 1), ja(-1)));
  CHECK(program.run().stop == RunStop::Interrupted);
  CHECK(asked == 3);
}

TEST_CASE("Time moves by the instructions that ran, jumps taken and not taken alike") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  auto cost = [&](const std::vector<bpf_insn>& insns) {
    LooseProgram program(machine, insns);
    uint64_t from = machine.clock.now_ns;
    program.run();
    return machine.clock.now_ns - from;
  };
  CHECK(cost(program(mov64_imm(0, 0), exit_insn())) == 2 * Clock::kInstruction);
  CHECK(cost(program(mov64_imm(0, 0), ja(1), exit_insn(), exit_insn())) == 3 * Clock::kInstruction);
  CHECK(cost(program(mov64_imm(0, 0), jmp_imm(BPF_JEQ, 0, 1, 1), mov64_imm(0, 3), exit_insn())) ==
        4 * Clock::kInstruction);
  CHECK(cost(program(mov64_imm(1, 10), alu64_imm(BPF_SUB, 1, 1), jmp_imm(BPF_JNE, 1, 0, -2), exit_insn())) ==
        22 * Clock::kInstruction);
  CHECK(cost(program(call_helper(BPF_FUNC_ktime_get_ns), exit_insn())) ==
        2 * Clock::kInstruction + Clock::kHelper);
}

TEST_CASE("Runs are counted when kernel.bpf_stats_enabled is set") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  LooseProgram program(machine, bpfsim::program(mov64_imm(0, 0), exit_insn()));
  program.run();
  CHECK(program.prog.stats.cnt == 0);
  machine.sysctl.bpf_stats_enabled = 1;
  program.run();
  program.run();
  CHECK(program.prog.stats.cnt == 2);
  CHECK(program.prog.stats.nsecs == 4 * Clock::kInstruction);
  CHECK(!program.prog.jited);
}

TEST_CASE("An opcode that is not modelled is an oops that names it") {
  const Op not_run[] = {Op::JMP_CALL_KFUNC, Op::ADDR_SPACE_CAST, Op::LD_ABS_B, Op::LD_ABS_H,
                        Op::LD_ABS_W,       Op::LD_IND_B,        Op::LD_IND_H, Op::LD_IND_W};
  Kernel kernel(small_machine());
  for (Op op : not_run) {
    const OpRow& row = op_row(op);
    bpf_insn insn = make_insn(row.code, 0, row.by == KeyField::Src ? row.key : 0,
                              row.by == KeyField::Off ? row.key : 0, 0);
    LooseProgram program(kernel.machine(), bpfsim::program(mov64_imm(0, 0), insn, exit_insn()));
    INFO(row.name);
    CHECK(program.run().stop == RunStop::Oops);
    CHECK(kernel.machine().dmesg[kernel.machine().dmesg.size() - 2].find(std::string("this machine has no ") +
                                                                         row.name) != std::string::npos);
  }
}
