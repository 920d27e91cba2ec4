// Models: include/uapi/linux/perf_event.h (Linux 6.18)
//
// What perf_event_open(2) takes, in the kernel's layout, as far as BPF has to do with it: which event, for
// whom, how often.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bpfsim {

enum perf_type_id : uint32_t {
  PERF_TYPE_HARDWARE = 0,
  PERF_TYPE_SOFTWARE = 1,
  PERF_TYPE_TRACEPOINT = 2,
  PERF_TYPE_HW_CACHE = 3,
  PERF_TYPE_RAW = 4,
  PERF_TYPE_BREAKPOINT = 5,
  // Types beyond these are numbered as their drivers register; /sys/bus/event_source/devices/*/type tells.
  PERF_TYPE_KPROBE = 6,
};

enum perf_sw_ids : uint64_t {
  PERF_COUNT_SW_CPU_CLOCK = 0,
  PERF_COUNT_SW_TASK_CLOCK = 1,
  PERF_COUNT_SW_PAGE_FAULTS = 2,
  PERF_COUNT_SW_CONTEXT_SWITCHES = 3,
  PERF_COUNT_SW_CPU_MIGRATIONS = 4,
  PERF_COUNT_SW_PAGE_FAULTS_MIN = 5,
  PERF_COUNT_SW_PAGE_FAULTS_MAJ = 6,
  PERF_COUNT_SW_ALIGNMENT_FAULTS = 7,
  PERF_COUNT_SW_EMULATION_FAULTS = 8,
  PERF_COUNT_SW_DUMMY = 9,
  PERF_COUNT_SW_BPF_OUTPUT = 10,
  PERF_COUNT_SW_CGROUP_SWITCHES = 11,
  PERF_COUNT_SW_MAX = 12,
};

struct perf_event_attr {
  perf_event_attr() {
    std::memset(static_cast<void*>(this), 0, sizeof *this);
    size = sizeof *this;
  }

  uint32_t type;
  uint32_t size;
  uint64_t config;
  uint64_t sample_period;  // or sample_freq
  uint64_t sample_type;
  uint64_t read_format;
  uint64_t bits;           // disabled, inherit, pinned, ...: one bit each, PERF_ATTR_*
  uint32_t wakeup_events;  // or wakeup_watermark
  uint32_t bp_type;
  uint64_t config1;  // kprobe_func, uprobe_path
  uint64_t config2;  // kprobe_addr, probe_offset
  uint64_t branch_sample_type;
  uint64_t sample_regs_user;
  uint32_t sample_stack_user;
  int32_t clockid;
  uint64_t sample_regs_intr;
  uint32_t aux_watermark;
  uint16_t sample_max_stack;
  uint16_t reserved_2;
  uint32_t aux_sample_size;
  uint32_t reserved_3;
  uint64_t sig_data;
  uint64_t config3;
};
static_assert(sizeof(perf_event_attr) == 136 && offsetof(perf_event_attr, config1) == 56);
static_assert(offsetof(perf_event_attr, sample_max_stack) == 108 &&
              offsetof(perf_event_attr, config3) == 128);

inline constexpr uint32_t PERF_ATTR_SIZE_VER0 = 64;
inline constexpr uint64_t PERF_ATTR_DISABLED = 1, PERF_ATTR_EXCLUDE_KERNEL = 1ull << 5,
                          PERF_ATTR_FREQ = 1ull << 10;
inline constexpr int PERF_ATTR_BITS = 38;  // the rest of `bits` is reserved
inline constexpr uint64_t PERF_SAMPLE_MAX = 1ull << 25, PERF_FORMAT_MAX = 1ull << 5;
inline constexpr uint64_t PERF_FLAG_FD_NO_GROUP = 1, PERF_FLAG_FD_OUTPUT = 2, PERF_FLAG_PID_CGROUP = 4,
                          PERF_FLAG_FD_CLOEXEC = 8;
inline constexpr uint32_t PERF_EVENT_IOC_ENABLE = 0x2400, PERF_EVENT_IOC_DISABLE = 0x2401,
                          PERF_EVENT_IOC_RESET = 0x2403, PERF_EVENT_IOC_ID = 0x80082407,
                          PERF_EVENT_IOC_SET_BPF = 0x40042408;

// enum bpf_perf_event_type and enum bpf_task_fd_type of linux/bpf.h.
enum bpf_perf_event_type : uint32_t {
  BPF_PERF_EVENT_UNSPEC = 0,
  BPF_PERF_EVENT_UPROBE = 1,
  BPF_PERF_EVENT_URETPROBE = 2,
  BPF_PERF_EVENT_KPROBE = 3,
  BPF_PERF_EVENT_KRETPROBE = 4,
  BPF_PERF_EVENT_TRACEPOINT = 5,
  BPF_PERF_EVENT_EVENT = 6,
};
enum bpf_task_fd_type : uint32_t {
  BPF_FD_TYPE_RAW_TRACEPOINT,
  BPF_FD_TYPE_TRACEPOINT,
  BPF_FD_TYPE_KPROBE,
  BPF_FD_TYPE_KRETPROBE,
  BPF_FD_TYPE_UPROBE,
  BPF_FD_TYPE_URETPROBE,
};

}  // namespace bpfsim
