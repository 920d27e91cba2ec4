// Models: kernel/bpf/btf.c (Linux 6.18): the parsed types and the questions that others ask of them
//
// Reading only: no check of the kernel stands here, they are in btf_check_meta.cpp and btf_resolve.cpp.
#include "btf/btf_types.h"

#include <cstring>

namespace bpfsim {

static constexpr btf_type btf_void{};

const char* btf_kind_str(uint32_t kind) {
  switch (kind) {
#define BTF_KIND(name, number, text) \
  case number: return text;
    BTF_KINDS(BTF_KIND)
#undef BTF_KIND
  }
  return "UNKNOWN";
}

int64_t btf_trail_size(const btf_type& t) {
  switch (btf_kind(t)) {
    case BTF_KIND_INT: return sizeof(uint32_t);
    case BTF_KIND_ARRAY: return sizeof(btf_array);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION: return btf_vlen(t) * int64_t(sizeof(btf_member));
    case BTF_KIND_ENUM: return btf_vlen(t) * int64_t(sizeof(btf_enum));
    case BTF_KIND_ENUM64: return btf_vlen(t) * int64_t(sizeof(btf_enum64));
    case BTF_KIND_FUNC_PROTO: return btf_vlen(t) * int64_t(sizeof(btf_param));
    case BTF_KIND_VAR: return sizeof(btf_var);
    case BTF_KIND_DATASEC: return btf_vlen(t) * int64_t(sizeof(btf_var_secinfo));
    case BTF_KIND_DECL_TAG: return sizeof(btf_decl_tag);
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_FLOAT:
    case BTF_KIND_TYPE_TAG: return 0;
  }
  return -1;
}

bool btf_type_is_void(const btf_type& t) { return btf_kind(t) == BTF_KIND_UNKN; }

bool btf_type_is_modifier(const btf_type& t) {
  switch (btf_kind(t)) {
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_TYPE_TAG: return true;
  }
  return false;
}

bool btf_type_has_size(const btf_type& t) {
  switch (btf_kind(t)) {
    case BTF_KIND_INT:
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_ENUM:
    case BTF_KIND_DATASEC:
    case BTF_KIND_FLOAT:
    case BTF_KIND_ENUM64: return true;
  }
  return false;
}

bool btf_type_is_struct(const btf_type& t) {
  return btf_kind(t) == BTF_KIND_STRUCT || btf_kind(t) == BTF_KIND_UNION;
}

Result<BtfTypes> BtfTypes::parse(std::span<const uint8_t> bytes) {
  btf_header hdr{};
  if (bytes.size() < sizeof hdr)
    return refuse(Errno::Inval, "BTF of {} bytes has no room for its header", bytes.size());
  std::memcpy(&hdr, bytes.data(), sizeof hdr);
  if (hdr.magic != BTF_MAGIC) return refuse(Errno::Inval, "BTF magic must be 0xeb9f, is {}", hdr.magic);
  if (hdr.hdr_len < sizeof hdr || hdr.hdr_len > bytes.size())
    return refuse(Errno::Inval, "BTF header length {} does not fit {} bytes", hdr.hdr_len, bytes.size());
  const uint64_t room = bytes.size() - hdr.hdr_len;
  if (uint64_t(hdr.type_off) + hdr.type_len > room || uint64_t(hdr.str_off) + hdr.str_len > room)
    return refuse(Errno::Inval, "a BTF section ends beyond the {} bytes after the header", room);
  const uint8_t* body = bytes.data() + hdr.hdr_len;
  if (hdr.str_len == 0 || body[hdr.str_off] != 0 || body[hdr.str_off + hdr.str_len - 1] != 0)
    return refuse(Errno::Inval, "the BTF strings must begin and end with a zero byte");

  BtfTypes btf;
  btf.strings_.assign(reinterpret_cast<const char*>(body + hdr.str_off), hdr.str_len);
  btf.type_len_ = hdr.type_len;
  btf.words_.assign((hdr.type_len + 3) / 4, 0);
  if (hdr.type_len) std::memcpy(btf.words_.data(), body + hdr.type_off, hdr.type_len);
  btf.starts_.push_back(0);
  for (uint64_t at = 0; at < hdr.type_len;) {
    if (hdr.type_len - at < sizeof(btf_type))
      return refuse(Errno::Inval, "BTF type [{}] is cut off", btf.starts_.size());
    const auto& t = *reinterpret_cast<const btf_type*>(&btf.words_[at / 4]);
    const int64_t trail = btf_trail_size(t);
    if (trail < 0)
      return refuse(Errno::Inval, "BTF type [{}] has unknown kind {}", btf.starts_.size(), btf_kind(t));
    if (hdr.type_len - at - sizeof t < uint64_t(trail))
      return refuse(Errno::Inval, "BTF type [{}] is cut off", btf.starts_.size());
    btf.starts_.push_back(uint32_t(at / 4));
    at += sizeof t + uint64_t(trail);
  }
  return btf;
}

const btf_type* BtfTypes::type_by_id(uint32_t id) const {
  if (id == 0) return &btf_void;
  return id < starts_.size() ? reinterpret_cast<const btf_type*>(&words_[starts_[id]]) : nullptr;
}

btf_type* BtfTypes::mutable_type(uint32_t id) {
  return id && id < starts_.size() ? reinterpret_cast<btf_type*>(&words_[starts_[id]]) : nullptr;
}

const char* BtfTypes::name_by_offset(uint32_t offset) const {
  return offset < strings_.size() ? strings_.data() + offset : nullptr;
}

const char* BtfTypes::name_of(const btf_type& t) const {
  const char* name = name_by_offset(t.name_off);
  return name ? name : "";
}

uint32_t BtfTypes::find_by_name(std::string_view name, uint32_t kind) const {
  for (uint32_t id = 1; id < nr_types(); ++id) {
    const btf_type& t = *type_by_id(id);
    if (btf_kind(t) == kind && name == name_of(t)) return id;
  }
  return 0;
}

const btf_type* BtfTypes::skip_modifiers(uint32_t id, uint32_t* resolved_id) const {
  for (uint32_t depth = 0; depth < max_resolve_depth; ++depth) {
    const btf_type* t = type_by_id(id);
    if (!t) return nullptr;
    if (!btf_type_is_modifier(*t)) {
      if (resolved_id) *resolved_id = id;
      return t;
    }
    id = t->type;
  }
  return nullptr;
}

int64_t BtfTypes::size_of(uint32_t id) const {
  uint64_t nelems = 1, size = 0;
  for (uint32_t depth = 0; depth < max_resolve_depth; ++depth) {
    const btf_type* t = type_by_id(id);
    if (!t) return -1;
    switch (btf_kind(*t)) {
      case BTF_KIND_INT:
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION:
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64:
      case BTF_KIND_DATASEC:
      case BTF_KIND_FLOAT:
      case BTF_KIND_PTR:
        size = nelems * (btf_kind(*t) == BTF_KIND_PTR ? 8 : t->size);
        return size > UINT32_MAX ? -1 : int64_t(size);
      case BTF_KIND_ARRAY:
        nelems *= btf_array_of(*t).nelems;
        if (nelems > UINT32_MAX) return -1;
        id = btf_array_of(*t).type;
        break;
      default:
        if (!btf_type_is_modifier(*t) && btf_kind(*t) != BTF_KIND_VAR) return -1;
        id = t->type;
    }
  }
  return -1;
}

std::string BtfTypes::describe(uint32_t id) const {
  std::string suffix;
  for (uint32_t depth = 0; depth < max_resolve_depth; ++depth) {
    const btf_type* t = type_by_id(id);
    if (!t) return "?" + suffix;
    const std::string name = *name_of(*t) ? name_of(*t) : "(anon)";
    switch (btf_kind(*t)) {
      case BTF_KIND_UNKN: return "void" + suffix;
      case BTF_KIND_STRUCT: return "struct " + name + suffix;
      case BTF_KIND_UNION: return "union " + name + suffix;
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64: return "enum " + name + suffix;
      case BTF_KIND_FWD: return (btf_kflag(*t) ? "union " : "struct ") + name + suffix;
      case BTF_KIND_PTR: suffix = " *" + suffix; break;
      case BTF_KIND_ARRAY: suffix += "[" + std::to_string(btf_array_of(*t).nelems) + "]"; break;
      case BTF_KIND_CONST: suffix = " const" + suffix; break;
      case BTF_KIND_VOLATILE: suffix = " volatile" + suffix; break;
      case BTF_KIND_RESTRICT: suffix = " restrict" + suffix; break;
      case BTF_KIND_TYPE_TAG: suffix = " __" + name + suffix; break;
      case BTF_KIND_FUNC_PROTO: return "function" + suffix;
      default: return name + suffix;  // INT, TYPEDEF, FLOAT, FUNC, VAR, DATASEC, DECL_TAG
    }
    id = btf_kind(*t) == BTF_KIND_ARRAY ? btf_array_of(*t).type : t->type;
  }
  return "..." + suffix;
}

std::vector<uint8_t> BtfTypes::bytes() const {
  const btf_header hdr{.magic = BTF_MAGIC,
                       .version = BTF_VERSION,
                       .flags = 0,
                       .hdr_len = sizeof(btf_header),
                       .type_off = 0,
                       .type_len = type_len_,
                       .str_off = type_len_,
                       .str_len = uint32_t(strings_.size())};
  std::vector<uint8_t> out(sizeof hdr + type_len_ + strings_.size());
  std::memcpy(out.data(), &hdr, sizeof hdr);
  if (type_len_) std::memcpy(out.data() + sizeof hdr, words_.data(), type_len_);
  std::memcpy(out.data() + sizeof hdr + type_len_, strings_.data(), strings_.size());
  return out;
}

}  // namespace bpfsim
