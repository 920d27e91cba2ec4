// User memory for a host with POSIX signals: a wild pointer in union bpf_attr is -EFAULT, not a crash.
#pragma once

#include "base/user_memory.h"

namespace bpfsim {

// Copies with a jump armed around them: a SIGSEGV or SIGBUS inside the copy lands back here and the copy
// fails. Faults anywhere else go to the handler that was there before. Costs a few nanoseconds a copy.
struct GuardedUserMemory final : UserMemory {
  GuardedUserMemory();  // installs the handlers, again if somebody has replaced them since
  bool read(void* to, uint64_t user, size_t size) override;
  bool write(uint64_t user, const void* from, size_t size) override;
};

}  // namespace bpfsim
