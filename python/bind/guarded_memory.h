// User memory in which a wild pointer of union bpf_attr is -EFAULT, not a crash.
#pragma once

#include <string>
#include <vector>

#include "base/user_memory.h"

namespace bpfsim {

// A buffer of the host that a call was given: an access that begins in it must end in it.
struct Extent {
  uint64_t start;
  size_t size;
};

// Copies with a jump armed around them: a SIGSEGV or SIGBUS inside the copy lands back here and the copy
// fails. Faults anywhere else go to the handler that was there before. Costs a few nanoseconds a copy. A
// buffer whose size is known is kept to that size, since the bytes behind it are Python's own.
struct GuardedUserMemory final : UserMemory {
  GuardedUserMemory();  // installs the handlers, again if somebody has replaced them since
  bool read(void* to, uint64_t user, size_t size) override;
  bool write(uint64_t user, const void* from, size_t size) override;

  std::vector<Extent> extents;  // of the call that is under way
  std::string overrun;          // what it did beyond one of them; it has got -EFAULT for it

 private:
  bool inside(const char* does, uint64_t user, size_t size);
};

}  // namespace bpfsim
