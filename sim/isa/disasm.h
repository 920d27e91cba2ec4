// Models: kernel/bpf/disasm.h (Linux 6.18)
//
// An instruction as the verifier log writes it. The text is the kernel's to the byte, also for encodings that
// no program may hold ("BUG_ldx_39"), since a refused program's log shows what was refused.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "isa/insn.h"

namespace bpfsim {

// What struct bpf_insn_cbs holds. An empty function, or one that gives an empty name, means the kernel's
// default.
struct DisasmOptions {
  bool allow_ptr_leaks = true;  // false: addresses of maps and kernel variables print as 0x0

  // cb_call: names a kernel function ("bpf_rcu_read_lock"); if it has none, "kernel-function", or "+5" for a
  // subprogram. Helpers are named from the table.
  std::function<std::optional<std::string>(const bpf_insn&)> call_name{};

  // cb_imm: writes the value of an LD_IMM64; the default is 0x%llx of its 64 bits.
  std::function<std::string(const bpf_insn&, uint64_t)> imm_text{};
};

// "(61) r1 = *(u32 *)(r1 +76)". An LD_IMM64 reads the slot after it (0 if there is none).
std::string print_bpf_insn(std::span<const bpf_insn> insns, size_t at, const DisasmOptions& options = {});

// The same without "(61) ".
std::string insn_text(std::span<const bpf_insn> insns, size_t at, const DisasmOptions& options = {});

// A whole program, one line for each instruction: "   0: (b7) r0 = 0\n".
std::string disassemble(std::span<const bpf_insn> insns, const DisasmOptions& options = {});

// For imm_text, as `bpftool prog dump xlated` writes: map[id:5], map[id:5][0]+8, subprog[+12], 0x1122.
std::string xlated_imm(const bpf_insn& insn, uint64_t value);

// For imm_text, so that the assembler reads back the same bytes: map_fd 5, map_value_fd 5+8, func pc+12, ...
std::string source_imm(const bpf_insn& insn, uint64_t value);

// "bpf_map_lookup_elem" for 1; "unknown" for what is no helper.
const char* func_id_name(int id);

}  // namespace bpfsim
