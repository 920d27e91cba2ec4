// Models: kernel/bpf/map_in_map.c (Linux 6.18)
//
// The verifier checks a program against a template of the inner map, so every inner map must look like it:
// type, sizes and flags; max_entries may differ except for arrays, whose bounds programs rely on. One level
// only: an inner map has no inner maps. Departs from the kernel: the template is a whole Map that is hidden
// from the machine's table of objects.
#include "map/map_in_map.h"

#include <algorithm>

#include "map/common.h"
#include "object/btf.h"
#include "object/registry.h"
#include "uapi/gates.h"

namespace bpfsim {

Result<Map*> bpf_map_meta_alloc(Machine& machine, int inner_map_fd) {
  Map& inner = *TRY(__bpf_map_get(machine, inner_map_fd));
  if (inner.inner_map_meta) return refuse(Errno::Inval, "an inner map cannot have inner maps itself");
  if (!inner.excl_prog_sha.empty()) return refuse(Errno::NotSupp, "an exclusive map is no inner map");
  if (!inner.ops->map_meta_equal)
    return refuse(Errno::NotSupp, "{} cannot be an inner map", map_type_name(inner));
  if (inner.record.has(BPF_SPIN_LOCK) && !has(Gate::btf_records, machine.version))
    return refuse(Errno::NotSupp, "before 6.2 an inner map has no bpf_spin_lock in its values");
  bpf_attr attr;
  attr.map_type = inner.map_type;
  attr.key_size = inner.key_size;
  attr.value_size = inner.value_size;
  attr.max_entries = inner.max_entries;
  attr.map_flags = inner.map_flags;
  Map* meta = new Map(machine, attr);
  machine.objects.erase(meta->serial);
  meta->ops = inner.ops;
  meta->bypass_spec_v1 = inner.bypass_spec_v1;
  meta->record = inner.record;
  meta->btf = inner.btf;
  if (meta->btf) btf_get(*meta->btf, {"template of an inner map"});
  return meta;
}

void bpf_map_meta_free(Map* meta) {
  if (!meta) return;
  if (meta->btf) btf_put(*meta->btf, {"template of an inner map"});
  delete meta;
}

// Fields that name a struct of the program's BTF are the same only if that is the same BTF.
static bool btf_record_equal(const Map& a, const Map& b) {
  const auto names_struct = [](const BtfField& field) { return field.btf_id && !field.kernel_struct; };
  const auto& fields = a.record.fields;
  return a.record == b.record && (a.btf == b.btf || std::none_of(fields.begin(), fields.end(), names_struct));
}

// What an inner map has otherwise than the template; empty: nothing.
static std::string difference(const Map& meta, const Map& inner) {
  auto differs = [](const char* what, uint32_t wanted, uint32_t is) {
    return std::string(what) + " is " + std::to_string(is) + " instead of " + std::to_string(wanted);
  };
  if (meta.map_type != inner.map_type) return differs("its type", meta.map_type, inner.map_type);
  if (meta.key_size != inner.key_size) return differs("key_size", meta.key_size, inner.key_size);
  if (meta.value_size != inner.value_size) return differs("value_size", meta.value_size, inner.value_size);
  if (meta.map_flags != inner.map_flags) return differs("map_flags", meta.map_flags, inner.map_flags);
  if (!btf_record_equal(meta, inner)) return "the special fields of its value differ";
  if (meta.max_entries == inner.max_entries || has(Gate::inner_map_dynamic, meta.machine.version)) return {};
  return differs("max_entries", meta.max_entries, inner.max_entries) +
         ", which a hash may have since Linux " + since(Gate::inner_map_dynamic);
}

bool bpf_map_meta_equal(const Map& meta, const Map& inner) { return difference(meta, inner).empty(); }

static std::string what_differs(const Map& meta, const Map& inner) {
  std::string what = difference(meta, inner);
  if (what.empty() && meta.max_entries != inner.max_entries)
    what = "max_entries differs";  // an array's own rule
  return what.empty() ? what : ": " + what;
}

Result<Object*> bpf_map_fd_get_ptr(Map& map, File&, int fd) {
  Map& inner = *TRY(__bpf_map_get(map.machine, fd));
  if (!inner.excl_prog_sha.empty()) return refuse(Errno::NotSupp, "an exclusive map is no inner map");
  if (!map.inner_map_meta->ops->map_meta_equal(*map.inner_map_meta, inner))
    return refuse(Errno::Inval, "map {} is not like the template that the outer map was created with{}",
                  inner.id, what_differs(*map.inner_map_meta, inner));
  bpf_map_inc(inner, {"inner map of map {}", map.id});
  return static_cast<Object*>(&inner);
}

void bpf_map_fd_put_ptr(Map& map, Object* inner, bool) {
  bpf_map_put(static_cast<Map&>(*inner), {"inner map of map {}", map.id});
}

uint32_t bpf_map_fd_sys_lookup_elem(Object* inner) { return inner->id; }

}  // namespace bpfsim
