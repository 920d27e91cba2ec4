// Models: kernel/bpf/verifier.c, mark_fastcall_patterns() (Linux 6.18)
//
// For a helper that touches only some of R0 to R5, a compiler may keep values in the others over the call, if
// it also spills and fills them at stack slots that serve nothing else. Here such pairs around a call are
// found; where the call becomes a few instructions (bpf_get_smp_processor_id), they are dropped after the
// walk. Not modelled yet: kfunc calls.
#include <algorithm>

#include "uapi/tables.h"
#include "verifier/cfg.h"

namespace bpfsim {

const FuncProto* get_helper_proto(const bpf_verifier_env& env, int32_t func_id) {
  if (func_id <= 0 || func_id >= int(BPF_FUNC_MAX_ID) || !env.ops || !env.ops->get_func_proto) return nullptr;
  const FuncProto* proto = env.ops->get_func_proto(bpf_func_id(func_id), env.prog);
  return proto && proto->func ? proto : nullptr;
}

static bool verifier_inlines_helper_call(const bpf_verifier_env& env, int32_t func_id) {
  return func_id == BPF_FUNC_get_smp_processor_id && env.prog.jit_requested;
}

// Of a helper that the program may call and that has no body here: its C signature tells how many arguments.
static std::optional<call_summary> summary_by_signature(const bpf_verifier_env& env, const bpf_insn& call) {
  const HelperRow* helper = find_helper(call.imm);
  if (!helper || !env.ops->get_func_proto || !env.ops->get_func_proto(helper->number, env.prog))
    return std::nullopt;
  const std::string_view signature = helper->signature;
  if (signature.ends_with("(void)")) return call_summary{0, signature.starts_with("void "), false};
  const auto commas = std::count(signature.begin(), signature.end(), ',');
  return call_summary{uint32_t(commas + 1), signature.starts_with("void "), false};
}

std::optional<call_summary> get_call_summary(const bpf_verifier_env& env, const bpf_insn& call) {
  if (!is_helper_call(call)) return std::nullopt;
  const FuncProto* proto = get_helper_proto(env, call.imm);
  if (!proto) return summary_by_signature(env, call);
  auto end = std::find(std::begin(proto->arg_type), std::end(proto->arg_type), uint32_t(ARG_DONTCARE));
  return call_summary{uint32_t(end - std::begin(proto->arg_type)), proto->ret_type == RET_VOID,
                      proto->allow_fastcall && verifier_inlines_helper_call(env, call.imm)};
}

static bool is_spill(const bpf_insn& insn) {
  return insn.code == (BPF_STX | BPF_MEM | BPF_DW) && insn.dst_reg == BPF_REG_10;
}
static bool is_fill(const bpf_insn& insn) {
  return insn.code == (BPF_LDX | BPF_MEM | BPF_DW) && insn.src_reg == BPF_REG_10;
}

// Pairs grow outwards from the call, each at the next higher slot.
static void mark_fastcall_pattern_for_call(bpf_verifier_env& env, bpf_subprog_info& sub, uint32_t at,
                                           int16_t lowest_off) {
  std::optional<call_summary> call = get_call_summary(env, env.insns[at]);
  if (!call) return;
  uint32_t clobbered = (2u << call->num_params) - (call->is_void ? 2 : 1);
  uint32_t expected = ~clobbered & ((1u << CALLER_SAVED_REGS) - 1);
  uint32_t pairs = 0;
  int16_t off = lowest_off;
  for (; pairs < uint32_t(CALLER_SAVED_REGS); pairs++, off = int16_t(off + BPF_REG_SIZE)) {
    uint32_t i = pairs + 1;
    if (at < i || at + i >= env.insn_cnt()) break;
    const bpf_insn &stx = env.insns[at - i], &ldx = env.insns[at + i];
    if (!is_spill(stx) || !is_fill(ldx) || stx.src_reg != ldx.dst_reg || !(expected >> stx.src_reg & 1))
      break;
    if (stx.off != off || ldx.off != off) break;
    expected &= ~(1u << stx.src_reg);
    env.insn_aux_data[at - i].fastcall_pattern = env.insn_aux_data[at + i].fastcall_pattern = true;
  }
  if (pairs == 0) return;
  if (call->fastcall)
    env.insn_aux_data[at].fastcall_spills_num = uint8_t(pairs & 7);
  else
    sub.keep_fastcall_stack = true;
  sub.fastcall_stack_off = std::min(sub.fastcall_stack_off, off);
}

Errno mark_fastcall_patterns(bpf_verifier_env& env) {
  KFN(env.machine, mark_fastcall_patterns);
  if (!has(Gate::fastcall, env.machine.version)) return Errno::None;
  for (uint32_t s = 0; s < env.subprog_cnt; s++) {
    bpf_subprog_info& sub = env.subprog_info[s];
    const uint32_t end = env.subprog_info[s + 1].start;
    int16_t lowest_off = 0;
    for (uint32_t i = sub.start; i < end; i++)
      if (is_spill(env.insns[i])) lowest_off = std::min(lowest_off, env.insns[i].off);
    for (uint32_t i = sub.start; i < end; i++)
      if (env.insns[i].code == (BPF_JMP | BPF_CALL)) mark_fastcall_pattern_for_call(env, sub, i, lowest_off);
  }
  return Errno::None;
}

}  // namespace bpfsim
