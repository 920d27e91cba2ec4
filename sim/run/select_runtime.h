// Models: include/linux/filter.h (bpf_prog_run), kernel/bpf/core.c (bpf_prog_select_runtime) (Linux 6.18)
//
// What the rest of the machine calls of this station: choose how a verified program runs, and run it.
#pragma once

#include "run/engine.h"

namespace bpfsim {

Result<void> bpf_prog_select_runtime(Prog& prog);

// Runs a program on the current CPU, inside an RCU read section, and counts it when kernel.bpf_stats_enabled
// is set or a file of BPF_ENABLE_STATS is open. A program that was stopped by a simulated oops or an
// interrupt answers 0, and `stop` says so.
RunOutcome bpf_prog_run(Machine& machine, Prog& prog, Addr ctx);

}  // namespace bpfsim
