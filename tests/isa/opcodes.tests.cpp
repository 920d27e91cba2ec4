#include "isa/opcodes.h"

#include <set>
#include <string>

#include "catch.h"

using namespace bpfsim;

static bpf_insn insn_of(const OpRow& row) {
  bpf_insn insn = make_insn(row.code, 1, 2, 0, 0);
  if (row.by == KeyField::Off) insn.off = row.key;
  if (row.by == KeyField::Imm) insn.imm = row.key;
  if (row.by == KeyField::Src) insn.src_reg = row.key;
  return insn;
}

TEST_CASE("Every row decodes to itself") {
  for (int i = 0; i < kOpCount; ++i) {
    INFO(op_rows[i].name);
    CHECK(int(op_rows[i].op) == i);
    CHECK(decode(insn_of(op_rows[i])) == &op_rows[i]);
  }
}

TEST_CASE(
    "No two rows claim the same encoding, and rows of one code byte agree on the field that parts them") {
  std::set<std::string> names;
  std::set<std::pair<int, int>> claims;
  KeyField by[256];
  bool seen[256] = {};
  for (const OpRow& row : op_rows) {
    INFO(row.name);
    CHECK(names.insert(row.name).second);
    CHECK(claims.insert({row.code, row.key}).second);
    if (seen[row.code]) CHECK(by[row.code] == row.by);
    if (seen[row.code]) CHECK(row.by != KeyField::Any);
    seen[row.code] = true;
    by[row.code] = row.by;
  }
}

TEST_CASE("The code byte says class, size and operation as the row's name does") {
  CHECK(op_row(Op::ALU64_ADD_X).code == (BPF_ALU64 | BPF_ADD | BPF_X));
  CHECK(op_row(Op::ALU_ARSH_K).code == (BPF_ALU | BPF_ARSH | BPF_K));
  CHECK(op_row(Op::JMP32_JSLE_X).code == (BPF_JMP32 | BPF_JSLE | BPF_X));
  CHECK(op_row(Op::LDX_MEMSX_W).code == (BPF_LDX | BPF_MEMSX | BPF_W));
  CHECK(op_row(Op::ST_MEM_H).code == (BPF_ST | BPF_MEM | BPF_H));
  CHECK(op_row(Op::ATOMIC_CMPXCHG_DW).code == (BPF_STX | BPF_ATOMIC | BPF_DW));
  CHECK(op_row(Op::PROBE_MEM_DW).code == (BPF_LDX | BPF_PROBE_MEM | BPF_DW));
  CHECK(op_row(Op::ALU64_SMOD_K).equation == std::string("dst = imm ? dst s% imm : dst"));
}

TEST_CASE("Encodings that no opcode has decode to nothing") {
  CHECK(decode(make_insn(0xff, 0, 0, 0, 0)) == nullptr);
  CHECK(decode(make_insn(0x00, 0, 0, 0, 0)) == nullptr);                        // second slot of LD_IMM64
  CHECK(decode(make_insn(BPF_JMP | BPF_CALL | BPF_X, 0, 0, 0, 0)) == nullptr);  // callx
  CHECK(decode(make_insn(BPF_JMP | BPF_CALL, 0, 3, 0, 0)) == nullptr);
  CHECK(decode(make_insn(BPF_LD | BPF_DW, 0, 7, 0, 0)) == nullptr);
  CHECK(decode(make_insn(BPF_ALU64 | BPF_MOV | BPF_X, 0, 0, 7, 0)) == nullptr);
  CHECK(decode(atomic_op(BPF_B, BPF_ADD, 1, 2, 0)) == nullptr);
  CHECK(decode(atomic_op(BPF_DW, BPF_FETCH | 0x30, 1, 2, 0)) == nullptr);
}

// Measured: Linux 6.18 says "unknown opcode" to the code bytes that are a dot here, 32 in a line. Of the
// loads (LDX) it refuses the others with other words, before it looks into its table.
TEST_CASE("The kernel knows the code bytes that the table says may be loaded") {
  const std::string live =
      "....1111....1..1....11111...1111"
      "1...11111...11111...1111....1111"
      "1...11111...11111...1111....1111"
      ".1111111.1111111.1111111.1111111"
      ".1..11.1.1.......1..11.1....1..1"
      "....1111....1111....1111....1111"
      "...11111...11111...11111...1111."
      ".....1..........................";
  std::string ours;
  for (int code = 0; code < 256; ++code) ours += bpf_opcode_in_insntable(uint8_t(code), kLatest) ? '1' : '.';
  CHECK(ours == live);
}
