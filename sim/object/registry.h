// Models: kernel/bpf/syscall.c (prog_idr, map_idr, link_idr), kernel/bpf/btf.c (btf_idr) (Linux 6.18)
//
// Which object has which id. An id is a weak tie: it finds a live object, and keeps none alive. It goes at
// the last put, before the grace period in which the memory goes.
#pragma once

#include <map>
#include <string>

#include "object/object.h"

namespace bpfsim {

struct Prog;
struct Map;
struct Link;
struct Btf;
struct MapOps;

// A map type that only this machine has: a lesson's own, with a number far from the kernel's. The table
// outlives the machine's maps.
inline constexpr uint32_t kFirstExtraMapType = 1000;
struct ExtraMapType {
  std::string name;
  const MapOps* ops;
};

struct Registry {
  IdRegistry<Prog> prog_idr;
  IdRegistry<Map> map_idr;
  IdRegistry<Link> link_idr;
  IdRegistry<Btf> btf_idr;
  std::map<uint32_t, ExtraMapType> extra_map_types;
};

// "BPF_MAP_TYPE_QUEUE", "map type 'my_own'"
std::string map_type_name(const Map& map);

// "map 3 (counts)"; "map 3 (counts), id gone" when its id is given back; "map (counts), no id" if it never
// had one.
std::string label_with_id(const Object& object, const std::string& name);
void id_is_gone(Object& object);  // the row is taken away already

}  // namespace bpfsim
