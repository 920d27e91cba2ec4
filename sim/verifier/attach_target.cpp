// Models: kernel/bpf/verifier.c, check_attach_btf_id() and bpf_check_attach_target(); kernel/bpf/btf.c,
// btf_check_type_match() (Linux 6.18)
//
// What a program that names a BTF id will be attached to: a tracepoint by the typedef of its handler, an
// iterator by the function that stands for it, a kernel function or a hook of the security modules by itself;
// or a function of another program, by that program's BTF, which a tracing program watches and an extension
// replaces. Departs from the kernel: a program counts as compiled when the JIT was asked for. Not modelled
// yet: every function here may be traced, and none may have its return value modified; the devices that an
// extension and its target are bound to are not compared.
#include "verifier/attach_target.h"

#include "btf/btf_types.h"
#include "btf/struct_ops.h"
#include "host/bpf_lsm.h"
#include "host/tracing.h"
#include "object/btf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"
#include "verifier/env.h"
#include "verifier/verifier.h"

namespace bpfsim {

namespace {

bool can_be_sleepable(const Prog& prog) {
  const bool by_attach_type = has(Gate::sleepable_struct_ops, prog.machine.version);
  const bpf_attach_type attach_type = prog.expected_attach_type;
  switch (prog.type) {
    case BPF_PROG_TYPE_TRACING:
      return !by_attach_type || attach_type == BPF_TRACE_FENTRY || attach_type == BPF_TRACE_FEXIT ||
             attach_type == BPF_MODIFY_RETURN || attach_type == BPF_TRACE_ITER;
    case BPF_PROG_TYPE_LSM: return !by_attach_type || attach_type != BPF_LSM_CGROUP;
    case BPF_PROG_TYPE_KPROBE: return has(Gate::sleepable_uprobe, prog.machine.version);
    case BPF_PROG_TYPE_STRUCT_OPS: return by_attach_type;
    default: return false;
  }
}

// The kernel's words for that.
const char* who_can_be_sleepable(Version version) {
  if (has(Gate::sleepable_struct_ops, version))
    return "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable\n";
  return has(Gate::sleepable_uprobe, version)
             ? "Only fentry/fexit/fmod_ret, lsm, and kprobe/uprobe programs can be sleepable\n"
             : "Only fentry/fexit/fmod_ret and lsm programs can be sleepable\n";
}

bool is_func_proto(const BtfTypes& types, uint32_t id) {
  const btf_type* t = types.type_by_id(id);
  return t && btf_kind(*t) == BTF_KIND_FUNC_PROTO;
}

// One question: may this program be attached there. What the log would say goes into `info`.
struct TargetCheck {
  const Prog& prog;
  const Prog* tgt_prog;
  const uint32_t btf_id;
  bpf_attach_target_info& info;
  Machine& machine = prog.machine;
  const bool extends = prog.type == BPF_PROG_TYPE_EXT;
  int subprog = -1;
  bool conservative = false;  // the target function's BTF cannot be relied on

  [[gnu::format(printf, 3, 4)]] Errno say(Errno err, const char* format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    info.message = text;
    return err;
  }
  Errno no(const std::string& message) {
    info.message = message;
    return Errno::Inval;
  }

  Errno not_a_function() { return say(Errno::Inval, "attach_btf_id %u is not a function\n", btf_id); }

  Errno check_attach_target() {
    if (!btf_id) return no("Tracing programs must provide btf_id\n");
    const Btf* btf = tgt_prog ? tgt_prog->aux->btf : prog.aux->attach_btf;
    if (!btf) return no("FENTRY/FEXIT program can only be attached to another program annotated with BTF\n");
    const BtfTypes& types = *btf->types;
    const btf_type* t = types.type_by_id(btf_id);
    if (!t) return say(Errno::Inval, "attach_btf_id %u is invalid\n", btf_id);
    info.tgt_name = types.name_of(*t);
    if (tgt_prog) MUST(check_tgt_prog());
    if (!tgt_prog && extends) return no("Cannot replace kernel functions\n");
    return by_attach_type(types, *t);
  }

  Errno by_attach_type(const BtfTypes& types, const btf_type& t) {
    if (!knows_attach_type(machine.version, prog.expected_attach_type))
      return extends ? function(types, t) : Errno::Inval;
    switch (prog.expected_attach_type) {
      case BPF_TRACE_RAW_TP: return raw_tracepoint(types, t);
      case BPF_TRACE_ITER:
        if (btf_kind(t) != BTF_KIND_FUNC) return not_a_function();
        if (!is_func_proto(types, t.type)) return Errno::Inval;
        info.tgt_type = t.type;
        return Errno::None;
      case BPF_LSM_CGROUP:
      case BPF_MODIFY_RETURN:
      case BPF_LSM_MAC:
      case BPF_TRACE_FENTRY:
      case BPF_TRACE_FEXIT: return function(types, t);
      default: return extends ? function(types, t) : Errno::Inval;
    }
  }

  Errno check_tgt_prog() {
    const ProgAux& target = *tgt_prog->aux;
    for (size_t i = 0; i < target.func_info.size() && subprog < 0; ++i)
      if (target.func_info[i].type_id == btf_id) subprog = int(i);
    if (subprog < 0) return no("Subprog " + info.tgt_name + " doesn't exist\n");
    const SubprogInfo& function = target.subprogs[size_t(subprog)];
    conservative = function.unreliable;
    if (extends) MUST(check_extension(function));
    if (!tgt_prog->jit_requested) return no("Can attach to only JITed progs\n");
    const bool nests = has(Gate::nested_tracing, machine.version);
    if (prog.type == BPF_PROG_TYPE_TRACING && nests) {
      if (target.attach_tracing_prog) return no("Cannot nest tracing program attach more than once\n");
    } else if (tgt_prog->type == prog.type) {
      return no("Cannot recursively attach\n");
    }
    const bpf_attach_type at = tgt_prog->expected_attach_type;
    if (extends && tgt_prog->type == BPF_PROG_TYPE_TRACING &&
        (at == BPF_TRACE_FENTRY || at == BPF_TRACE_FEXIT))
      return no("Cannot extend fentry/fexit\n");
    return Errno::None;
  }

  // Whoever calls the function was verified with what the original may do.
  Errno check_extension(const SubprogInfo& original) {
    if (conservative) return no("Cannot replace static functions\n");
    if (!prog.jit_requested) return no("Extension programs should be JITed\n");
    if (prog.aux->changes_pkt_data && !original.changes_pkt_data)
      return no("Extension program changes packet data, while original does not\n");
    if (prog.aux->might_sleep && !original.might_sleep)
      return no("Extension program may sleep, while original does not\n");
    return Errno::None;
  }

  Errno raw_tracepoint(const BtfTypes& types, const btf_type& t) {
    constexpr std::string_view kPrefix = "btf_trace_";
    if (tgt_prog) return no("Only FENTRY/FEXIT progs are attachable to another BPF prog\n");
    if (btf_kind(t) != BTF_KIND_TYPEDEF)
      return say(Errno::Inval, "attach_btf_id %u is not a typedef\n", btf_id);
    if (!info.tgt_name.starts_with(kPrefix))
      return say(Errno::Inval, "attach_btf_id %u points to wrong type name %s\n", btf_id,
                 info.tgt_name.c_str());
    info.tgt_name.erase(0, kPrefix.size());
    // The typedef's arguments have no names; those of the kernel's own handler do.
    const uint32_t handler = types.find_by_name("__bpf_trace_" + info.tgt_name, BTF_KIND_FUNC);
    const btf_type* pointer = types.type_by_id(t.type);
    if (!pointer || btf_kind(*pointer) != BTF_KIND_PTR || !is_func_proto(types, pointer->type))
      return Errno::Inval;
    info.tgt_type = handler ? types.type_by_id(handler)->type : pointer->type;
    return Errno::None;
  }

  Errno function(const BtfTypes& types, const btf_type& t) {
    if (btf_kind(t) != BTF_KIND_FUNC) return not_a_function();
    if (extends && btf_check_type_match(types, t) != Errno::None) return Errno::Inval;
    if (!is_func_proto(types, t.type)) return Errno::Inval;
    const ProgAux& aux = *prog.aux;
    const bool was_attached_to_prog = aux.saved_dst_prog_type || aux.saved_dst_attach_type;
    if (was_attached_to_prog && (!tgt_prog || aux.saved_dst_prog_type != tgt_prog->type ||
                                 aux.saved_dst_attach_type != tgt_prog->expected_attach_type))
      return Errno::Inval;
    info.tgt_type = conservative ? 0 : t.type;
    if (!tgt_prog && !tracing(machine).function(info.tgt_name))
      return say(Errno::NoEnt, "The address of function %s cannot be found\n", info.tgt_name.c_str());
    if (aux.sleepable) return check_sleepable();
    if (prog.expected_attach_type != BPF_MODIFY_RETURN) return Errno::None;
    if (tgt_prog) return no("can't modify return codes of BPF programs\n");
    return no(info.tgt_name + "() is not modifiable\n");
  }

  // Which of the kernel's functions a sleepable tracing program may watch is not modelled: it may watch all.
  Errno check_sleepable() {
    if (prog.type == BPF_PROG_TYPE_TRACING && !tgt_prog) return Errno::None;
    if (prog.type == BPF_PROG_TYPE_LSM && bpf_lsm_is_sleepable_hook(info.tgt_name)) return Errno::None;
    return no(info.tgt_name + " is not sleepable\n");
  }

  // Two functions, as the log names them, and what differs between them.
  struct Side {
    const BtfTypes& types;
    const btf_type& func;
    std::string name;
    const btf_type& proto;
  };

  Errno btf_check_type_match(const BtfTypes& types, const btf_type& t) {
    KFN(machine, btf_check_type_match);
    const ProgAux& aux = *prog.aux;
    if (aux.func_info.empty()) return no("Program extension requires BTF\n");
    const BtfTypes& own = *aux.btf->types;
    const btf_type& main = *own.type_by_id(aux.func_info[0].type_id);
    if (btf_vlen(main) != BTF_FUNC_GLOBAL)
      return no(std::string(own.name_of(main)) + "() is not a global function\n");
    if (btf_vlen(t) != BTF_FUNC_GLOBAL) return no(info.tgt_name + "() is not a global function\n");
    if (!is_func_proto(types, t.type)) return Errno::Fault;
    return check_protos({own, main, own.name_of(main), *own.type_by_id(main.type)},
                        {types, t, info.tgt_name, *types.type_by_id(t.type)});
  }

  Errno check_protos(const Side& one, const Side& two) {
    const std::span<const btf_param> args1 = btf_params(one.proto), args2 = btf_params(two.proto);
    if (args1.size() != args2.size())
      return say(Errno::Inval, "%s() has %d args while %s() has %d args\n", one.name.c_str(),
                 int(args1.size()), two.name.c_str(), int(args2.size()));
    const btf_type *ret1 = one.types.skip_modifiers(one.proto.type),
                   *ret2 = two.types.skip_modifiers(two.proto.type);
    if (info_of(ret1) != info_of(ret2))
      return say(Errno::Inval, "Return type %s of %s() doesn't match type %s of %s()\n", kind_of(ret1),
                 one.name.c_str(), kind_of(ret2), two.name.c_str());
    for (size_t i = 0; i < args1.size(); ++i)
      MUST(check_arg(one, two, int(i), one.types.skip_modifiers(args1[i].type),
                     two.types.skip_modifiers(args2[i].type)));
    return Errno::None;
  }

  static uint32_t info_of(const btf_type* t) { return t ? t->info : 0; }
  static const char* kind_of(const btf_type* t) { return t ? btf_kind_str(btf_kind(*t)) : "UNKNOWN"; }
  Errno check_arg(const Side& one, const Side& two, int i, const btf_type* t1, const btf_type* t2) {
    const char *fn1 = one.name.c_str(), *fn2 = two.name.c_str();
    if (!t1 || !t2 || t1->info != t2->info)
      return say(Errno::Inval, "arg%d in %s() is %s while %s() has %s\n", i, fn1, kind_of(t1), fn2,
                 kind_of(t2));
    if (btf_type_has_size(*t1) && t1->size != t2->size)
      return say(Errno::Inval, "arg%d in %s() has size %d while %s() has %d\n", i, fn1, int(t1->size), fn2,
                 int(t2->size));
    const uint32_t kind = btf_kind(*t1);
    if (kind == BTF_KIND_INT || kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64) return Errno::None;
    if (kind != BTF_KIND_PTR) return say(Errno::Inval, "arg%d in %s() has unrecognized type\n", i, fn1);
    const btf_type *to1 = one.types.skip_modifiers(t1->type), *to2 = two.types.skip_modifiers(t2->type);
    for (auto [to, fn] : {std::pair{to1, fn1}, std::pair{to2, fn2}})
      if (!to || !btf_type_is_struct(*to))
        return say(Errno::Inval, "arg%d in %s() is not a pointer to context\n", i, fn);
    const std::string s1 = one.types.name_of(*to1), s2 = two.types.name_of(*to2);
    if (s1 == s2) return Errno::None;
    return say(Errno::Inval, "arg%d %s(struct %s *) doesn't match %s(struct %s *)\n", i, fn1, s1.c_str(), fn2,
               s2.c_str());
  }
};

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
  aux.attach_func_btf = aux.attach_btf->serial;
  aux.attach_func_name = name;
  env.ops = env.machine.calls->struct_ops_verifier_ops(desc->name);
  return Errno::None;
}

Errno bpf_lsm_verify_prog(bpf_verifier_env& env) {
  KFN(env.machine, bpf_lsm_verify_prog);
  const ProgAux& aux = *env.prog.aux;
  const char* name = aux.attach_func_name.c_str();
  if (!env.prog.gpl_compatible)
    return reject(env, Errno::Inval, "LSM programs must have a GPL compatible license\n");
  if (bpf_lsm_is_disabled_hook(name))
    return reject(env, Errno::Inval, "attach_btf_id %u points to disabled hook %s\n", aux.attach_btf_id,
                  name);
  if (!bpf_lsm_is_hook(name))
    return reject(env, Errno::Inval, "attach_btf_id %u points to wrong type name %s\n", aux.attach_btf_id,
                  name);
  return Errno::None;
}

std::string not_for(const Prog& prog) {
  const AttachTypeRow* row = find_attach_type(prog.expected_attach_type);
  if (row && row->since > prog.machine.version)
    return "expected_attach_type " + std::string(row->name) + " came with Linux " + row->since.str();
  return "not a target for this attach type";
}

// An extension is verified as the program that it extends would be.
void inherit_from_target(bpf_verifier_env& env, const Prog& tgt_prog) {
  ProgAux& aux = *env.prog.aux;
  if (env.prog.type == BPF_PROG_TYPE_EXT) {
    env.ops = env.machine.calls->verifier_ops(tgt_prog.type);
    env.prog.expected_attach_type = tgt_prog.expected_attach_type;
  }
  aux.saved_dst_prog_type = tgt_prog.type;
  aux.saved_dst_attach_type = tgt_prog.expected_attach_type;
}

}  // namespace

Errno bpf_check_attach_target(const Prog& prog, const Prog* tgt_prog, uint32_t btf_id,
                              bpf_attach_target_info& info) {
  KFN(prog.machine, bpf_check_attach_target);
  return TargetCheck{prog, tgt_prog, btf_id, info}.check_attach_target();
}

Errno check_attach_btf_id(bpf_verifier_env& env) {
  KFN(env.machine, check_attach_btf_id);
  const bool sleepable = env.prog.aux->sleepable;
  if (env.prog.type == BPF_PROG_TYPE_SYSCALL)
    return sleepable ? Errno::None : reject(env, Errno::Inval, "Syscall programs can only be sleepable\n");
  if (sleepable && !can_be_sleepable(env.prog))
    return reject(env, Errno::Inval, "%s", who_can_be_sleepable(env.machine.version));
  if (env.prog.type == BPF_PROG_TYPE_STRUCT_OPS) return check_struct_ops_btf_id(env);
  Prog& prog = env.prog;
  ProgAux& aux = *prog.aux;
  const bpf_prog_type type = prog.type;
  if (type != BPF_PROG_TYPE_TRACING && type != BPF_PROG_TYPE_LSM && type != BPF_PROG_TYPE_EXT)
    return Errno::None;
  bpf_attach_target_info info;
  if (const Errno err = bpf_check_attach_target(prog, aux.dst_prog, aux.attach_btf_id, info);
      err != Errno::None) {
    if (!info.message.empty()) return reject(env, err, "%s", info.message.c_str());
    env.refusal = not_for(prog);  // of which the log says nothing
    return err;
  }
  aux.attach_func_proto = info.tgt_type;
  aux.attach_func_btf = (aux.dst_prog ? aux.dst_prog->aux->btf : aux.attach_btf)->serial;
  aux.attach_func_name = info.tgt_name;
  if (aux.dst_prog) inherit_from_target(env, *aux.dst_prog);
  if (prog.expected_attach_type == BPF_TRACE_RAW_TP) return Errno::None;
  if (prog.expected_attach_type == BPF_TRACE_ITER) {
    // bpf_iter_prog_supported(); this machine's BTF has the functions of later targets too.
    const IterTargetRow* target = find_iter_target(aux.attach_func_name);
    if (target && target->since <= env.machine.version && !aux.dst_prog) return Errno::None;
    env.refusal = "the function stands for no iterator";  // of which the log says nothing
    if (target && target->since > env.machine.version)
      env.refusal += " (it came with Linux " + target->since.str() + ")";
    return Errno::Inval;
  }
  if (type == BPF_PROG_TYPE_LSM) MUST(bpf_lsm_verify_prog(env));
  aux.dst_trampoline = bpf_trampoline_compute_key(aux.dst_prog, aux.attach_btf, aux.attach_btf_id);
  return Errno::None;
}

}  // namespace bpfsim
