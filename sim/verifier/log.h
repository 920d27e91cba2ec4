// Models: kernel/bpf/log.c (Linux 6.18), the buffer
//
// The log that user space reads. By default the buffer is a window that rolls: when it is full, the oldest
// text makes room, and bpf_vlog_finalize() turns it so that it begins at the buffer's start. With
// BPF_LOG_FIXED the end is cut instead. Either way `len_max` is what the whole would have needed, and a cut
// log turns the verdict into ENOSPC. Before 6.4 every log was cut at its end, and full as soon as it was
// filled. Departs from the kernel: turning the window copies it once instead of reversing it in place.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <string_view>

#include "base/user_memory.h"
#include "uapi/bpf.h"
#include "uapi/result.h"
#include "uapi/version.h"

namespace bpfsim {

constexpr size_t BPF_VERIFIER_TMP_LOG_SIZE = 1024;  // one message is cut to this, with its NUL

struct bpf_verifier_log {
  UserMemory* user = nullptr;
  uint64_t ubuf = 0;  // 0: none was given, or a write to it failed
  uint32_t level = 0;
  uint32_t len_total = 0, len_max = 0;
  uint64_t start_pos = 0, end_pos = 0;
  bool rolls = true;  // since 6.4, unless BPF_LOG_FIXED is set

  bool needed() const { return level != 0; }
};

Result<void> bpf_vlog_init(bpf_verifier_log& log, UserMemory& user, uint32_t level, uint64_t buf,
                           uint32_t size, Version version = kLatest);
void bpf_vlog_write(bpf_verifier_log& log, std::string_view text);  // any length: composed text, never cut
void bpf_verifier_vlog(bpf_verifier_log& log, const char* format, va_list args);
[[gnu::format(printf, 2, 3)]] void bpf_log(bpf_verifier_log& log, const char* format, ...);
void bpf_vlog_reset(bpf_verifier_log& log, uint64_t new_pos);
// The size that the whole log needed; refused with EFAULT if a write failed, ENOSPC if the log was cut.
Result<void> bpf_vlog_finalize(bpf_verifier_log& log, uint32_t& log_size_actual);

}  // namespace bpfsim
