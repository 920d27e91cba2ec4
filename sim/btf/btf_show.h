// Models: kernel/bpf/btf.c (btf_type_seq_show) (Linux 6.18)
//
// A value as text, by its BTF type, in the compact form that cat of a pinned map shows: {1,['h','i',],B,}.
//
// The kernel's form has its oddities, measured on a live 6.18 and kept: an element of an array opens without
// its brace, an array of pointers without its bracket; arrays and pointers inside an array are all read at
// its first element; an enumerator is read as four bytes, whatever its size; a section is never closed; any
// integer of one byte in an array is a letter, and 0 ends the array. A pointer is shown as the kernel's %p
// does, by a hash of the boot, so as not to tell where things lie.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "btf/btf_types.h"

namespace bpfsim {

// `hashed` is what %p shows of an address that is not null. Bytes beyond the end of `value` read as 0.
std::string btf_type_seq_show(const BtfTypes& types, uint32_t type_id, std::span<const uint8_t> value,
                              const std::function<uint32_t(uint64_t)>& hashed);

}  // namespace bpfsim
