#include "host/socket.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Xsk : Sim {
  int xsk() { return int(*k.socket(t, AF_XDP_, SOCK_RAW_)); }
  long put(long map, uint32_t index, int fd, uint64_t flags = BPF_ANY) {
    const uint32_t value = uint32_t(fd);
    return map_update(map, &index, &value, flags);
  }
};

}  // namespace

TEST_CASE("A map of AF_XDP sockets takes those only, and gives none back") {
  Xsk s;
  const long map = s.map_create(BPF_MAP_TYPE_XSKMAP, 4, 4, 2);
  REQUIRE(map >= 0);
  const int xsk = s.xsk(), tcp = int(*s.k.socket(s.t, AF_INET_, SOCK_STREAM_));
  uint32_t zero = 0, two = 2, value = 0;
  CHECK(s.put(map, 0, 999) == minus(Errno::BadF));
  CHECK(s.put(map, 0, int(map)) == minus(Errno::NotSock));
  CHECK(s.put(map, 0, tcp) == minus(Errno::OpNotSupp));
  CHECK(s.put(map, 0, xsk, BPF_EXIST) == minus(Errno::NoEnt));
  CHECK(s.put(map, 0, xsk, 3) == minus(Errno::Inval));
  CHECK(s.put(map, 2, xsk) == minus(Errno::TooBig));
  CHECK(s.put(map, 0, xsk) == 0);
  CHECK(s.put(map, 0, xsk, BPF_NOEXIST) == 0);  // it is the same one
  CHECK(s.put(map, 0, s.xsk(), BPF_NOEXIST) == minus(Errno::Exist));
  CHECK(s.map_lookup(map, &zero, &value) == minus(Errno::OpNotSupp));
  CHECK(s.map_delete(map, &two) == minus(Errno::Inval));
  CHECK(s.map_delete(map, &zero) == 0);
  CHECK(s.map_delete(map, &zero) == 0);
  CHECK(s.map(map).refcnt.value() == 1);
}

TEST_CASE("An AF_XDP socket holds the maps that it stands in, and leaves them when it is closed") {
  Xsk s;
  const long map = s.map_create(BPF_MAP_TYPE_XSKMAP, 4, 4, 4);
  const int one = s.xsk(), other = s.xsk();
  CHECK(s.put(map, 0, one) == 0);
  CHECK(s.put(map, 1, one) == 0);
  CHECK(s.put(map, 2, other) == 0);
  CHECK(s.map(map).refcnt.value() == 4);
  CHECK(s.put(map, 1, other) == 0);  // replaced
  CHECK(s.map(map).refcnt.value() == 4);
  CHECK(s.close(one) == 0);
  CHECK(s.map(map).refcnt.value() == 3);
  Map& kept = s.map(map);
  CHECK(s.close(map) == 0);
  CHECK(kept.refcnt.value() == 2);  // the last descriptor is gone, the socket holds it
  CHECK(object_graph(s.machine()).disagreements().empty());
  CHECK(s.close(other) == 0);
  CHECK(s.alive().empty());
}
