// SK_LOOKUP programs that take a socket out of a map and select it: what bpf_sk_assign answers, the cookie
// that a test run gives back, and that each reference is given back. The live kernel's answers to the same
// questions are asked in tests/agree/network.py.
#include "host/socket.h"
#include "isa/insn.h"
#include "live_bpf.h"
#include "sim.h"
#include "uapi/context.h"

using namespace bpfsim;

namespace {

constexpr uint64_t kReplace = 1, kNoReuseport = 2;

struct Lookup : Sim {
  int socket(int family, int type, const char* address, bool shares = false) {
    const int fd = int(*k.socket(t, family, type));
    const int on = shares;
    REQUIRE(
        k.setsockopt(t, fd, SOL_SOCKET_, SO_REUSEPORT_, {reinterpret_cast<const uint8_t*>(&on), sizeof on}));
    REQUIRE(k.bind(t, fd, {address, 0}));
    if (type == SOCK_STREAM_) REQUIRE(k.listen(t, fd));
    return fd;
  }
  Sock& sock(int fd) { return static_cast<Sock&>(*object(fd)); }
  void put(int fd) {
    const uint32_t key = 0;
    const uint64_t value = uint64_t(fd);
    REQUIRE(map_update(socks, &key, &value) == 0);
  }

  long load(const std::vector<bpf_insn>& insns) {
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_SK_LOOKUP, insns, &log);
    attr.expected_attach_type = BPF_SK_LOOKUP;
    return bpf(BPF_PROG_LOAD, attr);
  }

  // Selects what stands under key 0, as often as there are flags; the answer to the last is in *answer.
  std::vector<bpf_insn> selects(const std::vector<uint64_t>& flags, int verdict, int releases = 1) {
    auto insns =
        program(mov64_reg(6, 1), ld_map_value(9, int(answers), 0), st_mem(BPF_W, 10, -4, 0), mov64_reg(2, 10),
                alu64_imm(BPF_ADD, 2, -4), ld_map_fd(1, int(socks)), call_helper(BPF_FUNC_map_lookup_elem),
                jmp_imm(BPF_JNE, 0, 0, 2), mov64_imm(0, 1), exit_insn(), mov64_reg(7, 0));
    auto then = [&](const std::vector<bpf_insn>& more) {
      insns.insert(insns.end(), more.begin(), more.end());
    };
    for (uint64_t flag : flags)
      then(program(mov64_reg(1, 6), mov64_reg(2, 7), mov64_imm(3, int32_t(flag)),
                   call_helper(BPF_FUNC_sk_assign), stx_mem(BPF_DW, 9, 0, 0)));
    for (int i = 0; i < releases; ++i) then(program(mov64_reg(1, 7), call_helper(BPF_FUNC_sk_release)));
    then(program(mov64_imm(0, verdict), exit_insn()));
    return insns;
  }

  struct Run {
    long ret;
    uint32_t retval;
    uint64_t cookie;
    int64_t answer;
  };
  Run run(long prog, uint32_t family, uint32_t protocol, uint32_t repeat = 1) {
    bpf_sk_lookup connection = {}, out = {};
    connection.family = family;
    connection.protocol = protocol;
    bpf_attr attr;
    attr.test.prog_fd = uint32_t(prog);
    attr.test.repeat = repeat;
    attr.test.ctx_in = user_ptr(&connection);
    attr.test.ctx_out = user_ptr(&out);
    attr.test.ctx_size_in = attr.test.ctx_size_out = sizeof connection;
    const long ret = bpf(BPF_PROG_TEST_RUN, attr);
    const uint32_t key = 0;
    int64_t answer = 0;
    REQUIRE(map_lookup(answers, &key, &answer) == 0);
    return {ret, attr.test.retval, out.cookie, answer};
  }

  long socks = map_create(BPF_MAP_TYPE_SOCKMAP, 4, 8, 1), answers = map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1);
};

}  // namespace

TEST_CASE("A SK_LOOKUP program selects a socket, and a test run gives its cookie back") {
  Lookup s;
  const int tcp = s.socket(AF_INET_, SOCK_STREAM_, "127.0.0.1");
  s.put(tcp);
  const long prog = s.load(s.selects({0}, 1));
  INFO(s.log.data());
  REQUIRE(prog >= 0);
  const Lookup::Run run = s.run(prog, AF_INET_, IPPROTO_TCP_, 3);  // each run begins with none selected
  CHECK(run.ret == 0);
  CHECK(run.retval == 1);
  CHECK(run.answer == 0);
  CHECK(run.cookie != 0);
  CHECK(run.cookie == s.sock(tcp).sk_cookie);
  const long drops = s.load(s.selects({0}, 0));
  CHECK(s.run(drops, AF_INET_, IPPROTO_TCP_).cookie == 0);
  CHECK(s.map_delete(s.socks, std::vector<uint32_t>{0}.data()) == 0);
  CHECK(s.run(prog, AF_INET_, IPPROTO_TCP_).cookie == 0);
}

TEST_CASE("bpf_sk_assign takes only sockets that wait for such packets") {
  Lookup s;
  const int listener = s.socket(AF_INET_, SOCK_STREAM_, "127.0.0.1");
  const int client = int(*s.k.socket(s.t, AF_INET_, SOCK_STREAM_));
  REQUIRE(s.k.connect(s.t, client, s.sock(listener).local));
  const int udp = s.socket(AF_INET_, SOCK_DGRAM_, "127.0.0.1");
  const int connected = int(*s.k.socket(s.t, AF_INET_, SOCK_DGRAM_));
  REQUIRE(s.k.connect(s.t, connected, s.sock(udp).local));
  const int dual = s.socket(AF_INET6_, SOCK_DGRAM_, "::"), only = s.socket(AF_INET6_, SOCK_DGRAM_, "::1");
  const int named = s.k.socketpair(s.t, AF_UNIX_, SOCK_DGRAM_)->first;
  const int shared = s.socket(AF_INET_, SOCK_DGRAM_, "127.0.0.1", true);
  struct Case {
    const char* what;
    int fd;
    std::vector<uint64_t> flags;
    uint32_t family, protocol;
    Errno answer, ret;
  };
  const Case cases[] = {
      {"a listener", listener, {0}, 2, 6, Errno::None, Errno::None},
      {"flags", listener, {4}, 2, 6, Errno::Inval, Errno::None},
      {"a connection", client, {0}, 2, 6, Errno::SockTNoSupport, Errno::None},
      {"UDP", udp, {0}, 2, 17, Errno::None, Errno::None},
      {"UDP, connected", connected, {0}, 2, 17, Errno::SockTNoSupport, Errno::None},
      {"AF_UNIX", named, {0}, 2, 17, Errno::SockTNoSupport, Errno::None},
      {"another protocol", udp, {0}, 2, 6, Errno::ProtoType, Errno::None},
      {"another family", udp, {0}, 10, 17, Errno::AfNoSupport, Errno::None},
      {"of both families", dual, {0}, 2, 17, Errno::None, Errno::None},
      {"of version 6 only", only, {0}, 2, 17, Errno::AfNoSupport, Errno::None},
      {"once more", udp, {0, 0}, 2, 17, Errno::Exist, Errno::None},
      {"replaced", udp, {0, kReplace}, 2, 17, Errno::None, Errno::None},
      {"of a group", shared, {0}, 2, 17, Errno::None, Errno::OpNotSupp},
      {"of a group that is not asked", shared, {kNoReuseport}, 2, 17, Errno::None, Errno::None},
      {"replaced without the flag", shared, {kNoReuseport, kReplace}, 2, 17, Errno::None, Errno::OpNotSupp},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    s.put(c.fd);
    const long prog = s.load(s.selects(c.flags, 1));
    REQUIRE(prog >= 0);
    const int64_t before = s.sock(c.fd).sk_refcnt.value();
    const Lookup::Run run = s.run(prog, c.family, c.protocol);
    CHECK(run.ret == -long(c.ret));
    CHECK(run.answer == -long(c.answer));
    CHECK(s.sock(c.fd).sk_refcnt.value() == before);
    const bool first_stays = c.answer == Errno::Exist;
    CHECK((run.cookie != 0) == ((c.answer == Errno::None || first_stays) && c.ret == Errno::None));
    s.close(prog);
  }
}

TEST_CASE("A socket that a program looked up is given back once") {
  Lookup s;
  s.put(s.socket(AF_INET_, SOCK_DGRAM_, "127.0.0.1"));
  CHECK(s.load(s.selects({0}, 1, 0)) == -long(Errno::Inval));
  CHECK(std::string(s.log.data()).find("Unreleased reference") != std::string::npos);
  CHECK(s.load(s.selects({0}, 1, 2)) == -long(Errno::Access));
  CHECK(s.load(s.selects({0}, 1, 1)) >= 0);
}
