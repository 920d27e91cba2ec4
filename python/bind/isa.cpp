// Instructions: the assembler, the disassembler, and a program as a value that is both text and bytes.
#include "bind.h"
#include "isa/asm.h"
#include "isa/disasm.h"

namespace bpfsim {

namespace {

// A program before it is loaded, or as the kernel gives it back: its bytes and its listing.
struct Program {
  Assembly assembly;
  bool xlated = false;  // the kernel's own dump: maps stand in it by id, not by descriptor

  py::bytes code() const {
    return py::bytes(reinterpret_cast<const char*>(assembly.insns.data()),
                     assembly.insns.size() * sizeof(bpf_insn));
  }

  std::vector<std::string> listing() const {
    std::vector<std::string> lines;
    DisasmOptions options;
    options.imm_text = xlated ? xlated_imm : source_imm;
    std::vector<bpf_insn> insns = assembly.insns;
    for (size_t at = 0; at < insns.size(); ++at) {
      bpf_insn& insn = insns[at];  // in the kernel's dump the distance of a call stands in `off`
      if (xlated && insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_CALL) insn.imm = insn.off;
      lines.push_back(print_bpf_insn(insns, at, options));
      if (insn.code == (BPF_LD | BPF_DW | BPF_IMM)) ++at;
    }
    return lines;
  }

  // The bytes with the descriptor of each named map in its place.
  py::bytes link(const std::map<std::string, int>& fds) const {
    Program linked = *this;
    for (const MapRef& ref : assembly.maps) {
      auto fd = fds.find(ref.name);
      if (fd == fds.end())
        throw py::key_error("the program names map[" + ref.name + "], but no map of that name was given");
      linked.assembly.insns[ref.insn].imm = fd->second;
    }
    return linked.code();
  }

  std::string str() const {
    std::string text;
    size_t number = 0, at = 0;
    for (const std::string& line : listing()) {
      text += std::to_string(number) + ": " + line + "\n";
      number += assembly.insns[at].code == (BPF_LD | BPF_DW | BPF_IMM) ? 2 : 1;
      at = number;
    }
    return text;
  }
};

Program from_text(const std::string& source) {
  Program program{assemble(source), false};
  if (!program.assembly.ok()) {
    std::string all;
    for (const AsmError& error : program.assembly.errors) all += (all.empty() ? "" : "\n") + error.str();
    raise_error(PyExc_SyntaxError, all);
  }
  return program;
}

Program from_bytes(const py::buffer& code, bool xlated) {
  Bytes bytes(code, false);
  if (bytes.size() % sizeof(bpf_insn) != 0)
    throw py::value_error("a program's bytes come in eights, these are " + std::to_string(bytes.size()));
  Program program;
  program.xlated = xlated;
  program.assembly.insns.resize(bytes.size() / sizeof(bpf_insn));
  std::memcpy(program.assembly.insns.data(), bytes.data(), bytes.size());
  return program;
}

}  // namespace

void bind_isa(py::module_& m) {
  py::class_<Program>(m, "Program", "BPF instructions: `.code` is their bytes, `.listing` their text.")
      .def(py::init(&from_bytes), py::arg("code"), py::arg("xlated") = false)
      .def_property_readonly("code", &Program::code, "The bytes, 8 for each struct bpf_insn.")
      .def_property_readonly(
          "listing", &Program::listing,
          "A line for each instruction; one with a 64-bit immediate is one line and two slots.")
      .def_property_readonly(
          "map_names",
          [](const Program& p) {
            std::vector<std::string> names;
            for (const MapRef& ref : p.assembly.maps) names.push_back(ref.name);
            return names;
          },
          "The maps that the text names: link() wants a descriptor for each.")
      .def("link", &Program::link, py::arg("fds"),
           "The bytes with each map[name] replaced by its descriptor; KeyError for a name without one.")
      .def("__len__", [](const Program& p) { return p.assembly.insns.size(); })
      .def("__bytes__", &Program::code)
      .def("__eq__", [](const Program& a, const Program& b) { return a.assembly.insns == b.assembly.insns; })
      .def("__str__", &Program::str)
      .def("__repr__", &Program::str);
  m.def("assemble", &from_text, py::arg("source"),
        "Assembles text in the verifier's notation (`r0 = 0`, `if r1 > 5 goto out`, `r1 = map[counts]`, "
        "labels).\n"
        "Raises SyntaxError that names line and column.");
}

}  // namespace bpfsim
