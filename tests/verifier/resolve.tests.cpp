#include "verifier/resolve.h"

#include <map>

#include "bench.h"
#include "catch.h"
#include "object/map.h"

using namespace bpfsim;

namespace {

int make_map(Bench& bench, bpf_map_type type, uint32_t key_size, uint32_t value_size, uint32_t max_entries) {
  bpf_attr attr{};
  attr.map_type = type;
  attr.key_size = key_size;
  attr.value_size = value_size;
  attr.max_entries = max_entries;
  Result<int64_t> fd = bench.kernel.bpf(bench.task, BPF_MAP_CREATE, attr);
  REQUIRE(fd);
  return int(*fd);
}

std::string put(std::string source, const std::string& name, int fd) {
  for (size_t at; (at = source.find(name)) != std::string::npos;)
    source.replace(at, name.size(), std::to_string(fd));
  return source;
}

struct Case {
  const char* source;
  Errno err;
  const char* log;
};

}  // namespace

TEST_CASE("A descriptor that is no map, and a field that must be zero, are refused as in 6.18") {
  const Case cases[] = {
      {"r1 = map_fd 99\n exit", Errno::BadF, "fd 99 is not pointing to valid bpf_map\n"},
      {"r1 = map_value_fd ARRAY+8\n exit", Errno::Inval,
       "invalid access to map value pointer, value_size=8 off=8\n"},
      {"r1 = map_value_fd HASH+0\n exit", Errno::Inval, "no direct value access support for this map type\n"},
      {"r1 = map_value_fd ARRAY+536870912\n exit", Errno::Inval,
       "direct value offset of 536870912 is not allowed\n"},
      {"r1 = map_idx 0\n exit", Errno::Proto, "fd_idx without fd_array is invalid\n"},
      {"r1 = map_fd ARRAY\n r1 = map_fd HASH\n r1 = map_fd ARRAY\n exit", Errno::None, ""},
  };
  for (const Case& c : cases) {
    INFO(c.source);
    Bench bench("exit");
    std::string source = put(c.source, "ARRAY", make_map(bench, BPF_MAP_TYPE_ARRAY, 4, 8, 1));
    bench.set(assemble(put(source, "HASH", make_map(bench, BPF_MAP_TYPE_HASH, 4, 8, 4))));
    REQUIRE(bench.errors == "");
    CHECK(resolve_pseudo_ldimm64(bench.env) == c.err);
    CHECK(bench.log() == c.log);
    release_used(bench.env);
  }
}

TEST_CASE("Each map is held once, and its address stands in the instruction") {
  Bench bench("exit");
  int fd = make_map(bench, BPF_MAP_TYPE_ARRAY, 4, 8, 1);
  std::string n = std::to_string(fd);
  bench.set(assemble("r1 = map_fd " + n + "\n r2 = map_fd " + n + "\n r3 = map_value_fd " + n + "+4\n exit"));
  REQUIRE(resolve_pseudo_ldimm64(bench.env) == Errno::None);
  REQUIRE(bench.env.used_maps.size() == 1);
  Map& map = *bench.env.used_maps[0];
  CHECK(map.refcnt.value() == 2);
  CHECK(ld_imm64_value(bench.env.insns[0], bench.env.insns[1]) == map.handle);
  CHECK(ld_imm64_value(bench.env.insns[2], bench.env.insns[3]) == map.handle);
  CHECK(bench.env.insn_aux_data[4].map_off == 4);
  CHECK(ld_imm64_value(bench.env.insns[4], bench.env.insns[5]) % 8 == 4);
  convert_pseudo_ld_imm64(bench.env);
  CHECK(bench.env.insns[0].src_reg == 0);
  release_used(bench.env);
  CHECK(map.refcnt.value() == 1);
}

TEST_CASE("Bytes that are no instruction are refused by their opcode") {
  Bench bench("r0 = 0\n exit");
  bench.env.insns[0].code = 0xff;
  CHECK(resolve_pseudo_ldimm64(bench.env) == Errno::Inval);
  CHECK(bench.news() == "unknown opcode ff\n");
  bench.env.insns[0] = ldx_mem(BPF_W, 0, 1, 0);
  bench.env.insns[0].imm = 1;
  CHECK(resolve_pseudo_ldimm64(bench.env) == Errno::Inval);
  CHECK(bench.news() == "BPF_LDX uses reserved fields\n");
  bench.env.insns = {ld_imm64(0, 1)[0]};
  CHECK(resolve_pseudo_ldimm64(bench.env) == Errno::Inval);
  CHECK(bench.news() == "invalid bpf_ld_imm64 insn\n");
}

TEST_CASE("The tag of a program is the one that its kernel gives") {
  struct {
    const char* version;
    const char* tag;
  } cases[] = {{"6.18", "59f4a931744dcdc6"}, {"6.1", "a04f5eef06a7f555"}};  // the first measured
  for (const auto& c : cases) {
    MachineOptions options;
    options.version = *Version::parse(c.version);
    Bench bench("r0 = 0\n exit", 1, true, options);
    REQUIRE(resolve_pseudo_ldimm64(bench.env) == Errno::None);
    std::string tag;
    for (uint8_t byte : bench.prog.tag) {
      tag += "0123456789abcdef"[byte >> 4];
      tag += "0123456789abcdef"[byte & 15];
    }
    CHECK(tag == c.tag);
  }
}
