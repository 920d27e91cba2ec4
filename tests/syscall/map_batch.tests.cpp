// The batch commands: tokens, partial counts, what an error leaves behind, and from which version each type
// has them. tests/agree compares the same commands with a live kernel.
#include <set>

#include "sim.h"

using namespace bpfsim;

namespace {

struct BatchSim : Sim {
  using Sim::Sim;
  uint32_t count = 0;  // of the last batch, as the kernel left it

  long batch(int cmd, long fd, const void* in, void* out, const void* keys, const void* values, uint32_t want,
             uint64_t elem_flags = 0) {
    bpf_attr attr;
    attr.batch = {user_ptr(in), user_ptr(out), user_ptr(keys), user_ptr(values),
                  want,         uint32_t(fd),  elem_flags,     0};
    const long ret = bpf(cmd, attr);
    count = attr.batch.count;
    return ret;
  }
};

MachineOptions version(const char* text) {
  MachineOptions options;
  options.version = *Version::parse(text);
  return options;
}

}  // namespace

TEST_CASE("A walk in batches through a hash meets every element once and ends with ENOENT") {
  for (uint32_t size : {4u, 7u, 64u, 100u}) {
    BatchSim s;
    const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 8, 100);
    uint32_t keys[100];
    uint64_t values[100];
    for (uint32_t i = 0; i < 100; ++i) keys[i] = i, values[i] = i * 3;
    REQUIRE(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, keys, values, 100) == 0);
    CHECK(s.count == 100);
    std::multiset<uint32_t> met;
    uint32_t token = 0, room = size;
    long ret = 0;
    for (bool first = true; ret == 0; first = false) {
      ret = s.batch(BPF_MAP_LOOKUP_BATCH, fd, first ? nullptr : &token, &token, keys, values, room);
      if (ret == -28) {  // a bucket with more elements than that
        ret = 0, room *= 2;
        REQUIRE(room < 200);
        continue;
      }
      for (uint32_t i = 0; i < s.count; ++i) {
        met.insert(keys[i]);
        CHECK(values[i] == keys[i] * 3ull);
      }
    }
    CHECK(ret == -2);
    CHECK(met.size() == 100);
    CHECK(std::set<uint32_t>(met.begin(), met.end()).size() == 100);
    token = 1u << 20;
    CHECK(s.batch(BPF_MAP_LOOKUP_BATCH, fd, &token, &token, keys, values, 5) == -2);
  }
}

TEST_CASE("A batch stops at the first refusal, and count tells how far it came") {
  BatchSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 8, 3);
  uint32_t keys[] = {1, 2, 3, 4};
  uint64_t values[] = {10, 20, 30, 40};
  CHECK(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, keys, values, 4) == -7);
  CHECK(s.count == 3);
  uint32_t gone[] = {1, 9, 2};
  CHECK(s.batch(BPF_MAP_DELETE_BATCH, fd, nullptr, nullptr, gone, nullptr, 3) == -2);
  CHECK(s.count == 1);
  CHECK(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, keys, reinterpret_cast<void*>(16), 1) == -14);
  CHECK(s.count == 0);
  CHECK(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, keys, values, 1, BPF_NOEXIST) == -22);
  CHECK(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, keys, values, 1, BPF_F_LOCK) == -22);
}

TEST_CASE("What LOOKUP_AND_DELETE_BATCH takes from a hash of maps loses its references") {
  BatchSim s;
  const long inner = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  bpf_attr attr;
  attr.map_type = BPF_MAP_TYPE_HASH_OF_MAPS, attr.key_size = 4, attr.value_size = 4, attr.max_entries = 4;
  attr.inner_map_fd = uint32_t(inner);
  const long fd = s.bpf(BPF_MAP_CREATE, attr);
  uint32_t keys[] = {1, 2}, token, ids[4];
  uint32_t fds[] = {uint32_t(inner), uint32_t(inner)};
  REQUIRE(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, keys, fds, 2) == 0);
  CHECK(s.map(inner).refcnt.value() == 3);
  CHECK(s.batch(BPF_MAP_LOOKUP_AND_DELETE_BATCH, fd, nullptr, &token, keys, ids, 4) == -2);
  CHECK(s.count == 2);
  CHECK(ids[0] == s.map(inner).id);
  CHECK(s.map(inner).refcnt.value() == 1);
}

TEST_CASE("Which kernels have the batch commands, and for which types") {
  struct {
    const char* version;
    bpf_map_type type;
    uint32_t key_size, flags;
    long expected;
  } cases[] = {
      {"5.5", BPF_MAP_TYPE_HASH, 4, 0, -22},
      {"5.6", BPF_MAP_TYPE_HASH, 4, 0, 0},
      {"5.6", BPF_MAP_TYPE_ARRAY, 4, 0, 0},
      {"5.12", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 0, -524},
      {"5.13", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 0, 0},
      {"5.12", BPF_MAP_TYPE_LPM_TRIE, 8, BPF_F_NO_PREALLOC, -524},
      {"6.18", BPF_MAP_TYPE_LPM_TRIE, 8, BPF_F_NO_PREALLOC, 0},
      {"6.18", BPF_MAP_TYPE_QUEUE, 0, 0, -524},
  };
  for (const auto& c : cases) {
    INFO(c.version << " type " << c.type);
    BatchSim s(version(c.version));
    const long fd = s.map_create(c.type, c.key_size, 8, 4, c.flags);
    REQUIRE(fd >= 0);
    uint64_t key = 0, values[8] = {};
    CHECK(s.batch(BPF_MAP_UPDATE_BATCH, fd, nullptr, nullptr, &key, values, 1) == c.expected);
  }
}

// One line for each check of Linux 6.1 (its generic_map_*_batch, bpf_map_do_batch and the hash's own), less
// those for a kernel without memory.
TEST_CASE("The batch commands of 6.1 refuse what each of its checks refuses") {
  constexpr int L = BPF_MAP_LOOKUP_BATCH, T = BPF_MAP_LOOKUP_AND_DELETE_BATCH, U = BPF_MAP_UPDATE_BATCH,
                D = BPF_MAP_DELETE_BATCH;
  constexpr bpf_map_type A = BPF_MAP_TYPE_ARRAY, H = BPF_MAP_TYPE_HASH;
  uint32_t keys[4] = {}, token = 0, high = 99;
  uint64_t values[4] = {};
  const uint64_t k = user_ptr(keys), v = user_ptr(values), out = user_ptr(&token), nowhere = 16;
  struct {
    const char* what;
    int cmd;
    bpf_map_type type;
    uint32_t map_flags;
    decltype(bpf_attr::batch) batch;  // map_fd is filled in
    long expected;
  } cases[] = {
      {"elem_flags of a deletion", D, H, 0, {0, 0, k, 0, 1, 0, BPF_EXIST, 0}, -22},
      {"BPF_F_LOCK of a deletion", D, H, 0, {0, 0, k, 0, 1, 0, BPF_F_LOCK, 0}, -22},
      {"key of a deletion", D, H, 0, {0, 0, nowhere, 0, 1, 0, 0, 0}, -14},
      {"elem_flags of an update", U, A, 0, {0, 0, k, v, 1, 0, BPF_NOEXIST, 0}, -22},
      {"BPF_F_LOCK of an update", U, A, 0, {0, 0, k, v, 1, 0, BPF_F_LOCK, 0}, -22},
      {"key of an update", U, A, 0, {0, 0, nowhere, v, 1, 0, 0, 0}, -14},
      {"value of an update", U, A, 0, {0, 0, k, nowhere, 1, 0, 0, 0}, -14},
      {"elem_flags of a lookup", L, A, 0, {0, out, k, v, 1, 0, BPF_EXIST, 0}, -22},
      {"BPF_F_LOCK of a lookup", L, A, 0, {0, out, k, v, 1, 0, BPF_F_LOCK, 0}, -22},
      {"in_batch of a lookup", L, A, 0, {nowhere, out, k, v, 1, 0, 0, 0}, -14},
      {"keys of a lookup", L, A, 0, {0, out, nowhere, v, 1, 0, 0, 0}, -14},
      {"values of a lookup", L, A, 0, {0, out, k, nowhere, 1, 0, 0, 0}, -14},
      {"out_batch of a lookup", L, A, 0, {0, nowhere, k, v, 1, 0, 0, 0}, -14},
      {"a write-only descriptor", L, A, BPF_F_WRONLY, {0, out, k, v, 1, 0, 0, 0}, -1},
      {"a read-only descriptor", U, A, BPF_F_RDONLY, {0, out, k, v, 1, 0, 0, 0}, -1},
      {"no such command for an array", T, A, 0, {0, out, k, v, 1, 0, 0, 0}, -524},
      {"elem_flags of a hash", L, H, 0, {0, out, k, v, 1, 0, BPF_EXIST, 0}, -22},
      {"BPF_F_LOCK of a hash", T, H, 0, {0, out, k, v, 1, 0, BPF_F_LOCK, 0}, -22},
      {"flags of a hash", L, H, 0, {0, out, k, v, 1, 0, 0, 1}, -22},
      {"in_batch of a hash", L, H, 0, {nowhere, out, k, v, 1, 0, 0, 0}, -14},
      {"no such bucket", L, H, 0, {user_ptr(&high), out, k, v, 1, 0, 0, 0}, -2},
      {"keys of a hash", L, H, 0, {0, out, nowhere, v, 4, 0, 0, 0}, -14},
      {"values of a hash", T, H, 0, {0, out, k, nowhere, 4, 0, 0, 0}, -14},
      {"out_batch of a hash", L, H, 0, {0, nowhere, k, v, 4, 0, 0, 0}, -14},
      {"the last bucket", L, H, 0, {0, out, k, v, 4, 0, 0, 0}, -2},
      {"nothing wanted", L, H, 0, {0, 0, 0, 0, 0, 0, 0, 0}, 0},
  };
  for (const auto& c : cases) {
    INFO(c.what);
    BatchSim s(version("6.1"));
    const long fd = s.map_create(c.type, 4, 8, 4, c.map_flags);
    uint32_t key = 1;
    uint64_t value = 1;
    if (!c.map_flags) REQUIRE(s.map_update(fd, &key, &value) == 0);
    bpf_attr attr;
    attr.batch = c.batch;
    attr.batch.map_fd = uint32_t(fd);
    CHECK(s.bpf(c.cmd, attr) == c.expected);
  }
}
