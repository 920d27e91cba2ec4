// BPF object files: opening them, looking into them, and loading them into a simulated machine or the live
// kernel.
#include "isa/disasm.h"
#include "live_kernel.h"
#include "loader/bpf_object.h"
#include "machine.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

using ObjectFile = std::shared_ptr<BpfObject>;

ObjectFile open_object(const py::buffer& code, const std::string& name) {
  Bytes bytes(code, false);
  Result<BpfObject> object = bpf_object_open({bytes.data(), bytes.size()}, name);
  if (!object) throw py::value_error(name + " is no BPF object: " + object.refusal().reason());
  return std::make_shared<BpfObject>(std::move(*object));
}

py::list sections(const ObjectFile& self) {
  py::list rows;
  for (const ElfFile::Section& section : self->elf.sections()) {
    py::dict row;
    row["index"] = section.index;
    row["name"] = std::string(section.name);
    row["type"] = section.type;
    row["flags"] = section.flags;
    row["offset"] = section.offset;
    row["size"] = section.size;
    std::span<const uint8_t> data = self->elf.data(section);
    row["data"] = py::bytes(reinterpret_cast<const char*>(data.data()), data.size());
    rows.append(row);
  }
  return rows;
}

py::list symbols(const ObjectFile& self) {
  py::list rows;
  for (const ElfFile::Symbol& symbol : self->elf.symbols()) {
    py::dict row;
    row["name"] = std::string(symbol.name);
    row["value"] = symbol.value;
    row["size"] = symbol.size;
    row["section"] = std::string(self->elf.section_name(symbol.shndx));
    row["type"] = symbol.type;
    rows.append(row);
  }
  return rows;
}

py::bytes insn_bytes(const std::vector<bpf_insn>& insns) {
  return py::bytes(reinterpret_cast<const char*>(insns.data()), insns.size() * sizeof(bpf_insn));
}

py::list maps(const ObjectFile& self) {
  py::list rows;
  for (const BpfMap& map : self->maps) {
    py::dict row;
    row["name"] = map.full_name;
    row["kernel_name"] = map.name;
    const MapTypeRow* type = find_map_type(map.type);
    row["type"] = type ? type->name : std::to_string(map.type);
    row["key_size"] = map.key_size;
    row["value_size"] = map.value_size;
    row["max_entries"] = map.max_entries;
    row["map_flags"] = map.map_flags;
    row["fd"] = map.fd;
    rows.append(row);
  }
  return rows;
}

py::list programs(const ObjectFile& self) {
  py::list rows;
  for (const BpfProgram& prog : self->programs) {
    py::dict row;
    row["name"] = prog.name;
    row["section"] = prog.section;
    const ProgTypeRow* type = find_prog_type(prog.type);
    row["type"] = type ? type->name : std::to_string(prog.type);
    row["expected_attach_type"] = prog.expected_attach_type;
    row["is_subprog"] = prog.is_subprog;
    row["code_in_file"] = insn_bytes(prog.elf_insns);
    row["code"] = insn_bytes(prog.insns);
    row["fd"] = prog.fd;
    row["log"] = prog.log;
    rows.append(row);
  }
  return rows;
}

py::list steps(const ObjectFile& self) {
  py::list rows;
  for (const Step& step : self->steps) {
    py::dict row;
    row["kind"] = step_kind_name(step.kind);
    row["text"] = step.text;
    row["program"] = step.program;
    row["insn"] = step.insn;
    row["before"] = insn_bytes(step.before);
    row["after"] = insn_bytes(step.after);
    row["command"] = step.cmd >= 0 ? find_command(uint32_t(step.cmd))->name : "";
    row["attr"] = py::bytes(reinterpret_cast<const char*>(step.attr.data()), step.attr.size());
    row["result"] = step.result;
    rows.append(row);
  }
  return rows;
}

py::object refused(const ObjectFile& self) {
  if (!self->refused) return py::none();
  return py::make_tuple(find_command(uint32_t(self->refused->cmd))->name, self->refused->what);
}

// Loads through any bpf(2). Ctrl-C may come while a load succeeds: then it is taken back.
void load_through(const ObjectFile& object, const SysBpf& sys_bpf, const LoadOptions& options) {
  Result<void> loaded = bpf_object_load(*object, sys_bpf, options);
  if (loaded && PyErr_Occurred()) bpf_object_close(*object, options.close_fd);
  raise_pending();
  ok_or_raise(loaded);
}

// Of all programs only this one, as this type (none: maps alone). For sections whose names say no type.
void only_program(const ObjectFile& self, const std::string& name, const std::string& type) {
  if (!name.empty() && !self->find_program(name))
    throw py::key_error(self->name + " has no program '" + name + "'");
  const ProgTypeRow* row = find_prog_type(type);
  if (!name.empty() && !row) throw py::value_error("no program type is called '" + type + "'");
  for (BpfProgram& prog : self->programs) {
    prog.autoload = prog.name == name;
    if (prog.autoload) prog.type = uint32_t(row->number);
  }
}

using NamedFds = std::vector<std::pair<std::string, int>>;

// Of which program's function this one will stand in the place, or which function it will watch.
void set_attach_target(const ObjectFile& self, const std::string& name, int prog_fd,
                       const std::string& function) {
  BpfProgram* program = self->find_program(name);
  if (!program) throw py::key_error(self->name + " has no program '" + name + "'");
  program->attach_prog_fd = prog_fd;
  program->attach_func = function;
  program->attach_btf_id = 0;
}

void load(const ObjectFile& object, const PyTask& task, uint32_t log_level, const NamedFds& reuse_maps) {
  LoadOptions options;
  options.reuse_maps = reuse_maps;
  options.log_level = log_level;
  options.kernel_version = task.owner->machine().version;
  options.nr_cpus = task.owner->machine().cpus;
  options.dup_fd = [&](int fd) {
    const Result<int> copy = task.kernel().dup(*task.task, fd);
    return copy ? *copy : -int(copy.err());
  };
  options.close_fd = [&](int fd) { (void)task.kernel().close(*task.task, fd); };
  options.last_refusal = [&] { return task.kernel().last_refusal(); };
  auto sys_bpf = [&](int cmd, bpf_attr* attr, unsigned size) {
    return long(task.kernel().sys_bpf(*task.task, cmd, uint64_t(uintptr_t(attr)), size));
  };
  load_through(object, sys_bpf, options);
}

void load_live(const ObjectFile& object, uint32_t log_level, const NamedFds& reuse_maps) {
  LoadOptions options;
  options.reuse_maps = reuse_maps;
  options.log_level = log_level;
  options.dup_fd = [](int fd) { return int(LiveKernel::dup(fd)); };
  options.close_fd = [](int fd) { LiveKernel::close(fd); };
  auto sys_bpf = [](int cmd, bpf_attr* attr, unsigned size) {
    return long(LiveKernel::sys_bpf(cmd, attr, size));
  };
  load_through(object, sys_bpf, options);
}

}  // namespace

void bind_loader(py::module_& m) {
  py::class_<BpfObject, ObjectFile>(m, "ObjectFile", "A BPF object file, as clang writes it.")
      .def_readonly("name", &BpfObject::name)
      .def_readonly("license", &BpfObject::license)
      .def_readonly("log", &BpfObject::log, "The verifier's log of the program loaded last.")
      .def_readonly("btf_fd", &BpfObject::btf_fd)
      .def_property_readonly(
          "refused", &refused,
          "(command, what it was for) of the bpf(2) call whose refusal ended the load, or None.")
      .def(
          "copy", [](const ObjectFile& self) { return std::make_shared<BpfObject>(*self); },
          "An object of its own, as this one is now.")
      .def("section_rows", &sections)
      .def("symbol_rows", &symbols)
      .def("map_rows", &maps)
      .def("program_rows", &programs)
      .def("step_rows", &steps)
      .def("only_program", &only_program, py::arg("name"), py::arg("type"),
           "Loads only this program, as this type; none for an empty name.")
      .def("set_attach_target", &set_attach_target, py::arg("name"), py::arg("prog_fd"), py::arg("function"),
           "The function of that program which the program `name` will be attached to.");
  m.def("open_object_file", &open_object, py::arg("code"), py::arg("name"),
        "Reads the bytes of a BPF ELF object. ValueError that says what is wrong with them.");
  m.def("load", &load, py::arg("object").none(false), py::arg("task"), py::arg("log_level"),
        py::arg("reuse_maps") = NamedFds{},
        "Into a simulated machine. `reuse_maps`: (name, descriptor) of maps that are there already.");
  m.def("load_live", &load_live, py::arg("object").none(false), py::arg("log_level"),
        py::arg("reuse_maps") = NamedFds{});
}

}  // namespace bpfsim
