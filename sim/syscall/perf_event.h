// Models: kernel/events/core.c (perf_event_open), fs/read_write.c, fs/ioctl.c (Linux 6.18)
//
// The system calls beside bpf(2) that a tracing lesson makes: perf_event_open, and read and ioctl on a
// descriptor whose file knows them. They act for the current task.
#pragma once

#include "object/file.h"
#include "uapi/perf_event.h"

namespace bpfsim {

// `attr` is as user space wrote it; its pointers (config1 of a kprobe) are user addresses.
Result<int> sys_perf_event_open(Machine& machine, perf_event_attr attr, int pid, int cpu, int group_fd,
                                uint64_t flags);
Result<std::string> sys_read(Machine& machine, int fd, size_t size);
Result<int64_t> sys_ioctl(Machine& machine, int fd, uint32_t cmd, uint64_t arg);

}  // namespace bpfsim
