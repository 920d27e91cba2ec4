// PROG_LOAD and what follows: who may load what, lives of programs, test runs, links, rtnetlink.
#include "hook/hook.h"
#include "host/net_device.h"
#include "sim.h"
#include "syscall/rtnetlink.h"
#include "uapi/if_link.h"
#include "uapi/info.h"

using namespace bpfsim;

namespace {

bpf_insn insn(uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm) {
  bpf_insn made{};
  made.code = code;
  made.dst_reg = dst & 15;
  made.src_reg = src & 15;
  made.off = off;
  made.imm = imm;
  return made;
}
std::vector<bpf_insn> returns(int32_t value) { return {insn(0xb7, 0, 0, 0, value), insn(0x95, 0, 0, 0, 0)}; }
std::vector<bpf_insn> uses_map(long fd, int32_t value) {
  return {insn(0x18, 1, BPF_PSEUDO_MAP_FD, 0, int32_t(fd)), insn(0, 0, 0, 0, 0), insn(0xb7, 0, 0, 0, value),
          insn(0x95, 0, 0, 0, 0)};
}

}  // namespace

TEST_CASE("a program is loaded, seen, held by its descriptor, and gone after a grace period") {
  Sim s;
  const long map = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0, "m");
  const long fd = s.prog_load(BPF_PROG_TYPE_XDP, uses_map(map, XDP_DROP), "drop");
  INFO(s.why());
  REQUIRE(fd == 4);
  Prog& prog = s.prog(fd);
  CHECK(prog.id == 1);
  CHECK(prog.label() == "prog 1 (drop)");
  CHECK(prog.aux->refcnt.value() == 1);
  CHECK(prog.gpl_compatible);
  CHECK(s.map(map).refcnt.value() == 2);
  CHECK(s.map(map).usercnt.value() == 1);
  s.machine().rcu.hold();
  CHECK(s.close(map) == 0);
  CHECK(s.close(fd) == 0);
  CHECK(s.alive() == std::vector<std::string>{"map 1 (m)", "prog 1 (drop), id gone"});
  CHECK(s.machine().registry->prog_idr.size() == 0);
  CHECK(object_graph(s.machine()).disagreements().empty());
  s.machine().rcu.release();
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
}

TEST_CASE("what PROG_LOAD refuses before the verifier looks") {
  struct Case {
    const char* what;
    void (*fill)(bpf_attr&);
    long expected;
  };
  static const Case cases[] = {
      {"an unknown flag", [](bpf_attr& a) { a.prog_flags = 1u << 30; }, -22},
      {"no instructions", [](bpf_attr& a) { a.insn_cnt = 0; }, -7},
      {"too many instructions", [](bpf_attr& a) { a.insn_cnt = 1'000'001; }, -7},
      {"instructions at nowhere", [](bpf_attr& a) { a.insns = 16; }, -14},
      {"license at nowhere", [](bpf_attr& a) { a.license = 16; }, -14},
      {"an unknown type", [](bpf_attr& a) { a.prog_type = 999; }, -22},
      {"type 0", [](bpf_attr& a) { a.prog_type = 0; }, -22},
      {"a bad name", [](bpf_attr& a) { std::strcpy(a.prog_name, "a-b"); }, -22},
      {"a BTF id for XDP", [](bpf_attr& a) { a.attach_btf_id = 1; }, -22},
      {"attach_prog_fd that is nothing", [](bpf_attr& a) { a.attach_prog_fd = 99; }, -22},
      {"SK_LOOKUP without its attach type", [](bpf_attr& a) { a.prog_type = BPF_PROG_TYPE_SK_LOOKUP; }, -22},
      {"log_level without a log", [](bpf_attr& a) { a.log_level = 1, a.log_size = 128; }, -22},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    Sim s;
    const auto insns = returns(XDP_PASS);
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, insns);
    c.fill(attr);
    CHECK(s.bpf(BPF_PROG_LOAD, attr) == c.expected);
    CHECK_FALSE(s.k.last_refusal().reason().empty());
    CHECK(s.alive().empty());
  }
}

TEST_CASE("who may load which type") {
  constexpr CapabilitySet kBpf = 1ull << CAP_BPF, kNet = 1ull << CAP_NET_ADMIN,
                          kAdmin = 1ull << CAP_SYS_ADMIN;
  struct {
    const char* version;
    int64_t disabled;
    CapabilitySet caps;
    bpf_prog_type type;
    bool allowed;
  } const cases[] = {
      {"6.18", 2, 0, BPF_PROG_TYPE_SOCKET_FILTER, false}, {"6.18", 0, 0, BPF_PROG_TYPE_SOCKET_FILTER, true},
      {"6.18", 0, 0, BPF_PROG_TYPE_XDP, false},           {"6.18", 2, kBpf, BPF_PROG_TYPE_XDP, false},
      {"6.18", 2, kBpf | kNet, BPF_PROG_TYPE_XDP, true},  {"6.18", 2, kAdmin, BPF_PROG_TYPE_XDP, true},
      {"5.4", 1, kBpf | kNet, BPF_PROG_TYPE_XDP, false},  {"5.4", 1, kAdmin, BPF_PROG_TYPE_XDP, true},
  };
  for (const auto& c : cases) {
    INFO(c.version << " disabled=" << c.disabled << " caps=" << c.caps << " type=" << c.type);
    MachineOptions options;
    options.version = *Version::parse(c.version);
    Sim s(options);
    s.machine().sysctl.unprivileged_bpf_disabled = c.disabled;
    s.t.cred = {1000, c.caps};
    const auto insns = returns(0);
    bpf_attr attr = prog_load_attr(c.type, insns);
    const long ret = s.bpf(BPF_PROG_LOAD, attr, 48);
    INFO(s.why());
    CHECK(ret == (c.allowed ? 3 : minus(Errno::Perm)));
  }
}

TEST_CASE("prog info tells what was loaded, and dumps it with map ids") {
  Sim s;
  const long map = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  const long fd = s.prog_load(BPF_PROG_TYPE_XDP, uses_map(map, XDP_PASS), "p");
  REQUIRE(fd >= 0);
  uint32_t ids[4] = {};
  bpf_insn dump[16] = {};
  bpf_prog_info info{};
  info.nr_map_ids = 4;
  info.map_ids = user_ptr(ids);
  info.xlated_prog_len = sizeof dump;
  info.xlated_prog_insns = user_ptr(dump);
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = user_ptr(&info);
  CHECK(s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
  CHECK(info.type == BPF_PROG_TYPE_XDP);
  CHECK(info.id == 1);
  CHECK(std::string(info.name) == "p");
  CHECK(info.gpl_compatible == 1);
  CHECK(info.nr_map_ids == 1);
  CHECK(ids[0] == 1);
  CHECK(info.xlated_prog_len == 32);
  CHECK(dump[0].src_reg == BPF_PSEUDO_MAP_FD);
  CHECK(dump[0].imm == 1);
  CHECK(dump[1].imm == 0);
  CHECK(info.verified_insns == 3);
}

TEST_CASE("TEST_RUN runs the program, and refuses half a context") {
  Sim s;
  const long fd = s.prog_load(BPF_PROG_TYPE_XDP, returns(XDP_DROP));
  REQUIRE(fd >= 0);
  uint8_t packet[64] = {};
  bpf_attr attr;
  attr.test.prog_fd = uint32_t(fd);
  attr.test.data_in = user_ptr(packet);
  attr.test.data_size_in = sizeof packet;
  attr.test.repeat = 1;
  CHECK(s.bpf(BPF_PROG_TEST_RUN, attr) == 0);
  CHECK(attr.test.retval == XDP_DROP);
  attr.test.ctx_size_in = 8;
  CHECK(s.bpf(BPF_PROG_TEST_RUN, attr) == minus(Errno::Inval));
  bpf_attr none;
  none.test.prog_fd = 99;
  CHECK(s.bpf(BPF_PROG_TEST_RUN, none) == minus(Errno::BadF));
}

TEST_CASE("a link holds its program on the device, and lets go with its last descriptor") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(XDP_DROP), "drop");
  const long pass = s.prog_load(BPF_PROG_TYPE_XDP, returns(XDP_PASS), "pass");
  REQUIRE(pass >= 0);
  bpf_attr attr;
  attr.link_create.prog_fd = uint32_t(prog);
  attr.link_create.target_ifindex = 2;
  attr.link_create.attach_type = BPF_XDP;
  const long link = s.bpf(BPF_LINK_CREATE, attr);
  INFO(s.why());
  REQUIRE(link >= 0);
  CHECK(s.bpf(BPF_LINK_CREATE, attr) == minus(Errno::Busy));
  NetDevice& eth0 = *s.k.net().by_name("eth0");
  std::vector<uint8_t> packet(64);
  CHECK(receive(eth0, packet).verdict == XDP_DROP);
  CHECK(s.close(prog) == 0);
  CHECK(receive(eth0, packet).verdict == XDP_DROP);

  bpf_attr update;
  update.link_update.link_fd = uint32_t(link);
  update.link_update.new_prog_fd = uint32_t(pass);
  update.link_update.old_prog_fd = uint32_t(pass);
  CHECK(s.bpf(BPF_LINK_UPDATE, update) == minus(Errno::Inval));
  update.link_update.flags = BPF_F_REPLACE;
  CHECK(s.bpf(BPF_LINK_UPDATE, update) == minus(Errno::Perm));
  update.link_update.flags = 0;
  update.link_update.old_prog_fd = 0;
  CHECK(s.bpf(BPF_LINK_UPDATE, update) == 0);
  CHECK(receive(eth0, packet).verdict == XDP_PASS);

  bpf_link_info info;
  bpf_attr ask;
  ask.info.bpf_fd = uint32_t(link);
  ask.info.info_len = sizeof info;
  ask.info.info = user_ptr(&info);
  CHECK(s.bpf(BPF_OBJ_GET_INFO_BY_FD, ask) == 0);
  CHECK(info.type == BPF_LINK_TYPE_XDP);
  CHECK(info.id == 1);
  CHECK(info.prog_id == 2);
  CHECK(info.xdp.ifindex == 2);
  CHECK(s.close(pass) == 0);
  CHECK(s.close(link) == 0);
  CHECK_FALSE(receive(eth0, packet).ran);
  CHECK(s.alive().empty());
}

TEST_CASE("a link that is detached lives on without its device") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(XDP_DROP));
  bpf_attr attr;
  attr.link_create.prog_fd = uint32_t(prog);
  attr.link_create.target_ifindex = 2;
  attr.link_create.attach_type = BPF_XDP;
  const long link = s.bpf(BPF_LINK_CREATE, attr);
  REQUIRE(link >= 0);
  bpf_attr detach;
  detach.link_detach.link_fd = uint32_t(link);
  CHECK(s.bpf(BPF_LINK_DETACH, detach) == 0);
  CHECK_FALSE(receive(*s.k.net().by_index(2), std::vector<uint8_t>(64)).ran);
  CHECK(s.close(prog) == 0);
  CHECK(s.alive().size() == 3);  // file, link, program
  CHECK(s.close(link) == 0);
  CHECK(s.alive().empty());
}

TEST_CASE("RTM_SETLINK attaches by a message of real bytes") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(XDP_DROP));
  const long filter = s.prog_load(BPF_PROG_TYPE_SOCKET_FILTER, returns(0));
  REQUIRE(filter >= 0);
  auto send = [&](const std::vector<uint8_t>& message) {
    const int err = -int(s.k.rtnl_setlink(s.t, message).err());
    CHECK(object_graph(s.machine()).disagreements().empty());
    return err;
  };
  const auto attach = build_setlink_xdp(2, int(prog), 0);
  CHECK(attach.size() == 44);
  CHECK(attach[34] == 43);  // IFLA_XDP, behind two headers and its own length
  CHECK(send(attach) == 0);
  CHECK(receive(*s.k.net().by_index(2), std::vector<uint8_t>(64)).verdict == XDP_DROP);
  CHECK(send(build_setlink_xdp(2, int(prog), XDP_FLAGS_UPDATE_IF_NOEXIST)) == minus(Errno::Busy));
  CHECK(send(build_setlink_xdp(77, int(prog), 0)) == minus(Errno::NoDev));
  CHECK(send(build_setlink_xdp(0, int(prog), 0)) == minus(Errno::Inval));
  CHECK(send(build_setlink_xdp(2, 99, 0)) == minus(Errno::BadF));
  CHECK(send(build_setlink_xdp(2, int(filter), 0)) == minus(Errno::Inval));
  CHECK(send(build_setlink_xdp(2, int(prog), 1u << 20)) == minus(Errno::Inval));
  CHECK(send(build_setlink_xdp(2, int(prog), XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE)) ==
        minus(Errno::Inval));
  CHECK(send(build_setlink_xdp(2, int(prog), XDP_FLAGS_REPLACE)) == minus(Errno::Inval));
  CHECK(send(build_setlink_xdp(2, -1, XDP_FLAGS_REPLACE, int(filter))) == minus(Errno::Inval));
  CHECK(send(build_setlink_xdp(2, -1, XDP_FLAGS_REPLACE, int(prog))) == 0);
  CHECK_FALSE(receive(*s.k.net().by_index(2), std::vector<uint8_t>(64)).ran);

  for (size_t cut = 0; cut < attach.size(); ++cut) {  // no prefix of the bytes does harm
    std::vector<uint8_t> message(attach.begin(), attach.begin() + long(cut));
    CHECK(send(message) == minus(Errno::Inval));
  }
  auto names = [&](const std::vector<uint8_t>& message) {
    std::vector<std::string> list;
    for (const NetlinkPart& part : explain_setlink(message)) list.push_back(part.name + ": " + part.value);
    return list;
  };
  CHECK(names(attach) == std::vector<std::string>{"nlmsghdr: len 44, type 19 (RTM_SETLINK)",
                                                  "ifinfomsg: ifi_index 2", "IFLA_XDP: ", "IFLA_XDP_FD: 3"});
  s.t.cred.effective = 0;
  CHECK(send(attach) == minus(Errno::Perm));
}

TEST_CASE("a pinned program and a program on a device outlive their task") {
  Sim s;
  const long prog = s.prog_load(BPF_PROG_TYPE_XDP, returns(XDP_DROP), "p");
  bpf_attr pin;
  pin.pathname = user_ptr("/sys/fs/bpf/p");
  pin.bpf_fd = uint32_t(prog);
  CHECK(s.bpf(BPF_OBJ_PIN, pin) == 0);
  CHECK(s.k.rtnl_setlink(s.t, build_setlink_xdp(2, int(prog), 0)).ok());
  Prog& object = s.prog(prog);
  s.k.exit(s.t);
  CHECK(object.aux->refcnt.value() == 3);  // the pin, the device, its driver
  CHECK(object_graph(s.machine()).disagreements().empty());
  Task& next = s.k.spawn("next");
  CHECK(s.k.unlink(next, "/sys/fs/bpf/p").ok());
  CHECK(s.k.rtnl_setlink(next, build_setlink_xdp(2, -1, 0)).ok());
  CHECK(s.alive().empty());
}
