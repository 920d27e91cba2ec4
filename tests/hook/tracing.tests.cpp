// Tracing programs: what of their context they may touch, their test runs, what they attach to and what
// those links hold. The live kernel judges loads, test runs and refusals; nothing is attached there.
#include "host/tracing.h"

#include "live_bpf.h"
#include "sim.h"
#include "uapi/perf_event.h"

using namespace bpfsim;

namespace {

constexpr uint8_t kLdx[] = {0, 0x71, 0x69, 0, 0x61, 0, 0, 0, 0x79},
                  kSt[] = {0, 0x72, 0x6a, 0, 0x62, 0, 0, 0, 0x7a};

std::vector<bpf_insn> returns(int32_t value) { return {{0xb7, 0, 0, 0, value}, {0x95, 0, 0, 0, 0}}; }
std::vector<bpf_insn> reads(int off, int size) {
  return {{kLdx[size], 0, 1, int16_t(off), 0}, {0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}};
}
std::vector<bpf_insn> writes(int off, int size) {
  return {{kSt[size], 1, 0, int16_t(off), 1}, {0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}};
}

bpf_attr load_attr(bpf_prog_type type, const std::vector<bpf_insn>& insns, uint32_t flags = 0,
                   bpf_attach_type attach = bpf_attach_type(0)) {
  bpf_attr attr = prog_load_attr(type, insns);
  attr.prog_flags = flags;
  attr.expected_attach_type = attach;
  return attr;
}

long load(Sim& s, bpf_prog_type type, const std::vector<bpf_insn>& insns) {
  bpf_attr attr = load_attr(type, insns, type == BPF_PROG_TYPE_SYSCALL ? BPF_F_SLEEPABLE : 0);
  return s.bpf(BPF_PROG_LOAD, attr);
}

constexpr bpf_prog_type kTypes[] = {BPF_PROG_TYPE_KPROBE,
                                    BPF_PROG_TYPE_TRACEPOINT,
                                    BPF_PROG_TYPE_PERF_EVENT,
                                    BPF_PROG_TYPE_RAW_TRACEPOINT,
                                    BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
                                    BPF_PROG_TYPE_SYSCALL};

long open_raw_tp(Sim& s, long prog, const char* name) {
  bpf_attr attr;
  attr.raw_tracepoint.prog_fd = uint32_t(prog);
  attr.raw_tracepoint.name = user_ptr(name);
  return s.bpf(BPF_RAW_TRACEPOINT_OPEN, attr);
}

int perf_event(Sim& s, uint32_t type, uint64_t config, const char* function = nullptr) {
  perf_event_attr attr;
  attr.type = type;
  attr.config = config;
  attr.config1 = user_ptr(function);
  attr.bits = PERF_ATTR_DISABLED;
  return *s.k.perf_event_open(s.t, attr);
}
int trace_event(Sim& s, const char* name) {
  return perf_event(s, PERF_TYPE_TRACEPOINT, tracing(s.machine()).raw_tracepoint(name)->event_id);
}

long perf_link(Sim& s, long prog, long event, uint64_t cookie = 0) {
  bpf_attr attr;
  attr.link_create.prog_fd = uint32_t(prog);
  attr.link_create.target_fd = uint32_t(event);
  attr.link_create.attach_type = BPF_PERF_EVENT;
  attr.link_create.perf_event.bpf_cookie = cookie;
  return s.bpf(BPF_LINK_CREATE, attr);
}

long link_info(Sim& s, long fd, bpf_link_info& info) {
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(fd);
  attr.info.info = user_ptr(&info);
  attr.info.info_len = sizeof info;
  return s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr);
}

}  // namespace

TEST_CASE("the live kernel lets tracing programs touch the same bytes of their context") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  const std::vector<int> offsets = {-8,  -1,  0,   1,   2,   4,   7,    8,    12,   16,   64,
                                    88,  92,  96,  112, 160, 164, 166,  167,  168,  169,  170,
                                    172, 176, 180, 182, 183, 184, 8184, 8190, 8191, 8192, 32767};
  int differ = 0;
  for (bpf_prog_type type : kTypes) {
    const uint32_t flags = type == BPF_PROG_TYPE_SYSCALL ? BPF_F_SLEEPABLE : 0;
    for (int off : offsets)
      for (int size : {1, 2, 4, 8})
        for (bool write : {false, true}) {
          const auto insns = write ? writes(off, size) : reads(off, size);
          bpf_attr to_live = load_attr(type, insns, flags), to_sim = to_live;
          const long expected = live::sys_bpf(BPF_PROG_LOAD, &to_live, sizeof to_live);
          live::close_fd(expected);
          const long got = s.bpf(BPF_PROG_LOAD, to_sim);
          if (got >= 0) s.close(got);
          if ((got < 0 ? got : 0) == (expected < 0 ? expected : 0)) continue;
          ++differ;
          UNSCOPED_INFO("type " << type << (write ? " writes " : " reads ") << size << " at " << off << ": "
                                << got << " here, " << expected << " live");
        }
  }
  CHECK(differ == 0);
}

TEST_CASE("the live kernel asks the same of prog_flags and expected_attach_type") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  const auto insns = returns(0);
  for (bpf_prog_type type : kTypes)
    for (uint32_t flags : {0u, uint32_t(BPF_F_SLEEPABLE)})
      for (uint32_t attach : {0u, 5u, 23u, 28u, 41u, 42u, 48u, 56u, 57u, 99u}) {
        bpf_attr to_live = load_attr(type, insns, flags, bpf_attach_type(attach)), to_sim = to_live;
        const long expected = live::sys_bpf(BPF_PROG_LOAD, &to_live, sizeof to_live);
        live::close_fd(expected);
        const long got = s.bpf(BPF_PROG_LOAD, to_sim);
        if (got >= 0) s.close(got);
        INFO("type " << type << " flags " << flags << " attach type " << attach << ": " << s.why());
        CHECK((got < 0 ? got : 0) == (expected < 0 ? expected : 0));
      }
}

TEST_CASE("test runs of raw tracepoint and syscall programs answer as live") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  // r0 = ctx[1]; a SYSCALL program also writes 7 to ctx[0].
  const std::vector<bpf_insn> raw = {{0x79, 0, 1, 8, 0}, {0x95, 0, 0, 0, 0}};
  const std::vector<bpf_insn> call = {{0x79, 0, 1, 8, 0}, {0x7a, 1, 0, 0, 7}, {0x95, 0, 0, 0, 0}};
  struct Case {
    const char* what;
    uint32_t ctx_size;
    void (*fill)(bpf_attr&);
  };
  const Case cases[] = {
      {"two words", 16, [](bpf_attr&) {}},
      {"one word is too few", 8, [](bpf_attr&) {}},
      {"no context", 0, [](bpf_attr&) {}},
      {"twelve words", 96, [](bpf_attr&) {}},
      {"thirteen words", 104, [](bpf_attr&) {}},
      {"repeat", 16, [](bpf_attr& a) { a.test.repeat = 1; }},
      {"cpu", 16, [](bpf_attr& a) { a.test.cpu = 1; }},
      {"on cpu 0", 16, [](bpf_attr& a) { a.test.flags = BPF_F_TEST_RUN_ON_CPU; }},
      {"on cpu 9999", 16, [](bpf_attr& a) { a.test.flags = BPF_F_TEST_RUN_ON_CPU, a.test.cpu = 9999; }},
      {"unknown flag", 16, [](bpf_attr& a) { a.test.flags = 1 << 6; }},
      {"batch", 16, [](bpf_attr& a) { a.test.batch_size = 1; }},
      {"data", 16, [](bpf_attr& a) { a.test.data_in = 64, a.test.data_size_in = 8; }},
  };
  for (bpf_prog_type type : {BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_KPROBE}) {
    bpf_attr attr = load_attr(type, type == BPF_PROG_TYPE_SYSCALL ? call : raw,
                              type == BPF_PROG_TYPE_SYSCALL ? BPF_F_SLEEPABLE : 0);
    bpf_attr to_sim = attr;
    const long live_prog = live::sys_bpf(BPF_PROG_LOAD, &attr, sizeof attr),
               prog = s.bpf(BPF_PROG_LOAD, to_sim);
    REQUIRE(live_prog >= 0);
    REQUIRE(prog >= 0);
    for (const Case& c : cases) {
      uint64_t ctx[2][13] = {{11, 22, 33}, {11, 22, 33}};
      bpf_attr runs[2];
      for (int side : {0, 1}) {
        runs[side].test.prog_fd = uint32_t(side ? prog : live_prog);
        runs[side].test.ctx_size_in = c.ctx_size;
        runs[side].test.ctx_in = c.ctx_size ? user_ptr(ctx[side]) : 0;
        runs[side].test.retval = 0xeeee;
        c.fill(runs[side]);
      }
      const long expected = live::sys_bpf(BPF_PROG_TEST_RUN, &runs[0], sizeof runs[0]);
      const long got = s.bpf(BPF_PROG_TEST_RUN, runs[1]);
      INFO("type " << type << ", " << c.what << ": " << s.why());
      CHECK(got == expected);
      CHECK(runs[1].test.retval == runs[0].test.retval);
      CHECK(std::memcmp(ctx[0], ctx[1], sizeof ctx[0]) == 0);
    }
    live::close_fd(live_prog);
    s.close(prog);
  }
}

TEST_CASE("a raw tracepoint's link holds its program, and is told by TASK_FD_QUERY") {
  Sim s;
  const long prog = load(s, BPF_PROG_TYPE_RAW_TRACEPOINT, reads(8, 8));
  REQUIRE(prog >= 0);
  const long link = open_raw_tp(s, prog, "sys_enter");
  INFO(s.why());
  REQUIRE(link >= 0);
  CHECK(s.object(link)->label() == "link 1 (raw_tracepoint)");
  CHECK(s.prog(prog).aux->refcnt.value() == 2);
  CHECK(tracing(s.machine()).raw_tracepoint("sys_enter")->links.size() == 1);
  bpf_link_info info;
  CHECK(link_info(s, link, info) == 0);
  CHECK(info.type == BPF_LINK_TYPE_RAW_TRACEPOINT);
  CHECK(info.raw_tracepoint.tp_name_len == 10);
  char name[16] = {};
  info.raw_tracepoint.tp_name = user_ptr(name);
  CHECK(link_info(s, link, info) == 0);
  CHECK(std::string(name) == "sys_enter");
  info.raw_tracepoint.tp_name_len = 4;
  CHECK(link_info(s, link, info) == minus(Errno::NoSpc));
  CHECK(std::string(name) == "sys");

  struct {
    uint32_t room;
    long ret;
    const char* text;
  } const cases[] = {{16, 0, "sys_enter"},
                     {10, 0, "sys_enter"},
                     {9, minus(Errno::NoSpc), "sys_ente"},
                     {1, minus(Errno::NoSpc), ""}};
  for (const auto& c : cases) {
    char buf[16] = "xxxxxxxxxxxxxxx";
    bpf_attr attr;
    attr.task_fd_query.pid = uint32_t(s.t.pid);
    attr.task_fd_query.fd = uint32_t(link);
    attr.task_fd_query.buf = user_ptr(buf);
    attr.task_fd_query.buf_len = c.room;
    CHECK(s.bpf(BPF_TASK_FD_QUERY, attr) == c.ret);
    CHECK(std::string(buf) == c.text);
    CHECK(attr.task_fd_query.buf_len == 9);
    CHECK(attr.task_fd_query.prog_id == s.prog(prog).id);
    CHECK(attr.task_fd_query.fd_type == BPF_FD_TYPE_RAW_TRACEPOINT);
  }
  CHECK(s.close(prog) == 0);
  CHECK(s.close(link) == 0);
  CHECK(tracing(s.machine()).raw_tracepoint("sys_enter")->links.empty());
  CHECK(s.alive().empty());
}

TEST_CASE("a raw tracepoint refuses a program that reads more arguments than it has") {
  Sim s;
  const long prog = load(s, BPF_PROG_TYPE_RAW_TRACEPOINT, reads(16, 8));
  CHECK(open_raw_tp(s, prog, "sys_enter") == minus(Errno::Inval));
  CHECK(open_raw_tp(s, prog, "sched_switch") >= 0);
  CHECK(open_raw_tp(s, prog, "sys_enter_bpf") == minus(Errno::NoEnt));
}

TEST_CASE("a perf link holds the event's file, and the event its program") {
  Sim s;
  const long prog = load(s, BPF_PROG_TYPE_TRACEPOINT, reads(8, 8));
  const int event = trace_event(s, "sched_switch"), other = trace_event(s, "sched_switch");
  const long link = perf_link(s, prog, event, 77);
  INFO(s.why());
  REQUIRE(link >= 0);
  CHECK(s.prog(prog).aux->refcnt.value() == 3);  // fd, link, event
  CHECK(perf_link(s, prog, event) == minus(Errno::Exist));
  CHECK(perf_link(s, prog, other) == minus(Errno::Exist));  // the tracepoint runs it already
  CHECK(s.close(event) == 0);
  char name[32] = {};
  bpf_link_info info;
  info.perf_event.tracepoint.tp_name = user_ptr(name);
  info.perf_event.tracepoint.name_len = sizeof name;
  CHECK(link_info(s, link, info) == 0);
  CHECK(info.perf_event.type == BPF_PERF_EVENT_TRACEPOINT);
  CHECK(std::string(name) == "sched_switch");
  CHECK(info.perf_event.tracepoint.cookie == 77);
  CHECK(s.close(link) == 0);
  CHECK(s.prog(prog).aux->refcnt.value() == 1);
  CHECK(perf_link(s, prog, other) >= 0);
  s.k.exit(s.t);
  CHECK(s.alive().empty());
}

TEST_CASE("what programs a perf event takes") {
  Sim s;
  const long kprobe = load(s, BPF_PROG_TYPE_KPROBE, returns(0)),
             tp = load(s, BPF_PROG_TYPE_TRACEPOINT, returns(0)),
             pe = load(s, BPF_PROG_TYPE_PERF_EVENT, returns(0)),
             far = load(s, BPF_PROG_TYPE_TRACEPOINT, reads(1024, 8));
  const int clock = perf_event(s, PERF_TYPE_SOFTWARE, 0),
            probe = perf_event(s, PERF_TYPE_KPROBE, 1, "do_exit"), trace = trace_event(s, "sys_enter");
  struct {
    long prog;
    int event;
    long ret;
  } const cases[] = {{kprobe, clock, minus(Errno::Inval)}, {tp, clock, minus(Errno::Inval)},
                     {pe, probe, minus(Errno::Inval)},     {tp, probe, minus(Errno::Inval)},
                     {kprobe, trace, minus(Errno::Inval)}, {far, trace, minus(Errno::Access)},
                     {pe, 999, minus(Errno::BadF)},        {pe, int(kprobe), minus(Errno::BadF)}};
  for (const auto& c : cases) {
    const long got = perf_link(s, c.prog, c.event);
    INFO(s.why());
    CHECK(got == c.ret);
  }
  for (auto [prog, event, type] : {std::tuple{kprobe, probe, uint32_t(BPF_FD_TYPE_KRETPROBE)},
                                   {tp, trace, uint32_t(BPF_FD_TYPE_TRACEPOINT)}}) {
    CHECK(s.k.ioctl(s.t, event, PERF_EVENT_IOC_SET_BPF, uint64_t(prog)).err() == Errno::None);
    CHECK(s.prog(prog).aux->refcnt.value() == 2);
    bpf_attr attr;
    attr.task_fd_query.pid = uint32_t(s.t.pid);
    attr.task_fd_query.fd = uint32_t(event);
    CHECK(s.bpf(BPF_TASK_FD_QUERY, attr) == 0);
    CHECK(attr.task_fd_query.fd_type == type);
  }
  CHECK(perf_link(s, pe, clock) >= 0);
  bpf_attr attr;
  attr.task_fd_query.pid = uint32_t(s.t.pid);
  attr.task_fd_query.fd = uint32_t(clock);
  CHECK(s.bpf(BPF_TASK_FD_QUERY, attr) == minus(Errno::OpNotSupp));
  s.k.exit(s.t);
  CHECK(s.alive().empty());
}

TEST_CASE("a kprobe by address has no name, and before 6.6 one by name has no address") {
  for (const char* version : {"6.1", "6.18"}) {
    MachineOptions options;
    options.version = *Version::parse(version);
    Sim s(options);
    const KernelFunction& function = *s.k.tracing().function("do_exit");
    perf_event_attr by_address;
    by_address.type = PERF_TYPE_KPROBE;
    by_address.config2 = function.addr;
    const int named = perf_event(s, PERF_TYPE_KPROBE, 0, "do_exit"),
              nameless = *s.k.perf_event_open(s.t, by_address, -1, 0, -1, 0);
    for (int event : {named, nameless}) {
      REQUIRE(
          s.k.ioctl(s.t, event, PERF_EVENT_IOC_SET_BPF, uint64_t(load(s, BPF_PROG_TYPE_KPROBE, returns(0))))
              .err() == Errno::None);
      char room[16] = "before";
      bpf_attr attr;
      attr.task_fd_query.pid = uint32_t(s.t.pid);
      attr.task_fd_query.fd = uint32_t(event);
      attr.task_fd_query.buf = user_ptr(room);
      attr.task_fd_query.buf_len = sizeof room;
      CHECK(s.bpf(BPF_TASK_FD_QUERY, attr) == 0);
      CHECK(std::string(room) == (event == named ? "do_exit" : ""));
      CHECK(attr.task_fd_query.probe_addr ==
            (event == named && s.k.machine().version < "6.6"_v ? 0 : function.addr));
    }
  }
}

TEST_CASE("the live kernel refuses the same links, raw tracepoints and queries") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  struct Fds {
    long kprobe, tp, pe, raw, syscall, map, event;
  };
  auto make = [&](auto&& bpf, long event) {
    auto prog = [&](bpf_prog_type type) {
      const auto insns = returns(0);
      bpf_attr attr = load_attr(type, insns, type == BPF_PROG_TYPE_SYSCALL ? BPF_F_SLEEPABLE : 0);
      return bpf(BPF_PROG_LOAD, attr);
    };
    bpf_attr map;
    map.map_type = BPF_MAP_TYPE_ARRAY, map.key_size = 4, map.value_size = 8, map.max_entries = 1;
    return Fds{prog(BPF_PROG_TYPE_KPROBE),
               prog(BPF_PROG_TYPE_TRACEPOINT),
               prog(BPF_PROG_TYPE_PERF_EVENT),
               prog(BPF_PROG_TYPE_RAW_TRACEPOINT),
               prog(BPF_PROG_TYPE_SYSCALL),
               bpf(BPF_MAP_CREATE, map),
               event};
  };
  auto live_bpf = [](int cmd, bpf_attr& attr) { return live::sys_bpf(cmd, &attr, sizeof attr); };
  auto sim_bpf = [&](int cmd, bpf_attr& attr) { return s.bpf(cmd, attr); };
  perf_event_attr software;
  software.type = PERF_TYPE_SOFTWARE, software.config = PERF_COUNT_SW_DUMMY,
  software.bits = PERF_ATTR_DISABLED;
  long live_event = -1;
#if defined(__linux__) && defined(__NR_perf_event_open)
  live_event = syscall(__NR_perf_event_open, &software, 0, -1, -1, 0ul);
#endif
  if (live_event < 0) {
    WARN("skipped: no perf events here");
    return;
  }
  const Fds on_live = make(live_bpf, live_event),
            here = make(sim_bpf, *s.k.perf_event_open(s.t, software, 0, -1));
  struct Case {
    const char* what;
    int cmd;
    void (*fill)(bpf_attr&, const Fds&, uint32_t pid);
  };
  auto link = [](bpf_attr& a, long prog, long target, uint32_t type, uint32_t flags = 0) {
    a.link_create.prog_fd = uint32_t(prog), a.link_create.target_fd = uint32_t(target);
    a.link_create.attach_type = type, a.link_create.flags = flags;
  };
  static const auto& create = link;
  // None of these attaches anything.
  const Case cases[] = {
      {"event of a map", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.pe, f.map, 41); }},
      {"event 9999", BPF_LINK_CREATE, [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.pe, 9999, 41); }},
      {"flags", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.pe, f.event, 41, 1); }},
      {"kprobe on a clock", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.kprobe, f.event, 41); }},
      {"tracepoint on a clock", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.tp, f.event, 41); }},
      {"attach type 0", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.pe, f.event, 0); }},
      {"kprobe at 0", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.kprobe, f.event, 0); }},
      {"raw tracepoint", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.raw, f.event, 41); }},
      {"raw tracepoint at 23", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.raw, 0, 23); }},
      {"kprobe multi", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.kprobe, 0, 42); }},
      {"kprobe session", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.kprobe, 0, 56); }},
      {"uprobe multi", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.kprobe, 0, 48); }},
      {"uprobe session", BPF_LINK_CREATE,
       [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.kprobe, 0, 57); }},
      {"perf at 42", BPF_LINK_CREATE, [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.pe, 0, 42); }},
      {"syscall", BPF_LINK_CREATE, [](bpf_attr& a, const Fds& f, uint32_t) { create(a, f.syscall, 0, 0); }},
      {"open: no prog", BPF_RAW_TRACEPOINT_OPEN,
       [](bpf_attr& a, const Fds&, uint32_t) { a.raw_tracepoint.prog_fd = 9999; }},
      {"open: a map", BPF_RAW_TRACEPOINT_OPEN,
       [](bpf_attr& a, const Fds& f, uint32_t) { a.raw_tracepoint.prog_fd = uint32_t(f.map); }},
      {"open: no such name", BPF_RAW_TRACEPOINT_OPEN,
       [](bpf_attr& a, const Fds& f, uint32_t) {
         a.raw_tracepoint.prog_fd = uint32_t(f.raw), a.raw_tracepoint.name = user_ptr("no_such");
       }},
      {"open: no name", BPF_RAW_TRACEPOINT_OPEN,
       [](bpf_attr& a, const Fds& f, uint32_t) {
         a.raw_tracepoint.prog_fd = uint32_t(f.raw), a.raw_tracepoint.name = user_ptr("");
       }},
      {"open: a kprobe", BPF_RAW_TRACEPOINT_OPEN,
       [](bpf_attr& a, const Fds& f, uint32_t) {
         a.raw_tracepoint.prog_fd = uint32_t(f.kprobe), a.raw_tracepoint.name = user_ptr("sys_enter");
       }},
      {"query: no task", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Fds& f, uint32_t) {
         a.task_fd_query.pid = 99999999, a.task_fd_query.fd = uint32_t(f.event);
       }},
      {"query: pid 0", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Fds& f, uint32_t) { a.task_fd_query.fd = uint32_t(f.event); }},
      {"query: no fd", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Fds&, uint32_t pid) { a.task_fd_query.pid = pid, a.task_fd_query.fd = 9999; }},
      {"query: a map", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Fds& f, uint32_t pid) {
         a.task_fd_query.pid = pid, a.task_fd_query.fd = uint32_t(f.map);
       }},
      {"query: flags", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Fds& f, uint32_t pid) {
         a.task_fd_query.pid = pid, a.task_fd_query.fd = uint32_t(f.map), a.task_fd_query.flags = 1;
       }},
      {"query: an event without program", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Fds& f, uint32_t pid) {
         a.task_fd_query.pid = pid, a.task_fd_query.fd = uint32_t(f.event);
       }},
  };
  for (const Case& c : cases) {
    bpf_attr to_live, to_sim;
#ifdef __linux__
    c.fill(to_live, on_live, uint32_t(getpid()));
#endif
    c.fill(to_sim, here, uint32_t(s.t.pid));
    const long expected = live_bpf(c.cmd, to_live), got = sim_bpf(c.cmd, to_sim);
    INFO(c.what << ": the simulator says " << s.why());
    CHECK(expected < 0);
    CHECK(got == expected);
  }
  for (long fd :
       {on_live.kprobe, on_live.tp, on_live.pe, on_live.raw, on_live.syscall, on_live.map, on_live.event})
    live::close_fd(fd);
}
