// Models: kernel/bpf/verifier.c, convert_ctx_accesses() (Linux 6.18)
//
// A program sees a context that does not exist: struct __sk_buff stands for struct sk_buff. Here each access
// of it becomes accesses of the real struct, which the program type writes (VerifierOps::convert_ctx_access).
// A load of part of a field becomes a load of the field, a shift and a mask. On the way, barriers against
// speculation go where the walk asked for them. Not modelled yet: accesses through socket pointers,
// epilogues.
#include "verifier/fixups.h"
#include "verifier/rewrite.h"

namespace bpfsim {
namespace {

bool is_load(const bpf_insn& insn) {
  uint8_t mode = BPF_MODE(insn.code);
  return BPF_CLASS(insn.code) == BPF_LDX &&
         (mode == BPF_MEM || (mode == BPF_MEMSX && BPF_SIZE(insn.code) != BPF_DW));
}
bool is_store(const bpf_insn& insn) {
  return (BPF_CLASS(insn.code) == BPF_STX || BPF_CLASS(insn.code) == BPF_ST) &&
         BPF_MODE(insn.code) == BPF_MEM;
}

// What follows the load of a whole field, so that the register holds `size` bytes of it from `shift` on.
void narrow(Insns& patch, int dst, int size, int shift, int field_size) {
  if (shift)
    patch.push_back(field_size <= 4 ? alu32_imm(BPF_RSH, dst, shift) : alu64_imm(BPF_RSH, dst, shift));
  patch.push_back(alu32_imm(BPF_AND, dst, int64_t(int32_t(uint32_t((1ull << size * 8) - 1)))));
}

Errno convert_ctx_access(bpf_verifier_env& env, bpf_insn insn, const bpf_insn_aux_data& aux, Insns& patch) {
  const int field_size = aux.ctx_field_size, size = bpf_size_to_bytes(BPF_SIZE(insn.code)), off = insn.off;
  const bool narrower = size < field_size, sign_extends = is_load(insn) && BPF_MODE(insn.code) == BPF_MEMSX;
  if (narrower) {
    if (!is_load(insn)) return verifier_bug(env, "narrow ctx access misconfigured");
    uint8_t whole = field_size == 4 ? BPF_W : field_size == 8 ? BPF_DW : BPF_H;
    insn.off = int16_t(off & ~(field_size - 1));
    insn.code = BPF_LDX | BPF_MEM | whole;
  }
  uint32_t target_size = 0;
  Insns access =
      env.ops->convert_ctx_access(is_load(insn) ? BPF_READ : BPF_WRITE, insn, env.prog, &target_size);
  if (access.empty() || (field_size && !target_size))
    return not_modelled(env, "the context field at offset %d", off);
  patch.insert(patch.end(), access.begin(), access.end());
  if (narrower && size < int(target_size))
    narrow(patch, insn.dst_reg, size, off % field_size * 8, field_size);
  if (sign_extends)
    patch.push_back(make_insn(BPF_ALU64 | BPF_MOV | BPF_X, insn.dst_reg, insn.dst_reg, size * 8, 0));
  return Errno::None;
}

// A pointer into the kernel may be stale: the load yields 0 instead of a fault.
bpf_insn probe_load(bpf_insn insn) {
  uint8_t mode = BPF_MODE(insn.code) == BPF_MEM ? BPF_PROBE_MEM : BPF_PROBE_MEMSX;
  insn.code = uint8_t(BPF_LDX | mode | BPF_SIZE(insn.code));
  return insn;
}

// What the instruction becomes; empty: it stays.
Errno convert_access(bpf_verifier_env& env, uint32_t i, Insns& patch) {
  const bpf_insn& insn = env.insns[i];
  const bpf_insn_aux_data& aux = env.insn_aux_data[i];
  if (aux.nospec) patch.push_back(st_nospec());
  auto keep = [&] {
    if (!patch.empty()) patch.push_back(insn);
    return Errno::None;
  };
  if (!is_load(insn) && !is_store(insn)) return keep();
  if (is_store(insn) && aux.nospec_result) {
    patch.push_back(insn);
    patch.push_back(st_nospec());
    return Errno::None;
  }
  switch (aux.ptr_type) {
    case PTR_TO_CTX: return env.ops->convert_ctx_access ? convert_ctx_access(env, insn, aux, patch) : keep();
    case PTR_TO_SOCKET:
    case PTR_TO_SOCK_COMMON:
    case PTR_TO_TCP_SOCK:
    case PTR_TO_XDP_SOCK: return not_modelled(env, "access through a socket pointer");
    case PTR_TO_BTF_ID:
    case uint32_t(PTR_TO_BTF_ID) | PTR_UNTRUSTED:
    case uint32_t(PTR_TO_BTF_ID) | MEM_ALLOC | PTR_UNTRUSTED:
    case uint32_t(PTR_TO_MEM) | MEM_RDONLY | PTR_UNTRUSTED:
      if (!is_load(insn)) return keep();
      patch.push_back(probe_load(insn));
      return Errno::None;
    default: return keep();
  }
}

// The prologue runs once: who jumps to the first instruction jumps behind it.
Errno put_prologue(bpf_verifier_env& env) {
  if (!env.ops->gen_prologue) return Errno::None;  // XDP owns its packet: nothing to do before a write
  Insns prologue = env.ops->gen_prologue(env.seen_direct_write, env.prog);
  if (prologue.empty()) return Errno::None;
  const uint32_t added = uint32_t(prologue.size()) - 1;
  MUST(bpf_patch_insn_data(env, 0, prologue));
  for (uint32_t i = added; i < env.insn_cnt(); i++) {
    bpf_insn& insn = env.insns[i];
    if (!is_jmp(insn) || BPF_OP(insn.code) == BPF_CALL || BPF_OP(insn.code) == BPF_EXIT) continue;
    bool by_imm = insn.code == (BPF_JMP32 | BPF_JA);
    if (int64_t(i) + 1 + (by_imm ? insn.imm : insn.off) != 0) continue;
    by_imm ? insn.imm += int32_t(added) : insn.off = int16_t(insn.off + int(added));
  }
  return Errno::None;
}

}  // namespace

Errno convert_ctx_accesses(bpf_verifier_env& env) {
  KFN(env.machine, convert_ctx_accesses);
  const uint32_t before = env.insn_cnt();
  MUST(put_prologue(env));
  Rewrite rewrite(env);
  for (uint32_t i = env.insn_cnt() - before; i < env.insn_cnt(); i++) {
    Insns patch;
    MUST(convert_access(env, i, patch));
    if (!patch.empty()) rewrite.replace(i, std::move(patch));
  }
  MUST(rewrite.apply());
  rewrite_stage(env, "convert_ctx_accesses");
  return Errno::None;
}

}  // namespace bpfsim
