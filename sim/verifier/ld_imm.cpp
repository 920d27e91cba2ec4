// Models: kernel/bpf/verifier.c, check_ld_imm() (Linux 6.18)
//
// See ld_imm.h. Not modelled yet: kernel variables by BTF id, functions as values (for callbacks).
#include "verifier/ld_imm.h"

#include "verifier/map_func.h"
#include "verifier/regs.h"

namespace bpfsim {

Errno check_ld_imm(bpf_verifier_env& env, const bpf_insn& insn) {
  if (BPF_SIZE(insn.code) != BPF_DW) return reject(env, Errno::Inval, "invalid BPF_LD_IMM insn\n");
  if (insn.off != 0) return reject(env, Errno::Inval, "BPF_LD_IMM64 uses reserved fields\n");
  MUST(check_reg_arg(env, insn.dst_reg, DST_OP));
  bpf_reg_state& dst = env.cur_regs()[insn.dst_reg];
  const bpf_insn_aux_data& aux = env.cur_aux();
  switch (insn.src_reg) {
    case 0:
      dst.type = SCALAR_VALUE;
      mark_reg_known(dst, ld_imm64_value(insn, env.insns[env.insn_idx + 1]));
      return Errno::None;
    case BPF_PSEUDO_MAP_FD:
    case BPF_PSEUDO_MAP_IDX:
      mark_reg_known_zero(dst);
      dst.map_ptr = env.used_maps[aux.map_index];
      dst.type = CONST_PTR_TO_MAP;
      return Errno::None;
    case BPF_PSEUDO_MAP_VALUE:
    case BPF_PSEUDO_MAP_IDX_VALUE:
      MUST(check_values_are_plain(env, *env.used_maps[aux.map_index]));
      mark_reg_known_zero(dst);
      dst.map_ptr = env.used_maps[aux.map_index];
      dst.type = PTR_TO_MAP_VALUE;
      dst.off = int32_t(aux.map_off);
      return Errno::None;
    case BPF_PSEUDO_FUNC: return not_modelled(env, "functions as values");
    case BPF_PSEUDO_BTF_ID: return not_modelled(env, "kernel variables by BTF id");
    default: return verifier_bug(env, "unexpected src reg value for ldimm64");
  }
}

}  // namespace bpfsim
