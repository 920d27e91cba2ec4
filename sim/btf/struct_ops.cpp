// Models: kernel/bpf/btf.c (bpf_struct_ops_find, bpf_struct_ops_find_value) (Linux 6.18)
//
// See struct_ops.h.
#include "btf/struct_ops.h"

#include "btf/vmlinux.h"

namespace bpfsim {

namespace {

constexpr BpfStructOpsDesc kStructOps[] = {
    {"tcp_congestion_ops", "bpf_struct_ops_tcp_congestion_ops", "5.6"_v, "get_info", ""},
    {"bpf_dummy_ops", "bpf_struct_ops_bpf_dummy_ops", "5.16"_v, "", "test_sleepable"},
};

uint32_t struct_id(const char* name) { return vmlinux_btf().types->find_by_name(name, BTF_KIND_STRUCT); }

const BpfStructOpsDesc* find(uint32_t id, Version version, const char* BpfStructOpsDesc::* name) {
  const BtfTypes& types = *vmlinux_btf().types;
  const btf_type* t = id ? types.type_by_id(id) : nullptr;
  if (!t || btf_kind(*t) != BTF_KIND_STRUCT) return nullptr;
  for (const BpfStructOpsDesc& desc : kStructOps)
    if (desc.since <= version && std::string_view(desc.*name) == types.name_of(*t)) return &desc;
  return nullptr;
}

}  // namespace

uint32_t BpfStructOpsDesc::type_id() const { return struct_id(name); }
const btf_type& BpfStructOpsDesc::type() const { return *vmlinux_btf().types->type_by_id(type_id()); }
const btf_type& BpfStructOpsDesc::value_type() const {
  return *vmlinux_btf().types->type_by_id(struct_id(value_name));
}
uint32_t BpfStructOpsDesc::data_offset() const { return vmlinux_offset(value_name, "data"); }

const BpfStructOpsDesc* bpf_struct_ops_find(uint32_t type_id, Version version) {
  return find(type_id, version, &BpfStructOpsDesc::name);
}

const BpfStructOpsDesc* bpf_struct_ops_find_value(uint32_t value_id, Version version) {
  return find(value_id, version, &BpfStructOpsDesc::value_name);
}

uint32_t btf_type_resolve_func_ptr(const BtfTypes& types, uint32_t type_id) {
  const btf_type* pointer = types.skip_modifiers(type_id);
  if (!pointer || btf_kind(*pointer) != BTF_KIND_PTR) return 0;
  uint32_t id = 0;
  const btf_type* to = types.skip_modifiers(pointer->type, &id);
  return to && btf_kind(*to) == BTF_KIND_FUNC_PROTO ? id : 0;
}

}  // namespace bpfsim
