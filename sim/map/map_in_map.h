// Models: kernel/bpf/map_in_map.h (Linux 6.18)
//
// Maps whose values are maps: what an inner map must have in common with the template that the outer one was
// created with, and how a file descriptor becomes the inner map.
#pragma once

#include "object/ops.h"

namespace bpfsim {

// Whether a program that was checked against one map may be given the other.
bool bpf_map_meta_equal(const Map& meta, const Map& inner);

}  // namespace bpfsim
