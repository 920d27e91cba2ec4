// Models: include/linux/filter.h (bpf_ctx_narrow_access_ok, bpf_ctx_wide_access_ok) (Linux 6.18)
//
// How wide an access to a context may be; see ctx_fields.h.
#include "hook/ctx_fields.h"

namespace bpfsim {

// How the field may be accessed on this version.
static CtxAccess access_of(const CtxField& field, bpf_access_type type, Version version) {
  const CtxAccess now = type == BPF_READ ? field.read : field.write;
  if (now == CtxAccess::No || !field.wider || has(*field.wider, version)) return now;
  return now == CtxAccess::Wide && type == BPF_READ ? CtxAccess::Narrow : CtxAccess::Word;
}

static bool width_allowed(const CtxField& field, const CtxTouch& touch, Version version,
                          InsnAccessAux& info) {
  const int size = touch.size;
  auto part_of = [&](int field_size) {
    info.ctx_field_size = field_size;
    return size <= field_size;
  };
  switch (access_of(field, touch.type, version)) {
    case CtxAccess::No: return false;
    case CtxAccess::Word: return size == 4;
    case CtxAccess::Dword: return size == 8;
    case CtxAccess::Narrow: return part_of(4);
    case CtxAccess::HalfOrWord: return size >= 2 && part_of(4);
    case CtxAccess::NarrowHalf: return part_of(2);
    case CtxAccess::WordOrHalf: return part_of(size == 4 ? 4 : 2);
    case CtxAccess::Wide:
      if (size == 8) return touch.off + size <= field.end;
      return touch.type == BPF_READ ? part_of(4) : size == 4;
  }
  return false;
}

bool ctx_access_allowed(std::span<const CtxField> fields, size_t context_size, CtxTouch touch,
                        const Prog& prog, InsnAccessAux& info) {
  if (touch.off < 0 || size_t(touch.off + touch.size) > context_size || touch.off % touch.size) return false;
  for (const CtxField& field : fields) {
    if (touch.off < field.from || touch.off >= field.end) continue;
    const uint64_t here = touch.type == BPF_READ ? field.read_at : field.write_at;
    if (!(here >> prog.expected_attach_type & 1)) return false;
    if (field.reg_type && info.is_ldsx) return false;
    if (field.reg_type && touch.type == BPF_READ) info.reg_type = field.reg_type;
    return width_allowed(field, touch, prog.machine.version, info);
  }
  return false;
}

}  // namespace bpfsim
