// Models: kernel/bpf/verifier.c, check_return_code() and check_ld_abs() (Linux 6.18)
//
// See exits.h.
#include "verifier/exits.h"

#include <cstdio>
#include <optional>

#include "btf/btf_types.h"
#include "host/bpf_lsm.h"
#include "object/btf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"
#include "verifier/backtrack.h"
#include "verifier/mem.h"
#include "verifier/print_state.h"
#include "verifier/refs.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {
// The function that the program is attached to returns nothing. An extension's is its target's own.
bool returns_void(const Prog& prog) {
  const ProgAux& aux = *prog.aux;
  const Btf& btf = aux.dst_prog ? *aux.dst_prog->aux->btf : *aux.attach_btf;
  return btf.types->type_by_id(aux.attach_func_proto)->type == 0;
}

// A cgroup's programs say whether the hook goes on, and leave what it returns to a helper.
std::optional<bpf_retval_range> lsm_retval_range(const Prog& prog) {
  if (prog.expected_attach_type == BPF_LSM_CGROUP)
    return returns_void(prog) ? bpf_retval_range{1, 1} : bpf_retval_range{0, 1};
  if (prog.type != BPF_PROG_TYPE_LSM || !has(Gate::lsm_retval_range, prog.machine.version))
    return std::nullopt;
  const std::optional<LsmRetvalRange> range = bpf_lsm_get_retval_range(prog);
  if (!range) return std::nullopt;
  return bpf_retval_range{range->minval, range->maxval};
}

// What a program of this kind may answer; nothing: any number.
std::optional<bpf_retval_range> retval_range_of(const Prog& prog) {
  const bpf_attach_type attach = prog.expected_attach_type;
  const Version version = prog.machine.version;
  if (!has(Gate::retval_checked, version)) return std::nullopt;
  switch (resolve_prog_type(prog)) {
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
      switch (attach) {
        case BPF_CGROUP_UDP4_RECVMSG:
        case BPF_CGROUP_UDP6_RECVMSG:
        case BPF_CGROUP_UNIX_RECVMSG:
        case BPF_CGROUP_INET4_GETPEERNAME:
        case BPF_CGROUP_INET6_GETPEERNAME:
        case BPF_CGROUP_UNIX_GETPEERNAME:
        case BPF_CGROUP_INET4_GETSOCKNAME:
        case BPF_CGROUP_INET6_GETSOCKNAME:
        case BPF_CGROUP_UNIX_GETSOCKNAME: return bpf_retval_range{1, 1};
        case BPF_CGROUP_INET4_BIND:
        case BPF_CGROUP_INET6_BIND: return bpf_retval_range{0, has(Gate::retval_bind, version) ? 3 : 1};
        default: return bpf_retval_range{0, 1};
      }
    case BPF_PROG_TYPE_CGROUP_SKB:
      return bpf_retval_range{0,
                              attach == BPF_CGROUP_INET_EGRESS && has(Gate::retval_egress, version) ? 3 : 1};
    case BPF_PROG_TYPE_CGROUP_SOCK:
    case BPF_PROG_TYPE_SOCK_OPS:
    case BPF_PROG_TYPE_CGROUP_DEVICE:
    case BPF_PROG_TYPE_CGROUP_SYSCTL:
    case BPF_PROG_TYPE_CGROUP_SOCKOPT: return bpf_retval_range{0, 1};
    case BPF_PROG_TYPE_RAW_TRACEPOINT:
      if (!prog.aux->attach_btf_id) return std::nullopt;
      return bpf_retval_range{0, 0};
    case BPF_PROG_TYPE_TRACING:
      if (!has(Gate::retval_tracing, version)) return std::nullopt;
      if (attach == BPF_TRACE_FENTRY || attach == BPF_TRACE_FEXIT) return bpf_retval_range{0, 0};
      if (attach == BPF_TRACE_ITER) return bpf_retval_range{0, 1};
      return std::nullopt;
    case BPF_PROG_TYPE_KPROBE:
      if ((attach == BPF_TRACE_KPROBE_SESSION || attach == BPF_TRACE_UPROBE_SESSION) &&
          knows_attach_type(version, attach))
        return bpf_retval_range{0, 1};
      return std::nullopt;
    case BPF_PROG_TYPE_LSM: return lsm_retval_range(prog);
    case BPF_PROG_TYPE_SK_LOOKUP:
    case BPF_PROG_TYPE_NETFILTER: return bpf_retval_range{0, 1};
    default: return std::nullopt;
  }
}
}  // namespace

// As kernels printed a tnum until constants became plain numbers.
static std::string tnum_bits(tnum a) {
  char text[48];
  std::snprintf(text, sizeof text, "(0x%llx; 0x%llx)", (unsigned long long)a.value,
                (unsigned long long)a.mask);
  return text;
}

Errno verbose_invalid_scalar(bpf_verifier_env& env, const bpf_reg_state& reg, bpf_retval_range range,
                             const char* context, const char* reg_name) {
  if (!has(Gate::retval_range, env.machine.version)) {
    const bool told = has(Gate::retval_words, env.machine.version);
    const tnum is = reg.var_off, wanted = tnum_range(uint64_t(range.minval), uint64_t(range.maxval));
    const std::string has = tnum_is_unknown(is) ? "unknown scalar value" : "value " + tnum_bits(is);
    const std::string should = told ? "in " + tnum_bits(wanted) : "0 or 1";
    return reject(env, Errno::Inval, "%s the register %s has %s should have been %s\n", context, reg_name,
                  has.c_str(), should.c_str());
  }
  std::string has;
  if (reg.r64.smin > INT64_MIN) has += " smin=" + std::to_string(reg.r64.smin);
  if (reg.r64.smax < INT64_MAX) has += " smax=" + std::to_string(reg.r64.smax);
  if (has.empty()) has = " unknown scalar value";
  return reject(env, Errno::Inval, "%s the register %s has%s should have been in [%d, %d]\n", context,
                reg_name, has.c_str(), range.minval, range.maxval);
}

Errno check_return_code(bpf_verifier_env& env, uint32_t regno) {
  const bpf_prog_type type = resolve_prog_type(env.prog);
  const bpf_func_state& frame = *env.cur_state->frame[0];
  const bool in_main = !frame.subprogno || frame.in_exception_callback_fn;
  const bool on_cgroup = type == BPF_PROG_TYPE_LSM && env.prog.expected_attach_type == BPF_LSM_CGROUP;
  const bool has_target = type == BPF_PROG_TYPE_LSM || type == BPF_PROG_TYPE_STRUCT_OPS;
  const bool is_void = in_main && has_target && returns_void(env.prog);
  if (is_void && !on_cgroup) return Errno::None;  // nobody reads R0
  const bpf_reg_state& reg = env.cur_regs()[regno];
  MUST(check_reg_arg(env, regno, SRC_OP));
  if (is_pointer_value(env, regno))
    return reject(env, Errno::Access, "R%u leaks addr as return value\n", regno);

  const char* context = "At program exit";
  std::optional<bpf_retval_range> range;
  if (frame.in_async_callback_fn) {
    context = "At async callback return";
    range = frame.callback_ret_range;
  } else if (frame.subprogno && !frame.in_exception_callback_fn) {
    if (reg.type == SCALAR_VALUE) return Errno::None;
    return reject(env, Errno::Inval, "At subprogram exit the register R%u is not a scalar value (%s)\n",
                  regno, reg_type_str(reg.type).c_str());
  } else {
    range = retval_range_of(env.prog);
  }
  if (!range) return Errno::None;
  if (reg.type != SCALAR_VALUE)
    return reject(env, Errno::Inval, "%s the register R%u is not a known value (%s)\n", context, regno,
                  reg_type_str(reg.type).c_str());
  MUST(mark_chain_precision(env, regno));
  const bool in_32_bits = type == BPF_PROG_TYPE_LSM && !on_cgroup;
  const int64_t smin = in_32_bits ? reg.r32.smin : reg.r64.smin;
  const int64_t smax = in_32_bits ? reg.r32.smax : reg.r64.smax;
  if (range->minval <= smin && smax <= range->maxval) {
    // Only an egress program may answer 2 or 3, so one that does is not attached elsewhere.
    if (type == BPF_PROG_TYPE_CGROUP_SKB && range->maxval == 3 && reg.r64.smin >= 2)
      env.prog.enforce_expected_attach_type = true;
    return Errno::None;
  }
  const Errno err = verbose_invalid_scalar(env, reg, *range, context, "R0");
  if (is_void)
    verbose(env, "Note, BPF_LSM_CGROUP that attach to void LSM hooks can't modify return value!\n");
  return err;
}

// Reads the packet as classic BPF did: R6 is the context, R1 to R5 are lost, and past the end the program
// ends with 0.
Errno check_ld_abs(bpf_verifier_env& env, const bpf_insn& insn) {
  const bpf_prog_type type = resolve_prog_type(env.prog);
  if (type != BPF_PROG_TYPE_SOCKET_FILTER && type != BPF_PROG_TYPE_SCHED_CLS &&
      type != BPF_PROG_TYPE_SCHED_ACT)
    return reject(env, Errno::Inval, "BPF_LD_[ABS|IND] instructions not allowed for this program type\n");
  bool indirect = BPF_MODE(insn.code) == BPF_IND;
  if (env.subprog_cnt > 1 && !has(Gate::ld_abs_in_subprogs, env.machine.version))
    return reject(env, Errno::Inval, "BPF_LD_[ABS|IND] instructions cannot be mixed with bpf-to-bpf calls\n");
  if (insn.dst_reg != BPF_REG_0 || insn.off != 0 || BPF_SIZE(insn.code) == BPF_DW ||
      (!indirect && insn.src_reg != BPF_REG_0))
    return reject(env, Errno::Inval, "BPF_LD_[ABS|IND] uses reserved fields\n");
  MUST(check_reg_arg(env, BPF_REG_6, SRC_OP));
  MUST(check_resource_leak(env, true, LeakAt::LdAbs));
  auto& regs = env.cur_regs();
  if (regs[BPF_REG_6].type != PTR_TO_CTX)
    return reject(env, Errno::Inval, "at the time of BPF_LD_ABS|IND R6 != pointer to skb\n");
  if (indirect) MUST(check_reg_arg(env, insn.src_reg, SRC_OP));
  MUST(check_ptr_off_reg(env, regs[BPF_REG_6], BPF_REG_6, false));
  clear_caller_saved_regs(env, regs);
  mark_reg_unknown(env, regs[BPF_REG_0]);
  regs[BPF_REG_0].subreg_def = int32_t(env.insn_idx) + 1;
  return Errno::None;
}

}  // namespace bpfsim
