// Models: net/ipv4/bpf_tcp_ca.c (registration) (Linux 6.18)
//
// What the owner of tcp_congestion_ops does with a struct_ops map of it: name and flags come as values, the
// functions as programs of which some must be there, and registering puts it among the congestion controls
// (host/tcp_cong.cpp). What its programs may do says hook/bpf_tcp_ca.cpp.
#include <cstring>

#include "btf/vmlinux.h"
#include "host/tcp_cong.h"
#include "map/bpf_struct_ops.h"
#include "map/common.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t kNameSize = 16;  // TCP_CA_NAME_MAX

const uint8_t* member(const StructOpsMap& map, const char* name) {
  return map.udata() + vmlinux_offset("tcp_congestion_ops", name);
}

uint32_t flags_of(const StructOpsMap& map) {
  uint32_t flags;
  std::memcpy(&flags, member(map, "flags"), sizeof flags);
  return flags;
}

std::string name_of(const StructOpsMap& map) {
  const char* name = reinterpret_cast<const char*>(member(map, "name"));
  return {name, strnlen(name, kNameSize)};
}

// TCP_CONG_MASK
uint32_t known_flags(const Machine& machine) {
  constexpr uint32_t kAccurateEcn = 0x1c;
  const uint32_t later = has(Gate::tcp_cong_accecn, machine.version) ? kAccurateEcn : 0;
  return TCP_CONG_NON_RESTRICTED | TCP_CONG_NEEDS_ECN | later;
}

Result<void> check_name(const StructOpsMap& map) {
  const std::string name = name_of(map);
  if (name.empty()) return refuse(Errno::Inval, "a congestion control needs a name");
  if (name.size() == kNameSize)
    return refuse(Errno::Inval, "a name has at most {} characters and then a NUL", kNameSize - 1);
  for (const char c : name)
    if (!bpf_name_char(c))
      return refuse(Errno::Inval, "a name has letters, digits, '_' and '.', not byte {}", c);
  if (!has(Gate::tcp_ca_update, map.machine.version) && tcp_ca_find(map.machine, name))
    return refuse(Errno::Exist, "a congestion control of this name is registered already");
  return {};
}

Result<bool> bpf_tcp_ca_init_member(const StructOpsMap& map, const btf_member& m) {
  const uint32_t at = m.offset / 8;
  if (at == vmlinux_offset("tcp_congestion_ops", "flags")) {
    if (const uint32_t extra = flags_of(map) & ~known_flags(map.machine))
      return refuse(Errno::Inval, "flags {} are not those of a congestion control", extra);
    return true;
  }
  if (at != vmlinux_offset("tcp_congestion_ops", "name")) return false;
  TRY(check_name(map));
  return true;
}

bool has_member(const StructOpsMap& map, const char* name) {
  const auto members = btf_members(map.desc.type());
  for (size_t i = 0; i < members.size(); ++i)
    if (members[i].offset / 8 == vmlinux_offset("tcp_congestion_ops", name)) return map.progs[i] != nullptr;
  return false;
}

// tcp_validate_congestion_control()
Result<void> bpf_tcp_ca_validate(const StructOpsMap& map) {
  const char* missing = !has_member(map, "ssthresh")    ? "ssthresh"
                        : !has_member(map, "undo_cwnd") ? "undo_cwnd"
                                                        : nullptr;
  if (!missing && !has_member(map, "cong_avoid") && !has_member(map, "cong_control"))
    missing = "cong_avoid or cong_control";
  if (!missing) return {};
  printk(map.machine, "TCP: " + name_of(map) + " does not implement required ops");
  return refuse(Errno::Inval, "a congestion control must implement {}", missing);
}

Result<void> bpf_tcp_ca_reg(StructOpsMap& map, const Link* link) {
  return tcp_register_congestion_control(map.machine, {name_of(map), flags_of(map), &map, !link});
}

void bpf_tcp_ca_unreg(StructOpsMap& map) { tcp_unregister_congestion_control(map); }

Result<void> bpf_tcp_ca_update(StructOpsMap& map, StructOpsMap& old_map) {
  return tcp_update_congestion_control({name_of(map), flags_of(map), &map, false}, old_map);
}

}  // namespace

const BpfStructOps bpf_tcp_congestion_ops = {.name = "tcp_congestion_ops",
                                             .init_member = bpf_tcp_ca_init_member,
                                             .validate = bpf_tcp_ca_validate,
                                             .reg = bpf_tcp_ca_reg,
                                             .unreg = bpf_tcp_ca_unreg,
                                             .update = bpf_tcp_ca_update};

}  // namespace bpfsim
