// Models: fs/file.c, fs/file_table.c, fs/anon_inodes.c, kernel/exit.c (Linux 6.18)
//
// Descriptors, files and tasks. A descriptor is one reference to a file; the last one to go releases what the
// file held. Departs from the kernel: that last fput happens at once, not on the way back to user space.
#include "object/file.h"

#include <algorithm>

#include "object/inode.h"
#include "object/ops.h"

namespace bpfsim {

File::File(Machine& machine, const FileOps& f_op, Object* private_data, uint32_t f_flags)
    : Object(machine, ObjectKind::File),
      f_op(f_op),
      private_data(private_data),
      f_flags(f_flags),
      f_mode(((f_flags & 3) + 1) & 3) {}

std::string File::label() const { return std::string("file (") + f_op.name + ")"; }

void File::each_held(const HoldVisitor& visit) const {
  if (!private_data) return;
  visit({private_data, Counter::Refs, !f_op.only_finds, "private_data"});
  if (f_op.holds == Counter::UserRefs) visit({private_data, Counter::UserRefs, true, "private_data"});
  if (f_inode) visit({f_inode, Counter::Refs, true, "f_inode"});
}

void get_file(File& file, const Cause& cause) { file.f_count.inc(cause); }

void fput(File& file, const Cause& cause) {
  if (!file.f_count.dec_and_test(cause)) return;
  KFN(file.machine, __fput);
  if (file.f_op.release) file.f_op.release(file);
  if (file.f_inode) file.machine.calls->iput(*file.f_inode);
  emit<LifeEvent>(file.machine, file, "freed");
  delete &file;
}

BorrowedFile::BorrowedFile(Machine& machine, File* file)
    : file_(file), counted_(file && machine.parking && machine.current->task) {
  if (!counted_) return;
  get_file(*file_, {"fdget by task {}", machine.current->pid});
  machine.current->task->in_flight.push_back({file_, false, "fdget"});
}

BorrowedFile::~BorrowedFile() {
  if (!counted_) return;
  Context& now = *file_->machine.current;
  auto& holds = now.task->in_flight;
  holds.erase(std::find_if(holds.begin(), holds.end(), [&](auto& hold) { return hold.object == file_; }));
  fput(*file_, {"fdput by task {}", now.pid});
}

Result<int> FdTable::install(File* file, bool close_on_exec) {
  TRY(check_room());
  auto fd = size_t(lowest_);
  if (fd >= slots_.size()) {
    slots_.resize(fd + 1);
    close_on_exec_.resize(fd + 1);
  }
  slots_[fd] = file;
  close_on_exec_[fd] = close_on_exec;
  while (size_t(lowest_) < slots_.size() && slots_[size_t(lowest_)]) ++lowest_;
  return int(fd);
}

Result<void> FdTable::check_room() const {
  if (lowest_ >= kLimit) return refuse(Errno::MFile, "the task has {} descriptors open already", kLimit);
  return {};
}

File* FdTable::get_raw(int fd) const {
  return fd >= 0 && size_t(fd) < slots_.size() ? slots_[size_t(fd)] : nullptr;
}

File* FdTable::get(int fd) const {
  File* file = get_raw(fd);
  return file && (file->f_flags & O_PATH_) ? nullptr : file;
}

File* FdTable::take(int fd) {
  File* file = get_raw(fd);
  if (!file) return nullptr;
  slots_[size_t(fd)] = nullptr;
  lowest_ = std::min(lowest_, fd);
  return file;
}

Task::Task(Machine& machine, int pid, std::string comm, const Credentials& cred)
    : Object(machine, ObjectKind::Task), pid(pid), comm(std::move(comm)), cred(cred) {
  id = uint32_t(pid);
}

std::string Task::label() const { return "task " + std::to_string(pid) + " (" + comm + ")"; }

void Task::each_held(const HoldVisitor& visit) const {
  for (size_t fd = 0; fd < files.slots().size(); ++fd)
    if (const File* file = files.slots()[fd]) visit({file, Counter::Refs, true, "fd " + std::to_string(fd)});
  if (cgroup) visit({cgroup, Counter::Refs, true, "css_set"});
  for (const Vma& vma : mappings)
    visit({vma.file, Counter::Refs, true,
           "mmap of " + (vma.file->private_data ? vma.file->private_data->label() : vma.file->label())});
  for (const InFlight& hold : in_flight) {
    visit({hold.object, Counter::Refs, true, hold.via});
    if (hold.uref) visit({hold.object, Counter::UserRefs, true, hold.via});
  }
}

Holding::Holding(Machine& machine, const Object& object, const char* via, bool uref)
    : task_(machine.current->task), object_(&object) {
  if (task_) task_->in_flight.push_back({object_, uref, via});
}

void Holding::release() {
  if (!task_) return;
  auto& holds = std::exchange(task_, nullptr)->in_flight;
  auto mine = std::find_if(holds.rbegin(), holds.rend(), [&](auto& hold) { return hold.object == object_; });
  holds.erase(std::next(mine).base());
}

Result<int> sys_close(Task& task, int fd) {
  File* file = task.files.take(fd);
  if (!file) return refuse(Errno::BadF, "fd {} of task {} is not open", fd, task.pid);
  fput(*file, {"close fd {} of task {}", fd, task.pid});
  return 0;
}

Result<int> sys_dup(Task& task, int fd) {
  File* file = task.files.get_raw(fd);
  if (!file) return refuse(Errno::BadF, "fd {} of task {} is not open", fd, task.pid);
  TRY(task.files.check_room());
  get_file(*file, {"dup of fd {} by task {}", fd, task.pid});
  return task.files.install(file);
}

void copy_files(Task& child, const Task& parent) {
  KFN(child.machine, copy_files);
  // A clone of the table, holes included: every file stays at its number.
  child.files = parent.files;
  for (size_t fd = 0; fd < child.files.slots().size(); ++fd)
    if (File* file = child.files.slots()[fd])
      get_file(*file, {"fork: fd {} of task {}", int64_t(fd), child.pid});
}

void exit_files(Task& task) {
  KFN(task.machine, exit_files);
  for (int fd = 0; size_t(fd) < task.files.slots().size(); ++fd)
    if (File* file = task.files.take(fd)) fput(*file, {"exit: fd {} of task {}", fd, task.pid});
}

Task& current_task(const Machine& machine) { return *machine.current->task; }

Task* find_task_by_vpid(const Machine& machine, int pid) {
  for (const auto& [serial, object] : machine.objects)
    if (object->kind == ObjectKind::Task && static_cast<Task*>(object)->pid == pid)
      return static_cast<Task*>(object);
  return nullptr;
}

Result<Object*> object_of_file(const File* file, int fd, const FileOps& f_op, Errno other,
                               std::source_location where) {
  if (file && &file->f_op == &f_op) return file->private_data;
  if (!file) return refuse(Errno::BadF, Fact("fd {} is not open", where), fd);
  return refuse(other, Fact("fd {} is a {}, not a {}", where), fd, file->f_op.name, f_op.name);
}

static Result<int64_t> open_file(Machine& machine, const FileOps& f_op, Object* object, uint32_t f_flags,
                                 Holding* reference) {
  Task& task = current_task(machine);
  TRY(task.files.check_room());
  auto* file = new File(machine, f_op, object, f_flags);
  if (reference) reference->release();
  return TRY(fd_install(task, *file));
}

Result<int64_t> anon_inode_getfd(Machine& machine, const FileOps& f_op, Object& object, uint32_t f_flags,
                                 Holding& reference) {
  return open_file(machine, f_op, &object, f_flags, &reference);
}

Result<int64_t> anon_inode_getfd(Machine& machine, const FileOps& f_op, uint32_t f_flags) {
  return open_file(machine, f_op, nullptr, f_flags, nullptr);
}

Result<int> fd_install(Task& task, File& file) {
  const int fd = TRY(task.files.install(&file, file.f_flags & O_CLOEXEC_));
  file.f_count.inc({"fd {} of task {}", fd, task.pid});
  emit<LifeEvent>(file.machine, file, "born");
  return fd;
}

Result<std::string> generic_read_dir(File& file, size_t) {
  return refuse(Errno::IsDir, "the {} file is a directory", file.f_op.name);
}

static std::string tty_inode_name(const File&) { return "/dev/pts/0"; }

const FileOps tty_fops = {.name = "tty",
                          .release = nullptr,
                          .show_fdinfo = nullptr,
                          .holds = Counter::Refs,
                          .inode_name = tty_inode_name};

void open_terminal(Task& task) {
  auto* file = new File(task.machine, tty_fops, nullptr, O_RDWR_);
  for (int fd = 0; fd <= 2; ++fd)
    if (task.files.install(file)) file->f_count.inc({"fd {} of task {}, from its terminal", fd, task.pid});
}

// All these files share the one inode of anon_inodefs, in the kernel's own mount of it. Both numbers depend
// on the boot; these are those of the machine that 6.18 was measured on. Files with an inode of their own
// (a cgroup, a terminal) have no such lines here.
constexpr int kAnonInodeMount = 17, kAnonInode = 17;

Result<std::string> fdinfo(const Task& task, int fd) {
  const File* file = task.files.get_raw(fd);
  if (!file) return refuse(Errno::NoEnt, "fd {} of task {} is not open", fd, task.pid);
  const uint32_t flags = (file->f_flags & ~O_CLOEXEC_) | (task.files.close_on_exec(fd) ? O_CLOEXEC_ : 0);
  char text[80];
  std::snprintf(text, sizeof text, "pos:\t%llu\nflags:\t0%o\n", (unsigned long long)file->f_pos, flags);
  std::string lines = text;
  if (!file->f_op.inode_name)
    lines += "mnt_id:\t" + std::to_string(kAnonInodeMount) + "\nino:\t" + std::to_string(kAnonInode) + "\n";
  return lines + (file->f_op.show_fdinfo ? file->f_op.show_fdinfo(*file) : "");
}

}  // namespace bpfsim
