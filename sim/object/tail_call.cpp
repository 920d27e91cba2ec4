// Models: kernel/bpf/core.c (bpf_prog_map_compatible, bpf_check_tail_call) (Linux 6.18)
//
// The owner's kind is remembered for as long as the map lives, even when its slots are empty again. Not
// modelled yet: cgroup storage of the owner, and the function that TRACING, LSM and STRUCT_OPS programs are
// attached to.
#include "object/tail_call.h"

namespace bpfsim {

static bool prog_is_like_owner(Map& map, const Prog& prog) {
  const bpf_prog_type type = resolve_prog_type(prog);
  if (!map.owner.set) {
    map.owner = {true, type, prog.expected_attach_type, prog.jited, prog.aux->xdp_has_frags};
    return true;
  }
  bool same_attach =
      map.map_type != BPF_MAP_TYPE_PROG_ARRAY || map.owner.expected_attach_type == prog.expected_attach_type;
  return map.owner.type == type && map.owner.jited == prog.jited &&
         map.owner.xdp_has_frags == prog.aux->xdp_has_frags && same_attach;
}

bool bpf_prog_map_compatible(Map& map, const Prog& prog) {
  if (prog.aux->dev_bound) return false;  // nobody could say on which device it would run
  return prog_is_like_owner(map, prog);
}

static bool map_type_contains_progs(const Map& map) {
  return map.map_type == BPF_MAP_TYPE_PROG_ARRAY || map.map_type == BPF_MAP_TYPE_DEVMAP ||
         map.map_type == BPF_MAP_TYPE_CPUMAP;
}

Result<void> bpf_check_tail_call(const Prog& prog) {
  for (Map* map : prog.aux->used_maps)
    if (map_type_contains_progs(*map) && !prog_is_like_owner(*map, prog))
      return refuse(Errno::Inval, "map {} belongs to programs of another kind", map->id);
  return {};
}

}  // namespace bpfsim
