// Models: bpf_object__sanitize_btf() of tools/lib/bpf/libbpf.c (libbpf 1.4, of Linux 6.12): user space
//
// A kernel refuses all types of an object for one that it does not know. So each such type becomes an older
// one that has as many bytes, and every type keeps its id: a variable or a tag a byte, a section a struct of
// its variables, a function a typedef of its prototype, which becomes an enum. Types that maps are described
// by stay as they are. The object's own copy is not touched. Departs from libbpf: the kernel's version tells
// what it knows, no probe does.
#include <cstring>
#include <utility>

#include "loader/open_parts.h"

namespace bpfsim::loader {

namespace {

template <class T>
T* trail_of(btf_type& t) {
  return reinterpret_cast<T*>(&t + 1);
}

// What follows a VAR or DECL_TAG is four bytes, as what follows an INT. No greater size: the kernel checks
// that a struct's members, which some of these become, fit.
void make_byte(btf_type& t) {
  t.info = btf_info_enc(BTF_KIND_INT, false, 0);
  t.size = 1;
  *trail_of<uint32_t>(t) = 8;  // bits
}

// A place of a section has twelve bytes, as a member of a struct; its type tells the member's name.
void make_struct(const BtfTypes& types, btf_type& section) {
  const uint32_t vlen = btf_vlen(section);
  section.info = btf_info_enc(BTF_KIND_STRUCT, false, vlen);
  for (uint32_t i = 0; i < vlen; ++i) {
    const btf_var_secinfo place = trail_of<btf_var_secinfo>(section)[i];
    const btf_type* var = types.type_by_id(place.type);
    trail_of<btf_member>(section)[i] = {var ? var->name_off : 0, place.type, place.offset * 8};
  }
}

// An enumerator of 64 bits has twelve bytes, as a member of a union.
void make_union(btf_type& enum64, uint32_t member_type) {
  const uint32_t vlen = btf_vlen(enum64);
  enum64.info = btf_info_enc(BTF_KIND_UNION, false, vlen);
  for (uint32_t i = 0; i < vlen; ++i)
    trail_of<btf_member>(enum64)[i] = {trail_of<btf_enum64>(enum64)[i].name_off, member_type, 0};
}

struct Sanitizer {
  BtfTypes types;
  const Version kernel;
  const uint32_t filler = types.nr_types();  // the id of one more type, if there is an ENUM64
  bool needs_filler = false;
  std::vector<std::pair<uint32_t, bool>> renamed = {};  // names of sections; whether from end to end

  bool has(Version since) const { return kernel >= since; }

  void sanitize(btf_type& t) {
    const uint32_t kind = btf_kind(t), vlen = btf_vlen(t);
    const bool datasec = has("5.2"_v), func = has("5.0"_v), enum64 = has("6.0"_v);
    if ((kind == BTF_KIND_VAR && !datasec) || (kind == BTF_KIND_DECL_TAG && !has("5.16"_v))) {
      make_byte(t);
    } else if (kind == BTF_KIND_DATASEC && !datasec) {
      renamed.emplace_back(t.name_off, true);
      make_struct(types, t);
    } else if (kind == BTF_KIND_DATASEC && !has("6.9"_v)) {
      renamed.emplace_back(t.name_off, false);
    } else if (kind == BTF_KIND_FUNC_PROTO && !func) {
      t.info = btf_info_enc(BTF_KIND_ENUM, false, vlen);
      t.size = 4;
    } else if (kind == BTF_KIND_FUNC && !func) {
      t.info = btf_info_enc(BTF_KIND_TYPEDEF, false, 0);
    } else if (kind == BTF_KIND_FUNC && !has("5.6"_v)) {
      t.info = btf_info_enc(BTF_KIND_FUNC, false, 0);
    } else if (kind == BTF_KIND_FLOAT && !has("5.13"_v)) {
      t.name_off = 0;
      t.info = btf_info_enc(BTF_KIND_STRUCT, false, 0);
    } else if (kind == BTF_KIND_TYPE_TAG && !has("5.17"_v)) {
      t.name_off = 0;
      t.info = btf_info_enc(BTF_KIND_CONST, false, 0);
    } else if (kind == BTF_KIND_ENUM && !enum64) {
      t.info = btf_info_enc(BTF_KIND_ENUM, false, vlen);
    } else if (kind == BTF_KIND_ENUM64 && !enum64) {
      needs_filler = true;
      make_union(t, filler);
    }
  }

  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> raw = types.bytes();
    btf_header header;
    std::memcpy(&header, raw.data(), sizeof header);
    const size_t strings = header.hdr_len + header.str_off;
    for (const auto& [name_off, all] : renamed)
      for (size_t at = strings + name_off; at < raw.size() && raw[at]; ++at)
        if (raw[at] == '?' ? all || at == strings + name_off : all && raw[at] == '.') raw[at] = '_';
    if (needs_filler) add_filler(raw, header);
    return raw;
  }

  // An INT of one byte behind the last type, and its name behind the last string.
  static void add_filler(std::vector<uint8_t>& raw, btf_header header) {
    constexpr char kName[] = "enum64_value";
    const uint32_t type[] = {header.str_len, btf_info_enc(BTF_KIND_INT, false, 0), 1, 8};
    const auto* bytes = reinterpret_cast<const uint8_t*>(type);
    const size_t end = header.hdr_len + header.type_off + header.type_len;
    raw.insert(raw.begin() + ptrdiff_t(end), bytes, bytes + sizeof type);
    raw.insert(raw.end(), std::begin(kName), std::end(kName));
    header.type_len += uint32_t(sizeof type);
    header.str_off += uint32_t(sizeof type);
    header.str_len += uint32_t(sizeof kName);
    std::memcpy(raw.data(), &header, sizeof header);
  }
};

}  // namespace

std::vector<uint8_t> bpf_object_sanitize_btf(const BtfTypes& btf, Version kernel) {
  Sanitizer with{btf, kernel};
  for (uint32_t id = 1; id < btf.nr_types(); ++id) with.sanitize(*with.types.mutable_type(id));
  return with.bytes();
}

}  // namespace bpfsim::loader
