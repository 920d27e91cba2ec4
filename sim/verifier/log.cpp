// Models: kernel/bpf/log.c (Linux 6.18), the buffer
//
// See log.h. A position counts all text ever written; modulo the buffer's size it is a place in the window.
#include "verifier/log.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>

#include "uapi/gates.h"

namespace bpfsim {

Result<void> bpf_vlog_init(bpf_verifier_log& log, UserMemory& user, uint32_t level, uint64_t buf,
                           uint32_t size, Version version) {
  log = {};
  log.user = &user;
  const bool of_bits = has(Gate::log_stats, version);
  log.level = of_bits ? level : std::min(level, BPF_LOG_LEVEL2);
  log.ubuf = buf;
  log.len_total = size;
  log.rolls = has(Gate::log_rotating, version);
  if ((buf != 0) != (size != 0))
    return refuse(Errno::Inval, "log_buf and log_size go together, size is {}", size);
  if (buf && level == 0) return refuse(Errno::Inval, "log_buf needs a log_level");
  const uint32_t most = UINT32_MAX >> (of_bits ? 2 : 8);
  if (size > most) return refuse(Errno::Inval, "log_size must be at most {}, is {}", most, size);
  const uint32_t known = log.rolls ? BPF_LOG_MASK : BPF_LOG_MASK & ~BPF_LOG_FIXED;
  if (of_bits && level & ~known) return refuse(Errno::Inval, "log_level {} has unknown bits", level);
  if (log.rolls) return {};
  if (level && size < 128) return refuse(Errno::Inval, "log_size must be at least 128, is {}", size);
  if (level) log.level |= BPF_LOG_FIXED;
  return {};
}

static void put(bpf_verifier_log& log, uint64_t place, const char* bytes, size_t n) {
  if (log.ubuf && n && !log.user->write(log.ubuf + place, bytes, n)) log.ubuf = 0;
}

static void write_fixed(bpf_verifier_log& log, std::string_view text) {
  uint64_t at = log.end_pos;
  log.end_pos += text.size();
  if (at >= log.len_total) return;
  size_t room = size_t(std::min<uint64_t>(log.len_total - at, text.size() + 1)) - 1;
  put(log, at, text.data(), room);
  put(log, at + room, "", 1);
}

// The text and its NUL go behind what is there, going on at the buffer's start when its end is reached. Only
// the last len_total bytes can survive.
static void write_rolling(bpf_verifier_log& log, std::string_view text) {
  uint64_t new_end = log.end_pos + text.size() + 1;
  if (new_end - log.start_pos >= log.len_total) log.start_pos = new_end - log.len_total;
  log.end_pos = new_end - 1;
  if (!log.ubuf) return;
  size_t keep = std::min<size_t>(text.size(), log.len_total - 1);
  text.remove_prefix(text.size() - keep);
  uint64_t place = (new_end - keep - 1) % log.len_total;
  size_t until_end = std::min<size_t>(keep, log.len_total - place);
  put(log, place, text.data(), until_end);
  put(log, 0, text.data() + until_end, keep - until_end);
  put(log, (new_end - 1) % log.len_total, "", 1);
}

void bpf_vlog_write(bpf_verifier_log& log, std::string_view text) {
  if (!log.needed()) return;
  uint64_t length = log.end_pos + text.size() + 1;
  log.len_max = uint32_t(std::min<uint64_t>(std::max<uint64_t>(log.len_max, length), UINT32_MAX));
  if (log.level & BPF_LOG_FIXED)
    write_fixed(log, text);
  else
    write_rolling(log, text);
}

void bpf_verifier_vlog(bpf_verifier_log& log, const char* format, va_list args) {
  if (!log.needed()) return;
  char text[BPF_VERIFIER_TMP_LOG_SIZE];
  int n = std::vsnprintf(text, sizeof text, format, args);
  bpf_vlog_write(log, {text, std::min<size_t>(size_t(std::max(n, 0)), sizeof text - 1)});
}

void bpf_log(bpf_verifier_log& log, const char* format, ...) {
  va_list args;
  va_start(args, format);
  bpf_verifier_vlog(log, format, args);
  va_end(args);
}

void bpf_vlog_reset(bpf_verifier_log& log, uint64_t new_pos) {
  if (!log.needed() || new_pos > log.end_pos) return;
  log.end_pos = new_pos;
  log.start_pos = std::min(log.start_pos, log.end_pos);
  if (!log.ubuf) return;
  uint64_t place = log.level & BPF_LOG_FIXED ? log.end_pos + 1 : new_pos % log.len_total;
  if (place < log.len_total) put(log, place, "", 1);
}

Result<void> bpf_vlog_finalize(bpf_verifier_log& log, uint32_t& log_size_actual) {
  log_size_actual = 0;
  if (!log.needed()) return {};
  if (log.ubuf && log.start_pos != 0) {
    std::string window(log.len_total, '\0');
    if (log.user->read(window.data(), log.ubuf, window.size())) {
      std::rotate(window.begin(), window.begin() + std::ptrdiff_t(log.start_pos % log.len_total),
                  window.end());
      put(log, 0, window.data(), window.size());
    } else {
      log.ubuf = 0;
    }
  }
  log_size_actual = log.len_max;
  if ((log.ubuf != 0) != (log.len_total != 0))
    return refuse(Errno::Fault, "the log buffer cannot be written");
  if (log.ubuf && (log.rolls ? log.len_max > log.len_total : log.end_pos + 1 >= log.len_total))
    return refuse(Errno::NoSpc, "the log needs {} bytes, log_size is {}", log.len_max, log.len_total);
  return {};
}

}  // namespace bpfsim
