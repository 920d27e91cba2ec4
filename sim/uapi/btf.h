// Models: include/uapi/linux/btf.h (Linux 6.18)
//
// The bytes of BTF: a header, then type records of twelve bytes each followed by what their kind needs
// (members, enumerators, parameters...), then the strings. Every field is 32 bits wide, little endian here as
// on every host that we build for.
#pragma once

#include <cstdint>
#include <span>

namespace bpfsim {

constexpr uint16_t BTF_MAGIC = 0xeb9f;
constexpr uint8_t BTF_VERSION = 1;
constexpr uint32_t BTF_MAX_TYPE = 0x000fffff;
constexpr uint32_t BTF_MAX_NAME_OFFSET = 0x00ffffff;
constexpr uint32_t BTF_MAX_SIZE =
    16 * 1024 * 1024;  // the kernel's own limit of a BTF_LOAD, not part of the format
constexpr uint32_t BTF_INFO_MASK = 0x9f00ffff;  // kind_flag, kind, vlen: the bits of info that have a meaning

struct btf_header {
  uint16_t magic;
  uint8_t version;
  uint8_t flags;
  uint32_t hdr_len;
  uint32_t type_off;  // both offsets count from the end of the header
  uint32_t type_len;
  uint32_t str_off;
  uint32_t str_len;
};
static_assert(sizeof(btf_header) == 24);

// BTF_KIND(enumerator, number, name in the log)
#define BTF_KINDS(BTF_KIND)              \
  BTF_KIND(UNKN, 0, "UNKNOWN")           \
  BTF_KIND(INT, 1, "INT")                \
  BTF_KIND(PTR, 2, "PTR")                \
  BTF_KIND(ARRAY, 3, "ARRAY")            \
  BTF_KIND(STRUCT, 4, "STRUCT")          \
  BTF_KIND(UNION, 5, "UNION")            \
  BTF_KIND(ENUM, 6, "ENUM")              \
  BTF_KIND(FWD, 7, "FWD")                \
  BTF_KIND(TYPEDEF, 8, "TYPEDEF")        \
  BTF_KIND(VOLATILE, 9, "VOLATILE")      \
  BTF_KIND(CONST, 10, "CONST")           \
  BTF_KIND(RESTRICT, 11, "RESTRICT")     \
  BTF_KIND(FUNC, 12, "FUNC")             \
  BTF_KIND(FUNC_PROTO, 13, "FUNC_PROTO") \
  BTF_KIND(VAR, 14, "VAR")               \
  BTF_KIND(DATASEC, 15, "DATASEC")       \
  BTF_KIND(FLOAT, 16, "FLOAT")           \
  BTF_KIND(DECL_TAG, 17, "DECL_TAG")     \
  BTF_KIND(TYPE_TAG, 18, "TYPE_TAG")     \
  BTF_KIND(ENUM64, 19, "ENUM64")

enum : uint32_t {
#define BTF_KIND(name, number, text) BTF_KIND_##name = number,
  BTF_KINDS(BTF_KIND)
#undef BTF_KIND
      BTF_KIND_MAX = BTF_KIND_ENUM64,
};

enum : uint8_t { BTF_INT_SIGNED = 1 << 0, BTF_INT_CHAR = 1 << 1, BTF_INT_BOOL = 1 << 2 };
enum : uint32_t { BTF_FUNC_STATIC = 0, BTF_FUNC_GLOBAL = 1, BTF_FUNC_EXTERN = 2 };
enum : uint32_t { BTF_VAR_STATIC = 0, BTF_VAR_GLOBAL_ALLOCATED = 1, BTF_VAR_GLOBAL_EXTERN = 2 };

struct btf_type {
  uint32_t name_off;
  uint32_t info;  // bits 0-15 vlen, 24-28 kind, 31 kind_flag
  union {
    uint32_t size;  // of INT, ENUM, ENUM64, STRUCT, UNION, DATASEC, FLOAT
    uint32_t type;  // of what PTR, TYPEDEF, CONST, VAR, FUNC, ... refer to
  };
};
struct btf_array {
  uint32_t type, index_type, nelems;
};
struct btf_member {
  uint32_t name_off, type, offset;  // offset in bits; with kind_flag, bits 24-31 are the bitfield's size
};
struct btf_enum {
  uint32_t name_off;
  int32_t val;
};
struct btf_enum64 {
  uint32_t name_off, val_lo32, val_hi32;
};
struct btf_param {
  uint32_t name_off, type;
};
struct btf_var {
  uint32_t linkage;
};
struct btf_var_secinfo {
  uint32_t type, offset, size;
};
struct btf_decl_tag {
  int32_t component_idx;
};

constexpr uint32_t btf_kind(const btf_type& t) { return (t.info >> 24) & 0x1f; }
constexpr uint32_t btf_vlen(const btf_type& t) { return t.info & 0xffff; }
constexpr bool btf_kflag(const btf_type& t) { return t.info >> 31; }
constexpr uint32_t btf_info_enc(uint32_t kind, bool kflag, uint32_t vlen) {
  return (uint32_t(kflag) << 31) | (kind << 24) | (vlen & 0xffff);
}

// What follows the record, by kind. The caller knows the kind and that the bytes are there.
template <class T>
std::span<const T> btf_trail(const btf_type& t) {
  return {reinterpret_cast<const T*>(&t + 1), btf_vlen(t)};
}
inline std::span<const btf_member> btf_members(const btf_type& t) { return btf_trail<btf_member>(t); }
inline std::span<const btf_param> btf_params(const btf_type& t) { return btf_trail<btf_param>(t); }
inline std::span<const btf_enum> btf_enums(const btf_type& t) { return btf_trail<btf_enum>(t); }
inline std::span<const btf_enum64> btf_enum64s(const btf_type& t) { return btf_trail<btf_enum64>(t); }
inline std::span<const btf_var_secinfo> btf_var_secinfos(const btf_type& t) {
  return btf_trail<btf_var_secinfo>(t);
}
inline const btf_array& btf_array_of(const btf_type& t) {
  return *reinterpret_cast<const btf_array*>(&t + 1);
}
inline uint32_t btf_int_data(const btf_type& t) { return *reinterpret_cast<const uint32_t*>(&t + 1); }
inline uint32_t btf_var_linkage(const btf_type& t) { return *reinterpret_cast<const uint32_t*>(&t + 1); }
inline int32_t btf_component_idx(const btf_type& t) { return *reinterpret_cast<const int32_t*>(&t + 1); }

constexpr uint32_t btf_int_encoding(uint32_t int_data) { return (int_data >> 24) & 0x0f; }
constexpr uint32_t btf_int_offset(uint32_t int_data) { return (int_data >> 16) & 0xff; }
constexpr uint32_t btf_int_bits(uint32_t int_data) { return int_data & 0xff; }

constexpr uint32_t btf_member_bit_offset(const btf_type& owner, const btf_member& m) {
  return btf_kflag(owner) ? m.offset & 0xffffff : m.offset;
}
constexpr uint32_t btf_member_bitfield_size(const btf_type& owner, const btf_member& m) {
  return btf_kflag(owner) ? m.offset >> 24 : 0;
}
constexpr uint64_t btf_enum64_value(const btf_enum64& e) { return uint64_t(e.val_hi32) << 32 | e.val_lo32; }

}  // namespace bpfsim
