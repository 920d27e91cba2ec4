// Models: kernel/bpf/bpf_struct_ops.c (bpf_struct_ops_link_create and its neighbours) (Linux 6.18)
//
// A link registers a struct_ops map that was made with BPF_F_LINK and is filled, and holds it: when the link
// goes, or is detached, the struct is unregistered. An update puts another map of the same struct in its
// place, without a moment in which none is registered. Not modelled yet: poll(2), by which a task hears that
// the struct's owner has thrown it out.
#include "map/bpf_struct_ops.h"
#include "map/common.h"
#include "object/ops.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

struct StructOpsLink : Link {
  explicit StructOpsLink(StructOpsMap& map);
  void each_held(const HoldVisitor& visit) const override {
    if (map) visit({map, Counter::Refs, true, "link->map"});
  }
  StructOpsMap* map;  // null when it is detached
};
StructOpsLink& struct_ops_link(Link& link) { return static_cast<StructOpsLink&>(link); }

Result<void> bpf_struct_ops_valid_to_reg(const Map& map) {
  if (map.map_type != BPF_MAP_TYPE_STRUCT_OPS)
    return refuse(Errno::Inval, "{} is no struct_ops", map.label());
  if (!(map.map_flags & BPF_F_LINK)) return refuse(Errno::Inval, "the map was made without BPF_F_LINK");
  if (static_cast<const StructOpsMap&>(map).state != BPF_STRUCT_OPS_STATE_READY)
    return refuse(Errno::Inval, "the map is not filled yet");
  return {};
}

void unregister(StructOpsLink& link) {
  StructOpsMap* map = link.map;
  if (!map) return;
  map->st_ops.unreg(*map);
  link.map = nullptr;
  bpf_map_put(*map, {"out of link {}", link.id});
}

void bpf_struct_ops_map_link_dealloc(Link& link) {
  KFN(link.machine, bpf_struct_ops_map_link_dealloc);
  unregister(struct_ops_link(link));
}

Result<void> bpf_struct_ops_map_link_detach(Link& link) {
  KFN(link.machine, bpf_struct_ops_map_link_detach);
  if (!has(Gate::struct_ops_detach, link.machine.version))
    return refuse(Errno::OpNotSupp, "a struct_ops link cannot be detached");
  unregister(struct_ops_link(link));
  return {};
}

Result<void> bpf_struct_ops_map_link_update(Link& link, Map& new_map, Map* expected_old_map) {
  KFN(link.machine, bpf_struct_ops_map_link_update);
  TRY(bpf_struct_ops_valid_to_reg(new_map));
  StructOpsMap& map = static_cast<StructOpsMap&>(new_map);
  StructOpsMap* old_map = struct_ops_link(link).map;
  if (!old_map) return refuse(Errno::NoLink, "the link is detached");
  if (expected_old_map && old_map != expected_old_map)
    return refuse(Errno::Perm, "the link holds map {}, not {}", old_map->id, expected_old_map->id);
  if (&map.desc != &old_map->desc)
    return refuse(Errno::Inval, "the new map is of {}, the old one of {}", map.desc.name, old_map->desc.name);
  TRY(map.st_ops.update(map, *old_map));
  bpf_map_inc(map, {"link {} updated", link.id});
  struct_ops_link(link).map = &map;
  bpf_map_put(*old_map, {"replaced in link {}", link.id});
  return {};
}

uint32_t map_id_of(const Link& link) {
  const StructOpsMap* map = static_cast<const StructOpsLink&>(link).map;
  return map ? map->id : 0;
}

std::string bpf_struct_ops_map_link_show_fdinfo(const Link& link) {
  return map_id_of(link) ? "map_id:\t" + std::to_string(map_id_of(link)) + "\n" : "";
}

Result<void> bpf_struct_ops_map_link_fill_link_info(const Link& link, bpf_link_info& info) {
  if (map_id_of(link)) info.struct_ops.map_id = map_id_of(link);
  return {};
}

const LinkOps bpf_struct_ops_map_lops = {.name = "struct_ops",
                                         .detach = bpf_struct_ops_map_link_detach,
                                         .show_fdinfo = bpf_struct_ops_map_link_show_fdinfo,
                                         .fill_link_info = bpf_struct_ops_map_link_fill_link_info,
                                         .update_map = bpf_struct_ops_map_link_update,
                                         .dealloc = bpf_struct_ops_map_link_dealloc};

StructOpsLink::StructOpsLink(StructOpsMap& map)
    : Link(map.machine, BPF_LINK_TYPE_STRUCT_OPS, bpf_struct_ops_map_lops, nullptr, BPF_STRUCT_OPS),
      map(&map) {}

}  // namespace

Result<Link*> bpf_struct_ops_link_create(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_struct_ops_link_create);
  Map* given = TRY(__bpf_map_get(machine, int(attr.link_create.map_fd)));
  TRY(bpf_struct_ops_valid_to_reg(*given));
  auto& map = static_cast<StructOpsMap&>(*given);
  TRY(current_task(machine).files.check_room());
  bpf_map_inc(map, {"link created by task {}", machine.current->pid});
  auto* link = new StructOpsLink(map);
  if (Result<void> done = map.st_ops.reg(map, link); !done) {
    link->map = nullptr;
    delete link;
    bpf_map_put(map, {"not registered"});
    return done.refusal();
  }
  return link;
}

}  // namespace bpfsim
