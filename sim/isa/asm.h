// No kernel counterpart: the kernel takes bytes; the text comes from compilers (LLVM's BPF assembler) and
// from us.
//
// Reads programs in the notation of the verifier log, so that what a log or `disassemble` prints can be put
// back in:
// "(61) r1 = *(u32 *)(r1 +76)", with or without "(61)" and a leading "12:". To that it adds labels, maps by
// name and comments (";", "//", "#"):
//
//   r1 = 5                     a number that needs more than 32 bits, or has "ll" behind it, is an LD_IMM64
//   if r1 > 5 goto out         also goto, gotol, may_goto; a target is a label, pc+3 or +3
//   r1 = map[counts]           the map; map[counts]+8 is the address of byte 8 of its value; also map_fd 5,
//                              map_value_fd 5+8, map_idx 0, map_value_idx 0+8 with numbers that the caller
//                              knows
//   r2 = func callback         the address of a subprogram, btf_id 7 that of a kernel variable
//   call map_lookup_elem       also bpf_map_lookup_elem#1, 1, a label or pc+5 (a subprogram), a kernel
//   function out: exit
//
// Every faulty line gives one error, with its line, column and what was expected there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isa/insn.h"

namespace bpfsim {

struct AsmError {
  int line = 0, column = 0;  // from 1; columns count bytes
  std::string message;       // expected a register (r0-r10, w0-w10), found "r11"

  std::string str() const;  // line 3, column 9: expected ...
};

// An LD_IMM64 that names a map: whoever loads the program writes the fd into insns[insn].imm.
struct MapRef {
  size_t insn = 0;
  std::string name;    // what stands in the brackets
  bool value = false;  // the address of its value, offset bytes in (BPF_PSEUDO_MAP_VALUE), not the map itself
  int32_t offset = 0;
};

struct Assembly {
  std::vector<bpf_insn> insns;
  std::vector<int> lines;  // the source line of each slot
  std::vector<MapRef> maps;
  std::map<std::string, size_t, std::less<>> labels;  // name and the slot that it stands before
  std::vector<AsmError> errors;                       // if there are any, insns is not to be used

  bool ok() const { return errors.empty(); }
};

struct AsmOptions {
  // The BTF id of a kernel function, for `call bpf_rcu_read_lock`.
  std::function<std::optional<int32_t>(std::string_view name)> kfunc_id{};
};

Assembly assemble(std::string_view source, const AsmOptions& options = {});

}  // namespace bpfsim
