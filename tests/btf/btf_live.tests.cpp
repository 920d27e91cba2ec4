// The live kernel judges the BTF checker: same errno and same log, byte for byte, on the table and on
// mutations.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "btf/btf_check.h"
#include "cases.h"
#include "catch.h"
#include "live_bpf.h"

using namespace bpfsim;

namespace {

struct Answer {
  int err = 0;
  std::string log;
};

Answer live_btf_load(const std::vector<uint8_t>& bytes) {
  std::vector<char> log(std::max<size_t>(1 << 16, bytes.size() * 4));
  bpf_attr attr;
  attr.btf = reinterpret_cast<uint64_t>(bytes.data());
  attr.btf_size = uint32_t(bytes.size());
  attr.btf_log_buf = reinterpret_cast<uint64_t>(log.data());
  attr.btf_log_size = uint32_t(log.size());
  attr.btf_log_level = 1;
  const long fd = live::sys_bpf(BPF_BTF_LOAD, &attr, sizeof attr);
  live::close_fd(fd);
  return {fd < 0 ? int(-fd) : 0, log.data()};
}

Answer our_btf_load(const std::vector<uint8_t>& bytes) {
  Answer answer;
  answer.err = int(btf_parse(bytes, &answer.log).err());
  return answer;
}

}  // namespace

TEST_CASE("the live kernel answers every case of the table as we do") {
  LIVE_KERNEL_OR_SKIP();
  for (const BtfCase& c : btf_cases()) {
    const auto bytes = btf_case_bytes(c);
    const Answer live = live_btf_load(bytes), ours = our_btf_load(bytes);
    INFO(c.name);
    CHECK(ours.err == live.err);
    CHECK(ours.log == live.log);
  }
}

TEST_CASE("the live kernel answers mutated BTF as we do") {
  LIVE_KERNEL_OR_SKIP();
  const auto good = btf_of_every_kind();
  std::mt19937 random(20261122);
  int accepted = 0, differing = 0;
  for (int round = 0; round < 20000 && differing < 5; ++round) {
    auto bytes = good;
    // Small numbers in whole words reach the resolver; random bytes mostly die in the header or the record.
    for (uint32_t flips = 1 + random() % 3; flips; --flips) {
      if (random() % 4 == 0)
        bytes[random() % bytes.size()] = uint8_t(random());
      else
        bytes[24 + random() % ((bytes.size() - 24) / 4) * 4] = uint8_t(random() % 48);
    }
    const Answer live = live_btf_load(bytes), ours = our_btf_load(bytes);
    accepted += live.err == 0;
    if (ours.err != live.err || ours.log != live.log) {
      ++differing;
      INFO("round " << round);
      CHECK(ours.err == live.err);
      CHECK(last_line(ours.log) == last_line(live.log));
      CHECK(ours.log == live.log);
    }
  }
  CHECK(differing == 0);
  CHECK(accepted > 100);
}

TEST_CASE("the live kernel's own types, 5 MB of them, are logged to the byte as the kernel logs them") {
  LIVE_KERNEL_OR_SKIP();
  std::ifstream file("/sys/kernel/btf/vmlinux", std::ios::binary);
  const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) {
    WARN("skipped: this kernel has no /sys/kernel/btf/vmlinux");
    return;
  }
  const Answer live = live_btf_load(bytes), ours = our_btf_load(bytes);
  CHECK(ours.err == 0);
  CHECK(live.err == 0);
  const bool same = ours.log == live.log;  // not in CHECK: nobody wants to read both
  CHECK(same);
}
