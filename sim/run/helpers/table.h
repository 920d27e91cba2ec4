// Models: include/linux/bpf.h (struct bpf_func_proto rows), kernel/bpf/helpers.c (Linux 6.18)
//
// Every helper that this machine has: its number and its prototype, which stands beside its body in the files
// of this folder. Which program type may call which is decided in hook/.
#pragma once

#include <cstddef>
#include <string>

#include "object/ops.h"

namespace bpfsim {

// Null for a number that is no helper, and for a helper that is not modelled.
const FuncProto* helper_proto(bpf_func_id id);

// Every prototype, in the order of the numbers.
#define BPFSIM_HELPER(name) extern const FuncProto bpf_##name##_proto;
#include "run/helpers/modelled.def"
#undef BPFSIM_HELPER

// bpf_trace_printk and bpf_snprintf share the reading of a format.
struct Formatted {
  std::string text;     // the text, or as much of it as anybody can want
  uint64_t length = 0;  // of the whole text, as snprintf answers
};
Result<Formatted> bpf_bprintf(Machine& machine, Addr fmt, uint64_t fmt_size, const uint64_t* args,
                              uint32_t num_args);

// A line as /sys/kernel/tracing/trace_pipe shows it, without its newline.
std::string trace_pipe_line(const Machine& machine, const std::string& text);

}  // namespace bpfsim
