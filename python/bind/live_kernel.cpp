// The host's own kernel behind the same call: bpf(2) with the same bytes, for agreement tests and lessons.
#include "live_kernel.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#if defined(__linux__)
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#endif

namespace bpfsim {

#if defined(__linux__) && defined(SYS_bpf)

int64_t LiveKernel::sys_bpf(int cmd, void* attr, uint32_t size) {
  long result = syscall(SYS_bpf, cmd, attr, size);
  return result < 0 ? -errno : result;
}

int64_t LiveKernel::close(int fd) { return ::close(fd) < 0 ? -errno : 0; }

int64_t LiveKernel::dup(int fd) {
  int copy = ::dup(fd);
  return copy < 0 ? -errno : copy;
}

std::string LiveKernel::fdinfo(int fd) {
  std::ifstream file("/proc/self/fdinfo/" + std::to_string(fd));
  return {std::istreambuf_iterator<char>(file), {}};
}

// The list of numbers ends with the highest one: "0-3", "0", "0-1,4-7".
uint32_t LiveKernel::possible_cpus() {
  std::string list;
  std::getline(std::ifstream("/sys/devices/system/cpu/possible"), list);
  size_t last = list.find_last_of("-,");
  return 1 + uint32_t(std::strtoul(list.c_str() + (last == list.npos ? 0 : last + 1), nullptr, 10));
}

std::string LiveKernel::release() {
  utsname name{};
  return uname(&name) == 0 ? name.release : "";
}

// Asks by creating the smallest map there is, and closes it again.
std::string LiveKernel::unavailable() {
  struct {
    uint32_t map_type = 2, key_size = 4, value_size = 4, max_entries = 1, rest[28] = {};
  } attr;
  int64_t fd = sys_bpf(0, &attr, sizeof attr);
  if (fd < 0) return std::string("bpf(2): ") + std::strerror(int(-fd));
  close(int(fd));
  return "";
}

#else

int64_t LiveKernel::sys_bpf(int, void*, uint32_t) { return -38; }  // ENOSYS
int64_t LiveKernel::close(int) { return -38; }
int64_t LiveKernel::dup(int) { return -38; }
std::string LiveKernel::fdinfo(int) { return ""; }
uint32_t LiveKernel::possible_cpus() { return 1; }
std::string LiveKernel::release() { return ""; }
std::string LiveKernel::unavailable() { return "this host is not Linux"; }

#endif

}  // namespace bpfsim
