// The checked engine: it agrees with the fast one on every program that behaves, and says what is wrong with
// one that does not.
#include "run/checked.h"

#include <random>

#include "catch.h"
#include "isa/disasm.h"
#include "program.h"

using namespace bpfsim;

namespace {

// A random program over r0 to r5 and eight slots of the stack, that always ends: jumps go forward, and one
// counter bounds a loop around all of it.
class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  std::vector<bpf_insn> make() {
    insns_.clear();
    for (int slot = 1; slot <= 8; ++slot) {
      for (const bpf_insn& half : ld_imm64(0, interesting())) insns_.push_back(half);
      insns_.push_back(stx_mem(BPF_DW, 10, 0, -8 * slot));
    }
    for (int r = 0; r <= 5; ++r)
      for (const bpf_insn& half : ld_imm64(r, interesting())) insns_.push_back(half);
    insns_.push_back(mov64_imm(6, int64_t(below(4)) + 1));
    size_t loop_start = insns_.size();
    size_t body = 5 + below(60);
    for (size_t i = 0; i < body; ++i) add_one(body - i - 1);
    insns_.push_back(alu64_imm(BPF_SUB, 6, 1));
    insns_.push_back(jmp_imm(BPF_JNE, 6, 0, int(loop_start) - int(insns_.size()) - 1));
    for (int r = 1; r <= 5; ++r) insns_.push_back(alu64_reg(BPF_XOR, 0, r));
    insns_.push_back(exit_insn());
    return insns_;
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  uint64_t interesting() {
    static const uint64_t edges[] = {0,          1,          0x7f,       0x80,       0xffff,
                                     0x7fffffff, 0x80000000, 0xffffffff, 1ull << 63, ~0ull};
    return below(2) ? edges[below(std::size(edges))] : random_();
  }
  int reg() { return int(below(6)); }

  void add_one(size_t left) {
    static const int alu_ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
                                  BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH};
    static const int jmp_ops[] = {BPF_JEQ,  BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT,
                                  BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE};
    static const int sizes[] = {BPF_B, BPF_H, BPF_W, BPF_DW};
    static const int atomics[] = {BPF_ADD,
                                  BPF_OR,
                                  BPF_AND,
                                  BPF_XOR,
                                  BPF_ADD | BPF_FETCH,
                                  BPF_OR | BPF_FETCH,
                                  BPF_AND | BPF_FETCH,
                                  BPF_XOR | BPF_FETCH,
                                  BPF_XCHG,
                                  BPF_CMPXCHG};
    int slot = -8 * int(1 + below(8));
    int cls = below(2) ? BPF_ALU64 : BPF_ALU;
    switch (below(left > 2 ? 10 : 8)) {
      case 0:
      case 1: {
        int op = alu_ops[below(std::size(alu_ops))];
        bool divides = op == BPF_DIV || op == BPF_MOD;
        insns_.push_back(make_insn(cls | op | BPF_X, reg(), reg(), divides ? int(below(2)) : 0, 0));
        break;
      }
      case 2: {
        int op = alu_ops[below(std::size(alu_ops))];
        bool divides = op == BPF_DIV || op == BPF_MOD;
        insns_.push_back(
            make_insn(cls | op | BPF_K, reg(), 0, divides ? int(below(2)) : 0, int32_t(interesting())));
        break;
      }
      case 3: {
        static const int widths[] = {16, 32, 64};
        int bits = widths[below(3)];
        bpf_insn choices[] = {to_le(reg(), bits),
                              to_be(reg(), bits),
                              bswap(reg(), bits),
                              neg64(reg()),
                              neg32(reg()),
                              movsx64(reg(), reg(), 8),
                              movsx64(reg(), reg(), 16),
                              movsx64(reg(), reg(), 32),
                              movsx32(reg(), reg(), 8),
                              movsx32(reg(), reg(), 16)};
        insns_.push_back(choices[below(std::size(choices))]);
        break;
      }
      case 4: insns_.push_back(ldx_mem(sizes[below(4)], reg(), 10, slot)); break;
      case 5: insns_.push_back(ldx_memsx(sizes[below(3)], reg(), 10, slot)); break;
      case 6:
        insns_.push_back(below(2) ? stx_mem(sizes[below(4)], 10, reg(), slot)
                                  : st_mem(sizes[below(4)], 10, slot, int32_t(random_())));
        break;
      case 7:
        insns_.push_back(
            atomic_op(below(2) ? BPF_W : BPF_DW, atomics[below(std::size(atomics))], 10, reg(), slot));
        break;
      default: {
        int jcls = below(2) ? BPF_JMP : BPF_JMP32, op = jmp_ops[below(std::size(jmp_ops))];
        int over = int(below(std::min<size_t>(left, 6)));
        insns_.push_back(below(2) ? make_insn(jcls | op | BPF_X, reg(), reg(), over, 0)
                                  : make_insn(jcls | op | BPF_K, reg(), 0, over, int32_t(interesting())));
      }
    }
  }

  std::mt19937_64 random_;
  std::vector<bpf_insn> insns_;
};

}  // namespace

TEST_CASE("Fast and checked engine agree on twenty thousand random programs, in result and in time") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  int differ = 0;
  for (uint64_t seed = 0; seed < 20'000 && differ < 3; ++seed) {
    LooseProgram program(machine, Generator(seed).make());
    REQUIRE(program.prepared.ok());
    uint64_t start = machine.clock.now_ns;
    RunOutcome fast = program.run();
    uint64_t between = machine.clock.now_ns;
    RunOutcome checked = bpf_prog_run_checked(machine, program.prog, 0);
    uint64_t end = machine.clock.now_ns;
    if (fast.value == checked.value && fast.stop == checked.stop && between - start == end - between)
      continue;
    ++differ;
    FAIL_CHECK("seed " << seed << ": " << fast.value << " against " << checked.value << "\n"
                       << disassemble(program.prog.insnsi));
  }
  CHECK(differ == 0);
}

TEST_CASE("A step is one instruction, and everything can be seen between two") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  LooseProgram program(machine,
                       bpfsim::program(mov64_imm(6, 4), st_mem(BPF_DW, 10, -8, 0x55), call_local(2),
                                       alu64_reg(BPF_ADD, 0, 6), exit_insn(), mov64_imm(0, 3), exit_insn()));
  CheckedRun run(machine, program.prog, 0x1234);
  CHECK(run.registers()[1] == 0x1234);
  const uint64_t pcs[] = {1, 2, 5, 6, 3, 4};
  const int depths[] = {0, 0, 1, 1, 0, 0};
  for (size_t i = 0; i < std::size(pcs); ++i) {
    REQUIRE(run.step());
    CHECK(run.pc() == pcs[i]);
    CHECK(run.depth() == depths[i]);
  }
  CHECK(run.stack(0)[MAX_BPF_STACK - 8] == 0x55);
  CHECK(!run.step());
  CHECK(run.outcome().value == 7);
  CHECK(run.executed() == 7);
}

TEST_CASE("The checked engine names the object beside a wrong access") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  LooseProgram(machine, program(mov64_imm(0, 0), exit_insn())).run();  // the stack has its page now
  Span page = *machine.arena.alloc(100, "a small object");
  Span gone = *machine.arena.alloc(5000, "a large object");
  machine.arena.free(gone);
  const Addr no_frame = kArenaBase + (60 << 20);
  struct {
    uint64_t addr;
    bpf_insn access;
    const char* report;
  } const cases[] = {
      {page.addr + 96, ldx_mem(BPF_DW, 0, 1, 0), "4 bytes beyond the end of 'a small object' of 100 bytes"},
      {page.addr + 104, stx_mem(BPF_DW, 1, 2, 0), "4 bytes past 'a small object' of 100 bytes"},
      {gone.addr, ldx_mem(BPF_B, 0, 1, 0), "in no live object"},
      {no_frame, st_mem(BPF_W, 1, 0, 1), "write of 4 bytes at 0xffff888003c00000, in no live object"},
      {page.addr + 3, atomic_op(BPF_W, BPF_ADD, 1, 2, 0), "a misaligned atomic access"},
      {page.addr + 4, load_acquire(BPF_DW, 0, 1, 0), "a misaligned atomic access"},
      {kHandleBase, ldx_mem(BPF_DW, 0, 1, 8), "inside a kernel object that a program only holds a handle of"},
  };
  for (auto& [addr, access, report] : cases) {
    machine.dmesg.clear();
    LooseProgram program(machine, bpfsim::program(mov64_imm(2, 0), ld_imm64(1, addr), access, exit_insn()));
    CHECK(bpf_prog_run_checked(machine, program.prog, 0).stop == RunStop::Oops);
    REQUIRE(!machine.dmesg.empty());
    INFO(machine.dmesg[0]);
    CHECK(machine.dmesg[0].find(report) != std::string::npos);
    CHECK(machine.dmesg[0].find("insn 3") != std::string::npos);
  }
  // inside the object all is well
  LooseProgram fine(machine, program(ld_imm64(1, page.addr), ldx_mem(BPF_W, 0, 1, 96), exit_insn()));
  CHECK(bpf_prog_run_checked(machine, fine.prog, 0).stop == RunStop::Returned);
  machine.arena.free(page);
}

TEST_CASE("A program may use its own stack frame and its callers', not the bytes below") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  auto run = [&](const std::vector<bpf_insn>& insns) {
    LooseProgram program(machine, insns);
    return bpf_prog_run_checked(machine, program.prog, 0).stop;
  };
  CHECK(run(program(st_mem(BPF_DW, 10, -512, 1), mov64_imm(0, 0), exit_insn())) == RunStop::Returned);
  CHECK(run(program(st_mem(BPF_DW, 10, -520, 1), mov64_imm(0, 0), exit_insn())) == RunStop::Oops);
  CHECK(run(program(st_mem(BPF_DW, 10, 0, 1), mov64_imm(0, 0), exit_insn())) == RunStop::Oops);
  CHECK(run(program(mov64_reg(1, 10), call_local(2), mov64_imm(0, 0), exit_insn(), st_mem(BPF_DW, 1, -8, 1),
                    mov64_imm(0, 0), exit_insn())) == RunStop::Returned);
}

TEST_CASE("A program that does not end is a soft lockup") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  LooseProgram program(machine, bpfsim::program(mov64_imm(0, 0), ja(-1)));
  CheckedRun run(machine, program.prog, 0, 10'000);
  CHECK(run.run().stop == RunStop::Oops);
  CHECK(run.executed() == 10'000);
  CHECK(machine.dmesg[0].find("soft lockup") != std::string::npos);

  // also one inside a callback, a million rounds of it
  LooseProgram loop(machine,
                    bpfsim::program(mov64_imm(1, 1'000'000), ld_func(2, 4), mov64_imm(3, 0), mov64_imm(4, 0),
                                    call_helper(BPF_FUNC_loop), exit_insn(), mov64_imm(0, 0), exit_insn()));
  loop.prog.insnsi[1].imm = 5;
  CHECK(CheckedRun(machine, loop.prog, 0, 10'000).run().stop == RunStop::Oops);
}

TEST_CASE("Every instruction is an event when somebody watches") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  LooseProgram program(
      machine, bpfsim::program(mov64_imm(0, 5), call_helper(BPF_FUNC_get_smp_processor_id), exit_insn()));
  Recorder recorder;
  Recording recording(machine, recorder);
  bpf_prog_run_checked(machine, program.prog, 0);
  std::vector<std::string> kinds;
  for (const Record& record : recorder.records()) kinds.push_back(record.event->kind());
  CHECK(kinds == std::vector<std::string>{"insn", "insn", "helper", "helper_return", "insn"});
}

TEST_CASE("Random bytes as a program end in the checked engine, whatever they say") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  std::mt19937_64 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<bpf_insn> insns(1 + random() % 30);
    for (bpf_insn& insn : insns) {
      uint64_t bytes = random();
      std::memcpy(&insn, &bytes, sizeof insn);
      if (random() % 4) {  // often something with a meaning
        const OpRow& row = op_rows[random() % kOpCount];
        insn.code = row.code;
        insn.dst_reg = random() % 11;
        insn.src_reg = row.by == KeyField::Src ? row.key : random() % 11;
        insn.off = row.by == KeyField::Off ? row.key : int16_t(random() % 16) - 8;
        insn.imm = row.by == KeyField::Imm ? row.key : int32_t(random() % 220);
      }
    }
    LooseProgram program(machine, insns);
    CheckedRun(machine, program.prog, 0, 2000).run();
    if (program.prepared.ok()) {
      int asked = 0;
      machine.interrupted = [&] { return ++asked > 0; };
      program.run();
      machine.interrupted = nullptr;
    }
  }
  CHECK(machine.current->running == nullptr);
  CHECK(machine.rcu.readers() == 0);
}
