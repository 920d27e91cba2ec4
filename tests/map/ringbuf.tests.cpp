#include "map/ringbuf.h"

#include <deque>
#include <random>

#include "map/view.h"
#include "support.h"

using namespace bpfsim;

namespace {

struct Ring {
  Ring(uint32_t size) : map(maps.need({BPF_MAP_TYPE_RINGBUF, 0, 0, size})) {}
  ~Ring() { free_map(map); }
  Addr reserve(uint64_t size) { return map.ops->ringbuf_reserve(map, size); }
  void submit(Addr sample, uint64_t flags = 0) { bpf_ringbuf_commit(maps.machine, sample, flags, false); }
  void discard(Addr sample) { bpf_ringbuf_commit(maps.machine, sample, 0, true); }
  uint64_t& consumer() { return *reinterpret_cast<uint64_t*>(mapped(map, 0, 4096, true)->host); }
  uint64_t query(uint64_t what) { return map.ops->ringbuf_query(map, what); }

  // Reads as libbpf does: up to the first busy record.
  std::vector<RawBytes> consume() {
    const uint8_t* pages = mapped(map, 0, 8192 + 2 * map.max_entries, false)->host;
    uint64_t producer = *reinterpret_cast<const uint64_t*>(pages + 4096);
    std::vector<RawBytes> samples;
    while (consumer() < producer) {
      const uint8_t* record = pages + 8192 + (consumer() & (map.max_entries - 1));
      uint32_t len;
      std::memcpy(&len, record, 4);
      if (len & BPF_RINGBUF_BUSY_BIT) break;
      uint32_t size = len & ~BPF_RINGBUF_DISCARD_BIT;
      if (!(len & BPF_RINGBUF_DISCARD_BIT)) samples.push_back(bytes_of(record + 8, size));
      consumer() += (size + 8 + 7) / 8 * 8;
    }
    return samples;
  }

  Maps maps;
  Map& map;
};

}  // namespace

TEST_CASE("User space reads samples in the order of their reserves, up to the first busy one") {
  Ring ring(4096);
  Addr first = ring.reserve(4), second = ring.reserve(4), third = ring.reserve(8);
  REQUIRE((first && second && third));
  *ring.maps.machine.arena.host(first) = 1;
  *ring.maps.machine.arena.host(second) = 2;
  *ring.maps.machine.arena.host(third) = 3;
  ring.submit(second);
  CHECK(ring.consume().empty());
  ring.submit(first);
  CHECK(ring.consume() == std::vector<RawBytes>{{1, 0, 0, 0}, {2, 0, 0, 0}});
  ring.discard(third);
  CHECK(ring.consume().empty());
  CHECK(ring.query(BPF_RB_AVAIL_DATA) == 0);
  CHECK(ring.query(BPF_RB_CONS_POS) == 16 + 16 + 16);
  CHECK(ring.query(BPF_RB_PROD_POS) == ring.query(BPF_RB_CONS_POS));
  CHECK(ring.query(BPF_RB_RING_SIZE) == 4096);
  CHECK(ring.query(77) == 0);
}

TEST_CASE("A ring gives no room beyond its size, nor over a record that is still busy") {
  Ring ring(4096);
  CHECK(ring.reserve(4096) == 0);
  CHECK(ring.reserve(4096 - 8) == 0);  // one byte must stay free: full and empty would look alike
  CHECK(ring.reserve(UINT32_MAX) == 0);
  CHECK(ring.reserve(UINT64_MAX) == 0);
  Addr busy = ring.reserve(2000), rest = ring.reserve(2000);
  REQUIRE((busy && rest));
  CHECK(ring.reserve(2000) == 0);
  ring.submit(rest);
  ring.consumer() = ring.query(BPF_RB_PROD_POS);  // a consumer that lies gets nothing of the busy record
  CHECK(ring.reserve(2100) == 0);
  ring.submit(busy);
  CHECK(ring.reserve(2100) != 0);
}

TEST_CASE("Any sequence of samples comes out whole, also over the end of the ring") {
  Ring ring(4096);
  std::mt19937 random(5);
  std::deque<RawBytes> expected;
  std::vector<RawBytes> got;
  for (int step = 0; step < 20000; ++step) {
    if (Addr sample = ring.reserve(random() % 300)) {
      uint8_t* host = ring.maps.machine.arena.host(sample);
      uint32_t len;
      std::memcpy(&len, host - 8, 4);
      RawBytes bytes(len & ~BPF_RINGBUF_BUSY_BIT);
      for (uint8_t& byte : bytes) byte = uint8_t(random());
      std::copy(bytes.begin(), bytes.end(), host);
      if (random() % 5 == 0) {
        ring.discard(sample);
      } else {
        ring.submit(sample);
        expected.push_back(bytes);
      }
    }
    if (random() % 8 == 0)
      for (RawBytes& bytes : ring.consume()) {
        REQUIRE(!expected.empty());
        REQUIRE(bytes == expected.front());
        expected.pop_front();
      }
  }
  CHECK(ring.query(BPF_RB_PROD_POS) > 100 * 4096);
}

TEST_CASE("A submit wakes a consumer that had read everything before") {
  Ring ring(4096);
  Addr first = ring.reserve(8), second = ring.reserve(8);
  ring.submit(second);
  CHECK(ringbuf_view(ring.map).wakeups == 0);
  ring.submit(first);
  CHECK(ringbuf_view(ring.map).wakeups == 1);
  ring.consume();
  ring.submit(ring.reserve(8), BPF_RB_NO_WAKEUP);
  CHECK(ringbuf_view(ring.map).wakeups == 1);
  ring.submit(ring.reserve(8), BPF_RB_FORCE_WAKEUP);
  CHECK(ringbuf_view(ring.map).wakeups == 2);
}

TEST_CASE("A wild sample or a spoilt header does no harm") {
  Ring ring(4096);
  Addr sample = ring.reserve(8);
  for (Addr wild : {Addr(0), Addr(8), kArenaBase, kArenaBase + 4096, sample + 1, sample + 8, ~Addr(0)})
    ring.submit(wild);
  std::memset(ring.maps.machine.arena.host(sample) - 8, 0x3f, 4);  // a length far beyond the ring
  for (int i = 0; i < 1000; ++i) (void)ring.reserve(64);
  CHECK(ringbuf_view(ring.map).records.empty());
}

TEST_CASE("What user space may map of a ring") {
  Maps maps;
  Map& kern = maps.need({BPF_MAP_TYPE_RINGBUF, 0, 0, 4096});
  Map& user = maps.need({BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096});
  struct {
    Map& map;
    uint64_t offset, length;
    bool writable;
    Errno want;
  } cases[] = {
      {kern, 0, 4096, true, Errno::None},
      {kern, 0, 8192, true, Errno::Perm},
      {kern, 4096, 4096, true, Errno::Perm},
      {kern, 4096, 4096 + 8192, false, Errno::None},
      {kern, 4096, 4096 + 12288, false, Errno::Inval},
      {user, 0, 4096, true, Errno::Perm},
      {user, 0, 4096, false, Errno::None},
      {user, 4096, 4096 + 8192, true, Errno::None},
  };
  for (auto& c : cases) {
    INFO("offset " << c.offset << " length " << c.length << " writable " << c.writable);
    CHECK(name(mapped(c.map, c.offset, c.length, c.writable).err()) == name(c.want));
  }
  CHECK(kern.ops->map_mem_usage(kern) == 16728);  // as fdinfo shows on a live 6.18
  free_map(kern);
  free_map(user);
  CHECK(maps.machine.arena.live_bytes() == maps.live_before);
}
