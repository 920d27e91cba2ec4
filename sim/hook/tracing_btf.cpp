// Models: kernel/bpf/btf.c (btf_ctx_access), kernel/trace/bpf_trace.c (tracing_verifier_ops),
// net/bpf/test_run.c (bpf_prog_test_run_tracing) (Linux 6.18)
//
// TRACING and LSM programs: their context is an array of 8-byte arguments, and BTF says what each is. A
// number is read as it is, a pointer to a struct becomes a register that may be followed. Where the arguments
// are those of another program, only its context can be followed, as the struct that the kernel has behind
// it. Not modelled yet: arguments that a tracepoint may leave NULL (__nullable), the modified return value of
// fmod_ret, and that programs run which are attached to a function.
#include <cstddef>

#include "btf/btf_types.h"
#include "hook/bpf_iter.h"
#include "hook/test_run.h"
#include "hook/types.h"
#include "host/bpf_lsm.h"
#include "host/tracing.h"
#include "object/btf.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

constexpr int kFuncArgsSize = MAX_BPF_FUNC_ARGS * 8;

// The function or tracepoint as the log names it, and its arguments; without a prototype, five numbers.
struct Signature {
  const BtfTypes& types;
  std::string name;
  std::span<const btf_param> params;
  const btf_type* proto;
  size_t count() const { return proto ? params.size() : 5; }
};

Signature signature_of(const Prog& prog) {
  const ProgAux& aux = *prog.aux;
  const BtfTypes& types = *(aux.dst_prog ? aux.dst_prog->aux->btf : aux.attach_btf)->types;
  const btf_type* proto = aux.attach_func_proto ? types.type_by_id(aux.attach_func_proto) : nullptr;
  std::span<const btf_param> params;
  if (proto) params = btf_params(*proto);
  if (prog.expected_attach_type == BPF_TRACE_RAW_TP && !params.empty()) params = params.subspan(1);  // __data
  return {types, aux.attach_func_name, params, proto};
}

// Whether a pointer that the program is handed can be relied on while it runs.
bool prog_args_trusted(const Prog& prog) {
  const bpf_attach_type at = prog.expected_attach_type;
  switch (prog.type) {
    case BPF_PROG_TYPE_TRACING: return at == BPF_TRACE_RAW_TP || at == BPF_TRACE_ITER;
    case BPF_PROG_TYPE_LSM: return bpf_lsm_is_trusted(prog.aux->attach_func_name);
    default: return prog.type == BPF_PROG_TYPE_STRUCT_OPS;
  }
}

// btf_translate_to_vmlinux(): what the kernel has behind the context of the program that is watched.
uint32_t kernel_ctx_of(const Prog& prog, std::string_view user_struct) {
  const Prog& target = *prog.aux->dst_prog;
  const bpf_prog_type type = target.type == BPF_PROG_TYPE_EXT ? target.aux->saved_dst_prog_type : target.type;
  const ProgTypeRow* row = find_prog_type(type);
  if (!row || user_struct != row->context) return 0;
  constexpr struct {
    std::string_view user;
    const char* kernel;
  } kBehind[] = {{"xdp_md", "xdp_buff"},
                 {"__sk_buff", "sk_buff"},
                 {"bpf_nf_ctx", "bpf_nf_ctx"},
                 {"bpf_user_pt_regs_t", "pt_regs"}};
  for (const auto& pair : kBehind)
    if (pair.user == user_struct)
      return tracing(prog.machine).btf_vmlinux->types->find_by_name(pair.kernel, BTF_KIND_STRUCT);
  return 0;
}

bool is_number(const btf_type& t) {
  const uint32_t kind = btf_kind(t);
  return kind == BTF_KIND_INT || kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64 || btf_type_is_struct(t);
}

const CtxArg* special_arg(const Prog& prog, int off) {
  const IterTarget* target = prog.expected_attach_type == BPF_TRACE_ITER ? iter_target_of(prog) : nullptr;
  if (!target) return nullptr;
  for (const CtxArg& arg : target->args)
    if (arg.reg_type && int(arg.offset) == off) return &arg;
  return nullptr;
}

bool says(InsnAccessAux& info, const std::string& text) {
  info.message = text + "\n";
  return false;
}

bool pointer_argument(const Prog& prog, const Signature& func, const btf_type& pointer, int arg, int off,
                      InsnAccessAux& info) {
  if (const CtxArg* special = special_arg(prog, off)) {
    info.reg_type = special->reg_type;
    if (special->structure) info.btf_id = func.types.find_by_name(special->structure, BTF_KIND_STRUCT);
    return true;
  }
  uint32_t id = 0;
  const btf_type* to = func.types.skip_modifiers(pointer.type, &id);
  if (!to || btf_type_is_void(*to) || btf_kind(*to) == BTF_KIND_INT) return true;  // a number to the program
  const std::string nth = "func '" + func.name + "' arg" + std::to_string(arg);
  if (prog.aux->dst_prog) {
    info.reg_type = PTR_TO_BTF_ID;
    info.btf_id = kernel_ctx_of(prog, func.types.name_of(*to));
    if (info.btf_id) return true;
    info.not_modelled = nth + ", which is not the context of a packet";
    return false;
  }
  if (!btf_type_is_struct(*to))
    return says(info, nth + " type " + btf_kind_str(btf_kind(*to)) + " is not a struct");
  info.reg_type = uint32_t(PTR_TO_BTF_ID) | (prog_args_trusted(prog) ? uint32_t(PTR_TRUSTED) : 0);
  info.btf_id = id;
  says(info, nth + " has btf_id " + std::to_string(id) + " type " + btf_kind_str(btf_kind(*to)) + " '" +
                 func.types.name_of(*to) + "'");
  return true;
}

// Which argument an offset lies in: behind the last comes what the function returns, if it does, and behind
// that it is all one.
size_t get_ctx_arg_idx(const Signature& func, int off) {
  const size_t slot = size_t(unsigned(off) / 8);
  if (!func.proto) return slot;
  const size_t args = btf_params(*func.proto).size();
  const btf_type* ret = func.types.skip_modifiers(func.proto->type);
  if (slot < args || (slot == args && ret && !btf_type_is_void(*ret))) return slot;
  return args + 1;
}

bool runs_behind(const Prog& prog) {
  const bpf_attach_type at = prog.expected_attach_type;
  return at == BPF_TRACE_FEXIT || at == BPF_LSM_MAC || at == BPF_LSM_CGROUP;
}

}  // namespace

bool btf_ctx_access(int off, int size, const Prog& prog, InsnAccessAux& info) {
  const Signature func = signature_of(prog);
  const std::string named = "func '" + func.name + "'";
  if (off % 8) return says(info, named + " offset " + std::to_string(off) + " is not multiple of 8");
  const size_t arg = get_ctx_arg_idx(func, off), count = func.count();
  const bool returned = arg == count && runs_behind(prog);
  if (arg >= count && !returned)
    return says(info, named + " doesn't have " + std::to_string(arg + 1) + "-th argument");
  info.is_retval = returned && prog.expected_attach_type == BPF_LSM_MAC;
  if (!func.proto) return true;
  const btf_type* t = func.types.skip_modifiers(returned ? func.proto->type : func.params[arg].type);
  if (!t || (returned && btf_type_is_void(*t)) || is_number(*t)) return true;
  if (btf_kind(*t) != BTF_KIND_PTR)
    return says(info, named + " arg" + std::to_string(arg) + " '" + func.types.name_of(*t) + "' has type " +
                          btf_kind_str(btf_kind(*t)) + ". Only pointer access is allowed");
  if (size != 8) return says(info, named + " size " + std::to_string(size) + " must be 8");
  return pointer_argument(prog, func, *t, int(arg), off, info);
}

namespace {

// The kernel calls its functions for tests (bpf_fentry_test1, ...), so that what is attached to them runs; a
// program that is not attached there sees nothing of it. This machine has none of them.
Result<void> bpf_prog_test_run_tracing(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_tracing);
  TRY(test_run_since(prog, Gate::test_run_tracing));
  TRY(no_test_flags(attr));
  if (prog.expected_attach_type != BPF_TRACE_FENTRY && prog.expected_attach_type != BPF_TRACE_FEXIT)
    return refuse(Errno::Fault, "no function of the kernel's is called for this attach type");
  const uint32_t retval = 0;
  return copy_to_user(machine, uattr + offsetof(bpf_attr, test.retval), &retval, sizeof retval);
}

}  // namespace

bool bpf_tracing_btf_ctx_access(int off, int size, bpf_access_type type, const Prog& prog,
                                InsnAccessAux& info) {
  if (off < 0 || off >= kFuncArgsSize || type != BPF_READ || off % size != 0) return false;
  return btf_ctx_access(off, size, prog, info);
}

const VerifierOps tracing_verifier_ops = {
    .name = "tracing", .get_func_proto = helper_for, .is_valid_access = bpf_tracing_btf_ctx_access};
const ProgOps tracing_prog_ops = {.name = "tracing", .test_run = bpf_prog_test_run_tracing};

}  // namespace bpfsim
