// Models: include/linux/bpf.h, include/linux/slab.h, include/linux/percpu.h (Linux 6.18)
//
// What more than one map file asks of the attributes of BPF_MAP_CREATE, and the limits of the kernel's
// allocators that show through as E2BIG.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "base/align.h"
#include "object/file.h"
#include "object/map.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

namespace bpfsim {

inline constexpr uint64_t KMALLOC_MAX_SIZE = 4ull << 20;
inline constexpr uint64_t PCPU_MIN_UNIT_SIZE = 32 << 10;

inline constexpr uint32_t BPF_F_ACCESS_MASK =
    BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;

inline constexpr int NUMA_NO_NODE = -1;
inline int bpf_map_attr_numa_node(const bpf_attr& attr) {
  return attr.map_flags & BPF_F_NUMA_NODE ? int(attr.numa_node) : NUMA_NO_NODE;
}

// A map cannot be read-only and write-only for programs at once.
inline bool bpf_map_flags_access_ok(uint32_t flags) {
  return (flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)) != (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG);
}

// A key, or a value, that is one number.
template <class T>
T key_as(const void* key) {
  T number;
  std::memcpy(&number, key, sizeof number);
  return number;
}

// The kernel's letters are Latin-1's: 0xff is one, the signs for times (0xd7) and divided by (0xf7) are none.
inline bool bpf_name_char(char c) {
  const uint8_t byte = uint8_t(c);
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
         (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7);
}

// One value, less its special fields: those of the place that it is copied to stay as they are.
inline void copy_map_value(const Map& map, void* to, const void* from) {
  if (!map.record) {
    std::memcpy(to, from, map.value_size);
  } else {
    bpf_obj_memcpy(map.record, to, from, map.value_size);
  }
}
// Of a per-CPU map: with the bytes that round it up to 8, but not if it has special fields.
inline void copy_map_value_long(const Map& map, void* to, const void* from) {
  bpf_obj_memcpy(map.record, to, from, map.record ? map.value_size : uint32_t(round_up(map.value_size, 8)));
}
// The copies for all CPUs, one behind the other on both sides; user space never sees the special fields.
inline void copy_map_values(const Map& map, void* to, const void* from, bool to_user) {
  const uint64_t stride = round_up(map.value_size, 8);
  for (uint32_t cpu = 0; cpu < map.machine.cpus; ++cpu) {
    uint8_t* one = static_cast<uint8_t*>(to) + cpu * stride;
    copy_map_value_long(map, one, static_cast<const uint8_t*>(from) + cpu * stride);
    if (to_user) bpf_obj_init(map.record, one);
  }
}

// Before 5.11 memory counted in 32 bits of bytes, also that of elements that are made later. (Against
// RLIMIT_MEMLOCK: that is not modelled.)
Result<void> bpf_map_charge_init(const Machine& machine, uint64_t cost);

// The allocator of per-CPU memory gives no more than a unit.
Result<void> pcpu_fits(uint64_t size);

// A new map, or the refusal of what it allocates: `build` fills the map in and may fail.
template <class M>
Result<Map*> new_map(Machine& machine, const bpf_attr& attr, Result<void> (*build)(M&, const bpf_attr&)) {
  std::unique_ptr<M> map(new M(machine, attr));
  TRY(build(*map, attr));
  return static_cast<Map*>(map.release());
}

// The map_check_btf of types whose keys and values have no BTF.
Result<void> map_check_no_btf(const Map& map, const Btf& btf, uint32_t key_type, uint32_t value_type);

}  // namespace bpfsim
