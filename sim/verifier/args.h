// Models: kernel/bpf/verifier.c, check_func_arg() and what it calls (Linux 6.18)
//
// Whether a register is what a helper's prototype wants of it. `meta` carries what one argument tells of the
// next and of the result: the map whose key follows, the buffer whose size follows, the reference that is
// given back.
#pragma once

#include "verifier/env.h"

namespace bpfsim {

struct bpf_call_arg_meta {
  Map* map_ptr = nullptr;
  bool raw_mode = false;  // the helper only writes the buffer, it need not be initialised
  bool pkt_access = false;
  uint8_t release_regno = 0;
  uint32_t regno = 0;
  int access_size = 0;
  int mem_size = 0;
  uint64_t msize_max_value = 0;
  uint32_t ref_obj_id = 0;
  uint32_t map_uid = 0;
  int func_id = 0;
  uint32_t subprogno = 0;
  int64_t const_map_key = 0;
};

[[nodiscard]] Errno check_func_arg(bpf_verifier_env& env, uint32_t arg, bpf_call_arg_meta& meta,
                                   const FuncProto& fn);
// Whether the pointer may carry an offset when it is passed on.
[[nodiscard]] Errno check_func_arg_reg_off(bpf_verifier_env& env, const bpf_reg_state& reg, uint32_t regno,
                                           uint32_t arg_type);
bool can_elide_value_nullness(bpf_map_type type);

}  // namespace bpfsim
