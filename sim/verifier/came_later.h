// No kernel counterpart: a kernel does not know what later ones take.
//
// What the last line of a verifier log means on an older machine: that a later kernel has what was refused.
// The log keeps the kernel's words; this stands beside them in the error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "isa/opcodes.h"
#include "uapi/version.h"

namespace bpfsim {

// Who was refused: the words may name neither the context nor the instruction. Either may be left out.
struct RefusedProgram {
  uint32_t type = 0;
  std::span<const bpf_insn> insns;
};

// "since Linux 5.3: a privileged program may loop while ..."; empty if no later version is known to help.
std::string came_later(std::string_view message, Version version, const RefusedProgram& prog = {});

}  // namespace bpfsim
