// Models: kernel/bpf/verifier.c, resolve_pseudo_ldimm64() and what it calls (Linux 6.18)
//
// File descriptors in ld_imm64 become addresses of maps; each map is held once and checked to suit the
// program.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno process_fd_array(bpf_verifier_env& env);
[[nodiscard]] Errno resolve_pseudo_ldimm64(bpf_verifier_env& env);
void release_used(bpf_verifier_env& env);  // maps and BTFs of a refused program
void convert_pseudo_ld_imm64(bpf_verifier_env& env);

}  // namespace bpfsim
