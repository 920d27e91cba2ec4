#include "uapi/gates.h"

#include <set>
#include <string>

#include "catch.h"

using namespace bpfsim;

TEST_CASE("a gate opens at its version and stays open") {
  CHECK_FALSE(has(Gate::bounded_loops, "5.2"_v));
  CHECK(has(Gate::bounded_loops, "5.3"_v));
  CHECK(has(Gate::bounded_loops, kLatest));
  static_assert(has(Gate::cap_bpf, kLatest), "a gate can be asked while compiling");
  CHECK(gate_row(Gate::global_funcs).since == "5.6"_v);
}

TEST_CASE("gates have unique names, both sides told, and a version no later than the latest") {
  std::set<std::string> names;
  for (const GateRow& row : gates()) {
    INFO(row.name);
    CHECK(names.insert(row.name).second);
    CHECK(&gate_row(row.gate) == &row);
    CHECK(std::string(row.before) != row.after);
    CHECK_FALSE(std::string(row.before).empty());
    CHECK_FALSE(std::string(row.after).empty());
    CHECK(row.since >= "3.18"_v);
    CHECK(row.since <= kLatest);
  }
}

TEST_CASE("limits follow the version") {
  struct Case {
    Version version;
    uint32_t complexity, privileged, unprivileged;
  };
  for (const Case& c : {Case{"4.6"_v, 32768, 4096, 4096},
                        {"4.7"_v, 65536, 4096, 4096},
                        {"4.12"_v, 98304, 4096, 4096},
                        {"4.14"_v, 131072, 4096, 4096},
                        {"5.1"_v, 131072, 4096, 4096},
                        {"5.2"_v, 1000000, 1000000, 4096},
                        {"6.18"_v, 1000000, 1000000, 4096}}) {
    INFO(c.version.str());
    CHECK(complexity_limit_insns(c.version) == c.complexity);
    CHECK(max_insn_cnt(c.version, true) == c.privileged);
    CHECK(max_insn_cnt(c.version, false) == c.unprivileged);
  }
}

TEST_CASE("evidence has a name for each grade") {
  CHECK(std::string(evidence_name(Evidence::Measured)) == "measured");
  CHECK(std::string(evidence_name(Evidence::Unverified)) == "unverified");
}
