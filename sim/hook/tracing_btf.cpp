// Models: kernel/bpf/btf.c (btf_ctx_access), kernel/trace/bpf_trace.c (tracing_verifier_ops),
// net/bpf/test_run.c (bpf_prog_test_run_tracing) (Linux 6.18)
//
// TRACING programs: their context is an array of 8-byte arguments, and BTF says what each is. A number is
// read as it is, a pointer to a struct becomes a register that may be followed. Not modelled yet: arguments
// that a tracepoint may leave NULL (__nullable), the modified return value of fmod_ret, and that
// programs run which are attached to a function.
#include <cstddef>

#include "btf/btf_types.h"
#include "hook/bpf_iter.h"
#include "hook/hook.h"
#include "hook/types.h"
#include "object/btf.h"

namespace bpfsim {

namespace {

constexpr int kFuncArgsSize = 12 * 8;

// The function or tracepoint as the log names it, and its arguments.
struct Signature {
  const BtfTypes& types;
  std::string name;
  std::span<const btf_param> params;
  const btf_type& proto;
};

Signature signature_of(const Prog& prog) {
  const BtfTypes& types = *prog.aux->attach_btf->types;
  const btf_type& proto = *types.type_by_id(prog.aux->attach_func_proto);
  std::span<const btf_param> params = btf_params(proto);
  if (prog.expected_attach_type == BPF_TRACE_RAW_TP && !params.empty()) params = params.subspan(1);  // __data
  return {types, prog.aux->attach_func_name, params, proto};
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
  if (!btf_type_is_struct(*to))
    return says(info, nth + " type " + btf_kind_str(btf_kind(*to)) + " is not a struct");
  info.reg_type = uint32_t(PTR_TO_BTF_ID) | PTR_TRUSTED;
  info.btf_id = id;
  says(info, nth + " has btf_id " + std::to_string(id) + " type " + btf_kind_str(btf_kind(*to)) + " '" +
                 func.types.name_of(*to) + "'");
  return true;
}

// Which argument an offset lies in: behind the last comes what the function returns, if it does, and behind
// that it is all one.
size_t get_ctx_arg_idx(const Signature& func, int off) {
  const size_t slot = size_t(off / 8), args = btf_params(func.proto).size();
  const btf_type* ret = func.types.skip_modifiers(func.proto.type);
  if (slot < args || (slot == args && ret && !btf_type_is_void(*ret))) return slot;
  return args + 1;
}

bool btf_ctx_access(int off, int size, const Prog& prog, InsnAccessAux& info) {
  const Signature func = signature_of(prog);
  const std::string named = "func '" + func.name + "'";
  if (off % 8) return says(info, named + " offset " + std::to_string(off) + " is not multiple of 8");
  const size_t arg = get_ctx_arg_idx(func, off), count = func.params.size();
  const bool returned = arg == count && prog.expected_attach_type == BPF_TRACE_FEXIT;
  if (arg >= count && !returned)
    return says(info, named + " doesn't have " + std::to_string(arg + 1) + "-th argument");
  const btf_type* t = func.types.skip_modifiers(returned ? func.proto.type : func.params[arg].type);
  if (!t || (returned && btf_type_is_void(*t)) || is_number(*t)) return true;
  if (btf_kind(*t) != BTF_KIND_PTR)
    return says(info, named + " arg" + std::to_string(arg) + " '" + func.types.name_of(*t) + "' has type " +
                          btf_kind_str(btf_kind(*t)) + ". Only pointer access is allowed");
  if (size != 8) return says(info, named + " size " + std::to_string(size) + " must be 8");
  return pointer_argument(prog, func, *t, int(arg), off, info);
}

// The kernel calls its functions for tests (bpf_fentry_test1, ...), so that what is attached to them runs; a
// program that is not attached there sees nothing of it. This machine has none of them.
Result<void> bpf_prog_test_run_tracing(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_tracing);
  if (attr.test.flags || attr.test.cpu || attr.test.batch_size)
    return refuse(Errno::Inval, "flags {}, cpu {} and batch_size {} must be 0", attr.test.flags,
                  attr.test.cpu, attr.test.batch_size);
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
