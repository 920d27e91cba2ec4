// Models: kernel/bpf/btf.c (btf_find_field, btf_parse_fields, btf_parse_struct_metas) (Linux 6.18)
//
// Finds special fields by walking a struct, its nested structs and arrays, or the variables of a section. A
// struct is known by its name and size, a kptr by the type tag behind the pointer, what a list or tree holds
// by the declaration tag "contains:STRUCT:MEMBER". Typedefs are not looked through. Departs from the kernel:
// which structs it has itself, and which of them have a destructor, is a short list here (kKernelStructs); a
// kptr to any other struct counts as one to the program's own.
#include "btf/btf_fields.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "uapi/gates.h"

namespace bpfsim {

namespace {

struct FieldKind {
  btf_field_type type;
  const char* name;
  uint32_t size, align;
  Version since;
  bool unique = false;  // a second one is refused
};

constexpr FieldKind kKinds[] = {
    {BPF_SPIN_LOCK, "bpf_spin_lock", 4, 4, "5.1"_v, true},
    {BPF_RES_SPIN_LOCK, "bpf_res_spin_lock", 4, 4, "6.15"_v, true},
    {BPF_TIMER, "bpf_timer", 16, 8, "5.15"_v, true},
    {BPF_WORKQUEUE, "bpf_wq", 16, 8, "6.10"_v, true},
    {BPF_TASK_WORK, "bpf_task_work", 8, 8, "6.18"_v, true},
    {BPF_LIST_HEAD, "bpf_list_head", 16, 8, "6.2"_v},
    {BPF_LIST_NODE, "bpf_list_node", 24, 8, "6.2"_v},
    {BPF_RB_ROOT, "bpf_rb_root", 16, 8, "6.3"_v},
    {BPF_RB_NODE, "bpf_rb_node", 32, 8, "6.3"_v},
    {BPF_REFCOUNT, "bpf_refcount", 4, 4, "6.4"_v},
};

struct KptrKind {
  btf_field_type type;
  const char* tag;
  Version since, until = {UINT16_MAX, 0};
};
constexpr KptrKind kKptrKinds[] = {
    {BPF_KPTR_UNREF, "kptr", "5.19"_v, "6.4"_v},   {BPF_KPTR_UNREF, "kptr_untrusted", "6.4"_v},
    {BPF_KPTR_REF, "kptr_ref", "5.19"_v, "6.4"_v}, {BPF_KPTR_REF, "kptr", "6.4"_v},
    {BPF_KPTR_PERCPU, "percpu_kptr", "6.7"_v},     {BPF_UPTR, "uptr", "6.13"_v},
};

// Structs of the kernel, and whether a kfunc is registered that lets go of one.
constexpr struct {
  const char* name;
  bool has_dtor;
} kKernelStructs[] = {
    {"task_struct", true}, {"cgroup", true},  {"bpf_cpumask", true},   {"bpf_crypto_ctx", true},
    {"sk_buff", false},    {"sock", false},   {"net_device", false},   {"file", false},
    {"inode", false},      {"dentry", false}, {"mm_struct", false},    {"vm_area_struct", false},
    {"cred", false},       {"pid", false},    {"nsproxy", false},      {"css_set", false},
    {"bpf_map", false},    {"path", false},   {"linux_binprm", false}, {"bpf_prog", false},
};

struct Found {
  btf_field_type type;
  uint32_t off;
  uint32_t type_id = 0;
  std::string node_name = {};
};

// Unions are not looked into.
bool is_struct(const btf_type& t) { return btf_kind(t) == BTF_KIND_STRUCT; }

const btf_type* struct_at(const BtfTypes& btf, uint32_t id) {
  const btf_type* t = btf.type_by_id(id);
  return t && is_struct(*t) ? t : nullptr;
}

const btf_type* of_kind(const BtfTypes& btf, uint32_t id, uint32_t kind) {
  const btf_type* t = btf.type_by_id(id);
  return t && id && btf_kind(*t) == kind ? t : nullptr;
}

class Finder {
 public:
  Finder(const BtfTypes& btf, uint32_t mask, Version version) : btf_(btf), mask_(mask), version_(version) {}

  std::vector<Found> found;

  Result<void> find_field(uint32_t id) {
    const btf_type* t = btf_.type_by_id(id);
    if (t && is_struct(*t)) return find_struct_fields(id, 0);
    if (!of_kind(btf_, id, BTF_KIND_DATASEC))
      return refuse(Errno::Inval, "only a struct or a section of variables has special fields");
    for (const btf_var_secinfo& vsi : btf_var_secinfos(*t)) {
      const btf_type* var = btf_.type_by_id(vsi.type);
      if (var) TRY(find_field_one({vsi.type, -1}, var->type, vsi.offset, vsi.size, 0));
    }
    return {};
  }

  // A pointer with a tag that says what the kernel keeps there.
  Result<bool> find_kptr(uint32_t id, uint32_t off) {
    const btf_type* t = of_kind(btf_, id, BTF_KIND_VOLATILE);
    const btf_type* ptr = of_kind(btf_, t ? t->type : id, BTF_KIND_PTR);
    const btf_type* tag = ptr ? of_kind(btf_, ptr->type, BTF_KIND_TYPE_TAG) : nullptr;
    if (!tag || btf_kflag(*tag)) return false;
    if (of_kind(btf_, tag->type, BTF_KIND_TYPE_TAG))
      return refuse(Errno::Inval, "a pointer with two type tags");
    const KptrKind* kind = kptr_kind(btf_.name_of(*tag));
    if (!kind) return refuse(Errno::Inval, "no pointer is tagged {}", btf_.name_of(*tag));
    if (!(kind->type & mask_)) return false;
    uint32_t target = 0;
    const btf_type* base = btf_.skip_modifiers(tag->type, &target);
    if (!base || !is_struct(*base)) return refuse(Errno::Inval, "a kptr points to a struct");
    found.push_back({kind->type, off, target});
    return true;
  }

 private:
  struct Declared {  // where declaration tags of a field hang
    uint32_t type_id;
    int32_t component;
  };

  const KptrKind* kptr_kind(std::string_view tag) const {
    for (const KptrKind& kind : kKptrKinds)
      if (tag == kind.tag && kind.since <= version_ && version_ < kind.until) return &kind;
    return nullptr;
  }

  Result<const FieldKind*> field_kind(const btf_type& t) {
    const char* name = btf_.name_of(t);
    for (const FieldKind& kind : kKinds) {
      if (!(mask_ & kind.type) || kind.since > version_ || std::strcmp(name, kind.name) != 0) continue;
      if (kind.unique && seen_ & kind.type) return refuse(Errno::TooBig, "a second {}", kind.name);
      seen_ |= kind.type;
      return &kind;
    }
    return nullptr;
  }

  Result<void> find_struct_fields(uint32_t id, uint32_t level) {
    const btf_type& t = *btf_.type_by_id(id);
    int32_t index = 0;
    for (const btf_member& member : btf_members(t)) {
      const uint32_t bits = btf_member_bit_offset(t, member);
      if (bits % 8) return refuse(Errno::Inval, "a member at bit {}", bits);
      TRY(find_field_one({id, index++}, member.type, bits / 8, 0, level));
    }
    return {};
  }

  Result<void> find_field_one(Declared where, uint32_t id, uint32_t off, uint32_t want_size, uint32_t level) {
    const bool nested = has(Gate::btf_nested_fields, version_);
    uint32_t nelems = 1, depth = 0;
    const btf_type* array;
    for (; nested && depth < BtfTypes::max_resolve_depth && (array = of_kind(btf_, id, BTF_KIND_ARRAY));
         ++depth) {
      nelems *= btf_array_of(*array).nelems;
      id = btf_array_of(*array).type;
    }
    if (depth == BtfTypes::max_resolve_depth) return refuse(Errno::TooBig, "arrays {} deep", depth);
    const btf_type* t = btf_.type_by_id(id);
    if (nelems == 0 || !t) return {};
    const FieldKind* kind = TRY(field_kind(*t));
    const size_t first = found.size();
    if (!kind && nested && is_struct(*t)) {
      if (want_size && want_size != t->size * nelems) return {};
      return find_nested_struct(id, off, nelems, level);
    }
    const uint32_t size = kind ? kind->size : 8, align = kind ? kind->align : 8;
    if (!kind && !(mask_ & (BPF_KPTR | BPF_UPTR))) return {};
    if ((want_size && want_size != size * nelems) || off % align) return {};
    if (!kind) {
      if (!TRY(find_kptr(id, off))) return {};
    } else if (!is_struct(*t) || t->size != size) {
      return {};
    } else if (kind->type & BPF_GRAPH_ROOT) {
      TRY(find_graph_root(where, kind->type, off));
    } else {
      found.push_back({kind->type, off});
    }
    return repeat(first, nelems, size);
  }

  Result<void> find_nested_struct(uint32_t id, uint32_t off, uint32_t nelems, uint32_t level) {
    if (++level >= BtfTypes::max_resolve_depth) return refuse(Errno::TooBig, "structs {} deep", level);
    const size_t first = found.size();
    TRY(find_struct_fields(id, level));
    for (size_t i = first; i < found.size(); ++i) found[i].off += off;
    if (found.size() == first) return {};
    return repeat(first, nelems, btf_.type_by_id(id)->size);
  }

  // The fields from `first` on are those of one element: once more for each of the others.
  Result<void> repeat(size_t first, uint32_t nelems, uint32_t elem_size) {
    const size_t count = found.size() - first;
    for (size_t i = first; i < found.size() && nelems > 1; ++i)
      if (!(found[i].type & (BPF_KPTR | BPF_UPTR | BPF_GRAPH_ROOT)))
        return refuse(Errno::Inval, "an array of {}", btf_field_type_name(found[i].type));
    if (first + uint64_t(count) * nelems > BTF_FIELDS_MAX)
      return refuse(Errno::TooBig, "more than {} special fields", BTF_FIELDS_MAX);
    for (uint32_t element = 1; element < nelems; ++element)
      for (size_t i = 0; i < count; ++i) {
        Found copy = found[first + i];
        copy.off += element * elem_size;
        found.push_back(std::move(copy));
      }
    return {};
  }

  // The tag of the declaration says which struct the list or tree holds, and by which member.
  Result<void> find_graph_root(Declared where, btf_field_type type, uint32_t off) {
    constexpr std::string_view key = "contains:";
    std::string value;
    uint32_t tags = 0;
    for (uint32_t id = 1; id < btf_.nr_types(); ++id) {
      const btf_type* tag = of_kind(btf_, id, BTF_KIND_DECL_TAG);
      if (!tag || tag->type != where.type_id || btf_component_idx(*tag) != where.component) continue;
      const std::string_view name = btf_.name_of(*tag);
      if (name.substr(0, key.size()) != key) continue;
      if (!tags++) value = name.substr(key.size());
    }
    const size_t colon = value.find(':');
    if (tags != 1 || colon == value.npos)
      return refuse(Errno::Inval, "a list or tree needs one tag \"contains:STRUCT:MEMBER\"");
    const uint32_t id = btf_.find_by_name(value.substr(0, colon), BTF_KIND_STRUCT);
    if (!id) return refuse(Errno::NoEnt, "the tag \"contains:\" names a struct that is not there");
    if (colon + 1 == value.size()) return refuse(Errno::Inval, "the tag \"contains:\" names no member");
    found.push_back({type, off, id, value.substr(colon + 1)});
    return {};
  }

  const BtfTypes& btf_;
  const uint32_t mask_;
  const Version version_;
  uint32_t seen_ = 0;
};

// A struct of the kernel's is kept only if the kernel knows how to let go of it.
Result<void> parse_kptr(const BtfTypes& btf, BtfField& field) {
  const char* name = btf.name_of(*btf.type_by_id(field.btf_id));
  for (const auto& known : kKernelStructs) {
    if (std::strcmp(name, known.name) != 0) continue;
    field.kernel_struct = true;
    if (field.type == BPF_KPTR_REF && !known.has_dtor)
      return refuse(Errno::NoEnt, "no kernel function lets go of a struct {}", known.name);
  }
  return {};
}

Result<void> parse_graph_root(const BtfTypes& btf, BtfField& field) {
  const char* node_type = field.type == BPF_LIST_HEAD ? "bpf_list_node" : "bpf_rb_node";
  const auto members = btf_members(*btf.type_by_id(field.btf_id));
  const auto is_named = [&](const btf_member& member) {
    const char* name = btf.name_by_offset(member.name_off);
    return name && field.node_name == name;
  };
  const auto node = std::find_if(members.begin(), members.end(), is_named);
  if (node == members.end())
    return refuse(Errno::NoEnt, "the tag \"contains:\" names a member that is not there");
  const btf_type* type = struct_at(btf, node->type);
  if (!type || std::strcmp(btf.name_of(*type), node_type) != 0 ||
      std::any_of(node + 1, members.end(), is_named))
    return refuse(Errno::Inval, "the tag \"contains:\" must name one member, a {}", node_type);
  const uint32_t bits = btf_member_bit_offset(*type, *node);  // as the kernel: by the node's own kind_flag
  if (bits % 64) return refuse(Errno::Inval, "a {} at bit {}", node_type, bits);
  field.node_offset = bits / 8;
  return {};
}

uint32_t size_of_field(btf_field_type type) {
  for (const FieldKind& kind : kKinds)
    if (kind.type == type) return kind.size;
  return 8;  // a pointer
}

using Metas = std::map<uint32_t, BtfRecord>;  // of the structs that have special fields, by type id

// Members of these types make a struct one to be looked at.
std::vector<bool> special_types(const BtfTypes& btf, Version version) {
  constexpr uint32_t kinds = BPF_SPIN_LOCK | BPF_GRAPH_ROOT | BPF_GRAPH_NODE | BPF_REFCOUNT;
  std::vector<bool> special(btf.nr_types());
  for (const FieldKind& kind : kKinds)
    if (kind.type & kinds && kind.since <= version)
      if (uint32_t id = btf.find_by_name(kind.name, BTF_KIND_STRUCT)) special[id] = true;
  Finder finder(btf, BPF_KPTR, version);
  for (uint32_t id = 1; id < btf.nr_types(); ++id)
    if (Result<bool> kptr = finder.find_kptr(id, 0); kptr && *kptr) special[id] = true;
  return special;
}

Result<Metas> parse_struct_metas(const BtfTypes& btf, Version version) {
  Metas metas;
  const std::vector<bool> special = special_types(btf, version);
  if (std::find(special.begin(), special.end(), true) == special.end()) return metas;
  constexpr uint32_t mask =
      BPF_SPIN_LOCK | BPF_RES_SPIN_LOCK | BPF_GRAPH_ROOT | BPF_GRAPH_NODE | BPF_REFCOUNT | BPF_KPTR;
  for (uint32_t id = 1; id < btf.nr_types(); ++id) {
    const btf_type* t = struct_at(btf, id);
    if (!t) continue;
    const auto members = btf_members(*t);
    if (std::none_of(members.begin(), members.end(), [&](auto& m) { return special[m.type]; })) continue;
    BtfRecord record = TRY(btf_parse_fields(btf, id, mask, t->size, version));
    if (!record)
      return refuse(Errno::Fault, "a special field of struct {} has the wrong size", btf.name_of(*t));
    metas.emplace(id, std::move(record));
  }
  return metas;
}

Result<void> check_fields(const BtfTypes& btf, const BtfRecord& record, const Metas& metas) {
  for (const BtfField& field : record.fields) {
    if (field.type & BPF_GRAPH_ROOT) {
      const auto held = metas.find(field.btf_id);
      if (held == metas.end()) return refuse(Errno::Fault, "what a list or tree holds has no special fields");
      // What is itself held may hold only what holds nothing: so nothing can own itself.
      if (record.has(BPF_GRAPH_NODE) && held->second.has(BPF_GRAPH_ROOT))
        return refuse(Errno::Loop, "a node that holds others, which hold others");
    }
    if (field.type != BPF_UPTR) continue;
    const uint32_t size = btf.type_by_id(field.btf_id)->size;
    if (field.kernel_struct || size == 0)
      return refuse(Errno::Inval, "a uptr points to a struct of the program's");
    if (size > 4096) return refuse(Errno::TooBig, "a uptr points to at most one page, not {} bytes", size);
  }
  return {};
}

}  // namespace

const char* btf_field_type_name(btf_field_type type) {
  for (const FieldKind& kind : kKinds)
    if (kind.type == type) return kind.name;
  for (const KptrKind& kind : kKptrKinds)
    if (kind.type == type) return kind.tag;
  return "?";
}

Result<BtfRecord> btf_parse_fields(const BtfTypes& btf, uint32_t type_id, uint32_t field_mask,
                                   uint32_t value_size, Version version) {
  Finder finder(btf, field_mask, version);
  TRY(finder.find_field(type_id));
  BtfRecord record;
  uint32_t next_off = 0;
  for (const Found& one : finder.found) {
    BtfField field{one.type, one.off, size_of_field(one.type), one.type_id, false, one.node_name, 0};
    if (uint64_t(field.offset) + field.size > value_size)
      return refuse(Errno::Fault, "a {} at {} is beyond the value", btf_field_type_name(one.type), one.off);
    if (field.offset < next_off) return refuse(Errno::Exist, "special fields that overlap at {}", one.off);
    next_off = field.offset + field.size;
    if (one.type & (BPF_KPTR | BPF_UPTR)) TRY(parse_kptr(btf, field));
    if (one.type & BPF_GRAPH_ROOT) TRY(parse_graph_root(btf, field));
    record.field_mask |= one.type;
    record.fields.push_back(std::move(field));
  }
  if (record.has(BPF_SPIN_LOCK) && record.has(BPF_RES_SPIN_LOCK))
    return refuse(Errno::Inval, "a bpf_spin_lock and a bpf_res_spin_lock exclude each other");
  if (record.has(BPF_GRAPH_ROOT) && !record.has(BPF_SPIN_LOCK | BPF_RES_SPIN_LOCK))
    return refuse(Errno::Inval, "a list or tree needs a lock beside it");
  if (record.has(BPF_LIST_NODE) && record.has(BPF_RB_NODE) && !record.has(BPF_REFCOUNT))
    return refuse(Errno::Inval, "what can be in a list and in a tree needs a bpf_refcount");
  return record;
}

Result<void> btf_check_struct_metas(const BtfTypes& btf, Version version) {
  if (!has(Gate::obj_new, version)) return {};  // nothing could be allocated
  const Metas metas = TRY(parse_struct_metas(btf, version));
  for (const auto& [id, record] : metas) TRY(check_fields(btf, record, metas));
  return {};
}

Result<void> btf_check_fields(const BtfTypes& btf, const BtfRecord& record, Version version) {
  if (!record.has(BPF_GRAPH_ROOT | BPF_UPTR)) return {};
  return check_fields(btf, record, TRY(parse_struct_metas(btf, version)));
}

}  // namespace bpfsim
