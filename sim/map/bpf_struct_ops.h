// Models: include/linux/bpf.h (struct bpf_struct_ops, struct bpf_struct_ops_map) (Linux 6.18)
//
// A map of one struct of functions, what each such struct does with it (bpf_tcp_ca.cpp), what user space
// reads of it, and its links (struct_ops_link.cpp).
#pragma once

#include <vector>

#include "btf/struct_ops.h"
#include "object/link.h"
#include "object/map.h"

namespace bpfsim {

enum bpf_struct_ops_state : uint32_t {
  BPF_STRUCT_OPS_STATE_INIT,      // empty
  BPF_STRUCT_OPS_STATE_INUSE,     // registered by an update
  BPF_STRUCT_OPS_STATE_TOBEFREE,  // no more: it cannot be filled again
  BPF_STRUCT_OPS_STATE_READY,     // filled; links register it
};

struct BpfStructOps;

struct StructOpsMap : Map {
  StructOpsMap(Machine& machine, const bpf_attr& attr);
  const BpfStructOpsDesc& desc;
  const BpfStructOps& st_ops;
  bpf_struct_ops_state state = BPF_STRUCT_OPS_STATE_INIT;
  std::vector<uint8_t> uvalue;  // as user space reads it: ids of programs where the kernel has addresses
  std::vector<Prog*> progs;     // by member
  const uint8_t* udata() const { return uvalue.data() + desc.data_offset(); }
};

// struct bpf_struct_ops: what the owner of the struct does.
struct BpfStructOps {
  const char* name;
  // True when it has dealt with the member, one that is no function.
  Result<bool> (*init_member)(const StructOpsMap& map, const btf_member& member);
  Result<void> (*validate)(const StructOpsMap& map);
  Result<void> (*reg)(StructOpsMap& map, const Link* link);
  void (*unreg)(StructOpsMap& map);
  Result<void> (*update)(StructOpsMap& map, StructOpsMap& old_map);
};
extern const BpfStructOps bpf_tcp_congestion_ops, bpf_bpf_dummy_ops;

Result<void> bpf_struct_ops_map_sys_lookup_elem(Map& map, const void* key, void* value);
// The machine halts: maps let go of programs that hold them (PROG_BIND_MAP), which the kernel never frees.
void bpf_struct_ops_exit(Machine& machine);
// BPF_LINK_CREATE; the link has no reference, id or descriptor yet.
Result<Link*> bpf_struct_ops_link_create(Machine& machine, const bpf_attr& attr);

}  // namespace bpfsim
