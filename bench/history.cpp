// What keeping a history costs a call, and what going back costs: one step of a walk, and a jump in a history
// that is as long as it can get, which is as far as a machine ever has to be made anew.
#include "history.h"

#include <benchmark/benchmark.h>

#include "journal.h"
#include "kernel.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

using namespace bpfsim;

namespace {

constexpr size_t kHistory = size_t(64) << 20;  // bytes; what Kernel() of Python keeps

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

void lookup(benchmark::State& state, size_t history_bytes) {
  Bench bench(history_bytes);
  uint32_t n = 0;
  for (auto _ : state) benchmark::DoNotOptimize(bench.elem(BPF_MAP_LOOKUP_ELEM, n++ % 1024));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(lookup, without, 0)->Name("lookup through bpf(2), without a history")->Iterations(100'000);
BENCHMARK_CAPTURE(lookup, kept, kHistory)->Name("the same, kept in the history")->Iterations(100'000);

void boot(benchmark::State& state) {
  for (auto _ : state) Kernel kernel;
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(boot)->Name("boot of a machine");

// Fills the history to its bound.
struct FullHistory : Bench {
  FullHistory() : Bench(kHistory), history(kernel) {
    for (uint32_t n = 0; history.ended().empty(); ++n)
      elem(n % 3 ? BPF_MAP_UPDATE_ELEM : BPF_MAP_DELETE_ELEM, n % 1024);
  }
  History history;
};

void call_again(benchmark::State& state) {
  FullHistory full;
  for (auto _ : state) {
    Kernel again;
    benchmark::DoNotOptimize(full.history.replay(again, 0, full.history.size()).ok());
  }
  state.counters["ops"] = double(full.history.size());
}
BENCHMARK(call_again)->Name("a call done again");

// Walks back from a place a thousand steps in, again and again.
void one_step_back(benchmark::State& state) {
  Bench bench(kHistory);
  History history(bench.kernel);
  size_t at = history.size();
  for (auto _ : state) {
    benchmark::DoNotOptimize(history.graph(at).ok());
    at = at > 1 ? at - 1 : history.size();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(one_step_back)->Name("one step back, of a thousand");

// Each jump lands below what the one before has kept, so all of the history before it is done again.
void jump_back(benchmark::State& state) {
  FullHistory full;
  size_t at = full.history.size();
  for (auto _ : state) benchmark::DoNotOptimize(full.history.graph(at -= 100).ok());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(jump_back)->Name("a jump back in a full history")->Iterations(5);

}  // namespace

BENCHMARK_MAIN();
