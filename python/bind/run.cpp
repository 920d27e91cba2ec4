// Stepping: a program in the checked engine, one instruction at a time; and the table of version gates.
#include <cstring>

#include "hook/stepping.h"
#include "isa/disasm.h"
#include "machine.h"
#include "object/prog.h"
#include "run/checked.h"
#include "uapi/gates.h"
#include "verifier/came_later.h"

namespace bpfsim {

namespace {

// A program that stands in the middle of a packet, by its number in the machine.
class PySteppedRun {
 public:
  PySteppedRun(const PyTask& task, int fd, const py::buffer& packet) : owner_(task.owner) {
    Bytes bytes(packet, false);
    object_at(task, fd);
    Result<int> run = owner_->enter().step_prog(*task.task, fd, {bytes.data(), bytes.size()});
    if (!run && run.err() == Errno::Inval) throw py::value_error(run.refusal().reason());
    number_ = value_or_raise(run);
  }
  ~PySteppedRun() {
    if (owner_->python_maps.inside || owner_->kernel.busy()) return;  // then it ends with its machine
    try {
      owner_->kernel.step_end(number_);
    } catch (py::error_already_set& error) {  // a breakpoint: nobody is there to hear of it
      error.discard_as_unraisable("SteppedRun");
    }
  }
  PySteppedRun(const PySteppedRun&) = delete;

  bool step() {
    const bool goes_on = owner_->enter().step_insn(number_);
    raise_pending(*owner_);
    return goes_on;
  }
  const CheckedRun& now() const {
    const CheckedRun* run = owner_->kernel.stepped(number_)->now();
    if (!run) throw py::value_error("the run has ended");
    return *run;
  }
  py::object result() const {
    const SteppedRun& run = *owner_->kernel.stepped(number_);
    return run.now() ? py::object(py::none()) : py::object(py::int_(run.outcome().value));
  }

 private:
  std::shared_ptr<PyKernel> owner_;
  int number_ = 0;
};

std::string instruction(const PySteppedRun& self) {
  const CheckedRun& run = self.now();
  const std::vector<bpf_insn>& insns = run.prog().insnsi;
  return run.pc() < insns.size() ? print_bpf_insn(insns, run.pc()) : "";
}

py::list gate_rows(PyKernel& kernel) {
  py::list rows;
  for (const GateRow& row : gates()) {
    py::dict fields;
    fields["name"] = row.name;
    fields["since"] = row.since.str();
    fields["here"] = row.since <= kernel.machine().version;
    fields["modelled"] = row.modelled != Modelled::No;
    fields["evidence"] = evidence_name(row.evidence);
    fields["before"] = row.before;
    fields["after"] = row.after;
    rows.append(fields);
  }
  return rows;
}

}  // namespace

void bind_run(py::module_& m) {
  py::class_<PySteppedRun>(m, "SteppedRun",
                           "A program in the checked engine, before the instruction at `pc`.")
      .def(py::init<const PyTask&, int, const py::buffer&>(), py::arg("task"), py::arg("fd"),
           py::arg("packet"))
      .def("step", &PySteppedRun::step, "Runs one instruction; False when the program has ended.")
      .def_property_readonly(
          "pc", [](const PySteppedRun& r) { return r.now().pc(); },
          "The slot of the instruction that runs next, from 0.")
      .def_property_readonly("insn", &instruction,
                             "The instruction that runs next, in the verifier's notation.")
      .def_property_readonly(
          "registers",
          [](const PySteppedRun& r) {
            const auto& reg = r.now().registers();
            return std::vector<uint64_t>(reg.begin(), reg.begin() + 11);
          },
          "r0 to r10.")
      .def_property_readonly(
          "stack",
          [](const PySteppedRun& r) {
            auto bytes = r.now().stack(r.now().depth());
            return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          },
          "The 512 bytes below r10 of the current frame, lowest address first.")
      .def_property_readonly(
          "executed", [](const PySteppedRun& r) { return r.now().executed(); },
          "How many instructions have run.")
      .def_property_readonly("result", &PySteppedRun::result, "r0 at the end; None while it runs.");
  m.def(
      "came_later",
      [](const std::string& message, const std::string& version, uint32_t prog_type, const py::bytes& insns) {
        const std::string_view bytes = insns;
        std::vector<bpf_insn> copy(bytes.size() / sizeof(bpf_insn));
        std::memcpy(copy.data(), bytes.data(), copy.size() * sizeof(bpf_insn));
        return came_later(message, Version::parse(version).value_or(kLatest), {prog_type, copy});
      },
      py::arg("message"), py::arg("version"), py::arg("prog_type") = 0, py::arg("insns") = py::bytes(),
      "Which later kernel has what a verifier of `version` refused with `message`; empty: none known.");
  m.def("gate_rows", &gate_rows, py::arg("kernel"),
        "What differs between kernel versions: name, since, whether this machine has it, evidence, before, "
        "after.");
}

}  // namespace bpfsim
