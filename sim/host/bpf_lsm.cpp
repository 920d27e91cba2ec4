// Models: kernel/bpf/bpf_lsm.c (Linux 6.18)
//
// See bpf_lsm.h. The kernel's sets of BTF ids are bits of each hook's row in btf/lsm_hooks.def. Not modelled
// yet: that hooks fire, and that older versions have others.
#include "host/bpf_lsm.h"

#include "btf/btf_types.h"
#include "object/btf.h"

namespace bpfsim {

namespace {

enum : uint8_t { PLAIN = 0, SLEEPABLE = 1, DISABLED = 2, UNTRUSTED = 4, BOOL = 8, OF_CURRENT = 16 };

struct LsmHook {
  std::string_view function;
  uint8_t sets;
};
constexpr LsmHook kHooks[] = {
#define VMLINUX_STRUCT(name, size)
#define VMLINUX_UNION(name, size)
#define VMLINUX_MEMBER(name, type, offset)
#define LSM_HOOK(name, ret, args, sets) {"bpf_lsm_" #name, sets},
#include "btf/lsm_hooks.def"
#undef LSM_HOOK
#undef VMLINUX_MEMBER
#undef VMLINUX_UNION
#undef VMLINUX_STRUCT
};

const LsmHook* find_hook(std::string_view function) {
  for (const LsmHook& hook : kHooks)
    if (hook.function == function) return &hook;
  return nullptr;
}

bool is_in(std::string_view function, uint8_t set) {
  const LsmHook* hook = find_hook(function);
  return hook && (hook->sets & set);
}

}  // namespace

bool bpf_lsm_is_hook(std::string_view function) { return find_hook(function) != nullptr; }
bool bpf_lsm_is_disabled_hook(std::string_view function) { return is_in(function, DISABLED); }
bool bpf_lsm_is_sleepable_hook(std::string_view function) { return is_in(function, SLEEPABLE); }
bool bpf_lsm_is_trusted(std::string_view function) { return !is_in(function, UNTRUSTED); }

std::optional<LsmRetvalRange> bpf_lsm_get_retval_range(const Prog& prog) {
  constexpr int32_t kMaxErrno = 4095;
  const ProgAux& aux = *prog.aux;
  if (!aux.attach_btf->types->type_by_id(aux.attach_func_proto)->type) return std::nullopt;
  if (is_in(aux.attach_func_name, BOOL)) return LsmRetvalRange{0, 1};
  return LsmRetvalRange{-kMaxErrno, 0};
}

}  // namespace bpfsim
