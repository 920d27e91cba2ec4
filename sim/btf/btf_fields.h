// Models: kernel/bpf/btf.c (btf_parse_fields) (Linux 6.18)
//
// Special fields (object/btf_record.h) are found by the name of their struct or the tag of a pointer.
#pragma once

#include "btf/btf_types.h"
#include "object/btf_record.h"
#include "uapi/version.h"

namespace bpfsim {

const char* btf_field_type_name(btf_field_type type);  // "bpf_spin_lock", "kptr"

// The fields of the types in field_mask that this version knows; none is an empty record.
Result<BtfRecord> btf_parse_fields(const BtfTypes& btf, uint32_t type_id, uint32_t field_mask,
                                   uint32_t value_size, Version version);
// What BTF_LOAD asks of every struct that could be allocated with such fields in it.
Result<void> btf_check_struct_metas(const BtfTypes& btf, Version version);
// After btf_parse_fields, for a map's value: what its lists and trees hold, and where its uptrs point.
Result<void> btf_check_fields(const BtfTypes& btf, const BtfRecord& record, Version version);

}  // namespace bpfsim
