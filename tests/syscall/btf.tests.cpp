// BTF_LOAD: the door to the BTF checker, its log in user memory, and the object that it makes.
#include "object/btf.h"

#include "btf/btf_build.h"
#include "btf/btf_types.h"
#include "sim.h"

using namespace bpfsim;

namespace {

std::vector<uint8_t> int_btf() {
  BtfBuilder b;
  b.add_int("int", 4, BTF_INT_SIGNED);
  return b.bytes();
}

bpf_attr load_attr(const std::vector<uint8_t>& bytes) {
  bpf_attr attr;
  attr.btf = user_ptr(bytes.data());
  attr.btf_size = uint32_t(bytes.size());
  return attr;
}

}  // namespace

TEST_CASE("BTF_LOAD makes an object that lives as long as its descriptor") {
  Sim s;
  const auto bytes = int_btf();
  bpf_attr attr = load_attr(bytes);
  const long fd = s.bpf(BPF_BTF_LOAD, attr);
  INFO(s.why());
  REQUIRE(fd >= 0);
  const auto& btf = static_cast<Btf&>(*s.object(fd));
  CHECK(btf.id == 2);  // 1 is the kernel's own
  CHECK(btf.data == bytes);
  CHECK(btf.refcnt.value() == 1);
  CHECK(btf.types->find_by_name("int", BTF_KIND_INT) == 1);
  CHECK(s.close(fd) == 0);
  CHECK(s.alive().empty());
}

TEST_CASE("BTF_LOAD writes its log and how much room the whole takes") {
  Sim s;
  auto bytes = int_btf();
  bytes[0] ^= 1;  // the magic
  std::vector<char> log(4096);
  bpf_attr attr = load_attr(bytes);
  attr.btf_log_level = 1;
  attr.btf_log_buf = user_ptr(log.data());
  attr.btf_log_size = uint32_t(log.size());
  CHECK(s.bpf(BPF_BTF_LOAD, attr) == -22);
  const std::string text = log.data();
  CHECK(text.substr(0, 14) == "magic: 0xeb9e\n");
  CHECK(text.substr(text.size() - 13) == "Invalid magic");
  CHECK(attr.btf_log_true_size == text.size() + 1);
  attr.btf_log_size = 16;
  attr.btf_log_true_size = 0;
  CHECK(s.bpf(BPF_BTF_LOAD, attr) == -28);
  CHECK(attr.btf_log_true_size == text.size() + 1);
}

TEST_CASE("BTF_LOAD refuses what the kernel refuses") {
  struct Case {
    const char* what;
    void (*change)(bpf_attr&);
    long expected;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"a size beyond 16 MiB", [](bpf_attr& a) { a.btf_size = BTF_MAX_SIZE + 1; }, -7},
           {"no bytes", [](bpf_attr& a) { a.btf_size = 0; }, -22},
           {"a wild pointer", [](bpf_attr& a) { a.btf = 8; }, -14},
           {"an unknown flag", [](bpf_attr& a) { a.btf_flags = 1; }, -22},
           {"a log without a level", [](bpf_attr& a) { a.btf_log_size = 4096, a.btf_log_buf = 0; }, -22},
           {"an unknown level", [](bpf_attr& a) { a.btf_log_level = 64; }, -22}}) {
    INFO(c.what);
    Sim s;
    const auto bytes = int_btf();
    bpf_attr attr = load_attr(bytes);
    c.change(attr);
    CHECK(s.bpf(BPF_BTF_LOAD, attr) == c.expected);
    CHECK(s.alive().empty());
  }
}

TEST_CASE("an older kernel does not know the newer kinds") {
  MachineOptions options;
  options.version = "5.10"_v;
  Sim s(options);
  BtfBuilder b;
  b.add_float("double", 8);
  const auto bytes = b.bytes();
  std::vector<char> log(4096);
  bpf_attr attr = load_attr(bytes);
  attr.btf_log_level = 1;
  attr.btf_log_buf = user_ptr(log.data());
  attr.btf_log_size = uint32_t(log.size());
  CHECK(s.bpf(BPF_BTF_LOAD, attr, 32) == -22);
  CHECK(std::string(log.data()).find("[1] Invalid kind:16") != std::string::npos);
}
