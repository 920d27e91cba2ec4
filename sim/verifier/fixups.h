// Models: kernel/bpf/verifier.c, from opt_hard_wire_dead_code_branches() to fixup_call_args() (Linux 6.18)
//
// What an accepted program becomes. dead_code.cpp removes what no path reached, ctx_rewrite.cpp turns
// accesses of the context into accesses of the kernel's structs, fixups.cpp rewrites the rest (division,
// helper calls, tail calls).
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// The one way to change the program: `patch` takes the place of the instruction at `off`; jumps, aux data,
// subprograms and line info follow.
[[nodiscard]] Errno bpf_patch_insn_data(bpf_verifier_env& env, uint32_t off, const Insns& patch);

[[nodiscard]] Errno remove_fastcall_spills_fills(bpf_verifier_env& env);
[[nodiscard]] Errno optimize_bpf_loop(bpf_verifier_env& env);
void opt_hard_wire_dead_code_branches(bpf_verifier_env& env);
[[nodiscard]] Errno opt_remove_dead_code(bpf_verifier_env& env);
[[nodiscard]] Errno opt_remove_nops(bpf_verifier_env& env);
void sanitize_dead_code(bpf_verifier_env& env);  // for the unprivileged: dead code becomes `goto pc-1`
[[nodiscard]] Errno convert_ctx_accesses(bpf_verifier_env& env);
[[nodiscard]] Errno do_misc_fixups(bpf_verifier_env& env);
[[nodiscard]] Errno opt_subreg_zext_lo32_rnd_hi32(bpf_verifier_env& env);
[[nodiscard]] Errno fixup_call_args(bpf_verifier_env& env);

}  // namespace bpfsim
