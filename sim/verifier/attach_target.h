// Models: kernel/bpf/verifier.c, check_attach_btf_id() and bpf_check_attach_target() (Linux 6.18)
//
// May a program of this kind be sleepable, and to what will it be attached: a function of the kernel's, or of
// another program. An extension may be attached to another target later, which is asked the same.
#pragma once

#include "object/prog.h"
#include "uapi/result.h"

namespace bpfsim {

struct bpf_verifier_env;

struct bpf_attach_target_info {
  std::string tgt_name;
  uint32_t tgt_type = 0;  // the function's prototype; 0: nobody knows what its arguments are
  std::string message;    // what the log says of a refusal; "" where it says nothing
};
[[nodiscard]] Errno bpf_check_attach_target(const Prog& prog, const Prog* tgt_prog, uint32_t btf_id,
                                            bpf_attach_target_info& info);
[[nodiscard]] Errno check_attach_btf_id(bpf_verifier_env& env);

}  // namespace bpfsim
