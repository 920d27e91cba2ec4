// What keeping a history costs a call, and what going back costs: a lookup through bpf(2) with and without,
// ten thousand calls done again, and a walk back step by step.
#include "history.h"

#include <benchmark/benchmark.h>

#include "journal.h"
#include "kernel.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

using namespace bpfsim;

namespace {

uint64_t user(const void* p) { return reinterpret_cast<uintptr_t>(p); }

struct Bench {
  explicit Bench(size_t history_bytes) : kernel(MachineOptions{}, history_bytes), task(kernel.spawn("b")) {
    bpf_attr attr;
    attr.map_type = BPF_MAP_TYPE_HASH;
    attr.key_size = 4;
    attr.value_size = 8;
    attr.max_entries = 1024;
    fd = uint32_t(kernel.sys_bpf(task, BPF_MAP_CREATE, user(&attr), sizeof attr));
    for (uint32_t key = 0; key < 1024; ++key) elem(BPF_MAP_UPDATE_ELEM, key);
  }
  int64_t elem(int cmd, uint32_t key) {
    uint64_t value = key;
    bpf_attr attr;
    attr.map_fd = fd;
    attr.key = user(&key);
    attr.value = user(&value);
    return kernel.sys_bpf(task, cmd, user(&attr), 32);
  }
  Kernel kernel;
  Task& task;
  uint32_t fd;
};

void lookup_without(benchmark::State& state) {
  Bench bench(0);
  uint32_t n = 0;
  for (auto _ : state) benchmark::DoNotOptimize(bench.elem(BPF_MAP_LOOKUP_ELEM, n++ % 1024));
}
BENCHMARK(lookup_without)->Iterations(200'000)->Repetitions(5);

void lookup_with(benchmark::State& state) {
  Bench bench(size_t(64) << 20);
  uint32_t n = 0;
  for (auto _ : state) benchmark::DoNotOptimize(bench.elem(BPF_MAP_LOOKUP_ELEM, n++ % 1024));
  state.counters["bytes_per_call"] =
      double(bench.kernel.journal()->bytes()) / double(bench.kernel.journal()->steps().size());
}
BENCHMARK(lookup_with)->Iterations(200'000)->Repetitions(5)->ReportAggregatesOnly(false);

void boot(benchmark::State& state) {
  for (auto _ : state) Kernel kernel;
}
BENCHMARK(boot)->Unit(benchmark::kMicrosecond);

void ten_thousand_calls_again(benchmark::State& state) {
  Bench bench(1 << 30);
  for (uint32_t n = 0; n < 9'000; ++n)
    bench.elem(n % 3 ? BPF_MAP_UPDATE_ELEM : BPF_MAP_DELETE_ELEM, n % 1024);
  History history(bench.kernel);
  for (auto _ : state) {
    Kernel again;
    benchmark::DoNotOptimize(history.replay(again, 0, history.size()).ok());
  }
  state.counters["calls"] = double(history.size());
}
BENCHMARK(ten_thousand_calls_again)->Unit(benchmark::kMillisecond);

// One step back, from a place a thousand steps in, that many times.
void one_step_back(benchmark::State& state) {
  Bench bench(1 << 30);
  History history(bench.kernel);
  size_t at = history.size();
  for (auto _ : state) {
    benchmark::DoNotOptimize(history.graph(at).ok());
    at = at > 1 ? at - 1 : history.size();
  }
}
BENCHMARK(one_step_back)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
