// Models: kernel/bpf/btf.c (Linux 6.18): btf_check_all_types(), btf_resolve(), btf_check_type_tags()
//
// The second half of the checker: what types refer to. A type's references are taken in their order. Each
// must name a kind that it may name; then the walk looks into what it names; then what stands behind it, past
// typedefs and qualifiers, must be of a kind that it may end at. Whoever is met again while he is looked into
// stands in a loop, and a path of more than 32 is too long; both are said of the type where the walk began.
// Not every reference is followed, or no list node could point to its own kind: below a pointer only pointers
// and modifiers are, below a struct or an array, which must not contain themselves, only those and modifiers.
// Departs from the kernel: its types wait on a stack of their own and each is taken up again from where it
// was left, here the functions call each other; and its last look at the result ("Invalid resolve state") is
// left out, since none of these rules lets it fail.
#include <algorithm>
#include <array>
#include <utility>

#include "btf/btf_checker.h"

namespace bpfsim {

namespace {

template <class... Kind>
constexpr uint32_t kinds(Kind... kind) {
  return ((1u << kind) | ...);
}

constexpr uint32_t kModifiers =
    kinds(BTF_KIND_TYPEDEF, BTF_KIND_VOLATILE, BTF_KIND_CONST, BTF_KIND_RESTRICT, BTF_KIND_TYPE_TAG);
constexpr uint32_t kPointer = kinds(BTF_KIND_PTR);
constexpr uint32_t kAggregates = kinds(BTF_KIND_ARRAY, BTF_KIND_STRUCT, BTF_KIND_UNION);
constexpr uint32_t kSized =
    kPointer | kAggregates | kinds(BTF_KIND_INT, BTF_KIND_FLOAT, BTF_KIND_ENUM, BTF_KIND_ENUM64);
constexpr uint32_t kPart = kSized | kModifiers;  // what an array or a struct may consist of
constexpr uint32_t kBodiless = kinds(BTF_KIND_UNKN, BTF_KIND_FWD, BTF_KIND_FUNC_PROTO);  // a name at most
constexpr uint32_t kLabels = kinds(BTF_KIND_VAR, BTF_KIND_DATASEC, BTF_KIND_DECL_TAG);
constexpr uint32_t kPlain = ~kLabels;  // labels name types, no type names them
constexpr uint32_t kStandIns = kModifiers | kinds(BTF_KIND_VAR, BTF_KIND_FUNC);  // another is behind them

// Where the walk goes on.
constexpr uint32_t kEverywhere = kPointer | kAggregates | kStandIns | kLabels;
constexpr uint32_t kBelowPointer = kPointer | kModifiers;
constexpr uint32_t kBelowAggregate = kAggregates | kModifiers;

}  // namespace

bool btf_type_int_is_regular(const btf_type& t) {
  const uint32_t data = btf_int_data(t), bits = btf_int_bits(data);
  return btf_int_offset(data) == 0 && (bits == 8 || bits == 16 || bits == 32 || bits == 64 || bits == 128);
}

bool BtfChecker::is(uint32_t id, Kinds wanted) const {
  const btf_type* t = btf_.type_by_id(id);
  return t && (wanted >> btf_kind(*t) & 1);
}

uint32_t BtfChecker::size_of(uint32_t id) const {
  const uint32_t behind = standings_[id].behind;
  if (is(behind, kPointer)) return 8;
  return is(behind, kinds(BTF_KIND_ARRAY)) ? standings_[behind].array_size : type(behind).size;
}

Result<void> BtfChecker::btf_check_all_types() {
  standings_.resize(btf_.nr_types());
  for (uint32_t id = 0; id < btf_.nr_types(); ++id) standings_[id].behind = id;
  phase_ = Phase::CheckType;
  for (uint32_t id = 1; id < btf_.nr_types(); ++id) {
    log_type_id_ = id;
    TRY(look_into(id, kEverywhere));
    if (is(id, kinds(BTF_KIND_FUNC_PROTO))) TRY(btf_func_proto_check(type(id)));
  }
  return {};
}

Result<void> BtfChecker::look_into(uint32_t id, Kinds follow) {
  if (!is(id, follow) || standings_[id].visit == Visit::Done) return {};
  return btf_resolve(id, follow);
}

Result<bool> BtfChecker::refers(uint32_t id, Kinds may_name, Kinds may_end_at, Kinds follow) {
  if (!is(id, may_name)) return false;
  TRY(look_into(id, follow));
  return is(standings_[id].behind, may_end_at);
}

Result<void> BtfChecker::btf_resolve(uint32_t id, Kinds follow) {
  const bool too_deep = path_.size() == BtfTypes::max_resolve_depth;
  if (too_deep || standings_[id].visit == Visit::OnPath) {
    log_type_id_ = path_.front();
    Type start = type(log_type_id_);
    if (!too_deep) return refuse_type_err(start, Errno::Exist, "Loop detected");
    return refuse_type_err(start, Errno::TooBig, "Exceeded max resolving depth:{}",
                           BtfTypes::max_resolve_depth);
  }
  const uint32_t outer = std::exchange(log_type_id_, id);
  path_.push_back(id);
  standings_[id].visit = Visit::OnPath;
  TRY(resolve_kind(type(id), follow));
  if (is(id, kStandIns)) standings_[id].behind = standings_[type(id).type].behind;
  standings_[id].visit = Visit::Done;
  path_.pop_back();
  log_type_id_ = outer;
  return {};
}

Result<void> BtfChecker::resolve_kind(Type t, Kinds follow) {
  switch (btf_kind(t)) {
    case BTF_KIND_PTR: return btf_ptr_resolve(t);
    case BTF_KIND_VAR: return btf_var_resolve(t);
    case BTF_KIND_ARRAY: return btf_array_resolve(t);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION: return btf_struct_resolve(t);
    case BTF_KIND_FUNC: return btf_func_check(t);
    case BTF_KIND_DATASEC: return btf_datasec_resolve(t);
    case BTF_KIND_DECL_TAG: return btf_decl_tag_resolve(t);
    default: return btf_modifier_resolve(t, follow);
  }
}

// "typedef void t", "const struct forward": a modifier needs no size behind it.
Result<void> BtfChecker::btf_modifier_resolve(Type t, Kinds follow) {
  if (!TRY(refers(t.type, kPlain, kSized | kBodiless, follow))) return refuse_type(t, "Invalid type_id");
  return {};
}

// A modifier that was resolved on behalf of a struct stopped at the pointer behind it. What comes from a
// pointer or a variable goes on from there, or a ring of pointers and modifiers would be missed.
Result<void> BtfChecker::btf_ptr_resolve(Type t) {
  if (!TRY(refers(t.type, kPlain, kSized | kBodiless, kBelowPointer)))
    return refuse_type(t, "Invalid type_id");
  return look_into(standings_[t.type].behind, kPointer);
}

// A variable takes room: no forward declaration here.
Result<void> BtfChecker::btf_var_resolve(Type t) {
  if (!TRY(refers(t.type, kPlain, kSized, kEverywhere))) return refuse_type(t, "Invalid type_id");
  return look_into(standings_[t.type].behind, kPointer);
}

Result<void> BtfChecker::btf_array_resolve(Type t) {
  const btf_array& array = btf_array_of(t);
  constexpr uint32_t of_int = kinds(BTF_KIND_INT);
  if (!TRY(refers(array.index_type, kPart, of_int, kBelowAggregate)) ||
      !btf_type_int_is_regular(type_behind(array.index_type)))
    return refuse_type(t, "Invalid index");
  if (!TRY(refers(array.type, kPart, kSized, kBelowAggregate))) return refuse_type(t, "Invalid elem");
  const btf_type& elem = type_behind(array.type);
  if (btf_kind(elem) == BTF_KIND_INT && !btf_type_int_is_regular(elem))
    return refuse_type(t, "Invalid array of int");
  const uint64_t size = uint64_t(size_of(array.type)) * array.nelems;
  if (size > UINT32_MAX) return refuse_type(t, "Array size overflows U32_MAX");
  standings_[path_.back()].array_size = uint32_t(size);
  return {};
}

Result<void> BtfChecker::btf_struct_resolve(Type t) {
  for (const btf_member& m : btf_members(t)) {
    if (!TRY(refers(m.type, kPart, kSized, kBelowAggregate))) return refuse_member(t, m, "Invalid member");
    TRY(check_member(t, m));
  }
  return {};
}

// The prototype's own references are btf_func_proto_check()'s.
Result<void> BtfChecker::btf_func_check(Type t) {
  if (!is(t.type, kinds(BTF_KIND_FUNC_PROTO))) return refuse_type(t, "Invalid type_id");
  const auto args = btf_params(type(t.type));
  const auto nameless =
      std::find_if(args.begin(), args.end(), [](const btf_param& p) { return p.type && !p.name_off; });
  if (nameless != args.end()) return refuse_type(t, "Invalid arg#{}", nameless - args.begin() + 1);
  return {};
}

Result<void> BtfChecker::btf_datasec_resolve(Type t) {
  for (const btf_var_secinfo& vsi : btf_var_secinfos(t)) {
    if (!is(vsi.type, kinds(BTF_KIND_VAR))) return refuse_vsi(t, vsi, "Not a VAR kind member");
    // A variable that stands behind its section is not measured: 6.18 goes on to the next after the visit.
    const bool measured = standings_[vsi.type].visit == Visit::Done;
    TRY(look_into(vsi.type, kEverywhere));
    if (measured && vsi.size < size_of(vsi.type)) return refuse_vsi(t, vsi, "Invalid size");
  }
  return {};
}

// A tag hangs at a whole, or at one of the members of a struct or the arguments of a function.
Result<void> BtfChecker::btf_decl_tag_resolve(Type t) {
  constexpr uint32_t wholes = kinds(BTF_KIND_VAR, BTF_KIND_TYPEDEF);
  constexpr uint32_t composed = kinds(BTF_KIND_STRUCT, BTF_KIND_UNION, BTF_KIND_FUNC);
  if (!TRY(refers(t.type, wholes | composed, ~0u, kEverywhere))) return refuse_type(t, "Invalid type_id");
  const int32_t component = btf_component_idx(t);
  const uint32_t components = is(t.type, composed) ? btf_vlen(type_behind(t.type)) : 0;
  if (component != -1 && uint32_t(component) >= components) return refuse_type(t, "Invalid component_idx");
  return {};
}

// A prototype is no step of the walk: each type that it mentions begins one.
Result<void> BtfChecker::btf_func_proto_check(Type t) {
  if (t.type && !TRY(refers(t.type, kPlain, kSized, kEverywhere)))
    return refuse_type(t, "Invalid return type");
  const auto args = btf_params(t);
  const bool variadic = !args.empty() && args.back().type == 0;  // "..."
  if (variadic && args.back().name_off) return refuse_type(t, "Invalid arg#{}", args.size());
  for (size_t i = 0; i < args.size() - variadic; ++i) {
    const bool name_ok = !args[i].name_off || btf_name_valid_identifier(args[i].name_off);
    if (!name_ok || !TRY(refers(args[i].type, kPlain, kSized, kEverywhere)))
      return refuse_type(t, "Invalid arg#{}", i + 1);
  }
  return {};
}

// clang writes type tags before qualifiers (ptr -> tag -> const -> int). The kernel relies on it when it
// looks for them, and no chain of modifiers may be longer than 32. A chain is judged as far as the first type
// that stands before its head: that one's own chain has been judged.
Result<void> BtfChecker::btf_check_type_tags() {
  constexpr uint32_t longest = 32;
  auto tag_after_qualifier = [this](uint32_t before, uint32_t id) {
    return is(id, kinds(BTF_KIND_TYPE_TAG)) && !is(before, kinds(BTF_KIND_TYPE_TAG));
  };
  for (uint32_t head = 1; head < btf_.nr_types(); ++head) {
    std::array<uint32_t, longest> chain;
    uint32_t length = 0, id = head;
    for (bool judged = false; is(id, kModifiers) && !judged && length < longest; id = type(id).type) {
      chain[length++] = id;
      judged = id < head;
    }
    const auto end = chain.begin() + length;
    if (std::adjacent_find(chain.begin(), end, tag_after_qualifier) != end)
      return refuse_plain(Errno::Inval, "Type tags don't precede modifiers");
    if (length == longest && chain.back() >= head && is(id, kModifiers))
      return refuse_plain(Errno::Loop, "Max chain length or cycle detected");
  }
  return {};
}

}  // namespace bpfsim
