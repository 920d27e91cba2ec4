// Models: include/linux/filter.h, kernel/bpf/core.c (Linux 6.18), what the engines share
//
// select_runtime turns each instruction of a verified program into a Step that the interpreter dispatches on:
// the opcode as a dense number, registers, the jump distance, and 64 bits of operand (a sign-extended
// immediate, the constant of an LD_IMM64, or the function of a helper). Step i is instruction i, so a report
// can name it. A RunFrame is one program in flight: it stands on the host's stack, is linked from its
// context, and owns one page of the arena, the program's stack: frame n of up to eight has the 512 bytes
// below top - 512 * n, zeroed when it is entered. Departs from the kernel: the interpreter's stack is on the
// kernel stack there and keeps what earlier calls left in it; and a run may end in the middle, by Ctrl-C or a
// simulated oops, after which nothing of it is left.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/machine.h"
#include "object/file.h"
#include "object/ops.h"

namespace bpfsim {

inline constexpr int MAX_CALL_FRAMES = 8;
inline constexpr int MAX_TAIL_CALL_CNT = 33;
inline constexpr Addr kTextBase =
    0xffffffffc0000000;  // where BPF_PSEUDO_FUNC finds instruction 0, 8 bytes each

struct Step {
  uint16_t op;  // enum class Op, or kFellOff
  uint8_t dst, src;
  int32_t off;  // of a jump or call: the distance from the next instruction
  uint64_t imm;
};
static_assert(sizeof(Step) == 16);
inline constexpr uint16_t kFellOff = uint16_t(kOpCount);  // stands behind the last instruction

struct Program {
  std::vector<Step> steps;
  uint32_t stack_depth = MAX_BPF_STACK;  // of the first subprogram
};

// Makes the steps; refuses an opcode that no engine knows, a wild jump and an unknown helper.
Result<std::shared_ptr<Program>> prepare_program(const Prog& prog);

enum class RunStop : uint8_t { Returned, Oops, Interrupted };
struct RunOutcome {
  uint64_t value = 0;
  RunStop stop = RunStop::Returned;
};

// What a helper gave the program that it must give back: a reference to a socket, a record of a ring. One
// that the verifier accepted has given all back when it returns; a run that ends before does not get so far,
// and its frame gives back the rest.
struct RunHeld {
  Addr what;
  void (*give_back)(Machine& machine, Addr what);
  std::unique_ptr<Holding> edge;  // of what is counted
};

// What a run needs, kept for the next one.
struct RunStack {
  Span page;
  std::vector<RunHeld> held;
};
struct RunStacks {
  std::vector<RunStack> spare;
};

struct RunFrame {
  RunFrame(Machine& machine, const Prog& prog);
  ~RunFrame();
  RunFrame(const RunFrame&) = delete;

  void hold(RunHeld held) { this->held.push_back(std::move(held)); }
  bool gives_back(Addr what);  // false: it does not hold that
  Addr fp(int depth) const { return stack.addr + stack.size - uint64_t(depth) * MAX_BPF_STACK; }

  Machine& machine;
  const Prog* prog;  // changes with a tail call
  RunFrame* const outer;
  Span stack;
  std::vector<RunHeld> held;   // the newest last
  int depth = 0;               // subprogram frames in use below the main one
  bool checked = false;        // the checked engine runs it: memory must lie in a live object
  uint64_t* budget = nullptr;  // of the checked engine: the instructions that it may still run
  uint64_t insn = 0;  // the instruction that is being executed, for reports; set before each helper call
  RunStop stop = RunStop::Returned;
};

// The host address of memory that a program or helper is about to touch. Null after a simulated oops has been
// reported and the running program marked as stopped.
uint8_t* program_memory(Machine& machine, Addr addr, uint64_t size, bpf_access_type type);
bool is_program_memory(const Machine& machine, Addr addr, uint64_t size);

// A simulated oops: the report goes to dmesg and the running program stops.
void oops(RunFrame& frame, uint64_t insn, const std::string& what);
void oops_access(RunFrame& frame, uint64_t insn, Addr addr, uint64_t size, bpf_access_type type);

// The interpreter. `start` is the first instruction, args are R1 to R5.
RunOutcome ___bpf_prog_run(RunFrame& frame, const Program& program, uint32_t start,
                           const uint64_t (&args)[5]);

// A helper calls back into the running program: the subprogram whose address a register held.
uint64_t call_bpf(Machine& machine, const Prog& prog, Addr function, const uint64_t (&args)[5]);

// The program that bpf_tail_call goes to, or null when it falls through.
const Prog* tail_call_target(Machine& machine, Addr map, uint32_t index);

// Events of this station.
struct ProgRunEvent final : Event {
  ProgRunEvent(const Prog& prog, bool enter, uint64_t value)
      : prog_id(prog.id), serial(prog.serial), enter(enter), value(value) {}
  uint32_t prog_id;
  uint64_t serial;
  bool enter;
  uint64_t value;  // R1 on entry, R0 on return
  const char* kind() const override { return enter ? "run" : "ran"; }
  void fields(FieldSink& sink) const override;
};

struct HelperEvent final : Event {
  HelperEvent(int id, bool enter, const uint64_t* regs);
  int id;
  bool enter;
  uint64_t values[5] = {};  // R1 to R5 on entry; R0 first on return
  const char* kind() const override { return enter ? "helper" : "helper_return"; }
  void fields(FieldSink& sink) const override;
};

struct TailCallEvent final : Event {
  TailCallEvent(uint32_t index, const Prog* to) : index(index), to(to ? to->id : 0), taken(to != nullptr) {}
  uint32_t index, to;
  bool taken;
  const char* kind() const override { return "tail_call"; }
  void fields(FieldSink& sink) const override;
};

}  // namespace bpfsim
