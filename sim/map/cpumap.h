// Models: kernel/bpf/cpumap.c (Linux 6.18)
//
// What the networking side asks a map of CPUs: where a redirected packet goes.
#pragma once

#include "object/ops.h"

namespace bpfsim {

// The CPU of an entry, and the program that sees the packet there (or null).
struct CpuTarget {
  uint32_t cpu;
  Prog* prog;
};
CpuTarget cpu_map_target(const void* tgt_value);  // of bpf_redirect_info

}  // namespace bpfsim
