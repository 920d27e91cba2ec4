// The live kernel takes what the loader makes of clang's objects, and the programs do what their C says.
#include <random>

#include "btf/btf_check.h"
#include "catch.h"
#include "live_bpf.h"
#include "loader/bpf_object.h"
#include "test_data.h"

using namespace bpfsim;

namespace {

struct Loaded {
  BpfObject object;
  Result<void> result;

  explicit Loaded(const std::string& name) {
    auto opened = bpf_object_open(read_test_data(name + ".o"), name);
    REQUIRE(opened);
    object = *std::move(opened);
    LoadOptions options;
    options.close_fd = live::close_fd;
    result = bpf_object_load(object, live::sys_bpf, options);
  }
  Loaded(const Loaded&) = delete;
  ~Loaded() { bpf_object_close(object, live::close_fd); }
};

std::vector<uint8_t> udp_packet(uint16_t port) {
  std::vector<uint8_t> packet(64, 0);
  packet[12] = 0x08;  // IPv4
  packet[14] = 0x45;
  packet[23] = 17;  // UDP
  packet[36] = uint8_t(port >> 8), packet[37] = uint8_t(port);
  return packet;
}

int run(int prog_fd, std::vector<uint8_t> packet) {
  bpf_attr attr;
  attr.test.prog_fd = uint32_t(prog_fd);
  attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
  attr.test.data_size_in = uint32_t(packet.size());
  attr.test.repeat = 1;
  const long ret = live::sys_bpf(BPF_PROG_TEST_RUN, &attr, sizeof attr);
  return ret < 0 ? int(ret) : int(attr.test.retval);
}

template <class Value>
Value lookup(int map_fd, const void* key) {
  Value value{};
  bpf_attr attr;
  attr.map_fd = uint32_t(map_fd);
  attr.key = reinterpret_cast<uint64_t>(key);
  attr.value = reinterpret_cast<uint64_t>(&value);
  CHECK(live::sys_bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof attr) == 0);
  return value;
}

}  // namespace

TEST_CASE("the live kernel loads every object that we can open") {
  LIVE_KERNEL_OR_SKIP();
  for (const char* name : {"xdp_pass", "xdp_drop", "globals", "subprogs", "maps", "legacy", "sections"}) {
    const Loaded loaded(name);
    INFO(name << ": " << loaded.result.refusal().reason() << "\n"
              << loaded.object.log << loaded.object.btf_log);
    CHECK(loaded.result);
    if (name != std::string("legacy")) CHECK(loaded.object.btf_fd >= 0);
    for (const Step& step : loaded.object.steps) {
      INFO(step.text);
      CHECK(step.result >= 0);  // nothing had to be tried twice
    }
  }
}

TEST_CASE("the live kernel drops the port that the map holds") {
  LIVE_KERNEL_OR_SKIP();
  Loaded loaded("xdp_drop");
  REQUIRE(loaded.result);
  const int prog = loaded.object.find_program("xdp_drop")->fd,
            ports = loaded.object.find_map("blocked_ports")->fd;
  CHECK(run(prog, udp_packet(53)) == XDP_PASS);
  uint16_t port = 53;
  uint64_t zero = 0;
  bpf_attr attr;
  attr.map_fd = uint32_t(ports);
  attr.key = reinterpret_cast<uint64_t>(&port);
  attr.value = reinterpret_cast<uint64_t>(&zero);
  REQUIRE(live::sys_bpf(BPF_MAP_UPDATE_ELEM, &attr, sizeof attr) == 0);
  CHECK(run(prog, udp_packet(53)) == XDP_DROP);
  CHECK(run(prog, udp_packet(54)) == XDP_PASS);
  CHECK(lookup<uint64_t>(ports, &port) == 1);
}

TEST_CASE("the live kernel finds variables where the loader put them") {
  LIVE_KERNEL_OR_SKIP();
  Loaded loaded("globals");
  REQUIRE(loaded.result);
  CHECK(run(loaded.object.find_program("globals")->fd, std::vector<uint8_t>(60)) == XDP_PASS);
  const uint32_t key = 0;
  struct Data {
    uint64_t packets;
    uint32_t secret;
  } __attribute__((packed));
  const Data data = lookup<Data>(loaded.object.find_map(".data")->fd, &key);
  CHECK(data.packets == 105);
  CHECK(data.secret == 60);
}

TEST_CASE("the live kernel calls subprograms and callbacks that the loader linked") {
  LIVE_KERNEL_OR_SKIP();
  Loaded loaded("subprogs");
  REQUIRE(loaded.result);
  CHECK(run(loaded.object.find_program("first")->fd, std::vector<uint8_t>(60)) == XDP_PASS);
  CHECK(run(loaded.object.find_program("second")->fd, std::vector<uint8_t>(60)) == XDP_PASS);
  const uint32_t key = 0;
  CHECK(lookup<uint64_t>(loaded.object.find_map(".bss")->fd, &key) == 60 + 61 + 45);
}

TEST_CASE("the live kernel follows slots of maps in maps and of a PROG_ARRAY") {
  LIVE_KERNEL_OR_SKIP();
  Loaded loaded("maps");
  REQUIRE(loaded.result);
  CHECK(run(loaded.object.find_program("entry")->fd, std::vector<uint8_t>(60)) == XDP_TX);  // by tail call
}

TEST_CASE("the live verifier's log shows the C lines that the loader handed over") {
  LIVE_KERNEL_OR_SKIP();
  Loaded loaded("refused");
  CHECK(loaded.result.err() == Errno::Access);
  CHECK(loaded.object.log.find("return eth->h_proto == bpf_htons(ETH_P_ARP)") != std::string::npos);
  CHECK(loaded.object.log.find("invalid access to packet") != std::string::npos);
}

namespace {

struct BtfAnswer {
  int err = 0;
  std::string log;
  bool operator==(const BtfAnswer&) const = default;
};

BtfAnswer live_btf_load(const std::vector<uint8_t>& bytes) {
  std::vector<char> log(1 << 18);
  bpf_attr attr;
  attr.btf = reinterpret_cast<uint64_t>(bytes.data());
  attr.btf_size = uint32_t(bytes.size());
  attr.btf_log_buf = reinterpret_cast<uint64_t>(log.data());
  attr.btf_log_size = uint32_t(log.size());
  attr.btf_log_level = 2;
  const long fd = live::sys_bpf(BPF_BTF_LOAD, &attr, sizeof attr);
  live::close_fd(fd);
  return {fd < 0 ? int(-fd) : 0, log.data()};
}

}  // namespace

TEST_CASE("the live kernel logs clang's types, as they are and broken, as our checker does") {
  LIVE_KERNEL_OR_SKIP();
  std::mt19937 random(5);
  for (const char* name : {"xdp_drop", "globals", "subprogs", "maps", "sections", "externs"}) {
    auto object = bpf_object_open(read_test_data(std::string(name) + ".o"), name);
    REQUIRE(object);
    const std::vector<uint8_t> good = object->btf->bytes();
    for (int round = 0; round < 1000; ++round) {
      std::vector<uint8_t> bytes = good;
      for (int flips = round ? 1 + int(random() % 3) : 0; flips; --flips)
        bytes[24 + random() % (bytes.size() - 24)] = uint8_t(random() % 64);
      BtfAnswer ours;
      ours.err = int(btf_parse(bytes, &ours.log).err());
      const BtfAnswer theirs = live_btf_load(bytes);
      INFO(name << " round " << round);
      if (!(ours == theirs)) {
        CHECK(ours.err == theirs.err);
        REQUIRE(ours.log == theirs.log);
      }
      if (round == 0 && name != std::string("externs")) CHECK(ours.err == 0);
    }
  }
}
