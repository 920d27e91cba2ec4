// Models: public_insntable in kernel/bpf/core.c (Linux 6.18)
//
// The rows of opcodes.def in an array, and an index from the code byte to the rows that share it, made by the
// compiler.
#include "isa/opcodes.h"

#include <array>

namespace bpfsim {

constexpr OpRow op_rows[kOpCount] = {
#define OP(name, code, by, key, form, text, cpu, since, group, equation) \
  {Op::name, #name, code, KeyField::by, key, Form::form, text, Cpu::cpu, since, Group::group, equation},
#include "isa/opcodes.def"
#undef OP
};

// first[code] is the first row of a code byte, next[row] the next row with the same byte; -1 ends.
struct CodeIndex {
  std::array<int16_t, 256> first{};
  std::array<int16_t, kOpCount> next{};
};

static constexpr CodeIndex code_index = [] {
  CodeIndex index;
  index.first.fill(-1);
  for (int row = kOpCount - 1; row >= 0; --row) {
    index.next[row] = index.first[op_rows[row].code];
    index.first[op_rows[row].code] = int16_t(row);
  }
  return index;
}();

static bool key_matches(const OpRow& row, const bpf_insn& insn) {
  switch (row.by) {
    case KeyField::Any: return true;
    case KeyField::Off: return insn.off == row.key;
    case KeyField::Imm: return insn.imm == row.key;
    case KeyField::Src: return insn.src_reg == row.key;
  }
  return false;
}

const OpRow* decode(const bpf_insn& insn) {
  for (int row = code_index.first[insn.code]; row >= 0; row = code_index.next[row])
    if (key_matches(op_rows[row], insn)) return &op_rows[row];
  return nullptr;
}

bool bpf_opcode_in_insntable(uint8_t code, Version version) {
  for (int row = code_index.first[code]; row >= 0; row = code_index.next[row])
    if (!op_rows[row].internal() && op_rows[row].since <= version) return true;
  return false;
}

const char* op_name(Op op) { return op_row(op).name; }

}  // namespace bpfsim
