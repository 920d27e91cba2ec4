// Models: kernel/bpf/stackmap.c (Linux 6.18)
//
// What is called by the map's type instead of through its table.
#pragma once

#include <span>

#include "object/ops.h"

namespace bpfsim {

inline constexpr uint64_t BPF_F_SKIP_FIELD_MASK = 0xff, BPF_F_FAST_STACK_CMP = 1 << 9,
                          BPF_F_REUSE_STACKID = 1 << 10;

// A lookup from user space: copies the trace with that id; `remove` takes it out of the map.
Result<void> bpf_stackmap_extract(Map& map, const void* key, void* value, bool remove);
// Puts a trace of addresses into the map and gives its id: what bpf_get_stackid does with the stack that it
// walked. Until that helper is modelled only tests call it, to read what is there.
Result<uint32_t> __bpf_get_stackid(Map& map, std::span<const uint64_t> trace, uint64_t flags);

}  // namespace bpfsim
