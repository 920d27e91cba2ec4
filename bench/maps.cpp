// How long one operation on a map takes: by a call through its table, through bpf(2), and from a program; the
// live kernel's bpf(2) and its programs beside them in the same run, where it lets us. Not measured: what has
// no operation through bpf(2) and no helper here yet (user ring buffers, arenas, stack traces), what the live
// kernel would need a cgroup or threads of its own for (storages of cgroups, cpumaps), and what holds sockets
// as a sockmap does (reuseport arrays, AF_XDP maps). bench/__main__.py makes the table from the names
// "SUBJECT:HOW" and the counter `ops` of each.
#include <benchmark/benchmark.h>

#include <ctime>
#include <memory>
#include <string>

#include "btf/btf_build.h"
#include "host/socket.h"
#include "isa/asm.h"
#include "kernel.h"
#include "live_bpf.h"
#include "map/map_types.h"
#include "object/file.h"
#include "uapi/perf_event.h"

#ifdef __linux__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#endif

using namespace bpfsim;

namespace {

enum class Holds { Values, Maps, Programs, Devices, Sockets, Events, Cgroups };
enum class Thing { Socket, Task, File, Event, Cgroup };  // has a descriptor
struct Subject {
  const char* name;
  bpf_map_type type;
  uint32_t key_size, entries, flags;
  Holds holds = Holds::Values;
  Thing owner = Thing::Socket;  // of a storage: whose descriptor the one key is
};
constexpr Subject kKeyed[] = {
    {"array", BPF_MAP_TYPE_ARRAY, 4, 1 << 10, 0},
    {"per-CPU array", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 1 << 10, 0},
    {"hash", BPF_MAP_TYPE_HASH, 8, 1 << 10, 0},
    {"hash of 1M", BPF_MAP_TYPE_HASH, 8, 1 << 20, 0},
    {"hash, no prealloc", BPF_MAP_TYPE_HASH, 8, 1 << 10, BPF_F_NO_PREALLOC},
    {"per-CPU hash", BPF_MAP_TYPE_PERCPU_HASH, 8, 1 << 10, 0},
    {"LRU hash", BPF_MAP_TYPE_LRU_HASH, 8, 1 << 10, 0},
    {"LRU per-CPU hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, 8, 1 << 10, 0},
    {"LPM trie", BPF_MAP_TYPE_LPM_TRIE, 8, 1 << 10, BPF_F_NO_PREALLOC},
};
constexpr Subject kKeyless[] = {
    {"queue", BPF_MAP_TYPE_QUEUE, 0, 1 << 10, 0},
    {"stack", BPF_MAP_TYPE_STACK, 0, 1 << 10, 0},
};

constexpr Subject kBloom = {"bloom filter", BPF_MAP_TYPE_BLOOM_FILTER, 0, 1 << 10, 0};
// Few: a live kernel waits for all readers whenever a map in a map is replaced.
constexpr Subject kOfMaps[] = {
    {"array of maps", BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 1 << 4, 0, Holds::Maps},
    {"hash of maps", BPF_MAP_TYPE_HASH_OF_MAPS, 8, 1 << 4, 0, Holds::Maps},
};
// Used by programs in ways that no program can here yet, or that are not a lookup.
constexpr Subject kBySyscall[] = {
    {"prog array", BPF_MAP_TYPE_PROG_ARRAY, 4, 1 << 10, 0, Holds::Programs},
    {"devmap", BPF_MAP_TYPE_DEVMAP, 4, 1 << 10, 0, Holds::Devices},
    {"devmap hash", BPF_MAP_TYPE_DEVMAP_HASH, 4, 1 << 10, 0, Holds::Devices},
    {"sockmap", BPF_MAP_TYPE_SOCKMAP, 4, 1 << 4, 0, Holds::Sockets},
    {"sockhash", BPF_MAP_TYPE_SOCKHASH, 8, 1 << 4, 0, Holds::Sockets},
    {"socket storage", BPF_MAP_TYPE_SK_STORAGE, 4, 0, BPF_F_NO_PREALLOC, Holds::Values, Thing::Socket},
    {"task storage", BPF_MAP_TYPE_TASK_STORAGE, 4, 0, BPF_F_NO_PREALLOC, Holds::Values, Thing::Task},
    {"inode storage", BPF_MAP_TYPE_INODE_STORAGE, 4, 0, BPF_F_NO_PREALLOC, Holds::Values, Thing::File},
};
// What they hold is nothing that a lookup could show.
constexpr Subject kUpdatedOnly[] = {
    {"perf event array", BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 1 << 2, 0, Holds::Events},
    {"cgroup array", BPF_MAP_TYPE_CGROUP_ARRAY, 4, 1 << 2, 0, Holds::Cgroups},
};
constexpr uint32_t kIfindexOfLo = 1;
constexpr Subject kRing = {"ring buffer", BPF_MAP_TYPE_RINGBUF, 0, 1 << 22, 0};
constexpr uint32_t kRecord = 16, kHeader = 8;  // bytes of a ring's record

uint64_t user(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// The first two pages of a ring buffer: where the consumer is, which we may write, and where the producer is.
uint64_t* ring_positions(long fd) {
#ifdef __linux__
  void* both = mmap(nullptr, 2 * kPageSize, PROT_READ, MAP_SHARED, int(fd), 0);
  if (both == MAP_FAILED) return nullptr;
  if (mmap(both, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, int(fd), 0) == both)
    return static_cast<uint64_t*>(both);
  munmap(both, 2 * kPageSize);
#else
  (void)fd;
#endif
  return nullptr;
}
void unmap_ring([[maybe_unused]] uint64_t* positions) {
#ifdef __linux__
  if (positions) munmap(positions, 2 * kPageSize);
#endif
}

perf_event_attr an_event() {
  perf_event_attr attr;
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  return attr;
}
// The root of the hierarchy that programs attach to; a map only refers to it.
long open_cgroup() {
#ifdef __linux__
  for (const char* root : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"})
    if (const long fd = ::open(root, O_RDONLY | O_DIRECTORY); fd >= 0) return fd;
#endif
  return -1;
}

// Whose bpf(2) it is. Both answer the same bytes; a descriptor that stays open is the process' end to close.
struct Side {
  virtual ~Side() = default;
  virtual int64_t bpf(int cmd, bpf_attr& attr) = 0;
  virtual int64_t open(Thing thing) = 0;
  // Of a ring buffer: how many bytes were ever produced, all of them consumed now.
  virtual uint64_t consume(int64_t ring) = 0;
};
struct Simulated final : Side {
  Simulated() : kernel(MachineOptions{.arena_bytes = 512 << 20}), task(kernel.spawn("bench")) {}
  int64_t bpf(int cmd, bpf_attr& attr) override {
    return kernel.sys_bpf(task, cmd, user(&attr), sizeof attr);
  }
  int64_t open(Thing thing) override {
    switch (thing) {
      case Thing::Socket: return (*kernel.socketpair(task, AF_UNIX_, SOCK_STREAM_)).first;
      case Thing::Task: return *kernel.pidfd_open(task, task.pid);
      case Thing::File: return *kernel.open(task, "/sys/fs/bpf");
      case Thing::Event: return *kernel.perf_event_open(task, an_event());
      case Thing::Cgroup: return *kernel.open(task, "/sys/fs/cgroup");
    }
    return -1;
  }
  uint64_t consume(int64_t ring) override {
    constexpr uint32_t kRead = 1, kReadWrite = 3, kShared = 1;
    if (!positions[0]) {
      positions[0] = *kernel.mmap(task, int(ring), kPageSize, kReadWrite, kShared, 0);
      positions[1] = *kernel.mmap(task, int(ring), kPageSize, kRead, kShared, kPageSize);
    }
    uint64_t produced = 0;
    if (!kernel.user_load(task, positions[1], &produced, sizeof produced) ||
        !kernel.user_store(task, positions[0], &produced, sizeof produced))
      return 0;
    return produced;
  }
  Kernel kernel;
  Task& task;
  uint64_t positions[2] = {};  // where the consumer's and the producer's page are mapped
};
struct Live final : Side {
  int64_t bpf(int cmd, bpf_attr& attr) override {
    const int64_t result = live::sys_bpf(cmd, &attr, sizeof attr);
    if (result >= 0 && (cmd == BPF_MAP_CREATE || cmd == BPF_PROG_LOAD || cmd == BPF_BTF_LOAD))
      fds.push_back(result);
    return result;
  }
  int64_t open([[maybe_unused]] Thing thing) override {
#ifdef __linux__
    int pair[2];
    switch (thing) {
      case Thing::Socket:
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -1;
        fds.insert(fds.end(), {pair[0], pair[1]});
        break;
      case Thing::Task: fds.push_back(syscall(SYS_pidfd_open, getpid(), 0)); break;
      case Thing::File: fds.push_back(memfd_create("bench", 0)); break;
      case Thing::Event: {
        perf_event_attr event = an_event();
        fds.push_back(syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
        break;
      }
      case Thing::Cgroup: fds.push_back(open_cgroup()); break;
    }
    return thing == Thing::Socket ? pair[0] : fds.back();
#else
    return -1;
#endif
  }
  uint64_t consume(int64_t ring) override {
    if (!positions) positions = ring_positions(ring);
    if (!positions) return 0;
    volatile uint64_t& producer = positions[kPageSize / sizeof *positions];
    return positions[0] = producer;
  }
  ~Live() override {
    unmap_ring(positions);
    for (int64_t fd : fds) live::close_fd(fd);
  }
  std::vector<int64_t> fds;
  uint64_t* positions = nullptr;
};

// A map, full (a queue: half full), on one side.
struct Bench {
  Bench(std::unique_ptr<Side> on, const Subject& subject) : side(std::move(on)), subject(subject) {
    bpf_attr attr;
    attr.map_type = subject.type;
    attr.key_size = subject.key_size;
    attr.value_size = &subject == &kRing ? 0 : subject.holds == Holds::Values ? 8 : 4;
    attr.max_entries = subject.entries;
    attr.map_flags = subject.flags;
    if (subject.holds == Holds::Maps) {
      bpf_attr inner;
      inner.map_type = BPF_MAP_TYPE_ARRAY;
      inner.key_size = inner.value_size = 4;
      inner.max_entries = 1;
      held = side->bpf(BPF_MAP_CREATE, inner);
      attr.inner_map_fd = uint32_t(held);
    } else if (subject.holds == Holds::Programs) {
      held = load("r0 = 2\nexit\n");
    } else if (subject.holds == Holds::Devices) {
      held = kIfindexOfLo;
    } else if (subject.holds == Holds::Sockets) {
      attr.value_size = 8;  // so that a lookup tells the socket's cookie
      held = side->open(Thing::Socket);
    } else if (subject.holds == Holds::Events || subject.holds == Holds::Cgroups) {
      held = side->open(subject.holds == Holds::Events ? Thing::Event : Thing::Cgroup);
    } else if (is_storage()) {
      attr.btf_fd = uint32_t(load_btf());
      attr.btf_key_type_id = 1;
      attr.btf_value_type_id = 2;
      owner = side->open(subject.owner);
    }
    fd = side->bpf(BPF_MAP_CREATE, attr);
    uint32_t fill = &subject == &kRing ? 0 : subject.key_size ? subject.entries : subject.entries / 2;
    if (is_storage()) fill = 1;
    for (uint64_t n = 0; fd >= 0 && n < fill; ++n)
      if (elem(BPF_MAP_UPDATE_ELEM, n) < 0) fd = -1;
  }

  // An XDP program's descriptor; map[...] in its text is this map.
  int64_t load(const std::string& text) {
    Assembly assembly = assemble(text);
    if (!assembly.ok()) return -1;
    for (const MapRef& ref : assembly.maps) assembly.insns[ref.insn].imm = int(fd);
    bpf_attr attr;
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.insns = user(assembly.insns.data());
    attr.insn_cnt = uint32_t(assembly.insns.size());
    attr.license = user("GPL");
    return side->bpf(BPF_PROG_LOAD, attr);
  }

  bool is_storage() const { return subject.key_size && !subject.entries; }
  int64_t load_btf() {  // int and u64, as type 1 and 2
    BtfBuilder types;
    types.add_int("int", 4, BTF_INT_SIGNED);
    types.add_int("u64", 8);
    const std::vector<uint8_t> bytes = types.bytes();
    bpf_attr attr;
    attr.btf = user(bytes.data());
    attr.btf_size = uint32_t(bytes.size());
    return side->bpf(BPF_BTF_LOAD, attr);
  }

  // A trie's key is a prefix length and the data.
  uint64_t key_of(uint64_t n) const {
    return is_storage() ? uint64_t(owner) : subject.type == BPF_MAP_TYPE_LPM_TRIE ? n << 32 | 32 : n;
  }

  int64_t elem(int cmd, uint64_t n) {
    uint64_t key = key_of(n);
    values[0] = subject.holds == Holds::Values ? n : uint64_t(held);
    bpf_attr attr;
    attr.map_fd = uint32_t(fd);
    attr.key = subject.key_size ? user(&key) : 0;
    attr.value = user(values);
    return side->bpf(cmd, attr);
  }

  std::unique_ptr<Side> side;
  const Subject& subject;
  int64_t fd = -1, held = -1, owner = -1;  // the map; what its elements hold; whose storage it is
  uint64_t values[256] = {};               // room for 256 CPUs'
};

// Keys in an order that a cache cannot guess, the same on both sides.
struct Keys {
  uint64_t state = 1;
  uint32_t mask;
  explicit Keys(const Subject& subject) : mask(subject.entries - 1) {}
  uint64_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33 & mask;
  }
};

void through_table(benchmark::State& state, const Subject& subject, bool update) {
  auto side = std::make_unique<Simulated>();
  Task& task = side->task;
  Bench bench(std::move(side), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  Map& map = *static_cast<Map*>(task.files.get(int(bench.fd))->private_data);
  Keys keys(subject);
  for (auto _ : state) {
    uint64_t key = bench.key_of(keys.next()), value = key;
    if (update) {
      benchmark::DoNotOptimize(MAP_OP(map, map_update_elem, map, &key, &value, BPF_ANY).err());
    } else {
      Result<void*> found = MAP_OP(map, map_lookup_elem, map, &key);
      benchmark::DoNotOptimize(*found);
    }
  }
  state.counters["ops"] = 1;
}

void ring_through_table(benchmark::State& state) {
  auto side = std::make_unique<Simulated>();
  Simulated& simulated = *side;
  Bench bench(std::move(side), kRing);
  if (bench.fd < 0) return state.SkipWithError("the ring could not be made");
  Machine& machine = simulated.kernel.machine();
  Map& map = *static_cast<Map*>(simulated.task.files.get(int(bench.fd))->private_data);
  constexpr int kRecords = 512;
  for (auto _ : state) {
    for (int i = 0; i < kRecords; ++i) {
      const Addr sample = MAP_OP(map, ringbuf_reserve, map, kRecord);
      if (!sample) return state.SkipWithError("a record found no room in the ring");
      machine.calls->ringbuf_commit(machine, sample, 0, false);
    }
    simulated.consume(bench.fd);
  }
  state.counters["ops"] = kRecords;
}

template <class On>
void through_syscall(benchmark::State& state, const Subject& subject, int cmd) {
  Bench bench(std::make_unique<On>(), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  Keys keys(subject);
  for (auto _ : state) benchmark::DoNotOptimize(bench.elem(cmd, keys.next()));
  state.counters["ops"] = 1;
}

template <class On>
void push_pop_syscall(benchmark::State& state, const Subject& subject) {
  Bench bench(std::make_unique<On>(), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  for (auto _ : state) {
    benchmark::DoNotOptimize(bench.elem(BPF_MAP_UPDATE_ELEM, 1));
    benchmark::DoNotOptimize(bench.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, 1));
  }
  state.counters["ops"] = 2;
}

// A program that does the operation kRounds times. %K is the key's mask.
constexpr int kRounds = 512;
std::string program_text(const Subject& subject, const std::string& calls) {
  const bool trie = subject.type == BPF_MAP_TYPE_LPM_TRIE;
  const std::string key =
      trie ? "w1 = 32\n*(u32 *)(r10 -8) = r1\n*(u32 *)(r10 -4) = r8\n" : "*(u64 *)(r10 -8) = r8\n";
  return "call bpf_get_prandom_u32\nr7 = r0\nr6 = 0\nr1 = 0\n*(u64 *)(r10 -16) = r1\n"
         "round:\nr7 *= 1103515245\nr7 += 12345\nr8 = r7\nr8 >>= 16\nr8 &= " +
         std::to_string(subject.entries - 1) + "\n" + key + calls + "r6 += 1\nif r6 < " +
         std::to_string(kRounds) + " goto round\nr0 = 2\nexit\n";
}
const std::string kMapAnd = "r1 = map[m]\nr2 = r10\n";
const std::string kLookup = kMapAnd + "r2 += -8\ncall bpf_map_lookup_elem\n";
const std::string kUpdate = kMapAnd + "r2 += -8\nr3 = r10\nr3 += -16\nr4 = 0\ncall bpf_map_update_elem\n";
const std::string kPushPop =
    kMapAnd + "r2 += -16\nr3 = 0\ncall bpf_map_push_elem\n" + kMapAnd + "r2 += -16\ncall bpf_map_pop_elem\n";
const std::string kPush = kMapAnd + "r2 += -8\nr3 = 0\ncall bpf_map_push_elem\n";
const std::string kPeek = kMapAnd + "r2 += -8\ncall bpf_map_peek_elem\n";
const std::string kReserveSubmit =
    "r1 = map[m]\nr2 = " + std::to_string(kRecord) +
    "\nr3 = 0\ncall bpf_ringbuf_reserve\nif r0 == 0 goto full\nr1 = r0\nr2 = 1\n"  // BPF_RB_NO_WAKEUP
    "call bpf_ringbuf_submit\nfull:\n";

template <class On>
void through_program(benchmark::State& state, const Subject& subject, const std::string& calls,
                     int per_round) {
  Bench bench(std::make_unique<On>(), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  const int64_t prog = bench.load(program_text(subject, calls));
  if (prog < 0) return state.SkipWithError("the program was refused");
  uint8_t packet[64] = {};
  constexpr bool kIsLive = std::is_same_v<On, Live>;
  constexpr uint32_t kFullSpeed = kIsLive ? 1000 : 20;  // one live call waits some 20 ms, whatever it runs
  const bool ring = &subject == &kRing;
  const uint32_t kRepeat = ring ? 100 : kFullSpeed;  // what a ring has room for
  const uint64_t bytes = uint64_t(kRepeat) * kRounds * (kRecord + kHeader);
  uint64_t produced = 0;
  for (auto _ : state) {
    bpf_attr run;
    run.test.prog_fd = uint32_t(prog);
    run.test.data_in = user(packet);
    run.test.data_size_in = sizeof packet;
    run.test.repeat = kRepeat;
    const std::clock_t before = std::clock();
    if (bench.side->bpf(BPF_PROG_TEST_RUN, run) < 0) return state.SkipWithError("TEST_RUN was refused");
    const double took = double(std::clock() - before) / CLOCKS_PER_SEC;
    // The live kernel waits for others around a run and says itself how long one took; our clock is
    // simulated.
    state.SetIterationTime(kIsLive ? run.test.duration * double(kRepeat) * 1e-9 : took);
    if (ring && bench.side->consume(bench.fd) != (produced += bytes))
      return state.SkipWithError("a record found no room in the ring");
  }
  state.counters["ops"] = double(kRepeat) * kRounds * per_round;
}

template <class Run>
void add(const Subject& subject, const char* op, const char* how, Run run) {
  auto* added =
      benchmark::RegisterBenchmark((std::string(subject.name) + ", " + op + ":" + how).c_str(), run);
  if (std::string(how).ends_with("program")) added->UseManualTime();
  if (std::string(how) == "live program") added->Iterations(2);
}

template <class On>
void add_side(const char* syscall, const char* program) {
  for (const Subject& s : kKeyed) {
    add(s, "lookup", syscall, [&s](auto& state) { through_syscall<On>(state, s, BPF_MAP_LOOKUP_ELEM); });
    add(s, "lookup", program, [&s](auto& state) { through_program<On>(state, s, kLookup, 1); });
    add(s, "update", syscall, [&s](auto& state) { through_syscall<On>(state, s, BPF_MAP_UPDATE_ELEM); });
    add(s, "update", program, [&s](auto& state) { through_program<On>(state, s, kUpdate, 1); });
  }
  for (const Subject& s : kKeyless) {
    add(s, "push, pop", syscall, [&s](auto& state) { push_pop_syscall<On>(state, s); });
    add(s, "push, pop", program, [&s](auto& state) { through_program<On>(state, s, kPushPop, 2); });
  }
  add(kBloom, "push", syscall, [](auto& state) { through_syscall<On>(state, kBloom, BPF_MAP_UPDATE_ELEM); });
  add(kBloom, "push", program, [](auto& state) { through_program<On>(state, kBloom, kPush, 1); });
  add(kBloom, "peek", syscall, [](auto& state) { through_syscall<On>(state, kBloom, BPF_MAP_LOOKUP_ELEM); });
  add(kBloom, "peek", program, [](auto& state) { through_program<On>(state, kBloom, kPeek, 1); });
  for (const Subject& s : kOfMaps) {
    add(s, "lookup", syscall, [&s](auto& state) { through_syscall<On>(state, s, BPF_MAP_LOOKUP_ELEM); });
    add(s, "lookup", program, [&s](auto& state) { through_program<On>(state, s, kLookup, 1); });
  }
  for (const Subject& s : kBySyscall) {
    add(s, "lookup", syscall, [&s](auto& state) { through_syscall<On>(state, s, BPF_MAP_LOOKUP_ELEM); });
    add(s, "update", syscall, [&s](auto& state) { through_syscall<On>(state, s, BPF_MAP_UPDATE_ELEM); });
  }
  for (const Subject& s : kUpdatedOnly)
    add(s, "update", syscall, [&s](auto& state) { through_syscall<On>(state, s, BPF_MAP_UPDATE_ELEM); });
  add(kRing, "reserve, submit", program,
      [](auto& state) { through_program<On>(state, kRing, kReserveSubmit, 1); });
}

}  // namespace

int main(int argc, char** argv) {
  for (const Subject& s : kKeyed) {
    add(s, "lookup", "table", [&s](auto& state) { through_table(state, s, false); });
    add(s, "update", "table", [&s](auto& state) { through_table(state, s, true); });
  }
  add(kRing, "reserve, submit", "table", ring_through_table);
  add_side<Simulated>("sys_bpf", "program");
  if (live::permitted()) add_side<Live>("live sys_bpf", "live program");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
