// Models: kernel/bpf/core.c (___bpf_prog_run) (Linux 6.18)
//
// The interpreter. One handler per opcode, each ending in a jump to the next handler: by computed goto where
// the compiler has it, by a switch elsewhere. Registers are an array of 64-bit numbers; 32-bit operations
// write zeros above. Division by zero gives 0 and modulo by zero leaves dst, which the kernel's verifier
// patches in as instructions and we do here as well. Every load and store is kept inside the machine's arena;
// one that is not there is a simulated oops, never a fault of the process. Instructions are counted at each
// taken jump, from the distance to where the last one landed, so straight code pays nothing.
//
// Departs from the kernel: subprograms run in one loop with frames of their own instead of a recursive call
// (JMP_CALL_ARGS), and a tail call out of a subprogram returns to its caller, as the x86 JIT does it. Not
// modelled yet: LD_ABS and LD_IND (the kernel's verifier rewrites them, ours refuses them so far), kfunc
// calls, BPF arena accesses (PROBE_MEM32), per-CPU address moves; each is a simulated oops.
#include <cstring>

#include "run/engine.h"
#include "run/helpers/table.h"

namespace bpfsim {

namespace {

template <class T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void store(uint8_t* at, uint64_t value) {
  T cut = T(value);
  std::memcpy(at, &cut, sizeof cut);
}

uint64_t sdiv64(uint64_t a, uint64_t b) {
  if (b == 0) return 0;
  return b == ~0ull ? 0 - a : uint64_t(int64_t(a) / int64_t(b));  // INT64_MIN / -1 stays INT64_MIN
}
uint64_t smod64(uint64_t a, uint64_t b) {
  if (b == 0) return a;
  return b == ~0ull ? 0 : uint64_t(int64_t(a) % int64_t(b));
}
uint32_t sdiv32(uint32_t a, uint32_t b) {
  if (b == 0) return 0;
  return b == ~0u ? 0 - a : uint32_t(int32_t(a) / int32_t(b));
}
uint32_t smod32(uint32_t a, uint32_t b) {
  if (b == 0) return a;
  return b == ~0u ? 0 : uint32_t(int32_t(a) % int32_t(b));
}

uint64_t swap16(uint64_t v) { return uint16_t(v << 8 | (v >> 8 & 0xff)); }
uint64_t swap32(uint64_t v) { return swap16(v) << 16 | swap16(v >> 16); }
uint64_t swap64(uint64_t v) { return swap32(v) << 32 | swap32(v >> 32); }

// What a call or a nested callback must bring back.
struct Saved {
  const Step* steps;
  const Step* pc;
  const Prog* prog;
  uint64_t callee_saved[4];
};

const Program& program_of(const Prog& prog) { return *static_cast<const Program*>(prog.image.get()); }

}  // namespace

#if defined(__GNUC__)
#define LABELS_AS_VALUES 1
#define CASE(name) L_##name
#define NEXT() goto* labels[pc->op]
#else
#define LABELS_AS_VALUES 0
#define CASE(name) case int(Op::name)
#define NEXT() goto dispatch
#endif

#define DST reg[pc->dst]
#define SRC reg[pc->src]
#define IMM pc->imm
#define ADVANCE(slots) \
  do {                 \
    pc += (slots);     \
    NEXT();            \
  } while (0)

// Leaves straight code: counts it, lands at `to`, and now and then looks whether the host wants to stop us.
#define LAND(to)                        \
  do {                                  \
    count += uint64_t(pc - landed) + 1; \
    landed = pc = (to);                 \
    if (count >= look_at) [[unlikely]]  \
      goto look;                        \
    NEXT();                             \
  } while (0)

#define ALU64(name, expr)      \
  CASE(ALU64_##name##_K) : {   \
    uint64_t d = DST, s = IMM; \
    DST = (expr);              \
    ADVANCE(1);                \
  }                            \
  CASE(ALU64_##name##_X) : {   \
    uint64_t d = DST, s = SRC; \
    DST = (expr);              \
    ADVANCE(1);                \
  }
#define ALU32(name, expr)                          \
  CASE(ALU_##name##_K) : {                         \
    uint32_t d = uint32_t(DST), s = uint32_t(IMM); \
    DST = uint32_t(expr);                          \
    ADVANCE(1);                                    \
  }                                                \
  CASE(ALU_##name##_X) : {                         \
    uint32_t d = uint32_t(DST), s = uint32_t(SRC); \
    DST = uint32_t(expr);                          \
    ADVANCE(1);                                    \
  }
#define UNARY(name, expr)      \
  CASE(name) : {               \
    uint64_t d = DST, s = SRC; \
    (void)d, (void)s;          \
    DST = (expr);              \
    ADVANCE(1);                \
  }
#define BRANCH(name, type, operand, condition) \
  CASE(name) : {                               \
    type d = type(DST), s = type(operand);     \
    if (condition) LAND(pc + 1 + pc->off);     \
    ADVANCE(1);                                \
  }
#define JUMP(name, U, S, condition)           \
  BRANCH(JMP_##name##_K, U, IMM, condition)   \
  BRANCH(JMP_##name##_X, U, SRC, condition)   \
  BRANCH(JMP32_##name##_K, S, IMM, condition) \
  BRANCH(JMP32_##name##_X, S, SRC, condition)

#define AT(reg_value) ((reg_value) + uint64_t(int64_t(pc->off)) - kArenaBase)
#define REACH(offset, T, how)                                      \
  if ((offset) > last8 + (8 - sizeof(T))) [[unlikely]] {           \
    bad_offset = (offset), bad_size = sizeof(T), bad_type = (how); \
    goto fault;                                                    \
  }
#define LOAD(name, T, wide)                        \
  CASE(name) : {                                   \
    uint64_t offset = AT(SRC);                     \
    REACH(offset, T, BPF_READ);                    \
    DST = uint64_t(wide(load<T>(arena + offset))); \
    ADVANCE(1);                                    \
  }
#define PROBE(name, T, wide)                                                              \
  CASE(name) : {                                                                          \
    uint64_t offset = AT(SRC);                                                            \
    DST = offset > last8 + (8 - sizeof(T)) ? 0 : uint64_t(wide(load<T>(arena + offset))); \
    ADVANCE(1);                                                                           \
  }
#define STORE(name, T, value)        \
  CASE(name) : {                     \
    uint64_t offset = AT(DST);       \
    REACH(offset, T, BPF_WRITE);     \
    store<T>(arena + offset, value); \
    ADVANCE(1);                      \
  }
// `old` is what memory held, `s` the source register, `result` what it becomes.
#define ATOMIC(name, T, into, result)            \
  CASE(name) : {                                 \
    uint64_t offset = AT(DST);                   \
    REACH(offset, T, BPF_WRITE);                 \
    T old = load<T>(arena + offset), s = T(SRC); \
    store<T>(arena + offset, T(result));         \
    into;                                        \
    ADVANCE(1);                                  \
  }
#define ATOMICS(size, T)                                 \
  ATOMIC(ATOMIC_ADD_##size, T, (void)0, old + s)         \
  ATOMIC(ATOMIC_OR_##size, T, (void)0, old | s)          \
  ATOMIC(ATOMIC_AND_##size, T, (void)0, old& s)          \
  ATOMIC(ATOMIC_XOR_##size, T, (void)0, old ^ s)         \
  ATOMIC(ATOMIC_FETCH_ADD_##size, T, SRC = old, old + s) \
  ATOMIC(ATOMIC_FETCH_OR_##size, T, SRC = old, old | s)  \
  ATOMIC(ATOMIC_FETCH_AND_##size, T, SRC = old, old & s) \
  ATOMIC(ATOMIC_FETCH_XOR_##size, T, SRC = old, old ^ s) \
  ATOMIC(ATOMIC_XCHG_##size, T, SRC = old, s)            \
  ATOMIC(ATOMIC_CMPXCHG_##size, T, reg[BPF_REG_0] = old, old == T(reg[BPF_REG_0]) ? s : old)

RunOutcome ___bpf_prog_run(RunFrame& frame, const Program& program, uint32_t start,
                           const uint64_t (&args)[5]) {
  Machine& machine = frame.machine;
  uint8_t* const arena = machine.arena.host(kArenaBase);
  const uint64_t last8 = machine.arena.reserve() - 8;
  const int base_depth = frame.depth;
  Saved saved[MAX_CALL_FRAMES];

  uint64_t reg[MAX_BPF_EXT_REG] = {0, args[0], args[1], args[2], args[3], args[4]};
  reg[BPF_REG_FP] = frame.fp(frame.depth);

  const Step* steps = program.steps.data();
  const Step* pc = steps + start;
  const Step* landed = pc;
  constexpr uint64_t kLookEvery = 65536;
  uint64_t count = 0, charged = 0, look_at = kLookEvery;
  uint64_t bad_offset = 0, bad_size = 0;
  bpf_access_type bad_type = BPF_READ;

#if LABELS_AS_VALUES
  static const void* const labels[] = {
#undef OP
#define OP(name, ...) &&L_##name,
#include "isa/opcodes.def"
#undef OP
      &&fell_off};
  NEXT();
#else
dispatch:
  switch (pc->op) {
#endif

  ALU64(ADD, d + s)
  ALU64(SUB, d - s)
  ALU64(MUL, d * s)
  ALU64(DIV, s ? d / s : 0)
  ALU64(MOD, s ? d % s : d)
  ALU64(SDIV, sdiv64(d, s))
  ALU64(SMOD, smod64(d, s))
  ALU64(OR, d | s)
  ALU64(AND, d & s)
  ALU64(XOR, d ^ s)
  ALU64(LSH, d << (s & 63))
  ALU64(RSH, d >> (s & 63))
  ALU64(ARSH, uint64_t(int64_t(d) >> (s & 63)))
  UNARY(ALU64_NEG, 0 - d)
  UNARY(ALU64_MOV_K, IMM)
  UNARY(ALU64_MOV_X, s)
  UNARY(ALU64_MOVSX8, uint64_t(int64_t(int8_t(s))))
  UNARY(ALU64_MOVSX16, uint64_t(int64_t(int16_t(s))))
  UNARY(ALU64_MOVSX32, uint64_t(int64_t(int32_t(s))))

  ALU32(ADD, d + s)
  ALU32(SUB, d - s)
  ALU32(MUL, d * s)
  ALU32(DIV, s ? d / s : 0)
  ALU32(MOD, s ? d % s : d)
  ALU32(SDIV, sdiv32(d, s))
  ALU32(SMOD, smod32(d, s))
  ALU32(OR, d | s)
  ALU32(AND, d & s)
  ALU32(XOR, d ^ s)
  ALU32(LSH, d << (s & 31))
  ALU32(RSH, d >> (s & 31))
  ALU32(ARSH, int32_t(d) >> (s & 31))
  UNARY(ALU_NEG, uint32_t(0 - d))
  UNARY(ALU_MOV_K, uint32_t(IMM))
  UNARY(ALU_MOV_X, uint32_t(s))
  UNARY(ALU_MOVSX8, uint32_t(int8_t(s)))
  UNARY(ALU_MOVSX16, uint32_t(int16_t(s)))

  UNARY(ALU_END_LE16, uint16_t(d))
  UNARY(ALU_END_LE32, uint32_t(d))
  UNARY(ALU_END_LE64, d)
  UNARY(ALU_END_BE16, swap16(d))
  UNARY(ALU_END_BE32, swap32(d))
  UNARY(ALU_END_BE64, swap64(d))
  UNARY(ALU64_BSWAP16, swap16(d))
  UNARY(ALU64_BSWAP32, swap32(d))
  UNARY(ALU64_BSWAP64, swap64(d))

  JUMP(JEQ, uint64_t, uint32_t, d == s)
  JUMP(JNE, uint64_t, uint32_t, d != s)
  JUMP(JGT, uint64_t, uint32_t, d > s)
  JUMP(JGE, uint64_t, uint32_t, d >= s)
  JUMP(JLT, uint64_t, uint32_t, d < s)
  JUMP(JLE, uint64_t, uint32_t, d <= s)
  JUMP(JSET, uint64_t, uint32_t, (d & s) != 0)
  JUMP(JSGT, int64_t, int32_t, d > s)
  JUMP(JSGE, int64_t, int32_t, d >= s)
  JUMP(JSLT, int64_t, int32_t, d < s)
  JUMP(JSLE, int64_t, int32_t, d <= s)
  CASE(JMP_JA) : CASE(JMP32_JA) : LAND(pc + 1 + pc->off);

  LOAD(LDX_MEM_B, uint8_t, uint64_t)
  LOAD(LDX_MEM_H, uint16_t, uint64_t)
  LOAD(LDX_MEM_W, uint32_t, uint64_t)
  LOAD(LDX_MEM_DW, uint64_t, uint64_t)
  LOAD(LDX_MEMSX_B, int8_t, int64_t)
  LOAD(LDX_MEMSX_H, int16_t, int64_t)
  LOAD(LDX_MEMSX_W, int32_t, int64_t)
  PROBE(PROBE_MEM_B, uint8_t, uint64_t)
  PROBE(PROBE_MEM_H, uint16_t, uint64_t)
  PROBE(PROBE_MEM_W, uint32_t, uint64_t)
  PROBE(PROBE_MEM_DW, uint64_t, uint64_t)
  PROBE(PROBE_MEMSX_B, int8_t, int64_t)
  PROBE(PROBE_MEMSX_H, int16_t, int64_t)
  PROBE(PROBE_MEMSX_W, int32_t, int64_t)
  STORE(ST_MEM_B, uint8_t, IMM)
  STORE(ST_MEM_H, uint16_t, IMM)
  STORE(ST_MEM_W, uint32_t, IMM)
  STORE(ST_MEM_DW, uint64_t, IMM)
  STORE(STX_MEM_B, uint8_t, SRC)
  STORE(STX_MEM_H, uint16_t, SRC)
  STORE(STX_MEM_W, uint32_t, SRC)
  STORE(STX_MEM_DW, uint64_t, SRC)

  ATOMICS(W, uint32_t)
  ATOMICS(DW, uint64_t)
  LOAD(LOAD_ACQ_B, uint8_t, uint64_t)
  LOAD(LOAD_ACQ_H, uint16_t, uint64_t)
  LOAD(LOAD_ACQ_W, uint32_t, uint64_t)
  LOAD(LOAD_ACQ_DW, uint64_t, uint64_t)
  STORE(STORE_REL_B, uint8_t, SRC)
  STORE(STORE_REL_H, uint16_t, SRC)
  STORE(STORE_REL_W, uint32_t, SRC)
  STORE(STORE_REL_DW, uint64_t, SRC)

  CASE(LD_IMM64)
      : CASE(LD_MAP_FD)
      : CASE(LD_MAP_VALUE) : CASE(LD_BTF_ID) : CASE(LD_FUNC) : CASE(LD_MAP_IDX) : CASE(LD_MAP_IDX_VALUE) : {
    DST = IMM;
    ADVANCE(2);
  }
  CASE(ST_NOSPEC) : CASE(JMP_JCOND) : ADVANCE(1);

  CASE(JMP_CALL) : {
    count += uint64_t(pc - landed) + 1;
    landed = pc + 1;
    machine.clock.advance((count - charged) * Clock::kInstruction + Clock::kHelper);
    charged = count;
    frame.insn = uint64_t(pc - steps);
    auto helper = reinterpret_cast<HelperFunction>(uintptr_t(IMM));
    emit<HelperEvent>(machine, pc->off, true, &reg[BPF_REG_1]);
    reg[BPF_REG_0] = helper(machine, reg[1], reg[2], reg[3], reg[4], reg[5]);
    emit<HelperEvent>(machine, pc->off, false, &reg[BPF_REG_0]);
    if (frame.stop != RunStop::Returned) [[unlikely]]
      goto out;
    ADVANCE(1);
  }

  CASE(JMP_CALL_PSEUDO) : {
    if (frame.depth + 1 >= MAX_CALL_FRAMES) {
      oops(frame, uint64_t(pc - steps), "the call stack of 8 frames is used up");
      goto out;
    }
    saved[frame.depth - base_depth] = {steps, pc + 1, frame.prog, {reg[6], reg[7], reg[8], reg[9]}};
    ++frame.depth;
    reg[BPF_REG_FP] = frame.fp(frame.depth);
    std::memset(arena + (reg[BPF_REG_FP] - IMM - kArenaBase), 0, IMM);
    LAND(pc + 1 + pc->off);
  }

  CASE(JMP_EXIT) : {
    if (frame.depth == base_depth) {
      count += uint64_t(pc - landed) + 1;
      landed = pc;
      goto out;
    }
    --frame.depth;
    const Saved& caller = saved[frame.depth - base_depth];
    for (int i = 0; i < 4; ++i) reg[BPF_REG_6 + i] = caller.callee_saved[i];
    reg[BPF_REG_FP] = frame.fp(frame.depth);
    steps = caller.steps;
    frame.prog = caller.prog;
    LAND(caller.pc);
  }

  CASE(TAIL_CALL) : {
    const Prog* target = nullptr;
    frame.insn = uint64_t(pc - steps);
    if (machine.current->tail_calls < MAX_TAIL_CALL_CNT)
      target = tail_call_target(machine, reg[BPF_REG_2], uint32_t(reg[BPF_REG_3]));
    emit<TailCallEvent>(machine, uint32_t(reg[BPF_REG_3]), target);
    if (frame.stop != RunStop::Returned) [[unlikely]]
      goto out;
    if (!target) ADVANCE(1);
    ++machine.current->tail_calls;
    const Program& next = program_of(*target);
    frame.prog = target;
    if (next.stack_depth)  // 0 bytes at the end of a page cost some processors 150 ns
      std::memset(arena + (reg[BPF_REG_FP] - next.stack_depth - kArenaBase), 0, next.stack_depth);
    count += uint64_t(pc - landed) + 1;
    steps = pc = landed = next.steps.data();
    if (count >= look_at) [[unlikely]]
      goto look;
    NEXT();
  }

  CASE(JMP_CALL_KFUNC)
      : CASE(ADDR_SPACE_CAST)
      : CASE(ADDR_PERCPU)
      : CASE(CALL_ARGS)
      : CASE(LD_ABS_B)
      : CASE(LD_ABS_H)
      : CASE(LD_ABS_W)
      : CASE(LD_IND_B)
      : CASE(LD_IND_H)
      : CASE(LD_IND_W)
      : CASE(LDX_PROBE_MEM32_B)
      : CASE(LDX_PROBE_MEM32_H)
      : CASE(LDX_PROBE_MEM32_W)
      : CASE(LDX_PROBE_MEM32_DW)
      : CASE(LDX_PROBE_MEM32SX_B)
      : CASE(LDX_PROBE_MEM32SX_H)
      : CASE(LDX_PROBE_MEM32SX_W)
      : CASE(ST_PROBE_MEM32_B)
      : CASE(ST_PROBE_MEM32_H)
      : CASE(ST_PROBE_MEM32_W)
      : CASE(ST_PROBE_MEM32_DW)
      : CASE(STX_PROBE_MEM32_B)
      : CASE(STX_PROBE_MEM32_H)
      : CASE(STX_PROBE_MEM32_W)
      : CASE(STX_PROBE_MEM32_DW)
      : CASE(PROBE_ATOMIC_B) : CASE(PROBE_ATOMIC_H) : CASE(PROBE_ATOMIC_W) : CASE(PROBE_ATOMIC_DW) : {
    oops(frame, uint64_t(pc - steps), std::string("this machine has no ") + op_name(Op(pc->op)));
    goto out;
  }

#if !LABELS_AS_VALUES
  default: goto fell_off;
}
#endif

fell_off: oops(frame, uint64_t(pc - steps), "the program ran past its last instruction");
goto out;

fault: oops_access(frame, uint64_t(pc - steps), bad_offset + kArenaBase, bad_size, bad_type);
goto out;

look: look_at = count + kLookEvery;
if (!host_interrupts(machine)) NEXT();
frame.stop = RunStop::Interrupted;

out: machine.clock.advance((count - charged) * Clock::kInstruction);
frame.depth = base_depth;
if (frame.stop != RunStop::Returned) return {0, frame.stop};
return {reg[BPF_REG_0], RunStop::Returned};
}

}  // namespace bpfsim
