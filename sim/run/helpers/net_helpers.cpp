// Models: net/core/filter.c (helpers that need no packet), lib/checksum.c (Linux 6.18)
//
// The Internet checksum over what changed in a packet.
#include <cstring>

#include "run/helpers/call.h"
#include "uapi/gates.h"

namespace bpfsim {

// One's complement sum of 32-bit words on top of `sum`.
static uint32_t csum_partial(const uint8_t* bytes, uint64_t size, uint32_t flip, uint64_t sum) {
  for (uint64_t i = 0; i < size; i += 4) {
    uint32_t word;
    std::memcpy(&word, bytes + i, 4);
    sum += word ^ flip;
  }
  while (sum >> 32) sum = (sum & 0xffffffff) + (sum >> 32);
  return uint32_t(sum);
}

// Since 6.13 the sum is folded to 16 bits and has no limit of size; before, programs saw all 32 bits of it.
BPF_CALL_5(bpf_csum_diff, from, from_size, to, to_size, seed) {
  constexpr uint32_t kScratch = 512;
  uint32_t removed = uint32_t(from_size), added = uint32_t(to_size);
  bool too_large = !has(Gate::csum_diff_any, machine.version) && removed + added > kScratch;
  if ((removed | added) % 4 || too_large) return fail(Errno::Inval);
  uint32_t sum = uint32_t(seed);
  if (removed) {
    const uint8_t* bytes = program_memory(machine, from, removed, BPF_READ);
    if (!bytes) return 0;
    sum = csum_partial(bytes, removed, ~0u, sum);
  }
  if (added) {
    const uint8_t* bytes = program_memory(machine, to, added, BPF_READ);
    if (!bytes) return 0;
    sum = csum_partial(bytes, added, 0, sum);
  }
  if (!has(Gate::csum_diff_any, machine.version)) return sum;
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

const FuncProto bpf_csum_diff_proto = {
    .func = bpf_csum_diff,
    .pkt_access = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_RDONLY_MEM_OR_NULL, ARG_CONST_SIZE_OR_ZERO, ARG_RDONLY_MEM_OR_NULL,
                 ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING},
};

}  // namespace bpfsim
