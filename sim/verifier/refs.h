// Models: kernel/bpf/verifier.c, acquire_reference(), release_reference() and check_resource_leak()
// (Linux 6.18)
//
// What a program was given and must give back: a socket, a record of a ring buffer. Each has an id, which the
// registers that hold it carry as ref_obj_id.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

uint32_t acquire_reference(bpf_verifier_env& env, uint32_t insn_idx);
bool release_reference_nomark(bpf_verifier_state& state, uint32_t ref_obj_id);
// Gives back, and makes every register that still carries it unusable. False: nobody acquired it.
bool release_reference(bpf_verifier_env& env, uint32_t ref_obj_id);
// Where nothing may be held any more.
enum class LeakAt : uint8_t { Exit, TailCall, LdAbs };
[[nodiscard]] Errno check_resource_leak(bpf_verifier_env& env, bool check_lock, LeakAt at);

}  // namespace bpfsim
