// Models: kernel/bpf/btf.c, btf_prepare_func_args(); kernel/bpf/verifier.c, btf_check_subprog_call()
// (Linux 6.18)
//
// See func_args.h. Not modelled yet: arguments that are dynptrs, and BTF tags ("arg:ctx") other than
// "arg:nonnull".
#include "verifier/func_args.h"

#include <cstring>

#include "btf/btf_types.h"
#include "object/btf.h"
#include "uapi/tables.h"
#include "verifier/args.h"
#include "verifier/mem.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {

constexpr size_t MAX_BPF_FUNC_REG_ARGS = 5;

struct Function {
  const BtfTypes& types;
  const btf_type& type;  // BTF_KIND_FUNC
  std::string name;
  bool is_global;
};

bool is_number(const btf_type& t) {
  const uint32_t kind = btf_kind(t);
  return kind == BTF_KIND_INT || kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64;
}

// The struct that programs of this type name their context, "" for a type whose context has no name.
std::string_view ctx_struct_of(bpf_prog_type type) {
  const ProgTypeRow* row = find_prog_type(type);
  const std::string_view context = row ? row->context : "";
  return context.ends_with('*') || context.starts_with("__u") ? "" : context;
}

bool is_user_pt_regs(const BtfTypes& types, const btf_type& pointer) {
  const btf_type* to = types.type_by_id(pointer.type);
  while (to && btf_type_is_modifier(*to) && btf_kind(*to) != BTF_KIND_TYPEDEF)
    to = types.type_by_id(to->type);
  return to && btf_kind(*to) == BTF_KIND_TYPEDEF &&
         std::string_view(types.name_of(*to)) == "bpf_user_pt_regs_t";
}

// The program's own struct of that name counts, whatever is in it; so does the kernel's struct behind it.
bool btf_is_prog_ctx_type(const BtfTypes& types, const btf_type& pointer, bpf_prog_type prog_type) {
  if (prog_type == BPF_PROG_TYPE_KPROBE && is_user_pt_regs(types, pointer)) return true;
  const btf_type* to = types.skip_modifiers(pointer.type);
  if (!to || !btf_type_is_struct(*to)) return false;
  const std::string_view name = types.name_of(*to), context = ctx_struct_of(prog_type);
  if (context.empty()) return false;
  if (context == "__sk_buff" && name == "sk_buff") return true;
  if (context == "xdp_md" && name == "xdp_buff") return true;
  if (context == "bpf_user_pt_regs_t" && name == "pt_regs") return true;
  if (context == "bpf_user_pt_regs_t" && name == "bpf_user_pt_regs_t") return false;
  return name == context;
}

bool is_dynptr(const BtfTypes& types, const btf_type& pointer) {
  const btf_type* to = types.skip_modifiers(pointer.type);
  if (!to || (!btf_type_is_struct(*to) && btf_kind(*to) != BTF_KIND_FWD)) return false;
  return std::string_view(types.name_of(*to)) == "bpf_dynptr";
}

// "arg:nonnull" and the like, which a compiler leaves as a tag of the function's n-th argument.
std::vector<std::string> arg_tags(const Function& func, uint32_t func_id, uint32_t arg) {
  std::vector<std::string> tags;
  for (uint32_t id = 1; id < func.types.nr_types(); ++id) {
    const btf_type& t = *func.types.type_by_id(id);
    if (btf_kind(t) != BTF_KIND_DECL_TAG || t.type != func_id || btf_component_idx(t) != int32_t(arg))
      continue;
    const std::string_view text = func.types.name_of(t);
    if (text.starts_with("arg:")) tags.emplace_back(text.substr(4));
  }
  return tags;
}

Errno memory_arg(bpf_verifier_env& env, const Function& func, uint32_t i, const btf_type& pointer,
                 bool nonnull, bpf_subprog_arg_info& arg) {
  uint32_t id = 0;
  const btf_type* to = func.types.skip_modifiers(pointer.type, &id);
  const int64_t size = to && !btf_type_is_void(*to) ? func.types.size_of(id) : -1;
  if (size < 0)
    return reject(env, Errno::Inval, "arg#%u reference type('%s %s') size cannot be determined: %d\n", i,
                  to && !btf_type_is_void(*to) ? btf_kind_str(btf_kind(*to)) : "UNKNOWN",
                  to ? func.types.name_of(*to) : "", -int(Errno::Inval));
  arg.arg_type = uint32_t(ARG_PTR_TO_MEM) | (nonnull ? 0 : uint32_t(PTR_MAYBE_NULL));
  arg.mem_size = uint32_t(size);
  return Errno::None;
}

Errno prepare_arg(bpf_verifier_env& env, const Function& func, uint32_t func_id, uint32_t i, uint32_t type_id,
                  bpf_subprog_arg_info& arg) {
  const std::vector<std::string> tags = arg_tags(func, func_id, i);
  if (!tags.empty() && !func.is_global)
    return reject(env, Errno::OpNotSupp, "arg#%u type tag is not supported in static functions\n", i);
  bool nonnull = false;
  for (const std::string& tag : tags) {
    if (tag != "nonnull") return not_modelled(env, "the BTF tag arg:%s", tag.c_str());
    nonnull = true;
  }
  const btf_type* t = func.types.skip_modifiers(type_id);
  if (t && btf_kind(*t) == BTF_KIND_PTR) {
    const bpf_prog_type type = resolve_prog_type(env.prog);
    if (btf_is_prog_ctx_type(func.types, *t, type)) {
      if (nonnull) return reject(env, Errno::Inval, "arg#%u has invalid combination of tags\n", i);
      arg.arg_type = ARG_PTR_TO_CTX;
      return Errno::None;
    }
    if (is_dynptr(func.types, *t))
      return func.is_global ? not_modelled(env, "dynptrs as arguments") : Errno::Inval;
    if (func.is_global) return memory_arg(env, func, i, *t, nonnull, arg);
  }
  if (nonnull) return reject(env, Errno::Inval, "arg#%u has pointer tag, but is not a pointer type\n", i);
  if (t && is_number(*t)) {
    arg.arg_type = ARG_ANYTHING;
    return Errno::None;
  }
  if (!func.is_global) return Errno::Inval;
  return reject(env, Errno::Inval, "Arg#%u type %s in %s() is not supported yet.\n", i,
                t ? btf_kind_str(btf_kind(*t)) : "UNKNOWN", func.name.c_str());
}

Errno check_mem_reg(bpf_verifier_env& env, uint32_t regno, uint32_t mem_size) {
  bpf_reg_state& reg = env.cur_regs()[regno];
  if (reg.is_null()) return Errno::None;
  // Whether the memory may be reached if it is not NULL; the caller itself learns nothing from that.
  const bpf_reg_state saved = reg;
  if (type_may_be_null(reg.type)) mark_ptr_not_null_reg(reg);
  Errno err = check_helper_mem_access(env, regno, int(mem_size), BPF_READ, true, nullptr);
  if (err == Errno::None) err = check_helper_mem_access(env, regno, int(mem_size), BPF_WRITE, true, nullptr);
  if (type_may_be_null(saved.type)) env.cur_regs()[regno] = saved;
  return err;
}

Errno match_arg(bpf_verifier_env& env, uint32_t i, const bpf_subprog_arg_info& arg) {
  const uint32_t regno = i + 1;
  const bpf_reg_state& reg = env.cur_regs()[regno];
  if (arg.arg_type == ARG_ANYTHING) {
    if (reg.type != SCALAR_VALUE) return reject(env, Errno::Inval, "R%u is not a scalar\n", regno);
    return Errno::None;
  }
  MUST(check_func_arg_reg_off(env, reg, regno, ARG_DONTCARE));
  if (arg.arg_type == ARG_PTR_TO_CTX) {
    // When function expects ctx type in BTF, the caller passes its own.
    if (reg.type != PTR_TO_CTX) return reject(env, Errno::Inval, "arg#%u expects pointer to ctx\n", i);
    return Errno::None;
  }
  if (check_mem_reg(env, regno, arg.mem_size) != Errno::None) return Errno::Inval;
  if (!type_may_be_null(arg.arg_type) && type_may_be_null(reg.type))
    return reject(env, Errno::Inval, "arg#%u is expected to be non-NULL\n", i);
  return Errno::None;
}

Errno btf_check_func_arg_match(bpf_verifier_env& env, uint32_t subprog) {
  MUST(btf_prepare_func_args(env, subprog));
  const bpf_subprog_info& sub = env.subprog_info[subprog];
  for (uint32_t i = 0; i < sub.arg_cnt; i++) MUST(match_arg(env, i, sub.args[i]));
  return Errno::None;
}

}  // namespace

Errno btf_prepare_func_args(bpf_verifier_env& env, uint32_t subprog) {
  bpf_subprog_info& sub = env.subprog_info[subprog];
  if (sub.args_cached) return Errno::None;
  if (subprog >= env.prog.aux->func_info.size()) return Errno::Fault;
  const uint32_t func_id = env.prog.aux->func_info[subprog].type_id;
  const BtfTypes& types = *env.prog.aux->btf->types;
  const btf_type& fn = *types.type_by_id(func_id);
  const Function func{types, fn, types.name_of(fn), subprog_is_global(env, subprog)};
  const btf_type* proto = types.type_by_id(fn.type);
  const std::span<const btf_param> params = btf_params(*proto);
  if (params.size() > MAX_BPF_FUNC_REG_ARGS) {
    if (!func.is_global) return Errno::Inval;
    return reject(env, Errno::Inval, "Global function %s() with %d > %d args. Buggy compiler.\n",
                  func.name.c_str(), int(params.size()), int(MAX_BPF_FUNC_REG_ARGS));
  }
  const btf_type* ret = types.skip_modifiers(proto->type);
  if (!ret || btf_type_is_void(*ret) || !is_number(*ret)) {
    if (!func.is_global) return Errno::Inval;
    return reject(env, Errno::Inval,
                  "Global function %s() doesn't return scalar. Only those are supported.\n",
                  func.name.c_str());
  }
  for (uint32_t i = 0; i < params.size(); i++)
    MUST(prepare_arg(env, func, func_id, i, params[i].type, sub.args[i]));
  sub.arg_cnt = uint32_t(params.size());
  sub.args_cached = true;
  return Errno::None;
}

Errno btf_check_subprog_call(bpf_verifier_env& env, uint32_t subprog) {
  if (env.func_info_aux.empty()) return Errno::Inval;
  bpf_func_info_aux& aux = env.func_info_aux[subprog];
  if (aux.unreliable) return Errno::Inval;
  const Errno err = btf_check_func_arg_match(env, subprog);
  if (err != Errno::None) aux.unreliable = true;
  return err;
}

Errno set_func_args(bpf_verifier_env& env, uint32_t subprog) {
  MUST(btf_prepare_func_args(env, subprog));
  const bpf_subprog_info& sub = env.subprog_info[subprog];
  for (uint32_t i = 0; i < sub.arg_cnt; i++) {
    const bpf_subprog_arg_info& arg = sub.args[i];
    bpf_reg_state& reg = env.cur_regs()[i + 1];
    if (arg.arg_type == ARG_ANYTHING) {
      mark_reg_unknown(env, reg);
      continue;
    }
    mark_reg_known_zero(reg);
    if (arg.arg_type == ARG_PTR_TO_CTX) {
      reg.type = PTR_TO_CTX;
      continue;
    }
    reg.type = uint32_t(PTR_TO_MEM) | (arg.arg_type & PTR_MAYBE_NULL);
    reg.mem_size = arg.mem_size;
    reg.id = ++env.id_gen;
  }
  return Errno::None;
}

void judge_main_func(bpf_verifier_env& env) {
  if (env.func_info_aux.empty()) return;
  const Errno err = btf_prepare_func_args(env, 0);
  const bpf_subprog_info& main = env.subprog_info[0];
  if (err != Errno::None || main.arg_cnt != 1 || main.args[0].arg_type != ARG_PTR_TO_CTX)
    env.func_info_aux[0].unreliable = true;
}

}  // namespace bpfsim
