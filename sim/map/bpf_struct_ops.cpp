// Models: kernel/bpf/bpf_struct_ops.c, net/bpf/bpf_dummy_struct_ops.c (Linux 6.18)
//
// A table of functions of the kernel, such as a TCP congestion control, filled with programs: the map's one
// element is the struct, an update registers it. This machine has the struct that is there for tests,
// bpf_dummy_ops, which no map may register: an update is checked and ends with EOPNOTSUPP, as in the kernel.
// Not modelled yet: the other structs (tcp_congestion_ops, Qdisc_ops, sched_ext_ops, ...), whose creation is
// refused with ENOTSUPP as that of an unknown type; so no map ever leaves its first state.
#include "map/bpf_struct_ops.h"

#include <algorithm>
#include <cstring>

#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "map/common.h"
#include "map/map_types.h"
#include "object/btf.h"
#include "object/ops.h"

namespace bpfsim {

namespace {

// The value's struct begins with what the kernel adds (bpf_struct_ops_common_value); the table follows.
constexpr const char *kValueType = "bpf_struct_ops_bpf_dummy_ops", *kType = "bpf_dummy_ops";
constexpr uint32_t kCommonSize = 8;  // refcnt, state

const btf_type& kernel_struct(const char* name) {
  const BtfTypes& types = *vmlinux_btf().types;
  return *types.type_by_id(types.find_by_name(name, BTF_KIND_STRUCT));
}

uint32_t key_of(const void* key) {
  uint32_t number;
  std::memcpy(&number, key, sizeof number);
  return number;
}

Result<void> bpf_struct_ops_map_alloc_check(Machine& machine, const bpf_attr& attr) {
  if (attr.key_size != sizeof(uint32_t))
    return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.max_entries != 1) return refuse(Errno::Inval, "max_entries must be 1, is {}", attr.max_entries);
  uint32_t known = 0;
  if (machine.version >= "6.4"_v) known |= BPF_F_LINK;
  if (machine.version >= "6.9"_v) known |= BPF_F_VTYPE_BTF_OBJ_FD;
  if (uint32_t extra = attr.map_flags & ~known)
    return refuse(Errno::Inval, "map_flags {} are not for struct_ops", extra);
  if (!attr.btf_vmlinux_value_type_id)
    return refuse(Errno::Inval, "btf_vmlinux_value_type_id, the kernel's struct, must be set");
  return {};
}

Result<void> nothing_to_build(Map&, const bpf_attr&) { return {}; }

Result<Map*> bpf_struct_ops_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.map_flags & BPF_F_VTYPE_BTF_OBJ_FD) {
    TRY(object_of_fd(machine, attr.value_type_btf_obj_fd, btf_fops));
    return refuse(Errno::Inval, "BTF {} is not that of a kernel module", attr.value_type_btf_obj_fd);
  }
  const uint32_t known = vmlinux_btf().types->find_by_name(kValueType, BTF_KIND_STRUCT);
  if (attr.btf_vmlinux_value_type_id != known || machine.version < "5.16"_v)
    return refuse(Errno::NotSupp, "type {} is no struct_ops of this kernel", attr.btf_vmlinux_value_type_id);
  const uint32_t size = kernel_struct(kValueType).size;
  if (attr.value_size != size)
    return refuse(Errno::Inval, "value_size must be that of {}, {}, is {}", kValueType, size,
                  attr.value_size);
  return new_map<Map>(machine, attr, nothing_to_build);
}

void bpf_struct_ops_map_free(Map& map) { delete &map; }

Result<void> bpf_struct_ops_map_get_next_key(Map&, const void* key, void* next_key) {
  if (key && key_of(key) == 0) return refuse(Errno::NoEnt, "the one key is 0");
  std::memset(next_key, 0, sizeof(uint32_t));
  return {};
}

Result<void*> bpf_struct_ops_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::Inval, "programs do not read a struct_ops");
}

// What lies between the members must be 0, so that a later kernel can give it a meaning.
Result<void> check_zero_holes(const btf_type& t, const uint8_t* data) {
  uint64_t end = 0;
  auto zero = [data](uint64_t from, uint64_t to) {
    return std::all_of(data + from, data + to, [](uint8_t byte) { return byte == 0; });
  };
  for (const btf_member& member : btf_members(t)) {
    const uint32_t at = btf_member_bit_offset(t, member) / 8;
    if (at > end && !zero(end, at)) return refuse(Errno::Inval, "the hole from {} to {} must be 0", end, at);
    end = at + uint64_t(vmlinux_btf().types->size_of(member.type));
  }
  if (t.size > end && !zero(end, t.size))
    return refuse(Errno::Inval, "what follows the last member, at {}, must be 0", end);
  return {};
}

Result<void> bpf_dummy_init_member() {
  return refuse(Errno::OpNotSupp, "bpf_dummy_ops is there for tests and cannot be registered");
}

Result<void> bpf_struct_ops_map_update_elem(Map&, const void* key, const void* value, uint64_t flags) {
  if (flags) return refuse(Errno::Inval, "flags must be 0, are {}", flags);
  if (key_of(key) != 0) return refuse(Errno::TooBig, "the one key is 0, not {}", key_of(key));
  const auto* bytes = static_cast<const uint8_t*>(value);
  TRY(check_zero_holes(kernel_struct(kValueType), bytes));
  TRY(check_zero_holes(kernel_struct(kType), bytes + vmlinux_offset(kValueType, "data")));
  if (std::any_of(bytes, bytes + kCommonSize, [](uint8_t byte) { return byte != 0; }))
    return refuse(Errno::Inval, "refcnt and state are the kernel's to set");
  return bpf_dummy_init_member();
}

Result<void> bpf_struct_ops_map_delete_elem(Map& map, const void*) {
  if (map.map_flags & BPF_F_LINK) return refuse(Errno::OpNotSupp, "its links unregister it");
  return refuse(Errno::NoEnt, "nothing is registered");
}

}  // namespace

Result<void> bpf_struct_ops_map_sys_lookup_elem(Map& map, const void* key, void* value) {
  if (key_of(key) != 0) return refuse(Errno::NoEnt, "the one key is 0, not {}", key_of(key));
  std::memset(value, 0, map.value_size);
  return {};
}

const MapOps bpf_struct_ops_map_ops = {
    .map_alloc_check = OP(bpf_struct_ops_map_alloc_check),
    .map_alloc = OP(bpf_struct_ops_map_alloc),
    .map_free = OP(bpf_struct_ops_map_free),
    .map_get_next_key = OP(bpf_struct_ops_map_get_next_key),
    .map_lookup_elem = OP(bpf_struct_ops_map_lookup_elem),
    .map_update_elem = OP(bpf_struct_ops_map_update_elem),
    .map_delete_elem = OP(bpf_struct_ops_map_delete_elem),
};

}  // namespace bpfsim
