// How long one operation on a map takes: through its table, as a program's helper does it, and through
// bpf(2).
#include <benchmark/benchmark.h>

#include "kernel.h"
#include "map/map_types.h"
#include "object/file.h"

using namespace bpfsim;

namespace {

constexpr uint32_t kEntries = 1024;

struct Bench {
  Bench(bpf_map_type type, uint32_t key_size, uint32_t flags = 0)
      : kernel(options()), task(kernel.spawn("b")) {
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = key_size;
    attr.value_size = 8;
    attr.max_entries = kEntries;
    attr.map_flags = flags;
    fd = int(kernel.sys_bpf(task, BPF_MAP_CREATE, user(&attr), sizeof attr));
    if (fd < 0) return;
    map = static_cast<Map*>(task.files.get(fd)->private_data);
    for (uint64_t key = 0; key < kEntries; ++key) (void)elem(BPF_MAP_UPDATE_ELEM, key_of(key), key);
  }
  static MachineOptions options() {
    MachineOptions options;
    options.arena_bytes = 64 << 20;
    return options;
  }
  static uint64_t user(const void* p) { return reinterpret_cast<uintptr_t>(p); }

  // A trie's key is a prefix length and the data.
  uint64_t key_of(uint64_t n) const { return map->map_type == BPF_MAP_TYPE_LPM_TRIE ? n << 32 | 32 : n; }

  int64_t elem(int cmd, uint64_t key, uint64_t value) {
    uint64_t values[16] = {value};
    bpf_attr attr;
    attr.map_fd = uint32_t(fd);
    attr.key = map->key_size ? user(&key) : 0;
    attr.value = user(values);
    return kernel.sys_bpf(task, cmd, user(&attr), sizeof attr);
  }

  Kernel kernel;
  Task& task;
  int fd;
  Map* map = nullptr;
};

void lookup(benchmark::State& state, bpf_map_type type, uint32_t key_size, uint32_t flags) {
  Bench bench(type, key_size, flags);
  uint64_t n = 0;
  for (auto _ : state) {
    uint64_t key = bench.key_of(n++ % kEntries);
    Result<void*> value = MAP_OP(*bench.map, map_lookup_elem, *bench.map, &key);
    benchmark::DoNotOptimize(*value);
  }
}

void update(benchmark::State& state, bpf_map_type type, uint32_t key_size, uint32_t flags) {
  Bench bench(type, key_size, flags);
  uint64_t n = 0;
  for (auto _ : state) {
    uint64_t key = bench.key_of(n % kEntries), value = n++;
    Result<void> done = MAP_OP(*bench.map, map_update_elem, *bench.map, &key, &value, BPF_ANY);
    benchmark::DoNotOptimize(done.err());
  }
}

void syscall(benchmark::State& state, bpf_map_type type, uint32_t key_size, uint32_t flags, int cmd) {
  Bench bench(type, key_size, flags);
  uint64_t n = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(bench.elem(cmd, bench.key_of(n % kEntries), n));
    ++n;
  }
}

void push_and_pop(benchmark::State& state, bpf_map_type type) {
  Bench bench(type, 0);
  uint64_t value = 1;
  (void)MAP_OP(*bench.map, map_pop_elem, *bench.map, &value);
  for (auto _ : state) {
    (void)MAP_OP(*bench.map, map_push_elem, *bench.map, &value, BPF_ANY);
    (void)MAP_OP(*bench.map, map_pop_elem, *bench.map, &value);
  }
  state.SetItemsProcessed(2 * state.iterations());
}

}  // namespace

#define KEYED(name, type, key_size, flags)                                               \
  BENCHMARK_CAPTURE(lookup, name, type, key_size, flags);                                \
  BENCHMARK_CAPTURE(update, name, type, key_size, flags);                                \
  BENCHMARK_CAPTURE(syscall, name##_lookup, type, key_size, flags, BPF_MAP_LOOKUP_ELEM); \
  BENCHMARK_CAPTURE(syscall, name##_update, type, key_size, flags, BPF_MAP_UPDATE_ELEM)

KEYED(array, BPF_MAP_TYPE_ARRAY, 4, 0u);
KEYED(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 0u);
KEYED(hash, BPF_MAP_TYPE_HASH, 8, 0u);
KEYED(hash_no_prealloc, BPF_MAP_TYPE_HASH, 8, BPF_F_NO_PREALLOC);
KEYED(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 8, 0u);
KEYED(lru_hash, BPF_MAP_TYPE_LRU_HASH, 8, 0u);
KEYED(lpm_trie, BPF_MAP_TYPE_LPM_TRIE, 8, BPF_F_NO_PREALLOC);
BENCHMARK_CAPTURE(push_and_pop, queue, BPF_MAP_TYPE_QUEUE);
BENCHMARK_CAPTURE(push_and_pop, stack, BPF_MAP_TYPE_STACK);
