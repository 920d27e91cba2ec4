// Models: kernel/bpf/core.c (bpf_prog_map_compatible, bpf_check_tail_call) (Linux 6.18)
//
// The owner's kind is remembered for as long as the map lives, even when its slots are empty again. Departs
// from the kernel: what a program's storages are told apart by is the serial of the map, and a prototype is
// known by its BTF's serial and its type id, where the kernel compares its address.
#include "object/tail_call.h"

#include "uapi/gates.h"

namespace bpfsim {

static Map::Owner kind_of(const Prog& prog) {
  const ProgAux& aux = *prog.aux;
  Map::Owner kind{.set = true,
                  .type = resolve_prog_type(prog),
                  .expected_attach_type = prog.expected_attach_type,
                  .jited = prog.jited,
                  .xdp_has_frags = aux.xdp_has_frags,
                  .attach_func_btf = aux.attach_func_btf,
                  .attach_func_proto = aux.attach_func_proto};
  for (size_t i = 0; i < std::size(aux.cgroup_storage); i++)
    if (aux.cgroup_storage[i]) kind.storage_cookie[i] = aux.cgroup_storage[i]->serial;
  return kind;
}

// bpf_get_local_storage() takes the storages of the program that was attached, also after a tail call. So a
// program that uses them must use the same; one that uses none must not lead on to others.
static const char* storages_differ(const Map::Owner& owner, const Map::Owner& kind, const Prog& prog) {
  for (size_t i = 0; i < std::size(owner.storage_cookie); i++) {
    if (owner.storage_cookie[i] == kind.storage_cookie[i]) continue;
    if (kind.storage_cookie[i]) return "its cgroup storage";
    if (prog.aux->tail_call_reachable) return "its lack of a cgroup storage, making tail calls";
  }
  return nullptr;
}

// What these programs are given as arguments depends on it.
static bool takes_arguments_of_a_function(bpf_prog_type type) {
  return type == BPF_PROG_TYPE_TRACING || type == BPF_PROG_TYPE_LSM || type == BPF_PROG_TYPE_EXT ||
         type == BPF_PROG_TYPE_STRUCT_OPS;
}

// In what the program is unlike the map's owner; null when it fits.
static const char* differs_from_owner(Map& map, const Prog& prog) {
  const Map::Owner kind = kind_of(prog);
  Map::Owner& owner = map.owner;
  if (!owner.set) {
    owner = kind;
    return nullptr;
  }
  if (owner.type != kind.type) return "its type";
  if (owner.jited != kind.jited) return "being compiled";
  if (owner.xdp_has_frags != kind.xdp_has_frags) return "BPF_F_XDP_HAS_FRAGS";
  if (map.map_type == BPF_MAP_TYPE_PROG_ARRAY && has(Gate::tail_call_attach_type, prog.machine.version) &&
      owner.expected_attach_type != kind.expected_attach_type)
    return "its expected_attach_type";
  if (const char* differ = storages_differ(owner, kind, prog)) return differ;
  const bool same_proto =
      owner.attach_func_btf == kind.attach_func_btf && owner.attach_func_proto == kind.attach_func_proto;
  return !same_proto && takes_arguments_of_a_function(kind.type) ? "the function that it is for" : nullptr;
}

bool bpf_prog_map_compatible(Map& map, const Prog& prog, const char** differs_in) {
  // Nobody could say on which device it would run.
  const char* differs = prog.aux->dev_bound ? "being bound to a device" : differs_from_owner(map, prog);
  if (differs_in) *differs_in = differs;
  return !differs;
}

static bool map_type_contains_progs(const Map& map) {
  return map.map_type == BPF_MAP_TYPE_PROG_ARRAY || map.map_type == BPF_MAP_TYPE_DEVMAP ||
         map.map_type == BPF_MAP_TYPE_CPUMAP;
}

Result<void> bpf_check_tail_call(const Prog& prog) {
  for (Map* map : prog.aux->used_maps) {
    if (!map_type_contains_progs(*map)) continue;
    if (const char* differs = differs_from_owner(*map, prog))
      return refuse(Errno::Inval, "map {} is for programs that differ from this in {}", map->id, differs);
  }
  return {};
}

}  // namespace bpfsim
