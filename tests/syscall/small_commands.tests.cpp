// ENABLE_STATS, PROG_BIND_MAP, TOKEN_CREATE, PROG_STREAM_READ_BY_FD, and perf_event_open beside them.
#include "host/tracing.h"
#include "live_bpf.h"
#include "sim.h"
#include "syscall/perf_event.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace bpfsim;

namespace {

std::vector<bpf_insn> returns(int32_t value) { return {{0xb7, 0, 0, 0, value}, {0x95, 0, 0, 0, 0}}; }

uint32_t run_cnt(Sim& s, long prog) { return uint32_t(s.prog(prog).stats.cnt); }

long test_run(Sim& s, long prog) {
  static const uint8_t packet[64] = {};
  bpf_attr attr;
  attr.test.prog_fd = uint32_t(prog);
  attr.test.data_in = user_ptr(packet);
  attr.test.data_size_in = sizeof packet;
  return s.bpf(BPF_PROG_TEST_RUN, attr);
}

long enable_stats(Sim& s, uint32_t type = BPF_STATS_RUN_TIME) {
  bpf_attr attr;
  attr.enable_stats.type = type;
  return s.bpf(BPF_ENABLE_STATS, attr);
}

bpf_attr bind(long prog, long map) {
  bpf_attr attr;
  attr.prog_bind_map.prog_fd = uint32_t(prog);
  attr.prog_bind_map.map_fd = uint32_t(map);
  return attr;
}

perf_event_attr event(uint32_t type, uint64_t config = 0) {
  perf_event_attr attr;
  attr.type = type;
  attr.config = config;
  attr.bits = PERF_ATTR_DISABLED;
  return attr;
}

}  // namespace

TEST_CASE("runs are counted while a file of ENABLE_STATS is open or the sysctl says so") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(2));
  REQUIRE(prog >= 0);
  REQUIRE(test_run(s, prog) == 0);
  CHECK(run_cnt(s, prog) == 0);
  const long stats = enable_stats(s), second = enable_stats(s);
  REQUIRE(stats >= 0);
  CHECK(s.t.files.get(int(stats))->label() == "file (bpf-stats)");
  REQUIRE(test_run(s, prog) == 0);
  CHECK(run_cnt(s, prog) == 1);
  CHECK(s.prog(prog).stats.nsecs > 0);
  CHECK(s.close(stats) == 0);
  REQUIRE(test_run(s, prog) == 0);
  CHECK(run_cnt(s, prog) == 2);
  CHECK(s.close(second) == 0);
  REQUIRE(test_run(s, prog) == 0);
  CHECK(run_cnt(s, prog) == 2);
  s.machine().sysctl.bpf_stats_enabled = 1;
  REQUIRE(test_run(s, prog) == 0);
  CHECK(run_cnt(s, prog) == 3);
}

TEST_CASE("a program holds a map that was bound to it, once") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(2));
  const long map = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1);
  bpf_attr attr = bind(prog, map);
  CHECK(s.bpf(BPF_PROG_BIND_MAP, attr) == 0);
  CHECK(s.bpf(BPF_PROG_BIND_MAP, attr) == 0);
  CHECK(s.map(map).refcnt.value() == 2);
  CHECK(s.prog(prog).aux->used_maps.size() == 1);
  CHECK(s.close(map) == 0);
  CHECK(s.alive().size() == 3);  // the program, its file, the map
  CHECK(s.close(prog) == 0);
  CHECK(s.alive().empty());
}

TEST_CASE("older kernels lack these commands") {
  for (auto [version, cmd] : {std::pair{"5.7", BPF_ENABLE_STATS},
                              {"5.9", BPF_PROG_BIND_MAP},
                              {"6.8", BPF_TOKEN_CREATE},
                              {"6.16", BPF_PROG_STREAM_READ_BY_FD}}) {
    MachineOptions options;
    options.version = *Version::parse(version);
    Sim s(options);
    bpf_attr attr;
    CHECK(s.bpf(cmd, attr, 16) == minus(Errno::Inval));
    CHECK(s.why().find("came with Linux") != std::string::npos);
  }
}

TEST_CASE("without CAP_SYS_ADMIN nobody enables statistics") {
  Sim s;
  s.t.cred.effective = 1ull << CAP_BPF;
  CHECK(enable_stats(s) == minus(Errno::Perm));
}

TEST_CASE("the live kernel answers the small commands with the same errno") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  uint8_t buffer[64];
  struct Case {
    const char* what;
    int cmd;
    std::vector<uint64_t> words;  // 32-bit each; P and M stand for the descriptors
  };
  constexpr uint64_t P = 1ull << 40, M = 2ull << 40, B = 3ull << 40;
  const Case cases[] = {
      {"bind", BPF_PROG_BIND_MAP, {P, M}},
      {"bind again", BPF_PROG_BIND_MAP, {P, M}},
      {"bind flags", BPF_PROG_BIND_MAP, {P, M, 1}},
      {"bind no prog", BPF_PROG_BIND_MAP, {9999, M}},
      {"bind no map", BPF_PROG_BIND_MAP, {P, 9999}},
      {"bind swapped", BPF_PROG_BIND_MAP, {M, P}},
      {"bind tail", BPF_PROG_BIND_MAP, {P, M, 0, 1}},
      {"stats", BPF_ENABLE_STATS, {0}},
      {"stats of type 1", BPF_ENABLE_STATS, {1}},
      {"stats tail", BPF_ENABLE_STATS, {0, 1}},
      {"token flags", BPF_TOKEN_CREATE, {1, M}},
      {"token of a map", BPF_TOKEN_CREATE, {0, M}},
      {"token of nothing", BPF_TOKEN_CREATE, {0, 9999}},
      {"token tail", BPF_TOKEN_CREATE, {0, M, 1}},
      {"stream 0", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 0, P}},
      {"stream 1", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 1, P}},
      {"stream 2", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 2, P}},
      {"stream 3", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 3, P}},
      {"stream into nothing", BPF_PROG_STREAM_READ_BY_FD, {0, 0, 64, 1, P}},
      {"stream of a map", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 1, M}},
      {"stream of nothing", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 1, 9999}},
      {"stream tail", BPF_PROG_STREAM_READ_BY_FD, {B, 0, 64, 1, P, 1}},
  };
  const auto insns = returns(2);
  bpf_attr load = prog_load_attr(BPF_PROG_TYPE_XDP, insns);
  bpf_attr make;
  make.map_type = BPF_MAP_TYPE_ARRAY, make.key_size = 4, make.value_size = 8, make.max_entries = 1;
  const long live_map = live::sys_bpf(BPF_MAP_CREATE, &make, sizeof make);
  const long live_prog = live::sys_bpf(BPF_PROG_LOAD, &load, sizeof load);
  const long map = s.bpf(BPF_MAP_CREATE, make), prog = s.bpf(BPF_PROG_LOAD, load);
  auto fill = [&](const Case& c, long p, long m) {
    bpf_attr attr;
    auto* words = reinterpret_cast<uint32_t*>(&attr);
    for (size_t i = 0; i < c.words.size(); ++i)
      if (c.words[i] == B)
        *reinterpret_cast<uint64_t*>(words + i) = user_ptr(buffer);
      else if (!(i == 1 && c.words[0] == B))
        words[i] = uint32_t(c.words[i] == P ? p : c.words[i] == M ? m : long(c.words[i]));
    return attr;
  };
  for (const Case& c : cases) {
    bpf_attr to_live = fill(c, live_prog, live_map), to_sim = fill(c, prog, map);
    const long expected = live::sys_bpf(c.cmd, &to_live, sizeof to_live);
    const long got = s.bpf(c.cmd, to_sim);
    if (c.cmd == BPF_ENABLE_STATS) live::close_fd(expected);
    INFO(c.what << ": the simulator says " << s.why());
    CHECK((got < 0 ? got : 0) == (expected < 0 ? expected : 0));
  }
  live::close_fd(live_map);
  live::close_fd(live_prog);
}

TEST_CASE("a perf event is a file, and what it may listen to") {
  Sim s;
  const int fd = *s.k.perf_event_open(s.t, event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK));
  CHECK(s.t.files.get(fd)->label() == "file ([perf_event])");
  CHECK(s.object(fd)->label().find("software") != std::string::npos);
  CHECK(s.k.read(s.t, fd, 8)->size() == 8);
  CHECK(s.k.read(s.t, fd, 4).err() == Errno::NoSpc);
  CHECK(s.k.ioctl(s.t, fd, PERF_EVENT_IOC_ENABLE).err() == Errno::None);
  CHECK(s.k.ioctl(s.t, fd, PERF_EVENT_IOC_DISABLE).err() == Errno::None);
  CHECK(s.k.ioctl(s.t, fd, 0x2499).err() == Errno::NoTty);
  uint64_t count = 0;
  std::memcpy(&count, s.k.read(s.t, fd, 8)->data(), 8);
  CHECK(count > 0);
  Tracepoint& at = *tracing(s.machine()).raw_tracepoint("sched_switch");
  const int tp = *s.k.perf_event_open(s.t, event(PERF_TYPE_TRACEPOINT, at.event_id));
  CHECK(s.object(tp)->label().find("tracepoint sched:sched_switch") != std::string::npos);
  perf_event_attr probe = event(PERF_TYPE_KPROBE, 1);
  probe.config1 = user_ptr("vfs_read");
  const int kp = *s.k.perf_event_open(s.t, probe);
  CHECK(s.object(kp)->label().find("kretprobe vfs_read") != std::string::npos);
  probe.config1 = user_ptr("no_such_function");
  CHECK(s.k.perf_event_open(s.t, probe).err() == Errno::NoEnt);
  CHECK(object_graph(s.machine()).disagreements().empty());
  for (int open : {fd, tp, kp}) CHECK(s.close(open) == 0);
  CHECK(s.alive().empty());
}

TEST_CASE("a program set on a perf event lives as long as the event") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(0));
  const int fd = *s.k.perf_event_open(s.t, event(PERF_TYPE_SOFTWARE));
  CHECK(s.k.ioctl(s.t, fd, PERF_EVENT_IOC_SET_BPF, uint64_t(prog)).err() == Errno::Inval);
  CHECK(s.k.ioctl(s.t, fd, PERF_EVENT_IOC_SET_BPF, 999).err() == Errno::BadF);
  CHECK(s.prog(prog).aux->refcnt.value() == 1);
  CHECK(object_graph(s.machine()).disagreements().empty());
}

#if defined(__linux__) && defined(__NR_perf_event_open)
TEST_CASE("the live kernel opens and refuses the same perf events") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  struct Case {
    const char* what;
    void (*fill)(perf_event_attr&);
    int pid = 0, cpu = -1, group_fd = -1;
    uint64_t flags = 0;
  };
  const Case cases[] = {
      {"cpu clock", [](perf_event_attr&) {}},
      {"task clock", [](perf_event_attr& a) { a.config = 1; }},
      {"dummy", [](perf_event_attr& a) { a.config = 9; }},
      {"bpf output", [](perf_event_attr& a) { a.config = 10; }},
      {"the last software event", [](perf_event_attr& a) { a.config = 11; }},
      {"one more", [](perf_event_attr& a) { a.config = 12; }},
      {"no trace event", [](perf_event_attr& a) { a.type = PERF_TYPE_TRACEPOINT; }},
      {"no such trace event", [](perf_event_attr& a) { a.type = PERF_TYPE_TRACEPOINT, a.config = 1 << 20; }},
      {"no type", [](perf_event_attr& a) { a.type = 999; }},
      {"no cpu and no task", [](perf_event_attr&) {}, -1, -1},
      {"everything on cpu 0", [](perf_event_attr&) {}, -1, 0},
      {"cpu 9999", [](perf_event_attr&) {}, -1, 9999},
      {"cpu -2", [](perf_event_attr&) {}, 0, -2},
      {"no task", [](perf_event_attr&) {}, 99999999},
      {"task -2", [](perf_event_attr&) {}, -2},
      {"no leader", [](perf_event_attr&) {}, 0, -1, 9999},
      {"unknown flag", [](perf_event_attr&) {}, 0, -1, -1, 16},
      {"close on exec", [](perf_event_attr&) {}, 0, -1, -1, PERF_FLAG_FD_CLOEXEC},
      {"cgroup of nothing", [](perf_event_attr&) {}, -1, -1, -1, PERF_FLAG_PID_CGROUP},
      {"size 0", [](perf_event_attr& a) { a.size = 0; }},
      {"size 63", [](perf_event_attr& a) { a.size = 63; }},
      {"size 64", [](perf_event_attr& a) { a.size = 64; }},
      {"size 5000", [](perf_event_attr& a) { a.size = 5000; }},
      {"sample_type", [](perf_event_attr& a) { a.sample_type = 1ull << 40; }},
      {"the next sample_type", [](perf_event_attr& a) { a.sample_type = PERF_SAMPLE_MAX; }},
      {"read_format", [](perf_event_attr& a) { a.read_format = 1ull << 40; }},
      {"the next read_format", [](perf_event_attr& a) { a.read_format = PERF_FORMAT_MAX; }},
      {"reserved bit", [](perf_event_attr& a) { a.bits |= 1ull << 50; }},
      {"the first reserved bit", [](perf_event_attr& a) { a.bits |= 1ull << PERF_ATTR_BITS; }},
      {"reserved_2", [](perf_event_attr& a) { a.reserved_2 = 1; }},
      {"negative period", [](perf_event_attr& a) { a.sample_period = 1ull << 63; }},
      {"high frequency", [](perf_event_attr& a) { a.bits |= PERF_ATTR_FREQ, a.sample_period = 1u << 30; }},
  };
  for (const Case& c : cases) {
    perf_event_attr attr = event(PERF_TYPE_SOFTWARE);
    c.fill(attr);
    perf_event_attr to_live = attr;
    long expected = syscall(__NR_perf_event_open, &to_live, c.pid, c.cpu, c.group_fd, c.flags);
    if (expected < 0) expected = -errno;
    live::close_fd(expected);
    Result<int> got = s.k.perf_event_open(s.t, attr, c.pid, c.cpu, c.group_fd, c.flags);
    INFO(c.what << ": the simulator says " << got.refusal().reason());
    CHECK(-long(got.err()) == (expected < 0 ? expected : 0));
    if (got) s.close(*got);
  }
}
#endif
