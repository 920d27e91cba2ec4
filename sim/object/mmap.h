// Models: mm/mmap.c, mm/vma.c, include/uapi/asm-generic/mman-common.h (Linux 6.18)
//
// mmap(2) and munmap(2) of a map's pages: a task sees them at addresses from kMmapBase on, and the mapping
// holds the file as a descriptor does. What the task's own code loads and stores there goes through
// user_load and user_store; pointers into a mapping may also stand in union bpf_attr.
#pragma once

#include "object/file.h"

namespace bpfsim {

inline constexpr uint32_t PROT_NONE_ = 0, PROT_READ_ = 1, PROT_WRITE_ = 2, PROT_EXEC_ = 4;
inline constexpr uint32_t MAP_SHARED_ = 1, MAP_PRIVATE_ = 2, MAP_SHARED_VALIDATE_ = 3, MAP_TYPE_ = 0xf,
                          MAP_FIXED_ = 0x10, MAP_ANONYMOUS_ = 0x20, MAP_GROWSDOWN_ = 0x100,
                          MAP_HUGETLB_ = 0x40000;

// The address of the new mapping. `length` is rounded up to pages, `offset` must be whole pages; `address` is
// a wish, 0 for none, which only files that care where they lie (an arena's) follow.
Result<uint64_t> sys_mmap(Task& task, int fd, uint64_t length, uint32_t prot, uint32_t flags, uint64_t offset,
                          uint64_t address = 0);
// Whatever is mapped in that stretch goes, also a part of a mapping; nothing there is no error.
Result<void> sys_munmap(Task& task, uint64_t addr, uint64_t length);
void dup_mmap(Task& child, const Task& parent);  // fork
void exit_mmap(Task& task);

// A load or store by the task's own code: -EFAULT stands for its SIGSEGV.
Result<void> user_load(const Task& task, uint64_t addr, void* to, uint64_t size);
Result<void> user_store(const Task& task, uint64_t addr, const void* from, uint64_t size);

// What copy_from_user and copy_to_user find at such addresses, for the current task.
struct MappedMemory final : UserMemory {
  explicit MappedMemory(const Machine& machine) : machine(machine) {}
  bool read(void* to, uint64_t user, size_t size) override;
  bool write(uint64_t user, const void* from, size_t size) override;
  const Machine& machine;
};

}  // namespace bpfsim
