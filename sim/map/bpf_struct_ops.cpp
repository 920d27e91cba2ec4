// Models: kernel/bpf/bpf_struct_ops.c (Linux 6.18)
//
// A table of functions of the kernel, such as a TCP congestion control, filled with programs: the map's one
// element is the struct, an update registers it. Not modelled yet: the kernel's own structs, which a machine
// would have to know by its vmlinux BTF. So this machine is one without any struct_ops, and creation ends
// where such a kernel ends it: wrong attributes first, then the BTF that the value's type comes from, then
// -ENOTSUPP for every type.
#include "map/common.h"
#include "map/map_types.h"
#include "object/btf.h"
#include "object/ops.h"

namespace bpfsim {

namespace {

Result<void> bpf_struct_ops_map_alloc_check(Machine&, const bpf_attr& attr) {
  if (attr.key_size != sizeof(uint32_t))
    return refuse(Errno::Inval, "key_size must be 4, is {}", attr.key_size);
  if (attr.max_entries != 1) return refuse(Errno::Inval, "max_entries must be 1, is {}", attr.max_entries);
  if (uint32_t extra = attr.map_flags & ~(BPF_F_LINK | BPF_F_VTYPE_BTF_OBJ_FD))
    return refuse(Errno::Inval, "map_flags {} are not for struct_ops", extra);
  if (!attr.btf_vmlinux_value_type_id)
    return refuse(Errno::Inval, "btf_vmlinux_value_type_id, the kernel's struct, must be set");
  return {};
}

Result<Map*> bpf_struct_ops_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (attr.map_flags & BPF_F_VTYPE_BTF_OBJ_FD) {
    TRY(object_of_fd(machine, attr.value_type_btf_obj_fd, btf_fops));
    return refuse(Errno::Inval, "BTF {} is not that of a kernel module", attr.value_type_btf_obj_fd);
  }
  return refuse(Errno::NotSupp, "type {} is no struct_ops of this kernel (none is modelled yet)",
                attr.btf_vmlinux_value_type_id);
}

}  // namespace

const MapOps bpf_struct_ops_map_ops = {
    .map_alloc_check = OP(bpf_struct_ops_map_alloc_check),
    .map_alloc = OP(bpf_struct_ops_map_alloc),
};

}  // namespace bpfsim
