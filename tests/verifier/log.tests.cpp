#include "verifier/log.h"

#include <string>

#include "catch.h"

using namespace bpfsim;

namespace {
struct Given {
  uint32_t level;
  size_t size;
  std::string text;  // written in pieces of up to 7 bytes
  std::string in_buffer;
  Errno result;
};

std::string log_of(const Given& given, Errno& result, uint32_t& true_size) {
  TrustedUserMemory user;
  std::string buffer(given.size, '#');
  bpf_verifier_log log;
  REQUIRE(bpf_vlog_init(log, user, given.level, uint64_t(uintptr_t(buffer.data())), uint32_t(given.size)));
  for (size_t i = 0; i < given.text.size(); i += 7) bpf_log(log, "%s", given.text.substr(i, 7).c_str());
  result = bpf_vlog_finalize(log, true_size).err();
  return buffer.substr(0, buffer.find('\0'));
}
}  // namespace

TEST_CASE("A log rolls, or is cut at its end when fixed, and tells its true size") {
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  const Given cases[] = {
      {1, 64, text, text, Errno::None},
      {1, 27, text, text, Errno::None},
      {1, 26, text, text.substr(1), Errno::NoSpc},
      {1, 10, text, "rstuvwxyz", Errno::NoSpc},
      {2, 3, text, "yz", Errno::NoSpc},
      {1, 1, text, "", Errno::NoSpc},
      {1 | BPF_LOG_FIXED, 27, text, text, Errno::None},
      {1 | BPF_LOG_FIXED, 26, text, text.substr(0, 25), Errno::NoSpc},
      {1 | BPF_LOG_FIXED, 10, text, "abcdefghi", Errno::NoSpc},
      {1 | BPF_LOG_FIXED, 1, text, "", Errno::NoSpc},
  };
  for (const Given& given : cases) {
    CAPTURE(given.level, given.size);
    Errno result;
    uint32_t true_size;
    CHECK(log_of(given, result, true_size) == given.in_buffer);
    CHECK(result == given.result);
    CHECK(true_size == text.size() + 1);
  }
}

TEST_CASE("Going back in the log forgets what came after, but not how long it was") {
  TrustedUserMemory user;
  std::string buffer(64, '#');
  bpf_verifier_log log;
  REQUIRE(bpf_vlog_init(log, user, 1, uint64_t(uintptr_t(buffer.data())), 64));
  bpf_log(log, "kept, ");
  uint64_t here = log.end_pos;
  bpf_log(log, "%s", "dropped with all that follows");
  bpf_vlog_reset(log, here);
  bpf_log(log, "last");
  uint32_t true_size;
  CHECK(bpf_vlog_finalize(log, true_size).ok());
  CHECK(buffer.substr(0, buffer.find('\0')) == "kept, last");
  CHECK(true_size == 6 + 29 + 1);
}

TEST_CASE("Log attributes are checked as the kernel checks them") {
  TrustedUserMemory user;
  bpf_verifier_log log;
  CHECK(bpf_vlog_init(log, user, 0, 0, 0).ok());
  CHECK(bpf_vlog_init(log, user, 1, 0, 0).ok());
  CHECK(bpf_vlog_init(log, user, 1, 0x20000, 0).err() == Errno::Inval);
  CHECK(bpf_vlog_init(log, user, 1, 0, 10).err() == Errno::Inval);
  CHECK(bpf_vlog_init(log, user, 0, 0x20000, 10).err() == Errno::Inval);
  CHECK(bpf_vlog_init(log, user, 16, 0x20000, 10).err() == Errno::Inval);
  CHECK(bpf_vlog_init(log, user, 1, 0x20000, 0x40000000).err() == Errno::Inval);
}

TEST_CASE("Before 6.4 a log had 128 bytes or more and kept its beginning") {
  TrustedUserMemory user;
  bpf_verifier_log log;
  CHECK(bpf_vlog_init(log, user, 0, 0, 0, "6.1"_v).ok());
  CHECK(bpf_vlog_init(log, user, 1, 0, 0, "6.1"_v).err() == Errno::Inval);
  CHECK(bpf_vlog_init(log, user, 1, 0x20000, 127, "6.1"_v).err() == Errno::Inval);
  CHECK(bpf_vlog_init(log, user, 9, 0x20000, 128, "6.1"_v).err() == Errno::Inval);

  for (size_t length : {126, 127, 128, 200}) {
    std::string buffer(128, '#'), text(length, 'x');
    text[0] = 'a';
    uint32_t true_size;
    REQUIRE(bpf_vlog_init(log, user, 1, uint64_t(uintptr_t(buffer.data())), 128, "6.1"_v));
    bpf_log(log, "%s", text.c_str());
    CHECK(bpf_vlog_finalize(log, true_size).err() == (length < 127 ? Errno::None : Errno::NoSpc));
    CHECK(std::string(buffer.c_str()) == text.substr(0, 127));
  }
}

TEST_CASE("A buffer that cannot be written turns the verdict into EFAULT") {
  TrustedUserMemory user;
  bpf_verifier_log log;
  REQUIRE(bpf_vlog_init(log, user, 1, 8, 100));
  bpf_log(log, "x");
  uint32_t true_size;
  CHECK(bpf_vlog_finalize(log, true_size).err() == Errno::Fault);
}
