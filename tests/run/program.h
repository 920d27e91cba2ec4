// A program without a verifier: instructions, a machine around them, and one call to run them.
#pragma once

#include <vector>

#include "isa/insn.h"
#include "kernel.h"
#include "object/prog.h"
#include "run/select_runtime.h"

namespace bpfsim {

struct LooseProgram {
  LooseProgram(Machine& machine, std::vector<bpf_insn> insns, std::vector<SubprogInfo> subprogs = {})
      : prog(machine) {
    prog.insnsi = std::move(insns);
    prog.aux->subprogs = std::move(subprogs);
    prog.aux->name = "loose";
    prepared = bpf_prog_select_runtime(prog);
  }
  RunOutcome run(Addr ctx = 0) { return bpf_prog_run(prog.machine, prog, ctx); }

  Prog prog;
  Result<void> prepared;
};

inline MachineOptions small_machine() {
  MachineOptions options;
  options.arena_bytes = 64 << 20;
  return options;
}

}  // namespace bpfsim
