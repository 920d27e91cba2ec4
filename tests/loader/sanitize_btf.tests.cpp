// bpf_object_sanitize_btf: types of every kind, for kernels that know fewer; each simulated kernel then takes
// them.
#include <map>

#include "btf/btf_build.h"
#include "loader/open_parts.h"
#include "sim.h"

using namespace bpfsim;

namespace {

// One of each kind, with the names that an object of clang's has.
std::vector<uint8_t> all_kinds() {
  BtfBuilder b;
  const uint32_t integer = b.add_int("int", 4, BTF_INT_SIGNED);                               // 1
  const uint32_t proto = b.add_func_proto(integer, {{"ctx", integer}, {"n", integer}});       // 2
  b.add_func("count", proto);                                                                 // 3
  const uint32_t first = b.add_var("first", integer), second = b.add_var("second", integer);  // 4, 5
  b.add_datasec(".data.ab", 12, {{first, 0, 4}, {second, 8, 4}});                             // 6
  b.add_float("double", 8);                                                                   // 7
  b.add_decl_tag("user:name", first);                                                         // 8
  b.add_ref(BTF_KIND_TYPE_TAG, "kptr", integer);                                              // 9
  b.add_enum("small", 4, {{"A", -1}}, true);                                                  // 10
  b.add_enum64("large", 8, {{"B", 1}, {"C", 1ll << 40}});                                     // 11
  b.add_datasec("?.struct_ops", 4, {{first, 0, 4}});                                          // 12
  return b.bytes();
}

BtfTypes parsed(const std::vector<uint8_t>& bytes) {
  Result<BtfTypes> types = BtfTypes::parse(bytes);
  REQUIRE(types);
  return *types;
}

long btf_load(Sim& s, const std::vector<uint8_t>& bytes) {
  bpf_attr attr;
  attr.btf = user_ptr(bytes.data());
  attr.btf_size = uint32_t(bytes.size());
  return s.bpf(BPF_BTF_LOAD, attr);
}

}  // namespace

TEST_CASE("Types that a kernel does not know become older ones, and it takes them") {
  struct Case {
    const char* version;
    std::map<uint32_t, uint32_t> becomes;  // by id, where the kind is another
    bool filler;
  };
  const std::map<uint32_t, uint32_t> to_5_15 = {{9, BTF_KIND_CONST}, {11, BTF_KIND_UNION}};
  auto and_also = [](std::map<uint32_t, uint32_t> one, const std::map<uint32_t, uint32_t>& more) {
    one.insert(more.begin(), more.end());
    return one;
  };
  const auto to_5_12 = and_also({{7, BTF_KIND_STRUCT}, {8, BTF_KIND_INT}}, to_5_15);
  const auto to_5_1 =
      and_also({{4, BTF_KIND_INT}, {5, BTF_KIND_INT}, {6, BTF_KIND_STRUCT}, {12, BTF_KIND_STRUCT}}, to_5_12);
  const auto to_4_20 = and_also({{2, BTF_KIND_ENUM}, {3, BTF_KIND_TYPEDEF}}, to_5_1);
  const Case cases[] = {
      {"4.18", to_4_20, true},
      {"4.20", to_4_20, true},
      {"5.0", to_5_1, true},
      {"5.1", to_5_1, true},
      {"5.2", to_5_12, true},
      {"5.5", to_5_12, true},
      {"5.6", to_5_12, true},
      {"5.12", to_5_12, true},
      {"5.15", and_also({{8, BTF_KIND_INT}}, to_5_15), true},
      {"5.16", to_5_15, true},
      {"5.19", {{11, BTF_KIND_UNION}}, true},
      {"6.0", {}, false},
      {"6.8", {}, false},
      {"6.9", {}, false},
      {"6.18", {}, false},
  };
  const std::vector<uint8_t> bytes = all_kinds();
  const BtfTypes before = parsed(bytes);
  for (const Case& c : cases) {
    INFO(c.version);
    const Version version = *Version::parse(c.version);
    const std::vector<uint8_t> made = loader::bpf_object_sanitize_btf(before, version);
    const BtfTypes after = parsed(made);
    REQUIRE(after.nr_types() == before.nr_types() + c.filler);
    for (uint32_t id = 1; id < before.nr_types(); ++id) {
      INFO(id);
      const auto other = c.becomes.find(id);
      CHECK(btf_kind(*after.type_by_id(id)) ==
            (other == c.becomes.end() ? btf_kind(*before.type_by_id(id)) : other->second));
    }
    if (c.filler) CHECK(after.name_of(*after.type_by_id(13)) == std::string("enum64_value"));
    Sim s({.version = version});
    CHECK((btf_load(s, bytes) >= 0) == (version >= Version{6, 9}));
    CHECK(btf_load(s, made) >= 0);
    INFO(s.why());
  }
  CHECK(bytes == before.bytes());
}

TEST_CASE("A section becomes a struct with its variables as members") {
  const BtfTypes after = parsed(loader::bpf_object_sanitize_btf(parsed(all_kinds()), {4, 18}));
  const btf_type& section = *after.type_by_id(6);
  CHECK(after.name_of(section) == std::string("_data_ab"));
  CHECK(section.size == 12);
  const auto members = btf_members(section);
  REQUIRE(members.size() == 2);
  CHECK(after.name_by_offset(members[1].name_off) == std::string("second"));
  CHECK(members[1].type == 5);
  CHECK(members[1].offset == 64);
  CHECK(after.type_by_id(5)->size == 1);
  CHECK(btf_int_data(*after.type_by_id(5)) == 8);
  const auto of_union = btf_members(*after.type_by_id(11));
  REQUIRE(of_union.size() == 2);
  CHECK(of_union[1].type == 13);
  CHECK(after.name_by_offset(of_union[1].name_off) == std::string("C"));
}

TEST_CASE("What a kernel knows is told it as it is, but for the linkage of functions and the sign of enums") {
  const BtfTypes before = parsed(all_kinds());
  struct Case {
    Version version;
    uint32_t linkage;
    bool is_signed;
    const char *data, *ops;
  };
  const Case cases[] = {
      {{5, 5}, BTF_FUNC_STATIC, false, ".data.ab", "_.struct_ops"},
      {{5, 6}, BTF_FUNC_GLOBAL, false, ".data.ab", "_.struct_ops"},
      {{6, 0}, BTF_FUNC_GLOBAL, true, ".data.ab", "_.struct_ops"},
      {{6, 9}, BTF_FUNC_GLOBAL, true, ".data.ab", "?.struct_ops"},
  };
  for (const Case& c : cases) {
    INFO(c.version.str());
    const BtfTypes after = parsed(loader::bpf_object_sanitize_btf(before, c.version));
    CHECK(btf_vlen(*after.type_by_id(3)) == c.linkage);
    CHECK(btf_kflag(*after.type_by_id(10)) == c.is_signed);
    CHECK(after.name_of(*after.type_by_id(6)) == std::string(c.data));
    CHECK(after.name_of(*after.type_by_id(12)) == std::string(c.ops));
  }
}
