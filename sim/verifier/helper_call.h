// Models: kernel/bpf/verifier.c, check_helper_call() (Linux 6.18)
//
// A call of a helper, driven by its prototype: may this program call it, are the arguments what it takes,
// what comes back in R0.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_helper_call(bpf_verifier_env& env, const bpf_insn& insn);
// Packet data may have moved: pointers into it are worth nothing.
void clear_all_pkt_pointers(bpf_verifier_env& env);

}  // namespace bpfsim
