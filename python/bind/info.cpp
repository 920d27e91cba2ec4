// struct bpf_prog_info and its kin as dicts, under the kernel's field names.
#include "uapi/info.h"

#include "bind.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

std::string name_of(const char (&name)[16]) { return std::string(name, strnlen(name, sizeof name)); }

std::string hex(const uint8_t* bytes, size_t size) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < size; ++i) (text += digits[bytes[i] >> 4]) += digits[bytes[i] & 15];
  return text;
}

template <class Row>
std::string row_name(const Row* row) {
  return row ? row->name : "";
}

// Only what lies within the bytes that the kernel wrote: an older one's struct is shorter.
#define PUT(field)                                                                                      \
  if (size_t(reinterpret_cast<const char*>(&info.field) - reinterpret_cast<const char*>(&info)) < size) \
  fields[#field] = info.field

py::dict parse(const bpf_map_info& info, size_t size) {
  py::dict fields;
  PUT(type);
  PUT(id);
  PUT(key_size);
  PUT(value_size);
  PUT(max_entries);
  PUT(map_flags);
  fields["type_name"] = row_name(find_map_type(info.type));
  fields["name"] = name_of(info.name);
  PUT(ifindex);
  PUT(btf_vmlinux_value_type_id);
  PUT(netns_dev);
  PUT(netns_ino);
  PUT(btf_id);
  PUT(btf_key_type_id);
  PUT(btf_value_type_id);
  PUT(map_extra);
  return fields;
}

py::dict parse(const bpf_prog_info& info, size_t size) {
  py::dict fields;
  PUT(type);
  PUT(id);
  fields["type_name"] = row_name(find_prog_type(info.type));
  fields["tag"] = hex(info.tag, sizeof info.tag);
  PUT(jited_prog_len);
  PUT(xlated_prog_len);
  PUT(load_time);
  PUT(created_by_uid);
  PUT(nr_map_ids);
  fields["name"] = name_of(info.name);
  if (size > 84) fields["gpl_compatible"] = bool(info.gpl_compatible);
  PUT(ifindex);
  PUT(btf_id);
  PUT(nr_func_info);
  PUT(nr_line_info);
  PUT(run_time_ns);
  PUT(run_cnt);
  PUT(recursion_misses);
  PUT(verified_insns);
  PUT(attach_btf_obj_id);
  PUT(attach_btf_id);
  return fields;
}

#define PUT_OF(type, field) fields[#field] = info.type.field

// The numbers that a type of link adds. What user space gives a buffer for (names, addresses) is left out.
void put_link_type(py::dict& fields, const bpf_link_info& info) {
  switch (info.type) {
    case BPF_LINK_TYPE_RAW_TRACEPOINT: PUT_OF(raw_tracepoint, cookie); break;
    case BPF_LINK_TYPE_TRACING:
      PUT_OF(tracing, attach_type), PUT_OF(tracing, target_obj_id), PUT_OF(tracing, target_btf_id);
      PUT_OF(tracing, cookie);
      break;
    case BPF_LINK_TYPE_CGROUP: PUT_OF(cgroup, cgroup_id), PUT_OF(cgroup, attach_type); break;
    case BPF_LINK_TYPE_ITER:
      if (info.iter.map.map_id) fields["map_id"] = info.iter.map.map_id;
      break;
    case BPF_LINK_TYPE_NETNS: PUT_OF(netns, netns_ino), PUT_OF(netns, attach_type); break;
    case BPF_LINK_TYPE_XDP: PUT_OF(xdp, ifindex); break;
    case BPF_LINK_TYPE_PERF_EVENT: fields["perf_event_type"] = info.perf_event.type; break;
    case BPF_LINK_TYPE_KPROBE_MULTI:
      PUT_OF(kprobe_multi, count), PUT_OF(kprobe_multi, flags), PUT_OF(kprobe_multi, missed);
      break;
    case BPF_LINK_TYPE_STRUCT_OPS: PUT_OF(struct_ops, map_id); break;
    case BPF_LINK_TYPE_NETFILTER:
      PUT_OF(netfilter, pf), PUT_OF(netfilter, hooknum), PUT_OF(netfilter, priority);
      PUT_OF(netfilter, flags);
      break;
    case BPF_LINK_TYPE_TCX: PUT_OF(tcx, ifindex), PUT_OF(tcx, attach_type); break;
    case BPF_LINK_TYPE_UPROBE_MULTI:
      PUT_OF(uprobe_multi, count), PUT_OF(uprobe_multi, flags), PUT_OF(uprobe_multi, pid);
      break;
    case BPF_LINK_TYPE_NETKIT: PUT_OF(netkit, ifindex), PUT_OF(netkit, attach_type); break;
    case BPF_LINK_TYPE_SOCKMAP: PUT_OF(sockmap, map_id), PUT_OF(sockmap, attach_type); break;
    default: break;
  }
}
#undef PUT_OF

py::dict parse(const bpf_link_info& info, size_t size) {
  py::dict fields;
  PUT(type);
  PUT(id);
  PUT(prog_id);
  fields["type_name"] = row_name(find_link_type(info.type));
  put_link_type(fields, info);
  if (fields.contains("attach_type"))
    fields["attach_type_name"] = row_name(find_attach_type(fields["attach_type"].cast<uint32_t>()));
  return fields;
}
#undef PUT

template <class Info>
py::dict parse_bytes(const std::string& raw) {
  Info info{};
  if (raw.size() > sizeof info) throw py::value_error("more bytes than the struct has");
  std::memcpy(static_cast<void*>(&info), raw.data(), raw.size());
  return parse(info, raw.size());
}

size_t info_struct_size(const std::string& kind) {
  if (kind == "map") return sizeof(bpf_map_info);
  if (kind == "prog") return sizeof(bpf_prog_info);
  if (kind == "link") return sizeof(bpf_link_info);
  throw py::value_error("an info is of a map, prog or link, not of '" + kind + "'");
}

py::dict parse_info(const std::string& kind, const std::string& raw) {
  info_struct_size(kind);
  if (kind == "map") return parse_bytes<bpf_map_info>(raw);
  return kind == "prog" ? parse_bytes<bpf_prog_info>(raw) : parse_bytes<bpf_link_info>(raw);
}

// Where the arrays that a program's info can bring are to be put: their address, and how much room there is.
void set_prog_info_array(const py::buffer& raw, const std::string& what, uint64_t address, uint32_t room) {
  Bytes bytes(raw, true);
  if (bytes.size() < sizeof(bpf_prog_info))
    throw py::value_error("the buffer is smaller than struct bpf_prog_info");
  bpf_prog_info info;
  std::memcpy(&info, bytes.data(), sizeof info);
  if (what == "xlated")
    info.xlated_prog_insns = address, info.xlated_prog_len = room;
  else if (what == "map_ids")
    info.map_ids = address, info.nr_map_ids = room;
  else
    throw py::value_error("no array of struct bpf_prog_info is called '" + what + "' here");
  std::memcpy(bytes.data(), &info, sizeof info);
}

}  // namespace

void bind_info(py::module_& m) {
  m.def("info_size", &info_struct_size, py::arg("kind"),
        "Bytes of struct bpf_map_info, bpf_prog_info or bpf_link_info.");
  m.def(
      "parse_info", [](const std::string& kind, const py::bytes& raw) { return parse_info(kind, raw); },
      py::arg("kind"), py::arg("raw"), "The struct's fields as a dict.");
  m.def("set_prog_info_array", &set_prog_info_array, py::arg("raw"), py::arg("what"), py::arg("address"),
        py::arg("room"),
        "Asks for \"xlated\" (room in bytes) or \"map_ids\" (room in entries) at an address.");
}

}  // namespace bpfsim
