// Models: kernel/bpf/verifier.c, check_attach_btf_id() (Linux 6.18)
//
// May a program of this kind be sleepable, and what in the kernel will it be attached to.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_attach_btf_id(bpf_verifier_env& env);

}  // namespace bpfsim
