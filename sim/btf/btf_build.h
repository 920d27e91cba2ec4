// No kernel counterpart: BTF that the kernel meets comes from a compiler; tests and the machine's own vmlinux
// BTF need it made from C++.
//
// BtfBuilder appends types and gives their ids, each name is stored once, bytes() is what BTF_LOAD takes.
// Nothing is checked: a test may well want bytes that the kernel refuses.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "uapi/btf.h"

namespace bpfsim {

class BtfBuilder {
 public:
  struct Member {
    std::string_view name;
    uint32_t type = 0, bit_offset = 0, bitfield_size = 0;
  };
  struct Param {
    std::string_view name;
    uint32_t type = 0;
  };
  struct Enumerator {
    std::string_view name;
    int64_t value = 0;
  };

  uint32_t add_int(std::string_view name, uint32_t size, uint32_t encoding = 0, uint32_t bits = 0);
  uint32_t add_ptr(uint32_t to) { return add_ref(BTF_KIND_PTR, "", to); }
  uint32_t add_array(uint32_t elem, uint32_t index, uint32_t nelems);
  uint32_t add_struct(std::string_view name, uint32_t size, const std::vector<Member>& members,
                      bool is_union = false);
  uint32_t add_enum(std::string_view name, uint32_t size, const std::vector<Enumerator>& values,
                    bool is_signed = false);
  uint32_t add_enum64(std::string_view name, uint32_t size, const std::vector<Enumerator>& values,
                      bool is_signed = false);
  uint32_t add_fwd(std::string_view name, bool is_union = false);
  uint32_t add_ref(uint32_t kind, std::string_view name, uint32_t to);  // PTR, TYPEDEF, CONST, TYPE_TAG, ...
  uint32_t add_func(std::string_view name, uint32_t proto, uint32_t linkage = BTF_FUNC_GLOBAL);
  uint32_t add_func_proto(uint32_t ret, const std::vector<Param>& params);
  uint32_t add_var(std::string_view name, uint32_t type, uint32_t linkage = BTF_VAR_GLOBAL_ALLOCATED);
  uint32_t add_datasec(std::string_view name, uint32_t size, const std::vector<btf_var_secinfo>& vars);
  uint32_t add_float(std::string_view name, uint32_t size);
  uint32_t add_decl_tag(std::string_view value, uint32_t target, int32_t component = -1);

  // Any record: name, info, size or type, and the words that follow it.
  uint32_t add_raw(std::string_view name, uint32_t info, uint32_t size_or_type,
                   std::initializer_list<uint32_t> trail = {});
  uint32_t add_string(std::string_view text);

  std::vector<uint8_t> bytes() const;

 private:
  uint32_t begin(std::string_view name, uint32_t info, uint32_t size_or_type);

  std::vector<uint32_t> words_;
  std::string strings_ = std::string(1, '\0');
  std::unordered_map<std::string, uint32_t> string_offsets_;
  uint32_t next_id_ = 1;
};

}  // namespace bpfsim
