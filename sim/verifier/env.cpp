// Models: kernel/bpf/verifier.c and log.c: verbose() and small helpers of all rooms (Linux 6.18)
//
// See env.h.
#include "verifier/env.h"

#include <algorithm>
#include <cstdio>

#include "uapi/gates.h"
#include "verifier/paths.h"

namespace bpfsim {

VerifierLimits verifier_limits(Version version) {
  return {complexity_limit_insns(version), has(Gate::jmp_seq_8192, version) ? 8192u : 1024u,
          has(Gate::bounded_loops, version)};
}

bpf_verifier_env::bpf_verifier_env(Machine& machine, Prog& prog, const bpf_attr& attr)
    : machine(machine),
      prog(prog),
      attr(attr),
      limits(verifier_limits(machine.version)),
      insns(prog.insnsi),
      insn_aux_data(prog.insnsi.size()) {
  for (uint32_t i = 0; i < insn_aux_data.size(); i++) insn_aux_data[i].orig_idx = i;
}

bpf_verifier_env::~bpf_verifier_env() { free_states(*this); }

void verbose(bpf_verifier_env& env, const char* format, ...) {
  if (!env.log.needed()) return;
  va_list args;
  va_start(args, format);
  bpf_verifier_vlog(env.log, format, args);
  va_end(args);
}

static Errno refuse_with(Refusing by, Errno err, const char* before, const char* format, va_list args) {
  bpf_verifier_env& env = by.env;
  env.refused_in = by.function;
  char text[BPF_VERIFIER_TMP_LOG_SIZE];
  int n = std::snprintf(text, sizeof text, "%s", before);
  std::vsnprintf(text + n, sizeof text - size_t(n), format, args);
  bpf_vlog_write(env.log, text);
  env.refusal = text;
  while (!env.refusal.empty() && env.refusal.back() == '\n') env.refusal.pop_back();
  return err;
}

Errno reject(Refusing by, Errno err, const char* format, ...) {
  va_list args;
  va_start(args, format);
  err = refuse_with(by, err, "", format, args);
  va_end(args);
  return err;
}

Errno not_modelled(Refusing by, const char* format, ...) {
  va_list args;
  va_start(args, format);
  Errno err = refuse_with(by, Errno::OpNotSupp, "bpfsim: not modelled yet: ", format, args);
  va_end(args);
  bpf_vlog_write(by.env.log, "\n");
  return err;
}

Errno verifier_bug(Refusing by, const char* format, ...) {
  va_list args;
  va_start(args, format);
  Errno err = refuse_with(by, Errno::Fault, "verifier bug: ", format, args);
  va_end(args);
  bpf_vlog_write(by.env.log, "\n");
  return err;
}

uint32_t bpf_find_containing_subprog(const bpf_verifier_env& env, uint32_t insn_idx) {
  auto end = env.subprog_info.begin() + env.subprog_cnt;
  auto after = std::upper_bound(env.subprog_info.begin(), end, insn_idx,
                                [](uint32_t idx, const bpf_subprog_info& sub) { return idx < sub.start; });
  return uint32_t(after - env.subprog_info.begin()) - 1;
}

int find_subprog(const bpf_verifier_env& env, uint32_t start) {
  if (start >= env.insn_cnt() || env.subprog_cnt == 0) return -1;
  uint32_t subprog = bpf_find_containing_subprog(env, start);
  return subprog < env.subprog_cnt && env.subprog_info[subprog].start == start ? int(subprog) : -1;
}

bool subprog_is_global(const bpf_verifier_env& env, uint32_t subprog) {
  return has(Gate::global_funcs, env.machine.version) && subprog < env.func_info_aux.size() &&
         env.func_info_aux[subprog].linkage == BTF_FUNC_GLOBAL;
}

int bpf_insn_successors(const std::vector<bpf_insn>& insns, uint32_t idx, uint32_t succ[2]) {
  const bpf_insn& insn = insns[idx];
  int n = 0;
  bool jump = is_jmp(insn), call = jump && BPF_OP(insn.code) == BPF_CALL;
  bool leaves = jump && (BPF_OP(insn.code) == BPF_EXIT || BPF_OP(insn.code) == BPF_JA);
  if (!leaves) succ[n++] = idx + (is_ld_imm64(insn) ? 2 : 1);
  if (jump && !call && BPF_OP(insn.code) != BPF_EXIT)
    succ[n++] = idx + 1 + uint32_t(insn.code == (BPF_JMP32 | BPF_JA) ? insn.imm : insn.off);
  return n;
}

}  // namespace bpfsim
