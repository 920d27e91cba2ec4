// Where this machine's kernel shows its BTF, our numbers and sizes are compared with it. A newer kernel may
// know more than we do; what we know must agree.
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "catch.h"
#include "uapi/bpf_attr.h"
#include "uapi/context.h"
#include "uapi/info.h"
#include "uapi/tables.h"

using namespace bpfsim;

namespace {

struct LiveBtf {
  std::map<std::string, std::map<std::string, int64_t>> enums;
  std::map<std::string, uint32_t> sizes;  // of structs and unions
};

uint32_t word(const std::vector<char>& bytes, size_t at) {
  uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// The bytes that follow a type's 12, by its kind: BTF_KIND_INT is 1, BTF_KIND_ENUM64 is 19.
size_t extra_size(uint32_t kind, uint32_t vlen) {
  switch (kind) {
    case 1:
    case 14:
    case 17: return 4;
    case 3: return 12;
    case 4:
    case 5:
    case 15:
    case 19: return size_t(vlen) * 12;
    case 6:
    case 13: return size_t(vlen) * 8;
  }
  return 0;
}

LiveBtf read_live_btf() {
  LiveBtf live;
  std::ifstream file("/sys/kernel/btf/vmlinux", std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  if (bytes.size() < 24) return live;
  size_t header = word(bytes, 4), types = header + word(bytes, 8), end = types + word(bytes, 12);
  const char* strings = bytes.data() + header + word(bytes, 16);
  for (size_t at = types; at + 12 <= end;) {
    std::string name = strings + word(bytes, at);
    uint32_t info = word(bytes, at + 4), kind = info >> 24 & 0x1f, vlen = info & 0xffff;
    if (kind == 4 || kind == 5) live.sizes.emplace(name, word(bytes, at + 8));
    if (kind == 6 && !name.empty())
      for (size_t i = 0; i < vlen; ++i)
        live.enums[name].emplace(strings + word(bytes, at + 12 + 8 * i),
                                 int32_t(word(bytes, at + 16 + 8 * i)));
    at += 12 + extra_size(kind, vlen);
  }
  return live;
}

template <class Rows>
void compare(const LiveBtf& live, const char* enum_name, Rows rows) {
  const auto& enumerators = live.enums.at(enum_name);
  for (const auto& row : rows) {
    std::string name = row.name;
    if (name.starts_with("bpf_")) name = "BPF_FUNC_" + name.substr(4);
    INFO(enum_name << " " << name);
    REQUIRE(enumerators.contains(name));
    CHECK(enumerators.at(name) == int64_t(row.number));
  }
}

}  // namespace

TEST_CASE("numbers and sizes are those of this machine's kernel") {
  LiveBtf live = read_live_btf();
  if (!live.enums.contains("bpf_cmd") || !live.enums["bpf_cmd"].contains("BPF_PROG_STREAM_READ_BY_FD")) {
    WARN("no BTF of a kernel of 6.17 or later here: not compared");
    return;
  }
  compare(live, "bpf_cmd", commands());
  compare(live, "bpf_map_type", map_types());
  compare(live, "bpf_prog_type", prog_types());
  compare(live, "bpf_attach_type", attach_types());
  compare(live, "bpf_link_type", link_types());
  compare(live, "bpf_func_id", helpers());
  CHECK(live.sizes["bpf_attr"] >= sizeof(bpf_attr));
  CHECK(live.sizes["bpf_prog_info"] >= sizeof(bpf_prog_info));
  CHECK(live.sizes["bpf_map_info"] >= sizeof(bpf_map_info));
  CHECK(live.sizes["bpf_link_info"] >= sizeof(bpf_link_info));
  CHECK(live.sizes["bpf_btf_info"] == sizeof(bpf_btf_info));
  CHECK(live.sizes["xdp_md"] == sizeof(xdp_md));
  CHECK(live.sizes["__sk_buff"] == sizeof(__sk_buff));
  CHECK(live.sizes["bpf_sock"] == sizeof(bpf_sock));
  CHECK(live.sizes["bpf_sk_lookup"] == sizeof(bpf_sk_lookup));
  CHECK(live.sizes["bpf_flow_keys"] == sizeof(bpf_flow_keys));
}
