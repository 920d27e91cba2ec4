#include "uapi/result.h"

#include "catch.h"

using namespace bpfsim;

static Result<int> queue_check(int key_size) {
  if (key_size != 0) return refuse(Errno::Inval, "key_size of {} must be 0, is {}", "queue", key_size);
  return 7;
}

static Result<void> caller(int key_size, int* out) {
  *out = TRY(queue_check(key_size));
  return {};
}

TEST_CASE("a refusal says which function refused and what it wanted and got") {
  int got = 0;
  CHECK(caller(0, &got).ok());
  CHECK(got == 7);

  Result<void> result = caller(-4, &got);
  REQUIRE_FALSE(result.ok());
  CHECK(result.err() == Errno::Inval);
  CHECK(result.refusal().check() == "queue_check");
  CHECK(result.refusal().reason() == "key_size of queue must be 0, is -4");
}

TEST_CASE("error numbers are Linux's own") {
  CHECK(int(Errno::NotSupp) == 524);
  CHECK(std::string(errno_name(Errno::TooBig)) == "E2BIG");
  CHECK(std::string(errno_name(Errno(9999))) == "E?");
}
