// Models: kernel/bpf/verifier.c, check_map_func_compatibility() (Linux 6.18)
//
// Which helper takes which kind of map.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_map_func_compatibility(bpf_verifier_env& env, const Map* map, int func_id);

}  // namespace bpfsim
