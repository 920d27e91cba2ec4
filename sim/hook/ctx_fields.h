// Models: include/linux/filter.h (bpf_ctx_range, bpf_ctx_narrow_access_ok, bpf_ctx_wide_access_ok)
// (Linux 6.18)
//
// A context as a table: which bytes of it a program may read and write, how wide, and what a register holds
// then. Program types whose is_valid_access is only that are tables (hook/sock_types.cpp). The first row that
// covers the offset decides; what no row covers may not be touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "object/ops.h"
#include "uapi/gates.h"

namespace bpfsim {

enum class CtxAccess : uint8_t {
  No,
  Word,        // 4 bytes
  Dword,       // 8 bytes
  Narrow,      // a field of 4 bytes, or an aligned part of it
  HalfOrWord,  // a field of 4 bytes, or 2 of them
  NarrowHalf,  // a field of 2 bytes, or one of them
  WordOrHalf,  // as NarrowHalf, or 4 bytes at once, as programs of old read it
  Wide,        // as Narrow when read, as Word when written; or two neighbours in 8 bytes
};

// Attach types as a set.
constexpr uint64_t at_types() { return 0; }
template <class... Rest>
constexpr uint64_t at_types(bpf_attach_type first, Rest... rest) {
  return 1ull << first | at_types(rest...);
}
inline constexpr uint64_t kAnyAttachType = ~0ull;

struct CtxField {
  int from, end;  // CTX(bpf_sock, state)
  CtxAccess read;
  CtxAccess write = CtxAccess::No;
  uint32_t reg_type = 0;              // what a load gives, if it is a pointer
  uint64_t read_at = kAnyAttachType;  // only in programs that expect to be attached as one of these
  uint64_t write_at = kAnyAttachType;
  std::optional<Gate> wider{};  // before it, 4 bytes at once; where it brought Wide, a part could be read too
};
constexpr CtxField wider_since(Gate gate, CtxField field) {
  field.wider = gate;
  return field;
}
#define CTX(type, field) int(offsetof(type, field)), int(offsetof(type, field) + sizeof(type::field))
#define CTX_START(type, field) int(offsetof(type, field)), int(offsetof(type, field) + 1)
#define CTX_TILL(type, first, last) int(offsetof(type, first)), int(offsetof(type, last) + sizeof(type::last))

struct CtxTouch {
  int off, size;
  bpf_access_type type;
};

bool ctx_access_allowed(std::span<const CtxField> fields, size_t context_size, CtxTouch touch,
                        const Prog& prog, InsnAccessAux& info);

}  // namespace bpfsim
