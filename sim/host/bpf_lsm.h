// Models: kernel/bpf/bpf_lsm.c (Linux 6.18)
//
// The hooks of the security modules: for each the kernel has an empty function bpf_lsm_NAME, on which
// programs are hung. Here a hook is such a function of the machine's BTF, and these are the questions that
// are asked of one by the function's name.
#pragma once

#include <optional>
#include <string_view>

#include "object/prog.h"

namespace bpfsim {

bool bpf_lsm_is_hook(std::string_view function);
bool bpf_lsm_is_disabled_hook(std::string_view function);   // it returns what no program can make
bool bpf_lsm_is_sleepable_hook(std::string_view function);  // its programs may sleep
// Whether what the hook hands out cannot go away meanwhile.
bool bpf_lsm_is_trusted(std::string_view function);

struct LsmRetvalRange {
  int32_t minval, maxval;
};
// What a program on the hook may return; nothing for a hook that returns nothing.
std::optional<LsmRetvalRange> bpf_lsm_get_retval_range(const Prog& prog);

}  // namespace bpfsim
