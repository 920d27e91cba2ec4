// struct_ops maps: of bpf_dummy_ops, the struct that is there for tests and registers nothing, beside the
// live kernel; of tcp_congestion_ops alone, since nothing is registered there.
#include "map/bpf_struct_ops.h"

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>

#include "btf/btf_build.h"
#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "catch.h"
#include "host/tcp_cong.h"
#include "isa/opcodes.h"
#include "kernel.h"
#include "live_bpf.h"
#include "sim.h"

using namespace bpfsim;

namespace {

constexpr const char* kValueType = "bpf_struct_ops_bpf_dummy_ops";

// One side: the simulator, or the live kernel.
class Side {
 public:
  explicit Side(bool live) : live_(live), kernel_(MachineOptions{}), task_(kernel_.spawn("test")) {
    BtfBuilder b;
    b.add_int("int", 4, 0);
    const std::vector<uint8_t> bytes = b.bytes();
    bpf_attr attr;
    attr.btf = user_ptr(bytes.data());
    attr.btf_size = uint32_t(bytes.size());
    btf_ = call(BPF_BTF_LOAD, attr);
  }
  ~Side() {
    if (live_)
      for (int64_t fd : {btf_, map}) live::close_fd(fd);
  }

  int64_t call(int cmd, bpf_attr& attr) {
    return live_ ? live::sys_bpf(cmd, &attr, sizeof attr)
                 : kernel_.sys_bpf(task_, cmd, user_ptr(&attr), sizeof attr);
  }

  bool find_type() {
    if (!live_) {
      type_ = vmlinux_btf().types->find_by_name(kValueType, BTF_KIND_STRUCT);
      return true;
    }
    std::ifstream file("/sys/kernel/btf/vmlinux", std::ios::binary);
    const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
    const Result<BtfTypes> types = BtfTypes::parse(bytes);
    type_ = types ? types->find_by_name(kValueType, BTF_KIND_STRUCT) : 0;
    return type_ != 0;
  }

  int64_t create(uint32_t value_size = 128, uint32_t flags = 0) {
    bpf_attr attr;
    attr.map_type = BPF_MAP_TYPE_STRUCT_OPS;
    attr.key_size = 4;
    attr.value_size = value_size;
    attr.max_entries = 1;
    attr.map_flags = flags;
    attr.btf_fd = uint32_t(btf_);
    attr.btf_vmlinux_value_type_id = type_;
    return call(BPF_MAP_CREATE, attr);
  }

  // The answer, and the bytes that the call left.
  std::pair<int64_t, std::vector<uint8_t>> element(int cmd, uint32_t key, std::vector<uint8_t> value,
                                                   uint64_t flags = 0) {
    bpf_attr attr;
    attr.map_fd = uint32_t(map);
    attr.key = user_ptr(&key);
    attr.value = user_ptr(value.data());
    attr.flags = flags;
    const int64_t answer = call(cmd, attr);
    return {answer, value};
  }

  int64_t map = -1;

 private:
  const bool live_;
  Kernel kernel_;
  Task& task_;
  int64_t btf_ = -1;
  uint32_t type_ = 0;
};

std::vector<uint8_t> with_byte(size_t at, uint8_t byte = 1) {
  std::vector<uint8_t> value(128);
  value[at] = byte;
  return value;
}

}  // namespace

TEST_CASE("A map of bpf_dummy_ops answers as on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Side ours(false), live(true);
  if (!live.find_type()) {
    WARN("skipped: this kernel has no bpf_dummy_ops");
    return;
  }
  REQUIRE(ours.find_type());
  CHECK(ours.create(127) == live.create(127));
  CHECK(ours.create(128, 1) == live.create(128, 1));
  for (uint32_t flags : {0u, uint32_t(BPF_F_LINK)}) {
    for (Side* side : {&ours, &live}) {
      side->map = side->create(128, flags);
      REQUIRE(side->map >= 0);
    }
    const auto same = [&](int cmd, uint32_t key, const std::vector<uint8_t>& value, uint64_t elem_flags = 0) {
      INFO("command " << cmd << " key " << key << " flags " << elem_flags);
      const auto here = ours.element(cmd, key, value, elem_flags),
                 there = live.element(cmd, key, value, elem_flags);
      CHECK(here.first == there.first);
      CHECK((here.second == there.second));
    };
    const std::vector<uint8_t> garbage(128, 0xcc);
    for (uint32_t key : {0u, 1u, 0xffffffffu}) {
      same(BPF_MAP_LOOKUP_ELEM, key, garbage);
      same(BPF_MAP_DELETE_ELEM, key, {});
      same(BPF_MAP_GET_NEXT_KEY, key, std::vector<uint8_t>(4, 0xcc));
      same(BPF_MAP_UPDATE_ELEM, key, std::vector<uint8_t>(128));
      same(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, garbage);
    }
    for (uint64_t elem_flags : {1u, 2u, 4u, 8u})
      same(BPF_MAP_UPDATE_ELEM, 0, std::vector<uint8_t>(128), elem_flags);
    for (size_t at = 0; at < 128; ++at) same(BPF_MAP_UPDATE_ELEM, 0, with_byte(at));
    live::close_fd(live.map);
    live.map = -1;
  }
}

namespace {

// A congestion control in the making: a value, and the programs that it names by their descriptors.
struct Reno : Sim {
  using Sim::Sim;
  const BtfTypes& types = *vmlinux_btf().types;
  const uint32_t ca = types.find_by_name("tcp_congestion_ops", BTF_KIND_STRUCT);
  const uint32_t key = 0;

  long prog(const char* member) {
    const auto members = btf_members(*types.type_by_id(ca));
    uint32_t index = 0;
    while (types.name_by_offset(members[index].name_off) != std::string_view(member)) ++index;
    const std::vector<bpf_insn> insns = {mov64_imm(BPF_REG_0, 1), exit_insn()};
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_STRUCT_OPS, insns);
    attr.attach_btf_id = ca;
    attr.expected_attach_type = index;
    return bpf(BPF_PROG_LOAD, attr);
  }

  long create(uint32_t flags = 0, const char* value_type = "bpf_struct_ops_tcp_congestion_ops") {
    BtfBuilder b;
    b.add_int("int", 4, 0);
    const std::vector<uint8_t> bytes = b.bytes();
    bpf_attr load;
    load.btf = user_ptr(bytes.data());
    load.btf_size = uint32_t(bytes.size());
    const long btf = bpf(BPF_BTF_LOAD, load);
    bpf_attr attr;
    attr.map_type = BPF_MAP_TYPE_STRUCT_OPS;
    attr.key_size = 4;
    attr.value_size = vmlinux_size(value_type);
    attr.max_entries = 1;
    attr.map_flags = flags;
    attr.btf_fd = uint32_t(btf);
    attr.btf_vmlinux_value_type_id = types.find_by_name(value_type, BTF_KIND_STRUCT);
    const long map = bpf(BPF_MAP_CREATE, attr);
    close(btf);
    return map;
  }

  std::vector<uint8_t> value(const char* name, const std::vector<const char*>& members) {
    std::vector<uint8_t> bytes(256);
    for (const char* member : members) {
      const uint64_t fd = uint64_t(prog(member));
      std::memcpy(&bytes[64 + vmlinux_offset("tcp_congestion_ops", member)], &fd, sizeof fd);
      progs.push_back(long(fd));
    }
    std::memcpy(&bytes[64 + vmlinux_offset("tcp_congestion_ops", "name")], name, std::strlen(name));
    return bytes;
  }
  std::vector<uint8_t> usual(const char* name) {
    return value(name, {"ssthresh", "cong_avoid", "undo_cwnd"});
  }
  long filled(const char* name, uint32_t flags = 0) {
    const long map = create(flags);
    REQUIRE(map_update(map, &key, usual(name).data()) == 0);
    for (const long fd : std::exchange(progs, {})) close(fd);
    return map;
  }
  uint32_t state(long map, uint32_t* refs = nullptr) {
    uint32_t read[64];
    REQUIRE(map_lookup(map, &key, read) == 0);
    if (refs) *refs = read[0];
    return read[1];
  }

  long link(long map) {
    bpf_attr attr;
    attr.link_create.map_fd = uint32_t(map);
    attr.link_create.attach_type = BPF_STRUCT_OPS;
    return bpf(BPF_LINK_CREATE, attr);
  }
  long update(long link, long map, uint32_t flags = 0, long old = 0) {
    bpf_attr attr;
    attr.link_update.link_fd = uint32_t(link);
    attr.link_update.new_map_fd = uint32_t(map);
    attr.link_update.flags = flags;
    attr.link_update.old_map_fd = uint32_t(old);
    return bpf(BPF_LINK_UPDATE, attr);
  }
  long detach(long link) {
    bpf_attr attr;
    attr.link_detach.link_fd = uint32_t(link);
    return bpf(BPF_LINK_DETACH, attr);
  }
  bool registered(const char* name) { return tcp_ca_find(machine(), name) != nullptr; }

  std::vector<long> progs;
};

}  // namespace

TEST_CASE("A congestion control is registered by an update, and the map lives until it is taken out again") {
  Reno s;
  const long map = s.filled("mine");
  uint32_t refs = 0;
  CHECK(s.state(map, &refs) == BPF_STRUCT_OPS_STATE_INUSE);
  CHECK(refs == 1);
  CHECK(s.registered("mine"));
  CHECK(s.map_update(map, &s.key, s.usual("again").data()) == minus(Errno::Busy));
  const long other = s.create();
  CHECK(s.map_update(other, &s.key, s.usual("mine").data()) == minus(Errno::Exist));
  CHECK(s.map_update(other, &s.key, s.usual("cubic").data()) == minus(Errno::Exist));
  CHECK(s.state(other) == BPF_STRUCT_OPS_STATE_INIT);

  bpf_attr attr;
  attr.map_id = s.machine().registry->map_idr.at_or_after(1)->id;
  s.close(map);
  const long again = s.bpf(BPF_MAP_GET_FD_BY_ID, attr);
  REQUIRE(again >= 0);
  CHECK(s.map_delete(again, &s.key) == 0);
  CHECK(!s.registered("mine"));
  CHECK(s.state(again, &refs) == BPF_STRUCT_OPS_STATE_TOBEFREE);
  CHECK(refs == 0);
  CHECK(s.map_delete(again, &s.key) == minus(Errno::InProgress));
  CHECK(s.map_update(again, &s.key, s.usual("mine").data()) == minus(Errno::Busy));
  for (const long fd : s.progs) s.close(fd);
  s.close(again), s.close(other);
  CHECK(s.alive().empty());
}

TEST_CASE("What a congestion control must have, and what a refused update leaves") {
  Reno s;
  const long map = s.create();
  const auto refused = [&](const std::vector<const char*>& members) {
    const long done = s.map_update(map, &s.key, s.value("mine", members).data());
    for (const long fd : std::exchange(s.progs, {})) s.close(fd);
    return done == minus(Errno::Inval) && s.state(map) == BPF_STRUCT_OPS_STATE_INIT;
  };
  CHECK(refused({}));
  CHECK(refused({"ssthresh", "cong_avoid"}));
  CHECK(refused({"undo_cwnd", "cong_avoid"}));
  CHECK(refused({"undo_cwnd", "ssthresh", "init", "release"}));
  CHECK(!refused({"undo_cwnd", "ssthresh", "cong_control"}));
  CHECK(s.map_delete(map, &s.key) == 0);
  s.close(map);
  CHECK(s.alive().empty());
}

TEST_CASE("A machine that halts lets its congestion controls go") {
  Reno s;
  s.close(s.filled("one"));
  CHECK(s.alive().size() == 5);  // the map, its programs, its BTF
  tcp_cong_exit(s.machine());
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
}

TEST_CASE("A program bound to the map that holds it is gone only with the machine, as in the kernel") {
  Reno s;
  const long map = s.create(BPF_F_LINK);
  REQUIRE(s.map_update(map, &s.key, s.usual("mine").data()) == 0);
  bpf_attr attr;
  attr.prog_bind_map.prog_fd = uint32_t(s.progs[0]);
  attr.prog_bind_map.map_fd = uint32_t(map);
  REQUIRE(s.bpf(BPF_PROG_BIND_MAP, attr) == 0);
  for (const long fd : s.progs) s.close(fd);
  s.close(map);
  CHECK(object_graph(s.machine()).cycles().size() == 1);
  CHECK(object_graph(s.machine()).leaks().size() == 5);  // the map, its programs, its BTF
  bpf_struct_ops_exit(s.machine());
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
}

TEST_CASE("A link registers a filled map for as long as it lives") {
  Reno s;
  const long map = s.create(BPF_F_LINK);
  CHECK(s.link(map) == minus(Errno::Inval));
  CHECK(s.map_update(map, &s.key, s.usual("mine").data()) == 0);
  CHECK(s.state(map) == BPF_STRUCT_OPS_STATE_READY);
  CHECK(!s.registered("mine"));
  CHECK(s.map_delete(map, &s.key) == minus(Errno::OpNotSupp));
  const long link = s.link(map);
  REQUIRE(link >= 0);
  CHECK(s.registered("mine"));
  CHECK(s.link(map) == minus(Errno::Exist));
  CHECK(s.link(s.filled("alone")) == minus(Errno::Inval));
  s.close(map);
  CHECK(s.registered("mine"));
  s.close(link);
  CHECK(!s.registered("mine"));
}

TEST_CASE("A link of struct_ops takes another map of the same name") {
  Reno s;
  const long a = s.filled("a", BPF_F_LINK), a2 = s.filled("a", BPF_F_LINK), b = s.filled("b", BPF_F_LINK);
  const long empty = s.create(BPF_F_LINK), unlinked = s.filled("c");
  const long dummy = s.create(BPF_F_LINK, "bpf_struct_ops_bpf_dummy_ops");
  const long link = s.link(a);
  struct {
    long map, flags, old;
    Errno answer;
  } const rows[] = {
      {b, 0, 0, Errno::Inval},
      {empty, 0, 0, Errno::Inval},
      {unlinked, 0, 0, Errno::Inval},
      {dummy, 0, 0, Errno::Inval},
      {a2, BPF_F_REPLACE, b, Errno::Perm},
      {a2, 0, a, Errno::Inval},
      {9999, 0, 0, Errno::BadF},
      {a2, BPF_F_REPLACE, 0, Errno::Inval},
      {a2, BPF_F_REPLACE, a, Errno::None},
      {a, 0, 0, Errno::None},
      {a, 0, 0, Errno::None},
  };
  for (const auto& row : rows) {
    INFO("map " << row.map << " flags " << row.flags << " old " << row.old << " " << s.why());
    CHECK(s.update(link, row.map, uint32_t(row.flags), row.old) == minus(row.answer));
    CHECK(s.registered("a"));
  }
  CHECK(s.detach(link) == 0);
  CHECK(!s.registered("a"));
  CHECK(s.detach(link) == 0);
  CHECK(s.update(link, a) == minus(Errno::NoLink));
  CHECK(s.link(a) >= 0);
}

TEST_CASE("What links of struct_ops older kernels have") {
  MachineOptions options;
  options.version = "6.1"_v;
  Reno old(options);
  CHECK(old.create(BPF_F_LINK) == minus(Errno::Inval));
  CHECK(old.link(old.filled("a")) < 0);
  options.version = "6.6"_v;
  Reno newer(options);
  const long link = newer.link(newer.filled("a", BPF_F_LINK));
  CHECK(link >= 0);
  CHECK(newer.detach(link) == minus(Errno::OpNotSupp));
}
