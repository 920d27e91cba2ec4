// Models: kernel/bpf/core.c (bpf_prog_map_compatible, bpf_check_tail_call) (Linux 6.18)
//
// Which programs may meet in a prog array. The first program that meets it, by using it or by being put into
// it, becomes its owner; every other must be of the same kind, because a tail call goes from one into the
// other with the same context, on the same stack and with the same storages of a cgroup.
#pragma once

#include "object/map.h"
#include "object/prog.h"

namespace bpfsim {

// `differs_in` is told in what the program is unlike the owner, in words.
bool bpf_prog_map_compatible(Map& map, const Prog& prog, const char** differs_in = nullptr);
// For a program that has its engine: every prog array that it uses must accept it.
Result<void> bpf_check_tail_call(const Prog& prog);

}  // namespace bpfsim
