// Maps from inside: the table of functions that each type fills in, and how a map's elements lie.
#include "machine.h"
#include "map/map_types.h"
#include "map/view.h"
#include "object/ops.h"
#include "object/registry.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

// The members of struct bpf_map_ops, in the order of our table. What that has beyond the kernel's is left
// out.
template <class Visit>
void each_member(const MapOps& ops, const Visit& visit) {
#define MEMBER(member) visit(#member, ops.member.name, ops.member.file, bool(ops.member))
  MEMBER(map_alloc_check), MEMBER(map_alloc), MEMBER(map_release), MEMBER(map_free);
  MEMBER(map_get_next_key), MEMBER(map_release_uref), MEMBER(map_lookup_elem_sys_only);
  MEMBER(map_lookup_batch), MEMBER(map_lookup_and_delete_elem), MEMBER(map_lookup_and_delete_batch);
  MEMBER(map_update_batch), MEMBER(map_delete_batch), MEMBER(map_lookup_elem), MEMBER(map_update_elem);
  MEMBER(map_delete_elem), MEMBER(map_push_elem), MEMBER(map_pop_elem), MEMBER(map_peek_elem);
  MEMBER(map_lookup_percpu_elem), MEMBER(map_fd_get_ptr), MEMBER(map_fd_put_ptr), MEMBER(map_gen_lookup);
  MEMBER(map_fd_sys_lookup_elem), MEMBER(map_seq_show_elem), MEMBER(map_check_btf);
  MEMBER(map_poke_track), MEMBER(map_poke_untrack), MEMBER(map_poke_run);
  MEMBER(map_direct_value_addr), MEMBER(map_direct_value_meta), MEMBER(map_mmap), MEMBER(map_poll);
  MEMBER(map_get_unmapped_area), MEMBER(map_local_storage_charge), MEMBER(map_local_storage_uncharge);
  MEMBER(map_owner_storage_ptr), MEMBER(map_redirect), MEMBER(map_meta_equal);
  MEMBER(map_set_for_each_callback_args), MEMBER(map_for_each_callback), MEMBER(map_mem_usage);
#undef MEMBER
}

// Written by map_sources.py from the files themselves.
struct Source {
  std::string_view table, function;
  const char *file, *models;
};
constexpr Source kSources[] = {
#include "map_sources.inc"
};

py::list ops_rows(const MapOps& ops) {
  py::list rows;
  each_member(ops, [&](const char* member, const char* function, const char* table, bool called) {
    if (!function || !*function) {
      rows.append(py::make_tuple(member, "", "", ""));
      return;
    }
    std::string_view path = table;
    size_t at = path.rfind("sim/");
    if (at != path.npos) path = path.substr(at);
    for (const Source& source : kSources)
      if (source.table == path && source.function == function) {
        rows.append(py::make_tuple(member, function, source.models, called ? source.file : ""));
        return;
      }
    rows.append(py::make_tuple(member, function, "", std::string(path)));
  });
  return rows;
}

const Map& map_of(const ObjectView& self) {
  Object& object = self.get();
  if (object.kind != ObjectKind::Map) throw py::attribute_error(object.label() + " is not a map");
  return static_cast<Map&>(object);
}

py::list map_ops_matrix() {
  py::list types;
  for (const MapTypeRow& row : map_types())
    if (const MapOps* ops = map_ops(row.number)) types.append(py::make_tuple(row.name, ops_rows(*ops)));
  return types;
}

// ---- The inside

py::bytes to_bytes(const RawBytes& bytes) {
  return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

py::dict element(const ElementView& view) {
  py::dict fields;
  py::list values;
  for (const auto& value : view.values) values.append(to_bytes(value));
  fields["addr"] = view.addr;
  fields["key"] = to_bytes(view.key);
  fields["values"] = values;
  fields["hash"] = view.hash;
  return fields;
}

template <class List>
py::list lru_nodes(const List& list, size_t limit) {
  py::list nodes;
  for (size_t i = 0; i < list.size() && i < limit; ++i)
    nodes.append(py::make_tuple(to_bytes(list[i].key), list[i].ref));
  return nodes;
}

// One function for each kind of view; the Python side draws what it finds.
struct ToPython {
  size_t limit;
  py::dict fields;

  void kind(const char* name) { fields["kind"] = name; }

  void operator()(const std::monostate&) { kind("none"); }
  void operator()(const ArrayView& view) {
    kind("array");
    py::list elements;
    for (const ElementView& e : view.elements) elements.append(element(e));
    fields["elem_size"] = view.elem_size;
    fields["percpu_stride"] = view.percpu_stride;
    fields["max_entries"] = std::max<size_t>(view.max_entries, view.elements.size());
    fields["elements"] = elements;
  }
  void operator()(const HashView& view) {
    kind("hash");
    py::list buckets;
    for (const BucketView& bucket : view.buckets) {
      py::list chain;
      for (const ElementView& e : bucket.chain) chain.append(element(e));
      buckets.append(py::make_tuple(bucket.index, chain));
    }
    fields["n_buckets"] = view.n_buckets;
    fields["hashrnd"] = view.hashrnd;
    fields["prealloc"] = view.prealloc;
    fields["free_elements"] = view.free_elements;
    fields["count"] = view.count;
    fields["buckets"] = buckets;
  }
  void operator()(const LruView& view) {
    (*this)(view.hash);
    kind("lru");
    py::list lists, locals;
    for (const LruListView& l : view.lists)
      lists.append(py::make_tuple(lru_nodes(l.active, limit), l.active.size(), lru_nodes(l.inactive, limit),
                                  l.inactive.size(), l.free.size()));
    for (const LruLocalView& l : view.locals)
      locals.append(py::make_tuple(lru_nodes(l.pending, limit), l.pending.size(), l.free.size()));
    fields["target_free"] = view.target_free;
    fields["lists"] = lists;
    fields["locals"] = locals;
  }
  void operator()(const TrieView& view) {
    kind("trie");
    py::list nodes;
    for (const TrieNodeView& node : view.nodes) {
      py::dict row;
      row["prefixlen"] = node.prefixlen;
      row["intermediate"] = node.intermediate;
      row["data"] = to_bytes(node.data);
      row["value"] = to_bytes(node.value);
      row["child"] = py::make_tuple(node.child[0], node.child[1]);
      nodes.append(row);
    }
    fields["nodes"] = nodes;
  }
  void operator()(const FdArrayView& view) {
    kind("objects");
    py::list slots;
    for (const FdSlotView& slot : view.slots) {
      const std::string label = slot.object->label() + (slot.prog ? ", " + slot.prog->label() : "");
      slots.append(py::make_tuple(to_bytes(slot.key), object_kind_name(slot.object->kind), label));
    }
    fields["max_entries"] = view.max_entries;
    fields["count"] = std::max<size_t>(view.count, view.slots.size());
    fields["slots"] = slots;
  }
  void operator()(const CpuMapView& view) {
    kind("objects");
    py::list slots;
    for (const CpuSlotView& slot : view.slots) {
      std::string queue = "a queue of " + std::to_string(slot.qsize) + " frames";
      if (slot.prog) queue += ", " + slot.prog->label();
      slots.append(py::make_tuple(to_bytes(bytes_of(&slot.cpu, sizeof slot.cpu)), "cpu", queue));
    }
    fields["max_entries"] = view.max_entries;
    fields["count"] = view.slots.size();
    fields["slots"] = slots;
  }
  void operator()(const RingView& view) {
    kind("ring");
    py::list slots;
    for (const RingSlot& slot : view.slots) {
      if (slots.size() == limit) break;
      slots.append(py::make_tuple(slot.index, to_bytes(slot.value)));
    }
    fields["size"] = view.size;
    fields["head"] = view.head;
    fields["tail"] = view.tail;
    fields["count"] = view.slots.size();
    fields["slots"] = slots;
  }
  void operator()(const BloomView& view) {
    kind("bloom");
    fields["nr_hash_funcs"] = view.nr_hash_funcs;
    fields["n_bits"] = uint64_t(view.bitset_mask) + 1;
    fields["hash_seed"] = view.hash_seed;
    fields["bits_set"] = view.bits_set;
    fields["bits"] = to_bytes(view.bits);
  }
  void operator()(const RingbufView& view) {
    kind("ringbuf");
    py::list records;
    for (const RingbufRecord& record : view.records) {
      if (records.size() == limit) break;
      RawBytes begin = record.sample;
      begin.resize(std::min<size_t>(begin.size(), 32));
      records.append(
          py::make_tuple(record.pos, record.busy, record.discarded, record.sample.size(), to_bytes(begin)));
    }
    fields["size"] = view.size;
    fields["consumer_pos"] = view.consumer_pos;
    fields["producer_pos"] = view.producer_pos;
    fields["pending_pos"] = view.pending_pos;
    fields["wakeups"] = view.wakeups;
    fields["count"] = view.records.size();
    fields["records"] = records;
  }
  void operator()(const StackTracesView& view) {
    kind("stacks");
    py::list traces;
    for (const StackTraceView& one : view.traces)
      traces.append(py::make_tuple(one.id, one.hash, py::cast(one.frames)));
    fields["n_buckets"] = view.n_buckets;
    fields["max_entries"] = view.max_entries;
    fields["count"] = view.count;
    fields["traces"] = traces;
  }
  void operator()(const OwnedView& view) {
    kind("owned");
    py::list owned;
    for (const OwnedValue& one : view.values) {
      if (owned.size() == limit) break;
      py::list values;
      for (const RawBytes& value : one.values) values.append(to_bytes(value));
      owned.append(py::make_tuple(object_kind_name(one.owner->kind), one.owner->label(), one.at, values));
    }
    fields["count"] = view.values.size();
    fields["owned"] = owned;
  }
  void operator()(const PagesView& view) {
    kind("pages");
    fields["max_entries"] = view.max_entries;
    fields["user_vm_start"] = view.user_vm_start;
    fields["user_vm_end"] = view.user_vm_end;
    fields["addr"] = view.addr;
  }
};

py::dict inside_of(const Map& map, size_t limit) {
  ToPython to{limit, {}};
  std::visit(to, view_map(map, limit));
  return to.fields;
}

py::dict map_inside(const ObjectView& self, size_t limit) { return inside_of(map_of(self), limit); }

py::list maps_inside(PyKernel& kernel, size_t limit) {
  py::list maps;
  for (const auto& [serial, object] : kernel.machine().objects) {
    if (object->kind != ObjectKind::Map) continue;
    const Map& map = static_cast<const Map&>(*object);
    py::dict inside = inside_of(map, limit);
    if (const py::object* state = state_of(map)) inside["state"] = *state;
    maps.append(py::make_tuple(map.label(), inside));
  }
  return maps;
}

}  // namespace

py::list map_ops_rows(const ObjectView& self) { return ops_rows(*map_of(self).ops); }

void bind_maps(py::module_& m) {
  m.def(
      "map_ops_matrix", &map_ops_matrix,
      "(type, rows) of every map type that is modelled; a row is (member, function, the kernel's file, "
      "ours), with "
      "empty strings where the type leaves the member NULL, an empty last one where the kernel's function is "
      "not modelled.");
  m.def(
      "is_percpu_map", [](uint32_t type) { return is_percpu_map(bpf_map_type(type)); }, py::arg("type"),
      "Whether bpf(2) copies a value of this type of map, by its number, for each CPU.");
  m.def("map_inside", &map_inside, py::arg("map"), py::arg("limit") = 256,
        "How the elements of a map lie, as plain data; at most `limit` elements.");
  m.def("maps_inside", &maps_inside, py::arg("kernel"), py::arg("limit") = 256,
        "(label, map_inside) of every map of a machine; of a type in Python also its state.");
  bind_python_maps(m);
}

}  // namespace bpfsim
