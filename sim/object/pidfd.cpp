// Models: fs/pidfs.c, kernel/pid.c (pidfd_open, pidfd_get_pid) (Linux 6.18)
//
// Opening a pidfd and following it. Departs from the kernel: a process that exits is reaped at once, there
// are no zombies that a pidfd would still find; a process has one thread, so PIDFD_THREAD changes nothing.
#include "object/pidfd.h"

namespace bpfsim {

namespace {

constexpr uint32_t PIDFD_NONBLOCK = 04000, PIDFD_THREAD = 0200;

const Task& task_of(const File& file) { return static_cast<const Task&>(*file.private_data); }

std::string pidfd_show_fdinfo(const File& file) {
  const int pid = task_of(file).exited ? -1 : task_of(file).pid;
  return "Pid:\t" + std::to_string(pid) + "\nNSpid:\t" + std::to_string(pid) + "\n";
}

std::string pid_inode_name(const File& file) { return "pid:[" + std::to_string(task_of(file).pid) + "]"; }

}  // namespace

const FileOps pidfd_fops = {.name = "[pidfd]",
                            .release = nullptr,
                            .show_fdinfo = pidfd_show_fdinfo,
                            .holds = Counter::Refs,
                            .only_finds = true,
                            .inode_name = pid_inode_name};

Result<int> pidfd_open(Machine& machine, int pid, uint32_t flags) {
  KFN(machine, pidfd_open);
  if (flags & ~(PIDFD_NONBLOCK | PIDFD_THREAD)) return refuse(Errno::Inval, "unknown flags {}", flags);
  if (pid <= 0) return refuse(Errno::Inval, "a pid is above 0, not {}", pid);
  Task* task = find_task_by_vpid(machine, pid);
  if (!task || task->exited) return refuse(Errno::Srch, "there is no process {}", pid);
  Task& opener = current_task(machine);
  TRY(opener.files.check_room());
  return fd_install(opener, *new File(machine, pidfd_fops, task, O_RDWR_ | O_CLOEXEC_ | flags));
}

Result<Task*> pidfd_get_task(const Machine& machine, int fd) {
  Task* task = TRY(object_of_fd<Task>(machine, fd, pidfd_fops, Errno::BadF));
  if (task->exited) return refuse(Errno::NoEnt, "process {} has exited", task->pid);
  return task;
}

}  // namespace bpfsim
