// Models: kernel/bpf/verifier.c, check_map_func_compatibility() (Linux 6.18)
//
// Which helper takes which kind of map. And what programs may not do yet: touch the values of a map that has
// special fields (locks, timers, kptrs) in them.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_map_func_compatibility(bpf_verifier_env& env, const Map* map, int func_id);

[[nodiscard]] Errno check_values_are_plain(bpf_verifier_env& env, const Map& map);

}  // namespace bpfsim
