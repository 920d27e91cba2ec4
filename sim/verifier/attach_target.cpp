// Models: kernel/bpf/verifier.c, check_attach_btf_id() and bpf_check_attach_target() (Linux 6.18)
//
// What a program that names a BTF id will be attached to: a tracepoint by the typedef of its handler, an
// iterator by the function that stands for it, a kernel function by itself. Not modelled yet: targets in
// other programs (EXT, fentry of a BPF program), LSM; every function here may be traced, and none
// may have its return value modified.
#include "verifier/attach_target.h"

#include "btf/btf_types.h"
#include "btf/struct_ops.h"
#include "host/tracing.h"
#include "object/btf.h"
#include "verifier/verifier.h"

namespace bpfsim {

namespace {

bool can_be_sleepable(const Prog& prog) {
  switch (prog.type) {
    case BPF_PROG_TYPE_TRACING:
      return prog.expected_attach_type == BPF_TRACE_FENTRY || prog.expected_attach_type == BPF_TRACE_FEXIT ||
             prog.expected_attach_type == BPF_MODIFY_RETURN || prog.expected_attach_type == BPF_TRACE_ITER;
    case BPF_PROG_TYPE_LSM: return prog.expected_attach_type != BPF_LSM_CGROUP;
    case BPF_PROG_TYPE_KPROBE:
    case BPF_PROG_TYPE_STRUCT_OPS: return true;
    default: return false;
  }
}

bool is_func_proto(const BtfTypes& types, uint32_t id) {
  const btf_type* t = types.type_by_id(id);
  return t && btf_kind(*t) == BTF_KIND_FUNC_PROTO;
}

Errno not_a_function(bpf_verifier_env& env) {
  return reject(env, Errno::Inval, "attach_btf_id %u is not a function\n", env.prog.aux->attach_btf_id);
}

Errno raw_tracepoint_target(bpf_verifier_env& env, const BtfTypes& types, const btf_type& t) {
  ProgAux& aux = *env.prog.aux;
  constexpr std::string_view kPrefix = "btf_trace_";
  if (btf_kind(t) != BTF_KIND_TYPEDEF)
    return reject(env, Errno::Inval, "attach_btf_id %u is not a typedef\n", aux.attach_btf_id);
  const std::string name = types.name_of(t);
  if (!name.starts_with(kPrefix))
    return reject(env, Errno::Inval, "attach_btf_id %u points to wrong type name %s\n", aux.attach_btf_id,
                  name.c_str());
  aux.attach_func_name = name.substr(kPrefix.size());
  // The typedef's arguments have no names; those of the kernel's own handler do.
  const uint32_t handler = types.find_by_name("__bpf_trace_" + aux.attach_func_name, BTF_KIND_FUNC);
  const btf_type* pointer = types.type_by_id(t.type);
  if (!pointer || btf_kind(*pointer) != BTF_KIND_PTR || !is_func_proto(types, pointer->type))
    return Errno::Inval;
  aux.attach_func_proto = handler ? types.type_by_id(handler)->type : pointer->type;
  return Errno::None;
}

Errno function_target(bpf_verifier_env& env, const BtfTypes& types, const btf_type& t) {
  ProgAux& aux = *env.prog.aux;
  if (btf_kind(t) != BTF_KIND_FUNC) return not_a_function(env);
  if (!is_func_proto(types, t.type)) return Errno::Inval;
  aux.attach_func_name = types.name_of(t);
  aux.attach_func_proto = t.type;
  if (env.prog.expected_attach_type == BPF_TRACE_ITER) return Errno::None;
  if (!tracing(env.machine).function(aux.attach_func_name))
    return reject(env, Errno::NoEnt, "The address of function %s cannot be found\n",
                  aux.attach_func_name.c_str());
  if (env.prog.expected_attach_type == BPF_MODIFY_RETURN)
    return reject(env, Errno::Inval, "%s is not modifiable\n", aux.attach_func_name.c_str());
  return Errno::None;
}

Errno bpf_check_attach_target(bpf_verifier_env& env) {
  KFN(env.machine, bpf_check_attach_target);
  ProgAux& aux = *env.prog.aux;
  if (!aux.attach_btf_id) return reject(env, Errno::Inval, "Tracing programs must provide btf_id\n");
  if (aux.dst_prog) return not_modelled(env, "programs attached to programs");
  if (!aux.attach_btf)
    return reject(env, Errno::Inval,
                  "FENTRY/FEXIT program can only be attached to another program annotated with BTF\n");
  const BtfTypes& types = *aux.attach_btf->types;
  const btf_type* t = types.type_by_id(aux.attach_btf_id);
  if (!t) return reject(env, Errno::Inval, "attach_btf_id %u is invalid\n", aux.attach_btf_id);
  switch (env.prog.expected_attach_type) {
    case BPF_TRACE_RAW_TP: return raw_tracepoint_target(env, types, *t);
    case BPF_TRACE_ITER:
    case BPF_MODIFY_RETURN:
    case BPF_TRACE_FENTRY:
    case BPF_TRACE_FEXIT: return function_target(env, types, *t);
    default: return Errno::Inval;
  }
}

// A struct_ops program is one member of a struct of functions, by its index.
Errno check_struct_ops_btf_id(bpf_verifier_env& env) {
  KFN(env.machine, check_struct_ops_btf_id);
  ProgAux& aux = *env.prog.aux;
  if (!env.prog.gpl_compatible)
    return reject(env, Errno::Inval, "struct ops programs must have a GPL compatible license\n");
  if (!aux.attach_btf_id) {
    env.refusal = "attach_btf_id names no struct";  // of which the log says nothing
    return Errno::NotSupp;
  }
  const BpfStructOpsDesc* desc = bpf_struct_ops_find(aux.attach_btf_id, env.machine.version);
  if (!desc)
    return reject(env, Errno::NotSupp, "attach_btf_id %u is not a supported struct\n", aux.attach_btf_id);
  const BtfTypes& types = *aux.attach_btf->types;
  const uint32_t index = env.prog.expected_attach_type;
  const std::span<const btf_member> members = btf_members(desc->type());
  if (index >= members.size())
    return reject(env, Errno::Inval, "attach to invalid member idx %u of struct %s\n", index, desc->name);
  const std::string name = types.name_by_offset(members[index].name_off);
  const uint32_t proto = btf_type_resolve_func_ptr(types, members[index].type);
  if (!proto)
    return reject(env, Errno::Inval, "attach to invalid member %s(@idx %u) of struct %s\n", name.c_str(),
                  index, desc->name);
  const bool cannot_sleep = aux.sleepable && !desc->sleepable.empty() && name != desc->sleepable;
  if (name == desc->unsupported || cannot_sleep)
    return reject(env, cannot_sleep ? Errno::Inval : Errno::NotSupp,
                  "attach to unsupported member %s of struct %s\n", name.c_str(), desc->name);
  aux.attach_func_proto = proto;
  aux.attach_func_name = name;
  env.ops = env.machine.calls->struct_ops_verifier_ops(desc->name);
  return Errno::None;
}

}  // namespace

Errno check_attach_btf_id(bpf_verifier_env& env) {
  KFN(env.machine, check_attach_btf_id);
  const bool sleepable = env.prog.aux->sleepable;
  if (env.prog.type == BPF_PROG_TYPE_SYSCALL)
    return sleepable ? Errno::None : reject(env, Errno::Inval, "Syscall programs can only be sleepable\n");
  if (sleepable && !can_be_sleepable(env.prog))
    return reject(
        env, Errno::Inval,
        "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable\n");
  if (env.prog.type == BPF_PROG_TYPE_STRUCT_OPS) return check_struct_ops_btf_id(env);
  if (env.prog.type != BPF_PROG_TYPE_TRACING) return Errno::None;
  MUST(bpf_check_attach_target(env));
  // bpf_iter_prog_supported(): every bpf_iter_ function of this machine's BTF stands for an iterator.
  if (env.prog.expected_attach_type == BPF_TRACE_ITER &&
      !env.prog.aux->attach_func_name.starts_with("bpf_iter_")) {
    env.refusal = "the function stands for no iterator";  // of which the log says nothing
    return Errno::Inval;
  }
  return Errno::None;
}

}  // namespace bpfsim
