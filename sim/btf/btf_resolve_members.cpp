// Models: kernel/bpf/btf.c (Linux 6.18): the kinds' check_member() and check_kflag_member()
//
// May this member stand at this place of its struct? Each kind has its own answer. A struct with kind_flag
// keeps the size of a bitfield in the member's offset: then integers and enums have a second set of rules,
// and the others only demand that no bitfield is meant.
#include <algorithm>

#include "btf/btf_checker.h"

namespace bpfsim {

Result<void> BtfChecker::check_member(Type owner, const btf_member& m, Type member_type) {
  const uint32_t kind = btf_kind(member_type);
  const bool kflag = btf_kflag(owner);
  if (btf_type_is_modifier(member_type)) return btf_modifier_check_member(owner, m);
  if (kind == BTF_KIND_INT)
    return kflag ? btf_int_check_kflag_member(owner, m, member_type)
                 : btf_int_check_member(owner, m, member_type);
  if ((kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64) && kflag)
    return btf_enum_check_kflag_member(owner, m);

  switch (kind) {
    case BTF_KIND_PTR:
    case BTF_KIND_ARRAY:
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_FLOAT:
      if (btf_member_bitfield_size(owner, m)) return refuse_member(owner, m, "Invalid member bitfield_size");
      break;
    case BTF_KIND_ENUM:
    case BTF_KIND_ENUM64: break;
    default:
      if (kflag) return refuse_basic(owner, "Unsupported check_kflag_member");
      return refuse_basic(owner, "Unsupported check_member");
  }
  if (kind == BTF_KIND_FLOAT) return btf_float_check_member(owner, m, member_type);
  uint32_t size = member_type.size;
  if (kind == BTF_KIND_PTR) size = 8;
  if (uint32_t id = m.type; kind == BTF_KIND_ARRAY) btf_type_id_size(id, &size);
  return sized_check_member(owner, m, size);
}

Result<void> BtfChecker::btf_modifier_check_member(Type owner, const btf_member& m) {
  btf_member resolved = m;
  const btf_type* t = btf_type_id_size(resolved.type);
  if (!t) return refuse_member(owner, m, "Invalid member");
  return check_member(owner, resolved, *t);
}

// CHECK_META has seen that the offset is not beyond the struct, so that the subtraction cannot wrap.
Result<void> BtfChecker::sized_check_member(Type owner, const btf_member& m, uint32_t size) {
  if (m.offset % 8) return refuse_member(owner, m, "Member is not byte aligned");
  if (owner.size - m.offset / 8 < size) return refuse_member(owner, m, "Member exceeds struct_size");
  return {};
}

Result<void> BtfChecker::int_fits(Type owner, const btf_member& m, uint32_t bits_off, uint32_t nr_bits) {
  const uint32_t bytes_offset = bits_off / 8, nr_copy_bits = nr_bits + bits_off % 8;
  if (nr_copy_bits > 128) return refuse_member(owner, m, "nr_copy_bits exceeds 128");
  if (owner.size < bytes_offset || owner.size - bytes_offset < (nr_copy_bits + 7) / 8)
    return refuse_member(owner, m, "Member exceeds struct_size");
  return {};
}

Result<void> BtfChecker::btf_int_check_member(Type owner, const btf_member& m, Type member_type) {
  const uint32_t data = btf_int_data(member_type);
  if (UINT32_MAX - m.offset < btf_int_offset(data))
    return refuse_member(owner, m, "bits_offset exceeds U32_MAX");
  return int_fits(owner, m, m.offset + btf_int_offset(data), btf_int_bits(data));
}

Result<void> BtfChecker::btf_int_check_kflag_member(Type owner, const btf_member& m, Type member_type) {
  if (!btf_type_int_is_regular(member_type)) return refuse_member(owner, m, "Invalid member base type");
  uint32_t nr_bits = btf_member_bitfield_size(owner, m);
  const uint32_t bits_off = btf_member_bit_offset(owner, m);
  const uint32_t int_bits = btf_int_bits(btf_int_data(member_type));
  if (!nr_bits) {
    if (bits_off % 8) return refuse_member(owner, m, "Invalid member offset");
    nr_bits = int_bits;
  } else if (nr_bits > int_bits) {
    return refuse_member(owner, m, "Invalid member bitfield_size");
  }
  return int_fits(owner, m, bits_off, nr_bits);
}

Result<void> BtfChecker::btf_enum_check_kflag_member(Type owner, const btf_member& m) {
  constexpr uint32_t int_bits = 32;  // also for ENUM64: the kernel does not tell them apart here
  uint32_t nr_bits = btf_member_bitfield_size(owner, m);
  const uint32_t bits_off = btf_member_bit_offset(owner, m);
  if (!nr_bits) {
    if (bits_off % 8) return refuse_member(owner, m, "Member is not byte aligned");
    nr_bits = int_bits;
  } else if (nr_bits > int_bits) {
    return refuse_member(owner, m, "Invalid member bitfield_size");
  }
  if (owner.size < (bits_off + nr_bits + 7) / 8) return refuse_member(owner, m, "Member exceeds struct_size");
  return {};
}

Result<void> BtfChecker::btf_float_check_member(Type owner, const btf_member& m, Type member_type) {
  // The reasonable minimum of all architectures' alignments.
  const uint64_t align_bits = std::min<uint64_t>(8, member_type.size) * 8;
  if (m.offset % align_bits) return refuse_member(owner, m, "Member is not properly aligned");
  if (uint64_t(m.offset / 8) + member_type.size > owner.size)
    return refuse_member(owner, m, "Member exceeds struct_size");
  return {};
}

}  // namespace bpfsim
