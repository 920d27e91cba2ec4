// Models: kernel/bpf/core.c, bpf_patch_insn_single() and bpf_remove_insns() (Linux 6.18)
//
// Changing a verified program: some instructions are replaced by several, some removed, and jumps, calls, aux
// data, subprograms and line info follow. Departs from the kernel, which moves the rest of the program for
// each single change: a pass collects its changes and they are made at once, in time linear in the program.
#pragma once

#include <map>

#include "verifier/env.h"

namespace bpfsim {

class Rewrite {
 public:
  explicit Rewrite(bpf_verifier_env& env) : env_(env) {}

  // `patch` takes the place of the instruction; its last one inherits the aux data. Jumps that stay in the
  // patch are its own business; those that leave it are written as if it alone had been put in.
  void replace(uint32_t at, Insns patch) { patches_[at] = std::move(patch); }
  void remove(uint32_t at) { patches_[at] = {}; }
  bool empty() const { return patches_.empty(); }
  // ENOMEM, as in the kernel, if a jump would no longer fit into 16 bits.
  [[nodiscard]] Errno apply();

 private:
  uint32_t moved(uint32_t old) const { return new_index_[old]; }
  [[nodiscard]] Errno aim(uint32_t orig_idx, bpf_insn& insn, int64_t distance);
  [[nodiscard]] Errno move_kept(uint32_t at, Insns& insns);
  [[nodiscard]] Errno move_patch(uint32_t at, const Insns& patch, Insns& insns);
  void move_subprogs();
  void move_lines(uint32_t old_cnt);

  bpf_verifier_env& env_;
  std::map<uint32_t, Insns> patches_;
  std::vector<uint32_t> new_index_;  // of each old instruction, and of the end
};

// The recorder gets a copy of the program after a pass, under the name of the kernel's function.
void rewrite_stage(bpf_verifier_env& env, const char* pass);

}  // namespace bpfsim
