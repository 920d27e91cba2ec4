// Models: kernel/bpf/core.c, bpf_prog_calc_tag() (Linux 6.18)
//
// The name of a program by its content: the first eight bytes of a digest of its instructions, with the
// descriptors of maps taken as 0, so that two loads of one program have one tag. 6.18 takes SHA-256
// (measured), older kernels SHA-1.
#pragma once

#include <array>
#include <vector>

#include "isa/insn.h"
#include "uapi/version.h"

namespace bpfsim {

using Sha256 = std::array<uint8_t, 32>;
Sha256 sha256(std::vector<uint8_t> message);
Sha256 bpf_prog_digest(const std::vector<bpf_insn>& insns);  // all of it, as exclusive maps name a program
std::array<uint8_t, BPF_TAG_SIZE> bpf_prog_calc_tag(const std::vector<bpf_insn>& insns, Version version);

}  // namespace bpfsim
