// Models: kernel/bpf/btf.c (Linux 6.18): btf_parse_hdr(), btf_parse_str_sec(), btf_check_all_metas()
//
// The first half of the checker: what can be judged from a part's own bytes. What a kind must not have is a
// list of flaws, the first of which refuses; their order is the kernel's, since the log tells it. A type
// without one is written to the log; the ids that it refers to are not followed before all types are known
// (btf_resolve.cpp).
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

#include "btf/btf_check.h"
#include "btf/btf_checker.h"
#include "uapi/gates.h"

namespace bpfsim {

static constexpr uint32_t BTF_INT_MASK = 0x0fffffff;

static std::string hex(uint32_t value) {
  char text[12];
  std::snprintf(text, sizeof text, "%x", value);
  return text;
}

// The last kind of BTF that this version knows; each brought the ones before it along.
static uint32_t btf_kind_max(Version version) {
  if (has(Gate::btf_enum64, version)) return BTF_KIND_ENUM64;
  if (has(Gate::btf_type_tag, version)) return BTF_KIND_TYPE_TAG;
  if (has(Gate::btf_decl_tag, version)) return BTF_KIND_DECL_TAG;
  if (has(Gate::btf_float, version)) return BTF_KIND_FLOAT;
  if (has(Gate::btf_datasec, version)) return BTF_KIND_DATASEC;
  if (has(Gate::btf_func_info, version)) return BTF_KIND_FUNC_PROTO;
  return BTF_KIND_RESTRICT;
}

Result<BtfTypes> btf_parse(std::span<const uint8_t> data, std::string* log, Version version) {
  if (data.size() > BTF_MAX_SIZE)
    return refuse(Errno::TooBig, "BTF of {} bytes, 16 MiB are allowed", data.size());
  BtfTypes btf;
  TRY(BtfChecker(btf, log, version).parse(data));
  return btf;
}

Result<void> BtfChecker::parse(std::span<const uint8_t> data) {
  TRY(btf_parse_hdr(data));
  TRY(btf_parse_str_sec(data));
  TRY(btf_parse_type_sec(data));
  return btf_check_type_tags();
}

Result<void> BtfChecker::btf_parse_hdr(std::span<const uint8_t> data) {
  const auto size = uint32_t(data.size());
  constexpr uint32_t hdr_len_end = offsetof(btf_header, hdr_len) + sizeof(uint32_t);
  if (size < hdr_len_end) return refuse_plain(Errno::Inval, "hdr_len not found");
  uint32_t hdr_len;
  std::memcpy(&hdr_len, data.data() + offsetof(btf_header, hdr_len), sizeof hdr_len);
  if (size < hdr_len) return refuse_plain(Errno::Inval, "btf_header not found");
  // A longer header of a newer format is fine as long as what we do not know is zero.
  for (uint32_t i = sizeof(btf_header); i < hdr_len; ++i)
    if (data[i]) return refuse_plain(Errno::TooBig, "Unsupported btf_header");
  std::memcpy(&hdr_, data.data(), std::min<size_t>(hdr_len, sizeof hdr_));

  if (log_) {
    char text[256];
    std::snprintf(text, sizeof text,
                  "magic: 0x%x\nversion: %u\nflags: 0x%x\nhdr_len: %u\ntype_off: %u\ntype_len: %u\n"
                  "str_off: %u\nstr_len: %u\nbtf_total_size: %u\n",
                  hdr_.magic, hdr_.version, hdr_.flags, hdr_.hdr_len, hdr_.type_off, hdr_.type_len,
                  hdr_.str_off, hdr_.str_len, size);
    log(text);
  }
  const auto flaw = first({{hdr_.magic != BTF_MAGIC, "Invalid magic"},
                           {hdr_.version != BTF_VERSION, "Unsupported version", 0, Errno::NotSupp},
                           {hdr_.flags != 0, "Unsupported flags", 0, Errno::NotSupp},
                           {size == hdr_.hdr_len, "No data"}});
  if (flaw) return refuse_plain(flaw->err, flaw->words);
  return btf_check_sec_info(size);
}

// The two sections must fill what follows the header, one behind the other, without gap or overlap.
Result<void> BtfChecker::btf_check_sec_info(uint32_t btf_data_size) {
  struct Section {
    uint32_t off, len;
  } secs[] = {{hdr_.type_off, hdr_.type_len}, {hdr_.str_off, hdr_.str_len}};
  // Which is first, the kernel finds by signed differences: offsets beyond 2 GiB sort as negative.
  const auto by_off = int32_t(secs[0].off - secs[1].off), by_len = int32_t(secs[0].len - secs[1].len);
  if (by_off > 0 || (by_off == 0 && by_len > 0)) std::swap(secs[0], secs[1]);

  const uint32_t body = btf_data_size - hdr_.hdr_len;
  uint32_t filled = 0;
  for (const Section& sec : secs) {
    const auto flaw = first({{sec.off > body, "Invalid section offset"},
                             {sec.off > filled, "Unsupported section found"},
                             {sec.off < filled, "Section overlap found"},
                             {sec.len > body - filled, "Total section length too long"}});
    if (flaw) return refuse_plain(Errno::Inval, flaw->words);
    filled += sec.len;
  }
  if (filled != body) return refuse_plain(Errno::Inval, "Unsupported section found");
  return {};
}

Result<void> BtfChecker::btf_parse_str_sec(std::span<const uint8_t> data) {
  const auto strings = data.subspan(hdr_.hdr_len + hdr_.str_off, hdr_.str_len);  // inside, by check_sec_info
  if (strings.data() + strings.size() != data.data() + data.size())
    return refuse_plain(Errno::Inval, "String section is not at the end");
  if (strings.empty() || strings.size() - 1 > BTF_MAX_NAME_OFFSET || strings.back() || strings.front())
    return refuse_plain(Errno::Inval, "Invalid string section");
  btf_.strings_.assign(strings.begin(), strings.end());
  return {};
}

Result<void> BtfChecker::btf_parse_type_sec(std::span<const uint8_t> data) {
  if (hdr_.type_off & 3) return refuse_plain(Errno::Inval, "Unaligned type_off");
  if (!hdr_.type_len) return refuse_plain(Errno::Inval, "No type found");
  btf_.type_len_ = hdr_.type_len;
  btf_.words_.assign((hdr_.type_len + 3) / 4, 0);
  std::memcpy(btf_.words_.data(), data.data() + hdr_.hdr_len + hdr_.type_off, hdr_.type_len);
  TRY(btf_check_all_metas());
  return btf_check_all_types();
}

Result<void> BtfChecker::btf_check_all_metas() {
  btf_.starts_.assign(1, 0);
  log_type_id_ = 1;
  for (uint32_t at = 0; at < hdr_.type_len; ++log_type_id_) {
    const auto& t = *reinterpret_cast<const btf_type*>(&btf_.words_[at / 4]);
    const uint32_t size = TRY(btf_check_meta(t, hdr_.type_len - at));
    // The kernel says so and goes on without the type.
    if (btf_.nr_types() == BTF_MAX_TYPE)
      log("Exceeded max num of types");
    else
      btf_.starts_.push_back(at / 4);
    at += size;
  }
  return {};
}

// Returns how many bytes the record and what follows it take.
Result<uint32_t> BtfChecker::btf_check_meta(Type t, uint32_t meta_left) {
  const uint32_t id = log_type_id_;
  if (meta_left < sizeof t)
    return refuse_plain(Errno::Inval, "[{}] meta_left:{} meta_needed:{}", id, meta_left, sizeof t);
  const uint32_t info_mask = has(Gate::btf_kind_flag, version_) ? BTF_INFO_MASK : BTF_INFO_MASK & ~(1u << 31);
  if (t.info & ~info_mask) return refuse_plain(Errno::Inval, "[{}] Invalid btf_info:{}", id, hex(t.info));
  if (btf_kind(t) > btf_kind_max(version_) || btf_kind(t) == BTF_KIND_UNKN)
    return refuse_plain(Errno::Inval, "[{}] Invalid kind:{}", id, btf_kind(t));
  if (!btf_.name_by_offset(t.name_off))
    return refuse_plain(Errno::Inval, "[{}] Invalid name_offset:{}", id, t.name_off);
  const auto needed = uint32_t(btf_trail_size(t));
  if (meta_left - sizeof t < needed)
    return refuse_basic(t, "meta_left:{} meta_needed:{}", meta_left - sizeof t, needed);
  TRY(check_kind_meta(t));
  return uint32_t(sizeof t) + needed;
}

Result<void> BtfChecker::check_kind_meta(Type t) {
  switch (btf_kind(t)) {
    case BTF_KIND_INT: return btf_int_check_meta(t);
    case BTF_KIND_ARRAY: return btf_array_check_meta(t);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION: return btf_struct_check_meta(t);
    case BTF_KIND_ENUM:
    case BTF_KIND_ENUM64: return btf_enum_check_meta(t);
    case BTF_KIND_FWD: return btf_fwd_check_meta(t);
    case BTF_KIND_FUNC: return btf_func_check_meta(t);
    case BTF_KIND_FUNC_PROTO: return btf_func_proto_check_meta(t);
    case BTF_KIND_VAR: return btf_var_check_meta(t);
    case BTF_KIND_DATASEC: return btf_datasec_check_meta(t);
    case BTF_KIND_FLOAT: return btf_float_check_meta(t);
    case BTF_KIND_DECL_TAG: return btf_decl_tag_check_meta(t);
    default: return btf_ref_type_check_meta(t);  // PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
  }
}

Result<void> BtfChecker::check(Type t, std::initializer_list<Flaw> flaws) {
  const auto flaw = first(flaws);
  if (flaw) return refuse_type_err(t, flaw->err, flaw->words, flaw->value);
  return {};
}

Result<void> BtfChecker::check_and_log(Type t, std::initializer_list<Flaw> flaws) {
  TRY(check(t, flaws));
  log_type(t, true, "");
  return {};
}

static bool no_type(uint32_t id) { return id == 0 || id > BTF_MAX_TYPE; }

Result<void> BtfChecker::btf_int_check_meta(Type t) {
  const uint32_t data = btf_int_data(t), encoding = btf_int_encoding(data);
  const uint32_t nr_bits = btf_int_bits(data) + btf_int_offset(data);
  const bool known = std::has_single_bit(encoding) && encoding <= BTF_INT_BOOL;
  TRY(check(t, {{btf_vlen(t) != 0, "vlen != 0"}, {btf_kflag(t), "Invalid btf_info kind_flag"}}));
  if (data & ~BTF_INT_MASK) return refuse_basic(t, "Invalid int_data:{}", hex(data));
  return check_and_log(t, {{nr_bits > 128, "nr_bits exceeds {}", 128},
                           {(nr_bits + 7) / 8 > t.size, "nr_bits exceeds type_size"},
                           {encoding && !known, "Unsupported encoding", 0, Errno::NotSupp}});
}

Result<void> BtfChecker::btf_ref_type_check_meta(Type t) {
  const uint32_t kind = btf_kind(t);
  // With the flag a type tag stands for any attribute, not only for btf_type_tag.
  const bool may_have_flag = kind == BTF_KIND_TYPE_TAG && has(Gate::btf_tag_kind_flag, version_);
  const bool name_ok = kind == BTF_KIND_TYPEDEF    ? btf_name_valid_identifier(t.name_off)
                       : kind == BTF_KIND_TYPE_TAG ? *btf_.name_of(t) != 0
                                                   : t.name_off == 0;
  return check_and_log(t, {{btf_vlen(t) != 0, "vlen != 0"},
                           {btf_kflag(t) && !may_have_flag, "Invalid btf_info kind_flag"},
                           {t.type > BTF_MAX_TYPE, "Invalid type_id"},
                           {!name_ok, "Invalid name"}});
}

Result<void> BtfChecker::btf_fwd_check_meta(Type t) {
  return check_and_log(t, {{btf_vlen(t) != 0, "vlen != 0"},
                           {t.type != 0, "type != 0"},
                           {!btf_name_valid_identifier(t.name_off), "Invalid name"}});
}

Result<void> BtfChecker::btf_array_check_meta(Type t) {
  const btf_array& array = btf_array_of(t);
  return check_and_log(t, {{t.name_off != 0, "Invalid name"},
                           {btf_vlen(t) != 0, "vlen != 0"},
                           {btf_kflag(t), "Invalid btf_info kind_flag"},
                           {t.size != 0, "size != 0"},
                           {no_type(array.type), "Invalid elem"},
                           {no_type(array.index_type), "Invalid index"}});
}

Result<void> BtfChecker::btf_struct_check_meta(Type t) {
  const bool is_union = btf_kind(t) == BTF_KIND_UNION;
  TRY(check_and_log(t, {{t.name_off && !btf_name_valid_identifier(t.name_off), "Invalid name"}}));
  uint32_t before = 0;  // equal offsets pass: the last member may be an array without elements
  for (const btf_member& m : btf_members(t)) {
    const uint32_t offset = btf_member_bit_offset(t, m);
    const auto flaw = first({
        {!btf_.name_by_offset(m.name_off), "Invalid member name_offset:{}", m.name_off},
        {m.name_off && !btf_name_valid_identifier(m.name_off), "Invalid name"},
        {no_type(m.type), "Invalid type_id"},
        {offset < before || (is_union && offset), "Invalid member bits_offset"},
        {(uint64_t(offset) + 7) / 8 > t.size, "Member bits_offset exceeds its struct size"},
    });
    if (flaw) return refuse_member(t, m, flaw->words, flaw->value);
    log_member(t, m, "");
    before = offset;
  }
  return {};
}

// ENUM and ENUM64 differ in the width of a value only.
struct Enumerator {
  uint32_t name_off;
  uint64_t bits;
  int64_t number;
};
static Enumerator enumerator(const btf_type& t, uint32_t i) {
  if (btf_kind(t) == BTF_KIND_ENUM)
    return {btf_enums(t)[i].name_off, uint32_t(btf_enums(t)[i].val), btf_enums(t)[i].val};
  const uint64_t bits = btf_enum64_value(btf_enum64s(t)[i]);
  return {btf_enum64s(t)[i].name_off, bits, int64_t(bits)};
}

Result<void> BtfChecker::btf_enum_check_meta(Type t) {
  TRY(check_and_log(t, {{btf_kflag(t) && !has(Gate::btf_enum64, version_), "Invalid btf_info kind_flag"},
                        {t.size != 4 && !has(Gate::btf_enum_size, version_), "Expected size:4"},
                        {t.size > 8 || !std::has_single_bit(t.size), "Unexpected size"},
                        {t.name_off && !btf_name_valid_identifier(t.name_off), "Invalid name"}}));
  for (uint32_t i = 0; i < btf_vlen(t); ++i) {
    const Enumerator e = enumerator(t, i);
    if (!btf_.name_by_offset(e.name_off))
      return refuse_plain(Errno::Inval, "\tInvalid name_offset:{}", e.name_off);
    TRY(check(t, {{!btf_name_valid_identifier(e.name_off), "Invalid name"}}));
    if (!log_) continue;
    const std::string value = btf_kflag(t) ? std::to_string(e.number) : std::to_string(e.bits);
    log(std::string("\t") + log_name(e.name_off) + " val=" + value + "\n");
  }
  return {};
}

Result<void> BtfChecker::btf_func_proto_check_meta(Type t) {
  return check_and_log(t, {{t.name_off != 0, "Invalid name"}, {btf_kflag(t), "Invalid btf_info kind_flag"}});
}

Result<void> BtfChecker::btf_func_check_meta(Type t) {
  return check_and_log(t, {{!btf_name_valid_identifier(t.name_off), "Invalid name"},
                           {btf_vlen(t) && !has(Gate::btf_func_linkage, version_), "vlen != 0"},
                           {btf_vlen(t) > BTF_FUNC_GLOBAL, "Invalid func linkage"},
                           {btf_kflag(t), "Invalid btf_info kind_flag"}});
}

Result<void> BtfChecker::btf_var_check_meta(Type t) {
  return check_and_log(t, {{btf_vlen(t) != 0, "vlen != 0"},
                           {btf_kflag(t), "Invalid btf_info kind_flag"},
                           {!btf_name_valid_identifier(t.name_off), "Invalid name"},
                           {no_type(t.type), "Invalid type_id"},
                           {btf_var_linkage(t) > BTF_VAR_GLOBAL_ALLOCATED, "Linkage not supported"}});
}

Result<void> BtfChecker::btf_datasec_check_meta(Type t) {
  TRY(check_and_log(t, {{btf_vlen(t) == 0 && !has(Gate::btf_datasec_empty, version_), "vlen == 0"},
                        {t.size == 0, "size == 0"},
                        {btf_kflag(t), "Invalid btf_info kind_flag"},
                        {!btf_name_valid_section(t.name_off), "Invalid name"}}));
  uint32_t taken = 0;
  uint64_t sum = 0;
  for (const btf_var_secinfo& vsi : btf_var_secinfos(t)) {
    const uint32_t end = vsi.offset + vsi.size;  // 32 bits wide in the kernel too
    const auto flaw = first({{no_type(vsi.type), "Invalid type_id"},
                             {vsi.offset < taken || vsi.offset >= t.size, "Invalid offset"},
                             {vsi.size == 0 || vsi.size > t.size, "Invalid size"},
                             {end > t.size, "Invalid offset+size"}});
    if (flaw) return refuse_vsi(t, vsi, flaw->words);
    log_vsi(t, vsi, "");
    taken = end;
    sum += vsi.size;
  }
  return check(t, {{sum > t.size, "Invalid btf_info size"}});
}

Result<void> BtfChecker::btf_float_check_meta(Type t) {
  const bool known = t.size == 12 || (t.size >= 2 && t.size <= 16 && std::has_single_bit(t.size));
  return check_and_log(t, {{btf_vlen(t) != 0, "vlen != 0"},
                           {btf_kflag(t), "Invalid btf_info kind_flag"},
                           {!known, "Invalid type_size"}});
}

Result<void> BtfChecker::btf_decl_tag_check_meta(Type t) {
  const bool may_have_flag = has(Gate::btf_tag_kind_flag, version_);
  return check_and_log(t, {{*btf_.name_of(t) == 0, "Invalid value"},
                           {btf_vlen(t) != 0, "vlen != 0"},
                           {btf_kflag(t) && !may_have_flag, "Invalid btf_info kind_flag"},
                           {btf_component_idx(t) < -1, "Invalid component_idx"}});
}

// The kernel's ctype table is Latin-1: letters from 0xc0 on (except the two signs for times and divide),
// printable from 0xa0 on.
static bool is_letter(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c != 0xd7 && c != 0xf7);
}
static bool is_printable(unsigned char c) { return (c >= 0x20 && c < 0x7f) || c >= 0xa0; }

static constexpr size_t KSYM_NAME_LEN = 512;

bool BtfChecker::btf_name_valid_identifier(uint32_t offset) const {
  const char* name = btf_.name_by_offset(offset);
  const size_t length = name ? std::strlen(name) : 0;
  if (length == 0 || length > KSYM_NAME_LEN) return false;
  auto ok = [](unsigned char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '.'; };
  return !(name[0] >= '0' && name[0] <= '9') && std::all_of(name, name + length, ok);
}

bool BtfChecker::btf_name_valid_section(uint32_t offset) const {
  if (!has(Gate::btf_section_printable, version_)) return btf_name_valid_identifier(offset);
  const char* name = btf_.name_by_offset(offset);
  const size_t length = std::strlen(name);
  return length != 0 && length <= KSYM_NAME_LEN && std::all_of(name, name + length, is_printable);
}

}  // namespace bpfsim
