// No kernel counterpart: a kernel does not know what later ones take.
//
// What the last line of a verifier log means on an older machine: that a later kernel has what was refused.
// The log keeps the kernel's words; this stands beside them in the error.
#pragma once

#include <string>

#include "verifier/env.h"

namespace bpfsim {

// "since Linux 5.3: a privileged program may loop while ..."; empty if no later version is known to help.
std::string came_later(const bpf_verifier_env& env);

}  // namespace bpfsim
