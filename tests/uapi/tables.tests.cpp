#include "uapi/tables.h"

#include <set>

#include "catch.h"
#include "uapi/bpf_attr.h"
#include "uapi/suggest.h"

using namespace bpfsim;

// What every table owes its readers: dense numbers from `first`, unique names, and each row found by both.
template <class Rows, class ByNumber, class ByName>
static void check_table(Rows rows, int64_t first, ByNumber by_number, ByName by_name) {
  std::set<std::string> short_names;
  int64_t number = first;
  for (const auto& row : rows) {
    INFO(row.name);
    CHECK(int64_t(row.number) == number);
    CHECK(by_number(number++) == &row);
    CHECK(by_name(row.name) == &row);
    CHECK(by_name(short_name(row.name)) == &row);
    CHECK(short_names.insert(short_name(row.name)).second);
    CHECK(row.since >= "3.15"_v);
    CHECK(row.since <= kLatest);
  }
  CHECK(by_number(first - 1) == nullptr);
  CHECK(by_number(number) == nullptr);
  for (const char* bad : {"", "BPF_", "bpf", "no such name"}) CHECK(by_name(bad) == nullptr);
}

#define CHECK_TABLE(rows, first, find)                          \
  check_table(                                                  \
      rows, first, [](int64_t number) { return find(number); }, \
      [](std::string_view name) { return find(name); })

TEST_CASE("names and numbers are one to one in every table") {
  CHECK_TABLE(commands(), 0, find_command);
  CHECK_TABLE(map_types(), 1, find_map_type);
  CHECK_TABLE(prog_types(), 1, find_prog_type);
  CHECK_TABLE(attach_types(), 0, find_attach_type);
  CHECK_TABLE(link_types(), 1, find_link_type);
  CHECK_TABLE(helpers(), 1, find_helper);
}

TEST_CASE("the tables end where 6.18's enums end") {
  CHECK(commands().size() == 38);
  CHECK(map_types().size() == 33);
  CHECK(prog_types().size() == 32);
  CHECK(attach_types().size() == 58);
  CHECK(link_types().size() == 14);
  CHECK(helpers().size() == 211);
}

TEST_CASE("a name is found in the kernel's form and in short ones, whatever its case") {
  for (const char* name : {"BPF_MAP_TYPE_LRU_HASH", "MAP_TYPE_LRU_HASH", "LRU_HASH", "lru_hash"}) {
    INFO(name);
    REQUIRE(find_map_type(name) != nullptr);
    CHECK(find_map_type(name)->number == BPF_MAP_TYPE_LRU_HASH);
  }
  CHECK(find_command("MAP_CREATE") == find_command("BPF_MAP_CREATE"));
  CHECK(find_command("prog_run")->number == BPF_PROG_TEST_RUN);
  CHECK(find_map_type("cgroup_storage_deprecated")->number == BPF_MAP_TYPE_CGROUP_STORAGE);
  CHECK(find_prog_type("xdp")->number == BPF_PROG_TYPE_XDP);
  CHECK(find_attach_type("xdp")->number == BPF_XDP);
  CHECK(find_link_type("xdp")->number == BPF_LINK_TYPE_XDP);
  for (const char* name : {"BPF_FUNC_redirect", "bpf_redirect", "redirect"})
    CHECK(find_helper(name)->number == BPF_FUNC_redirect);
}

TEST_CASE("numbers, versions and licences are the kernel's, spot by spot") {
  CHECK(find_command(38 - 1)->since == "6.17"_v);
  CHECK(BPF_LINK_CREATE == 28);
  CHECK(find_command("link_create")->since == "5.7"_v);
  CHECK(BPF_MAP_TYPE_QUEUE == 22);
  CHECK(find_map_type("queue")->since == "4.20"_v);
  CHECK(find_map_type("ringbuf")->since == "5.8"_v);
  CHECK(find_attach_type("BPF_XDP")->since == "5.9"_v);
  CHECK(find_attach_type("cgroup_inet_egress")->prog_type == BPF_PROG_TYPE_CGROUP_SKB);
  const ProgTypeRow& xdp = *find_prog_type("xdp");
  CHECK(std::string(xdp.context) == "xdp_md");
  CHECK(std::string(xdp.ops) == "xdp");
  CHECK(xdp.capabilities == (LOAD_BPF | LOAD_NET_ADMIN));
  CHECK(find_prog_type("socket_filter")->capabilities == LOAD_FREE);
  CHECK(BPF_FUNC_trace_printk == 6);
  CHECK(find_helper("trace_printk")->gpl_only);
  CHECK_FALSE(find_helper("map_lookup_elem")->gpl_only);
  CHECK(find_helper(BPF_FUNC_cgrp_storage_delete)->since == "6.2"_v);
  CHECK(std::string(find_helper("ktime_get_ns")->signature) == "u64 bpf_ktime_get_ns(void)");
}

TEST_CASE("a helper's signature names the helper") {
  for (const HelperRow& row : helpers()) {
    INFO(row.name);
    CHECK(std::string(row.signature).find(std::string(row.name) + "(") != std::string::npos);
  }
}

TEST_CASE("flags are one bit each and come with their version") {
  for (auto rows : {map_flags(), prog_flags()}) {
    uint32_t seen = 0;
    for (const FlagRow& row : rows) {
      INFO(row.name);
      CHECK((row.number & (row.number - 1)) == 0);
      CHECK((seen & row.number) == 0);
      seen |= row.number;
    }
  }
  CHECK(known_map_flags("4.14"_v) == (BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE));
  CHECK(known_map_flags(kLatest) == 0x7ffff);
  CHECK((known_prog_flags("5.9"_v) & BPF_F_SLEEPABLE) == 0);
  CHECK((known_prog_flags("5.10"_v) & BPF_F_SLEEPABLE) != 0);
}

TEST_CASE("union bpf_attr grows with the versions") {
  CHECK(bpf_attr_size(kFirst) == 48);
  CHECK(bpf_attr_size("4.19"_v) == 72);
  CHECK(bpf_attr_size("5.4"_v) == 112);
  CHECK(bpf_attr_size("6.1"_v) == 144);
  CHECK(bpf_attr_size("6.12"_v) == 152);
  CHECK(bpf_attr_size(kLatest) == sizeof(bpf_attr));
}

TEST_CASE("every command has a last field, from the day it exists, inside the union of its day") {
  for (const CommandRow& row : commands()) {
    INFO(row.name);
    Version first = row.since < kFirst ? kFirst : row.since;
    const LastFieldRow* field = last_field(row.number, first);
    REQUIRE(field != nullptr);
    CHECK(field->since == first);
    if (row.since > kFirst)
      CHECK(last_field(row.number, Version{row.since.major, uint16_t(row.since.minor - 1)}) == nullptr);
  }
  Version last_since;
  bpf_cmd last_command = BPF_MAP_CREATE;
  for (const LastFieldRow& row : last_fields()) {
    INFO(find_command(row.command)->name << " " << row.field);
    CHECK(row.end <= bpf_attr_size(row.since));
    if (row.command == last_command) CHECK(row.since > last_since);
    last_command = row.command, last_since = row.since;
  }
  CHECK(last_field(BPF_MAP_CREATE, "6.12"_v)->end == 80);
  CHECK(last_field(BPF_MAP_CREATE, kLatest)->end == 92);
  CHECK(last_field(BPF_PROG_LOAD, kLatest)->end == 168);
  CHECK(std::string(last_field(BPF_MAP_LOOKUP_ELEM, "5.0"_v)->field) == "value");
  CHECK(last_field(BPF_LINK_CREATE, "5.6"_v) == nullptr);
}

TEST_CASE("a mistyped name gets the nearest one, a foreign one none") {
  struct Case {
    const char *bad, *meant;
  };
  for (const Case& c : {Case{"arry", "array"},
                        {"hahs", "hash"},
                        {"percpu-array", "percpu_array"},
                        {"BPF_MAP_TYPE_LRUHASH", "lru_hash"},
                        {"ring_buf", "ringbuf"},
                        {"zzzzzz", ""},
                        {"", ""}}) {
    INFO(c.bad);
    CHECK(nearest_row(map_types(), c.bad) == c.meant);
  }
  CHECK(nearest_row(helpers(), "bpf_map_lookup_elm") == "map_lookup_elem");
  CHECK(nearest_row(prog_types(), "sched_clas") == "sched_cls");
  CHECK(nearest_row(commands(), std::string(100000, 'x')) == "");
}
