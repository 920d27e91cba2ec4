// Models: fs/pidfs.c, kernel/pid.c (pidfd_open, pidfd_get_pid) (Linux 6.18)
//
// A descriptor that names a process: it finds the process while that lives and keeps nothing alive. Task
// storage maps take it as their key.
#pragma once

#include "object/file.h"

namespace bpfsim {

extern const FileOps pidfd_fops;

Result<int> pidfd_open(Machine& machine, int pid, uint32_t flags);

// The process behind a pidfd of the current task: -EBADF for any other descriptor, -ENOENT once it has
// exited.
Result<Task*> pidfd_get_task(const Machine& machine, int fd);

}  // namespace bpfsim
