// Models: net/ipv4/tcp_cong.c (Linux 6.18)
//
// See tcp_cong.h.
#include "host/tcp_cong.h"

#include <algorithm>

namespace bpfsim {

static const std::vector<TcpCongestionOps> kBuiltIn = {{"reno", TCP_CONG_NON_RESTRICTED},
                                                       {"cubic", TCP_CONG_NON_RESTRICTED}};

CongestionControls::CongestionControls(Machine& machine)
    : Object(machine, ObjectKind::Kernel), tcp_cong_list(kBuiltIn) {}

void CongestionControls::each_held(const HoldVisitor& visit) const {
  for (const TcpCongestionOps& ca : tcp_cong_list)
    if (ca.map) visit({ca.map, Counter::Refs, ca.holds_map, "congestion control " + ca.name});
}

// Made when the first map is registered.
static CongestionControls& congestion_controls(Machine& machine) {
  if (!machine.congestion_controls)
    machine.congestion_controls = std::make_shared<CongestionControls>(machine);
  return *machine.congestion_controls;
}

std::vector<std::string> tcp_get_available_congestion_control(const Machine& machine) {
  std::vector<std::string> names;
  const auto& list = machine.congestion_controls ? machine.congestion_controls->tcp_cong_list : kBuiltIn;
  for (const TcpCongestionOps& ca : list) names.push_back(ca.name);
  return names;
}

void tcp_cong_exit(Machine& machine) {
  if (!machine.congestion_controls) return;
  for (const TcpCongestionOps& ca : std::exchange(machine.congestion_controls->tcp_cong_list, {}))
    if (ca.holds_map) bpf_map_put(*ca.map, {"the machine halts"});
}

static auto registered(CongestionControls& controls, const Map& map) {
  return std::ranges::find(controls.tcp_cong_list, &map, &TcpCongestionOps::map);
}

const TcpCongestionOps* tcp_ca_find(const Machine& machine, const std::string& name) {
  const auto& list = machine.congestion_controls ? machine.congestion_controls->tcp_cong_list : kBuiltIn;
  const auto found = std::ranges::find(list, name, &TcpCongestionOps::name);
  return found == list.end() ? nullptr : &*found;
}

Result<void> tcp_register_congestion_control(Machine& machine, const TcpCongestionOps& ca) {
  KFN(machine, tcp_register_congestion_control);
  if (tcp_ca_find(machine, ca.name))
    return refuse(Errno::Exist, "a congestion control of this name is registered already");
  congestion_controls(machine).tcp_cong_list.push_back(ca);
  return {};
}

void tcp_unregister_congestion_control(const Map& map) {
  KFN(map.machine, tcp_unregister_congestion_control);
  CongestionControls& controls = congestion_controls(map.machine);
  const auto found = registered(controls, map);
  if (found != controls.tcp_cong_list.end()) controls.tcp_cong_list.erase(found);
}

Result<void> tcp_update_congestion_control(const TcpCongestionOps& ca, const Map& old_map) {
  KFN(old_map.machine, tcp_update_congestion_control);
  CongestionControls& controls = congestion_controls(old_map.machine);
  const auto existing = registered(controls, old_map);
  if (existing == controls.tcp_cong_list.end() || existing->name != ca.name)
    return refuse(Errno::Inval, "the new congestion control must have the name of the old one");
  controls.tcp_cong_list.erase(existing);
  controls.tcp_cong_list.push_back(ca);
  return {};
}

}  // namespace bpfsim
