// The tables of identity: commands, types and helpers by number and name; errno names; the fields of
// bpf_attr.
#include "uapi/tables.h"

#include <algorithm>
#include <cctype>

#include "attr.h"
#include "bind.h"
#include "uapi/suggest.h"

namespace bpfsim {

namespace {

template <class Row, class Rows>
const Row& row_or_raise(const Row* row, Rows rows, const std::string& name, const char* what) {
  if (row) return *row;
  std::string near = nearest_row(rows, name);
  if (std::ranges::none_of(name, [](unsigned char c) { return std::islower(c); }))  // as it was typed
    std::ranges::transform(near, near.begin(), [](unsigned char c) { return char(std::toupper(c)); });
  throw py::value_error("no " + std::string(what) + " is called '" + name + "'" +
                        (near.empty() ? "" : "; did you mean '" + near + "'?"));
}

uint32_t type_number(const std::string& kind, const std::string& name) {
  if (kind == "MapType") return row_or_raise(find_map_type(name), map_types(), name, "map type").number;
  if (kind == "ProgType")
    return row_or_raise(find_prog_type(name), prog_types(), name, "program type").number;
  if (kind == "AttachType")
    return uint32_t(row_or_raise(find_attach_type(name), attach_types(), name, "attach type").number);
  throw py::type_error("this field takes a number, not '" + name + "'");
}

py::list helper_rows() {
  py::list rows;
  for (const HelperRow& row : helpers()) {
    py::dict fields;
    fields["id"] = int(row.number);
    fields["name"] = row.name;
    fields["since"] = row.since.str();
    fields["gpl_only"] = row.gpl_only;
    fields["signature"] = row.signature;
    rows.append(fields);
  }
  return rows;
}

template <class Rows>
py::list identity_rows(Rows rows) {
  py::list list;
  for (const auto& row : rows) list.append(py::make_tuple(uint32_t(row.number), row.name, row.since.str()));
  return list;
}

}  // namespace

void bind_tables(py::module_& m) {
  m.def(
      "command_number",
      [](const std::string& name) {
        return int(row_or_raise(find_command(name), commands(), name, "bpf(2) command").number);
      },
      py::arg("name"), "The number of a bpf(2) command, by its name with or without BPF_.");
  m.def(
      "command_name",
      [](uint32_t number) {
        const CommandRow* row = find_command(number);
        return row ? std::string(row->name) : "BPF_COMMAND_" + std::to_string(number);
      },
      py::arg("number"), "The kernel's name of a bpf(2) command.");
  m.def(
      "attr_fields",
      [](int cmd) {
        py::list rows;
        for (const AttrField& field : attr_fields(cmd))
          rows.append(py::make_tuple(field.name, field.offset, field.size, field.kind, field.since));
        return rows;
      },
      py::arg("cmd"),
      "(name, offset, size in bytes, kind, since) of each bpf_attr field that a command reads.");
  m.def("type_number", &type_number, py::arg("kind"), py::arg("name"),
        "The number behind a name of a map type, program type or attach type; ValueError with the nearest "
        "name.");
  m.def(
      "errno_text",
      [](int number) { return py::make_tuple(errno_name(Errno(number)), errno_phrase(Errno(number))); },
      py::arg("number"), "(\"EINVAL\", \"Invalid argument\") for an errno of Linux.");
  m.def("helper_rows", &helper_rows,
        "Every helper function of 6.18 as dicts: id, name, since, gpl_only, signature.");
  m.def("command_rows", [] { return identity_rows(commands()); }, "(number, name, since) of every command.");
  m.def(
      "map_type_rows", [] { return identity_rows(map_types()); }, "(number, name, since) of every map type.");
  m.def(
      "prog_type_rows", [] { return identity_rows(prog_types()); },
      "(number, name, since) of every program type.");
}

}  // namespace bpfsim
