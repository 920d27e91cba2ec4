// Models: kernel/bpf/arena.c (Linux 6.18)
//
// Pages that a program and a process share, at the same lower 32 bits of their addresses, so that pointers in
// them serve both. Where the process has them is fixed by map_extra or by the first mmap; a range never
// crosses 4 GiB. Departs from the kernel: pages do not come one by one when they are touched, the first mmap
// takes all of them from the machine's memory (-ENOMEM when that is too small), and BPF_F_SEGV_ON_FAULT
// changes nothing. Not modelled yet:
// programs that use an arena, which the verifier refuses, and bpf_arena_alloc_pages.
#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"
#include "object/ops.h"

namespace bpfsim {

namespace {

constexpr uint64_t SZ_4G = 1ull << 32;

struct BpfArena final : Map {
  using Map::Map;
  ~BpfArena() override { machine.arena.free(pages); }
  uint64_t vm_range() const { return user_vm_end - user_vm_start; }

  uint64_t user_vm_start = 0, user_vm_end = 0;  // 0: nobody has said it yet
  Span pages;
};

BpfArena& arena_of(Map& map) { return static_cast<BpfArena&>(map); }
const BpfArena& arena_of(const Map& map) { return static_cast<const BpfArena&>(map); }

Result<void> build(BpfArena& arena, const bpf_attr& attr) {
  arena.user_vm_start = attr.map_extra;
  if (attr.map_extra) arena.user_vm_end = attr.map_extra + attr.max_entries * kPageSize;
  return {};
}

Result<Map*> arena_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.key_size || attr.value_size)
    return refuse(Errno::Inval, "key_size and value_size must be 0, are {} and {}", attr.key_size,
                  attr.value_size);
  if (attr.max_entries == 0) return refuse(Errno::Inval, "max_entries, the pages, must not be 0");
  if (!(attr.map_flags & BPF_F_MMAPABLE)) return refuse(Errno::Inval, "an arena wants BPF_F_MMAPABLE");
  if (uint32_t extra = attr.map_flags & ~(BPF_F_SEGV_ON_FAULT | BPF_F_MMAPABLE | BPF_F_NO_USER_CONV))
    return refuse(Errno::Inval, "map_flags {} are not for an arena", extra);
  if (attr.map_extra % kPageSize)
    return refuse(Errno::Inval, "map_extra, the user address, must lie at a page, is {}", attr.map_extra);
  const uint64_t range = attr.max_entries * kPageSize;
  if (range > SZ_4G) return refuse(Errno::TooBig, "{} pages are more than 4 GiB", attr.max_entries);
  if (attr.map_extra / SZ_4G != (attr.map_extra + range - 1) / SZ_4G)
    return refuse(Errno::Range, "{} pages from address {} cross 4 GiB", attr.max_entries, attr.map_extra);
  return new_map<BpfArena>(machine, attr, build);
}

void arena_map_free(Map& map) { delete &arena_of(map); }

Result<void*> arena_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::Inval, "an arena has no elements");
}

Result<void> arena_map_update_elem(Map&, const void*, const void*, uint64_t) {
  return refuse(Errno::OpNotSupp, "an arena has no elements");
}

Result<void> arena_map_delete_elem(Map&, const void*) {
  return refuse(Errno::OpNotSupp, "an arena has no elements");
}

Result<void> arena_map_get_next_key(Map&, const void*, void*) {
  return refuse(Errno::OpNotSupp, "an arena has no keys");
}

Result<void> arena_map_push_elem(Map&, const void*, uint64_t) {
  return refuse(Errno::OpNotSupp, "an arena has no elements");
}

Result<void> arena_map_pop_elem(Map&, void*) { return refuse(Errno::OpNotSupp, "an arena has no elements"); }
Result<void> arena_map_peek_elem(Map&, void*) { return refuse(Errno::OpNotSupp, "an arena has no elements"); }

Result<void> arena_map_check_btf(const Map&, const Btf&, uint32_t, uint32_t) { return {}; }

// Once the range is known, every process must have it at the same place.
Result<void> arena_get_unmapped_area(const Map& map, uint64_t address, uint64_t offset, uint64_t length) {
  const BpfArena& arena = arena_of(map);
  if (offset) return refuse(Errno::Inval, "an arena is mapped from its start, not from {}", offset);
  if (length > SZ_4G) return refuse(Errno::TooBig, "{} bytes are more than 4 GiB", length);
  if (!arena.user_vm_start) return {};
  if (length > arena.vm_range())
    return refuse(Errno::TooBig, "{} bytes are more than the arena's {}", length, arena.vm_range());
  if (length != arena.vm_range())
    return refuse(Errno::Inval, "an arena of {} bytes is mapped whole, not {}", arena.vm_range(), length);
  if (address != arena.user_vm_start)
    return refuse(Errno::Inval, "the arena lies at {}, not at {}", arena.user_vm_start, address);
  return {};
}

// As 6.18's stable releases: what came first let a fork share the mapping and a munmap cut it.
Result<Span> arena_map_mmap(Map& map, Vma& vma) {
  BpfArena& arena = arena_of(map);
  if (arena.user_vm_start && vma.start != arena.user_vm_start)
    return refuse(Errno::Busy, "the arena lies at {}, and something else is there in this task",
                  arena.user_vm_start);
  if (arena.user_vm_end && vma.length != arena.vm_range())
    return refuse(Errno::Busy, "the arena is mapped with {} bytes", arena.vm_range());
  if (!arena.pages) arena.pages = TRY(map.machine.arena.alloc(vma.length, "arena pages"));
  arena.user_vm_start = vma.start;
  arena.user_vm_end = vma.start + vma.length;
  vma.whole = true;
  return arena.pages;
}

Result<Addr> arena_map_direct_value_addr(const Map& map, uint32_t offset) {
  const BpfArena& arena = arena_of(map);
  if (offset >= arena.vm_range())
    return refuse(Errno::Range, "offset {} is not inside the arena's {} bytes", offset, arena.vm_range());
  return arena.user_vm_start;
}

uint64_t arena_map_mem_usage(const Map&) { return 0; }

}  // namespace

PagesView arena_view(const Map& map) {
  const BpfArena& arena = arena_of(map);
  return {map.max_entries, arena.user_vm_start, arena.user_vm_end, arena.pages ? arena.pages.addr : 0};
}

const MapOps arena_map_ops = {
    .map_alloc = OP(arena_map_alloc),
    .map_free = OP(arena_map_free),
    .map_get_next_key = OP(arena_map_get_next_key),
    .map_lookup_elem = OP(arena_map_lookup_elem),
    .map_update_elem = OP(arena_map_update_elem),
    .map_delete_elem = OP(arena_map_delete_elem),
    .map_push_elem = OP(arena_map_push_elem),
    .map_pop_elem = OP(arena_map_pop_elem),
    .map_peek_elem = OP(arena_map_peek_elem),
    .map_check_btf = OP(arena_map_check_btf),
    .map_direct_value_addr = OP(arena_map_direct_value_addr),
    .map_mmap = OP(arena_map_mmap),
    .map_get_unmapped_area = OP(arena_get_unmapped_area),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(arena_map_mem_usage),
};

}  // namespace bpfsim
