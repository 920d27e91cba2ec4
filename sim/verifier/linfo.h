// Models: kernel/bpf/log.c, verbose_linfo() (Linux 6.18)
//
// The line of C source that an instruction came from, where the program brought line info.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

// The record that covers the instruction; null if the program has none.
const bpf_line_info* bpf_find_linfo(const Prog& prog, uint32_t insn_off);
// "; return ctx->x; @ prog.c:12" with the prefix "; ", unless it is the line that was printed last.
[[gnu::format(printf, 3, 4)]] void verbose_linfo(bpf_verifier_env& env, uint32_t insn_off, const char* prefix,
                                                 ...);

}  // namespace bpfsim
