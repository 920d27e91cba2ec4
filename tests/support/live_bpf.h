// bpf(2) of the kernel that runs the tests, so that it can judge the simulator. Where it may not be called
// (no Linux, no root, seccomp) the tests that want it say so and pass over.
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>

#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#endif

namespace bpfsim::live {

inline long sys_bpf(int cmd, bpf_attr* attr, unsigned size) {
#if defined(__linux__) && defined(__NR_bpf)
  const long ret = syscall(__NR_bpf, cmd, attr, size);
  return ret < 0 ? -errno : ret;
#else
  (void)cmd, (void)attr, (void)size;
  return -38;
#endif
}

inline void close_fd(long fd) {
#ifdef __linux__
  if (fd >= 0) close(int(fd));
#else
  (void)fd;
#endif
}

inline bool permitted() {
  bpf_attr attr;
  attr.map_type = BPF_MAP_TYPE_ARRAY;
  attr.key_size = 4;
  attr.value_size = 4;
  attr.max_entries = 1;
  const long fd = sys_bpf(BPF_MAP_CREATE, &attr, sizeof attr);
  close_fd(fd);
  return fd >= 0;
}

inline std::string release() {
#ifdef __linux__
  utsname name;
  if (uname(&name) == 0) return name.release;
#endif
  return "";
}

// The simulator's text is checked against 6.18: another kernel may say other words.
inline bool is_6_18() { return release().rfind("6.18", 0) == 0; }

}  // namespace bpfsim::live

// In a test that needs it: LIVE_KERNEL_OR_SKIP();
#define LIVE_KERNEL_OR_SKIP()                                                                           \
  do {                                                                                                  \
    if (!bpfsim::live::permitted() || !bpfsim::live::is_6_18()) {                                       \
      WARN("skipped: needs bpf(2) of a 6.18 kernel, this one is '"                                      \
           << bpfsim::live::release() << "' " << (bpfsim::live::permitted() ? "" : "(not permitted)")); \
      return;                                                                                           \
    }                                                                                                   \
  } while (0)
