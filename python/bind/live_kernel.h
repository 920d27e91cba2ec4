// The host's own kernel behind the same call: bpf(2) with the same bytes, for agreement tests and lessons.
#pragma once

#include <cstdint>
#include <string>

namespace bpfsim {

struct LiveKernel {
  // Empty where bpf(2) may be used; else why not ("not Linux", "bpf(2): Operation not permitted").
  static std::string unavailable();
  // >= 0 or -errno, as the system call has it.
  static int64_t sys_bpf(int cmd, void* attr, uint32_t size);
  static int64_t close(int fd);
  static int64_t dup(int fd);
  static std::string fdinfo(int fd);  // of /proc/self; empty when fd is not open
  static uint32_t possible_cpus();    // values of a per-CPU map come in so many copies
  static std::string release();       // "6.18.44"
};

}  // namespace bpfsim
