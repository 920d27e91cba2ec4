// Models: public_insntable and the dispatch table of ___bpf_prog_run in kernel/bpf/core.c (Linux 6.18)
//
// opcodes.def as C++: a dense enumerator for each opcode and a row that says how it is encoded, written and
// what it does. decode() finds the row of an instruction: one look by code byte, then, where several opcodes
// share the byte, a walk over those few. Unlike the kernel, which tests the byte alone and refuses bad off,
// src_reg and imm later, decode() knows no opcode for CALL with src_reg 7 or an atomic with an unknown imm.
// It does not judge fields that an opcode leaves unused: "uses reserved fields" is for the verifier to say.
#pragma once

#include <cstdint>
#include <string_view>

#include "isa/insn.h"
#include "uapi/version.h"

namespace bpfsim {

enum class Op : uint8_t {
#define OP(name, ...) name,
#include "isa/opcodes.def"
#undef OP
};

inline constexpr int kOpCount = 0
#define OP(...) +1
#include "isa/opcodes.def"
#undef OP
    ;

// How the operands are written; an example of each.
enum class Form : uint8_t {
  AluImm,         // r1 += 5
  AluReg,         // r1 += r2
  Neg,            // r1 = -r1
  MovSx,          // r1 = (s8)r2
  End,            // r1 = be16 r1
  AddrSpaceCast,  // r1 = addr_space_cast(r2, 0, 1)
  AddrPercpu,     // r1 = &(void __percpu *)(r2)
  JmpImm,         // if r1 == 0x5 goto pc+1
  JmpReg,         // if r1 == r2 goto pc+1
  Goto,           // goto pc+1; also may_goto
  Gotol,          // gotol pc+100000
  CallHelper,     // call bpf_map_lookup_elem#1
  CallLocal,      // call pc+5
  CallKfunc,      // call kernel-function#1234
  Exit,           // exit
  Load,           // r1 = *(u32 *)(r2 +4)
  StoreImm,       // *(u32 *)(r1 +4) = 5
  StoreReg,       // *(u32 *)(r1 +4) = r2
  Atomic,         // lock *(u64 *)(r1 +0) += r2
  AtomicFetch,    // r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)
  AtomicCmpxchg,  // r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)
  LoadAcquire,    // r1 = load_acquire((u32 *)(r2 +0))
  StoreRelease,   // store_release((u32 *)(r1 +0), r2)
  LdImm64,        // r1 = 0x1122334455667788
  LdAbs,          // r0 = *(u8 *)skb[14]
  LdInd,          // r0 = *(u8 *)skb[r1 + 14]
  Nospec,         // nospec
  Hidden,         // the kernel's printer has no words for it: BUG_..
};

enum class Cpu : uint8_t { Internal, V1, V2, V3, V4 };
enum class Group : uint8_t { Base32, Base64, Divmul32, Divmul64, Atomic32, Atomic64, Packet, Kernel };
enum class KeyField : uint8_t { Any, Off, Imm, Src };

struct OpRow {
  Op op;
  const char* name;
  uint8_t code;
  KeyField by;
  int16_t key;
  Form form;
  const char* text;
  Cpu cpu;
  Version since;
  Group group;
  const char* equation;

  constexpr bool internal() const { return cpu == Cpu::Internal; }
  constexpr int slots() const { return form == Form::LdImm64 ? 2 : 1; }
  constexpr bool wide() const { return BPF_CLASS(code) == BPF_ALU64 || BPF_CLASS(code) == BPF_JMP; }
};

extern const OpRow op_rows[kOpCount];  // in the order of Op

inline const OpRow& op_row(Op op) { return op_rows[int(op)]; }
const char* op_name(Op op);

// The row of an instruction, or nullptr when no opcode is encoded so.
const OpRow* decode(const bpf_insn& insn);

// Whether a program for this kernel may hold the code byte at all ("unknown opcode %02x" otherwise).
bool bpf_opcode_in_insntable(uint8_t code, Version version);

}  // namespace bpfsim
