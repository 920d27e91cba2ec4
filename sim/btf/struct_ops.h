// Models: include/linux/bpf.h (struct bpf_struct_ops_desc), kernel/bpf/btf.c (bpf_struct_ops_find)
// (Linux 6.18)
//
// The kernel's structs of functions whose members programs may be: which there are, since when, and which
// members no program can stand for. The map (map/bpf_struct_ops.cpp) registers such a struct, the verifier
// (verifier/attach_target.cpp) checks its programs. Not modelled yet: sched_ext_ops, Qdisc_ops, hid_bpf_ops
// and those of modules; the measured 6.18 has none of them either.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "btf/btf_types.h"
#include "uapi/version.h"

namespace bpfsim {

struct BpfStructOpsDesc {
  const char* name;        // "tcp_congestion_ops"
  const char* value_name;  // what a map's value is: bpf_struct_ops_common_value, and the struct behind it
  Version since;
  std::string_view unsupported;  // the one member that no program can stand for
  std::string_view sleepable;    // the one member whose program may sleep; empty: any

  uint32_t type_id() const;
  const btf_type& type() const;
  const btf_type& value_type() const;
  uint32_t data_offset() const;  // of the struct in the value
};

// By the type of the struct, or of the value, in the machine's own BTF. Null when this version has none such.
const BpfStructOpsDesc* bpf_struct_ops_find(uint32_t type_id, Version version);
const BpfStructOpsDesc* bpf_struct_ops_find_value(uint32_t value_id, Version version);

// The prototype that a type points at, 0 for anything but a pointer to a function.
uint32_t btf_type_resolve_func_ptr(const BtfTypes& types, uint32_t type_id);

}  // namespace bpfsim
