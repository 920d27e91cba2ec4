// Special fields found in BTF: where, how often, what is refused. tests/agree/fields.py asks a live kernel.
#include "btf/btf_fields.h"

#include "btf/btf_build.h"
#include "catch.h"

using namespace bpfsim;

namespace {

constexpr uint32_t kAll = (1u << 14) - 1;

struct FieldsCase {
  const char* what;
  uint32_t (*build)(BtfBuilder&);  // gives the value's type
  uint32_t size;
  Errno expected;
  std::vector<std::pair<std::string, uint32_t>> fields;  // name and offset
  const char* version = "6.18";
};

uint32_t special(BtfBuilder& b, std::string_view name, uint32_t size) {
  const uint32_t byte = b.add_int("u8", 1), index = b.add_int("u32", 4);
  return b.add_struct(name, size, {{"opaque", b.add_array(byte, index, size)}});
}
uint32_t lock(BtfBuilder& b) { return special(b, "bpf_spin_lock", 4); }
uint32_t kptr(BtfBuilder& b, const char* tag, const char* to) {
  const uint32_t target = b.add_struct(to, 4, {{"x", b.add_int("int", 4)}});
  return b.add_ptr(b.add_ref(BTF_KIND_TYPE_TAG, tag, target));
}
uint32_t list(BtfBuilder& b, const char* tag, bool locked = true) {
  const uint32_t node = special(b, "bpf_list_node", 24), head = special(b, "bpf_list_head", 16);
  b.add_struct("item", 32, {{"x", b.add_int("int", 4)}, {"node", node, 64}});
  std::vector<BtfBuilder::Member> members{{"head", head, 64}};
  if (locked) members.insert(members.begin(), {"lock", lock(b), 0});
  const uint32_t value = b.add_struct("value", 24, members);
  if (tag) b.add_decl_tag(tag, value, locked ? 1 : 0);
  return value;
}

const FieldsCase kCases[] = {
    {"no field",
     [](BtfBuilder& b) { return b.add_struct("v", 4, {{"x", b.add_int("int", 4)}}); },
     4,
     Errno::None,
     {}},
    {"a lock",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"l", lock(b), 32}}); },
     8,
     Errno::None,
     {{"bpf_spin_lock", 4}}},
    {"a lock before 5.1",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"l", lock(b), 32}}); },
     8,
     Errno::None,
     {},
     "5.0"},
    {"a lock that is not aligned",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"l", lock(b), 16}}); },
     8,
     Errno::None,
     {}},
    {"two locks",
     [](BtfBuilder& b) {
       const uint32_t l = lock(b);
       return b.add_struct("v", 8, {{"l", l}, {"m", l, 32}});
     },
     8,
     Errno::TooBig,
     {}},
    {"a lock of the wrong size",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"l", special(b, "bpf_spin_lock", 8)}}); },
     8,
     Errno::None,
     {}},
    {"a lock in an inner struct",
     [](BtfBuilder& b) {
       const uint32_t in = b.add_struct("in", 12, {{"l", lock(b), 64}});
       return b.add_struct("v", 32, {{"in", in, 128}});
     },
     32,
     Errno::None,
     {{"bpf_spin_lock", 24}}},
    {"a lock in an inner struct before 6.11",
     [](BtfBuilder& b) {
       const uint32_t in = b.add_struct("in", 12, {{"l", lock(b), 64}});
       return b.add_struct("v", 32, {{"in", in, 128}});
     },
     32,
     Errno::None,
     {},
     "6.1"},
    {"an array of timers",
     [](BtfBuilder& b) {
       const uint32_t timer = special(b, "bpf_timer", 16);
       return b.add_struct("v", 32, {{"t", b.add_array(timer, 1, 2)}});
     },
     32,
     Errno::Inval,
     {}},
    {"kptrs in a row",
     [](BtfBuilder& b) {
       const uint32_t p = kptr(b, "kptr", "mine");
       return b.add_struct("v", 32, {{"p", b.add_array(p, 1, 3), 64}});
     },
     32,
     Errno::None,
     {{"kptr", 8}, {"kptr", 16}, {"kptr", 24}}},
    {"twelve kptrs",
     [](BtfBuilder& b) {
       const uint32_t p = kptr(b, "kptr", "mine");
       return b.add_struct("v", 96, {{"p", b.add_array(p, 1, 12)}});
     },
     96,
     Errno::TooBig,
     {}},
    {"a kptr to what nothing lets go of",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"p", kptr(b, "kptr", "sk_buff")}}); },
     8,
     Errno::NoEnt,
     {}},
    {"the same, untrusted",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"p", kptr(b, "kptr_untrusted", "sk_buff")}}); },
     8,
     Errno::None,
     {{"kptr", 0}}},
    {"a pointer with a tag of its own",
     [](BtfBuilder& b) { return b.add_struct("v", 8, {{"p", kptr(b, "mine", "task_struct")}}); },
     8,
     Errno::Inval,
     {}},
    {"a list",
     [](BtfBuilder& b) { return list(b, "contains:item:node"); },
     24,
     Errno::None,
     {{"bpf_spin_lock", 0}, {"bpf_list_head", 8}}},
    {"a list without a tag", [](BtfBuilder& b) { return list(b, nullptr); }, 24, Errno::Inval, {}},
    {"a list of nothing", [](BtfBuilder& b) { return list(b, "contains:other:node"); }, 24, Errno::NoEnt, {}},
    {"a list by no member",
     [](BtfBuilder& b) { return list(b, "contains:item:absent"); },
     24,
     Errno::NoEnt,
     {}},
    {"a list by a number", [](BtfBuilder& b) { return list(b, "contains:item:x"); }, 24, Errno::Inval, {}},
    {"a list without a lock",
     [](BtfBuilder& b) { return list(b, "contains:item:node", false); },
     24,
     Errno::Inval,
     {}},
    {"an int", [](BtfBuilder& b) { return b.add_int("int", 4); }, 4, Errno::Inval, {}},
};

}  // namespace

TEST_CASE("Special fields are found where the BTF says, and refused as btf_parse_fields refuses") {
  for (const FieldsCase& c : kCases) {
    INFO(c.what);
    BtfBuilder b;
    const uint32_t value = c.build(b);
    const BtfTypes types = *BtfTypes::parse(b.bytes());
    Result<BtfRecord> record = btf_parse_fields(types, value, kAll, c.size, *Version::parse(c.version));
    CHECK(errno_name(record.err()) == std::string(errno_name(c.expected)));
    if (!record) continue;
    std::vector<std::pair<std::string, uint32_t>> fields;
    for (const BtfField& field : record->fields)
      fields.emplace_back(field.type & BPF_KPTR ? "kptr" : btf_field_type_name(field.type), field.offset);
    CHECK(fields == c.fields);
  }
}

TEST_CASE("Copying a value steps over its special fields, init makes them new") {
  BtfBuilder b;
  const uint32_t value = b.add_struct(
      "v", 16, {{"x", b.add_int("int", 4)}, {"l", lock(b), 32}, {"c", special(b, "bpf_refcount", 4), 64}});
  const BtfTypes types = *BtfTypes::parse(b.bytes());
  const BtfRecord record = *btf_parse_fields(types, value, kAll, 16, kLatest);
  REQUIRE(record.fields.size() == 2);
  uint8_t from[16], to[16];
  for (uint8_t i = 0; i < 16; ++i) from[i] = i, to[i] = 0xee;
  bpf_obj_memcpy(record, to, from, 16);
  CHECK(std::vector<uint8_t>(to, to + 16) ==
        std::vector<uint8_t>{0, 1, 2, 3, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 12, 13, 14, 15});
  bpf_obj_init(record, to);
  CHECK(std::vector<uint8_t>(to, to + 16) ==
        std::vector<uint8_t>{0, 1, 2, 3, 0, 0, 0, 0, 1, 0, 0, 0, 12, 13, 14, 15});
}
