// Extensions of programs (freplace), tracing programs on programs, and LSM programs: what their load refuses,
// what holds what before they are attached and after, and where they get into each other's way. The live
// kernel that judges the rest refuses each of these loads with EPERM before it looks, so all here is from
// source; only that TRACE_RAW_TP names no program is compared (tracing on programs, live).
#include <cstring>
#include <functional>

#include "btf/btf_build.h"
#include "btf/btf_types.h"
#include "host/cgroup.h"
#include "host/tracing.h"
#include "isa/opcodes.h"
#include "live_bpf.h"
#include "sim.h"
#include "uapi/version.h"

using namespace bpfsim;

namespace {

std::vector<bpf_insn> returns(int number) { return {mov64_imm(BPF_REG_0, number), exit_insn()}; }
bpf_insn call_of(int32_t distance) { return {0x85, 0, 1, 0, distance}; }

// The types of the programs here; all functions are global but `hidden`.
struct Functions {
  BtfBuilder btf;
  uint32_t number = btf.add_int("int", 4, BTF_INT_SIGNED), wide = btf.add_int("long", 8, BTF_INT_SIGNED);
  uint32_t xdp_md = btf.add_ptr(btf.add_struct("xdp_md", 24, {}));
  uint32_t sk_buff = btf.add_ptr(btf.add_struct("__sk_buff", 192, {}));
  uint32_t proto = btf.add_func_proto(number, {{"ctx", xdp_md}});
  uint32_t main = btf.add_func("main", proto), sub = btf.add_func("sub", proto);
  uint32_t skb = btf.add_func("skb", btf.add_func_proto(number, {{"ctx", sk_buff}}));
  uint32_t hidden = btf.add_func("hidden", proto, BTF_FUNC_STATIC);
  uint32_t both = btf.add_func("both", btf.add_func_proto(number, {{"ctx", xdp_md}, {"n", number}}));
  uint32_t longer = btf.add_func("longer", btf.add_func_proto(wide, {{"ctx", xdp_md}}));
  uint32_t in_wide = btf.add_func("in_wide", btf.add_func_proto(number, {{"n", wide}}));
  uint32_t in_int = btf.add_func("in_int", btf.add_func_proto(number, {{"n", number}}));
};

struct Extending : Sim {
  explicit Extending(const char* version = "6.18", bool asks_live = false)
      : Sim(options(version)), asks_live(asks_live) {
    bpf_attr attr;
    blob = f.btf.bytes();
    attr.btf = user_ptr(blob.data());
    attr.btf_size = uint32_t(blob.size());
    btf_fd = bpf(BPF_BTF_LOAD, attr);
    REQUIRE(btf_fd >= 0);
  }
  ~Extending() {
    for (long fd : opened)
      if (fd > 2) live::close_fd(fd);
  }
  long bpf(int cmd, bpf_attr& attr) {
    if (!asks_live) return Sim::bpf(cmd, attr);
    opened.push_back(live::sys_bpf(cmd, &attr, sizeof attr));
    return opened.back();
  }
  static MachineOptions options(const char* version) {
    MachineOptions options;
    options.version = *Version::parse(version);
    return options;
  }

  // A program whose functions start at these instructions.
  long load(bpf_prog_type type, const std::vector<bpf_insn>& insns,
            const std::vector<bpf_func_info>& functions = {},
            const std::function<void(bpf_attr&)>& more = nullptr) {
    bpf_attr attr = prog_load_attr(type, insns, &log);
    if (!functions.empty()) {
      attr.prog_btf_fd = uint32_t(btf_fd);
      attr.func_info = user_ptr(functions.data());
      attr.func_info_rec_size = sizeof(bpf_func_info);
      attr.func_info_cnt = uint32_t(functions.size());
    }
    if (more) more(attr);
    return bpf(BPF_PROG_LOAD, attr);
  }
  long target(uint32_t sub = 0) {  // main(ctx) { return sub(ctx); }
    return load(BPF_PROG_TYPE_XDP, {call_of(1), exit_insn(), mov64_imm(BPF_REG_0, 2), exit_insn()},
                {{0, f.main}, {2, sub ? sub : f.sub}});
  }
  long on_program(bpf_prog_type type, long prog, uint32_t btf_id, uint32_t own, uint32_t at = 0) {
    return load(type, returns(0), {{0, own}}, [&](bpf_attr& attr) {
      attr.attach_prog_fd = uint32_t(prog);
      attr.attach_btf_id = btf_id;
      attr.expected_attach_type = at;
    });
  }
  long extension(long prog, uint32_t btf_id = 0, uint32_t own = 0) {
    return on_program(BPF_PROG_TYPE_EXT, prog, btf_id ? btf_id : f.sub, own ? own : f.sub);
  }
  long watcher(long prog, uint32_t at = BPF_TRACE_FENTRY) {
    return on_program(BPF_PROG_TYPE_TRACING, prog, f.sub, f.sub, at);
  }
  long open(long prog) {  // RAW_TRACEPOINT_OPEN without a name
    bpf_attr attr;
    attr.raw_tracepoint.prog_fd = uint32_t(prog);
    return bpf(BPF_RAW_TRACEPOINT_OPEN, attr);
  }
  bpf_link_info link_info(long fd) {
    bpf_link_info info{};
    bpf_attr attr;
    attr.info.bpf_fd = uint32_t(fd);
    attr.info.info = user_ptr(&info);
    attr.info.info_len = sizeof info;
    REQUIRE(bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
    return info;
  }
  long lsm(const std::string& hook, uint32_t at = BPF_LSM_MAC, int answer = 0, uint32_t flags = 0,
           const char* license = "GPL") {
    return load(BPF_PROG_TYPE_LSM, returns(answer), {}, [&](bpf_attr& attr) {
      attr.attach_btf_id = tracing(machine()).btf_vmlinux->types->find_by_name(hook, BTF_KIND_FUNC);
      attr.expected_attach_type = at;
      attr.prog_flags = flags;
      attr.license = user_ptr(license);
    });
  }
  std::string first_line() const { return std::string(log.data(), std::strcspn(log.data(), "\n")); }
  std::vector<std::string> holders(const Object& object) {
    const ObjectGraph graph = object_graph(machine());
    std::vector<std::string> names;
    for (const GraphEdge& edge : graph.holders(object)) names.push_back(edge.via);
    return names;
  }

  Functions f;
  std::vector<uint8_t> blob;
  long btf_fd = -1;
  const bool asks_live;
  std::vector<long> opened;  // on the live kernel
};

struct LiveExtending : Extending {
  LiveExtending() : Extending("6.18", true) {}
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("an extension holds its target from the load on, and hands it to its link") {
  Extending s;
  const long target = s.target(), extension = s.extension(target);
  REQUIRE(extension >= 0);
  const Prog &xdp = s.prog(target), &ext = s.prog(extension);
  REQUIRE(s.close(target) == 0);
  CHECK((s.holders(xdp) == Names{"dst_prog"}));
  CHECK(ext.expected_attach_type == 0);  // the target's was for the verifier alone
  const long link = s.open(extension);
  REQUIRE(link >= 0);
  CHECK((s.holders(xdp) == Names{"tr_link->tgt_prog"}));
  CHECK(xdp.aux->is_extended);
  REQUIRE(s.close(extension) == 0);
  CHECK((s.holders(ext) == Names{"link->prog"}));
  REQUIRE(s.close(link) == 0);
  s.machine().rcu.grace_period();
  CHECK(s.alive().size() == 2);  // the BTF and its descriptor
}

TEST_CASE("an extension that is closed before it was attached lets its target go") {
  Extending s;
  const long target = s.target(), extension = s.extension(target);
  CHECK(s.prog(target).aux->refcnt.value() == 2);
  REQUIRE(s.close(extension) == 0);
  s.machine().rcu.grace_period();
  CHECK(s.prog(target).aux->refcnt.value() == 1);
}

TEST_CASE("an extension may go to another program with the same function, and lets the first go") {
  Extending s;
  const long first = s.target(), second = s.target(), extension = s.extension(first);
  const long link = s.link_create(extension, second, 0, s.f.sub);
  REQUIRE(link >= 0);
  CHECK(s.prog(first).aux->refcnt.value() == 1);
  CHECK(s.prog(second).aux->refcnt.value() == 2);
  const bpf_link_info info = s.link_info(link);
  CHECK(info.tracing.target_obj_id == s.prog(second).id);
  CHECK(info.tracing.target_btf_id == s.f.sub);
  // Attached and gone, it knows no target any more, but may be told one.
  REQUIRE(s.close(link) == 0);
  CHECK(s.prog(second).aux->refcnt.value() == 1);
  CHECK(s.open(extension) == minus(Errno::Inval));
  const long again = s.link_create(extension, first, 0, s.f.sub);
  REQUIRE(again >= 0);
  CHECK(s.link_create(extension, second, 0, 0) == minus(Errno::Inval));  // both or none
  CHECK(s.link_create(extension, 9999, 0, s.f.sub) == minus(Errno::BadF));
  CHECK(s.link_create(extension, second, 0, s.f.both) == minus(Errno::Inval));
  CHECK(s.prog(second).aux->refcnt.value() == 1);  // what was refused holds nothing
}

TEST_CASE("the link of an extension tells the attach type that was asked for since 6.17") {
  for (const auto& [version, expected] :
       {std::pair{"6.16", 0u}, std::pair{"6.18", uint32_t(BPF_TRACE_FENTRY)}}) {
    Extending s(version);
    const long link = s.link_create(s.extension(s.target()), 0, BPF_TRACE_FENTRY);
    REQUIRE(link >= 0);
    CHECK(s.link_info(link).tracing.attach_type == expected);
  }
}

TEST_CASE("an extension is refused where it does not fit its target") {
  Extending s;
  const long target = s.target(), plain = s.load(BPF_PROG_TYPE_XDP, returns(2));
  const long with_static = s.target(s.f.hidden), with_both = [&] {
    return s.load(BPF_PROG_TYPE_XDP,
                  {mov64_imm(BPF_REG_2, 1), call_of(1), exit_insn(), mov64_imm(BPF_REG_0, 2), exit_insn()},
                  {{0, s.f.main}, {3, s.f.both}});
  }();
  const long fentry = s.load(BPF_PROG_TYPE_TRACING,
                             {mov64_imm(BPF_REG_1, 1), call_of(2), mov64_imm(BPF_REG_0, 0), exit_insn(),
                              mov64_imm(BPF_REG_0, 0), exit_insn()},
                             {{0, s.f.main}, {4, s.f.in_int}}, [&](bpf_attr& attr) {
                               attr.attach_prog_fd = uint32_t(target);
                               attr.attach_btf_id = s.f.sub;
                               attr.expected_attach_type = BPF_TRACE_FENTRY;
                             });
  const long ext = s.extension(target);
  const long with_int =
      s.load(BPF_PROG_TYPE_XDP,
             {mov64_imm(BPF_REG_1, 1), call_of(1), exit_insn(), mov64_imm(BPF_REG_0, 2), exit_insn()},
             {{0, s.f.main}, {3, s.f.in_int}});
  const struct {
    long prog;
    uint32_t btf_id, own;
    std::string says;
  } cases[] = {
      {target, 9999, s.f.sub, "attach_btf_id 9999 is invalid"},
      {target, s.f.both, s.f.both, "Subprog both doesn't exist"},
      {plain, s.f.sub, s.f.sub,
       "FENTRY/FEXIT program can only be attached to another program annotated with BTF"},
      {with_static, s.f.hidden, s.f.sub, "hidden() is not a global function"},
      {target, s.f.sub, s.f.hidden, "hidden() is not a global function"},
      {target, s.f.sub, s.f.both, "both() has 2 args while sub() has 1 args"},
      {with_both, s.f.both, s.f.sub, "sub() has 1 args while both() has 2 args"},
      {target, s.f.sub, s.f.skb, "arg0 skb(struct __sk_buff *) doesn't match sub(struct xdp_md *)"},
      {target, s.f.sub, s.f.in_int, "arg0 in in_int() is INT while sub() has PTR"},
      {ext, s.f.sub, s.f.sub, "Cannot recursively attach"},
      {fentry, s.f.main, s.f.sub, "Cannot replace static functions"},
      {fentry, s.f.in_int, s.f.in_int, "Cannot extend fentry/fexit"},
      {with_int, s.f.in_int, s.f.in_wide, "arg0 in in_wide() has size 8 while in_int() has 4"},
  };
  for (const auto& c : cases) {
    INFO(c.says);
    CHECK(s.extension(c.prog, c.btf_id, c.own) == minus(Errno::Inval));
    CHECK(s.first_line() == c.says);
  }
  CHECK(s.load(BPF_PROG_TYPE_EXT, returns(0), {{0, s.f.sub}}) == minus(Errno::Inval));
  CHECK(s.first_line() == "Tracing programs must provide btf_id");
  CHECK(s.load(BPF_PROG_TYPE_EXT, returns(0), {}, [&](bpf_attr& attr) {
    attr.attach_prog_fd = uint32_t(target);
    attr.attach_btf_id = s.f.sub;
  }) == minus(Errno::Inval));
  CHECK(s.first_line() == "Program extension requires BTF");
  CHECK(s.load(BPF_PROG_TYPE_EXT, returns(0), {{0, s.f.sub}},
               [&](bpf_attr& attr) { attr.attach_btf_id = 1; }) == minus(Errno::Inval));
  CHECK(s.first_line() == "Cannot replace kernel functions");
  CHECK(s.on_program(BPF_PROG_TYPE_EXT, target, s.f.sub, s.f.sub, BPF_TRACE_FENTRY) == minus(Errno::Inval));
  CHECK(s.on_program(BPF_PROG_TYPE_XDP, target, s.f.sub, s.f.sub) == minus(Errno::Inval));
  // What was refused holds nothing.
  CHECK(s.prog(target).aux->refcnt.value() == 3);  // its descriptor, fentry and ext
}

TEST_CASE("a static function whose callers pass something else cannot be replaced") {
  Extending s;
  const long target =
      s.load(BPF_PROG_TYPE_XDP,
             {mov64_imm(BPF_REG_1, 0), call_of(1), exit_insn(), mov64_imm(BPF_REG_0, 2), exit_insn()},
             {{0, s.f.main}, {3, s.f.hidden}});
  REQUIRE(target >= 0);
  CHECK(s.extension(target, s.f.hidden) == minus(Errno::Inval));
  CHECK(s.first_line() == "Cannot replace static functions");
}

TEST_CASE("an extension is verified as a program of the type that it extends") {
  Extending s;
  const long target = s.target();
  const std::vector<bpf_insn> reads_packet = {{0x61, 2, 1, 0, 0},      {0x61, 3, 1, 4, 0}, {0xbf, 4, 2, 0, 0},
                                              {0x07, 4, 0, 0, 1},      {0x2d, 4, 3, 1, 0}, {0x71, 0, 2, 0, 0},
                                              mov64_imm(BPF_REG_0, 2), exit_insn()};
  const auto to_target = [&](bpf_attr& attr) {
    attr.attach_prog_fd = uint32_t(target);
    attr.attach_btf_id = s.f.sub;
  };
  const long extension = s.load(BPF_PROG_TYPE_EXT, reads_packet, {{0, s.f.sub}}, to_target);
  REQUIRE(extension >= 0);
  CHECK(s.prog(extension).insnsi[0].code == 0x79);  // the context is rewritten: data is a pointer of 8 bytes
  const std::vector<bpf_insn> reads_beyond = {{0x61, 0, 1, 64, 0}, exit_insn()};
  CHECK(s.load(BPF_PROG_TYPE_EXT, reads_beyond, {{0, s.f.sub}}, to_target) == minus(Errno::Access));
  const std::vector<bpf_insn> adjusts = {mov64_imm(BPF_REG_2, 0),
                                         {0x85, 0, 0, 0, BPF_FUNC_xdp_adjust_head},
                                         mov64_imm(BPF_REG_0, 2),
                                         exit_insn()};
  CHECK(s.load(BPF_PROG_TYPE_EXT, adjusts, {{0, s.f.sub}}, to_target) == minus(Errno::Inval));
  CHECK(s.first_line() == "Extension program changes packet data, while original does not");
}

TEST_CASE("a program that can be tail called is not extended, and an extended one not tail called") {
  Extending s;
  const long target = s.target(), extension = s.extension(target);
  const long array = s.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2);
  const uint32_t zero = 0, value = uint32_t(target);
  REQUIRE(s.map_update(array, &zero, &value) == 0);
  CHECK(s.open(extension) == minus(Errno::Busy));
  REQUIRE(s.map_delete(array, &zero) == 0);
  const long link = s.open(extension);
  REQUIRE(link >= 0);
  CHECK(s.map_update(array, &zero, &value) == minus(Errno::Busy));
  REQUIRE(s.close(link) == 0);
  CHECK(s.map_update(array, &zero, &value) == 0);
  const uint32_t ext = uint32_t(extension);
  CHECK(s.map_update(array, &zero, &ext) == minus(Errno::Inval));  // never an extension itself
}

TEST_CASE("a function has either one extension or tracing programs") {
  Extending s;
  const long target = s.target(), extension = s.extension(target), other = s.extension(target);
  const long fentry = s.watcher(target), fexit = s.watcher(target, BPF_TRACE_FEXIT);
  const long watched = s.open(fentry);
  REQUIRE(watched >= 0);
  CHECK(s.open(extension) == minus(Errno::Busy));
  CHECK(s.prog(extension).aux->dst_prog);  // it still has its target
  REQUIRE(s.close(watched) == 0);
  const long replaced = s.open(extension);
  REQUIRE(replaced >= 0);
  CHECK(s.open(other) == minus(Errno::Busy));
  CHECK(s.open(fexit) == minus(Errno::Busy));
  // A tracing program whose target was a program's is attached once.
  CHECK(s.open(fentry) == minus(Errno::Inval));
  REQUIRE(s.close(replaced) == 0);
  CHECK(s.open(fexit) >= 0);
}

TEST_CASE("tracing programs nest one deep, and not at all before 6.8") {
  Extending s;
  const long target = s.target(), outer = s.watcher(target);
  const auto on_outer = [&](Extending& sim, long prog) {
    return sim.on_program(BPF_PROG_TYPE_TRACING, prog, sim.f.sub, sim.f.sub, BPF_TRACE_FENTRY);
  };
  const long inner = on_outer(s, outer);
  CHECK(inner >= 0);
  CHECK(on_outer(s, inner) == minus(Errno::Inval));
  CHECK(s.first_line() == "Cannot nest tracing program attach more than once");
  Extending old("6.6");
  CHECK(on_outer(old, old.watcher(old.target())) == minus(Errno::Inval));
  CHECK(old.first_line() == "Cannot recursively attach");
}

TEST_CASE("a raw tracepoint's program names no program, as on the live kernel") {
  Extending s;
  const long target = s.target();
  CHECK(s.watcher(target, BPF_MODIFY_RETURN) == minus(Errno::Inval));
  CHECK(s.first_line() == "can't modify return codes of BPF programs");
  CHECK(s.watcher(target, BPF_TRACE_RAW_TP) == minus(Errno::Inval));
  CHECK(s.first_line() == "Only FENTRY/FEXIT progs are attachable to another BPF prog");
  const std::string ours = s.log.data();
  LIVE_KERNEL_OR_SKIP();
  LiveExtending live;
  CHECK(live.watcher(live.target(), BPF_TRACE_RAW_TP) == minus(Errno::Inval));
  CHECK(ours == live.log.data());
}

TEST_CASE("extensions came with 5.6, LSM programs with 5.7, those on cgroups with 6.0") {
  Sim old(Extending::options("5.5"));
  CHECK(old.prog_load(BPF_PROG_TYPE_EXT, {mov64_imm(0, 0), exit_insn()}) == minus(Errno::Inval));
  CHECK(old.k.last_refusal().reason().find("came with Linux 5.6") != std::string::npos);
  Extending s56("5.6");
  const long extension = s56.extension(s56.target());
  CHECK(extension >= 0);
  CHECK(s56.lsm("bpf_lsm_file_open") == minus(Errno::Inval));
  Extending s59("5.9");
  CHECK(s59.link_create(s59.extension(s59.target()), 0, 0) == minus(Errno::Inval));
  CHECK(s59.open(s59.extension(s59.target())) >= 0);
  Extending s519("5.19");
  CHECK(s519.lsm("bpf_lsm_file_open") >= 0);
  CHECK(s519.lsm("bpf_lsm_file_open", BPF_LSM_CGROUP, 1) == minus(Errno::Inval));
  bpf_attr query;
  REQUIRE(s519.k.mkdir(s519.t, "/sys/fs/cgroup/a"));
  query.query.target_fd = uint32_t(*s519.k.open(s519.t, "/sys/fs/cgroup/a"));
  query.query.attach_type = BPF_LSM_CGROUP;
  CHECK(s519.bpf(BPF_PROG_QUERY, query) == minus(Errno::Inval));
  Extending s60("6.0");
  CHECK(s60.lsm("bpf_lsm_file_open", BPF_LSM_CGROUP, 1) >= 0);
}

TEST_CASE("an LSM program on a hook is held by its link and nothing else") {
  Extending s;
  const long lsm = s.lsm("bpf_lsm_file_open");
  REQUIRE(lsm >= 0);
  const Prog& prog = s.prog(lsm);
  const long link = s.link_create(lsm, 0, BPF_LSM_MAC);
  REQUIRE(link >= 0);
  CHECK(s.open(lsm) == minus(Errno::Busy));
  CHECK(s.link_create(lsm, 0, BPF_LSM_CGROUP) == minus(Errno::Inval));
  const bpf_link_info info = s.link_info(link);
  CHECK(info.tracing.attach_type == BPF_LSM_MAC);
  CHECK(info.tracing.target_btf_id == prog.aux->attach_btf_id);
  CHECK(info.tracing.target_obj_id == tracing(s.machine()).btf_vmlinux->id);
  REQUIRE(s.close(lsm) == 0);
  CHECK((s.holders(prog) == Names{"link->prog"}));
  REQUIRE(s.close(link) == 0);
  s.machine().rcu.grace_period();
  CHECK(s.alive().size() == 2);  // the BTF and its descriptor
}

TEST_CASE("LSM programs are refused as bpf_lsm_verify_prog does") {
  Extending s;
  const uint32_t sleepable = BPF_F_SLEEPABLE;
  const struct {
    const char* hook;
    uint32_t at;
    int answer;
    uint32_t flags;
    const char *license, *says;
  } cases[] = {
      {"bpf_lsm_file_open", BPF_LSM_MAC, 0, 0, "MIT", "LSM programs must have a GPL compatible license"},
      {"do_exit", BPF_LSM_MAC, 0, 0, "GPL", "points to wrong type name do_exit"},
      {"bpf_lsm_ismaclabel", BPF_LSM_MAC, 0, 0, "GPL", "points to disabled hook bpf_lsm_ismaclabel"},
      {"no such function", BPF_LSM_MAC, 0, 0, "GPL", "Tracing programs must provide btf_id"},
      {"bpf_lsm_file_permission", BPF_LSM_MAC, 0, sleepable, "GPL",
       "bpf_lsm_file_permission is not sleepable"},
      {"bpf_lsm_file_open", BPF_LSM_CGROUP, 1, sleepable, "GPL",
       "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable"},
      {"bpf_lsm_file_open", 0, 0, 0, "GPL", ""},
  };
  for (const auto& c : cases) {
    INFO(c.hook << ", " << c.says);
    CHECK(s.lsm(c.hook, c.at, c.answer, c.flags, c.license) == minus(Errno::Inval));
    CHECK(s.first_line().find(c.says) != std::string::npos);
  }
  CHECK(s.lsm("bpf_lsm_file_open", BPF_LSM_MAC, 0, sleepable) >= 0);
}

TEST_CASE("an LSM program returns what its hook may return") {
  const struct {
    const char *version, *hook;
    uint32_t at;
    int answer;
    const char* says;  // "": accepted
  } cases[] = {
      {"6.18", "bpf_lsm_file_open", BPF_LSM_MAC, -13, ""},
      {"6.18", "bpf_lsm_file_open", BPF_LSM_MAC, -4096,
       "At program exit the register R0 has smin=-4096 smax=-4096 should have been in [-4095, 0]"},
      {"6.18", "bpf_lsm_file_open", BPF_LSM_MAC, 1,
       "At program exit the register R0 has smin=1 smax=1 should have been in [-4095, 0]"},
      {"6.1", "bpf_lsm_file_open", BPF_LSM_MAC, 1, ""},
      {"6.18", "bpf_lsm_inode_xattr_skipcap", BPF_LSM_MAC, 1, ""},
      {"6.18", "bpf_lsm_task_free", BPF_LSM_MAC, 7, ""},
      {"6.18", "bpf_lsm_file_open", BPF_LSM_CGROUP, 1, ""},
      {"6.18", "bpf_lsm_file_open", BPF_LSM_CGROUP, 2,
       "At program exit the register R0 has smin=2 smax=2 should have been in [0, 1]"},
      {"6.18", "bpf_lsm_task_free", BPF_LSM_CGROUP, 1, ""},
      {"6.18", "bpf_lsm_task_free", BPF_LSM_CGROUP, 0,
       "Note, BPF_LSM_CGROUP that attach to void LSM hooks can't modify return value!"},
  };
  for (const auto& c : cases) {
    INFO(c.hook << " on " << c.version << " returns " << c.answer);
    Extending s(c.version);
    CHECK((s.lsm(c.hook, c.at, c.answer) >= 0) == (*c.says == 0));
    if (*c.says) CHECK(std::string(s.log.data()).find(c.says) != std::string::npos);
  }
}

namespace {

struct LsmGroups : Extending {
  long group(const std::string& path) {
    (void)k.mkdir(t, path).ok();
    return long(*k.open(t, path));
  }
  long attach(long group, long prog, uint32_t flags = BPF_F_ALLOW_MULTI, uint32_t at = BPF_LSM_CGROUP) {
    bpf_attr attr;
    attr.target_fd = uint32_t(group);
    attr.attach_bpf_fd = uint32_t(prog);
    attr.attach_type = at;
    attr.attach_flags = flags;
    return bpf(BPF_PROG_ATTACH, attr);
  }
  long detach(long group, long prog) {
    bpf_attr attr;
    attr.target_fd = uint32_t(group);
    attr.attach_bpf_fd = uint32_t(prog);
    attr.attach_type = BPF_LSM_CGROUP;
    return bpf(BPF_PROG_DETACH, attr);
  }
  std::vector<uint32_t> query(long group, uint32_t flags = 0) {
    std::vector<uint32_t> ids(32), attach_flags(32);
    bpf_attr attr;
    attr.query.target_fd = uint32_t(group);
    attr.query.attach_type = BPF_LSM_CGROUP;
    attr.query.query_flags = flags;
    attr.query.prog_ids = user_ptr(ids.data());
    attr.query.prog_cnt = uint32_t(ids.size());
    if (!flags) attr.query.prog_attach_flags = user_ptr(attach_flags.data());
    REQUIRE(bpf(BPF_PROG_QUERY, attr) == 0);
    ids.resize(attr.query.prog_cnt);
    return ids;
  }
  long on(const char* hook) { return lsm(std::string("bpf_lsm_") + hook, BPF_LSM_CGROUP, 1); }
};

}  // namespace

TEST_CASE("LSM programs on cgroups have a list for each hook, and ten hooks in all") {
  LsmGroups s;
  const long group = s.group("/sys/fs/cgroup/a");
  const char* hooks[] = {"socket_bind",   "socket_connect", "socket_create", "socket_listen",
                         "socket_accept", "socket_sendmsg", "file_open",     "file_lock",
                         "file_ioctl",    "task_alloc"};
  std::vector<long> progs;
  std::vector<uint32_t> ids;
  for (const char* hook : hooks) {
    progs.push_back(s.on(hook));
    ids.push_back(s.prog(progs.back()).id);
    REQUIRE(s.attach(group, progs.back()) == 0);
  }
  CHECK(s.query(group) == ids);
  CHECK((s.holders(s.prog(progs[3])) == Names{"lsm_cgroup[0]", "private_data"}));
  const long eleventh = s.on("inode_create");
  CHECK(s.attach(group, eleventh) == minus(Errno::Inval));
  CHECK(s.attach(group, s.on("file_open")) == 0);  // a hook that has its list
  CHECK(s.query(group).size() == 11);
  REQUIRE(s.detach(group, progs[3]) == 0);
  CHECK(s.attach(group, eleventh) == 0);  // in the place of socket_listen
  CHECK(s.query(group)[3] == s.prog(eleventh).id);
  CHECK(s.attach(group, progs[3]) == minus(Errno::Inval));
}

TEST_CASE("a removed group frees the hooks of its LSM programs, and a link loses its group") {
  LsmGroups s;
  const long group = s.group("/sys/fs/cgroup/a"), prog = s.on("socket_bind"), linked = s.on("file_open");
  const long link = s.link_create(linked, group, BPF_LSM_CGROUP);
  REQUIRE(link >= 0);
  REQUIRE(s.attach(group, prog) == 0);
  const long below = s.group("/sys/fs/cgroup/a/b");
  CHECK(s.query(below).empty());
  CHECK(s.query(below, BPF_F_QUERY_EFFECTIVE).size() == 2);
  CHECK((s.machine().cgroups->lsm_atypes[1] != 0));
  // Another program for the link: of the same hook only.
  const auto update = [&](long next) {
    bpf_attr attr;
    attr.link_update.link_fd = uint32_t(link);
    attr.link_update.new_prog_fd = uint32_t(next);
    return s.bpf(BPF_LINK_UPDATE, attr);
  };
  CHECK(update(s.on("socket_bind")) == minus(Errno::NoEnt));
  CHECK(update(s.on("file_open")) == 0);
  for (long fd : {below, group}) REQUIRE(s.close(fd) == 0);
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a/b"));
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  for (uint32_t hook : s.machine().cgroups->lsm_atypes) CHECK(hook == 0);
  CHECK(s.link_info(link).cgroup.cgroup_id == 0);
  CHECK(s.prog(prog).aux->refcnt.value() == 1);
  REQUIRE(s.close(link) == 0);
}

TEST_CASE("LSM programs that were not loaded for cgroups are not attached to one") {
  LsmGroups s;
  const long group = s.group("/sys/fs/cgroup/a"), mac = s.lsm("bpf_lsm_file_open"),
             cgroup = s.on("file_open");
  CHECK(s.attach(group, mac) == minus(Errno::Inval));
  CHECK(s.attach(group, mac, 0, BPF_LSM_MAC) == minus(Errno::Inval));
  CHECK(s.attach(group, cgroup, 0, BPF_LSM_MAC) == minus(Errno::Inval));
  CHECK(s.open(cgroup) == minus(Errno::Inval));
  // The one program on the hook stands for both groups, and leaves room for 37 others.
  const long other = s.group("/sys/fs/cgroup/b");
  REQUIRE(s.attach(group, cgroup) == 0);
  REQUIRE(s.attach(other, cgroup) == 0);
  for (int i = 0; i < 37; ++i) REQUIRE(s.open(s.lsm("bpf_lsm_file_open")) >= 0);
  CHECK(s.open(mac) == minus(Errno::TooBig));
  REQUIRE(s.detach(group, cgroup) == 0);
  CHECK(s.open(mac) == minus(Errno::TooBig));
  REQUIRE(s.detach(other, cgroup) == 0);
  CHECK(s.open(mac) >= 0);
}
