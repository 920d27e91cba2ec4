#include "map/devmap.h"

#include "host/net_device.h"
#include "map/view.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Devices : Sim {
  int xdp(bpf_attach_type attach, const char* name = "egress") {
    const std::vector<bpf_insn> insns = {mov64_imm(0, XDP_PASS), exit_insn()};
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, insns);
    attr.expected_attach_type = attach;
    std::strncpy(attr.prog_name, name, sizeof attr.prog_name - 1);
    return int(bpf(BPF_PROG_LOAD, attr));
  }
  long put(long map, uint32_t key, uint32_t number, int prog_fd = 0, uint64_t flags = BPF_ANY) {
    const uint32_t value[2] = {number, uint32_t(prog_fd)};
    return map_update(map, &key, value, flags);
  }
  long drop(long map, uint32_t key) { return map_delete(map, &key); }
  int64_t refs(int fd) { return prog(fd).aux->refcnt.value(); }
};

}  // namespace

TEST_CASE("Maps of devices are created with the sizes and flags of the kernel") {
  Devices s;
  struct Case {
    uint32_t key, value, entries, flags;
    Errno err;
  };
  const Case cases[] = {
      {4, 4, 1, 0, Errno::None},
      {4, 8, 1, BPF_F_RDONLY, Errno::None},
      {4, 4, 0, 0, Errno::Inval},
      {8, 4, 1, 0, Errno::Inval},
      {4, 12, 1, 0, Errno::Inval},
      {4, 4, 1, BPF_F_RDONLY_PROG, Errno::Inval},
      {4, 4, 1, BPF_F_NO_PREALLOC, Errno::Inval},
  };
  for (bpf_map_type type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH})
    for (const Case& c : cases) {
      INFO(type << " " << c.key << " " << c.value << " " << c.entries << " " << c.flags);
      const long fd = s.map_create(type, c.key, c.value, c.entries, c.flags);
      CHECK((fd < 0 ? fd : 0) == -long(c.err));
      if (fd >= 0) CHECK((s.map(fd).map_flags & BPF_F_RDONLY_PROG) != 0);
    }
  CHECK(s.map_create(BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, (1u << 31) + 1) == minus(Errno::Inval));
}

TEST_CASE("A devmap gives back the ifindex and the id of the program") {
  Devices s;
  const int prog = s.xdp(BPF_XDP_DEVMAP);
  REQUIRE(prog >= 0);
  for (bpf_map_type type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH}) {
    const long map = s.map_create(type, 4, 8, 4);
    REQUIRE(map >= 0);
    uint32_t key = 1, value[2] = {};
    CHECK(s.map_lookup(map, &key, value) == minus(Errno::NoEnt));
    CHECK(s.put(map, 1, 2, prog) == 0);
    CHECK(s.map_lookup(map, &key, value) == 0);
    CHECK(value[0] == 2);
    CHECK(value[1] == s.prog(prog).id);
    CHECK(s.refs(prog) == 2);
    CHECK(s.put(map, 1, 1) == 0);  // without a program: the old entry goes
    CHECK(s.refs(prog) == 1);
    CHECK(s.put(map, 3, 1, prog) == 0);
    CHECK(s.drop(map, 3) == 0);
    CHECK(s.refs(prog) == 1);
    CHECK(s.put(map, 2, 1, prog) == 0);
    CHECK(s.close(map) == 0);
    CHECK(s.refs(prog) == 1);
  }
}

TEST_CASE("A devmap refuses other programs, unknown devices and wrong flags") {
  Devices s;
  const int egress = s.xdp(BPF_XDP_DEVMAP), plain = s.xdp(BPF_XDP), cpu = s.xdp(BPF_XDP_CPUMAP);
  for (bpf_map_type type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH}) {
    const bool hash = type == BPF_MAP_TYPE_DEVMAP_HASH;
    const long map = s.map_create(type, 4, 8, 4);
    for (int prog : {plain, cpu, 999, int(map)}) CHECK(s.put(map, 1, 1, prog) == minus(Errno::Inval));
    CHECK(s.put(map, 1, 77) == minus(Errno::Inval));
    CHECK(s.put(map, 1, 0, egress) == minus(Errno::Inval));
    CHECK(s.put(map, 1, 0) == (hash ? minus(Errno::Inval) : 0));
    CHECK(s.put(map, 1, 1, 0, 3) == minus(Errno::Inval));
    CHECK(s.put(map, 9, 1) == (hash ? 0 : minus(Errno::TooBig)));
    CHECK(s.put(map, 2, 1, 0, BPF_NOEXIST) == (hash ? 0 : minus(Errno::Exist)));
    CHECK(s.drop(map, 9) == (hash ? 0 : minus(Errno::Inval)));
    CHECK(s.drop(map, 3) == (hash ? minus(Errno::NoEnt) : 0));
    CHECK(s.refs(egress) == 1);
  }
}

TEST_CASE("A hash of devices is full at max_entries and walks its buckets") {
  Devices s;
  const long map = s.map_create(BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, 3);
  for (uint32_t key : {5u, 1u, 4u}) CHECK(s.put(map, key, 1) == 0);
  CHECK(s.put(map, 6, 1) == minus(Errno::TooBig));
  CHECK(s.put(map, 5, 2) == 0);
  uint32_t key = 0, next = 0;
  std::vector<uint32_t> keys;
  for (const void* at = nullptr; s.map_get_next_key(map, at, &next) == 0; at = &key)
    keys.push_back(key = next);
  CHECK(keys == std::vector<uint32_t>{4, 5, 1});  // buckets 0 and 1 of 4, the newest first
  CHECK(std::get<FdArrayView>(view_map(s.map(map))).slots.size() == 3);
  CHECK(s.map(map).ops->map_mem_usage(s.map(map)) == 344 + 4 * 8 + 3 * 64);
}

TEST_CASE("A program of an entry lives until the grace period ends, and the graph shows it") {
  Devices s;
  const int prog = s.xdp(BPF_XDP_DEVMAP);
  const long map = s.map_create(BPF_MAP_TYPE_DEVMAP, 4, 8, 4);
  CHECK(s.put(map, 0, 1, prog) == 0);
  s.machine().rcu.hold();
  CHECK(s.drop(map, 0) == 0);
  CHECK(s.refs(prog) == 2);
  CHECK(s.close(map) == 0);
  s.machine().rcu.release();
  s.machine().rcu.grace_period();
  CHECK(s.refs(prog) == 1);
}

TEST_CASE("A device that goes takes its entries out of every map") {
  Devices s;
  NetDevice& veth = register_netdevice(s.machine(), "veth0", true);
  const int prog = s.xdp(BPF_XDP_DEVMAP);
  const long array = s.map_create(BPF_MAP_TYPE_DEVMAP, 4, 8, 4);
  const long hash = s.map_create(BPF_MAP_TYPE_DEVMAP_HASH, 4, 8, 4);
  for (long map : {array, hash}) {
    CHECK(s.put(map, 0, uint32_t(veth.ifindex), prog) == 0);
    CHECK(s.put(map, 1, 1, prog) == 0);
  }
  REQUIRE(s.k.remove_net_device("veth0"));
  CHECK(s.refs(prog) == 3);
  uint32_t value[2], key = 0;
  for (long map : {array, hash}) CHECK(s.map_lookup(map, &key, value) == minus(Errno::NoEnt));
}
