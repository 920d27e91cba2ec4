// Models: kernel/bpf/verifier.c, check_max_stack_depth() (Linux 6.18)
//
// How much stack the deepest chain of calls may need: 512 bytes in all and eight frames. The walk follows
// every call and every function pointer of each subprogram, reachable or not, as a tree. Where the JIT can
// give a program a stack of its own (tracing types), only each subprogram alone must fit into 512 bytes. Not
// modelled yet: bpf_throw().
#include <algorithm>

#include "uapi/gates.h"
#include "verifier/subprogs.h"

namespace bpfsim {
namespace {

enum PrivStackMode : uint8_t { PRIV_STACK_UNKNOWN, NO_PRIV_STACK, PRIV_STACK_ADAPTIVE };
constexpr int BPF_PRIV_STACK_MIN_SIZE = 64;

int round_up(int value, int to) { return (value + to - 1) / to * to; }

// The JIT keeps the stack aligned to 16 bytes; the interpreter comes in sizes of 32, which counted for both
// at first.
int round_up_stack_depth(const bpf_verifier_env& env, int depth) {
  const bool for_jit = env.prog.jit_requested && has(Gate::jit_stack_depth, env.machine.version);
  return for_jit ? round_up(depth, 16) : round_up(std::max(depth, 1), 32);
}

PrivStackMode bpf_enable_priv_stack(const bpf_verifier_env& env) {
  for (uint32_t i = 0; i < env.subprog_cnt; i++)
    if (env.subprog_info[i].has_tail_call) return NO_PRIV_STACK;
  switch (env.prog.type) {
    case BPF_PROG_TYPE_KPROBE:
    case BPF_PROG_TYPE_TRACEPOINT:
    case BPF_PROG_TYPE_PERF_EVENT:
    case BPF_PROG_TYPE_RAW_TRACEPOINT: return PRIV_STACK_ADAPTIVE;
    default: return NO_PRIV_STACK;
  }
}

struct StackWalk {
  bpf_verifier_env& env;
  const bool priv_stack_supported;
  std::vector<PrivStackMode>& mode;
  int depth = 0, frame = 0;
  bool tail_call_reachable = false;
  struct Return {
    uint32_t insn, subprog;
  } ret[MAX_CALL_FRAMES] = {};

  bool inside_callback(uint32_t idx) const {
    if (env.subprog_info[idx].is_cb) return true;
    return std::any_of(ret, ret + frame, [&](const Return& r) { return env.subprog_info[r.subprog].is_cb; });
  }

  Errno check_stack_depth_at(uint32_t idx) {
    const bpf_subprog_info& sub = env.subprog_info[idx];
    if (!priv_stack_supported) mode[idx] = NO_PRIV_STACK;
    if (sub.has_ld_abs && inside_callback(idx))
      return reject(env, Errno::Inval, "cannot use BPF_LD_[ABS|IND] within callback\n");
    // A tail call leaves the frames of its callers in place, up to 33 times.
    if (idx && sub.has_tail_call && depth >= 256)
      return reject(env, Errno::Access,
                    "tail_calls are not allowed when call stack of previous frames is %d bytes. Too large\n",
                    depth);
    int own = round_up_stack_depth(env, sub.stack_depth);
    if (priv_stack_supported && mode[idx] == PRIV_STACK_UNKNOWN && own >= BPF_PRIV_STACK_MIN_SIZE)
      mode[idx] = PRIV_STACK_ADAPTIVE;
    if (mode[idx] == PRIV_STACK_ADAPTIVE) {
      if (own > int(MAX_BPF_STACK))
        return reject(env, Errno::Access, "stack size of subprog %u is %d. Too large\n", idx, own);
      return Errno::None;
    }
    depth += own;
    if (depth > int(MAX_BPF_STACK))
      return reject(env, Errno::Access, "combined stack size of %d calls is %d. Too large\n", frame + 1,
                    depth);
    return Errno::None;
  }

  void leave(uint32_t idx) {
    if (mode[idx] != PRIV_STACK_ADAPTIVE)
      depth -= round_up_stack_depth(env, env.subprog_info[idx].stack_depth);
  }

  // The subprogram that the instruction calls or points to; -1 if none, or if its stack is not on top of
  // ours.
  Errno callee_of(uint32_t i, int& callee) {
    const bpf_insn& insn = env.insns[i];
    callee = -1;
    if (!bpf_pseudo_call(insn) && !bpf_pseudo_func(insn)) return Errno::None;
    int sub = find_subprog(env, i + 1 + uint32_t(insn.imm));
    if (sub < 0) return verifier_bug(env, "no program starts at insn %d", int(i + 1 + uint32_t(insn.imm)));
    if (env.subprog_info[uint32_t(sub)].is_async_cb) {
      if (env.subprog_info[uint32_t(sub)].has_tail_call)
        return verifier_bug(env, "subprog has tail_call and async cb");
      if (!bpf_pseudo_call(insn)) return Errno::None;
      if (env.subprog_info[uint32_t(sub)].is_exception_cb)
        return reject(env, Errno::Inval, "insn %u cannot call exception cb directly\n", i);
    }
    callee = sub;
    return Errno::None;
  }

  // Every frame under a tail call must keep its counter.
  Errno mark_tail_call_reachable() {
    for (int j = 0; tail_call_reachable && j < frame; j++) {
      bpf_subprog_info& caller = env.subprog_info[ret[j].subprog];
      if (caller.is_exception_cb) return reject(env, Errno::Inval, "cannot tail call within exception cb\n");
      caller.tail_call_reachable = true;
    }
    if (env.subprog_info[0].tail_call_reachable) env.prog.aux->tail_call_reachable = true;
    return Errno::None;
  }

  Errno run(uint32_t idx) {
    uint32_t i = env.subprog_info[idx].start;
    MUST(check_stack_depth_at(idx));
    for (;;) {
      int callee = -1;
      for (; callee < 0 && i < env.subprog_info[idx + 1].start; i++) MUST(callee_of(i, callee));
      if (callee >= 0) {
        ret[frame] = {i, idx};
        idx = uint32_t(callee);
        i = env.subprog_info[idx].start;
        tail_call_reachable |= env.subprog_info[idx].has_tail_call;
        if (++frame >= int(MAX_CALL_FRAMES))
          return reject(env, Errno::TooBig, "the call stack of %d frames is too deep !\n", frame);
        MUST(check_stack_depth_at(idx));
        continue;
      }
      MUST(mark_tail_call_reachable());
      if (frame == 0) return Errno::None;
      leave(idx);
      frame--;
      i = ret[frame].insn;
      idx = ret[frame].subprog;
    }
  }
};

}  // namespace

Errno check_max_stack_depth(bpf_verifier_env& env) {
  KFN(env.machine, check_max_stack_depth);
  const bool adaptive = bpf_enable_priv_stack(env) == PRIV_STACK_ADAPTIVE;
  std::vector<PrivStackMode> mode(env.subprog_cnt, PRIV_STACK_UNKNOWN);
  // Callbacks that run later, on a stack of the kernel's, come first: what they call must fit there too.
  for (uint32_t i = env.subprog_cnt; i-- > 0;) {
    if (i != 0 && !env.subprog_info[i].is_async_cb) continue;
    StackWalk walk{env, adaptive && !env.subprog_info[i].is_async_cb, mode};
    MUST(walk.run(i));
  }
  return Errno::None;
}

}  // namespace bpfsim
