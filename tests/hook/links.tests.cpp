// Links at netfilter's hooks, at many kernel functions and at many places of a file.
#include "hook/attach.h"
#include "host/tracing.h"
#include "isa/opcodes.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Links : Sim {
  using Sim::Sim;
  static MachineOptions with(const char* option) {
    MachineOptions options;
    REQUIRE(options.config.set(option, true));
    return options;
  }
  static MachineOptions as(Version version) {
    MachineOptions options;
    options.version = version;
    return options;
  }
  long load(bpf_prog_type type, uint32_t expected, const std::vector<bpf_insn>& insns, uint32_t flags = 0) {
    bpf_attr attr = prog_load_attr(type, insns, &log);
    attr.expected_attach_type = expected;
    attr.prog_flags = flags;
    return bpf(BPF_PROG_LOAD, attr);
  }
  long load(bpf_prog_type type, uint32_t expected) {
    return load(type, expected, {mov64_imm(BPF_REG_0, 1), exit_insn()});
  }
  bpf_link_info info(long link) {
    bpf_link_info told{};
    CHECK(info(link, told) == 0);
    return told;
  }
  long info(long link, bpf_link_info& told) {
    bpf_attr attr;
    attr.info.bpf_fd = uint32_t(link);
    attr.info.info_len = sizeof told;
    attr.info.info = user_ptr(&told);
    return bpf(BPF_OBJ_GET_INFO_BY_FD, attr);
  }
  std::string own_lines(long fd) {
    const std::string text = *fdinfo(t, int(fd));
    const size_t id = text.find("prog_id:");
    return id == text.npos ? text : text.substr(text.find('\n', id) + 1);
  }

  long nf_link(long prog, uint32_t pf, uint32_t hooknum, int priority, uint32_t flags = 0) {
    bpf_attr attr;
    attr.link_create.prog_fd = uint32_t(prog);
    attr.link_create.attach_type = BPF_NETFILTER;
    attr.link_create.netfilter.pf = pf;
    attr.link_create.netfilter.hooknum = hooknum;
    attr.link_create.netfilter.priority = priority;
    attr.link_create.netfilter.flags = flags;
    return bpf(BPF_LINK_CREATE, attr);
  }
  long kprobes(long prog, const std::vector<const char*>& names, const std::vector<uint64_t>& cookies = {},
               uint32_t flags = 0, uint32_t at = BPF_TRACE_KPROBE_MULTI) {
    bpf_attr attr;
    attr.link_create.prog_fd = uint32_t(prog);
    attr.link_create.attach_type = at;
    attr.link_create.kprobe_multi.flags = flags;
    attr.link_create.kprobe_multi.cnt = uint32_t(names.size());
    attr.link_create.kprobe_multi.syms = user_ptr(names.data());
    attr.link_create.kprobe_multi.cookies = cookies.empty() ? 0 : user_ptr(cookies.data());
    return bpf(BPF_LINK_CREATE, attr);
  }
  long uprobes(long prog, const char* path, const std::vector<uint64_t>& offsets,
               const std::vector<uint64_t>& counters = {}, int pid = 0) {
    const std::vector<uint64_t> cookies(offsets.size(), 7);
    bpf_attr attr;
    attr.link_create.prog_fd = uint32_t(prog);
    attr.link_create.attach_type = BPF_TRACE_UPROBE_MULTI;
    attr.link_create.uprobe_multi.path = user_ptr(path);
    attr.link_create.uprobe_multi.offsets = user_ptr(offsets.data());
    attr.link_create.uprobe_multi.ref_ctr_offsets = counters.empty() ? 0 : user_ptr(counters.data());
    attr.link_create.uprobe_multi.cookies = user_ptr(cookies.data());
    attr.link_create.uprobe_multi.cnt = uint32_t(offsets.size());
    attr.link_create.uprobe_multi.pid = uint32_t(pid);
    return bpf(BPF_LINK_CREATE, attr);
  }
};

}  // namespace

TEST_CASE("a netfilter link holds its program, and no two have the same priority") {
  Links s;
  const long prog = s.load(BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER);
  REQUIRE(prog >= 0);
  const long link = s.nf_link(prog, 2, 0, 10);
  REQUIRE(link >= 0);
  CHECK(s.nf_link(prog, 2, 0, 10) == minus(Errno::Busy));
  const long other = s.nf_link(prog, 10, 0, 10);
  CHECK(other >= 0);
  CHECK(s.own_lines(link) == "pf:\t2\thooknum:\t0\tprio:\t10\n");
  CHECK(s.info(link).netfilter.priority == 10);

  // With fragments put together first, that priority is taken at two hooks.
  const long defrag = s.nf_link(prog, 2, 1, 5, BPF_F_NETFILTER_IP_DEFRAG);
  REQUIRE(defrag >= 0);
  CHECK(s.nf_link(prog, 2, 0, -400) == minus(Errno::Busy));
  CHECK(s.nf_link(prog, 2, 3, -400) == minus(Errno::Busy));
  CHECK(s.close(defrag) == 0);
  const long early = s.nf_link(prog, 2, 0, -400);
  CHECK(early >= 0);

  const Prog& program = s.prog(prog);
  for (long fd : {prog, other, early}) s.close(fd);
  CHECK(program.aux->refcnt.value() == 1);
  s.close(link);
  CHECK(s.alive().empty());
  CHECK(netns_of(s.machine()).nf_hooks.empty());
}

TEST_CASE("netfilter links came with 6.4, their flag with 6.6") {
  Links older(Links::as("6.3"_v)), newer(Links::as("6.5"_v));
  CHECK(older.load(BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER) == minus(Errno::Inval));
  const long prog = newer.load(BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER);
  CHECK(newer.nf_link(prog, 2, 0, 10, BPF_F_NETFILTER_IP_DEFRAG) == minus(Errno::OpNotSupp));
  CHECK(newer.nf_link(prog, 2, 0, 10) >= 0);
}

TEST_CASE("a netfilter program follows the pointers of its context") {
  Links s;
  const std::vector<bpf_insn> reads = {ldx_mem(BPF_DW, BPF_REG_2, BPF_REG_1, 8),
                                       ldx_mem(BPF_W, BPF_REG_3, BPF_REG_2, 112),
                                       ldx_mem(BPF_DW, BPF_REG_2, BPF_REG_1, 0),
                                       ldx_mem(BPF_B, BPF_REG_3, BPF_REG_2, 1),
                                       mov64_imm(BPF_REG_0, 1),
                                       exit_insn()};
  const long prog = s.load(BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER, reads);
  INFO(s.log.data());
  CHECK(prog >= 0);
  const std::vector<bpf_insn> past = {ldx_mem(BPF_DW, BPF_REG_2, BPF_REG_1, 0),
                                      ldx_mem(BPF_B, BPF_REG_3, BPF_REG_2, 48), mov64_imm(BPF_REG_0, 1),
                                      exit_insn()};
  CHECK(s.load(BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER, past) == minus(Errno::Access));
}

TEST_CASE("a kprobe_multi link tells its functions and cookies, in the order of their addresses") {
  Links s(Links::with("CONFIG_FPROBE"));
  const long prog = s.load(BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI);
  const auto& functions = tracing(s.machine()).functions;
  const std::vector<const char*> names = {functions[2].name.c_str(), functions[0].name.c_str(),
                                          functions[1].name.c_str()};
  const long link = s.kprobes(prog, names, {12, 10, 11}, BPF_F_KPROBE_MULTI_RETURN);
  REQUIRE(link >= 0);
  CHECK(functions[1].fprobes.size() == 1);

  uint64_t addrs[4] = {}, cookies[4] = {};
  bpf_link_info told{};
  CHECK(s.info(link, told) == 0);
  CHECK((told.kprobe_multi.count == 3 && told.kprobe_multi.flags == 1));
  told.kprobe_multi.addrs = user_ptr(addrs);
  told.kprobe_multi.cookies = user_ptr(cookies);
  told.kprobe_multi.count = 2;
  CHECK(s.info(link, told) == minus(Errno::NoSpc));
  CHECK((addrs[1] == functions[1].addr && addrs[2] == 0 && cookies[1] == 11));
  told.kprobe_multi.count = 4;
  CHECK(s.info(link, told) == 0);
  CHECK((addrs[0] == functions[0].addr && addrs[2] == functions[2].addr && addrs[3] == 0));
  CHECK((cookies[0] == 10 && cookies[2] == 12 && told.kprobe_multi.count == 3));
  told.kprobe_multi.addrs = 0;
  CHECK(s.info(link, told) == minus(Errno::Inval));
  CHECK(s.own_lines(link).starts_with("kprobe_cnt:\t3\nmissed:\t0\ncookie\t func\n10\t " + functions[0].name +
                                      "+0x0/0x400\n"));
  s.close(prog), s.close(link);
  CHECK(functions[1].fprobes.empty());
  CHECK(s.alive().empty());
}

TEST_CASE("what a kprobe_multi link refuses") {
  Links s(Links::with("CONFIG_FPROBE"));
  const long prog = s.load(BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI);
  const long plain = s.load(BPF_PROG_TYPE_KPROBE, 0);
  const char* name = tracing(s.machine()).functions[0].name.c_str();
  const std::string long_name(600, 'f');
  CHECK(s.kprobes(plain, {name}) == minus(Errno::Inval));
  CHECK(s.kprobes(prog, {name}, {}, 2) == minus(Errno::Inval));
  CHECK(s.kprobes(prog, {}) == minus(Errno::Inval));
  CHECK(s.kprobes(prog, {"no_such_function"}) == minus(Errno::Srch));
  CHECK(s.kprobes(prog, {name, name}) == minus(Errno::Srch));
  CHECK(s.kprobes(prog, {nullptr}) == minus(Errno::Fault));
  CHECK(s.kprobes(prog, {long_name.c_str()}) == minus(Errno::TooBig));
  CHECK(s.kprobes(prog, {name}, {}, 0, BPF_TRACE_KPROBE_SESSION) == minus(Errno::Inval));

  bpf_attr attr;
  uint64_t addr = tracing(s.machine()).functions[0].addr;
  attr.link_create.prog_fd = uint32_t(prog);
  attr.link_create.attach_type = BPF_TRACE_KPROBE_MULTI;
  attr.link_create.kprobe_multi.addrs = user_ptr(&addr);
  attr.link_create.kprobe_multi.cnt = (1 << 20) + 1;
  CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(Errno::TooBig));
  attr.link_create.kprobe_multi.cnt = 1;
  ++addr;
  CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(Errno::Inval));
  --addr;
  attr.link_create.flags = 1;
  CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(Errno::Inval));
  attr.link_create.flags = 0;
  CHECK(s.bpf(BPF_LINK_CREATE, attr) >= 0);
  attr.link_create.kprobe_multi.syms = user_ptr(&name);
  CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(Errno::Inval));

  Links without;
  const long there = without.load(BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI);
  CHECK(without.kprobes(there, {name}) == minus(Errno::OpNotSupp));
}

TEST_CASE("a uprobe_multi link tells its file and its places") {
  Links s;
  const long prog = s.load(BPF_PROG_TYPE_KPROBE, BPF_TRACE_UPROBE_MULTI);
  Task& other = s.k.spawn("other");
  const long link = s.uprobes(prog, "/bin/bash", {64, 32}, {2, 4}, other.pid);
  REQUIRE(link >= 0);
  CHECK(s.own_lines(link) == "uprobe_cnt:\t2\npid:\t" + std::to_string(other.pid) +
                                 "\npath:\t/bin/bash\ncookie\t offset\t ref_ctr_offset\n7\t 0x40\t 0x2\n7\t "
                                 "0x20\t 0x4\n");
  char path[16] = {};
  uint64_t offsets[2] = {};
  bpf_link_info told{};
  told.uprobe_multi.path = user_ptr(path);
  told.uprobe_multi.path_size = 9;
  CHECK(s.info(link, told) == minus(Errno::NameTooLong));
  told.uprobe_multi.path_size = sizeof path;
  told.uprobe_multi.offsets = user_ptr(offsets);
  told.uprobe_multi.count = 1;
  CHECK(s.info(link, told) == minus(Errno::NoSpc));
  CHECK((std::string(path) == "/bin/bash" && offsets[0] == 64 && offsets[1] == 0));
  told.uprobe_multi.count = 2;
  CHECK(s.info(link, told) == 0);
  CHECK((told.uprobe_multi.path_size == 10 && told.uprobe_multi.count == 2 && offsets[1] == 32));
  s.k.exit(other);
  CHECK(s.info(link).uprobe_multi.pid == 0);

  CHECK(s.uprobes(prog, "/bin/bash", {64}, {6}) == minus(Errno::Inval));  // another counter is there
  CHECK(s.uprobes(prog, "/bin/bash", {66}, {3}) == minus(Errno::Inval));
  CHECK(s.uprobes(prog, "/bin/bash", {1, 1u << 30}) == minus(Errno::Inval));
  CHECK(tracing(s.machine()).bash.uprobes.size() == 2);
  CHECK(s.uprobes(prog, "/bin", {64}) == minus(Errno::BadF));
  CHECK(s.uprobes(prog, "/bin/zsh", {64}) == minus(Errno::NoEnt));
  CHECK(s.uprobes(prog, "/bin/bash", {64}, {}, 99999) == minus(Errno::Srch));
  s.close(prog), s.close(link);
  CHECK(tracing(s.machine()).bash.uprobes.empty());
  CHECK(s.alive().empty());
}

TEST_CASE("netkit programs hang on the pair's primary device, or through it on the peer") {
  Links s(Links::with("CONFIG_NETKIT"));
  REQUIRE(s.k.add_netkit("nk0", "nk1").ok());
  CHECK(s.k.add_netkit("nk0", "other").err() == Errno::Exist);
  const long prog = s.prog_load(BPF_PROG_TYPE_SCHED_CLS, {mov64_imm(BPF_REG_0, 0), exit_insn()});
  auto attr_for = [&](uint32_t ifindex, uint32_t at) {
    bpf_attr attr;
    attr.link_create.prog_fd = uint32_t(prog);
    attr.link_create.target_ifindex = ifindex;
    attr.link_create.attach_type = at;
    return attr;
  };
  struct {
    uint32_t ifindex, at;
    Errno expected;
  } const refused[] = {{1, BPF_NETKIT_PRIMARY, Errno::NxIo},
                       {4, BPF_NETKIT_PRIMARY, Errno::Access},
                       {4, BPF_NETKIT_PEER, Errno::Access},
                       {77, BPF_NETKIT_PEER, Errno::NoDev}};
  for (const auto& c : refused) {
    INFO(c.ifindex << " " << c.at);
    bpf_attr attr = attr_for(c.ifindex, c.at);
    CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(c.expected));
  }
  bpf_attr here = attr_for(3, BPF_NETKIT_PRIMARY), there = attr_for(3, BPF_NETKIT_PEER);
  const long primary = s.bpf(BPF_LINK_CREATE, here), peer = s.bpf(BPF_LINK_CREATE, there);
  REQUIRE((primary >= 0 && peer >= 0));
  CHECK(s.own_lines(primary) == "ifindex:\t3\nattach_type:\t54 (primary)\n");
  CHECK((s.info(peer).type == BPF_LINK_TYPE_NETKIT && s.info(peer).netkit.ifindex == 4));
  CHECK(s.k.remove_net_device("nk1").ok());
  CHECK(init_net(s.machine()).by_name("nk0") == nullptr);
  CHECK(s.info(primary).netkit.ifindex == 0);
  for (long fd : {prog, primary, peer}) s.close(fd);
  CHECK(s.alive().empty());
}

TEST_CASE("a link to a map of sockets holds both, and nobody else moves its program") {
  Links s;
  const std::vector<bpf_insn> pass = {mov64_imm(BPF_REG_0, 1), exit_insn()};
  const long prog = s.prog_load(BPF_PROG_TYPE_SK_MSG, pass), other = s.prog_load(BPF_PROG_TYPE_SK_MSG, pass);
  const long socks = s.map_create(BPF_MAP_TYPE_SOCKMAP, 4, 4, 4);
  bpf_attr attr;
  attr.link_create.prog_fd = uint32_t(prog);
  attr.link_create.target_fd = uint32_t(socks);
  attr.link_create.attach_type = BPF_SK_MSG_VERDICT;
  const long link = s.bpf(BPF_LINK_CREATE, attr);
  REQUIRE(link >= 0);
  CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(Errno::Busy));
  const Map& map = s.map(socks);
  const Prog& program = s.prog(prog);
  CHECK((map.usercnt.value() == 2 && program.aux->refcnt.value() == 3));
  CHECK(s.own_lines(link) == "map_id:\t" + std::to_string(map.id) + "\nattach_type:\t7\n");

  bpf_attr update;
  update.link_update.link_fd = uint32_t(link);
  update.link_update.new_prog_fd = uint32_t(other);
  CHECK(s.bpf(BPF_LINK_UPDATE, update) == 0);
  CHECK(program.aux->refcnt.value() == 1);
  s.close(prog), s.close(other);
  bpf_attr detach;
  detach.link_detach.link_fd = uint32_t(link);
  CHECK(s.bpf(BPF_LINK_DETACH, detach) == 0);
  CHECK((map.usercnt.value() == 1 && s.info(link).sockmap.map_id == 0));
  CHECK(s.bpf(BPF_LINK_UPDATE, update) == minus(Errno::BadF));
  s.close(link), s.close(socks);
  CHECK(s.alive().empty());

  Links older(Links::as("6.9"_v));
  attr.link_create.prog_fd = uint32_t(older.prog_load(BPF_PROG_TYPE_SK_MSG, pass));
  attr.link_create.target_fd = uint32_t(older.map_create(BPF_MAP_TYPE_SOCKMAP, 4, 4, 4));
  CHECK(older.bpf(BPF_LINK_CREATE, attr) == minus(Errno::Inval));
}

TEST_CASE("a program that is bound to a device runs there only, and goes nowhere when the device is gone") {
  Links s;
  REQUIRE(s.k.add_net_device("eth1", true).ok());
  const std::vector<bpf_insn> pass = {mov64_imm(BPF_REG_0, 2), exit_insn()};
  bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, pass);
  attr.prog_ifindex = 1;
  CHECK(s.bpf(BPF_PROG_LOAD, attr) == minus(Errno::OpNotSupp));  // lo's driver
  attr.prog_ifindex = 2;
  CHECK(s.bpf(BPF_PROG_LOAD, attr) == minus(Errno::Inval));  // no such hardware
  attr.prog_flags = BPF_F_XDP_DEV_BOUND_ONLY;
  const long prog = s.bpf(BPF_PROG_LOAD, attr);
  REQUIRE(prog >= 0);
  auto link = [&](uint32_t ifindex, uint32_t flags = 0) {
    bpf_attr create;
    create.link_create.prog_fd = uint32_t(prog);
    create.link_create.target_ifindex = ifindex;
    create.link_create.attach_type = BPF_XDP;
    create.link_create.flags = flags;
    return s.bpf(BPF_LINK_CREATE, create);
  };
  CHECK(link(3) == minus(Errno::Inval));
  CHECK(link(2, 2) == minus(Errno::Inval));  // generic mode
  const long there = link(2);
  CHECK(there >= 0);
  REQUIRE(s.k.remove_net_device("eth0").ok());
  REQUIRE(s.k.add_net_device("eth0", true).ok());
  CHECK(link(4) == minus(Errno::Inval));
}

TEST_CASE("a test run makes the state of a netfilter hook, and a packet that fits it") {
  Links s;
  const std::vector<bpf_insn> reads_hook = {ldx_mem(BPF_DW, BPF_REG_2, BPF_REG_1, 0),
                                            ldx_mem(BPF_B, BPF_REG_0, BPF_REG_2, 0),
                                            alu64_imm(BPF_AND, BPF_REG_0, 1), exit_insn()};
  const long prog = s.load(BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER, reads_hook);
  REQUIRE(prog >= 0);
  std::vector<uint8_t> frame(60);
  frame[12] = 0x08;  // IPv4
  auto run = [&](uint8_t hook, uint8_t pf, size_t size, uint32_t* retval = nullptr) {
    uint8_t state[48] = {hook, pf};
    bpf_attr attr;
    attr.test.prog_fd = uint32_t(prog);
    attr.test.data_in = user_ptr(frame.data());
    attr.test.data_size_in = uint32_t(size);
    attr.test.ctx_in = user_ptr(state);
    attr.test.ctx_size_in = sizeof state;
    const long done = s.bpf(BPF_PROG_TEST_RUN, attr);
    if (retval) *retval = attr.test.retval;
    return done;
  };
  uint32_t retval = 0;
  CHECK(run(3, 2, 60, &retval) == 0);
  CHECK(retval == 1);
  CHECK(run(4, 2, 60, &retval) == 0);
  CHECK(retval == 0);
  CHECK(run(0, 10, 60) == minus(Errno::Inval));  // the frame carries IPv4
  CHECK(run(3, 7, 60) == minus(Errno::Inval));
  CHECK(run(0, 2, 33) == minus(Errno::Inval));
  CHECK(run(3, 2, 19) == minus(Errno::Inval));
  frame[13] = 0x06;  // ARP
  CHECK(run(0, 2, 60) == minus(Errno::Proto));
}
