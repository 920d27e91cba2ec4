#include "verifier/cfg.h"

#include "bench.h"
#include "catch.h"
#include "verifier/subprogs.h"

using namespace bpfsim;

namespace {

Errno structure(Bench& bench) {
  if (Errno err = add_subprog_and_kfunc(bench.env); err != Errno::None) return err;
  if (Errno err = check_subprogs(bench.env); err != Errno::None) return err;
  return check_cfg(bench.env);
}

struct Case {
  const char* source;
  Errno err;
  const char* log;
};

}  // namespace

TEST_CASE("The structure of a program is refused as 6.18 refuses it") {
  // Judged by a live 6.18: errno and last line of each.
  const Case cases[] = {
      {"r0 = 0\n exit", Errno::None, ""},
      {"r0 = 0", Errno::Inval, "last insn is not an exit or jmp\n"},
      {"goto +1\n r0 = 0\n exit", Errno::Inval, "unreachable insn 1\n"},
      {"r0 = 0\n goto +5\n exit", Errno::Inval, "jump out of range from insn 1 to 7\n"},
      {"if r1 == 0 goto -2\n exit", Errno::Inval, "jump out of range from insn 0 to -1\n"},
      {"goto +1\n r1 = 1 ll\n r0 = 0\n exit", Errno::Inval, "unreachable insn 1\n"},
      {"if r1 == 0 goto +1\n r1 = 1 ll\n r0 = 0\n exit", Errno::Inval,
       "jump into the middle of ldimm64 insn 1\n"},
      {"r0 = 0\n exit\n exit", Errno::Inval, "unreachable insn 2\n"},
      {"call pc+2\n r0 = 0\n exit", Errno::Inval, "call to invalid destination\n"},
      {"call pc-2\n r0 = 0\n exit", Errno::Inval, "call to invalid destination\n"},
      {"call pc+1\n exit\n r0 = 0\n goto -3", Errno::Inval, "jump out of range from insn 3 to 1\n"},
      {"call pc+1\n exit\n r0 = 0", Errno::Inval, "last insn is not an exit or jmp\n"},
      {"loop: r0 = 0\n if r0 == 1 goto loop\n exit", Errno::None, ""},
      {"call pc-1\n exit", Errno::None, ""},  // recursion: the walk refuses it
  };
  for (const Case& c : cases) {
    INFO(c.source);
    Bench bench(c.source, 1);
    REQUIRE(bench.errors == "");
    CHECK(structure(bench) == c.err);
    CHECK(bench.log() == c.log);
  }
}

TEST_CASE("Loops and functions need privilege, and loops a kernel of 5.3") {
  Bench unprivileged("loop: r0 = 0\n if r0 == 1 goto loop\n exit", 1, false);
  CHECK(structure(unprivileged) == Errno::Inval);
  CHECK(unprivileged.log() == "back-edge from insn 1 to 0\n");
  MachineOptions old;
  old.version = "5.2"_v;
  Bench before("loop: r0 = 0\n if r0 == 1 goto loop\n exit", 1, true, old);
  CHECK(structure(before) == Errno::Inval);
  Bench caller("call pc+1\n exit\n r0 = 0\n exit", 1, false);
  CHECK(structure(caller) == Errno::Perm);
  CHECK(caller.log() ==
        "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN\n");
}

TEST_CASE("States are compared where paths fork and meet") {
  Bench bench(R"(
    r0 = 0
    if r1 == 0 goto out
    call f
    goto out
    out: exit
    f: r0 = 1
    exit)");
  REQUIRE(structure(bench) == Errno::None);
  std::string prune, jmp;
  for (const bpf_insn_aux_data& aux : bench.env.insn_aux_data) {
    prune += aux.prune_point ? 'x' : '.';
    jmp += aux.jmp_point ? 'x' : '.';
  }
  CHECK(prune == ".xxxxx.");
  CHECK(jmp == "...xxx.");
  CHECK(bench.log() == "func#0 @0\nfunc#1 @5\n");
}

TEST_CASE("Each loop is one component, numbered as 6.18 numbers them") {
  // As in the live log: the inner end of the search gets its number first.
  Bench bench(R"(
    r0 = 0
    r1 = 4
    a: r0 += 1
    if r0 < r1 goto a
    b: r0 += -1
    if r0 != 0 goto b
    exit)");
  REQUIRE(structure(bench) == Errno::None);
  REQUIRE(compute_postorder(bench.env) == Errno::None);
  REQUIRE(compute_scc(bench.env) == Errno::None);
  std::string scc;
  for (const bpf_insn_aux_data& aux : bench.env.insn_aux_data) scc += char('0' + aux.scc);
  CHECK(scc == "0022110");
  CHECK(bench.env.scc_cnt == 3);
  CHECK(bench.env.cfg.insn_postorder.size() == 7);
}
