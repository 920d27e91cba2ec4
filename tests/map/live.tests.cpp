// The live 6.18 kernel judges: the same bpf(2) commands go to it and to the simulator, and every answer,
// value and key must be the same.
#include <array>
#include <random>

#include "kernel.h"
#include "live_bpf.h"
#include "map/view.h"
#include "object/file.h"
#include "support.h"

#ifdef __linux__
#include <sched.h>
#endif

using namespace bpfsim;

namespace {

// LRU lists are per CPU: the live side must stay on the CPU that the simulated task has.
struct OnCpu0 {
#ifdef __linux__
  cpu_set_t before;
  OnCpu0() {
    sched_getaffinity(0, sizeof before, &before);
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
  }
  ~OnCpu0() { sched_setaffinity(0, sizeof before, &before); }
#endif
};

uint64_t user(const void* p) { return reinterpret_cast<uintptr_t>(p); }

struct Both {
  Both() : k(options()), t(k.spawn("test")) {}
  ~Both() {
    for (long fd : live_fds) live::close_fd(fd);
  }
  static MachineOptions options() {
    MachineOptions options;
    options.cpus = live_cpus();
    return options;
  }
  static uint32_t live_cpus() {
#ifdef __linux__
    return uint32_t(sysconf(_SC_NPROCESSORS_CONF));
#else
    return 1;
#endif
  }

  // An inner map is an index into what this created before, or -1. Returns the index, or -errno.
  int create(const MapParams& params, int inner = -1) {
    bpf_attr attr;
    attr.map_type = params.type;
    attr.key_size = params.key_size;
    attr.value_size = params.value_size;
    attr.max_entries = params.max_entries;
    attr.map_flags = params.flags;
    attr.map_extra = params.extra;
    bpf_attr sim_attr = attr, live_attr = attr;
    if (inner >= 0) {
      sim_attr.inner_map_fd = uint32_t(sim_fds[size_t(inner)]);
      live_attr.inner_map_fd = uint32_t(live_fds[size_t(inner)]);
    }
    long want = live::sys_bpf(BPF_MAP_CREATE, &live_attr, sizeof live_attr);
    long got = k.sys_bpf(t, BPF_MAP_CREATE, user(&sim_attr), sizeof sim_attr);
    INFO("simulator: " << k.last_refusal().reason());
    CHECK((got < 0 ? got : 0) == (want < 0 ? want : 0));
    if (want < 0) return int(want);
    REQUIRE(got >= 0);
    live_fds.push_back(want);
    sim_fds.push_back(got);
    return int(live_fds.size()) - 1;
  }

  // One command on both; null stands for a null pointer. `fd_value`: the value is a map of ours.
  long run(int cmd, int map, const RawBytes* key, RawBytes* value, uint64_t flags, int fd_value = -1) {
    RawBytes other = value ? *value : RawBytes{};
    auto one = [&](bool sim, RawBytes* buffer) {
      bpf_attr attr;
      attr.map_fd = uint32_t(sim ? sim_fds[size_t(map)] : live_fds[size_t(map)]);
      attr.key = key ? user(key->data()) : 0;
      attr.value = buffer ? user(buffer->data()) : 0;
      attr.flags = flags;
      if (fd_value >= 0) {
        uint32_t fd = uint32_t(sim ? sim_fds[size_t(fd_value)] : live_fds[size_t(fd_value)]);
        std::memcpy(buffer->data(), &fd, sizeof fd);
      }
      return sim ? long(k.sys_bpf(t, cmd, user(&attr), sizeof attr)) : live::sys_bpf(cmd, &attr, sizeof attr);
    };
    long want = one(false, value ? &other : nullptr), got = one(true, value);
    if (got != want) UNSCOPED_INFO("simulator: " << k.last_refusal().reason());
    if (got != want || (value && want == 0 && fd_value < 0 && compare_values && other != *value)) {
      INFO("cmd " << cmd << " flags " << flags);
      CHECK(got == want);
      if (value) CHECK(other == *value);
      ++differences;
    }
    return got;
  }

  // Both tasks go on from another CPU.
  void move_to(uint32_t cpu) {
#ifdef __linux__
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0) t.cpu = cpu;
#endif
  }

  Kernel k;
  Task& t;
  std::vector<long> live_fds, sim_fds;
  bool compare_values = true;
  int differences = 0;
};

struct Walk {
  const char* what;
  MapParams params;
  uint32_t keys;  // how many different ones
};

RawBytes key_of(const MapParams& params, uint32_t n) {
  RawBytes key(params.key_size);
  if (params.type == BPF_MAP_TYPE_LPM_TRIE) {
    std::mt19937 bits(n);
    uint32_t prefixlen = bits() % (8 * (params.key_size - 4) + 2);  // one too long now and then
    std::memcpy(key.data(), &prefixlen, 4);
    for (size_t i = 4; i < key.size(); ++i) key[i] = uint8_t(bits() & 0x83);
  } else {
    for (size_t i = 0; i < key.size(); ++i) key[i] = i < 4 ? uint8_t(n >> (8 * i)) : uint8_t(n * i);
  }
  return key;
}

// The whole walk over the keys, compared step by step.
void walk_keys(Both& both, int map, const MapParams& params) {
  RawBytes key(params.key_size), next(params.key_size);
  const RawBytes* at = nullptr;
  for (int step = 0; step < 5000; ++step) {
    if (both.run(BPF_MAP_GET_NEXT_KEY, map, at, &next, 0) != 0) return;
    key = next;
    at = &key;
  }
}

void check_walk(const Walk& walk, uint32_t seed, int steps, bool on_all_cpus = false) {
  INFO(walk.what << ", type " << walk.params.type << ", " << walk.params.max_entries << " entries, flags "
                 << walk.params.flags << ", seed " << seed);
  Both both;
  int map = both.create(walk.params);
  REQUIRE(map >= 0);
  if (on_all_cpus)
    both.move_to(0);  // the walk before this one left the process, but not this task, elsewhere
  std::mt19937 random(seed);
  size_t value_size = is_percpu_map(walk.params.type)
                          ? (walk.params.value_size + 7) / 8 * 8 * both.k.machine().cpus
                          : walk.params.value_size;
  for (int step = 0; step < steps && both.differences == 0; ++step) {
    RawBytes key = key_of(walk.params, random() % walk.keys), value(value_size);
    const RawBytes* key_pointer = walk.params.key_size ? &key : nullptr;
    if (on_all_cpus && random() % 6 == 0) both.move_to(uint32_t(random()) % both.k.machine().cpus);
    uint32_t what = random() % 100;
    if (what < 55) {
      for (uint8_t& byte : value) byte = uint8_t(random());
      static constexpr uint64_t kFlags[] = {0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 8};
      both.run(BPF_MAP_UPDATE_ELEM, map, key_pointer, &value, kFlags[random() % std::size(kFlags)]);
    } else if (what < 75) {
      both.run(BPF_MAP_LOOKUP_ELEM, map, key_pointer, &value, 0);
    } else if (what < 90) {
      both.run(BPF_MAP_DELETE_ELEM, map, key_pointer, nullptr, 0);
    } else if (what < 97) {
      both.run(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, key_pointer, &value, 0);
    } else if (walk.params.key_size) {
      walk_keys(both, map, walk.params);
    }
  }
  CHECK(both.differences == 0);
}

}  // namespace

TEST_CASE("Any sequence of commands on a map is answered as by the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  OnCpu0 on_cpu_0;
  constexpr uint32_t Z = BPF_F_ZERO_SEED, N = BPF_F_NO_PREALLOC, C = BPF_F_NO_COMMON_LRU;
  const Walk walks[] = {
      {"array", {BPF_MAP_TYPE_ARRAY, 4, 5, 7}, 9},
      {"per-CPU array", {BPF_MAP_TYPE_PERCPU_ARRAY, 4, 5, 7}, 9},
      {"hash", {BPF_MAP_TYPE_HASH, 4, 5, 20, Z}, 30},
      {"hash of odd keys", {BPF_MAP_TYPE_HASH, 7, 9, 33, Z}, 50},
      {"hash without preallocation", {BPF_MAP_TYPE_HASH, 8, 4, 20, Z | N}, 30},
      {"hash of one", {BPF_MAP_TYPE_HASH, 4, 4, 1, Z}, 3},
      {"per-CPU hash", {BPF_MAP_TYPE_PERCPU_HASH, 4, 5, 20, Z}, 30},
      {"per-CPU hash without preallocation", {BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 20, Z | N}, 30},
      {"LRU hash", {BPF_MAP_TYPE_LRU_HASH, 4, 4, 20, Z}, 40},
      {"small LRU hash", {BPF_MAP_TYPE_LRU_HASH, 4, 4, 3, Z}, 6},
      {"large LRU hash", {BPF_MAP_TYPE_LRU_HASH, 4, 4, 700, Z}, 1000},
      {"LRU hash with lists for each CPU", {BPF_MAP_TYPE_LRU_HASH, 4, 4, 21, Z | C}, 40},
      {"LRU per-CPU hash", {BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 4, 20, Z}, 40},
      {"LRU per-CPU hash with lists for each CPU", {BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 4, 30, Z | C}, 40},
      {"queue", {BPF_MAP_TYPE_QUEUE, 0, 5, 6}, 1},
      {"stack", {BPF_MAP_TYPE_STACK, 0, 5, 6}, 1},
      {"bloom filter", {BPF_MAP_TYPE_BLOOM_FILTER, 0, 1, 20, Z}, 1},
      {"bloom filter of three hashes", {BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, 3, Z, 3}, 1},
      {"trie", {BPF_MAP_TYPE_LPM_TRIE, 8, 4, 40, N}, 80},
      {"trie of one byte", {BPF_MAP_TYPE_LPM_TRIE, 5, 4, 10, N}, 60},
      {"trie of IPv6", {BPF_MAP_TYPE_LPM_TRIE, 20, 9, 100, N}, 200},
  };
  for (const Walk& walk : walks)
    for (uint32_t seed = 1; seed <= 3; ++seed) check_walk(walk, seed, walk.keys > 500 ? 6000 : 1500);
}

TEST_CASE("LRU hashes that several CPUs use evict as on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  OnCpu0 on_cpu_0;
  constexpr uint32_t Z = BPF_F_ZERO_SEED, C = BPF_F_NO_COMMON_LRU;
  for (uint32_t flags : {Z, Z | C})
    for (uint32_t size : {1u, 3u, 20u, 64u, 700u}) {
      for (bpf_map_type type : {BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH}) {
        const Walk walk = {"LRU hash from all CPUs", {type, 4, 4, size, flags}, size * 2};
        for (uint32_t seed = 1; seed <= 2; ++seed) check_walk(walk, seed, size > 500 ? 6000 : 1500, true);
      }
    }
}

TEST_CASE("Maps are created, or refused, as by the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  constexpr bpf_map_type types[] = {
      BPF_MAP_TYPE_ARRAY,       BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_HASH,
      BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_HASH,     BPF_MAP_TYPE_LRU_PERCPU_HASH,
      BPF_MAP_TYPE_LPM_TRIE,    BPF_MAP_TYPE_QUEUE,        BPF_MAP_TYPE_PROG_ARRAY,
      BPF_MAP_TYPE_STACK,       BPF_MAP_TYPE_BLOOM_FILTER,
  };
  constexpr uint32_t key_sizes[] = {0, 1, 4, 5, 8, 260, 261}, max_entries[] = {0, 1, 3};
  constexpr uint32_t value_sizes[] = {0,
                                      1,
                                      4,
                                      8,
                                      32761,
                                      32768,
                                      32769,
                                      32776,
                                      4u << 20,
                                      (4u << 20) + 1,
                                      (4u << 20) - 48 - 4 - 1,
                                      (4u << 20) - 48 - 4,
                                      (4u << 20) - 256 - 24,
                                      (4u << 20) - 256 - 23,
                                      1u << 31};
  Both both;
  for (bpf_map_type type : types) {
    uint32_t preset = type == BPF_MAP_TYPE_LPM_TRIE ? BPF_F_NO_PREALLOC : 0;
    uint32_t key =
        type == BPF_MAP_TYPE_LPM_TRIE                                                                   ? 8
        : type == BPF_MAP_TYPE_QUEUE || type == BPF_MAP_TYPE_STACK || type == BPF_MAP_TYPE_BLOOM_FILTER ? 0
                                                                                                        : 4;
    auto check = [&](const MapParams& params) {
      INFO("type " << type << " key " << params.key_size << " value " << params.value_size << " max "
                   << params.max_entries << " flags " << params.flags << " extra " << params.extra);
      both.create(params);
      for (long fd : both.live_fds) live::close_fd(fd);
      for (long fd : both.sim_fds) REQUIRE(both.k.close(both.t, int(fd)));
      both.live_fds.clear();
      both.sim_fds.clear();
    };
    for (uint32_t key_size : key_sizes)
      for (uint32_t max : max_entries) check({type, key_size, 4, max, preset});
    for (uint32_t value_size : value_sizes) check({type, key, value_size, 1, preset});
    for (uint32_t bit = 0; bit < 32; ++bit) check({type, key, 4, 2, preset ^ (1u << bit)});
    check({type, key, 4, 2, preset | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG});
    check({type, key, 4, 2, preset | BPF_F_RDONLY | BPF_F_WRONLY});
    check({type, key, 4, 2, preset | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE});
    check({type, key, 4, 2, preset | BPF_F_NO_COMMON_LRU | BPF_F_NO_PREALLOC});
    for (uint64_t extra : {1, 15, 16}) check({type, key, 4, 2, preset, extra});
  }
}

TEST_CASE("Ring buffers are created, or refused, as by the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
  for (bpf_map_type type : {BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_USER_RINGBUF}) {
    for (uint32_t size : {0u, 1u, 1024u, 4096u, 8192u, 12288u, 65536u}) {
      INFO("type " << type << " size " << size);
      both.create({type, 0, 0, size});
    }
    for (uint32_t key_size : {0u, 4u})
      for (uint32_t value_size : {0u, 4u}) both.create({type, key_size, value_size, 4096});
    for (uint32_t bit = 0; bit < 32; ++bit) {
      INFO("type " << type << " flag bit " << bit);
      both.create({type, 0, 0, 4096, 1u << bit});
    }
    int map = both.create({type, 0, 0, 4096});
    REQUIRE(map >= 0);
    RawBytes none;
    for (int cmd : {BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                    BPF_MAP_LOOKUP_AND_DELETE_ELEM}) {
      both.run(cmd, map, nullptr, cmd == BPF_MAP_DELETE_ELEM ? nullptr : &none, 0);
      RawBytes key(4);
      both.run(cmd, map, &key, cmd == BPF_MAP_DELETE_ELEM ? nullptr : &none, 0);
    }
  }
}

TEST_CASE("Maps of maps take and refuse inner maps as the live kernel does") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
  both.compare_values = false;  // ids differ
  int inner = both.create({BPF_MAP_TYPE_ARRAY, 4, 4, 2});
  int longer = both.create({BPF_MAP_TYPE_ARRAY, 4, 4, 3});
  int hash = both.create({BPF_MAP_TYPE_HASH, 4, 4, 2});
  int longer_hash = both.create({BPF_MAP_TYPE_HASH, 4, 4, 3});
  int progs = both.create({BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2});
  int queue = both.create({BPF_MAP_TYPE_QUEUE, 0, 4, 2});
  int trie = both.create({BPF_MAP_TYPE_LPM_TRIE, 8, 4, 2, BPF_F_NO_PREALLOC});
  for (bpf_map_type type : {BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS}) {
    std::vector<int> outers;
    for (int of : {inner, hash, progs, queue, trie}) {
      INFO("type " << type << " of map " << of);
      int outer = both.create({type, 4, 4, 2}, of);
      if (outer >= 0) outers.push_back(outer);
    }
    REQUIRE(outers.size() == 4);
    CHECK(both.create({type, 4, 4, 2}, outers[0]) == -22);  // one level only
    for (uint32_t value_size : {0, 4, 8}) both.create({type, 4, value_size, 2}, inner);
    for (uint32_t bit = 0; bit < 32; ++bit) both.create({type, 4, 4, 2, 1u << bit}, inner);
    for (int outer : outers)
      for (int value : {inner, longer, hash, longer_hash, progs, queue, trie})
        for (uint32_t key : {0u, 1u, 2u, 7u})
          for (uint64_t flags : {0, 2, 1, 3, 4}) {
            INFO("type " << type << " outer " << outer << " inner " << value << " key " << key << " flags "
                         << flags);
            RawBytes key_bytes = bytes_of(&key, 4), bytes(4);
            both.run(BPF_MAP_UPDATE_ELEM, outer, &key_bytes, &bytes, flags, value);
            both.run(BPF_MAP_LOOKUP_ELEM, outer, &key_bytes, &bytes, 0);
            if (flags == 3) both.run(BPF_MAP_DELETE_ELEM, outer, &key_bytes, nullptr, 0);
            both.run(BPF_MAP_LOOKUP_AND_DELETE_ELEM, outer, &key_bytes, &bytes, 0);
          }
  }
}
