// No kernel counterpart: BTF that the kernel meets comes from a compiler; tests and the machine's own vmlinux
// BTF need it made from C++.
#include "btf/btf_build.h"

#include <algorithm>
#include <cstring>

namespace bpfsim {

uint32_t BtfBuilder::add_string(std::string_view text) {
  if (text.empty()) return 0;
  auto [it, is_new] = string_offsets_.try_emplace(std::string(text), uint32_t(strings_.size()));
  if (is_new) strings_.append(text).push_back('\0');
  return it->second;
}

uint32_t BtfBuilder::begin(std::string_view name, uint32_t info, uint32_t size_or_type) {
  const uint32_t name_off = add_string(name);
  words_.insert(words_.end(), {name_off, info, size_or_type});
  return next_id_++;
}

uint32_t BtfBuilder::add_raw(std::string_view name, uint32_t info, uint32_t size_or_type,
                             std::initializer_list<uint32_t> trail) {
  const uint32_t id = begin(name, info, size_or_type);
  words_.insert(words_.end(), trail);
  return id;
}

uint32_t BtfBuilder::add_int(std::string_view name, uint32_t size, uint32_t encoding, uint32_t bits) {
  return add_raw(name, btf_info_enc(BTF_KIND_INT, false, 0), size,
                 {encoding << 24 | (bits ? bits : size * 8)});
}

uint32_t BtfBuilder::add_array(uint32_t elem, uint32_t index, uint32_t nelems) {
  return add_raw("", btf_info_enc(BTF_KIND_ARRAY, false, 0), 0, {elem, index, nelems});
}

uint32_t BtfBuilder::add_struct(std::string_view name, uint32_t size, const std::vector<Member>& members,
                                bool is_union) {
  const bool kflag =
      std::any_of(members.begin(), members.end(), [](const Member& m) { return m.bitfield_size != 0; });
  const uint32_t kind = is_union ? BTF_KIND_UNION : BTF_KIND_STRUCT;
  const uint32_t id = begin(name, btf_info_enc(kind, kflag, uint32_t(members.size())), size);
  for (const Member& m : members)
    words_.insert(words_.end(), {add_string(m.name), m.type, m.bitfield_size << 24 | m.bit_offset});
  return id;
}

uint32_t BtfBuilder::add_enum(std::string_view name, uint32_t size, const std::vector<Enumerator>& values,
                              bool is_signed) {
  const uint32_t id = begin(name, btf_info_enc(BTF_KIND_ENUM, is_signed, uint32_t(values.size())), size);
  for (const Enumerator& e : values) words_.insert(words_.end(), {add_string(e.name), uint32_t(e.value)});
  return id;
}

uint32_t BtfBuilder::add_enum64(std::string_view name, uint32_t size, const std::vector<Enumerator>& values,
                                bool is_signed) {
  const uint32_t id = begin(name, btf_info_enc(BTF_KIND_ENUM64, is_signed, uint32_t(values.size())), size);
  for (const Enumerator& e : values)
    words_.insert(words_.end(), {add_string(e.name), uint32_t(e.value), uint32_t(uint64_t(e.value) >> 32)});
  return id;
}

uint32_t BtfBuilder::add_fwd(std::string_view name, bool is_union) {
  return begin(name, btf_info_enc(BTF_KIND_FWD, is_union, 0), 0);
}

uint32_t BtfBuilder::add_ref(uint32_t kind, std::string_view name, uint32_t to) {
  return begin(name, btf_info_enc(kind, false, 0), to);
}

uint32_t BtfBuilder::add_func(std::string_view name, uint32_t proto, uint32_t linkage) {
  return begin(name, btf_info_enc(BTF_KIND_FUNC, false, linkage), proto);
}

uint32_t BtfBuilder::add_func_proto(uint32_t ret, const std::vector<Param>& params) {
  const uint32_t id = begin("", btf_info_enc(BTF_KIND_FUNC_PROTO, false, uint32_t(params.size())), ret);
  for (const Param& p : params) words_.insert(words_.end(), {add_string(p.name), p.type});
  return id;
}

uint32_t BtfBuilder::add_var(std::string_view name, uint32_t type, uint32_t linkage) {
  return add_raw(name, btf_info_enc(BTF_KIND_VAR, false, 0), type, {linkage});
}

uint32_t BtfBuilder::add_datasec(std::string_view name, uint32_t size,
                                 const std::vector<btf_var_secinfo>& vars) {
  const uint32_t id = begin(name, btf_info_enc(BTF_KIND_DATASEC, false, uint32_t(vars.size())), size);
  for (const btf_var_secinfo& v : vars) words_.insert(words_.end(), {v.type, v.offset, v.size});
  return id;
}

uint32_t BtfBuilder::add_float(std::string_view name, uint32_t size) {
  return begin(name, btf_info_enc(BTF_KIND_FLOAT, false, 0), size);
}

uint32_t BtfBuilder::add_decl_tag(std::string_view value, uint32_t target, int32_t component) {
  return add_raw(value, btf_info_enc(BTF_KIND_DECL_TAG, false, 0), target, {uint32_t(component)});
}

std::vector<uint8_t> BtfBuilder::bytes() const {
  const auto type_len = uint32_t(words_.size() * 4);
  const btf_header hdr{.magic = BTF_MAGIC,
                       .version = BTF_VERSION,
                       .flags = 0,
                       .hdr_len = sizeof(btf_header),
                       .type_off = 0,
                       .type_len = type_len,
                       .str_off = type_len,
                       .str_len = uint32_t(strings_.size())};
  std::vector<uint8_t> out(sizeof hdr + type_len + strings_.size());
  std::memcpy(out.data(), &hdr, sizeof hdr);
  if (type_len) std::memcpy(out.data() + sizeof hdr, words_.data(), type_len);
  std::memcpy(out.data() + sizeof hdr + type_len, strings_.data(), strings_.size());
  return out;
}

}  // namespace bpfsim
