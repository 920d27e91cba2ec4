// Models: fs/file.c, fs/file_table.c, include/linux/sched.h (Linux 6.18)
//
// Open files and who holds them. A file descriptor is an index into a task's table of File references; dup
// and fork share the File, and the object behind it (private_data) loses the file's reference when the last
// of them is closed.
#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "base/arena.h"
#include "object/object.h"

namespace bpfsim {

struct BpfLocalStorage;  // map/bpf_local_storage.h
struct File;
struct Vma;

// What a mapping of a file asks of it (vm_operations_struct and the mmap of file_operations).
struct MmapOps {
  Result<Span> (*mmap)(File& file, Vma& vma);           // the pages, or why not
  void (*open)(File& file, const Vma& vma);             // one more such mapping: fork, or a part of one
  void (*close)(File& file, const Vma& vma);            // one less
  uint64_t (*page)(const File& file, uint64_t offset);  // where this offset lies, if pages are mapped twice
  // Whether a mapping of that many bytes may lie at `address`, or anywhere when that is 0.
  Result<void> (*get_unmapped_area)(const File& file, uint64_t address, uint64_t offset, uint64_t length);
};

// What a kind of file does. `name` is the anon inode's name: "bpf-map", "bpf-prog", "bpf_link", "btf".
struct FileOps {
  const char* name;
  void (*release)(File& file);              // the last reference is gone: put private_data
  std::string (*show_fdinfo)(const File&);  // the object's own lines of /proc/PID/fdinfo/FD
  Counter holds;                            // which counter of private_data a file holds
  // read(2): at most `size` bytes; "" is the end. Null: EINVAL.
  Result<std::string> (*read)(File& file, size_t size) = nullptr;
  // ioctl(2). Null: ENOTTY.
  Result<int64_t> (*unlocked_ioctl)(File& file, uint32_t cmd, uint64_t arg) = nullptr;
  const MmapOps* mmap = nullptr;                     // null: -ENODEV
  bool only_finds = false;                           // a pidfd: it finds private_data and keeps nothing alive
  std::string (*inode_name)(const File&) = nullptr;  // null: the inode that all anonymous files share
};

inline constexpr uint32_t O_RDONLY_ = 0, O_WRONLY_ = 1, O_RDWR_ = 2, O_ACCMODE_ = 3, O_CLOEXEC_ = 02000000;
inline constexpr uint32_t O_DIRECTORY_ = 0200000, O_PATH_ = 010000000;
inline constexpr uint32_t FMODE_READ = 1, FMODE_WRITE = 2;

struct File final : Object {
  File(Machine& machine, const FileOps& f_op, Object* private_data, uint32_t f_flags);
  std::string label() const override;
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter which) const override {
    return which == Counter::Refs ? &f_count : nullptr;
  }

  const FileOps& f_op;
  Object* private_data;
  uint32_t f_flags;
  uint32_t f_mode;           // FMODE_*
  uint64_t f_pos = 0;        // of a file that is read from its beginning on
  Inode* f_inode = nullptr;  // of a pin that was opened to be read; it holds what private_data reads from
  Refcount f_count{*this, Counter::Refs};
};

void get_file(File& file, const Cause& cause);
Result<std::string> generic_read_dir(File& file, size_t size);  // EISDIR
void fput(File& file, const Cause& cause);

// fdget() and fdput(): a syscall borrows the file behind a descriptor. Nobody else can close it meanwhile, so
// nothing is counted, as in the kernel for a table that one thread uses; where contexts can be parked
// somebody can, and the borrower holds a reference.
class BorrowedFile {
 public:
  BorrowedFile(Machine& machine, File* file);
  ~BorrowedFile();
  BorrowedFile(const BorrowedFile&) = delete;
  File* get() const { return file_; }

 private:
  File* file_;
  bool counted_;
};

class FdTable {
 public:
  static constexpr int kLimit = 1024;  // RLIMIT_NOFILE of a fresh login

  // The lowest free descriptor, or -EMFILE. The file's reference moves in.
  Result<int> install(File* file, bool close_on_exec = false);
  File* get(int fd) const;      // null: -EBADF; also for one that was opened with O_PATH
  File* get_raw(int fd) const;  // that one too
  File* take(int fd);           // empties the slot, the caller now owns the reference
  Result<void> check_room() const;
  const std::vector<File*>& slots() const { return slots_; }
  bool close_on_exec(int fd) const { return get_raw(fd) && close_on_exec_[size_t(fd)]; }

 private:
  std::vector<File*> slots_;
  std::vector<bool> close_on_exec_;  // of the descriptor, not of the file: dup does not copy it
  int lowest_ = 0;                   // no slot below is free
};

// A reference that stands on the stack of a syscall: an edge of the graph while the syscall lasts.
struct InFlight {
  const Object* object;
  bool uref;  // the map's usercnt too
  const char* via;
};

// A stretch of a task's addresses that shows the pages of a file (struct vm_area_struct). It holds the file.
struct Vma {
  uint64_t start, length;  // user addresses; object/mmap.h
  uint64_t offset;         // in the file
  File* file;
  bool shared, read, write;
  Span pages;
  bool whole = false;  // no child gets it (VM_DONTCOPY), and no part of it can go alone
};

// A process. exit() closes what its table holds and unmaps what it has mapped.
struct Task final : Object {
  Task(Machine& machine, int pid, std::string comm, const Credentials& cred);
  std::string label() const override;
  void each_held(const HoldVisitor&) const override;

  const int pid;
  std::string comm;
  Credentials cred;
  uint32_t cpu = 0;  // where its syscalls run
  FdTable files;
  std::vector<Vma> mappings;  // object/mmap.h
  uint64_t next_mapping = kMmapBase;
  Task* parent = nullptr;
  Object* cgroup = nullptr;  // host/cgroup.h; null: the root of the hierarchy
  bool exited = false;
  std::vector<InFlight> in_flight;
  BpfLocalStorage* bpf_storage = nullptr;  // what task storage maps keep for this task
};

// The current task holds this reference until the scope ends or hands it on. Taking and putting it stays with
// the caller: this only shows it.
class Holding {
 public:
  Holding(Machine& machine, const Object& object, const char* via, bool uref = false);
  ~Holding() { release(); }
  Holding(const Holding&) = delete;
  void release();  // the reference has found another holder, or is gone

 private:
  Task* task_;
  const Object* object_;
};

Result<int> sys_close(Task& task, int fd);
Result<int> sys_dup(Task& task, int fd);
void copy_files(Task& child, const Task& parent);  // fork: the same Files, one more reference each
void exit_files(Task& task);
// Descriptors 0, 1 and 2 of a process that a terminal started: one open file, three times.
void open_terminal(Task& task);
extern const FileOps tty_fops;

// The task whose syscall this is; only a context that has one gets here.
Task& current_task(const Machine& machine);
// The one with this pid, running or exited, or null.
Task* find_task_by_vpid(const Machine& machine, int pid);
// The object behind a file that a descriptor named, or behind a descriptor of the current task, if its file
// is of this kind: -EBADF when nothing is open there, else `other`. The refusal is the caller's.
Result<Object*> object_of_file(const File* file, int fd, const FileOps& f_op, Errno other,
                               std::source_location where);
template <class T>
Result<T*> object_of_fd(const Machine& machine, int fd, const FileOps& f_op, Errno other = Errno::Inval,
                        std::source_location where = std::source_location::current()) {
  const File* file = machine.current->task ? machine.current->task->files.get(fd) : nullptr;
  return static_cast<T*>(TRY(object_of_file(file, fd, f_op, other, where)));
}
// A descriptor for a new file that nobody has counted yet; -EMFILE leaves the file to the caller.
Result<int> fd_install(Task& task, File& file);
// A new descriptor of the current task for an object, whose reference moves from the caller into the file.
Result<int64_t> anon_inode_getfd(Machine& machine, const FileOps& f_op, Object& object, uint32_t f_flags,
                                 Holding& reference);
// The same for a file that stands for no object.
Result<int64_t> anon_inode_getfd(Machine& machine, const FileOps& f_op, uint32_t f_flags);
// /proc/PID/fdinfo/FD
Result<std::string> fdinfo(const Task& task, int fd);

}  // namespace bpfsim
