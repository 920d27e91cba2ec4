// Models: kernel/bpf/verifier.c, check_ptr_to_btf_access(), check_buffer_access(); kernel/bpf/btf.c,
// btf_struct_access() (Linux 6.18)
//
// Reading the kernel's own structs through BTF: a register that points at struct bpf_map may load its
// members; a member that is itself a pointer gives a register that points at the next struct. How far such a
// pointer can be trusted decides whether a load through it is guarded and whether a helper takes it.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

[[nodiscard]] Errno check_ptr_to_btf_access(bpf_verifier_env& env, uint32_t regno, int off, int size,
                                            bpf_access_type t, int value_regno);
// A key or value that an iterator shows: its size is known only when the iterator is attached.
[[nodiscard]] Errno check_buffer_access(bpf_verifier_env& env, uint32_t regno, int off, int size,
                                        bpf_access_type t, int value_regno);
// Whether a pointer to the struct `name` is what a helper wants there.
[[nodiscard]] Errno check_btf_arg(bpf_verifier_env& env, uint32_t regno, const char* name);

std::string btf_reg_name(const bpf_reg_state& reg);  // "bpf_map"

}  // namespace bpfsim
