#include "host/socket.h"

#include "isa/asm.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Wire : Sim {
  int socket(int family, int type, int protocol = 0) { return answer(k.socket(t, family, type, protocol)); }
  int bind(int fd, const char* address, uint16_t port) { return answer(k.bind(t, fd, {address, port})); }
  int listen(int fd) { return answer(k.listen(t, fd)); }
  int connect(int fd, uint16_t port) { return answer(k.connect(t, fd, {"127.0.0.1", port})); }
  int accept(int fd) { return answer(k.accept(t, fd)); }
  int set(int fd, int name, int value) {
    uint8_t bytes[4];
    std::memcpy(bytes, &value, sizeof bytes);
    return answer(k.setsockopt(t, fd, SOL_SOCKET_, name, bytes));
  }
  int filter(const char* name) {
    return int(prog_load(BPF_PROG_TYPE_SOCKET_FILTER, {mov64_imm(0, 0), exit_insn()}, name));
  }
  Sock& sock(int fd) { return static_cast<Sock&>(*object(fd)); }
  size_t socks() {
    size_t count = 0;
    for (const auto& [serial, object] : machine().objects) count += object->kind == ObjectKind::Sock;
    return count;
  }

 private:
  int check(int result) {
    std::vector<std::string> wrong = object_graph(k.machine()).disagreements();
    for (const std::string& line : wrong) UNSCOPED_INFO(line);
    CHECK(wrong.empty());
    return result;
  }
  int answer(const Result<int64_t>& result) { return check(result ? int(*result) : -int(result.err())); }
  int answer(const Result<void>& result) { return check(-int(result.err())); }
};

constexpr int err(Errno e) { return -int(e); }

}  // namespace

TEST_CASE("socket() makes and refuses what the kernel's families do") {
  Wire w;
  struct Case {
    int family, type, protocol;
    Errno err;
  };
  const Case cases[] = {
      {AF_INET_, SOCK_STREAM_, 0, Errno::None},
      {AF_INET_, SOCK_DGRAM_, IPPROTO_UDP_, Errno::None},
      {AF_INET6_, SOCK_STREAM_, IPPROTO_TCP_, Errno::None},
      {AF_INET_, SOCK_RAW_, 1, Errno::None},
      {AF_UNIX_, SOCK_RAW_, 0, Errno::None},
      {AF_UNIX_, SOCK_SEQPACKET_, 1, Errno::None},
      {AF_XDP_, SOCK_RAW_, 0, Errno::None},
      {AF_PACKET_, SOCK_RAW_, 0, Errno::None},
      {AF_NETLINK_, SOCK_RAW_, 0, Errno::None},
      {99, SOCK_STREAM_, 0, Errno::AfNoSupport},
      {AF_INET_, 7, 0, Errno::SockTNoSupport},
      {AF_INET_, 12, 0, Errno::Inval},
      {AF_INET_, SOCK_STREAM_, 99, Errno::ProtoNoSupport},
      {AF_INET_, SOCK_STREAM_, 300, Errno::Inval},
      {AF_INET_, SOCK_STREAM_, IPPROTO_UDP_, Errno::ProtoNoSupport},
      {AF_INET_, SOCK_RAW_, 0, Errno::ProtoNoSupport},
      {AF_UNIX_, SOCK_RDM_, 0, Errno::SockTNoSupport},
      {AF_UNIX_, SOCK_STREAM_, 5, Errno::ProtoNoSupport},
      {AF_XDP_, SOCK_DGRAM_, 0, Errno::SockTNoSupport},
      {AF_XDP_, SOCK_RAW_, 5, Errno::ProtoNoSupport},
  };
  for (const Case& c : cases) {
    INFO(c.family << " " << c.type << " " << c.protocol);
    const int fd = w.socket(c.family, c.type, c.protocol);
    CHECK((fd < 0 ? fd : 0) == err(c.err));
    if (fd >= 0) CHECK(w.close(fd) == 0);
  }
  CHECK(w.socks() == 0);
}

TEST_CASE("A TCP connection over loopback has two ends, and goes with both") {
  Wire w;
  const int listener = w.socket(AF_INET_, SOCK_STREAM_), client = w.socket(AF_INET_, SOCK_STREAM_);
  CHECK(w.connect(client, 80) == err(Errno::ConnRefused));
  CHECK(w.bind(listener, "10.1.2.3", 80) == err(Errno::AddrNotAvail));
  CHECK(w.bind(listener, "127.0.0.1", 80) == 0);
  CHECK(w.bind(listener, "127.0.0.1", 81) == err(Errno::Inval));
  CHECK(w.accept(listener) == err(Errno::Inval));
  CHECK(w.listen(listener) == 0);
  CHECK(w.accept(listener) == err(Errno::Again));
  CHECK(w.connect(client, 80) == 0);
  CHECK(w.connect(client, 80) == err(Errno::IsConn));
  CHECK(w.socks() == 3);
  const int served = w.accept(listener);
  REQUIRE(served >= 0);
  CHECK(w.sock(served).peer == &w.sock(client));
  CHECK(w.sock(client).sk_state == TCP_ESTABLISHED);
  CHECK(w.close(served) == 0);
  CHECK(w.sock(client).sk_state == TCP_CLOSE_WAIT);
  const int waiting = w.socket(AF_INET_, SOCK_STREAM_);
  CHECK(w.connect(waiting, 80) == 0);
  CHECK(w.close(listener) == 0);  // the connection that nobody accepted goes too
  CHECK(w.socks() == 2);
  CHECK(w.close(client) == 0);
  CHECK(w.close(waiting) == 0);
  CHECK(w.socks() == 0);
}

TEST_CASE("A port has one socket, or a group of them by SO_REUSEPORT") {
  Wire w;
  const int one = w.socket(AF_INET_, SOCK_DGRAM_), other = w.socket(AF_INET_, SOCK_DGRAM_);
  CHECK(w.bind(one, "127.0.0.1", 5000) == 0);
  CHECK(w.bind(other, "0.0.0.0", 5000) == err(Errno::AddrInUse));
  CHECK(w.close(one) == 0);
  const int again = w.socket(AF_INET_, SOCK_DGRAM_);
  CHECK(w.set(again, SO_REUSEPORT_, 1) == 0);
  CHECK(w.set(other, SO_REUSEPORT_, 1) == 0);
  CHECK(w.bind(again, "127.0.0.1", 5000) == 0);
  CHECK(w.bind(other, "127.0.0.1", 5000) == 0);
  CHECK(w.sock(again).sk_reuseport_cb == w.sock(other).sk_reuseport_cb);
  CHECK(w.set(w.socket(AF_UNIX_, SOCK_STREAM_), SO_REUSEPORT_, 1) == err(Errno::OpNotSupp));
  const int prog = w.filter("pick");
  CHECK(w.set(other, SO_DETACH_REUSEPORT_BPF_, 0) == err(Errno::NoEnt));
  CHECK(w.set(other, SO_ATTACH_REUSEPORT_EBPF_, prog) == 0);
  CHECK(w.prog(prog).aux->refcnt.value() == 2);
  CHECK(w.close(again) == 0);
  CHECK(w.prog(prog).aux->refcnt.value() == 2);
  CHECK(w.close(other) == 0);
  CHECK(w.prog(prog).aux->refcnt.value() == 1);
}

TEST_CASE("A socket holds its filter until it is detached, replaced, or the socket is gone") {
  Wire w;
  const int first = w.filter("first"), second = w.filter("second");
  const int fd = w.socket(AF_INET_, SOCK_DGRAM_);
  CHECK(w.set(fd, SO_DETACH_BPF_, 0) == err(Errno::NoEnt));
  CHECK(w.set(fd, SO_ATTACH_BPF_, 999) == err(Errno::BadF));
  CHECK(w.set(fd, SO_ATTACH_BPF_, fd) == err(Errno::Inval));
  CHECK(w.set(fd, SO_ATTACH_BPF_, first) == 0);
  CHECK(w.prog(first).aux->refcnt.value() == 2);
  CHECK(w.set(fd, SO_ATTACH_BPF_, second) == 0);
  CHECK(w.prog(first).aux->refcnt.value() == 1);
  CHECK(w.set(fd, SO_LOCK_FILTER_, 1) == 0);
  CHECK(w.set(fd, SO_DETACH_BPF_, 0) == err(Errno::Perm));
  CHECK(w.set(fd, SO_LOCK_FILTER_, 0) == err(Errno::Perm));
  Prog& prog = w.prog(second);
  CHECK(w.close(second) == 0);
  CHECK(prog.aux->refcnt.value() == 1);  // the socket's
  CHECK(w.close(fd) == 0);
  for (const std::string& label : w.alive()) CHECK(label.find("second") == std::string::npos);
}

TEST_CASE("A pair of AF_UNIX sockets is connected; others have none") {
  Wire w;
  auto pair = w.k.socketpair(w.t, AF_UNIX_, SOCK_STREAM_);
  REQUIRE(pair);
  CHECK(w.sock(pair->first).peer == &w.sock(pair->second));
  CHECK(w.k.socketpair(w.t, AF_INET_, SOCK_STREAM_).err() == Errno::OpNotSupp);
}

// The live kernel frees the program of a closed socket of a pair only when the other one is closed too.
TEST_CASE("Of a pair of AF_UNIX sockets, one that is closed lives as long as the other is open") {
  Wire w;
  for (bool first_goes : {true, false}) {
    auto pair = w.k.socketpair(w.t, AF_UNIX_, SOCK_STREAM_);
    REQUIRE(pair);
    const int goes = first_goes ? pair->first : pair->second, stays = first_goes ? pair->second : pair->first;
    Sock& closed = w.sock(goes);
    CHECK(w.close(goes) == 0);
    CHECK(w.socks() == 2);
    CHECK(w.sock(stays).peer == &closed);
    CHECK(w.close(stays) == 0);
    CHECK(w.socks() == 0);
  }
}
