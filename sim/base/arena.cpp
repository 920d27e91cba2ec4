// Models: mm/slub.c (Linux 6.18)
//
// A slab is a run of pages cut into equal slots with a list of free ones; a large object is a run of its own.
#include "base/arena.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

namespace bpfsim {

namespace {

// The sizes of the kernel's kmalloc caches.
constexpr std::array<uint64_t, 13> kClasses = {8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192};

size_t class_of(uint64_t size) {
  return size_t(std::lower_bound(kClasses.begin(), kClasses.end(), size) - kClasses.begin());
}

// Asks the host for huge pages under a large object, where there are such: a random access to a big hash then
// seldom waits for a page table. Whole ones inside the object only, so no more memory is touched.
void want_huge_pages([[maybe_unused]] uint8_t* at, [[maybe_unused]] uint64_t size) {
#ifdef MADV_HUGEPAGE
  constexpr uint64_t kHuge = 2 << 20;
  const uint64_t skip = -reinterpret_cast<uintptr_t>(at) % kHuge;
  if (size >= skip + kHuge) madvise(at + skip, (size - skip) / kHuge * kHuge, MADV_HUGEPAGE);
#endif
}

uint64_t pages_for(uint64_t bytes) { return (bytes + kPageSize - 1) / kPageSize; }

}  // namespace

struct Arena::Run {
  uint64_t first_page, pages;
  uint64_t object_size;         // distance between slots
  std::vector<uint32_t> empty;  // free slots, the next one to hand out last
  std::vector<Block> slots;     // owner == nullptr: free
};

void Arena::FreeBlock::operator()(uint8_t* p) const { std::free(p); }

// calloc of a large block is committed page by page on first touch by every desktop system, so the reserve
// costs address space only.
Arena::Arena(uint64_t reserve_bytes)
    : raw_(static_cast<uint8_t*>(std::calloc(reserve_bytes + kPageSize, 1))), partial_(kClasses.size()) {
  if (!raw_) throw std::bad_alloc();
  uint64_t at = reinterpret_cast<uintptr_t>(raw_.get());
  block_ = raw_.get() + ((kPageSize - at % kPageSize) % kPageSize);
  reserve_ = reserve_bytes / kPageSize * kPageSize;
}

Arena::~Arena() = default;

uint64_t Arena::take_pages(uint64_t pages) {
  for (auto it = free_pages_.begin(); it != free_pages_.end(); ++it) {
    auto [first, count] = *it;
    if (count < pages) continue;
    free_pages_.erase(it);
    if (count > pages) free_pages_.emplace(first + pages, count - pages);
    return first;
  }
  uint64_t first = next_page_;
  next_page_ += pages;
  run_of_page_.resize(next_page_);
  return first;
}

void Arena::give_pages(uint64_t first, uint64_t pages) {
  std::fill_n(run_of_page_.begin() + int64_t(first), pages, 0);
  auto after = free_pages_.lower_bound(first);
  if (after != free_pages_.end() && first + pages == after->first) {
    pages += after->second;
    after = free_pages_.erase(after);
  }
  if (after != free_pages_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == first) {
      before->second += pages;
      return;
    }
  }
  free_pages_.emplace(first, pages);
}

Result<uint32_t> Arena::new_run(uint64_t pages, uint64_t object_size) {
  bool fits =
      reserve_ / kPageSize - next_page_ >= pages ||
      std::any_of(free_pages_.begin(), free_pages_.end(), [&](auto& run) { return run.second >= pages; });
  if (!fits) return refuse(Errno::NoMem, "the machine's arena of {} bytes is used up", reserve_);

  uint64_t first = take_pages(pages);
  uint32_t index;
  if (spare_runs_.empty()) {
    index = uint32_t(runs_.size());
    runs_.push_back(std::make_unique<Run>());
  } else {
    index = spare_runs_.back();
    spare_runs_.pop_back();
  }
  Run& run = *runs_[index];
  uint32_t slots = uint32_t(pages * kPageSize / object_size);
  run = Run{first, pages, object_size, {}, std::vector<Block>(slots, Block{0, 0, nullptr})};
  for (uint32_t slot = slots; slot-- > 0;) run.empty.push_back(slot);
  std::fill_n(run_of_page_.begin() + int64_t(first), pages, index + 1);
  return index;
}

Result<Span> Arena::alloc(uint64_t size, const char* owner) {
  if (size == 0) size = 1;
  if (size > reserve_)
    return refuse(Errno::NoMem, "{} bytes exceed the machine's arena of {}", size, reserve_);
  size_t cls = class_of(size);
  bool large = size >= kPageSize;
  uint32_t index;
  if (large) {
    uint64_t pages = pages_for(size);
    index = TRY(new_run(pages, pages * kPageSize));
  } else {
    if (partial_[cls].empty())
      partial_[cls].push_back(TRY(new_run(pages_for(kClasses[cls] * 8), kClasses[cls])));
    index = partial_[cls].back();
  }
  Run& run = *runs_[index];
  uint32_t slot = run.empty.back();
  run.empty.pop_back();
  if (!large && run.empty.empty()) partial_[cls].pop_back();

  uint64_t offset = run.first_page * kPageSize + slot * run.object_size;
  run.slots[slot] = Block{kArenaBase + offset, size, owner};
  if (large) want_huge_pages(block_ + offset, size);
  std::memset(block_ + offset, 0, size);
  live_bytes_ += size;
  ++live_objects_;
  return Span{kArenaBase + offset, block_ + offset, size};
}

void Arena::free(const Span& span) {
  if (!span) return;
  uint64_t offset = span.addr - kArenaBase;
  uint32_t index = run_of_page_[offset / kPageSize] - 1;
  Run& run = *runs_[index];
  uint32_t slot = uint32_t((offset - run.first_page * kPageSize) / run.object_size);
  live_bytes_ -= run.slots[slot].size;
  --live_objects_;
  run.slots[slot].owner = nullptr;
  run.empty.push_back(slot);

  if (run.slots.size() == 1) {  // a large object
    give_pages(run.first_page, run.pages);
    run.slots.clear();
    spare_runs_.push_back(index);
  } else if (run.empty.size() == 1) {
    partial_[class_of(run.object_size)].push_back(index);
  }
}

const Arena::Block* Arena::find(Addr addr) const {
  uint64_t offset = addr - kArenaBase;
  if (offset >= next_page_ * kPageSize) return nullptr;
  uint32_t index = run_of_page_[offset / kPageSize];
  if (index == 0) return nullptr;
  const Run& run = *runs_[index - 1];
  uint64_t slot = (offset - run.first_page * kPageSize) / run.object_size;
  if (slot >= run.slots.size() || !run.slots[slot].owner) return nullptr;
  const Block& block = run.slots[slot];
  return addr < block.addr + block.size ? &block : nullptr;
}

}  // namespace bpfsim
