// Models: kernel/bpf/btf.c (the show functions of each kind) (Linux 6.18)
//
// See btf_show.h. One walk down the type, with a place in the value; a place is a byte and, for what is
// smaller than its type, a bit.
#include "btf/btf_show.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

namespace bpfsim {

namespace {

template <class... Args>
std::string printed(const char* format, Args... args) {
  char text[64];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

class Shower {
 public:
  Shower(const BtfTypes& types, std::span<const uint8_t> value,
         const std::function<uint32_t(uint64_t)>& hashed)
      : types_(types), value_(value), hashed_(hashed) {}

  void show(uint32_t id, size_t at, uint32_t bit = 0) {
    const btf_type& t = *types_.skip_modifiers(id);
    switch (btf_kind(t)) {
      case BTF_KIND_INT: return integer(t, at, bit);
      case BTF_KIND_PTR: return pointer(read<uint64_t>(at));
      case BTF_KIND_ARRAY: return array(id, btf_array_of(t), at);
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION: return members(id, t, at);
      case BTF_KIND_ENUM: return enumerator(t, read<int32_t>(at));
      case BTF_KIND_ENUM64: return enumerator64(t, read<uint64_t>(at));
      case BTF_KIND_VAR: return show(t.type, at);
      case BTF_KIND_DATASEC: return section(t, at);
      default: text += printed("<unsupported kind:%u>", btf_kind(t));
    }
  }
  std::string text;

 private:
  template <class T>
  T read(size_t at) const {
    T found{};
    if (at < value_.size()) std::memcpy(&found, &value_[at], std::min(sizeof found, value_.size() - at));
    return found;
  }
  void leaf(const std::string& words) { text += words + (depth_ ? "," : ""); }

  // The sign before the parts of a type with parts.
  const char* opening(uint32_t id) const {
    bool in_array = false;
    for (uint32_t steps = 0; steps < BtfTypes::max_resolve_depth; ++steps) {
      const btf_type& t = *types_.skip_modifiers(id);
      switch (btf_kind(t)) {
        case BTF_KIND_PTR: return "";
        case BTF_KIND_ARRAY: in_array = true, id = btf_array_of(t).type; continue;
        case BTF_KIND_STRUCT:
        case BTF_KIND_UNION: return in_array ? "[" : "{";
        default: return in_array ? "[" : "";
      }
    }
    return "";
  }
  void open(uint32_t id) {
    if (!is_element_) text += opening(id);
    ++depth_;
  }
  void close(const char* sign) {
    --depth_;
    leaf(sign);
  }

  void bits(size_t at, uint32_t bit, uint32_t size) {
    uint64_t words[2] = {};
    for (uint32_t i = 0; i < std::min(size, 128u); ++i) {
      const uint32_t from = bit + i;
      words[i / 64] |= uint64_t(read<uint8_t>(at + from / 8) >> from % 8 & 1) << i % 64;
    }
    leaf(words[1] ? printed("0x%" PRIx64 "%016" PRIx64, words[1], words[0])
                  : printed("0x%" PRIx64, words[0]));
  }
  void integer(const btf_type& t, size_t at, uint32_t bit) {
    const uint32_t data = btf_int_data(t), size = btf_int_bits(data);
    const bool is_signed = btf_int_encoding(data) & BTF_INT_SIGNED;
    if (bit || btf_int_offset(data)) return bits(at, bit + btf_int_offset(data), size);
    switch (size) {
      case 64:
        return leaf(is_signed ? printed("%" PRId64, read<int64_t>(at))
                              : printed("%" PRIu64, read<uint64_t>(at)));
      case 32: return leaf(is_signed ? printed("%d", read<int32_t>(at)) : printed("%u", read<uint32_t>(at)));
      case 16: return leaf(is_signed ? printed("%d", read<int16_t>(at)) : printed("%u", read<uint16_t>(at)));
      case 8: return byte(read<uint8_t>(at), is_signed);
      default: return bits(at, 0, size);
    }
  }
  void byte(uint8_t value, bool is_signed) {
    if (in_letters_ && value == 0) terminated_ = true;
    if (terminated_) return;
    const bool is_letter = in_letters_ && value >= 0x20 && value < 0x7f;
    leaf(is_letter ? printed("'%c'", value) : printed("%d", is_signed ? int8_t(value) : int(value)));
  }
  void pointer(uint64_t value) { leaf(printed("0x%016" PRIx64, value ? uint64_t(hashed_(value)) : 0)); }
  void enumerator(const btf_type& t, int32_t value) {
    for (const btf_enum& e : btf_enums(t))
      if (e.val == value) return leaf(types_.name_by_offset(e.name_off));
    leaf(btf_kflag(t) ? printed("%d", value) : printed("%u", uint32_t(value)));
  }
  void enumerator64(const btf_type& t, uint64_t value) {
    for (const btf_enum64& e : btf_enum64s(t))
      if ((uint64_t(e.val_hi32) << 32 | e.val_lo32) == value) return leaf(types_.name_by_offset(e.name_off));
    leaf(btf_kflag(t) ? printed("%" PRId64, int64_t(value)) : printed("%" PRIu64, value));
  }

  void members(uint32_t id, const btf_type& t, size_t at) {
    open(id);
    for (const btf_member& member : btf_members(t)) {
      const uint32_t offset = btf_member_bit_offset(t, member);
      if (uint32_t size = btf_member_bitfield_size(t, member))
        bits(at, offset, size);
      else
        show(member.type, at + offset / 8, offset % 8);
    }
    close("}");
  }
  void array(uint32_t id, const btf_array& array, size_t at) {
    const btf_type& element = *types_.skip_modifiers(array.type);
    const size_t step = btf_type_has_size(element) ? element.size : 0;
    in_letters_ = btf_kind(element) == BTF_KIND_INT && step == 1;
    terminated_ = false;
    open(id);
    for (uint32_t i = 0; i < array.nelems && !terminated_; ++i) {
      is_element_ = true;
      show(array.type, at + i * step);
      is_element_ = false;
    }
    in_letters_ = terminated_ = false;
    close("]");
  }
  void section(const btf_type& t, size_t at) {
    text += std::string("section (\"") + types_.name_of(t) + "\") = {";
    const char* between = "";
    for (const btf_var_secinfo& var : btf_var_secinfos(t)) {
      text += between;
      show(var.type, at + var.offset);
      between = ",";
    }
  }

  const BtfTypes& types_;
  std::span<const uint8_t> value_;
  const std::function<uint32_t(uint64_t)>& hashed_;
  int depth_ = 0;
  bool is_element_ = false;                       // of an array: opens without a sign
  bool in_letters_ = false, terminated_ = false;  // an array of bytes, and its 0 has been seen
};

}  // namespace

std::string btf_type_seq_show(const BtfTypes& types, uint32_t type_id, std::span<const uint8_t> value,
                              const std::function<uint32_t(uint64_t)>& hashed) {
  Shower shower(types, value, hashed);
  shower.show(type_id, 0);
  return shower.text;
}

}  // namespace bpfsim
