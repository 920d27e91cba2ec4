// mmap(2): what it refuses, what it holds, and what is seen through it. tests/agree asks a live kernel the
// same.
#include "object/mmap.h"

#include "map/map_types.h"
#include "object/ops.h"
#include "sim.h"

using namespace bpfsim;

namespace {

constexpr uint32_t kRead = PROT_READ_, kBoth = PROT_READ_ | PROT_WRITE_;

struct MmapSim : Sim {
  Result<uint64_t> mapped(long fd, uint64_t length, uint32_t prot = kBoth, uint64_t offset = 0,
                          uint32_t flags = MAP_SHARED_) {
    Result<uint64_t> at = k.mmap(t, int(fd), length, prot, flags, offset);
    CHECK(object_graph(k.machine()).disagreements().empty());
    return at;
  }
  template <class T>
  T load(uint64_t addr, Task* task = nullptr) {
    T value{};
    REQUIRE(k.user_load(task ? *task : t, addr, &value, sizeof value));
    return value;
  }
  template <class T>
  Errno store(uint64_t addr, T value) {
    return k.user_store(t, addr, &value, sizeof value).err();
  }
  std::vector<std::string> holders_of(long fd) {
    std::vector<std::string> via;
    t.each_held([&](const Held& held) {
      if (held.object == t.files.get(int(fd))) via.push_back(held.via);
    });
    return via;
  }
};

}  // namespace

TEST_CASE("What user space stores in a mapped array, a lookup reads, and the other way round") {
  MmapSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1000, BPF_F_MMAPABLE, "counts");
  const uint64_t at = *s.mapped(fd, 8000);
  uint32_t key = 7;
  uint64_t value = 0x1122334455667788;
  CHECK(s.map_update(fd, &key, &value) == 0);
  CHECK(s.load<uint64_t>(at + 56) == value);
  CHECK(s.store<uint64_t>(at + 56, 5) == Errno::None);
  CHECK(s.map_lookup(fd, &key, &value) == 0);
  CHECK(value == 5);
  // A pointer of bpf(2) may point there too.
  CHECK(s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, reinterpret_cast<void*>(uintptr_t(at + 80))) == 0);
  CHECK(s.load<uint64_t>(at + 80) == 5);
  CHECK(s.elem(BPF_MAP_UPDATE_ELEM, fd, &key, reinterpret_cast<void*>(uintptr_t(at + 8188))) == -14);
  CHECK(s.load<uint32_t>(at + 8188) == 0);
  CHECK(s.store<uint64_t>(at + 8188, 1) == Errno::Fault);
}

TEST_CASE("A mapping holds the map until munmap, exit, or the child's exit") {
  MmapSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE, "kept");
  const uint64_t at = *s.mapped(fd, 4096);
  CHECK(s.holders_of(fd) == std::vector<std::string>{"fd 3", "mmap of map 1 (kept)"});
  Task& child = s.k.fork(s.t);
  CHECK(s.close(fd) == 0);
  CHECK(s.k.close(child, int(fd)));
  CHECK(s.store<uint32_t>(at, 42) == Errno::None);
  CHECK(s.load<uint32_t>(at, &child) == 42);
  CHECK(s.k.munmap(s.t, at, 4096));
  uint32_t value;
  CHECK(s.k.user_load(s.t, at, &value, 4).err() == Errno::Fault);
  CHECK(s.load<uint32_t>(at, &child) == 42);
  CHECK(s.alive().size() == 2);  // the file and the map
  s.k.exit(child);
  CHECK(s.k.user_load(child, at, &value, 4).err() == Errno::Fault);
  CHECK(s.alive().empty());
  CHECK(s.machine().arena.live_objects() == 0);
}

TEST_CASE("Writable pages keep a map from being frozen; cut in the middle, each part does") {
  MmapSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 2048, BPF_F_MMAPABLE);
  const uint64_t at = *s.mapped(fd, 4 * kPageSize);
  REQUIRE(s.mapped(fd, kPageSize, kRead));
  CHECK(s.map(fd).writecnt == 1);
  CHECK(s.k.munmap(s.t, at + kPageSize, 1));
  CHECK(s.map(fd).writecnt == 2);
  CHECK(s.t.mappings.size() == 3);
  CHECK(s.map_freeze(fd) == -16);
  CHECK(s.store<uint8_t>(at, 1) == Errno::None);
  CHECK(s.store<uint8_t>(at + kPageSize, 1) == Errno::Fault);
  CHECK(s.store<uint8_t>(at + 2 * kPageSize, 1) == Errno::None);
  CHECK(s.k.munmap(s.t, at, 4 * kPageSize));
  CHECK(s.map_freeze(fd) == 0);
  CHECK(s.mapped(fd, kPageSize).err() == Errno::Perm);
  CHECK(s.mapped(fd, kPageSize, kRead));
}

TEST_CASE("An arena's pages go as a whole, and no child gets them") {
  MmapSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARENA, 0, 0, 3, BPF_F_MMAPABLE);
  const uint64_t at = *s.mapped(fd, 3 * kPageSize);
  Task& child = s.k.fork(s.t);
  CHECK(child.mappings.empty());
  for (uint64_t page : {0, 1, 2})
    CHECK(s.k.munmap(s.t, at + page * kPageSize, kPageSize).err() == Errno::Inval);
  CHECK(s.store<uint32_t>(at, 42) == Errno::None);
  CHECK(s.k.munmap(s.t, at, 3 * kPageSize));
  CHECK(s.t.mappings.empty());
}

TEST_CASE("mmap refuses with the kernel's errnos") {
  MmapSim s;
  const long array = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 600, BPF_F_MMAPABLE);
  const long plain = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 600);
  const long hash = s.map_create(BPF_MAP_TYPE_HASH, 4, 8, 4);
  const long rdonly = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE | BPF_F_RDONLY);
  const long wronly = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE | BPF_F_WRONLY);
  const long constant = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE | BPF_F_RDONLY_PROG);
  const long ring = s.map_create(BPF_MAP_TYPE_RINGBUF, 0, 0, 8192);
  const long user_ring = s.map_create(BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 8192);
  const long prog =
      s.prog_load(BPF_PROG_TYPE_SOCKET_FILTER, {{0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}}, "filter");
  struct {
    long fd;
    uint64_t length;
    uint32_t prot, flags;
    uint64_t offset;
    Errno expected;
  } cases[] = {
      {array, 8192, kBoth, MAP_SHARED_, 0, Errno::None},
      {array, 8192, kBoth, MAP_SHARED_, 4096, Errno::Inval},
      {array, 12288, kRead, MAP_SHARED_, 0, Errno::Inval},
      {array, 4096, kRead, MAP_PRIVATE_, 0, Errno::Inval},
      {array, 4096, PROT_EXEC_, MAP_SHARED_, 0, Errno::Perm},
      {array, 0, kRead, MAP_SHARED_, 0, Errno::Inval},
      {array, 4096, kRead, MAP_SHARED_, 100, Errno::Inval},
      {array, 4096, kRead, 0, 0, Errno::Inval},
      {array, UINT64_MAX, kRead, MAP_SHARED_, 0, Errno::NoMem},
      {array, 4096, kRead, MAP_SHARED_, 0 - kPageSize, Errno::Overflow},
      {array, 4096, kRead, MAP_SHARED_VALIDATE_ | 1u << 21, 0, Errno::OpNotSupp},
      {plain, 4096, kRead, MAP_SHARED_, 0, Errno::Inval},
      {hash, 4096, kRead, MAP_SHARED_, 0, Errno::NotSupp},
      {rdonly, 4096, kBoth, MAP_SHARED_, 0, Errno::Access},
      {rdonly, 4096, kRead, MAP_SHARED_, 0, Errno::Inval},
      {wronly, 4096, kRead, MAP_SHARED_, 0, Errno::Access},
      {constant, 4096, kBoth, MAP_SHARED_, 0, Errno::Access},
      {constant, 4096, kRead, MAP_SHARED_, 0, Errno::None},
      {ring, 4096, kBoth, MAP_SHARED_, 0, Errno::None},
      {ring, 8192, kBoth, MAP_SHARED_, 0, Errno::Perm},
      {ring, 4096, kBoth, MAP_SHARED_, 4096, Errno::Perm},
      {ring, 18 * 1024, kRead, MAP_SHARED_, 4096, Errno::None},
      {ring, 6 * 4096, kRead, MAP_SHARED_, 4096, Errno::Inval},
      {user_ring, 4096, kBoth, MAP_SHARED_, 0, Errno::Perm},
      {user_ring, 4096, kRead, MAP_SHARED_, 0, Errno::None},
      {user_ring, 5 * 4096, kBoth, MAP_SHARED_, 4096, Errno::None},
      {prog, 4096, kRead, MAP_SHARED_, 0, Errno::NoDev},
      {99, 4096, kRead, MAP_SHARED_, 0, Errno::BadF},
  };
  for (const auto& c : cases) {
    INFO("fd " << c.fd << " length " << c.length << " prot " << c.prot << " offset " << c.offset);
    CHECK(errno_name(s.mapped(c.fd, c.length, c.prot, c.offset, c.flags).err()) ==
          std::string(errno_name(c.expected)));
  }
  CHECK(s.k.munmap(s.t, 4097, 4096).err() == Errno::Inval);
  CHECK(s.k.munmap(s.t, 4096, 0).err() == Errno::Inval);
  CHECK(s.k.munmap(s.t, 4096, 4096));
}

TEST_CASE("User space reads a ring's records, also the one that runs over the end, in either half") {
  MmapSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096);
  const uint64_t consumer = *s.mapped(fd, 4096), rest = *s.mapped(fd, 4096 + 8192, kRead, 4096);
  const uint64_t data = rest + 4096;
  Machine& machine = s.machine();
  Map& map = s.map(fd);
  uint64_t read = 0;
  for (uint32_t record = 0; record < 40; ++record) {
    const Addr sample = map.ops->ringbuf_reserve(map, 1000);
    REQUIRE(sample);
    CHECK((s.load<uint32_t>(data + read % 4096) & BPF_RINGBUF_BUSY_BIT) != 0);
    std::memset(machine.arena.host(sample), int(record + 1), 1000);
    machine.calls->ringbuf_commit(machine, sample, 0, false);
    CHECK(s.load<uint64_t>(rest) == read + 1008);  // the producer's position
    CHECK(s.load<uint32_t>(data + read % 4096) == 1000);
    CHECK(s.load<uint8_t>(data + read % 4096 + 8 + 999) == record + 1);
    CHECK(s.load<uint8_t>(data + (read + 8 + 999) % 4096) == record + 1);
    CHECK(s.load<uint8_t>(data + 4096 + (read + 8 + 999) % 4096) == record + 1);
    read += 1008;
    CHECK(s.store<uint64_t>(consumer, read) == Errno::None);
  }
  CHECK(map.ops->ringbuf_query(map, BPF_RB_AVAIL_DATA) == 0);
}

TEST_CASE("dup does not copy close-on-exec, as fdinfo shows; fork does") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  const int second = *s.k.dup(s.t, int(fd));
  CHECK_THAT(*fdinfo(s.t, int(fd)), Catch::Matchers::StartsWith("pos:\t0\nflags:\t02000002\n"));
  CHECK_THAT(*fdinfo(s.t, second), Catch::Matchers::StartsWith("pos:\t0\nflags:\t02\n"));
  Task& child = s.k.fork(s.t);
  CHECK(*fdinfo(child, int(fd)) == *fdinfo(s.t, int(fd)));
  s.k.exit(child);
}
