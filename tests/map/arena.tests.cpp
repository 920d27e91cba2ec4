// Arenas: what creating and mapping them refuses.
#include "support.h"

using namespace bpfsim;

TEST_CASE("the range of an arena ends at 4 GiB and does not cross it") {
  Maps m;
  struct {
    uint32_t pages, flags;
    uint64_t extra;
    Errno err;
  } const rows[] = {
      {1, BPF_F_MMAPABLE, 0, Errno::None},
      {1, 0, 0, Errno::Inval},
      {0, BPF_F_MMAPABLE, 0, Errno::Inval},
      {1 << 20, BPF_F_MMAPABLE, 0, Errno::None},
      {(1 << 20) + 1, BPF_F_MMAPABLE, 0, Errno::TooBig},
      {1, BPF_F_MMAPABLE, 4097, Errno::Inval},
      {1, BPF_F_MMAPABLE, 0xfffff000, Errno::None},
      {2, BPF_F_MMAPABLE, 0xfffff000, Errno::Range},
      {1, BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV, 0, Errno::None},
      {1, BPF_F_MMAPABLE | BPF_F_NUMA_NODE, 0, Errno::Inval},
  };
  for (const auto& row : rows) {
    Result<Map*> map = m.create({BPF_MAP_TYPE_ARENA, 0, 0, row.pages, row.flags, row.extra});
    CHECK(name(map.err()) == name(row.err));
    if (map) free_map(**map);
  }
}

TEST_CASE("whoever maps an arena first says where it lies") {
  Maps m;
  Map& map = m.need({BPF_MAP_TYPE_ARENA, 0, 0, 4, BPF_F_MMAPABLE});
  const MapOps& ops = *map.ops;
  CHECK(ops.map_direct_value_addr(map, 0).err() == Errno::Range);
  CHECK(ops.map_get_unmapped_area(map, 0, 4096, 4096).err() == Errno::Inval);
  CHECK(ops.map_get_unmapped_area(map, 0, 0, (4ull << 30) + 1).err() == Errno::TooBig);
  CHECK(ops.map_get_unmapped_area(map, 0, 0, 4 * 4096).ok());
  const uint64_t start = kMmapBase + 4096;
  auto mapped_at = [&](uint64_t address, uint64_t length) {
    Vma vma{address, length, 0, nullptr, true, true, true, {}};
    return ops.map_mmap(map, vma);
  };
  REQUIRE(mapped_at(start, 4 * 4096));
  CHECK(*ops.map_direct_value_addr(map, 0) == start);
  CHECK(ops.map_direct_value_addr(map, 4 * 4096).err() == Errno::Range);
  CHECK(ops.map_get_unmapped_area(map, start, 0, 5 * 4096).err() == Errno::TooBig);
  CHECK(ops.map_get_unmapped_area(map, start, 0, 3 * 4096).err() == Errno::Inval);
  CHECK(ops.map_get_unmapped_area(map, 0, 0, 4 * 4096).err() == Errno::Inval);
  CHECK(ops.map_get_unmapped_area(map, start, 0, 4 * 4096).ok());
  CHECK(mapped_at(start, 4096).err() == Errno::Busy);
  CHECK(mapped_at(start + 4 * 4096, 4 * 4096).err() == Errno::Busy);
  free_map(map);
  CHECK(m.machine.arena.live_bytes() == m.live_before);
}
