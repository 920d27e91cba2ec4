// Models: mm/slub.c (Linux 6.18)
//
// The memory that a BPF program can reach. Programs see simulated kernel addresses, the same in every machine
// and every run; the bytes lie in one block of the process, anywhere. host = address + (block - kArenaBase),
// so the engines keep one difference in a register. Small objects come from slabs of one size, as kmalloc
// gives them, large ones are runs of pages. Every live object is known: `find` answers which one an address
// lies in, for the checked engine. Departs from the kernel: one arena, no NUMA nodes, allocation is
// deterministic and zeroes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "uapi/result.h"

namespace bpfsim {

using Addr = uint64_t;  // a simulated kernel address

inline constexpr Addr kArenaBase = 0xffff888000000000;
inline constexpr uint64_t kPageSize = 4096;

struct Span {
  Addr addr = 0;
  uint8_t* host = nullptr;
  uint64_t size = 0;
  explicit operator bool() const { return host != nullptr; }
};

class Arena {
 public:
  explicit Arena(uint64_t reserve_bytes);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Zeroed memory for `owner` (a literal: "array_map elements"); -ENOMEM when the reserve is used up. Objects
  // of a page or more start at a page.
  Result<Span> alloc(uint64_t size, const char* owner);
  void free(const Span& span);

  uint8_t* host(Addr addr) const { return block_ + (addr - kArenaBase); }
  Addr addr(const void* host) const {
    return kArenaBase + uint64_t(static_cast<const uint8_t*>(host) - block_);
  }
  bool contains(Addr addr, uint64_t size) const {
    return addr - kArenaBase < reserve_ && size <= reserve_ - (addr - kArenaBase);
  }

  struct Block {
    Addr addr;
    uint64_t size;
    const char* owner;
  };
  const Block* find(Addr addr) const;  // the live object around an address, or null

  uint64_t reserve() const { return reserve_; }
  uint64_t live_bytes() const { return live_bytes_; }
  uint64_t live_objects() const { return live_objects_; }
  uint64_t touched() const { return next_page_ * kPageSize; }  // bytes from the base that were ever in use

 private:
  struct Run;  // a slab of equal small objects, or one large object
  uint64_t take_pages(uint64_t pages);
  void give_pages(uint64_t first, uint64_t pages);
  Result<uint32_t> new_run(uint64_t pages, uint64_t object_size);

  struct FreeBlock {
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t, FreeBlock> raw_;
  uint8_t* block_ = nullptr;
  uint64_t reserve_ = 0;
  uint64_t next_page_ = 0;                   // pages above were never used
  std::map<uint64_t, uint64_t> free_pages_;  // first page -> count, no two adjacent
  std::vector<uint32_t> run_of_page_;        // index into runs_ + 1; 0 = free
  std::vector<std::unique_ptr<Run>> runs_;
  std::vector<uint32_t> spare_runs_;
  std::vector<std::vector<uint32_t>> partial_;  // per size class: runs with a free slot
  uint64_t live_bytes_ = 0, live_objects_ = 0;

 public:
  ~Arena();
};

}  // namespace bpfsim
