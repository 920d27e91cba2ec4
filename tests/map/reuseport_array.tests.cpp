#include "map/reuseport_array.h"

#include "host/socket.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Reuseport : Sim {
  int udp(bool reuseport, uint16_t port = 0) {
    const int fd = int(*k.socket(t, AF_INET_, SOCK_DGRAM_));
    const uint8_t on[4] = {reuseport};
    REQUIRE(k.setsockopt(t, fd, SOL_SOCKET_, SO_REUSEPORT_, on));
    REQUIRE(k.bind(t, fd, {"127.0.0.1", port}));
    return fd;
  }
  long put(long map, uint32_t index, int fd, uint64_t flags = BPF_ANY) {
    const uint64_t value = uint64_t(fd);
    return map_update(map, &index, &value, flags);
  }
  long look(long map, uint32_t index, uint64_t* cookie) { return map_lookup(map, &index, cookie); }
};

}  // namespace

TEST_CASE("A reuseport array takes sockets that are bound with SO_REUSEPORT, once each") {
  Reuseport s;
  const long map = s.map_create(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4);
  REQUIRE(map >= 0);
  const int one = s.udp(true, 5000), other = s.udp(true, 5000), alone = s.udp(false);
  const int unbound = int(*s.k.socket(s.t, AF_INET_, SOCK_DGRAM_));
  const int unix_fd = int(*s.k.socket(s.t, AF_UNIX_, SOCK_DGRAM_));
  uint64_t cookie = 0, again = 0;
  CHECK(s.put(map, 0, alone) == minus(Errno::Inval));
  CHECK(s.put(map, 0, unbound) == minus(Errno::Inval));
  CHECK(s.put(map, 0, unix_fd) == minus(Errno::NotSupp));
  CHECK(s.put(map, 0, 999) == minus(Errno::BadF));
  CHECK(s.put(map, 0, -1) == minus(Errno::Inval));
  CHECK(s.put(map, 0, int(map)) == minus(Errno::NotSock));
  CHECK(s.put(map, 4, one) == minus(Errno::TooBig));
  CHECK(s.put(map, 0, one, 3) == minus(Errno::Inval));
  CHECK(s.put(map, 0, one, BPF_EXIST) == minus(Errno::NoEnt));
  CHECK(s.look(map, 0, &cookie) == minus(Errno::NoEnt));
  CHECK(s.put(map, 0, one) == 0);
  CHECK(s.put(map, 1, one) == minus(Errno::Busy));
  CHECK(s.put(map, 0, other, BPF_NOEXIST) == minus(Errno::Exist));
  CHECK(s.look(map, 0, &cookie) == 0);
  CHECK(s.put(map, 0, other) == 0);
  CHECK(s.look(map, 0, &again) == 0);
  CHECK(cookie != again);
  CHECK(s.put(map, 1, one) == 0);  // it stands nowhere any more
  const long small = s.map_create(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 4, 4);
  CHECK(s.look(small, 0, &cookie) == minus(Errno::NoSpc));
}

TEST_CASE("A socket that is closed leaves its reuseport array; a freed array lets its sockets go") {
  Reuseport s;
  const long map = s.map_create(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4);
  const int one = s.udp(true, 5000), other = s.udp(true, 5000);
  uint32_t zero = 0, nine = 9;
  uint64_t cookie;
  CHECK(s.put(map, 0, one) == 0);
  CHECK(s.put(map, 1, other) == 0);
  CHECK(s.close(one) == 0);
  CHECK(s.look(map, 0, &cookie) == minus(Errno::NoEnt));
  CHECK(s.map_delete(map, &zero) == minus(Errno::NoEnt));
  CHECK(s.map_delete(map, &nine) == minus(Errno::TooBig));
  CHECK(s.close(map) == 0);
  const long again = s.map_create(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4);
  CHECK(s.put(again, 3, other) == 0);
  CHECK(object_graph(s.machine()).disagreements().empty());
}
