// Models: kernel/bpf/btf.c (Linux 6.18): the parsed types and the questions that others ask of them
//
// BtfTypes holds the type records and strings of one BTF blob, without any machine around it, so that the
// loader, the tools and the simulated kernel share it. Two ways in: btf_parse() (btf_check.h) is the kernel's
// checker with its errnos and log; BtfTypes::parse() checks only what keeps reading safe, as libbpf does
// before it sends a blob to the kernel. Departs from the kernel: no base BTF (split BTF of modules) yet.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "uapi/btf.h"
#include "uapi/result.h"

namespace bpfsim {

const char* btf_kind_str(uint32_t kind);  // "FUNC_PROTO"; "UNKNOWN" for a number without a kind

// Bytes that follow the record of this type, or -1 for a kind that does not exist.
int64_t btf_trail_size(const btf_type& t);

class BtfTypes {
 public:
  static constexpr uint32_t max_resolve_depth = 32;

  // Structure only: header, section bounds, records inside the section. Type ids and names may still point
  // anywhere.
  static Result<BtfTypes> parse(std::span<const uint8_t> bytes);

  uint32_t nr_types() const { return uint32_t(starts_.size()); }  // void counts, as in the kernel
  bool empty() const { return starts_.size() <= 1; }

  const btf_type* type_by_id(uint32_t id) const;                      // nullptr beyond the last; id 0 is void
  const char* name_by_offset(uint32_t offset) const;                  // nullptr beyond the strings
  const char* name_of(const btf_type& t) const;                       // "" where the offset is wrong
  uint32_t find_by_name(std::string_view name, uint32_t kind) const;  // 0 if there is none

  const btf_type* skip_modifiers(uint32_t id, uint32_t* resolved_id = nullptr) const;  // typedef, const, ...
  // Size in bytes behind typedefs, qualifiers and arrays; -1 for what has none, overflows or never ends.
  int64_t size_of(uint32_t id) const;

  // A C-like text for people: "struct flow", "__u32[4]", "const char *".
  std::string describe(uint32_t id) const;

  // Patching, for the loader (libbpf completes DATASECs before it loads them).
  btf_type* mutable_type(uint32_t id);
  std::vector<uint8_t> bytes() const;  // header + types + strings, ready for BTF_LOAD

 private:
  friend class BtfChecker;
  std::vector<uint32_t> words_;   // the type section, aligned and padded to whole words
  uint32_t type_len_ = 0;         // its true length in bytes
  std::vector<uint32_t> starts_;  // type id -> index into words_; [0] is void and unused
  std::string strings_;
};

bool btf_type_is_void(const btf_type& t);
bool btf_type_is_modifier(const btf_type& t);  // typedef, volatile, const, restrict, type_tag
bool btf_type_is_struct(const btf_type& t);    // struct or union
bool btf_type_has_size(const btf_type& t);     // its record holds a size, where others name a type

}  // namespace bpfsim
