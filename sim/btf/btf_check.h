// Models: kernel/bpf/btf.c (Linux 6.18): btf_parse()
//
// The kernel's BTF checker: header, sections, strings, every type's own fields (CHECK_META), then what types
// refer to (CHECK_TYPE: sizes, cycles, members inside their struct), then the order of type tags. Same order
// of checks, same errnos and, into `log`, the same words as 6.18. Not modelled yet: split BTF with a base,
// and the fields that give a struct a meaning to the verifier (btf_parse_struct_metas: bpf_spin_lock, kptrs,
// graph nodes).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "btf/btf_types.h"
#include "uapi/version.h"

namespace bpfsim {

// `log` receives what the kernel writes for any btf_log_level other than 0; nullptr is level 0. The caller
// puts it into the user's buffer, where a full buffer becomes ENOSPC.
// An older version knows fewer kinds and allows less in some.
Result<BtfTypes> btf_parse(std::span<const uint8_t> data, std::string* log = nullptr,
                           Version version = kLatest);

}  // namespace bpfsim
