// Models: include/linux/bpf.h (struct btf_record, bpf_obj_memcpy, bpf_obj_init) (Linux 6.18)
//
// Special fields: members of a map's value (or of an object that a program allocates) that the kernel itself
// looks after. btf/btf_fields.h finds them in BTF; who copies or frees such a value steps over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bpfsim {

enum btf_field_type : uint32_t {
  BPF_SPIN_LOCK = 1 << 0,
  BPF_TIMER = 1 << 1,
  BPF_KPTR_UNREF = 1 << 2,
  BPF_KPTR_REF = 1 << 3,
  BPF_KPTR_PERCPU = 1 << 4,
  BPF_KPTR = BPF_KPTR_UNREF | BPF_KPTR_REF | BPF_KPTR_PERCPU,
  BPF_LIST_HEAD = 1 << 5,
  BPF_LIST_NODE = 1 << 6,
  BPF_RB_ROOT = 1 << 7,
  BPF_RB_NODE = 1 << 8,
  BPF_GRAPH_NODE = BPF_LIST_NODE | BPF_RB_NODE,
  BPF_GRAPH_ROOT = BPF_LIST_HEAD | BPF_RB_ROOT,
  BPF_REFCOUNT = 1 << 9,
  BPF_WORKQUEUE = 1 << 10,
  BPF_UPTR = 1 << 11,
  BPF_RES_SPIN_LOCK = 1 << 12,
  BPF_TASK_WORK = 1 << 13,
};
inline constexpr size_t BTF_FIELDS_MAX = 11;

struct BtfField {
  btf_field_type type{};
  uint32_t offset = 0, size = 0;
  uint32_t btf_id = 0;         // a kptr's struct, or the struct that a list or tree holds
  bool kernel_struct = false;  // the kernel has a struct of the kptr's name
  std::string node_name;       // of a list or tree: by which member its elements are linked
  uint32_t node_offset = 0;
  bool operator==(const BtfField&) const = default;
};

struct BtfRecord {
  uint32_t field_mask = 0;
  std::vector<BtfField> fields;  // by offset
  explicit operator bool() const { return !fields.empty(); }
  bool has(uint32_t types) const { return field_mask & types; }
  bool operator==(const BtfRecord&) const = default;
};

// Values: copying leaves the special fields of `to` alone, init makes them new.
void bpf_obj_memcpy(const BtfRecord& record, void* to, const void* from, uint32_t size);
void bpf_obj_init(const BtfRecord& record, void* value);

}  // namespace bpfsim
