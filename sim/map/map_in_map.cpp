// Models: kernel/bpf/map_in_map.c (Linux 6.18)
//
// The verifier checks a program against a template of the inner map, so every inner map must look like it:
// type, sizes and flags; max_entries may differ except for arrays, whose bounds programs rely on. Not
// modelled yet: the comparison of special fields (locks, timers) in the values' BTF.
#include "map/map_in_map.h"

namespace bpfsim {

bool bpf_map_meta_equal(const Map& meta, const Map& inner) {
  return meta.map_type == inner.map_type && meta.key_size == inner.key_size &&
         meta.value_size == inner.value_size && meta.map_flags == inner.map_flags;
}

}  // namespace bpfsim
