// Models: include/linux/uaccess.h (Linux 6.18)
//
// User memory is a seam. Pointers in union bpf_attr are addresses of this process; the layer that hosts the
// core says how to read and write them so that a wild one is -EFAULT and not a crash: guarded copies on Linux
// and macOS, registered buffers elsewhere. The default trusts every address above the first 64 KiB.
//
// With the host's wish to stop long work this is all that a call learns from outside while it runs, so what
// wraps it can tape a call and play it again (journal.h).
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "uapi/result.h"

namespace bpfsim {

// Where mmap(2) puts a task's mappings: addresses that no process has, so that the kernel can tell them from
// pointers of this process.
inline constexpr uint64_t kMmapBase = 1ull << 56;

struct UserMemory {
  virtual ~UserMemory() = default;
  virtual bool read(void* to, uint64_t user, size_t size) = 0;
  virtual bool write(uint64_t user, const void* from, size_t size) = 0;
  // Bytes that a call was handed as such (a packet, a netlink message): what it shall work with.
  virtual std::span<const uint8_t> handed(std::span<const uint8_t> bytes) { return bytes; }
  // The host was asked for the `check`th time whether to stop, and answered `asked`.
  virtual bool interrupts(uint64_t /*check*/, bool asked) { return asked; }
};

struct TrustedUserMemory final : UserMemory {
  static bool plausible(uint64_t user) { return user >= 0x10000 && user < (1ull << 47); }
  bool read(void* to, uint64_t user, size_t size) override {
    if (size == 0) return true;
    if (!plausible(user)) return false;
    std::memcpy(to, reinterpret_cast<const void*>(uintptr_t(user)), size);
    return true;
  }
  bool write(uint64_t user, const void* from, size_t size) override {
    if (size == 0) return true;
    if (!plausible(user)) return false;
    std::memcpy(reinterpret_cast<void*>(uintptr_t(user)), from, size);
    return true;
  }
};

}  // namespace bpfsim
