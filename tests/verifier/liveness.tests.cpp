#include "verifier/liveness.h"

#include "bench.h"
#include "catch.h"
#include "verifier/cfg.h"
#include "verifier/subprogs.h"

using namespace bpfsim;

TEST_CASE("Live registers are printed as 6.18 prints them") {
  Bench bench(R"(
    *(u64 *)(r10 -8) = 1
    r1 = r10
    call f
    r0 = *(u64 *)(r10 -16)
    if r0 == 7 goto +1
    r0 = *(u64 *)(r10 -8)
    exit
    f: r2 = *(u64 *)(r1 -8)
    loop: r2 += -1
    if r2 != 0 goto loop
    r0 = 0
    exit)");
  REQUIRE(bench.errors == "");
  REQUIRE(add_subprog_and_kfunc(bench.env) == Errno::None);
  REQUIRE(compute_postorder(bench.env) == Errno::None);
  REQUIRE(compute_scc(bench.env) == Errno::None);
  bench.news();
  REQUIRE(compute_live_registers(bench.env) == Errno::None);
  CHECK(bench.news() == R"(Live regs before insn:
      0: ..2345.... (7a) *(u64 *)(r10 -8) = 1
      1: ..2345.... (bf) r1 = r10
      2: .12345.... (85) call pc+4
      3: .......... (79) r0 = *(u64 *)(r10 -16)
      4: 0......... (15) if r0 == 0x7 goto pc+1
      5: .......... (79) r0 = *(u64 *)(r10 -8)
      6: 0......... (95) exit
      7: .1........ (79) r2 = *(u64 *)(r1 -8)
  1   8: ..2....... (07) r2 += -1
  1   9: ..2....... (55) if r2 != 0x0 goto pc-2
     10: .......... (b7) r0 = 0
     11: 0......... (95) exit
)");
}

TEST_CASE("Stack slots live as long as somebody may read them, and the log says so as 6.18 does") {
  Bench bench(R"(
    *(u64 *)(r10 -8) = 1
    *(u64 *)(r10 -16) = 2
    r1 = r10
    call f
    r0 = *(u64 *)(r10 -16)
    exit
    f: r2 = *(u64 *)(r1 -8)
    *(u64 *)(r1 -16) = 5
    r0 = 0
    exit)");
  bpf_verifier_env& env = bench.env;
  REQUIRE(add_subprog_and_kfunc(env) == Errno::None);
  REQUIRE(compute_postorder(env) == Errno::None);
  REQUIRE(bpf_stack_liveness_init(env) == Errno::None);
  env.cur_state = std::make_unique<bpf_verifier_state>();
  auto frame = [&](uint32_t n, int callsite, uint32_t subprog) {
    env.cur_state->frame[n] = std::make_unique<bpf_func_state>();
    init_func_state(*env.cur_state->frame[n], callsite, n, subprog);
    env.cur_state->curframe = n;
    bpf_reset_live_stack_callchain(env);
  };
  auto step = [&](uint32_t insn, uint64_t reads, uint64_t writes) {
    REQUIRE(bpf_reset_stack_write_marks(env, insn) == Errno::None);
    if (writes) bpf_mark_stack_write(env, 0, writes);
    if (reads) REQUIRE(bpf_mark_stack_read(env, 0, insn, reads) == Errno::None);
    REQUIRE(bpf_commit_stack_write_marks(env) == Errno::None);
  };
  frame(0, BPF_MAIN_FUNC, 0);
  step(0, 0, 1), step(1, 0, 2), step(2, 0, 0);
  // The call enters another function before its own marks are committed: they come from the callee.
  REQUIRE(bpf_reset_stack_write_marks(env, 3) == Errno::None);
  frame(1, 3, 1);
  REQUIRE(bpf_commit_stack_write_marks(env) == Errno::None);
  step(6, 1, 0), step(7, 0, 2), step(8, 0, 0), step(9, 0, 0);
  bench.news();
  REQUIRE(bpf_update_live_stack(env) == Errno::None);
  CHECK(bench.news() == R"((3,6) frame 0 insn 7 +written -16 
(3,6) frame 0 insn 6 +live -8 
(3,6) frame 0 insn 6 +written -16 
(3,6) live stack update done in 2 iterations
(0) frame 0 insn 3 +live -8 
(0) frame 0 insn 3 +written -16 
(0) frame 0 insn 1 +live -8 
(0) frame 0 insn 1 +written -16 
(0) frame 0 insn 0 +written -8,-16 
(0) live stack update done in 2 iterations
)");
  env.cur_state->frame[1].reset();
  env.cur_state->curframe = 0;
  bpf_reset_live_stack_callchain(env);
  step(4, 2, 0), step(5, 0, 0);
  REQUIRE(bpf_update_live_stack(env) == Errno::None);

  env.cur_state->insn_idx = 3;  // before the call: the callee reads fp-8 and writes fp-16
  REQUIRE(bpf_live_stack_query_init(env, *env.cur_state) == Errno::None);
  CHECK(bpf_stack_slot_alive(env, 0, 0));
  CHECK_FALSE(bpf_stack_slot_alive(env, 0, 1));
  env.cur_state->insn_idx = 4;
  REQUIRE(bpf_live_stack_query_init(env, *env.cur_state) == Errno::None);
  CHECK_FALSE(bpf_stack_slot_alive(env, 0, 0));
  CHECK(bpf_stack_slot_alive(env, 0, 1));
}
