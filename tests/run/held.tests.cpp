// What a program was given and must give back, when its run ends before it could: by Ctrl-C, by a simulated
// oops, or, of a program that no verifier saw, by returning with it.
#include "host/socket.h"
#include "isa/insn.h"
#include "map/view.h"
#include "program.h"
#include "run/checked.h"
#include "sim.h"
#include "uapi/context.h"

using namespace bpfsim;

namespace {

enum class Take : uint8_t { Connected, Listener, Record, Output };

struct Holder : Sim {
  int tcp(const char* address) {
    const int fd = int(*k.socket(t, AF_INET_, SOCK_STREAM_));
    REQUIRE(k.bind(t, fd, {address, 0}));
    return fd;
  }
  int listening() {
    const int fd = tcp("127.0.0.1");
    REQUIRE(k.listen(t, fd));
    return fd;
  }
  Holder() {
    REQUIRE(k.connect(t, connected, sock(listener).local));
    for (uint32_t key : {0u, 1u}) {
      const uint64_t value = uint64_t(key ? listener : connected);
      REQUIRE(map_update(socks, &key, &value) == 0);
    }
  }
  Sock& sock(int fd) { return static_cast<Sock&>(*object(fd)); }
  std::vector<int64_t> counts() {
    return {sock(connected).sk_refcnt.value(), sock(listener).sk_refcnt.value()};
  }

  // r0: the socket or record.
  std::vector<bpf_insn> take(Take what) {
    switch (what) {
      case Take::Connected:
      case Take::Listener:
        return program(st_mem(BPF_W, 10, -4, what == Take::Listener), mov64_reg(2, 10),
                       alu64_imm(BPF_ADD, 2, -4), ld_imm64(1, map(socks).handle),
                       call_helper(BPF_FUNC_map_lookup_elem));
      case Take::Record:
        return program(ld_imm64(1, map(ring).handle), mov64_imm(2, 8), mov64_imm(3, 0),
                       call_helper(BPF_FUNC_ringbuf_reserve));
      case Take::Output:
        return program(ld_imm64(1, map(ring).handle), mov64_reg(2, 10), alu64_imm(BPF_ADD, 2, -8),
                       mov64_imm(3, 8), mov64_imm(4, 0), call_helper(BPF_FUNC_ringbuf_output));
    }
    return {};
  }

  RunOutcome run(const std::vector<bpf_insn>& insns, bool checked) {
    LooseProgram loose(machine(), insns);
    REQUIRE(loose.prepared);
    KernelEntry entry(machine());
    return checked ? bpf_prog_run_checked(machine(), loose.prog, 0) : loose.run();
  }

  int listener = listening(), connected = tcp("127.0.0.2");
  long socks = map_create(BPF_MAP_TYPE_SOCKMAP, 4, 8, 2), ring = map_create(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096);
};

void append(std::vector<bpf_insn>& insns, const std::vector<bpf_insn>& more) {
  insns.insert(insns.end(), more.begin(), more.end());
}

}  // namespace

TEST_CASE("A run that ends in the middle gives back what it was given") {
  const std::vector<std::vector<Take>> taken = {
      {},
      {Take::Connected},
      {Take::Connected, Take::Connected},
      {Take::Listener},
      {Take::Record},
      {Take::Record, Take::Output, Take::Record},
      {Take::Connected, Take::Record, Take::Listener, Take::Record, Take::Connected},
  };
  const struct {
    RunStop stop;
    std::vector<bpf_insn> insns;
  } ends[] = {{RunStop::Interrupted, program(ja(-1))},
              {RunStop::Oops, program(mov64_imm(1, 0), ldx_mem(BPF_W, 0, 1, 0), exit_insn())},
              {RunStop::Returned, program(mov64_imm(0, 0), exit_insn())}};
  for (const auto& takes : taken)
    for (const auto& end : ends)
      for (bool checked : {false, true}) {
        INFO("case " << &takes - taken.data() << ", stop " << int(end.stop) << ", checked " << checked);
        Holder s;
        const std::vector<int64_t> before = s.counts();
        const auto wanted = int64_t(std::count(takes.begin(), takes.end(), Take::Connected));
        int64_t inside = -1;
        s.machine().interrupted = [&] {
          inside = s.counts()[0] - before[0];
          return true;
        };
        std::vector<bpf_insn> insns;
        for (Take what : takes) append(insns, s.take(what));
        append(insns, end.insns);
        CHECK(s.run(insns, checked).stop == end.stop);
        s.machine().interrupted = nullptr;
        if (end.stop == RunStop::Interrupted) CHECK(inside == wanted);
        CHECK(s.counts() == before);
        CHECK(object_graph(s.machine()).disagreements().empty());
        CHECK(s.machine().rcu.readers() == 0);
        std::vector<bool> discarded, wanted_discarded;
        for (const RingbufRecord& record : ringbuf_view(s.map(s.ring)).records) {
          CHECK(!record.busy);
          discarded.push_back(record.discarded);
        }
        for (Take what : takes)
          if (what == Take::Record || what == Take::Output) wanted_discarded.push_back(what == Take::Record);
        CHECK(discarded == wanted_discarded);
      }
}

TEST_CASE("A test run that is interrupted while it holds a socket and a record leaves nothing behind") {
  Holder s;
  auto insns =
      program(st_mem(BPF_W, 10, -4, 0), mov64_reg(2, 10), alu64_imm(BPF_ADD, 2, -4),
              ld_map_fd(1, int(s.socks)), call_helper(BPF_FUNC_map_lookup_elem), jmp_imm(BPF_JNE, 0, 0, 2),
              mov64_imm(0, 1), exit_insn(), mov64_reg(7, 0), ld_map_fd(1, int(s.ring)), mov64_imm(2, 8),
              mov64_imm(3, 0), call_helper(BPF_FUNC_ringbuf_reserve), mov64_reg(8, 0), mov64_imm(6, 0),
              alu64_imm(BPF_ADD, 6, 1), jmp_imm(BPF_JLT, 6, 100000, -2), jmp_imm(BPF_JEQ, 8, 0, 3),
              mov64_reg(1, 8), mov64_imm(2, 0), call_helper(BPF_FUNC_ringbuf_submit), mov64_reg(1, 7),
              call_helper(BPF_FUNC_sk_release), mov64_imm(0, 1), exit_insn());
  bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_SK_LOOKUP, insns);
  attr.expected_attach_type = BPF_SK_LOOKUP;
  const long prog = s.bpf(BPF_PROG_LOAD, attr);
  INFO(s.why());
  REQUIRE(prog >= 0);

  const std::vector<int64_t> before = s.counts();
  bpf_sk_lookup connection = {};
  connection.family = AF_INET_;
  attr = {};
  attr.test.prog_fd = uint32_t(prog);
  attr.test.ctx_in = user_ptr(&connection);
  attr.test.ctx_size_in = sizeof connection;
  CHECK(s.bpf(BPF_PROG_TEST_RUN, attr) == 0);
  CHECK(s.counts() == before);
  std::vector<std::string> wrong = {"not asked"};
  s.machine().interrupted = [&] {
    wrong = object_graph(s.machine()).disagreements();
    CHECK(s.counts()[0] == before[0] + 1);
    return true;
  };
  CHECK(s.bpf(BPF_PROG_TEST_RUN, attr) == -long(Errno::Intr));
  s.machine().interrupted = nullptr;
  CHECK(wrong.empty());
  CHECK(s.counts() == before);
  const RingbufView view = ringbuf_view(s.map(s.ring));
  REQUIRE(view.records.size() == 2);
  CHECK(!view.records[0].discarded);
  CHECK(!view.records[1].busy);
  CHECK(view.records[1].discarded);
  for (long fd : {prog, s.socks, s.ring, long(s.connected), long(s.listener)}) CHECK(s.close(int(fd)) == 0);
  CHECK(s.alive().empty());
}

TEST_CASE("A program that no verifier saw cannot give back what it does not hold") {
  for (bool checked : {false, true}) {
    Holder s;
    const std::vector<int64_t> before = s.counts();
    auto twice = s.take(Take::Connected);
    append(twice, program(mov64_reg(6, 0), mov64_reg(1, 6), call_helper(BPF_FUNC_sk_release), mov64_reg(1, 6),
                          call_helper(BPF_FUNC_sk_release), exit_insn()));
    CHECK(s.run(twice, checked).stop == RunStop::Oops);
    CHECK(s.counts() == before);
    auto submits = s.take(Take::Record);
    append(submits,
           program(mov64_reg(6, 0), mov64_reg(1, 6), mov64_imm(2, 0), call_helper(BPF_FUNC_ringbuf_submit),
                   mov64_reg(1, 6), mov64_imm(2, 0), call_helper(BPF_FUNC_ringbuf_discard), exit_insn()));
    CHECK(s.run(submits, checked).stop == RunStop::Oops);
    const RingbufView view = ringbuf_view(s.map(s.ring));
    REQUIRE(view.records.size() == 1);
    CHECK(!view.records[0].busy);
    CHECK(!view.records[0].discarded);
  }
}
