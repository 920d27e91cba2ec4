// The BTF checker against its table of cases, and its manners with bytes that mean nothing.
#include "btf/btf_check.h"

#include <random>

#include "cases.h"
#include "catch.h"

using namespace bpfsim;

TEST_CASE("each case has the errno and the last line that 6.18 gives") {
  for (const BtfCase& c : btf_cases()) {
    std::string log;
    const Result<BtfTypes> btf = btf_parse(btf_case_bytes(c), &log);
    INFO(c.name << "\n" << log);
    CHECK(int(btf.err()) == c.err);
    CHECK(last_line(log) == c.last_line);
  }
}

TEST_CASE("a refusal carries the log's words, with or without a log") {
  BtfBuilder b;
  b.add_ptr(1);
  const Result<BtfTypes> btf = btf_parse(b.bytes());
  REQUIRE(!btf);
  CHECK(btf.refusal().reason() == "Loop detected");
  CHECK(btf.refusal().check() == "btf_resolve");
}

TEST_CASE("the log opens with the header and has a line per type") {
  BtfBuilder b;
  an_int(b);
  b.add_struct("pair", 8, {{"a", 1, 0}, {"b", 1, 32}});
  std::string log;
  REQUIRE(btf_parse(b.bytes(), &log));
  CHECK(log ==
        "magic: 0xeb9f\nversion: 1\nflags: 0x0\nhdr_len: 24\ntype_off: 0\ntype_len: 52\nstr_off: "
        "52\nstr_len: 14\n"
        "btf_total_size: 90\n"
        "[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=SIGNED\n"
        "[2] STRUCT pair size=8 vlen=2\n"
        "\ta type_id=1 bits_offset=0\n"
        "\tb type_id=1 bits_offset=32\n");
}

TEST_CASE("an older kernel wants plain names of sections and no flag in a tag") {
  BtfBuilder section;
  an_int(section);
  section.add_datasec(".data:x", 4, {{section.add_var("v", 1), 0, 4}});
  BtfBuilder type_tag;
  an_int(type_tag);
  type_tag.add_raw("tag", btf_info_enc(BTF_KIND_TYPE_TAG, true, 0), 1);
  BtfBuilder decl_tag;
  an_int(decl_tag);
  decl_tag.add_ref(BTF_KIND_TYPEDEF, "t", 1);
  decl_tag.add_raw("tag", btf_info_enc(BTF_KIND_DECL_TAG, true, 0), 2, {uint32_t(-1)});
  const struct {
    BtfBuilder& btf;
    const char* check;
  } cases[] = {{section, "btf_datasec_check_meta"},
               {type_tag, "btf_ref_type_check_meta"},
               {decl_tag, "btf_decl_tag_check_meta"}};
  for (const auto& c : cases) {
    INFO(c.check);
    CHECK(btf_parse(c.btf.bytes()).ok());
    const Result<BtfTypes> old = btf_parse(c.btf.bytes(), nullptr, "6.1"_v);
    CHECK(old.err() == Errno::Inval);
    CHECK(old.refusal().check() == c.check);
  }
}

TEST_CASE("types answer questions: name, size, what stands behind a typedef") {
  const auto btf = btf_parse(btf_of_every_kind());
  REQUIRE(btf);
  const uint32_t u32 = btf->find_by_name("u32", BTF_KIND_TYPEDEF);
  uint32_t behind = 0;
  REQUIRE(btf->skip_modifiers(u32, &behind));
  CHECK(behind == btf->find_by_name("int", BTF_KIND_INT));
  CHECK(btf->size_of(u32) == 4);
  CHECK(btf->size_of(btf->find_by_name("node", BTF_KIND_STRUCT)) == 64);
  CHECK(btf->size_of(btf->find_by_name("later", BTF_KIND_FWD)) == -1);
  CHECK(btf->size_of(4000) == -1);
  CHECK(btf->type_by_id(4000) == nullptr);
  CHECK(btf->describe(4) == "char[16]");
  CHECK(btf->find_by_name("u32", BTF_KIND_STRUCT) == 0);
}

TEST_CASE("parse and bytes give back what was read") {
  const auto bytes = btf_of_every_kind();
  const auto btf = BtfTypes::parse(bytes);
  REQUIRE(btf);
  CHECK(btf->bytes() == bytes);
}

TEST_CASE("truncated and mutated BTF is refused or read, and never crashes") {
  const auto good = btf_of_every_kind();
  REQUIRE(btf_parse(good));
  for (size_t n = 0; n < good.size(); ++n) {
    CHECK(!btf_parse(std::span(good).first(n)));
    CHECK(!BtfTypes::parse(std::span(good).first(n)));
  }
  std::mt19937 random(1);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    auto bytes = good;
    for (uint32_t flips = 1 + random() % 4; flips; --flips)
      bytes[random() % bytes.size()] = uint8_t(random());
    std::string log;
    accepted += btf_parse(bytes, &log).ok();
    if (auto btf = BtfTypes::parse(bytes))
      for (uint32_t id = 0; id < btf->nr_types() + 2; ++id) (void)btf->size_of(id), (void)btf->describe(id);
  }
  CHECK(accepted > 0);
  CHECK(accepted < 20000);
}
