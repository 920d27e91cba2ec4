#include "verifier/rewrite.h"

#include "bench.h"
#include "catch.h"
#include "isa/disasm.h"
#include "verifier/cfg.h"
#include "verifier/fixups.h"
#include "verifier/subprogs.h"

using namespace bpfsim;

namespace {

// The program without line numbers, from `from` on.
std::string text(const Bench& bench, size_t from = 0) {
  std::string out;
  for (size_t i = from; i < bench.env.insns.size(); i += is_ld_imm64(bench.env.insns[i]) ? 2 : 1)
    out += insn_text(bench.env.insns, i) + '\n';
  return out;
}

// Marks as walked all but the given instructions.
void walked(Bench& bench, std::initializer_list<uint32_t> dead = {}) {
  REQUIRE(bench.errors == "");
  REQUIRE(add_subprog_and_kfunc(bench.env) == Errno::None);
  for (bpf_insn_aux_data& aux : bench.env.insn_aux_data) aux.seen = 1;
  for (uint32_t i : dead) bench.env.insn_aux_data[i].seen = 0;
}

}  // namespace

TEST_CASE("Division becomes what 6.18 shows in the translated program") {
  struct {
    const char* source;
    const char* becomes;  // from bpf_prog_info.xlated_prog_insns of a live 6.18
  } cases[] = {
      {"r0 /= r2", "if r2 != 0x0 goto pc+2\nw0 ^= w0\ngoto pc+1\nr0 /= r2\n"},
      {"r0 %= r2", "if r2 == 0x0 goto pc+1\nr0 %= r2\n"},
      {"w0 /= w2", "if w2 != 0x0 goto pc+2\nw0 ^= w0\ngoto pc+1\nw0 /= w2\n"},
      {"w0 %= w2", "if w2 == 0x0 goto pc+2\nw0 %= w2\ngoto pc+1\nw0 = w0\n"},
      {"r0 s/= r2",
       "r11 = r2\nr11 += 1\nif r11 > 0x1 goto pc+4\nif r11 == 0x0 goto pc+1\nr0 = 0\nr0 = -r0\ngoto pc+1\n"
       "r0 s/= r2\n"},
      {"r0 s%= r2",
       "r11 = r2\nr11 += 1\nif r11 > 0x1 goto pc+3\nif r11 == 0x1 goto pc+3\nw0 = 0\ngoto pc+1\nr0 s%= r2\n"},
      {"w0 s%= w2",
       "r11 = r2\nw11 += 1\nif w11 > 0x1 goto pc+3\nif w11 == 0x1 goto pc+4\nw0 = 0\ngoto pc+1\nw0 s%= w2\n"
       "goto pc+1\nw0 = w0\n"},
      {"r0 s/= -1", "r0 = -r0\n"},
      {"w0 s%= -1", "w0 = 0\n"},
      {"r0 /= 3", "r0 /= 3\n"},
  };
  for (const auto& c : cases) {
    INFO(c.source);
    Bench bench(std::string(c.source) + "\n exit");
    walked(bench);
    REQUIRE(do_misc_fixups(bench.env) == Errno::None);
    CHECK(text(bench) == std::string(c.becomes) + "exit\n");
  }
}

TEST_CASE("Jumps, calls and functions follow when instructions grow") {
  Bench bench(R"(
    top: r0 = 1
    r0 /= r2
    if r0 == 0 goto top
    if r0 == 1 goto out
    r0 %= r2
    call f
    out: exit
    f: r0 /= r3
    goto back
    back: exit)");
  walked(bench);
  REQUIRE(do_misc_fixups(bench.env) == Errno::None);
  CHECK(text(bench) ==
        "r0 = 1\nif r2 != 0x0 goto pc+2\nw0 ^= w0\ngoto pc+1\nr0 /= r2\nif r0 == 0x0 goto pc-6\n"
        "if r0 == 0x1 goto pc+3\nif r2 == 0x0 goto pc+1\nr0 %= r2\ncall pc+1\nexit\n"
        "if r3 != 0x0 goto pc+2\nw0 ^= w0\ngoto pc+1\nr0 /= r3\ngoto pc+0\nexit\n");
  CHECK(bench.env.subprog_info[1].start == 11);
  CHECK(bench.env.subprog_info[2].start == 17);
  CHECK(bench.env.insn_aux_data.size() == 17);
}

TEST_CASE("A jump that no longer fits into 16 bits is refused with the kernel's words") {
  Bench bench("exit");
  std::vector<bpf_insn> insns = {jmp_imm(BPF_JEQ, 1, 0, 32766)};
  for (int i = 0; i < 32766; i++) insns.push_back(i ? mov64_imm(0, 0) : alu64_reg(BPF_DIV, 0, 2));
  insns.push_back(exit_insn());
  bench.prog.insnsi = insns;
  bench.env.insn_aux_data.assign(insns.size(), {});
  walked(bench);
  bench.news();
  CHECK(do_misc_fixups(bench.env) == Errno::NoMem);
  CHECK(bench.news() == "insn 0 cannot be patched due to 16-bit range\n");
}

TEST_CASE("Dead code goes, and with it functions and lines") {
  Bench bench(R"(
    r0 = 0
    if r1 == 0 goto live
    r0 = 1
    call f
    live: goto out
    out: exit
    f: r0 = 2
    exit
    )");
  walked(bench, {2, 3, 6, 7});
  bench.prog.aux->line_info = {
      {0, 0, 1, 1 << 10}, {2, 0, 2, 2 << 10}, {3, 0, 3, 3 << 10}, {6, 0, 4, 4 << 10}};
  opt_hard_wire_dead_code_branches(bench.env);
  CHECK(insn_text(bench.env.insns, 1) == "goto pc+2");
  REQUIRE(opt_remove_dead_code(bench.env) == Errno::None);
  CHECK(text(bench) == "r0 = 0\ngoto pc+0\ngoto pc+0\nexit\n");
  CHECK(bench.env.subprog_cnt == 1);
  CHECK(bench.env.subprog_info[1].start == 4);
  REQUIRE(bench.prog.aux->line_info.size() == 2);
  CHECK(bench.prog.aux->line_info[1].insn_off == 2);
  CHECK(bench.prog.aux->line_info[1].line_off == 3);
  REQUIRE(opt_remove_nops(bench.env) == Errno::None);
  CHECK(text(bench) == "r0 = 0\nexit\n");
}

TEST_CASE("A goto over nothing stays if it was one over a goto") {
  Bench bench("goto +1\n goto +0\n exit");
  walked(bench);
  REQUIRE(opt_remove_nops(bench.env) == Errno::None);
  CHECK(text(bench) == "goto pc+0\nexit\n");
}

TEST_CASE("Dead code of the unprivileged becomes a trap in place") {
  Bench bench("r0 = 0\n goto +1\n r0 = 1\n exit");
  walked(bench, {2});
  sanitize_dead_code(bench.env);
  CHECK(text(bench) == "r0 = 0\ngoto pc+1\ngoto pc-1\nexit\n");
}

TEST_CASE("A compare-and-exchange of 32 bits says that it zeroes the upper half") {
  Bench bench("w0 = 0\n exit");
  bench.prog.insnsi = {atomic_op(BPF_W, BPF_CMPXCHG, 10, 1, -8), exit_insn()};
  bench.env.insn_aux_data.assign(2, {});
  walked(bench);
  bench.env.insn_aux_data[0].zext_dst = true;
  REQUIRE(opt_subreg_zext_lo32_rnd_hi32(bench.env) == Errno::None);
  REQUIRE(bench.env.insns.size() == 3);
  CHECK(bench.env.insns[1] == make_insn(BPF_ALU | BPF_MOV | BPF_X, 0, 0, 0, 1));
}

TEST_CASE("The recorder gets the program after each pass") {
  Bench bench("r0 /= r2\n exit");
  walked(bench);
  Recorder recorder;
  Recording recording(bench.kernel.machine(), recorder);
  REQUIRE(do_misc_fixups(bench.env) == Errno::None);
  int stages = 0;
  for (const Record& record : recorder.records())
    stages += std::string(record.event->kind()) == "program_rewritten";
  CHECK(stages == 1);
}
