// Models: kernel/bpf/helpers.c (bpf_base_func_proto) (Linux 6.18)
//
// From a helper's number to its prototype. The rows come from modelled.def; the prototypes stand beside their
// bodies.
#include "run/helpers/table.h"

#include "run/helpers/call.h"

namespace bpfsim {

const FuncProto* helper_proto(bpf_func_id id) {
  switch (id) {
#define BPFSIM_HELPER(name) \
  case BPF_FUNC_##name: return &bpf_##name##_proto;
#include "run/helpers/modelled.def"
#undef BPFSIM_HELPER
    default: return nullptr;
  }
}

Map* map_argument(Machine& machine, uint64_t reg) {
  if (Map* map = map_from_handle(machine, reg)) return map;
  if (RunFrame* frame = machine.current->running)
    oops(*frame, frame->insn, "a helper got " + std::to_string(reg) + " where it wants a map");
  return nullptr;
}

}  // namespace bpfsim
