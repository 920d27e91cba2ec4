// Models: include/uapi/linux/bpf.h, include/uapi/linux/bpf_common.h and include/linux/filter.h (Linux 6.18)
//
// One BPF instruction is eight bytes: what to do (code), two register numbers, a signed 16-bit offset and a
// signed 32-bit immediate. The code byte has three bits of class; the rest is operation and source for
// arithmetic and jumps, mode and size for loads and stores. LD_IMM64 alone takes two slots. The names of the
// parts are the kernel's; the functions that build instructions (mov64_imm, ldx_mem, ...) are ours, for C++
// code and tests.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "uapi/bpf.h"

namespace bpfsim {

struct bpf_insn {
  uint8_t code;
  uint8_t dst_reg : 4;  // the low nibble, as on every little-endian host
  uint8_t src_reg : 4;
  int16_t off;
  int32_t imm;

  bool operator==(const bpf_insn&) const = default;
};
static_assert(sizeof(bpf_insn) == 8);

// The parts of the code byte.
enum : uint8_t {
  // class: bits 0 to 2
  BPF_LD = 0x00,
  BPF_LDX = 0x01,
  BPF_ST = 0x02,
  BPF_STX = 0x03,
  BPF_ALU = 0x04,
  BPF_JMP = 0x05,
  BPF_JMP32 = 0x06,
  BPF_ALU64 = 0x07,

  // size of a load or store: bits 3 and 4
  BPF_W = 0x00,
  BPF_H = 0x08,
  BPF_B = 0x10,
  BPF_DW = 0x18,

  // mode of a load or store: bits 5 to 7
  BPF_IMM = 0x00,
  BPF_ABS = 0x20,
  BPF_IND = 0x40,
  BPF_MEM = 0x60,
  BPF_MEMSX = 0x80,
  BPF_ATOMIC = 0xc0,
  BPF_XADD = 0xc0,

  // operation of ALU and ALU64: bits 4 to 7
  BPF_ADD = 0x00,
  BPF_SUB = 0x10,
  BPF_MUL = 0x20,
  BPF_DIV = 0x30,
  BPF_OR = 0x40,
  BPF_AND = 0x50,
  BPF_LSH = 0x60,
  BPF_RSH = 0x70,
  BPF_NEG = 0x80,
  BPF_MOD = 0x90,
  BPF_XOR = 0xa0,
  BPF_MOV = 0xb0,
  BPF_ARSH = 0xc0,
  BPF_END = 0xd0,

  // operation of JMP and JMP32: bits 4 to 7
  BPF_JA = 0x00,
  BPF_JEQ = 0x10,
  BPF_JGT = 0x20,
  BPF_JGE = 0x30,
  BPF_JSET = 0x40,
  BPF_JNE = 0x50,
  BPF_JSGT = 0x60,
  BPF_JSGE = 0x70,
  BPF_CALL = 0x80,
  BPF_EXIT = 0x90,
  BPF_JLT = 0xa0,
  BPF_JLE = 0xb0,
  BPF_JSLT = 0xc0,
  BPF_JSLE = 0xd0,
  BPF_JCOND = 0xe0,

  // second operand of ALU and JMP: bit 3
  BPF_K = 0x00,
  BPF_X = 0x08,
  BPF_TO_LE = 0x00,
  BPF_TO_BE = 0x08,

  // modes and operations that only the kernel writes, after verification
  BPF_PROBE_MEM = 0x20,      // LDX that yields 0 on a fault
  BPF_PROBE_MEMSX = 0x40,    // the same, sign-extending
  BPF_PROBE_MEM32 = 0xa0,    // access to an arena
  BPF_PROBE_MEM32SX = 0xc0,  // the same, sign-extending
  BPF_PROBE_ATOMIC = 0xe0,   // atomic on an arena
  BPF_NOSPEC = 0xc0,         // ST: barrier against speculation
  BPF_CALL_ARGS = 0xe0,      // JMP: the interpreter's call of a subprogram
  BPF_TAIL_CALL = 0xf0,      // JMP: bpf_tail_call
};

// What an atomic instruction does stands in imm: an ALU operation, perhaps with BPF_FETCH, or one of these.
inline constexpr int32_t BPF_FETCH = 0x01, BPF_XCHG = 0xe0 | BPF_FETCH, BPF_CMPXCHG = 0xf0 | BPF_FETCH;
inline constexpr int32_t BPF_LOAD_ACQ = 0x100, BPF_STORE_REL = 0x110;

// The kind of LD_IMM64 and of CALL stands in src_reg (BPF_PSEUDO_* in uapi/bpf.h), that of JCOND too.
enum : uint8_t { BPF_MAY_GOTO = 0 };

// Special values of off in a 64-bit register move.
enum : int16_t { BPF_ADDR_SPACE_CAST = 1, BPF_ADDR_PERCPU = -1 };

enum : uint8_t {
  BPF_REG_0,
  BPF_REG_1,
  BPF_REG_2,
  BPF_REG_3,
  BPF_REG_4,
  BPF_REG_5,
  BPF_REG_6,
  BPF_REG_7,
  BPF_REG_8,
  BPF_REG_9,
  BPF_REG_10,
  MAX_BPF_REG,
  BPF_REG_FP = BPF_REG_10,
  BPF_REG_AX = MAX_BPF_REG,  // scratch register that only kernel rewrites use
  MAX_BPF_EXT_REG,
};

constexpr uint8_t BPF_CLASS(uint8_t code) { return code & 0x07; }
constexpr uint8_t BPF_SIZE(uint8_t code) { return code & 0x18; }
constexpr uint8_t BPF_MODE(uint8_t code) { return code & 0xe0; }
constexpr uint8_t BPF_OP(uint8_t code) { return code & 0xf0; }
constexpr uint8_t BPF_SRC(uint8_t code) { return code & 0x08; }

constexpr int bpf_size_to_bytes(uint8_t size) {
  return size == BPF_B ? 1 : size == BPF_H ? 2 : size == BPF_W ? 4 : 8;
}
constexpr bool is_alu(const bpf_insn& insn) {
  return BPF_CLASS(insn.code) == BPF_ALU || BPF_CLASS(insn.code) == BPF_ALU64;
}
constexpr bool is_jmp(const bpf_insn& insn) {
  return BPF_CLASS(insn.code) == BPF_JMP || BPF_CLASS(insn.code) == BPF_JMP32;
}
constexpr bool is_ld_imm64(const bpf_insn& insn) { return insn.code == (BPF_LD | BPF_IMM | BPF_DW); }
constexpr bool is_atomic(const bpf_insn& insn) {
  return BPF_CLASS(insn.code) == BPF_STX && BPF_MODE(insn.code) == BPF_ATOMIC;
}
constexpr bool is_helper_call(const bpf_insn& insn) {
  return insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == 0;
}
constexpr bool bpf_pseudo_call(const bpf_insn& insn) {
  return insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_CALL;
}
constexpr bool bpf_pseudo_kfunc_call(const bpf_insn& insn) {
  return insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_KFUNC_CALL;
}
constexpr bool bpf_pseudo_func(const bpf_insn& insn) {
  return is_ld_imm64(insn) && insn.src_reg == BPF_PSEUDO_FUNC;
}

// The 64-bit constant that stands in the two slots of an LD_IMM64.
constexpr uint64_t ld_imm64_value(const bpf_insn& low, const bpf_insn& high) {
  return uint64_t(uint32_t(high.imm)) << 32 | uint32_t(low.imm);
}

// Builders. Registers are numbers (or BPF_REG_n), size is BPF_B/H/W/DW, op is the operation's constant.
constexpr bpf_insn make_insn(int code, int dst, int src, int off, int64_t imm) {
  return {uint8_t(code), uint8_t(dst & 15), uint8_t(src & 15), int16_t(off), int32_t(imm)};
}

constexpr bpf_insn alu64_imm(int op, int dst, int64_t imm) {
  return make_insn(BPF_ALU64 | op | BPF_K, dst, 0, 0, imm);
}
constexpr bpf_insn alu64_reg(int op, int dst, int src) {
  return make_insn(BPF_ALU64 | op | BPF_X, dst, src, 0, 0);
}
constexpr bpf_insn alu32_imm(int op, int dst, int64_t imm) {
  return make_insn(BPF_ALU | op | BPF_K, dst, 0, 0, imm);
}
constexpr bpf_insn alu32_reg(int op, int dst, int src) {
  return make_insn(BPF_ALU | op | BPF_X, dst, src, 0, 0);
}
constexpr bpf_insn mov64_imm(int dst, int64_t imm) { return alu64_imm(BPF_MOV, dst, imm); }
constexpr bpf_insn mov64_reg(int dst, int src) { return alu64_reg(BPF_MOV, dst, src); }
constexpr bpf_insn mov32_imm(int dst, int64_t imm) { return alu32_imm(BPF_MOV, dst, imm); }
constexpr bpf_insn mov32_reg(int dst, int src) { return alu32_reg(BPF_MOV, dst, src); }
constexpr bpf_insn movsx64(int dst, int src, int bits) {
  return make_insn(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, bits, 0);
}
constexpr bpf_insn movsx32(int dst, int src, int bits) {
  return make_insn(BPF_ALU | BPF_MOV | BPF_X, dst, src, bits, 0);
}
constexpr bpf_insn neg64(int dst) { return alu64_imm(BPF_NEG, dst, 0); }
constexpr bpf_insn neg32(int dst) { return alu32_imm(BPF_NEG, dst, 0); }
constexpr bpf_insn to_le(int dst, int bits) {
  return make_insn(BPF_ALU | BPF_END | BPF_TO_LE, dst, 0, 0, bits);
}
constexpr bpf_insn to_be(int dst, int bits) {
  return make_insn(BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, bits);
}
constexpr bpf_insn bswap(int dst, int bits) { return make_insn(BPF_ALU64 | BPF_END, dst, 0, 0, bits); }
constexpr bpf_insn addr_space_cast(int dst, int src, int dst_as, int src_as) {
  return make_insn(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, BPF_ADDR_SPACE_CAST, dst_as << 16 | src_as);
}
constexpr bpf_insn mov64_percpu_reg(int dst, int src) {
  return make_insn(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, BPF_ADDR_PERCPU, 0);
}

constexpr bpf_insn ldx_mem(int size, int dst, int src, int off) {
  return make_insn(BPF_LDX | BPF_MEM | size, dst, src, off, 0);
}
constexpr bpf_insn ldx_memsx(int size, int dst, int src, int off) {
  return make_insn(BPF_LDX | BPF_MEMSX | size, dst, src, off, 0);
}
constexpr bpf_insn st_mem(int size, int dst, int off, int64_t imm) {
  return make_insn(BPF_ST | BPF_MEM | size, dst, 0, off, imm);
}
constexpr bpf_insn stx_mem(int size, int dst, int src, int off) {
  return make_insn(BPF_STX | BPF_MEM | size, dst, src, off, 0);
}
constexpr bpf_insn atomic_op(int size, int op, int dst, int src, int off) {
  return make_insn(BPF_STX | BPF_ATOMIC | size, dst, src, off, op);
}
constexpr bpf_insn load_acquire(int size, int dst, int src, int off) {
  return atomic_op(size, BPF_LOAD_ACQ, dst, src, off);
}
constexpr bpf_insn store_release(int size, int dst, int src, int off) {
  return atomic_op(size, BPF_STORE_REL, dst, src, off);
}
constexpr bpf_insn ld_abs(int size, int64_t imm) { return make_insn(BPF_LD | BPF_ABS | size, 0, 0, 0, imm); }
constexpr bpf_insn ld_ind(int size, int src, int64_t imm) {
  return make_insn(BPF_LD | BPF_IND | size, 0, src, 0, imm);
}
constexpr bpf_insn st_nospec() { return make_insn(BPF_ST | BPF_NOSPEC, 0, 0, 0, 0); }

constexpr bpf_insn ja(int off) { return make_insn(BPF_JMP | BPF_JA, 0, 0, off, 0); }
constexpr bpf_insn gotol(int64_t imm) { return make_insn(BPF_JMP32 | BPF_JA, 0, 0, 0, imm); }
constexpr bpf_insn may_goto(int off) { return make_insn(BPF_JMP | BPF_JCOND, 0, BPF_MAY_GOTO, off, 0); }
constexpr bpf_insn jmp_imm(int op, int dst, int64_t imm, int off) {
  return make_insn(BPF_JMP | op | BPF_K, dst, 0, off, imm);
}
constexpr bpf_insn jmp_reg(int op, int dst, int src, int off) {
  return make_insn(BPF_JMP | op | BPF_X, dst, src, off, 0);
}
constexpr bpf_insn jmp32_imm(int op, int dst, int64_t imm, int off) {
  return make_insn(BPF_JMP32 | op | BPF_K, dst, 0, off, imm);
}
constexpr bpf_insn jmp32_reg(int op, int dst, int src, int off) {
  return make_insn(BPF_JMP32 | op | BPF_X, dst, src, off, 0);
}
constexpr bpf_insn call_helper(int id) { return make_insn(BPF_JMP | BPF_CALL, 0, 0, 0, id); }
constexpr bpf_insn call_local(int rel) { return make_insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, rel); }
constexpr bpf_insn call_kfunc(int btf_id, int fd_array_index = 0) {
  return make_insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, fd_array_index, btf_id);
}
constexpr bpf_insn exit_insn() { return make_insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

using TwoSlots = std::array<bpf_insn, 2>;
constexpr TwoSlots ld_imm64_raw(int dst, int kind, int64_t low, int64_t high) {
  return {make_insn(BPF_LD | BPF_IMM | BPF_DW, dst, kind, 0, low), make_insn(0, 0, 0, 0, high)};
}
constexpr TwoSlots ld_imm64(int dst, uint64_t value) {
  return ld_imm64_raw(dst, 0, int64_t(value & 0xffffffff), int64_t(value >> 32));
}
constexpr TwoSlots ld_map_fd(int dst, int fd) { return ld_imm64_raw(dst, BPF_PSEUDO_MAP_FD, fd, 0); }
constexpr TwoSlots ld_map_value(int dst, int fd, int offset) {
  return ld_imm64_raw(dst, BPF_PSEUDO_MAP_VALUE, fd, offset);
}
constexpr TwoSlots ld_map_idx(int dst, int index) { return ld_imm64_raw(dst, BPF_PSEUDO_MAP_IDX, index, 0); }
constexpr TwoSlots ld_map_idx_value(int dst, int index, int offset) {
  return ld_imm64_raw(dst, BPF_PSEUDO_MAP_IDX_VALUE, index, offset);
}
constexpr TwoSlots ld_btf_id(int dst, int btf_id, int btf_fd = 0) {
  return ld_imm64_raw(dst, BPF_PSEUDO_BTF_ID, btf_id, btf_fd);
}
constexpr TwoSlots ld_func(int dst, int rel) { return ld_imm64_raw(dst, BPF_PSEUDO_FUNC, rel, 0); }

// program(mov64_imm(0, 1), ld_map_fd(1, fd), exit_insn()): parts of one or two slots in a row.
inline void append(std::vector<bpf_insn>& insns, const bpf_insn& insn) { insns.push_back(insn); }
inline void append(std::vector<bpf_insn>& insns, const TwoSlots& slots) {
  insns.insert(insns.end(), slots.begin(), slots.end());
}
template <class... Parts>
std::vector<bpf_insn> program(const Parts&... parts) {
  std::vector<bpf_insn> insns;
  (append(insns, parts), ...);
  return insns;
}

}  // namespace bpfsim
