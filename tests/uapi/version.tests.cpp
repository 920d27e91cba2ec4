#include "uapi/version.h"

#include "catch.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

using namespace bpfsim;

TEST_CASE("a version is read from its first two numbers and ordered by them") {
  CHECK(Version::parse("6.18") == Version{6, 18});
  CHECK(Version::parse("5.4.0") == Version{5, 4});
  CHECK(Version::parse("6.18.44-amd64") == Version{6, 18});
  CHECK(Version::parse("6.1-rc3") == Version{6, 1});
  CHECK("4.9"_v < "4.14"_v);
  CHECK("5.0"_v > "4.20"_v);
  CHECK(kLatest.str() == "6.18");
}

TEST_CASE("text that is no version gives none") {
  for (const char* text : {"", "6", "6.", ".18", "six.one", "6.18x", "6,18", "-6.1", "99999.1", "6.18 "}) {
    INFO(text);
    CHECK_FALSE(Version::parse(text).has_value());
  }
}

TEST_CASE("a fresh bpf_attr is all zero, its padding too") {
  bpf_attr attr;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&attr);
  for (size_t i = 0; i < sizeof attr; ++i) CHECK(bytes[i] == 0);
}

TEST_CASE("second names share their number") {
  CHECK(BPF_PROG_RUN == 10);
  CHECK(BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED == 19);
  CHECK(MAX_BPF_CMD == 38);
  CHECK(BPF_FUNC_MAX_ID == 212);
}
