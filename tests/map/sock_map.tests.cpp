#include "map/sock_map.h"

#include "host/socket.h"
#include "map/view.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Socks : Sim {
  int socket(int family, int type) { return int(*k.socket(t, family, type)); }
  int udp() {
    const int fd = socket(AF_INET_, SOCK_DGRAM_);
    REQUIRE(k.bind(t, fd, {"127.0.0.1", 0}));
    return fd;
  }
  int listener(uint16_t port) {
    const int fd = socket(AF_INET_, SOCK_STREAM_);
    REQUIRE(k.bind(t, fd, {"127.0.0.1", port}));
    REQUIRE(k.listen(t, fd));
    return fd;
  }
  int client(uint16_t port) {
    const int fd = socket(AF_INET_, SOCK_STREAM_);
    REQUIRE(k.connect(t, fd, {"127.0.0.1", port}));
    return fd;
  }
  long put(long map, uint32_t key, int fd, uint64_t flags = BPF_ANY) {
    const uint64_t value = uint64_t(fd);
    return map_update(map, &key, &value, flags);
  }
  long drop(long map, uint32_t key) { return map_delete(map, &key); }
  int64_t refs(int fd) { return static_cast<Sock&>(*object(fd)).sk_refcnt.value(); }

  // A loaded program, without the way through the verifier: what a map of sockets takes.
  int program(bpf_prog_type type, const char* name) {
    Prog* loaded = new Prog(machine());
    loaded->type = type;
    loaded->aux->name = name;
    bpf_prog_inc(*loaded, {"born"});
    loaded->id = machine().registry->prog_idr.alloc(loaded);
    File* file = new File(machine(), bpf_prog_fops, loaded, O_RDWR_);
    file->f_count.inc({"fd"});
    return *t.files.install(file);
  }
  // As BPF_PROG_ATTACH and BPF_PROG_DETACH call it, for the task.
  Errno attach(long map, int fd, bpf_attach_type type) {
    bpf_attr attr;
    attr.target_fd = uint32_t(map);
    attr.attach_type = type;
    bpf_prog_inc(prog(fd), {"BPF_PROG_ATTACH"});
    Result<void> done = as_task([&] { return sock_map_get_from_fd(machine(), attr, prog(fd)); });
    if (!done) bpf_prog_put(prog(fd), {"not attached"});
    return done.err();
  }
  Errno detach(long map, int fd, bpf_attach_type type, bpf_prog_type ptype) {
    bpf_attr attr;
    attr.target_fd = uint32_t(map);
    attr.attach_bpf_fd = uint32_t(fd);
    attr.attach_type = type;
    return as_task([&] { return sock_map_prog_detach(machine(), attr, ptype); }).err();
  }
  template <class Call>
  Result<void> as_task(const Call& call) {
    Task* before = std::exchange(machine().current->task, &t);
    Result<void> done = call();
    machine().current->task = before;
    return done;
  }
};

constexpr bpf_map_type kTypes[] = {BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH};

}  // namespace

TEST_CASE("A map of sockets takes those kinds and states that the kernel's takes") {
  Socks s;
  const int bound_tcp = s.socket(AF_INET_, SOCK_STREAM_);
  REQUIRE(s.k.bind(s.t, bound_tcp, {"127.0.0.1", 81}));
  const int listener = s.listener(80), client = s.client(80);
  const auto stream = *s.k.socketpair(s.t, AF_UNIX_, SOCK_STREAM_);
  const auto packets = *s.k.socketpair(s.t, AF_UNIX_, SOCK_SEQPACKET_);
  struct Case {
    const char* what;
    int fd;
    Errno err;
  };
  const Case cases[] = {
      {"tcp", s.socket(AF_INET_, SOCK_STREAM_), Errno::OpNotSupp},
      {"tcp, bound", bound_tcp, Errno::OpNotSupp},
      {"tcp, listening", listener, Errno::None},
      {"tcp, connected", client, Errno::None},
      {"tcp, accepted", int(*s.k.accept(s.t, listener)), Errno::None},
      {"udp", s.socket(AF_INET6_, SOCK_DGRAM_), Errno::OpNotSupp},
      {"udp, bound", s.udp(), Errno::None},
      {"unix stream", s.socket(AF_UNIX_, SOCK_STREAM_), Errno::OpNotSupp},
      {"unix stream, connected", stream.first, Errno::None},
      {"unix datagrams", s.socket(AF_UNIX_, SOCK_DGRAM_), Errno::None},
      {"unix packets, connected", packets.first, Errno::OpNotSupp},
      {"packet", s.socket(AF_PACKET_, SOCK_RAW_), Errno::OpNotSupp},
      {"xdp", s.socket(AF_XDP_, SOCK_RAW_), Errno::OpNotSupp},
      {"no socket", int(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1)), Errno::NotSock},
      {"nothing", 999, Errno::BadF},
      {"a negative number", -1, Errno::Inval},
  };
  for (bpf_map_type type : kTypes)
    for (uint32_t value_size : {4u, 8u}) {
      const long map = s.map_create(type, 4, value_size, 30);
      REQUIRE(map >= 0);
      uint32_t key = 0;
      for (const Case& c : cases) {
        INFO(type << " " << value_size << " " << c.what);
        CHECK(s.put(map, key++, c.fd) == -long(c.err));
      }
    }
}

TEST_CASE("Slots of maps of sockets: cookies, flags, keys, and who holds the socket") {
  Socks s;
  const int one = s.udp(), other = s.udp();
  for (bpf_map_type type : kTypes) {
    const bool hash = type == BPF_MAP_TYPE_SOCKHASH;
    const long map = s.map_create(type, 4, 8, 3);
    uint64_t cookie = 0, again = 0;
    uint32_t key = 1, next = 0;
    CHECK(s.map_lookup(map, &key, &cookie) == minus(Errno::NoEnt));
    CHECK(s.drop(map, 1) == (hash ? minus(Errno::NoEnt) : minus(Errno::Inval)));
    CHECK(s.put(map, 1, one, BPF_EXIST) == minus(Errno::NoEnt));
    CHECK(s.refs(one) == 1);
    CHECK(s.put(map, 1, one) == 0);
    CHECK(s.put(map, 1, one, BPF_NOEXIST) == minus(Errno::Exist));
    CHECK(s.put(map, 1, one, 3) == minus(Errno::Inval));
    CHECK(s.put(map, 1, one) == 0);  // the same once more
    CHECK(s.put(map, 0, one) == 0);  // and in a second slot
    CHECK(s.refs(one) == 3);
    CHECK(s.map_lookup(map, &key, &cookie) == 0);
    CHECK(s.put(map, 1, other) == 0);
    CHECK(s.refs(one) == 2);
    CHECK(s.map_lookup(map, &key, &again) == 0);
    CHECK(cookie != again);
    CHECK(s.put(map, 2, one) == 0);
    CHECK(s.put(map, 7, one) == minus(Errno::TooBig));
    CHECK(s.refs(one) == 3);
    CHECK(std::get<FdArrayView>(view_map(s.map(map))).slots.size() == 3);
    int keys = 0;
    for (const void* at = nullptr; s.map_get_next_key(map, at, &next) == 0; at = &(key = next)) ++keys;
    CHECK(keys == 3);
    const uint64_t usage = s.map(map).ops->map_mem_usage(s.map(map));
    CHECK(usage == (hash ? 384 + 4 * 16 + 3 * 56 : 376 + 3 * 8));
    CHECK(s.close(map) == 0);
    CHECK(s.refs(one) == 1);
    CHECK(s.refs(other) == 1);
    const long small = s.map_create(type, 4, 4, 3);
    CHECK(s.map_lookup(small, &key, &cookie) == minus(Errno::NoSpc));
    CHECK(s.close(small) == 0);
  }
}

TEST_CASE("A socket that is closed leaves every map that it stands in") {
  Socks s;
  const long array = s.map_create(BPF_MAP_TYPE_SOCKMAP, 4, 8, 3);
  const long hash = s.map_create(BPF_MAP_TYPE_SOCKHASH, 4, 8, 3);
  const int fd = s.udp();
  CHECK(s.put(array, 0, fd) == 0);
  CHECK(s.put(array, 2, fd) == 0);
  CHECK(s.put(hash, 5, fd) == 0);
  CHECK(s.close(fd) == 0);
  uint32_t key = 0;
  uint64_t cookie;
  CHECK(s.map_lookup(array, &key, &cookie) == minus(Errno::NoEnt));
  CHECK(s.map_get_next_key(hash, nullptr, &key) == minus(Errno::NoEnt));
  for (const auto& [serial, object] : s.machine().objects) CHECK(object->kind != ObjectKind::Sock);
}

TEST_CASE("A socket is in a map of sockets or in a reuseport array, not in both") {
  Socks s;
  const int fd = s.socket(AF_INET_, SOCK_DGRAM_);
  const uint8_t on[4] = {1};
  REQUIRE(s.k.setsockopt(s.t, fd, SOL_SOCKET_, SO_REUSEPORT_, on));
  REQUIRE(s.k.bind(s.t, fd, {"127.0.0.1", 0}));
  const long map = s.map_create(BPF_MAP_TYPE_SOCKMAP, 4, 8, 1);
  const long array = s.map_create(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 1);
  CHECK(s.put(array, 0, fd) == 0);
  CHECK(s.put(map, 0, fd) == minus(Errno::Busy));
  CHECK(s.drop(array, 0) == 0);
  CHECK(s.put(map, 0, fd) == 0);
  CHECK(s.put(array, 0, fd) == minus(Errno::Busy));
}

TEST_CASE("Programs hang on the map, and go to the sockets that are added afterwards") {
  Socks s;
  const int verdict = s.program(BPF_PROG_TYPE_SK_SKB, "verdict"),
            parser = s.program(BPF_PROG_TYPE_SK_SKB, "parser");
  const int msg = s.program(BPF_PROG_TYPE_SK_MSG, "msg");
  Prog& prog = s.prog(verdict);
  for (bpf_map_type type : kTypes) {
    const long map = s.map_create(type, 4, 4, 3), other = s.map_create(type, 4, 4, 3);
    const long array = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 3);
    CHECK(s.attach(array, verdict, BPF_SK_SKB_VERDICT) == Errno::OpNotSupp);
    CHECK(s.attach(map, verdict, BPF_XDP) == Errno::OpNotSupp);
    CHECK(s.attach(map, verdict, BPF_SK_SKB_STREAM_VERDICT) == Errno::None);
    CHECK(s.attach(map, verdict, BPF_SK_SKB_VERDICT) == Errno::Busy);
    CHECK(s.attach(map, msg, BPF_SK_MSG_VERDICT) == Errno::None);
    CHECK(s.attach(other, verdict, BPF_SK_SKB_VERDICT) == Errno::None);
    const int fd = s.udp();
    CHECK(s.put(map, 0, fd) == 0);
    CHECK(prog.aux->refcnt.value() == 4);  // descriptor, two maps, the socket
    CHECK(s.put(other, 0, fd) == minus(Errno::Busy));
    CHECK(s.put(map, 1, fd) == minus(Errno::Busy));
    CHECK(s.detach(map, msg, BPF_SK_SKB_STREAM_VERDICT, BPF_PROG_TYPE_SK_SKB) == Errno::Inval);
    CHECK(s.detach(map, parser, BPF_SK_SKB_STREAM_VERDICT, BPF_PROG_TYPE_SK_SKB) == Errno::NoEnt);
    CHECK(s.detach(map, verdict, BPF_SK_SKB_STREAM_VERDICT, BPF_PROG_TYPE_SK_SKB) == Errno::None);
    CHECK(prog.aux->refcnt.value() == 3);  // the socket keeps it
    CHECK(s.drop(map, 0) == 0);
    CHECK(prog.aux->refcnt.value() == 2);
    CHECK(s.attach(map, parser, BPF_SK_SKB_STREAM_PARSER) == Errno::None);
    CHECK(s.attach(map, verdict, BPF_SK_SKB_STREAM_VERDICT) == Errno::None);
    CHECK(s.put(map, 0, fd) == minus(Errno::OpNotSupp));  // a parser is for TCP
    CHECK(prog.aux->refcnt.value() == 3);
    CHECK(s.close(map) == 0);  // the last descriptor drops the programs
    CHECK(s.close(other) == 0);
    CHECK(prog.aux->refcnt.value() == 1);
    CHECK(s.close(fd) == 0);
  }
  CHECK(object_graph(s.machine()).disagreements().empty());
}
