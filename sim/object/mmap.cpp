// Models: mm/mmap.c, mm/vma.c (Linux 6.18)
//
// A task's mappings, in the order in which they were made. The checks are those of mmap(2) in their order;
// then the file decides. A mapping that is cut in the middle becomes two. Departs from the kernel: addresses
// are never used twice, neighbours are not merged, nothing is paged in late. Not modelled yet: mappings
// without a file, MAP_FIXED, mprotect, mremap.
#include "object/mmap.h"

#include <algorithm>
#include <cstring>

#include "base/align.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint64_t kTaskSize = (1ull << 47) - kPageSize, kMmapMinAddr = 64 << 10;
// Flags that every kernel knew; MAP_SHARED_VALIDATE refuses any other.
constexpr uint32_t kLegacyFlags = 0x1f | MAP_ANONYMOUS_ | MAP_GROWSDOWN_ | 0x800 | 0x1000 | 0x2000 | 0x4000 |
                                  0x8000 | 0x10000 | 0x20000 | MAP_HUGETLB_ | 0x40 | 0x80 | 0xfc000000;

uint64_t page_align(uint64_t size) { return round_up(size, kPageSize); }

Result<void> check_length(uint64_t length, uint64_t offset) {
  if (length == 0) return refuse(Errno::Inval, "length must not be 0");
  const uint64_t aligned = page_align(length);
  if (aligned == 0 || aligned >= kTaskSize)
    return refuse(Errno::NoMem, "{} bytes do not fit into a task's addresses", length);
  if (offset / kPageSize > (UINT64_MAX - aligned) / kPageSize)
    return refuse(Errno::Overflow, "offset {} and length {} are beyond 64 bits", offset, length);
  return {};
}

// What the descriptor allows, and what the kind of file allows.
Result<void> check_access(const File& file, uint32_t prot, uint32_t flags) {
  const uint32_t type = flags & MAP_TYPE_;
  if (type != MAP_SHARED_ && type != MAP_PRIVATE_ && type != MAP_SHARED_VALIDATE_)
    return refuse(Errno::Inval, "flags must say MAP_SHARED or MAP_PRIVATE, are {}", flags);
  if (type == MAP_SHARED_VALIDATE_ && flags & ~kLegacyFlags)
    return refuse(Errno::OpNotSupp, "MAP_SHARED_VALIDATE does not know flags {}", flags & ~kLegacyFlags);
  if (type != MAP_PRIVATE_ && prot & PROT_WRITE_ && !(file.f_mode & FMODE_WRITE))
    return refuse(Errno::Access, "PROT_WRITE, but the descriptor is read-only");
  if (!(file.f_mode & FMODE_READ)) return refuse(Errno::Access, "the descriptor is write-only");
  if (prot & PROT_EXEC_ && has(Gate::anon_inode_noexec, file.machine.version))
    return refuse(Errno::Perm, "nothing of this file system can be executed");
  if (!file.f_op.mmap) return refuse(Errno::NoDev, "a {} cannot be mapped", file.f_op.name);
  if (flags & MAP_GROWSDOWN_) return refuse(Errno::Inval, "MAP_GROWSDOWN is not for files");
  return {};
}

void close_vma(const Task& task, const Vma& vma) {
  if (vma.file->f_op.mmap->close) vma.file->f_op.mmap->close(*vma.file, vma);
  fput(*vma.file, {"munmap by task {}", task.pid});
}

// Part of a mapping as a mapping of its own, with a reference of its own.
Vma split_vma(const Task& task, const Vma& vma, uint64_t start, uint64_t length) {
  Vma part = vma;
  const uint64_t skip = start - vma.start;
  part.start = start;
  part.length = length;
  part.offset += skip;
  part.pages = {vma.pages.addr + skip, vma.pages.host + skip, length};
  get_file(*part.file, {"part of a mapping of task {}", task.pid});
  if (part.file->f_op.mmap->open) part.file->f_op.mmap->open(*part.file, part);
  return part;
}

bool inside(const Vma& vma, uint64_t addr) { return vma.start < addr && addr < vma.start + vma.length; }

void insert(Task& task, size_t at, const Vma& vma) {
  task.mappings.insert(task.mappings.begin() + long(at), vma);
}

const Vma* find_vma(const Task& task, uint64_t addr) {
  for (const Vma& vma : task.mappings)
    if (addr - vma.start < vma.length) return &vma;
  return nullptr;
}

bool overlaps(const Task& task, uint64_t start, uint64_t length) {
  return std::any_of(task.mappings.begin(), task.mappings.end(), [&](const Vma& vma) {
    return start < vma.start + vma.length && vma.start < start + length;
  });
}

// Whether so many bytes may lie there: below the end of a task, or where the mappings of ours begin.
bool in_task(uint64_t address, uint64_t length) {
  const uint64_t from = address >= kMmapBase ? address - kMmapBase : address;
  return from <= kTaskSize && length <= kTaskSize - from;
}

uint64_t round_hint_to_min(uint64_t address) {
  address -= address % kPageSize;
  return address ? std::max(address, kMmapMinAddr) : 0;
}

// Where the mapping goes: to the address that the caller asks for only where the file has a say in it (an
// arena), and else behind all others. No such file's mapping crosses 4 GiB; so that it need not, twice the
// room must be free.
Result<uint64_t> get_unmapped_area(const Task& task, const File& file, uint64_t address, uint64_t offset,
                                   uint64_t length) {
  if (!file.f_op.mmap || !file.f_op.mmap->get_unmapped_area) return task.next_mapping;
  address = round_hint_to_min(address);
  TRY(file.f_op.mmap->get_unmapped_area(file, address, offset, length));
  const bool is_free = address && in_task(address, 2 * length) && !overlaps(task, address, 2 * length);
  const uint64_t start = is_free ? address : task.next_mapping;
  constexpr uint64_t k4G = 1ull << 32;
  const bool crosses = start / k4G != (start + length - 1) / k4G;
  return crosses ? (start / k4G + 1) * k4G : start;
}

// Page by page, since neighbours in a task need not be neighbours in memory.
template <class Copy>
Result<void> access(const Task& task, uint64_t addr, uint64_t size, bool write, const Copy& copy) {
  for (uint64_t done = 0; done < size;) {
    const uint64_t at = addr + done;
    const Vma* vma = find_vma(task, at);
    if (!vma) return refuse(Errno::Fault, "nothing is mapped at {}", at);
    if (!(write ? vma->write : vma->read))
      return refuse(Errno::Fault, "the mapping at {} cannot be {}", at, write ? "written" : "read");
    uint64_t offset = vma->offset + (at - vma->start);
    const uint64_t part = std::min(size - done, kPageSize - offset % kPageSize);
    if (vma->file->f_op.mmap->page) offset = vma->file->f_op.mmap->page(*vma->file, offset);
    copy(vma->pages.host + int64_t(offset - vma->offset), done, part);
    done += part;
  }
  return {};
}

}  // namespace

Result<uint64_t> sys_mmap(Task& task, int fd, uint64_t length, uint32_t prot, uint32_t flags, uint64_t offset,
                          uint64_t address) {
  KFN(task.machine, ksys_mmap_pgoff);
  if (offset % kPageSize) return refuse(Errno::Inval, "offset must be whole pages, is {}", offset);
  if (flags & (MAP_FIXED_ | MAP_ANONYMOUS_))
    return refuse(Errno::Inval, "not modelled yet: MAP_FIXED and MAP_ANONYMOUS");
  BorrowedFile borrowed(task.machine, task.files.get(fd));
  File* file = borrowed.get();
  if (!file) return refuse(Errno::BadF, "fd {} of task {} is not open", fd, task.pid);
  if (flags & MAP_HUGETLB_) return refuse(Errno::Inval, "MAP_HUGETLB is for huge pages' files");
  TRY(check_length(length, offset));
  const uint64_t start = TRY(get_unmapped_area(task, *file, address, offset, page_align(length)));
  TRY(check_access(*file, prot, flags));
  // What nobody can ever write through is not counted as shared, and a map refuses it.
  const bool shared = (flags & MAP_TYPE_) != MAP_PRIVATE_ && file->f_mode & FMODE_WRITE;
  const bool read = prot & (PROT_READ_ | PROT_WRITE_), write = prot & PROT_WRITE_;
  Vma vma{start, page_align(length), offset, file, shared, read, write, {}};
  vma.pages = TRY(file->f_op.mmap->mmap(*file, vma));
  if (start >= task.next_mapping)
    task.next_mapping = start + vma.length + kPageSize;  // a page between them catches what runs over
  get_file(*file, {"mmap of fd {} by task {}", fd, task.pid});
  task.mappings.push_back(vma);
  return vma.start;
}

Result<void> sys_munmap(Task& task, uint64_t addr, uint64_t length) {
  KFN(task.machine, do_munmap);
  if (addr % kPageSize || length == 0 || !in_task(addr, length))
    return refuse(Errno::Inval, "{} bytes at {} are not whole pages of a task", length, addr);
  const uint64_t end = addr + page_align(length);
  for (const Vma& vma : task.mappings)
    if (vma.whole && (inside(vma, addr) || inside(vma, end)))
      return refuse(Errno::Inval, "the {} bytes mapped at {} go only as a whole", vma.length, vma.start);
  for (size_t i = 0; i < task.mappings.size();) {
    const Vma vma = task.mappings[i];
    const uint64_t vma_end = vma.start + vma.length;
    if (vma_end <= addr || vma.start >= end) {
      ++i;
      continue;
    }
    if (vma_end > end) insert(task, i + 1, split_vma(task, vma, end, vma_end - end));
    if (vma.start < addr) insert(task, i + 1, split_vma(task, vma, vma.start, addr - vma.start));
    task.mappings.erase(task.mappings.begin() + long(i));
    close_vma(task, vma);
  }
  return {};
}

void dup_mmap(Task& child, const Task& parent) {
  KFN(child.machine, dup_mmap);
  child.next_mapping = parent.next_mapping;
  for (const Vma& vma : parent.mappings) {
    if (vma.whole) continue;
    get_file(*vma.file, {"fork: mapping of task {}", child.pid});
    if (vma.file->f_op.mmap->open) vma.file->f_op.mmap->open(*vma.file, vma);
    child.mappings.push_back(vma);
  }
}

void exit_mmap(Task& task) {
  KFN(task.machine, exit_mmap);
  while (!task.mappings.empty()) {
    const Vma vma = task.mappings.back();
    task.mappings.pop_back();
    close_vma(task, vma);
  }
}

Result<void> user_load(const Task& task, uint64_t addr, void* to, uint64_t size) {
  return access(task, addr, size, false, [&](uint8_t* page, uint64_t at, uint64_t part) {
    std::memcpy(static_cast<uint8_t*>(to) + at, page, part);
  });
}

Result<void> user_store(const Task& task, uint64_t addr, const void* from, uint64_t size) {
  return access(task, addr, size, true, [&](uint8_t* page, uint64_t at, uint64_t part) {
    std::memcpy(page, static_cast<const uint8_t*>(from) + at, part);
  });
}

bool MappedMemory::read(void* to, uint64_t user, size_t size) {
  return machine.current->task && bool(user_load(*machine.current->task, user, to, size));
}

bool MappedMemory::write(uint64_t user, const void* from, size_t size) {
  return machine.current->task && bool(user_store(*machine.current->task, user, from, size));
}

}  // namespace bpfsim
