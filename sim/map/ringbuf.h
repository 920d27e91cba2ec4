// Models: kernel/bpf/ringbuf.c (Linux 6.18)
//
// What the helpers of ring buffers call. A sample's address is all that submit and discard get; the record's
// header, just below it, leads to its ring.
#pragma once

#include "object/ops.h"

namespace bpfsim {

void bpf_ringbuf_commit(Machine& machine, Addr sample, uint64_t flags, bool discard);

}  // namespace bpfsim
