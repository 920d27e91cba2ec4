// Models: kernel/bpf/verifier.c, mark_reg_*() and check_reg_arg() (Linux 6.18)
//
// See regs.h. Not modelled yet: maps of maps with timers inside (map_uid).
#include "verifier/regs.h"

namespace bpfsim {

void mark_reg_unknown_imprecise(bpf_reg_state& reg) {
  reg.type = SCALAR_VALUE;
  reg.off = 0;
  reg.raw = {0, 0};
  reg.id = 0;
  reg.ref_obj_id = 0;
  reg.frameno = 0;
  reg.precise = false;
  reg.scalar() = Scalar{};
}

void mark_reg_unknown(const bpf_verifier_env& env, bpf_reg_state& reg) {
  mark_reg_unknown_imprecise(reg);
  reg.precise = !env.bpf_capable;
}

void mark_reg_not_init(const bpf_verifier_env& env, bpf_reg_state& reg) {
  mark_reg_unknown(env, reg);
  reg.type = NOT_INIT;
}

void mark_reg_known(bpf_reg_state& reg, uint64_t imm) {
  reg.off = 0;
  reg.raw = {0, 0};
  reg.id = 0;
  reg.ref_obj_id = 0;
  mark_known(reg, imm);
}

void mark_reg_const_zero(const bpf_verifier_env& env, bpf_reg_state& reg) {
  mark_reg_known(reg, 0);
  reg.type = SCALAR_VALUE;
  reg.precise = !env.bpf_capable;
}

void mark_reg_invalid(const bpf_verifier_env& env, bpf_reg_state& reg) {
  if (env.allow_ptr_leaks)
    mark_reg_unknown(env, reg);
  else
    mark_reg_not_init(env, reg);
}

bpf_reg_state fake_scalar(uint64_t imm) {
  bpf_reg_state reg;
  reg.type = SCALAR_VALUE;
  mark_known(reg, imm);
  return reg;
}

// Whether the instruction uses all 64 bits of the register, as source or as destination.
bool is_reg64(const bpf_insn& insn, uint32_t, const bpf_reg_state* reg, reg_arg_type t) {
  uint8_t op = BPF_OP(insn.code);
  switch (BPF_CLASS(insn.code)) {
    case BPF_JMP:
      if (op == BPF_CALL) return insn.src_reg != BPF_PSEUDO_CALL && t == SRC_OP;
      return true;
    case BPF_ALU64: return !(op == BPF_END && insn.imm != 64);
    case BPF_ALU: return op == BPF_END && insn.imm == 64;
    case BPF_JMP32: return false;
    case BPF_LDX: return t == SRC_OP || BPF_SIZE(insn.code) == BPF_DW || BPF_MODE(insn.code) == BPF_MEMSX;
    case BPF_STX:
      if (t == SRC_OP && reg->type != SCALAR_VALUE) return true;
      return BPF_SIZE(insn.code) == BPF_DW;
    case BPF_LD: return BPF_MODE(insn.code) == BPF_IMM || t == SRC_OP;
    default: return true;
  }
}

int insn_def_regno(const bpf_insn& insn) {
  switch (BPF_CLASS(insn.code)) {
    case BPF_JMP:
    case BPF_JMP32:
    case BPF_ST: return -1;
    case BPF_STX:
      if (!is_atomic(insn)) return -1;
      if (insn.imm == BPF_CMPXCHG) return BPF_REG_0;
      if (insn.imm == BPF_LOAD_ACQ) return insn.dst_reg;
      return insn.imm & BPF_FETCH ? insn.src_reg : -1;
    default: return insn.dst_reg;
  }
}

static void mark_insn_zext(bpf_verifier_env& env, bpf_reg_state& reg) {
  if (reg.subreg_def == DEF_NOT_SUBREG) return;
  env.insn_aux_data[size_t(reg.subreg_def) - 1].zext_dst = true;
  reg.subreg_def = DEF_NOT_SUBREG;
}

Errno check_reg_arg(bpf_verifier_env& env, std::array<bpf_reg_state, MAX_BPF_REG>& regs, uint32_t regno,
                    reg_arg_type t) {
  if (regno >= MAX_BPF_REG) return reject(env, Errno::Inval, "R%u is invalid\n", regno);
  env.mark_reg_scratched(regno);
  bpf_reg_state& reg = regs[regno];
  bool rw64 = is_reg64(env.insns[env.insn_idx], regno, &reg, t);
  if (t == SRC_OP) {
    if (reg.type == NOT_INIT) return reject(env, Errno::Access, "R%u !read_ok\n", regno);
    if (regno != BPF_REG_FP && rw64) mark_insn_zext(env, reg);
    return Errno::None;
  }
  if (regno == BPF_REG_FP) return reject(env, Errno::Access, "frame pointer is read only\n");
  reg.subreg_def = rw64 ? DEF_NOT_SUBREG : int32_t(env.insn_idx) + 1;
  if (t == DST_OP) mark_reg_unknown(env, reg);
  return Errno::None;
}

void clear_caller_saved_regs(bpf_verifier_env& env, std::array<bpf_reg_state, MAX_BPF_REG>& regs) {
  for (uint32_t regno = BPF_REG_0; regno < CALLER_SAVED_REGS; regno++) {
    mark_reg_not_init(env, regs[regno]);
    (void)check_reg_arg(env, regs, regno, DST_OP_NO_MARK);  // R0 to R5 may always be written
  }
}

Errno reg_bounds_sanity_check(bpf_verifier_env& env, bpf_reg_state& reg, const char* where) {
  const char* broken = reg_bounds_violation(reg);
  if (!broken) [[likely]]
    return Errno::None;
  Errno err = verifier_bug(
      env,
      "REG INVARIANTS VIOLATION (%s): %s u64=[0x%llx, 0x%llx] s64=[0x%llx, 0x%llx] u32=[0x%x, 0x%x] "
      "s32=[0x%x, 0x%x] var_off=(0x%llx, 0x%llx)",
      where, broken, (unsigned long long)reg.r64.umin, (unsigned long long)reg.r64.umax,
      (unsigned long long)reg.r64.smin, (unsigned long long)reg.r64.smax, reg.r32.umin, reg.r32.umax,
      unsigned(reg.r32.smin), unsigned(reg.r32.smax), (unsigned long long)reg.var_off.value,
      (unsigned long long)reg.var_off.mask);
  if (env.test_reg_invariants) return err;
  mark_unbounded(reg);
  return Errno::None;
}

void assign_scalar_id_before_mov(bpf_verifier_env& env, bpf_reg_state& src) {
  if (src.type != SCALAR_VALUE || !has(Gate::linked_scalars, env.machine.version)) return;
  if (src.id & BPF_ADD_CONST) {  // it differs from its kin by a constant: a copy of it starts kin of its own
    src.id = 0;
    src.off = 0;
  }
  if (!src.id && !src.is_const()) src.id = ++env.id_gen;
}

bool is_trusted_reg(const bpf_reg_state& reg) {
  constexpr uint32_t trusted = MEM_ALLOC | PTR_TRUSTED | NON_OWN_REF;
  if (reg.ref_obj_id) return true;
  bool unsafe = type_flag(reg.type) & ~trusted;
  uint32_t base = base_type(reg.type);
  bool has_btf = base == PTR_TO_SOCKET || base == PTR_TO_SOCK_COMMON || base == PTR_TO_TCP_SOCK ||
                 base == CONST_PTR_TO_MAP;
  if (has_btf && !unsafe) return true;
  return (type_flag(reg.type) & trusted) && !unsafe;
}

bool reg_not_null(const bpf_reg_state& reg) {
  if (type_may_be_null(reg.type)) return false;
  switch (base_type(reg.type)) {
    case PTR_TO_SOCKET:
    case PTR_TO_TCP_SOCK:
    case PTR_TO_MAP_VALUE:
    case PTR_TO_MAP_KEY:
    case PTR_TO_SOCK_COMMON:
    case CONST_PTR_TO_MAP: return true;
    case PTR_TO_BTF_ID: return is_trusted_reg(reg);
    case PTR_TO_MEM: return !(reg.type & PTR_UNTRUSTED);
    default: return false;
  }
}

// What a looked-up value is once it is known to be there: some maps give other things than values.
void mark_ptr_not_null_reg(bpf_reg_state& reg) {
  if (base_type(reg.type) != PTR_TO_MAP_VALUE) {
    reg.type &= ~uint32_t{PTR_MAYBE_NULL};
    return;
  }
  const Map& map = *reg.map_ptr;
  if (map.inner_map_meta) {
    reg.type = CONST_PTR_TO_MAP;
    reg.map_ptr = map.inner_map_meta;
  } else if (map.map_type == BPF_MAP_TYPE_XSKMAP) {
    reg.type = PTR_TO_XDP_SOCK;
  } else if (map.map_type == BPF_MAP_TYPE_SOCKMAP || map.map_type == BPF_MAP_TYPE_SOCKHASH) {
    reg.type = PTR_TO_SOCKET;
  } else {
    reg.type = PTR_TO_MAP_VALUE;
  }
}

}  // namespace bpfsim
