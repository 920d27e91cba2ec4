// How long one operation on a map takes: by a call through its table, through bpf(2), and from a program; the
// live kernel's bpf(2) and its programs beside them in the same run, where it lets us. kSubjects is the list,
// and map types that it lacks are named in the output; bench/__main__.py makes the table from the names
// "SUBJECT, OP:HOW" and the counter `ops` of each, and prints below it what is lacking. Not measured from
// programs: types whose helpers have no body here yet (storages, stack traces, perf events, arenas, ...), and
// sockets, which an XDP program cannot look up. Not measured at all: updates of maps in maps, for each of
// which a live kernel waits for all readers. The live kernel is not asked about struct_ops, where a map may
// stay registered.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>

#include "btf/btf_build.h"
#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "sides.h"
#include "uapi/tables.h"

using namespace bpfsim;
using namespace bpfsim::bench;

namespace {

enum Op : uint32_t {
  kTable = 1,   // lookup and update through the table, too
  kLookup = 2,  // through bpf(2)...
  kUpdate = 4,
  kPushPop = 8,
  kDeleteUpdate = 16,
  kCreateClose = 32,
  kProgLookup = 64,  // ... and from a program
  kProgUpdate = 128,
  kProgPushPop = 256,
  kReserve = 512,
  kRedirect = 1024,
  kTailCall = 2048,
  kKeyed = kTable | kLookup | kUpdate | kProgLookup | kProgUpdate,
  kBoth = kLookup | kUpdate,
};
struct Subject {
  const char* name;
  bpf_map_type type;
  uint32_t key_size, entries, flags;
  uint32_t ops;
  Thing thing = Thing::None;  // what it holds; of a storage: whose descriptor the one key is
  int live_rounds = 0;        // not more on a live kernel, which goes on working behind the call
  bool live = true;
};
constexpr uint32_t kNoPrealloc = BPF_F_NO_PREALLOC, kMmapable = BPF_F_MMAPABLE;
constexpr Subject kSubjects[] = {
    {"array", BPF_MAP_TYPE_ARRAY, 4, 1 << 10, 0, kKeyed},
    {"per-CPU array", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 1 << 10, 0, kKeyed},
    {"hash", BPF_MAP_TYPE_HASH, 8, 1 << 10, 0, kKeyed},
    {"hash of 1M", BPF_MAP_TYPE_HASH, 8, 1 << 20, 0, kKeyed},
    {"hash, no prealloc", BPF_MAP_TYPE_HASH, 8, 1 << 10, kNoPrealloc, kKeyed},
    {"per-CPU hash", BPF_MAP_TYPE_PERCPU_HASH, 8, 1 << 10, 0, kKeyed},
    {"LRU hash", BPF_MAP_TYPE_LRU_HASH, 8, 1 << 10, 0, kKeyed},
    {"LRU per-CPU hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, 8, 1 << 10, 0, kKeyed},
    {"LPM trie", BPF_MAP_TYPE_LPM_TRIE, 8, 1 << 10, kNoPrealloc, kKeyed},
    {"ring buffer", BPF_MAP_TYPE_RINGBUF, 0, 1 << 22, 0, kReserve},
    {"queue", BPF_MAP_TYPE_QUEUE, 0, 1 << 10, 0, kPushPop | kProgPushPop},
    {"stack", BPF_MAP_TYPE_STACK, 0, 1 << 10, 0, kPushPop | kProgPushPop},
    {"bloom filter", BPF_MAP_TYPE_BLOOM_FILTER, 0, 1 << 10, 0, kBoth | kProgLookup | kProgUpdate},
    {"array of maps", BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 1 << 4, 0, kLookup | kProgLookup},
    {"hash of maps", BPF_MAP_TYPE_HASH_OF_MAPS, 8, 1 << 4, 0, kLookup | kProgLookup},
    {"prog array", BPF_MAP_TYPE_PROG_ARRAY, 4, 1 << 10, 0, kBoth | kTailCall},
    {"devmap", BPF_MAP_TYPE_DEVMAP, 4, 1 << 10, 0, kBoth | kRedirect},
    {"devmap hash", BPF_MAP_TYPE_DEVMAP_HASH, 4, 1 << 10, 0, kBoth | kRedirect},
    {"cpumap", BPF_MAP_TYPE_CPUMAP, 4, 1, 0, kBoth | kRedirect, Thing::None, 300},
    {"xskmap", BPF_MAP_TYPE_XSKMAP, 4, 1, 0, kUpdate | kRedirect, Thing::XdpSocket},
    {"sockmap", BPF_MAP_TYPE_SOCKMAP, 4, 1 << 4, 0, kBoth, Thing::Socket},
    {"sockhash", BPF_MAP_TYPE_SOCKHASH, 8, 1 << 4, 0, kBoth, Thing::Socket},
    {"reuseport array", BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 1, 0, kLookup | kDeleteUpdate,
     Thing::ReuseportSocket},
    {"socket storage", BPF_MAP_TYPE_SK_STORAGE, 4, 0, kNoPrealloc, kBoth, Thing::Socket},
    {"task storage", BPF_MAP_TYPE_TASK_STORAGE, 4, 0, kNoPrealloc, kBoth, Thing::Task},
    {"inode storage", BPF_MAP_TYPE_INODE_STORAGE, 4, 0, kNoPrealloc, kBoth, Thing::File},
    {"cgrp storage", BPF_MAP_TYPE_CGRP_STORAGE, 4, 0, kNoPrealloc, kBoth, Thing::Cgroup},
    {"cgroup storage", BPF_MAP_TYPE_CGROUP_STORAGE, 8, 0, 0, kBoth, Thing::Cgroup},
    {"per-CPU cgroup storage", BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 8, 0, 0, kBoth, Thing::Cgroup},
    {"stack trace", BPF_MAP_TYPE_STACK_TRACE, 4, 1 << 4, 0, kLookup},
    {"perf event array", BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 1 << 2, 0, kUpdate, Thing::Event},
    {"cgroup array", BPF_MAP_TYPE_CGROUP_ARRAY, 4, 1 << 2, 0, kUpdate, Thing::Cgroup},
    {"struct_ops", BPF_MAP_TYPE_STRUCT_OPS, 4, 1, 0, kLookup, Thing::None, 0, false},
    {"user ring buffer", BPF_MAP_TYPE_USER_RINGBUF, 0, 1 << 12, 0, kCreateClose, Thing::None, 1000},
    {"arena", BPF_MAP_TYPE_ARENA, 0, 1, kMmapable, kCreateClose, Thing::None, 1000},
};
constexpr uint32_t kIfindexOfLo = 1, kQueueLength = 192;
constexpr uint32_t kRecord = 16, kHeader = 8;  // bytes of a ring's record

// A map, full (a queue: half full), on one side.
struct Bench {
  Bench(std::unique_ptr<Side> on, const Subject& subject) : side(std::move(on)), subject(subject) {
    attr.map_type = subject.type;
    attr.key_size = subject.key_size;
    attr.value_size = 8;
    attr.max_entries = subject.entries;
    attr.map_flags = subject.flags;
    if (subject.thing != Thing::None) hold(side->open(subject.thing), 4);
    prepare();
    if (fd = side->bpf(BPF_MAP_CREATE, attr); fd < 0) return;
    if (!fill()) fd = -1;
  }

  void hold(int64_t number, uint32_t value_size) {
    holds = true;
    held = number;
    attr.value_size = value_size;
  }

  // What the type's attributes and values need.
  void prepare() {
    switch (subject.type) {
      case BPF_MAP_TYPE_RINGBUF:
      case BPF_MAP_TYPE_USER_RINGBUF:
      case BPF_MAP_TYPE_ARENA: attr.value_size = 0; break;
      case BPF_MAP_TYPE_ARRAY_OF_MAPS:
      case BPF_MAP_TYPE_HASH_OF_MAPS: {
        bpf_attr inner;
        inner.map_type = BPF_MAP_TYPE_ARRAY;
        inner.key_size = inner.value_size = 4;
        inner.max_entries = 1;
        hold(side->bpf(BPF_MAP_CREATE, inner), 4);
        attr.inner_map_fd = uint32_t(held);
        break;
      }
      case BPF_MAP_TYPE_PROG_ARRAY: hold(side->load("r0 = 2\nexit\n", -1), 4); break;
      case BPF_MAP_TYPE_DEVMAP:
      case BPF_MAP_TYPE_DEVMAP_HASH: hold(kIfindexOfLo, 4); break;
      case BPF_MAP_TYPE_CPUMAP: hold(kQueueLength, 4); break;
      case BPF_MAP_TYPE_XSKMAP: other = side->open(subject.thing); break;  // in turn, else nothing changes
      case BPF_MAP_TYPE_SOCKMAP:
      case BPF_MAP_TYPE_SOCKHASH:
      case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: attr.value_size = 8; break;  // a lookup tells the cookie
      case BPF_MAP_TYPE_SK_STORAGE:
      case BPF_MAP_TYPE_TASK_STORAGE:
      case BPF_MAP_TYPE_INODE_STORAGE:
      case BPF_MAP_TYPE_CGRP_STORAGE:
        attr.btf_fd = uint32_t(load_btf());
        attr.btf_key_type_id = 1;
        attr.btf_value_type_id = 2;
        [[fallthrough]];
      case BPF_MAP_TYPE_CGROUP_STORAGE:
      case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
        only_key = std::exchange(held, -1);
        holds = false;
        attr.value_size = 8;
        break;
      case BPF_MAP_TYPE_STACK_TRACE: attr.value_size = 16 * sizeof(uint64_t); break;
      case BPF_MAP_TYPE_STRUCT_OPS: {
        attr.btf_fd = uint32_t(load_btf());
        const char* name = "bpf_struct_ops_bpf_dummy_ops";
        attr.btf_vmlinux_value_type_id = vmlinux_btf().types->find_by_name(name, BTF_KIND_STRUCT);
        attr.value_size = vmlinux_size(name);
        break;
      }
      default: break;
    }
  }

  bool fill() {
    uint32_t elements = subject.key_size ? subject.entries : subject.entries / 2;
    switch (subject.type) {
      case BPF_MAP_TYPE_RINGBUF:
      case BPF_MAP_TYPE_USER_RINGBUF:
      case BPF_MAP_TYPE_ARENA:
      case BPF_MAP_TYPE_STRUCT_OPS: return true;
      case BPF_MAP_TYPE_CGROUP_STORAGE:
      case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: return attach_in_cgroup();
      case BPF_MAP_TYPE_BLOOM_FILTER: elements = subject.entries; break;
      case BPF_MAP_TYPE_STACK_TRACE: return (only_key = side->put_trace(fd)) >= 0;
      case BPF_MAP_TYPE_SK_STORAGE:
      case BPF_MAP_TYPE_TASK_STORAGE:
      case BPF_MAP_TYPE_INODE_STORAGE:
      case BPF_MAP_TYPE_CGRP_STORAGE: elements = 1; break;
      default: break;
    }
    for (uint64_t n = 0; n < elements; ++n)
      if (elem(BPF_MAP_UPDATE_ELEM, n) < 0) return false;
    return true;
  }

  // A cgroup has a value as long as a program that uses the map is attached there, to the side's own group.
  bool attach_in_cgroup() {
    bpf_attr link;
    link.link_create.prog_fd =
        uint32_t(side->load("r1 = map[m]\nr0 = 1\nexit\n", fd, BPF_PROG_TYPE_CGROUP_SKB));
    link.link_create.target_fd = uint32_t(only_key);
    link.link_create.attach_type = BPF_CGROUP_INET_INGRESS;
    if (side->bpf(BPF_LINK_CREATE, link) < 0) return false;
    bpf_attr first;
    first.map_fd = uint32_t(fd);
    first.next_key = user(&only_key);
    return side->bpf(BPF_MAP_GET_NEXT_KEY, first) == 0;
  }

  int64_t load_btf() {  // int and u64, as type 1 and 2
    BtfBuilder types;
    types.add_int("int", 4, BTF_INT_SIGNED);
    types.add_int("u64", 8);
    const std::vector<uint8_t> bytes = types.bytes();
    bpf_attr load;
    load.btf = user(bytes.data());
    load.btf_size = uint32_t(bytes.size());
    return side->bpf(BPF_BTF_LOAD, load);
  }

  // A trie's key is a prefix length and the data.
  uint64_t key_of(uint64_t n) const {
    if (only_key >= 0) return uint64_t(only_key);
    return subject.type == BPF_MAP_TYPE_LPM_TRIE ? n << 32 | 32 : n;
  }

  int64_t elem(int cmd, uint64_t n) {
    uint64_t key = key_of(n);
    values[0] = holds ? uint64_t(held) : n;
    bpf_attr command;
    command.map_fd = uint32_t(fd);
    command.key = subject.key_size ? user(&key) : 0;
    command.value = cmd == BPF_MAP_DELETE_ELEM ? 0 : user(values);
    if (other >= 0) std::swap(held, other);
    return side->bpf(cmd, command);
  }

  std::unique_ptr<Side> side;
  const Subject& subject;
  bpf_attr attr;  // which made the map
  bool holds = false;
  int64_t fd = -1, held = -1, other = -1;  // the map; what its elements hold, and hold next
  int64_t only_key = -1;                   // where there is one key only
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
  Simulated& simulated = *side;
  Bench bench(std::move(side), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  Map& map = simulated.map(bench.fd);
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

void ring_through_table(benchmark::State& state, const Subject& subject) {
  auto side = std::make_unique<Simulated>();
  Simulated& simulated = *side;
  Bench bench(std::move(side), subject);
  if (bench.fd < 0) return state.SkipWithError("the ring could not be made");
  Machine& machine = simulated.kernel.machine();
  Map& map = simulated.map(bench.fd);
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

// Each command in turn, with the same key.
template <class On>
void through_syscall(benchmark::State& state, const Subject& subject,
                     std::initializer_list<bpf_cmd> commands) {
  Bench bench(std::make_unique<On>(), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  Keys keys(subject);
  for (auto _ : state) {
    const uint64_t n = keys.next();
    for (const bpf_cmd cmd : commands)
      if (bench.elem(cmd, n) < 0) return state.SkipWithError("a command was refused");
  }
  state.counters["ops"] = double(commands.size());
}

template <class On>
void create_and_close(benchmark::State& state, const Subject& subject) {
  Bench bench(std::make_unique<On>(), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be made");
  for (auto _ : state) {
    const int64_t fd = bench.side->bpf(BPF_MAP_CREATE, bench.attr);
    if (fd < 0) return state.SkipWithError("the map could not be made");
    bench.side->close(fd);
  }
  state.counters["ops"] = 1;
}

// A program that does the operation kRounds times. The key, in r8 and at r10 - 8, is another each time.
constexpr int kRounds = 512, kTailCalls = 33;
std::string rounds_of(const Subject& subject, const std::string& calls) {
  const bool trie = subject.type == BPF_MAP_TYPE_LPM_TRIE;
  const std::string key =
      trie ? "w1 = 32\n*(u32 *)(r10 -8) = r1\n*(u32 *)(r10 -4) = r8\n" : "*(u64 *)(r10 -8) = r8\n";
  return "call bpf_get_prandom_u32\nr7 = r0\nr6 = 0\nr1 = 0\n*(u64 *)(r10 -16) = r1\n"
         "round:\nr7 *= 1103515245\nr7 += 12345\nr8 = r7\nr8 >>= 16\nr8 &= " +
         std::to_string(subject.entries - 1) + "\n" + key + calls + "r6 += 1\nif r6 < " +
         std::to_string(kRounds) + " goto round\nr0 = 2\nexit\n";
}
const std::string kMapAnd = "r1 = map[m]\nr2 = r10\n";
const std::string kProgramLookup = kMapAnd + "r2 += -8\ncall bpf_map_lookup_elem\n";
const std::string kProgramUpdate =
    kMapAnd + "r2 += -8\nr3 = r10\nr3 += -16\nr4 = 0\ncall bpf_map_update_elem\n";
const std::string kPushAndPop =
    kMapAnd + "r2 += -16\nr3 = 0\ncall bpf_map_push_elem\n" + kMapAnd + "r2 += -16\ncall bpf_map_pop_elem\n";
const std::string kPush = kMapAnd + "r2 += -8\nr3 = 0\ncall bpf_map_push_elem\n";
const std::string kPeek = kMapAnd + "r2 += -8\ncall bpf_map_peek_elem\n";
const std::string kRedirectMap = "r1 = map[m]\nr2 = r8\nr3 = 0\ncall bpf_redirect_map\n";
const std::string kReserveSubmit =
    "r1 = map[m]\nr2 = " + std::to_string(kRecord) +
    "\nr3 = 0\ncall bpf_ringbuf_reserve\nif r0 == 0 goto full\nr1 = r0\nr2 = 1\n"  // BPF_RB_NO_WAKEUP
    "call bpf_ringbuf_submit\nfull:\n";
// Slot 0 has the program itself.
const std::string kCallsItself = "r2 = map[m]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit\n";

template <class On>
void through_program(benchmark::State& state, const Subject& subject, const std::string& text, int ops) {
  Bench bench(std::make_unique<On>(), subject);
  if (bench.fd < 0) return state.SkipWithError("the map could not be filled");
  const int64_t prog = bench.side->load(text, bench.fd);
  if (prog < 0) return state.SkipWithError("the program was refused");
  if (subject.type == BPF_MAP_TYPE_PROG_ARRAY) {
    bench.held = prog;
    if (bench.elem(BPF_MAP_UPDATE_ELEM, 0) < 0) return state.SkipWithError("the program was not taken");
  }
  uint8_t packet[64] = {};
  constexpr bool kIsLive = std::is_same_v<On, Live>;
  constexpr uint32_t kFullSpeed = kIsLive ? 1000 : 20;  // one live call waits some 20 ms, whatever it runs
  const bool ring = subject.type == BPF_MAP_TYPE_RINGBUF;
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
  state.counters["ops"] = double(kRepeat) * ops;
}

template <class Run>
void add(const Subject& subject, const std::string& op, const std::string& how, Run run) {
  auto* added = benchmark::RegisterBenchmark((subject.name + (", " + op) + ":" + how).c_str(), run);
  if (how.ends_with("program")) added->UseManualTime();
  if (how == "live program") added->Iterations(2);
  if (how == "live sys_bpf" && op != "lookup" && subject.live_rounds) added->Iterations(subject.live_rounds);
}

void add_table(const Subject& s) {
  if (s.ops & kTable) {
    add(s, "lookup", "table", [&s](auto& state) { through_table(state, s, false); });
    add(s, "update", "table", [&s](auto& state) { through_table(state, s, true); });
  }
  if (s.ops & kReserve)
    add(s, "reserve, submit", "table", [&s](auto& state) { ring_through_table(state, s); });
}

template <class On>
void add_syscalls(const Subject& s, const char* how) {
  const auto commands = [&](uint32_t op, const char* name, auto... cmds) {
    if (s.ops & op)
      add(s, name, how, [&s, cmds...](auto& state) { through_syscall<On>(state, s, {cmds...}); });
  };
  const bool bloom = s.type == BPF_MAP_TYPE_BLOOM_FILTER;
  commands(kLookup, bloom ? "peek" : "lookup", BPF_MAP_LOOKUP_ELEM);
  commands(kUpdate, bloom ? "push" : "update", BPF_MAP_UPDATE_ELEM);
  commands(kPushPop, "push, pop", BPF_MAP_UPDATE_ELEM, BPF_MAP_LOOKUP_AND_DELETE_ELEM);
  commands(kDeleteUpdate, "delete, update", BPF_MAP_DELETE_ELEM, BPF_MAP_UPDATE_ELEM);
  if (s.ops & kCreateClose)
    add(s, "create, close", how, [&s](auto& state) { create_and_close<On>(state, s); });
}

template <class On>
void add_programs(const Subject& s, const char* how) {
  const auto program = [&](uint32_t op, const char* name, const std::string& text, int ops) {
    if (s.ops & op)
      add(s, name, how, [&s, text, ops](auto& state) { through_program<On>(state, s, text, ops); });
  };
  const bool bloom = s.type == BPF_MAP_TYPE_BLOOM_FILTER;
  program(kProgLookup, bloom ? "peek" : "lookup", rounds_of(s, bloom ? kPeek : kProgramLookup), kRounds);
  program(kProgUpdate, bloom ? "push" : "update", rounds_of(s, bloom ? kPush : kProgramUpdate), kRounds);
  program(kProgPushPop, "push, pop", rounds_of(s, kPushAndPop), 2 * kRounds);
  program(kReserve, "reserve, submit", rounds_of(s, kReserveSubmit), kRounds);
  program(kRedirect, "redirect", rounds_of(s, kRedirectMap), kRounds);
  program(kTailCall, "tail call", kCallsItself, kTailCalls);
}

void list(std::string& names, const char* name) { names += (names.empty() ? "" : ", ") + std::string(name); }

// Of the whole table of types, so that none is forgotten in silence.
std::string types_without_row() {
  std::string names;
  for (const MapTypeRow& type : map_types())
    if (std::ranges::none_of(kSubjects, [&](const Subject& s) { return s.type == type.number; }))
      list(names, type.name);
  return names;
}
std::string not_asked_live() {
  std::string names;
  for (const Subject& s : kSubjects)
    if (!s.live) list(names, s.name);
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  for (const Subject& s : kSubjects) {
    add_table(s);
    add_syscalls<Simulated>(s, "sys_bpf");
    add_programs<Simulated>(s, "program");
    if (!s.live || !live::permitted()) continue;
    add_syscalls<Live>(s, "live sys_bpf");
    add_programs<Live>(s, "live program");
  }
  benchmark::AddCustomContext("types without a row", types_without_row());
  benchmark::AddCustomContext("not asked live", not_asked_live());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
