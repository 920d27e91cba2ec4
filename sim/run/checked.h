// No kernel counterpart: the kernel trusts its verifier; a lesson wants to see one instruction at a time, and
// what happens when there was no verifier.
//
// The checked engine runs a program step by step and lets it touch only live objects: an access beside an
// object, into freed memory, into a handle, into a stack frame below its own, or a misaligned atomic is a
// simulated oops that names the instruction, the address and the object next to it. A program that never ends
// is reported as a soft lockup. It reads the instructions themselves, not the steps of the fast interpreter,
// so that each can judge the other, and both judge the verifier: a program that it accepted never faults
// here.
#pragma once

#include <array>
#include <vector>

#include "run/engine.h"

namespace bpfsim {

// One run inside a frame: of the program, or of a callback that a helper made.
class CheckedEngine {
 public:
  CheckedEngine(RunFrame& frame, uint64_t& budget, uint32_t start, const uint64_t (&args)[5]);
  bool step();  // false when the run has ended
  RunOutcome outcome() const { return {frame_.stop == RunStop::Returned ? reg[BPF_REG_0] : 0, frame_.stop}; }

  std::array<uint64_t, MAX_BPF_EXT_REG> reg{};
  uint64_t pc = 0;
  bool ended = false;

 private:
  struct Caller {
    const Prog* prog;
    uint64_t pc;
    std::array<uint64_t, 4> callee_saved;
  };
  const std::vector<bpf_insn>& insns() const { return frame_.prog->insnsi; }
  bool execute(const OpRow& row, const bpf_insn& insn);
  bool execute_alu(const OpRow& row, const bpf_insn& insn);
  bool execute_jump(const OpRow& row, const bpf_insn& insn);
  bool execute_memory(const OpRow& row, const bpf_insn& insn);
  bool execute_atomic(const OpRow& row, const bpf_insn& insn);
  bool execute_call(const bpf_insn& insn);
  bool execute_local_call(const bpf_insn& insn);
  bool execute_exit();
  bool execute_tail_call();
  bool fail(const std::string& what);
  bool jump(int64_t distance);
  uint8_t* reach(Addr addr, uint64_t size, bpf_access_type type);

  RunFrame& frame_;
  uint64_t& budget_;
  const int base_depth_;
  std::vector<Caller> callers_;
};

class CheckedRun {
 public:
  static constexpr uint64_t kBudget = 20'000'000;  // instructions until a soft lockup is reported

  CheckedRun(Machine& machine, const Prog& prog, Addr ctx, uint64_t budget = kBudget);

  bool step() { return engine_.step(); }
  RunOutcome run();
  RunOutcome outcome() const { return engine_.outcome(); }

  // What a debugger shows.
  const Prog& prog() const { return *frame_.prog; }  // another one after a tail call
  uint64_t pc() const { return engine_.pc; }
  const std::array<uint64_t, MAX_BPF_EXT_REG>& registers() const { return engine_.reg; }
  int depth() const { return frame_.depth; }  // 0: the main program
  std::array<uint8_t, MAX_BPF_STACK> stack(int depth) const;
  uint64_t executed() const { return budget_given_ - budget_; }

 private:
  RunFrame frame_;
  const uint64_t budget_given_;
  uint64_t budget_;
  CheckedEngine engine_;
};

// As bpf_prog_run, in the checked engine.
RunOutcome bpf_prog_run_checked(Machine& machine, const Prog& prog, Addr ctx);
// The checked side of call_bpf.
uint64_t call_bpf_checked(RunFrame& frame, uint32_t start, const uint64_t (&args)[5]);

// One instruction is about to run.
struct InsnEvent final : Event {
  InsnEvent(const Prog& prog, uint64_t pc, int depth, const std::array<uint64_t, MAX_BPF_EXT_REG>& reg)
      : prog_id(prog.id), pc(pc), depth(depth), reg(reg) {}
  uint32_t prog_id;
  uint64_t pc;
  int depth;
  std::array<uint64_t, MAX_BPF_EXT_REG> reg;
  const char* kind() const override { return "insn"; }
  void fields(FieldSink& sink) const override;
};

}  // namespace bpfsim
