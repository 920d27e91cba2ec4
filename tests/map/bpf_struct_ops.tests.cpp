// struct_ops maps of bpf_dummy_ops, the struct that is there for tests and registers nothing, beside the live
// kernel: the same answers to the same calls.
#include <array>
#include <fstream>
#include <iterator>

#include "btf/btf_build.h"
#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "catch.h"
#include "kernel.h"
#include "live_bpf.h"

using namespace bpfsim;

namespace {

constexpr const char* kValueType = "bpf_struct_ops_bpf_dummy_ops";

uint64_t user_ptr(const void* p) { return reinterpret_cast<uintptr_t>(p); }

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
