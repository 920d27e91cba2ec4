// Models: kernel/bpf/btf.c (Linux 6.18): btf_check_all_types(), btf_resolve(), btf_check_type_tags()
//
// The second half of the checker: what types refer to. A depth-first walk with a stack of 32 and three states
// per type finds cycles ("Loop detected") and gives each modifier, pointer and variable the type that stands
// behind it. Where the walk may stop depends on where it started (ResolveMode): a pointer to a struct need
// not look into the struct, so that a list node may point to its own kind; a struct inside a struct must be
// looked into, or it could contain itself.
#include "btf/btf_checker.h"

namespace bpfsim {

static bool is_ptr(const btf_type& t) { return btf_kind(t) == BTF_KIND_PTR; }
static bool is_var(const btf_type& t) { return btf_kind(t) == BTF_KIND_VAR; }
static bool is_array(const btf_type& t) { return btf_kind(t) == BTF_KIND_ARRAY; }

static bool type_nosize(const btf_type& t) {
  switch (btf_kind(t)) {
    case BTF_KIND_UNKN:
    case BTF_KIND_FWD:
    case BTF_KIND_FUNC:
    case BTF_KIND_FUNC_PROTO:
    case BTF_KIND_DECL_TAG: return true;
  }
  return false;
}

static bool type_nosize_or_null(const btf_type* t) { return !t || type_nosize(*t); }

static bool type_is_resolve_source_only(const btf_type& t) {
  return is_var(t) || btf_kind(t) == BTF_KIND_DECL_TAG || btf_kind(t) == BTF_KIND_DATASEC;
}

static bool type_needs_resolve(const btf_type& t) {
  return btf_type_is_modifier(t) || is_ptr(t) || btf_type_is_struct(t) || is_array(t) ||
         btf_kind(t) == BTF_KIND_FUNC || type_is_resolve_source_only(t);
}

bool btf_type_int_is_regular(const btf_type& t) {
  const uint32_t data = btf_int_data(t), bits = btf_int_bits(data);
  return btf_int_offset(data) == 0 && (bits == 8 || bits == 16 || bits == 32 || bits == 64 || bits == 128);
}

Result<void> BtfChecker::btf_check_all_types() {
  visit_states_.assign(btf_.nr_types(), Visit::NotVisited);
  resolved_ids_.assign(btf_.nr_types(), 0);
  resolved_sizes_.assign(btf_.nr_types(), 0);
  phase_ = Phase::CheckType;
  for (uint32_t id = 1; id < btf_.nr_types(); ++id) {
    const btf_type& t = *btf_.type_by_id(id);
    log_type_id_ = id;
    if (type_needs_resolve(t) && !env_type_is_resolved(id)) TRY(btf_resolve(t, id));
    if (btf_kind(t) == BTF_KIND_FUNC_PROTO) TRY(btf_func_proto_check(t));
  }
  return {};
}

Result<void> BtfChecker::btf_resolve(Type t, uint32_t type_id) {
  const uint32_t saved_log_type_id = log_type_id_;
  resolve_mode_ = ResolveMode::Tbd;
  Result<void> result = env_stack_push(t, type_id);
  while (result && !stack_.empty()) {
    const ResolveVertex v = stack_.back();
    log_type_id_ = v.type_id;
    result = resolve_kind(v);
  }
  log_type_id_ = type_id;
  if (result.err() == Errno::TooBig) {
    result =
        refuse_type_err(t, Errno::TooBig, "Exceeded max resolving depth:{}", BtfTypes::max_resolve_depth);
  } else if (result.err() == Errno::Exist) {
    result = refuse_type_err(t, Errno::Exist, "Loop detected");
  } else if (result && !btf_resolve_valid(t, type_id)) {
    result = refuse_type(t, "Invalid resolve state");
  }
  log_type_id_ = saved_log_type_id;
  return result;
}

Result<void> BtfChecker::env_stack_push(Type t, uint32_t type_id) {
  if (stack_.size() == BtfTypes::max_resolve_depth)
    return refuse(Errno::TooBig, "the resolver's stack is full");
  if (visit_states_[type_id] != Visit::NotVisited)
    return refuse(Errno::Exist, "type [{}] is being resolved already", type_id);
  visit_states_[type_id] = Visit::Visited;
  stack_.push_back({&t, type_id, 0});
  if (resolve_mode_ == ResolveMode::Tbd) {
    if (is_ptr(t)) resolve_mode_ = ResolveMode::Ptr;
    if (btf_type_is_struct(t) || is_array(t)) resolve_mode_ = ResolveMode::StructOrArray;
  }
  return {};
}

void BtfChecker::env_stack_pop_resolved(uint32_t resolved_id, uint32_t resolved_size) {
  const uint32_t id = stack_.back().type_id;
  stack_.pop_back();
  resolved_ids_[id] = resolved_id;
  resolved_sizes_[id] = resolved_size;
  visit_states_[id] = Visit::Resolved;
}

bool BtfChecker::env_type_is_resolve_sink(Type t) const {
  switch (resolve_mode_) {
    case ResolveMode::Tbd: return !type_needs_resolve(t);
    case ResolveMode::Ptr: return !btf_type_is_modifier(t) && !is_ptr(t);
    case ResolveMode::StructOrArray:
      return !btf_type_is_modifier(t) && !is_array(t) && !btf_type_is_struct(t);
  }
  return true;
}

// The type with a size behind `id`, which moves on to it; nullptr where there is none.
const btf_type* BtfChecker::btf_type_id_size(uint32_t& id, uint32_t* size) const {
  uint32_t at = id;
  const btf_type* t = btf_.type_by_id(at);
  if (type_nosize_or_null(t)) return nullptr;
  if (btf_type_is_modifier(*t) || is_var(*t)) {
    at = resolved_ids_[at];
    t = btf_.type_by_id(at);
    if (type_nosize_or_null(t)) return nullptr;
  }
  uint32_t bytes;
  if (btf_type_has_size(*t))
    bytes = t->size;
  else if (is_array(*t))
    bytes = resolved_sizes_[at];
  else if (is_ptr(*t))
    bytes = 8;
  else
    return nullptr;
  id = at;
  if (size) *size = bytes;
  return t;
}

// A modifier resolved on behalf of a struct may have stopped at a pointer. A pointer or a variable that comes
// later has to go on from there, or a chain of pointers back to itself would be missed.
const btf_type* BtfChecker::last_resolved_ptr(Type modifier, uint32_t& id) const {
  if (!btf_type_is_modifier(modifier)) return nullptr;
  id = resolved_ids_[id];
  const btf_type* t = btf_.type_by_id(id);
  return t && is_ptr(*t) && must_visit(*t, id) ? t : nullptr;
}

Result<void> BtfChecker::resolve_kind(const ResolveVertex& v) {
  switch (btf_kind(*v.t)) {
    case BTF_KIND_PTR: return btf_ptr_resolve(v);
    case BTF_KIND_VAR: return btf_var_resolve(v);
    case BTF_KIND_ARRAY: return btf_array_resolve(v);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION: return btf_struct_resolve(v);
    case BTF_KIND_FUNC: return btf_func_resolve(v);
    case BTF_KIND_DATASEC: return btf_datasec_resolve(v);
    case BTF_KIND_DECL_TAG: return btf_decl_tag_resolve(v);
  }
  if (btf_type_is_modifier(*v.t)) return btf_modifier_resolve(v);
  return refuse_basic(*v.t, "Unsupported resolve");
}

Result<void> BtfChecker::btf_modifier_resolve(const ResolveVertex& v) {
  uint32_t next_id = v.t->type;
  const btf_type* next = btf_.type_by_id(next_id);
  if (!next || type_is_resolve_source_only(*next)) return refuse_type(*v.t, "Invalid type_id");
  if (must_visit(*next, next_id)) return env_stack_push(*next, next_id);
  if (!btf_type_id_size(next_id)) {
    if (env_type_is_resolved(next_id)) next = btf_.type_by_id(next_id = resolved_ids_[next_id]);
    // "typedef void t", "const struct forward"
    if (!btf_type_is_void(*next) && btf_kind(*next) != BTF_KIND_FWD && btf_kind(*next) != BTF_KIND_FUNC_PROTO)
      return refuse_type(*v.t, "Invalid type_id");
  }
  env_stack_pop_resolved(next_id, 0);
  return {};
}

Result<void> BtfChecker::btf_ptr_resolve(const ResolveVertex& v) {
  uint32_t next_id = v.t->type;
  const btf_type* next = btf_.type_by_id(next_id);
  if (!next || type_is_resolve_source_only(*next)) return refuse_type(*v.t, "Invalid type_id");
  if (must_visit(*next, next_id)) return env_stack_push(*next, next_id);
  uint32_t ptr_id = next_id;
  if (const btf_type* ptr = last_resolved_ptr(*next, ptr_id)) return env_stack_push(*ptr, ptr_id);
  if (!btf_type_id_size(next_id)) {
    if (env_type_is_resolved(next_id)) next = btf_.type_by_id(next_id = resolved_ids_[next_id]);
    if (!btf_type_is_void(*next) && btf_kind(*next) != BTF_KIND_FWD && btf_kind(*next) != BTF_KIND_FUNC_PROTO)
      return refuse_type(*v.t, "Invalid type_id");
  }
  env_stack_pop_resolved(next_id, 0);
  return {};
}

Result<void> BtfChecker::btf_var_resolve(const ResolveVertex& v) {
  uint32_t next_id = v.t->type;
  const btf_type* next = btf_.type_by_id(next_id);
  if (!next || type_is_resolve_source_only(*next)) return refuse_type(*v.t, "Invalid type_id");
  if (must_visit(*next, next_id)) return env_stack_push(*next, next_id);
  uint32_t ptr_id = next_id;
  if (const btf_type* ptr = last_resolved_ptr(*next, ptr_id)) return env_stack_push(*ptr, ptr_id);
  // A variable takes room, so that it must have a size: no forward declaration here.
  if (!btf_type_id_size(next_id)) return refuse_type(*v.t, "Invalid type_id");
  env_stack_pop_resolved(next_id, 0);
  return {};
}

Result<void> BtfChecker::btf_array_resolve(const ResolveVertex& v) {
  const btf_array& array = btf_array_of(*v.t);
  uint32_t index_id = array.index_type;
  const btf_type* index = btf_.type_by_id(index_id);
  if (type_nosize_or_null(index) || type_is_resolve_source_only(*index))
    return refuse_type(*v.t, "Invalid index");
  if (must_visit(*index, index_id)) return env_stack_push(*index, index_id);
  index = btf_type_id_size(index_id);
  if (!index || btf_kind(*index) != BTF_KIND_INT || !btf_type_int_is_regular(*index))
    return refuse_type(*v.t, "Invalid index");

  uint32_t elem_id = array.type, elem_size = 0;
  const btf_type* elem = btf_.type_by_id(elem_id);
  if (type_nosize_or_null(elem) || type_is_resolve_source_only(*elem))
    return refuse_type(*v.t, "Invalid elem");
  if (must_visit(*elem, elem_id)) return env_stack_push(*elem, elem_id);
  elem = btf_type_id_size(elem_id, &elem_size);
  if (!elem) return refuse_type(*v.t, "Invalid elem");
  if (btf_kind(*elem) == BTF_KIND_INT && !btf_type_int_is_regular(*elem))
    return refuse_type(*v.t, "Invalid array of int");
  if (array.nelems && elem_size > UINT32_MAX / array.nelems)
    return refuse_type(*v.t, "Array size overflows U32_MAX");
  env_stack_pop_resolved(elem_id, elem_size * array.nelems);
  return {};
}

Result<void> BtfChecker::btf_struct_resolve(const ResolveVertex& v) {
  const auto members = btf_members(*v.t);
  // The member that sent us away to resolve its type comes first, now that its size is known.
  if (v.next_member) {
    const btf_member& last = members[v.next_member - 1];
    TRY(check_member(*v.t, last, *btf_.type_by_id(last.type)));
  }
  for (uint32_t i = v.next_member; i < members.size(); ++i) {
    const btf_member& m = members[i];
    const btf_type* member_type = btf_.type_by_id(m.type);
    if (type_nosize_or_null(member_type) || type_is_resolve_source_only(*member_type))
      return refuse_member(*v.t, m, "Invalid member");
    if (must_visit(*member_type, m.type)) {
      stack_.back().next_member = i + 1;
      return env_stack_push(*member_type, m.type);
    }
    TRY(check_member(*v.t, m, *member_type));
  }
  env_stack_pop_resolved(0, 0);
  return {};
}

Result<void> BtfChecker::btf_func_resolve(const ResolveVertex& v) {
  TRY(btf_func_check(*v.t));
  env_stack_pop_resolved(v.t->type, 0);
  return {};
}

Result<void> BtfChecker::btf_func_check(Type t) {
  const btf_type* proto = btf_.type_by_id(t.type);
  if (!proto || btf_kind(*proto) != BTF_KIND_FUNC_PROTO) return refuse_type(t, "Invalid type_id");
  uint32_t arg = 0;
  for (const btf_param& p : btf_params(*proto)) {
    ++arg;
    if (!p.name_off && p.type) return refuse_type(t, "Invalid arg#{}", arg);
  }
  return {};
}

Result<void> BtfChecker::btf_datasec_resolve(const ResolveVertex& v) {
  const auto secinfos = btf_var_secinfos(*v.t);
  resolve_mode_ = ResolveMode::Tbd;
  for (uint32_t i = v.next_member; i < secinfos.size(); ++i) {
    const btf_var_secinfo& vsi = secinfos[i];
    const btf_type* var = btf_.type_by_id(vsi.type);
    if (!var || !is_var(*var)) return refuse_vsi(*v.t, vsi, "Not a VAR kind member");
    if (must_visit(*var, vsi.type)) {
      stack_.back().next_member = i + 1;
      return env_stack_push(*var, vsi.type);
    }
    uint32_t type_id = var->type, type_size = 0;
    if (!btf_type_id_size(type_id, &type_size)) return refuse_vsi(*v.t, vsi, "Invalid type");
    if (vsi.size < type_size) return refuse_vsi(*v.t, vsi, "Invalid size");
  }
  env_stack_pop_resolved(0, 0);
  return {};
}

Result<void> BtfChecker::btf_decl_tag_resolve(const ResolveVertex& v) {
  const uint32_t next_id = v.t->type;
  const btf_type* next = btf_.type_by_id(next_id);
  const uint32_t kind = next ? btf_kind(*next) : uint32_t(BTF_KIND_UNKN);
  const bool of_whole_only = kind == BTF_KIND_VAR || kind == BTF_KIND_TYPEDEF;
  if (!next || !(of_whole_only || kind == BTF_KIND_FUNC || btf_type_is_struct(*next)))
    return refuse_type(*v.t, "Invalid type_id");
  if (must_visit(*next, next_id)) return env_stack_push(*next, next_id);
  if (const int32_t index = btf_component_idx(*v.t); index != -1) {
    if (of_whole_only) return refuse_type(*v.t, "Invalid component_idx");
    const btf_type& parts = kind == BTF_KIND_FUNC ? *btf_.type_by_id(next->type) : *next;
    if (uint32_t(index) >= btf_vlen(parts)) return refuse_type(*v.t, "Invalid component_idx");
  }
  env_stack_pop_resolved(next_id, 0);
  return {};
}

// A prototype is no step of the walk: it is looked at on its own, after what it mentions has been resolved.
Result<void> BtfChecker::btf_func_proto_check(Type t) {
  if (uint32_t ret_id = t.type) {
    const btf_type* ret = btf_.type_by_id(ret_id);
    if (!ret || type_is_resolve_source_only(*ret)) return refuse_type(t, "Invalid return type");
    if (type_needs_resolve(*ret) && !env_type_is_resolved(ret_id)) TRY(btf_resolve(*ret, ret_id));
    if (!btf_type_id_size(ret_id)) return refuse_type(t, "Invalid return type");
  }
  auto args = btf_params(t);
  if (args.empty()) return {};
  if (!args.back().type) {  // "..."
    if (args.back().name_off) return refuse_type(t, "Invalid arg#{}", args.size());
    args = args.first(args.size() - 1);
  }
  for (uint32_t i = 0; i < args.size(); ++i) {
    uint32_t arg_id = args[i].type;
    const uint32_t name_off = args[i].name_off;
    const btf_type* arg = btf_.type_by_id(arg_id);
    if (!arg || type_is_resolve_source_only(*arg)) return refuse_type(t, "Invalid arg#{}", i + 1);
    if (name_off && (name_off > BTF_MAX_NAME_OFFSET || !btf_.name_by_offset(name_off) ||
                     !btf_name_valid_identifier(name_off)))
      return refuse_type(t, "Invalid arg#{}", i + 1);
    if (type_needs_resolve(*arg) && !env_type_is_resolved(arg_id)) TRY(btf_resolve(*arg, arg_id));
    if (!btf_type_id_size(arg_id)) return refuse_type(t, "Invalid arg#{}", i + 1);
  }
  return {};
}

bool BtfChecker::btf_resolve_valid(Type t, uint32_t id) const {
  if (!env_type_is_resolved(id)) return false;
  if (btf_type_is_struct(t) || btf_kind(t) == BTF_KIND_DATASEC)
    return !resolved_ids_[id] && !resolved_sizes_[id];
  if (btf_kind(t) == BTF_KIND_DECL_TAG || btf_kind(t) == BTF_KIND_FUNC)
    return resolved_ids_[id] && !resolved_sizes_[id];
  if (btf_type_is_modifier(t) || is_ptr(t) || is_var(t)) {
    const btf_type* behind = btf_.type_by_id(resolved_ids_[id]);
    return behind && !btf_type_is_modifier(*behind) && !is_var(*behind) &&
           btf_kind(*behind) != BTF_KIND_DATASEC;
  }
  if (is_array(t)) {
    uint32_t elem_id = btf_array_of(t).type, elem_size = 0;
    const btf_type* elem = btf_type_id_size(elem_id, &elem_size);
    return elem && !btf_type_is_modifier(*elem) && btf_array_of(t).nelems * elem_size == resolved_sizes_[id];
  }
  return false;
}

// clang writes type tags before qualifiers (ptr -> tag -> const -> int). The kernel relies on it when it
// looks for them, and no chain of modifiers may be longer than 32.
Result<void> BtfChecker::btf_check_type_tags() {
  uint32_t good_id = 0;
  for (uint32_t i = 1; i < btf_.nr_types(); ++i) {
    const btf_type* t = btf_.type_by_id(i);
    if (!btf_type_is_modifier(*t)) continue;
    uint32_t cur_id = i, chain_left = 32;
    bool in_tags = btf_kind(*t) == BTF_KIND_TYPE_TAG;
    while (btf_type_is_modifier(*t)) {
      if (!chain_left--) return refuse_plain(Errno::Loop, "Max chain length or cycle detected");
      const bool tag = btf_kind(*t) == BTF_KIND_TYPE_TAG;
      if (tag && !in_tags) return refuse_plain(Errno::Inval, "Type tags don't precede modifiers");
      if (!tag) in_tags = false;
      if (cur_id <= good_id) break;
      cur_id = t->type;
      t = btf_.type_by_id(cur_id);
      if (!t) return refuse(Errno::Inval, "type [{}] does not exist", cur_id);
    }
    good_id = i;
  }
  return {};
}

}  // namespace bpfsim
