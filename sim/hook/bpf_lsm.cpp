// Models: kernel/bpf/bpf_lsm.c (lsm_verifier_ops), kernel/bpf/verifier.c (bpf_extension_verifier_ops)
// (Linux 6.18)
//
// The tables of LSM programs and of extensions. An LSM program's context is the hook's arguments, and behind
// them what the hook returned so far; unlike a tracing program it may write there, as the kernel's table has
// it. An extension has empty tables: it is verified with those of the program that it extends. Not modelled
// yet: the helpers that only LSM programs have (bpf_bprm_opts_set, bpf_ima_inode_hash, bpf_ima_file_hash,
// bpf_get_attach_cookie) and those that LSM programs on cgroups share with other cgroup programs.
#include "hook/types.h"

namespace bpfsim {

static bool lsm_ctx_access(int off, int size, bpf_access_type, const Prog& prog, InsnAccessAux& info) {
  return btf_ctx_access(off, size, prog, info);
}

const VerifierOps lsm_verifier_ops = {
    .name = "lsm", .get_func_proto = helper_for, .is_valid_access = lsm_ctx_access};
const ProgOps lsm_prog_ops = {.name = "lsm", .test_run = nullptr};

const VerifierOps bpf_extension_verifier_ops = {.name = "bpf_extension"};
const ProgOps bpf_extension_prog_ops = {.name = "bpf_extension", .test_run = nullptr};

}  // namespace bpfsim
