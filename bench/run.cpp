// How long an interpreted instruction takes: an ALU loop with a chain of dependences, straight ALU code, and
// a loop of loads and stores. items_per_second counts BPF instructions.
#include <benchmark/benchmark.h>

#include "kernel.h"
#include "run/select_runtime.h"

using namespace bpfsim;

static void interpret(benchmark::State& state, std::vector<bpf_insn> insns, int64_t insns_per_run) {
  MachineOptions options;
  options.arena_bytes = 64 << 20;
  Kernel kernel(options);
  Prog prog(kernel.machine());
  prog.insnsi = std::move(insns);
  if (!bpf_prog_select_runtime(prog)) return state.SkipWithError("the program was refused");
  for (auto _ : state) {
    RunOutcome outcome = bpf_prog_run(kernel.machine(), prog, 0);
    benchmark::DoNotOptimize(outcome);
  }
  state.SetItemsProcessed(state.iterations() * insns_per_run);
}

constexpr int kRounds = 100'000;

static void alu64_loop(benchmark::State& state) {
  interpret(state,
            {mov64_imm(0, 1), mov64_imm(1, kRounds), mov64_imm(2, 7), alu64_imm(BPF_ADD, 0, 3),
             alu64_reg(BPF_XOR, 0, 2), alu64_imm(BPF_LSH, 0, 1), alu64_imm(BPF_SUB, 1, 1),
             jmp_imm(BPF_JNE, 1, 0, -5), exit_insn()},
            5 * kRounds);
}
BENCHMARK(alu64_loop);

static void alu64_straight(benchmark::State& state) {
  constexpr int kLength = 4000;
  std::vector<bpf_insn> insns = {mov64_imm(0, 1), mov64_imm(1, 5), mov64_imm(2, 7), mov64_imm(3, 9)};
  for (int i = 0; i < kLength; ++i)
    insns.push_back(i % 3 == 0 ? alu64_reg(BPF_ADD, i % 4, (i + 1) % 4) : alu64_imm(BPF_XOR, i % 4, i));
  insns.push_back(exit_insn());
  interpret(state, insns, kLength);
}
BENCHMARK(alu64_straight);

static void stack_memory(benchmark::State& state) {
  interpret(state,
            {mov64_imm(1, kRounds), stx_mem(BPF_DW, 10, 1, -8), ldx_mem(BPF_DW, 0, 10, -8),
             alu64_imm(BPF_SUB, 1, 1), jmp_imm(BPF_JNE, 1, 0, -4), exit_insn()},
            4 * kRounds);
}
BENCHMARK(stack_memory);

static void shortest_program(benchmark::State& state) { interpret(state, {mov64_imm(0, 2), exit_insn()}, 2); }
BENCHMARK(shortest_program);

BENCHMARK_MAIN();
