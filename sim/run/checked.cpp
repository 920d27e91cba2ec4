// No kernel counterpart: see run/checked.h.
//
// Each instruction is looked up in the opcode table and worked out from its class, operation and size.
// Nothing is prepared and nothing is fast.
#include "run/checked.h"

#include <algorithm>
#include <cstring>

#include "run/helpers/table.h"

namespace bpfsim {

namespace {

uint64_t narrow(uint64_t value, bool wide) { return wide ? value : uint32_t(value); }

int64_t as_signed(uint64_t value, bool wide) { return wide ? int64_t(value) : int32_t(value); }

// s/ and s% of either width: what does not fit stays the smallest number, and leaves no rest.
uint64_t signed_divide(uint64_t a, uint64_t b, bool wide, bool modulo) {
  int64_t x = as_signed(a, wide), y = as_signed(b, wide);
  if (y == 0) return modulo ? a : 0;
  if (y == -1) return modulo ? 0 : 0 - a;
  return uint64_t(modulo ? x % y : x / y);
}

uint64_t alu(int op, bool is_signed, uint64_t a, uint64_t b, bool wide) {
  a = narrow(a, wide);
  b = narrow(b, wide);
  uint64_t shift = b & (wide ? 63 : 31);
  switch (op) {
    case BPF_ADD: return a + b;
    case BPF_SUB: return a - b;
    case BPF_MUL: return a * b;
    case BPF_DIV: return is_signed ? signed_divide(a, b, wide, false) : b ? a / b : 0;
    case BPF_MOD: return is_signed ? signed_divide(a, b, wide, true) : b ? a % b : a;
    case BPF_OR: return a | b;
    case BPF_AND: return a & b;
    case BPF_XOR: return a ^ b;
    case BPF_LSH: return a << shift;
    case BPF_RSH: return a >> shift;
    case BPF_ARSH: return uint64_t(as_signed(a, wide) >> shift);
    case BPF_NEG: return 0 - a;
    default: return b;  // BPF_MOV
  }
}

uint64_t sign_extend(uint64_t value, int bits) {
  int unused = 64 - bits;
  return uint64_t(int64_t(value << unused) >> unused);
}

uint64_t reversed(uint64_t value, int bytes) {
  uint64_t result = 0;
  for (int i = 0; i < bytes; ++i) result = result << 8 | (value >> (8 * i) & 0xff);
  return result;
}

bool condition(int op, uint64_t a, uint64_t b, bool wide) {
  a = narrow(a, wide);
  b = narrow(b, wide);
  int64_t x = as_signed(a, wide), y = as_signed(b, wide);
  switch (op) {
    case BPF_JEQ: return a == b;
    case BPF_JNE: return a != b;
    case BPF_JGT: return a > b;
    case BPF_JGE: return a >= b;
    case BPF_JLT: return a < b;
    case BPF_JLE: return a <= b;
    case BPF_JSET: return (a & b) != 0;
    case BPF_JSGT: return x > y;
    case BPF_JSGE: return x >= y;
    case BPF_JSLT: return x < y;
    default: return x <= y;  // BPF_JSLE
  }
}

uint64_t get(const uint8_t* at, int bytes) {
  uint64_t value = 0;
  std::memcpy(&value, at, size_t(bytes));
  return value;
}

void put(uint8_t* at, uint64_t value, int bytes) { std::memcpy(at, &value, size_t(bytes)); }

bool is_probe(Op op) { return op >= Op::PROBE_MEM_B && op <= Op::PROBE_MEMSX_W; }

}  // namespace

CheckedEngine::CheckedEngine(RunFrame& frame, uint64_t& budget, uint32_t start, const uint64_t (&args)[5])
    : pc(start), frame_(frame), budget_(budget), base_depth_(frame.depth) {
  std::copy_n(args, 5, reg.begin() + BPF_REG_1);
  reg[BPF_REG_FP] = frame.fp(frame.depth);
}

bool CheckedEngine::fail(const std::string& what) {
  oops(frame_, pc, what);
  return false;
}

// Host memory for an access; null after an oops. In the stack page only the frames in use may be touched.
uint8_t* CheckedEngine::reach(Addr addr, uint64_t size, bpf_access_type type) {
  const Span& page = frame_.stack;
  bool in_stack = addr - page.addr < page.size;
  if (in_stack && addr < reg[BPF_REG_FP] - MAX_BPF_STACK) {
    fail("access to the stack at fp" + std::to_string(int64_t(addr - reg[BPF_REG_FP])) +
         ", below the 512 bytes of its frame");
    return nullptr;
  }
  if (is_program_memory(frame_.machine, addr, size)) return frame_.machine.arena.host(addr);
  oops_access(frame_, pc, addr, size, type);
  return nullptr;
}

bool CheckedEngine::jump(int64_t distance) {
  int64_t target = int64_t(pc) + 1 + distance;
  if (target < 0 || target >= int64_t(insns().size()))
    return fail("a jump to instruction " + std::to_string(target) + ", out of the program");
  pc = uint64_t(target);
  return true;
}

bool CheckedEngine::step() {
  if (ended) return false;
  Machine& machine = frame_.machine;
  bool going = frame_.stop == RunStop::Returned;
  if (going && pc >= insns().size()) going = fail("the program ran past its last instruction");
  if (going && budget_ == 0) going = fail("soft lockup: the program does not end");
  if (going) {
    --budget_;
    const bpf_insn& insn = insns()[pc];
    const OpRow* row = decode(insn);
    frame_.insn = pc;
    emit<InsnEvent>(machine, *frame_.prog, pc, frame_.depth, reg);
    if (!row) {
      going = fail("an instruction without meaning, code " + std::to_string(insn.code));
    } else if (insn.dst_reg >= MAX_BPF_EXT_REG || insn.src_reg >= MAX_BPF_EXT_REG) {
      going = fail("a register that does not exist");
    } else {
      machine.clock.advance(uint64_t(row->slots()) * Clock::kInstruction);
      going = execute(*row, insn);
    }
  }
  if (!going) {
    ended = true;
    frame_.depth = base_depth_;
  }
  return going;
}

bool CheckedEngine::execute(const OpRow& row, const bpf_insn& insn) {
  switch (row.form) {
    case Form::AluImm:
    case Form::AluReg:
    case Form::Neg:
    case Form::MovSx:
    case Form::End: return execute_alu(row, insn);
    case Form::JmpImm:
    case Form::JmpReg:
    case Form::Goto:
    case Form::Gotol: return execute_jump(row, insn);
    case Form::Load:
    case Form::StoreImm:
    case Form::StoreReg:
    case Form::LoadAcquire:
    case Form::StoreRelease: return execute_memory(row, insn);
    case Form::Atomic:
    case Form::AtomicFetch:
    case Form::AtomicCmpxchg: return execute_atomic(row, insn);
    case Form::CallHelper: return execute_call(insn);
    case Form::CallLocal: return execute_local_call(insn);
    case Form::Exit: return execute_exit();
    case Form::Nospec: ++pc; return true;
    case Form::LdImm64:
      if (pc + 1 >= insns().size()) return fail("half of an LD_IMM64");
      reg[insn.dst_reg] = row.op == Op::LD_FUNC ? kTextBase + (pc + 1 + uint64_t(int64_t(insn.imm))) * 8
                                                : ld_imm64_value(insn, insns()[pc + 1]);
      pc += 2;
      return true;
    default:
      if (row.op == Op::TAIL_CALL) return execute_tail_call();
      if (is_probe(row.op)) return execute_memory(row, insn);
      return fail(std::string("this machine has no ") + row.name);
  }
}

bool CheckedEngine::execute_alu(const OpRow& row, const bpf_insn& insn) {
  uint64_t& dst = reg[insn.dst_reg];
  bool wide = BPF_CLASS(insn.code) == BPF_ALU64;
  bool by_register = BPF_SRC(insn.code) == BPF_X && row.form != Form::End;
  uint64_t src = by_register ? reg[insn.src_reg] : uint64_t(int64_t(insn.imm));
  if (row.form == Form::End) {
    bool swap = wide || BPF_SRC(insn.code) == BPF_TO_BE;
    uint64_t low = insn.imm == 64 ? dst : dst & ((1ull << insn.imm) - 1);
    dst = swap ? reversed(dst, insn.imm / 8) : low;
  } else if (row.form == Form::MovSx) {
    dst = narrow(sign_extend(src, insn.off), wide);
  } else {
    dst = narrow(alu(BPF_OP(insn.code), insn.off == 1, dst, src, wide), wide);
  }
  ++pc;
  return true;
}

bool CheckedEngine::execute_jump(const OpRow& row, const bpf_insn& insn) {
  if (row.op == Op::JMP_JCOND) {  // may_goto: this engine never gives up a loop
    ++pc;
    return true;
  }
  if (row.form == Form::Gotol) return jump(insn.imm);
  if (row.form == Form::Goto) return jump(insn.off);
  uint64_t src = row.form == Form::JmpReg ? reg[insn.src_reg] : uint64_t(int64_t(insn.imm));
  if (condition(BPF_OP(insn.code), reg[insn.dst_reg], src, BPF_CLASS(insn.code) == BPF_JMP))
    return jump(insn.off);
  ++pc;
  return true;
}

bool CheckedEngine::execute_memory(const OpRow& row, const bpf_insn& insn) {
  int bytes = bpf_size_to_bytes(BPF_SIZE(insn.code));
  bool is_store = row.form == Form::StoreImm || row.form == Form::StoreReg || row.form == Form::StoreRelease;
  Addr addr = reg[is_store ? insn.dst_reg : insn.src_reg] + uint64_t(int64_t(insn.off));
  bool ordered = row.form == Form::LoadAcquire || row.form == Form::StoreRelease;
  if (ordered && addr % uint64_t(bytes))
    return fail("a misaligned atomic access at address " + std::to_string(addr));
  if (is_probe(row.op) && !is_program_memory(frame_.machine, addr, uint64_t(bytes))) {
    reg[insn.dst_reg] = 0;
    ++pc;
    return true;
  }
  uint8_t* at = reach(addr, uint64_t(bytes), is_store ? BPF_WRITE : BPF_READ);
  if (!at) return false;
  if (is_store) {
    put(at, row.form == Form::StoreImm ? uint64_t(int64_t(insn.imm)) : reg[insn.src_reg], bytes);
  } else {
    bool extends = *row.text == 's';
    uint64_t value = get(at, bytes);
    reg[insn.dst_reg] = extends ? sign_extend(value, bytes * 8) : value;
  }
  ++pc;
  return true;
}

bool CheckedEngine::execute_atomic(const OpRow&, const bpf_insn& insn) {
  bool wide = BPF_SIZE(insn.code) == BPF_DW;
  int bytes = wide ? 8 : 4;
  Addr addr = reg[insn.dst_reg] + uint64_t(int64_t(insn.off));
  if (addr % uint64_t(bytes)) return fail("a misaligned atomic access at address " + std::to_string(addr));
  uint8_t* at = reach(addr, uint64_t(bytes), BPF_WRITE);
  if (!at) return false;
  uint64_t old = get(at, bytes), src = reg[insn.src_reg];
  if (insn.imm == BPF_CMPXCHG) {
    if (old == narrow(reg[BPF_REG_0], wide)) put(at, src, bytes);
    reg[BPF_REG_0] = old;
  } else {
    put(at, insn.imm == BPF_XCHG ? src : alu(insn.imm & 0xf0, false, old, src, wide), bytes);
    if (insn.imm & BPF_FETCH) reg[insn.src_reg] = old;
  }
  ++pc;
  return true;
}

bool CheckedEngine::execute_call(const bpf_insn& insn) {
  Machine& machine = frame_.machine;
  const FuncProto* proto = helper_proto(bpf_func_id(insn.imm));
  if (!proto)
    return fail("a call of helper " + std::to_string(insn.imm) + ", which this machine does not have");
  machine.clock.advance(Clock::kHelper);
  emit<HelperEvent>(machine, insn.imm, true, &reg[BPF_REG_1]);
  reg[BPF_REG_0] = proto->func(machine, reg[1], reg[2], reg[3], reg[4], reg[5]);
  emit<HelperEvent>(machine, insn.imm, false, &reg[BPF_REG_0]);
  ++pc;
  return frame_.stop == RunStop::Returned;
}

bool CheckedEngine::execute_local_call(const bpf_insn& insn) {
  if (frame_.depth + 1 >= MAX_CALL_FRAMES) return fail("the call stack of 8 frames is used up");
  callers_.push_back({frame_.prog, pc + 1, {reg[6], reg[7], reg[8], reg[9]}});
  if (!jump(insn.imm)) return false;
  ++frame_.depth;
  reg[BPF_REG_FP] = frame_.fp(frame_.depth);
  std::memset(frame_.machine.arena.host(reg[BPF_REG_FP]) - MAX_BPF_STACK, 0, MAX_BPF_STACK);
  return true;
}

bool CheckedEngine::execute_exit() {
  if (callers_.empty()) return false;
  Caller caller = callers_.back();
  callers_.pop_back();
  --frame_.depth;
  frame_.prog = caller.prog;
  pc = caller.pc;
  std::copy(caller.callee_saved.begin(), caller.callee_saved.end(), reg.begin() + BPF_REG_6);
  reg[BPF_REG_FP] = frame_.fp(frame_.depth);
  return true;
}

bool CheckedEngine::execute_tail_call() {
  Machine& machine = frame_.machine;
  const Prog* target = nullptr;
  if (machine.current->tail_calls < MAX_TAIL_CALL_CNT)
    target = tail_call_target(machine, reg[BPF_REG_2], uint32_t(reg[BPF_REG_3]));
  emit<TailCallEvent>(machine, uint32_t(reg[BPF_REG_3]), target);
  if (frame_.stop != RunStop::Returned) return false;
  ++pc;
  if (!target) return true;
  ++machine.current->tail_calls;
  frame_.prog = target;
  pc = 0;
  std::memset(machine.arena.host(reg[BPF_REG_FP]) - MAX_BPF_STACK, 0, MAX_BPF_STACK);
  return true;
}

CheckedRun::CheckedRun(Machine& machine, const Prog& prog, Addr ctx, uint64_t budget)
    : frame_(machine, prog),
      budget_given_(budget),
      budget_(budget),
      engine_(frame_, budget_, 0, {ctx, 0, 0, 0, 0}) {
  frame_.checked = true;
  frame_.budget = &budget_;
}

static RunOutcome run_to_end(Machine& machine, CheckedEngine& engine, RunFrame& frame) {
  constexpr uint64_t kLookEvery = 65536;
  for (uint64_t steps = 1; engine.step(); ++steps) {
    if (steps % kLookEvery == 0 && host_interrupts(machine)) {
      frame.stop = RunStop::Interrupted;
      break;
    }
  }
  return engine.outcome();
}

RunOutcome CheckedRun::run() { return run_to_end(frame_.machine, engine_, frame_); }

std::array<uint8_t, MAX_BPF_STACK> CheckedRun::stack(int depth) const {
  std::array<uint8_t, MAX_BPF_STACK> bytes{};
  if (depth < 0 || depth >= MAX_CALL_FRAMES || !frame_.stack) return bytes;
  std::copy_n(frame_.machine.arena.host(frame_.fp(depth)) - MAX_BPF_STACK, MAX_BPF_STACK, bytes.begin());
  return bytes;
}

RunOutcome bpf_prog_run_checked(Machine& machine, const Prog& prog, Addr ctx) {
  return CheckedRun(machine, prog, ctx).run();
}

uint64_t call_bpf_checked(RunFrame& frame, uint32_t start, const uint64_t (&args)[5]) {
  uint64_t own_budget = CheckedRun::kBudget;
  CheckedEngine engine(frame, frame.budget ? *frame.budget : own_budget, start, args);
  return run_to_end(frame.machine, engine, frame).value;
}

void InsnEvent::fields(FieldSink& sink) const {
  static constexpr const char* names[] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10"};
  sink.number("prog", prog_id);
  sink.number("pc", int64_t(pc));
  sink.number("depth", depth);
  for (size_t i = 0; i < std::size(names); ++i) sink.address(names[i], reg[i]);
}

}  // namespace bpfsim
