#include "isa/asm.h"

#include <algorithm>
#include <random>

#include "catch.h"
#include "isa/disasm.h"
#include "isa/opcodes.h"

using namespace bpfsim;

static std::string errors_of(std::string_view source) {
  std::string text;
  for (const AsmError& error : assemble(source).errors) text += (text.empty() ? "" : "\n") + error.str();
  return text;
}

template <class... Parts>
static void check_assembles(std::string_view source, const Parts&... parts) {
  INFO(source);
  const Assembly result = assemble(source);
  CHECK(errors_of(source) == "");
  CHECK(result.insns == program(parts...));
  CHECK(result.lines.size() == result.insns.size());
}

TEST_CASE("The notation of the verifier log assembles") {
  check_assembles("(61) r1 = *(u32 *)(r1 +76)", ldx_mem(BPF_W, 1, 1, 76));
  check_assembles("12: (b7) r0 = -1    ; R0_w=-1", mov64_imm(0, -1));
  check_assembles("(18) r1 = 0x0", ld_imm64(1, 0));
  check_assembles("(18) r1 = 0xffff888012345678", ld_imm64(1, 0xffff888012345678));
  check_assembles("(bc) w1 = w2", mov32_reg(1, 2));
  check_assembles("(c5) if r0 s< 0xffffffff goto pc-7", jmp_imm(BPF_JSLT, 0, -1, -7));
  check_assembles("(85) call bpf_map_lookup_elem#1", call_helper(1));
  check_assembles("(85) call bpf_unspec#0", call_helper(0));
  check_assembles("(85) call unknown#-1", call_helper(-1));
  check_assembles("(85) call kernel-function#1234", call_kfunc(1234));
  check_assembles("(85) call bpf_rcu_read_lock#99", call_kfunc(99));
  check_assembles("(40) r0 = *(u32 *)skb[r7 + -4]", ld_ind(BPF_W, 7, -4));
  check_assembles("(db) r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)",
                  atomic_op(BPF_DW, BPF_CMPXCHG, 1, 2, 8));
}

TEST_CASE("What people write by hand assembles") {
  check_assembles("r1=5", mov64_imm(1, 5));
  check_assembles("r1 = 0x10", mov64_imm(1, 16));
  check_assembles("r1 = 5 ll", ld_imm64(1, 5));
  check_assembles("r1 = -1 ll", ld_imm64(1, ~0ull));
  check_assembles("r1 = 0xffffffff", ld_imm64(1, 0xffffffff));
  check_assembles("r1 = 0x1122334455667788", ld_imm64(1, 0x1122334455667788));
  check_assembles("w1 = 0xffffffff", mov32_imm(1, -1));
  check_assembles("r1 = - 3", mov64_imm(1, -3));
  check_assembles("r1 = -r1", neg64(1));
  check_assembles("w3 &= 0xff000000", alu32_imm(BPF_AND, 3, 0xff000000));
  check_assembles("\tr1\t+=\tr2\r", alu64_reg(BPF_ADD, 1, 2));
  check_assembles("*(u32*)(r10-4)=7", st_mem(BPF_W, 10, -4, 7));
  check_assembles("*(u8 *)(r10 - 1) = 0xff", st_mem(BPF_B, 10, -1, 255));
  check_assembles("r2 = *(u64 *)(r1)", ldx_mem(BPF_DW, 2, 1, 0));
  check_assembles("w2 = *(u8 *)(r1 + 3)", ldx_mem(BPF_B, 2, 1, 3));
  check_assembles("*(u32 *)(r1 + 0) = w2", stx_mem(BPF_W, 1, 2, 0));
  check_assembles("lock *(u32 *)(r1 + 0) += w2", atomic_op(BPF_W, BPF_ADD, 1, 2, 0));
  check_assembles("r3 = atomic_fetch_and((u64 *)(r1 + 0), r3)",
                  atomic_op(BPF_DW, BPF_AND | BPF_FETCH, 1, 3, 0));
  check_assembles("r0 = *(u16 *)skb[12]", ld_abs(BPF_H, 12));
  check_assembles("r0 = *(u16 *)skb[r1]", ld_ind(BPF_H, 1, 0));
  check_assembles("r1 s>>= 3", alu64_imm(BPF_ARSH, 1, 3));
  check_assembles("goto +3", ja(3));
  check_assembles("call 5", call_helper(5));
  check_assembles("call map_update_elem", call_helper(2));
  check_assembles("call bpf_map_update_elem", call_helper(2));
  check_assembles("call pc+3", call_local(3));
  check_assembles("nospec", st_nospec());
  check_assembles("");
  check_assembles("\n\n  ; nothing\n// nothing\n# nothing\n");
  check_assembles("exit ; done\nexit // done\nexit # done\nexit#done", exit_insn(), exit_insn(), exit_insn(),
                  exit_insn());
}

TEST_CASE("Maps and addresses are named or given by number") {
  check_assembles("r1 = map_fd 5", ld_map_fd(1, 5));
  check_assembles("r1 = map_value_fd 5+8", ld_map_value(1, 5, 8));
  check_assembles("r1 = map_idx 3", ld_map_idx(1, 3));
  check_assembles("r1 = map_value_idx 3 + 8", ld_map_idx_value(1, 3, 8));
  check_assembles("r1 = btf_id 77", ld_btf_id(1, 77));
  check_assembles("r1 = func pc+12", ld_func(1, 12));
  const Assembly result = assemble("r0 = 0\nr1 = map[counts]\nr2 = map[my map]+8\nr3 = map[id:5][0]-4\nexit");
  REQUIRE(result.ok());
  CHECK(result.insns == program(mov64_imm(0, 0), ld_map_fd(1, 0), ld_map_value(2, 0, 8),
                                ld_map_value(3, 0, -4), exit_insn()));
  REQUIRE(result.maps.size() == 3);
  CHECK(result.maps[0].name == "counts");
  CHECK(result.maps[0].insn == 1);
  CHECK_FALSE(result.maps[0].value);
  CHECK(result.maps[1].name == "my map");
  CHECK(result.maps[1].insn == 3);
  CHECK(result.maps[1].value);
  CHECK(result.maps[1].offset == 8);
  CHECK(result.maps[2].name == "id:5");
  CHECK(result.maps[2].offset == -4);
  CHECK(result.lines == std::vector<int>{1, 2, 2, 3, 3, 4, 4, 5});
}

TEST_CASE("Labels give distances in slots, forwards and backwards") {
  const Assembly result = assemble(
      "start: r1 = 1 ll\n"
      "again:\n"
      "  if r1 > 5 goto out\n"
      "  r2 = func callback\n"
      "  call callback\n"
      "  gotol again\n"
      "  may_goto start\n"
      "out: exit\n"
      "callback: exit: exit\n"
      "end:");
  CHECK(result.errors.empty());
  CHECK(result.insns == program(ld_imm64(1, 1), jmp_imm(BPF_JGT, 1, 5, 5), ld_func(2, 5), call_local(3),
                                gotol(-5), may_goto(-8), exit_insn(), exit_insn()));
  CHECK(result.labels.at("start") == 0);
  CHECK(result.labels.at("again") == 2);
  CHECK(result.labels.at("callback") == 9);
  CHECK(result.labels.at("exit") == 9);
  CHECK(result.labels.at("end") == 10);
}

TEST_CASE("A call looks for a label, then a helper, then a kernel function") {
  AsmOptions options;
  options.kfunc_id = [](std::string_view name) -> std::optional<int32_t> {
    if (name == "bpf_rcu_read_lock") return 4711;
    return {};
  };
  CHECK(assemble("call bpf_rcu_read_lock", options).insns == program(call_kfunc(4711)));
  CHECK(assemble("call ktime_get_ns", options).insns == program(call_helper(5)));
  CHECK(assemble("call ktime_get_ns\nktime_get_ns: exit", options).insns ==
        program(call_local(0), exit_insn()));
}

TEST_CASE("An error says where it is and what was expected") {
  const std::pair<const char*, const char*> cases[] = {
      {"r0 = 0\nexit\nr1 = r2; r3\nr0 +=  r11",
       "line 4, column 8: expected a register or a number, found \"r11\""},
      {"r11 = 5", "line 1, column 1: expected a register (r0-r10, w0-w10), found \"r11\""},
      {"if r11 == 5 goto +1", "line 1, column 4: expected a register (r0-r10, w0-w10), found \"r11\""},
      {"r1 += w2", "line 1, column 7: expected a 64-bit register (r0-r10), found \"w2\""},
      {"w1 = r2", "line 1, column 6: expected a 32-bit register (w0-w10), found \"r2\""},
      {"mov r1, 5", "line 1, column 1: expected an instruction, found \"mov\""},
      {"r1 ** 5", "line 1, column 4: expected an operator (=, +=, -=, *=, ...), found \"*\""},
      {"r1 = ",
       "line 1, column 6: expected a register, a number, a memory access or a map, found the end of the "
       "line"},
      {"exit exit", "line 1, column 6: expected the end of the line, found \"exit\""},
      {"if r1 = 5 goto x",
       "line 1, column 7: expected a comparison (==, !=, >, >=, <, <=, s>, s>=, s<, s<=, &), found \"=\""},
      {"if r1 == 5 jump x", "line 1, column 12: expected \"goto\", found \"jump\""},
      {"if r1 == 5 goto",
       "line 1, column 16: expected a target (a label, pc+1 or +1), found the end of the line"},
      {"goto nowhere", "line 1, column 6: no label is called \"nowhere\""},
      {"call nothing", "line 1, column 6: no label, helper or kernel function is called \"nothing\""},
      {"goto lop\nloop: exit", "line 1, column 6: no label is called \"lop\", did you mean \"loop\"?"},
      {"call map_lokup_elem",
       "line 1, column 6: no label, helper or kernel function is called \"map_lokup_elem\", did you mean "
       "\"map_lookup_elem\"?"},
      {"call bpf_map_lookup_elem#2", "line 1, column 6: helper bpf_map_lookup_elem has the number 1"},
      {"a: exit\na: exit", "line 2, column 1: label \"a\" is defined twice"},
      {"r1 = *(u24 *)(r2 +0)",
       "line 1, column 8: expected a type (u8, u16, u32, u64, s8, s16, s32), found \"u24\""},
      {"*(s8 *)(r2 +0) = 1", "line 1, column 3: expected a type (u8, u16, u32, u64), found \"s8\""},
      {"r1 = *(u8 *)(r2 +40000)", "line 1, column 17: the offset must be from -32768 to 32767"},
      {"r1 = *(u8 *)(r2 4)", "line 1, column 17: expected \")\", found \"4\""},
      {"r1 = 12345678901234567890123", "line 1, column 6: the number does not fit in 64 bits"},
      {"r1 = 5x", "line 1, column 6: expected a number, found \"5x\""},
      {"r1 = r2 r3", "line 1, column 9: expected the end of the line, found \"r3\""},
      {"r1 = -r2", "line 1, column 6: only a register itself can be negated: r1 = -r1"},
      {"r1 = be16 r2", "line 1, column 11: the bytes of a register are swapped in place: r1 = be16 r1"},
      {"w1 = *(u64 *)(r2 +0)", "line 1, column 1: this load writes 64 bits: name the register r, not w"},
      {"lock *(u16 *)(r1 +0) += r2", "line 1, column 22: expected an atomic on u32 or u64, found \"+\""},
      {"lock *(u64 *)(r1 +0) -= r2",
       "line 1, column 22: expected an atomic operator (+=, |=, &=, ^=), found \"-\""},
      {"r3 = atomic64_xchg((u64 *)(r1 +0), r2)",
       "line 1, column 1: the old value goes to the register that gave the operand"},
      {"r2 = atomic_xchg((u8 *)(r1 +0), r2)", "line 1, column 6: atomic_xchg works on u32 or u64"},
      {"r2 = atomic64_xchg((u32 *)(r1 +0), r2)", "line 1, column 6: atomic64_xchg works on u64"},
      {"r0 = atomic_cmpxchg((u32 *)(r1 +0), r3, r2)", "line 1, column 37: cmpxchg compares with r0"},
      {"r1 = map[", "line 1, column 10: expected the name of a map and \"]\", found the end of the line"},
      {"(b7) r1 = r2", "line 1, column 1: the line begins with (b7), but this is a (bf)"},
      {"(b7)", "line 1, column 5: expected an instruction, found the end of the line"},
      {"r1 &= 0xffffffff",
       "line 1, column 7: the number does not fit in an immediate, which is 32 bits with sign: move it into "
       "a "
       "register first (r1 = ... ll)"},
      {"BUG_ldx_39", "line 1, column 1: expected an instruction, found \"BUG_ldx_39\""},
      {"1x: exit", "line 1, column 1: expected a label that begins with a letter, found \"1x\""},
  };
  for (const auto& [source, error] : cases) CHECK(errors_of(source) == error);
}

TEST_CASE("Every faulty line gives its own error, in order") {
  CHECK(
      errors_of("goto far\nr1 = \nexit\nfoo") ==
      "line 1, column 6: no label is called \"far\"\n"
      "line 2, column 6: expected a register, a number, a memory access or a map, found the end of the line\n"
      "line 4, column 1: expected an instruction, found \"foo\"");
}

TEST_CASE("A label too far away for 16 bits is refused, and gotol reaches it") {
  std::string filler;
  for (int i = 0; i < 40000; ++i) filler += "r0 = 0\n";
  CHECK(
      errors_of("goto end\n" + filler + "end: exit") ==
      "line 1, column 6: label \"end\" is 40000 instructions away, 16 bits reach 32767: jump on with gotol");
  CHECK(assemble("gotol end\n" + filler + "end: exit").insns[0] == gotol(40000));
}

// A valid instruction of this row: fields that the text does not show are 0, as the verifier wants them.
static std::vector<bpf_insn> random_insns(const OpRow& row, std::mt19937& random) {
  const auto reg = [&] { return int(random() % 11); };
  const auto any = [&]() -> int32_t {
    static constexpr int32_t special[] = {0, 1, -1, INT32_MIN, INT32_MAX, 0xff, 0x7fff, -4096};
    return random() % 3 ? special[random() % 8] : int32_t(random());
  };
  const auto off = [&] { return random() % 2 ? int16_t(random()) : int16_t(random() % 64 - 32); };
  bpf_insn insn = make_insn(row.code, 0, 0, 0, 0);
  bpf_insn next{};
  switch (row.form) {
    case Form::AluImm: insn = make_insn(row.code, reg(), 0, 0, any()); break;
    case Form::Neg:
    case Form::End: insn = make_insn(row.code, reg(), 0, 0, 0); break;
    case Form::AddrSpaceCast: insn = make_insn(row.code, reg(), reg(), 0, any()); break;
    case Form::AluReg:
    case Form::MovSx:
    case Form::AddrPercpu: insn = make_insn(row.code, reg(), reg(), 0, 0); break;
    case Form::JmpImm: insn = make_insn(row.code, reg(), 0, off(), any()); break;
    case Form::JmpReg:
    case Form::Load:
    case Form::StoreReg:
    case Form::Atomic:
    case Form::AtomicFetch:
    case Form::AtomicCmpxchg:
    case Form::LoadAcquire:
    case Form::StoreRelease: insn = make_insn(row.code, reg(), reg(), off(), 0); break;
    case Form::StoreImm: insn = make_insn(row.code, reg(), 0, off(), any()); break;
    case Form::Goto: insn = make_insn(row.code, 0, 0, off(), 0); break;
    case Form::Gotol:
    case Form::CallHelper:
    case Form::CallLocal:
    case Form::LdAbs: insn = make_insn(row.code, 0, 0, 0, any()); break;
    case Form::CallKfunc: insn = make_insn(row.code, 0, 0, 0, any()); break;
    case Form::LdInd: insn = make_insn(row.code, 0, reg(), 0, any()); break;
    case Form::LdImm64:
      insn = make_insn(row.code, reg(), 0, 0, any());
      if (row.op != Op::LD_FUNC) next.imm = any();
      break;
    case Form::Exit:
    case Form::Nospec:
    case Form::Hidden: break;
  }
  if (row.by == KeyField::Off) insn.off = row.key;
  if (row.by == KeyField::Imm) insn.imm = row.key;
  if (row.by == KeyField::Src) insn.src_reg = row.key;
  if (row.slots() == 2) return {insn, next};
  return {insn};
}

TEST_CASE("Assembling a disassembly gives the same bytes for every opcode") {
  std::mt19937 random(42);
  DisasmOptions options;
  options.imm_text = source_imm;
  for (const OpRow& row : op_rows) {
    if (row.form == Form::Hidden) continue;
    for (int i = 0; i < 300; ++i) {
      const std::vector<bpf_insn> insns = random_insns(row, random);
      const std::string line = print_bpf_insn(insns, 0, options);
      const Assembly again = assemble(line);
      if (again.ok() && again.insns == insns) continue;  // a CHECK for each would take most of the time
      INFO(row.name << " " << line << " " << errors_of(line));
      REQUIRE(again.insns == insns);
    }
  }
}

TEST_CASE("Assembling the bare text of a whole program gives the same program") {
  std::mt19937 random(43);
  DisasmOptions options;
  options.imm_text = source_imm;
  std::vector<bpf_insn> insns;
  std::string source;
  while (insns.size() < 20000) {
    const OpRow& row = op_rows[random() % kOpCount];
    if (row.form == Form::Hidden) continue;
    const std::vector<bpf_insn> part = random_insns(row, random);
    insns.insert(insns.end(), part.begin(), part.end());
    source += insn_text(part, 0, options) + "\n";
  }
  const Assembly again = assemble(source);
  CHECK(again.errors.empty());
  CHECK(again.insns.size() == insns.size());
  CHECK((again.insns == insns));
  CHECK((assemble(disassemble(insns, options)).insns == insns));
}

TEST_CASE("No text crashes the assembler, and what it refuses has a place in the text") {
  std::mt19937 random(44);
  const std::string seeds[] = {"r1 = *(u32 *)(r1 +76)",
                               "if r1 s>= 0xffffffff goto pc-7",
                               "call bpf_map_lookup_elem#1",
                               "r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)",
                               "lock *(u64 *)(r1 +0) += r2",
                               "r1 = map[counts][0]+8",
                               "r0 = *(u32 *)skb[r7 + -4]",
                               "out: r1 = 0x1122334455667788 ll",
                               "r1 = &(void __percpu *)(r2)",
                               "r2 = func callback",
                               "(18) r1 = 0x0"};
  const auto pieces = [&] {
    static const char* const words[] = {
        "r1",      "w10",   " = ",         "*(",    "u64",  " *)",   "(",
        ")",       "[",     "]",           "+",     "-",    "0x",    "99999999999999999999",
        "ll",      "goto ", "if ",         "call ", "map",  "pc",    "lock",
        ":",       "#1",    "//",          ";",     "\n",   "\r",    "\t",
        "\0",      "\xff",  "s>>=",        "-r",    "(b7)", "func ", "skb",
        "atomic_", "be16",  "-2147483648", ","};
    return std::string(words[random() % std::size(words)]);
  };
  for (int i = 0; i < 40000; ++i) {
    std::string text;
    if (i % 2) {
      for (int n = random() % 12; n >= 0; --n) text += pieces();
    } else {
      text = seeds[random() % std::size(seeds)];
      for (int n = random() % 4; n >= 0; --n) {
        const size_t at = random() % (text.size() + 1);
        switch (random() % 4) {
          case 0: text.insert(at, 1, char(random())); break;
          case 1: text.insert(at, pieces()); break;
          case 2: text.resize(at); break;
          default: text.erase(at, 1 + random() % 4);
        }
      }
    }
    const Assembly result = assemble(text);
    const int lines = 1 + int(std::count(text.begin(), text.end(), '\n'));
    for (const AsmError& error : result.errors)
      if (error.line < 1 || error.line > lines || error.column < 1 || error.column > int(text.size()) + 1 ||
          error.message.empty())
        FAIL(text << " gave " << error.str());
    if (result.ok() && result.lines.size() != result.insns.size()) FAIL(text);
  }
  SUCCEED();
}
