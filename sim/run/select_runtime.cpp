// Models: kernel/bpf/core.c (bpf_prog_select_runtime), include/linux/filter.h (bpf_prog_run) (Linux 6.18)
//
// A verified program is made ready to run, and run. Not modelled yet: the JIT. net.core.bpf_jit_enable
// decides prog->jit_requested, but every program runs in the interpreter and says so (jited stays false); a
// machine with CONFIG_BPF_JIT_ALWAYS_ON has no interpreter in the kernel and has one here.
#include "run/select_runtime.h"

#include <utility>

#include "run/helpers/table.h"

namespace bpfsim {

static bool is_jump_of(const OpRow& row) {
  return row.form == Form::JmpImm || row.form == Form::JmpReg || row.form == Form::Goto ||
         row.form == Form::Gotol || row.form == Form::CallLocal;
}

static uint32_t stack_depth_of(const Prog& prog, size_t start) {
  for (const SubprogInfo& subprog : prog.aux->subprogs)
    if (subprog.start == start && subprog.stack_depth <= MAX_BPF_STACK) return subprog.stack_depth;
  return MAX_BPF_STACK;
}

// Where a BPF_PSEUDO_FUNC points: the distance counts from the slot after the first, as for a call.
static Result<uint64_t> callback_address(const std::vector<bpf_insn>& insns, size_t at) {
  int64_t target = int64_t(at) + 1 + insns[at].imm;
  if (target < 0 || target >= int64_t(insns.size()))
    return refuse(Errno::Inval, "insn {} points at a function outside the program: {}", at, target);
  return kTextBase + uint64_t(target) * 8;
}

static Result<uint64_t> helper_address(const bpf_insn& insn, size_t at) {
  const FuncProto* proto = helper_proto(bpf_func_id(insn.imm));
  if (!proto || !proto->func)
    return refuse(Errno::Inval, "insn {} calls helper {}, which this machine does not have", at, insn.imm);
  return uint64_t(reinterpret_cast<uintptr_t>(proto->func));
}

static Result<void> prepare_step(const Prog& prog, size_t at, const OpRow& row, Step& step) {
  const std::vector<bpf_insn>& insns = prog.insnsi;
  const bpf_insn& insn = insns[at];
  bool jump_by_imm = row.form == Form::Gotol || row.form == Form::CallLocal;
  step.off = jump_by_imm ? insn.imm : insn.off;
  if (is_jump_of(row)) {
    int64_t target = int64_t(at) + 1 + step.off;
    if (target < 0 || target >= int64_t(insns.size()))
      return refuse(Errno::Inval, "insn {} jumps to {}, out of a program of {}", at, target, insns.size());
    if (row.form == Form::CallLocal) step.imm = stack_depth_of(prog, size_t(target));
  }
  if (row.slots() == 2) {
    if (at + 1 >= insns.size()) return refuse(Errno::Inval, "insn {} is half of an LD_IMM64", at);
    step.imm = row.op == Op::LD_FUNC ? TRY(callback_address(insns, at)) : ld_imm64_value(insn, insns[at + 1]);
  }
  if (row.form == Form::CallHelper) {
    step.off = insn.imm;  // the helper's number, for events
    step.imm = TRY(helper_address(insn, at));
  }
  return {};
}

Result<std::shared_ptr<Program>> prepare_program(const Prog& prog) {
  auto program = std::make_shared<Program>();
  const std::vector<bpf_insn>& insns = prog.insnsi;
  program->stack_depth = stack_depth_of(prog, 0);
  program->steps.resize(insns.size() + 1, Step{kFellOff, 0, 0, 0, 0});
  for (size_t at = 0; at < insns.size(); ++at) {
    const OpRow* row = decode(insns[at]);
    if (!row) return refuse(Errno::Inval, "insn {} has no meaning: code {}", at, insns[at].code);
    if (insns[at].dst_reg >= MAX_BPF_EXT_REG || insns[at].src_reg >= MAX_BPF_EXT_REG)
      return refuse(Errno::Inval, "insn {} names a register that does not exist", at);
    Step& step = program->steps[at];
    step = Step{uint16_t(row->op), insns[at].dst_reg, insns[at].src_reg, 0, uint64_t(int64_t(insns[at].imm))};
    TRY(prepare_step(prog, at, *row, step));
    if (row->slots() == 2) ++at;
  }
  return program;
}

static uint64_t interpret(Machine& machine, const Prog& prog, Addr ctx) {
  RunFrame& frame = *machine.current->running;
  return ___bpf_prog_run(frame, *static_cast<const Program*>(prog.image.get()), 0, {ctx, 0, 0, 0, 0}).value;
}

Result<void> bpf_prog_select_runtime(Prog& prog) {
  KFN(prog.machine, bpf_prog_select_runtime);
  prog.image = TRY(prepare_program(prog));
  prog.jit_requested = prog.machine.sysctl.jit_enable != 0;
  prog.jited = false;
  prog.bpf_func = interpret;
  return {};
}

RunOutcome bpf_prog_run(Machine& machine, Prog& prog, Addr ctx) {
  RunFrame frame(machine, prog);
  uint64_t from = machine.clock.now_ns;
  emit<ProgRunEvent>(machine, prog, true, ctx);
  uint64_t value = prog.bpf_func(machine, prog, ctx);
  emit<ProgRunEvent>(machine, prog, false, value);
  if (machine.sysctl.bpf_stats_enabled_key()) {
    prog.stats.nsecs += machine.clock.now_ns - from;
    ++prog.stats.cnt;
  }
  return {value, frame.stop};
}

}  // namespace bpfsim
