// Models: kernel/bpf/btf.c (Linux 6.18): the kinds' check_member() and check_kflag_member()
//
// May this member stand at this place of its struct? Each kind has its own answer: a whole type takes all of
// its bits and begins at a byte, a bitfield takes as many as it says. In a struct with kind_flag a member
// says so itself, in its offset; without the flag only an integer is a bitfield, whose type holds its width
// and where it begins.
#include <algorithm>

#include "btf/btf_checker.h"

namespace bpfsim {

Result<void> BtfChecker::check_member(Type owner, const btf_member& m) {
  const btf_type& t = type_behind(m.type);
  const uint32_t kind = btf_kind(t);
  const bool is_int = kind == BTF_KIND_INT, is_float = kind == BTF_KIND_FLOAT;
  const bool is_enum = kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64;
  const bool kflag = btf_kflag(owner);
  const uint32_t int_data = is_int ? btf_int_data(t) : 0;
  const uint32_t offset = btf_member_bit_offset(owner, m), field = btf_member_bitfield_size(owner, m);

  // 32 also for an ENUM64: the kernel does not tell them apart here.
  const uint32_t widest_field = is_int ? btf_int_bits(int_data) : is_enum ? 32 : 0;
  const uint64_t whole = is_int || (is_enum && kflag) ? widest_field : uint64_t(size_of(m.type)) * 8;
  const uint64_t begin = uint64_t(offset) + btf_int_offset(int_data), bits = field ? field : whole;
  const bool off_byte = !field && offset % 8 != 0;
  // The reasonable minimum of all architectures' alignments.
  const uint32_t float_align = is_float ? std::min(8u, t.size) * 8 : 1;

  const auto flaw = first({
      {is_int && !kflag && begin > UINT32_MAX, "bits_offset exceeds U32_MAX"},
      {is_int && kflag && !btf_type_int_is_regular(t), "Invalid member base type"},
      {field > widest_field, "Invalid member bitfield_size"},
      {is_int && kflag && off_byte, "Invalid member offset"},
      {is_float && offset % float_align != 0, "Member is not properly aligned"},
      {!is_int && !is_float && off_byte, "Member is not byte aligned"},
      {is_int && begin % 8 + bits > 128, "nr_copy_bits exceeds 128"},
      {(begin + bits + 7) / 8 > owner.size, "Member exceeds struct_size"},
  });
  if (!flaw) return {};
  btf_member shown = m;  // the log says what stands behind the member's type
  shown.type = standings_[m.type].behind;
  return refuse_member(owner, shown, flaw->words);
}

}  // namespace bpfsim
