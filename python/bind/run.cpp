// Stepping: a program in the checked engine, one instruction at a time; and the table of version gates.
#include "host/net_device.h"
#include "host/packet.h"
#include "isa/disasm.h"
#include "machine.h"
#include "object/prog.h"
#include "run/checked.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

// An XDP program that stands in the middle of a packet. Like any running program it is an RCU reader: what it
// uses is not freed before it is done or forgotten.
class SteppedRun {
 public:
  SteppedRun(const PyTask& task, int fd, const py::buffer& packet) : owner_(task.owner) {
    Bytes bytes(packet, false);
    Object& object = object_at(task, fd).get();
    if (object.kind != ObjectKind::Prog) throw py::value_error("the descriptor holds no program");
    Prog& prog = static_cast<Prog&>(object);
    if (prog.type != BPF_PROG_TYPE_XDP) throw py::value_error("only XDP programs can be stepped yet");
    const uint32_t room = kFrameSize - XDP_PACKET_HEADROOM - kSharedInfoSize;
    if (bytes.size() < ETH_HLEN || bytes.size() > room)
      throw py::value_error("a packet to step through has " + std::to_string(ETH_HLEN) + " to " +
                            std::to_string(room) + " bytes");
    Machine& machine = owner_->machine();
    packet_ = value_or_raise(XdpPacket::make(machine));
    NetDevice* lo = init_net(machine).by_index(1);
    packet_->fill(bytes.data(), uint32_t(bytes.size()), XDP_PACKET_HEADROOM, room, lo ? lo->rxq(0) : 0);
    machine.rcu.read_lock();
    run_ = std::make_unique<CheckedRun>(machine, prog, packet_->ctx());
  }
  ~SteppedRun() { finish(); }
  SteppedRun(const SteppedRun&) = delete;

  bool step() {
    if (!run_) return false;
    if (run_->step()) return true;
    outcome_ = run_->outcome();
    finish();
    return false;
  }

  const CheckedRun& now() const {
    if (!run_) throw py::value_error("the run has ended");
    return *run_;
  }
  py::object result() const { return run_ ? py::object(py::none()) : py::object(py::int_(outcome_.value)); }

  std::shared_ptr<PyKernel> owner_;

 private:
  void finish() {
    if (!run_) return;
    run_.reset();
    packet_.reset();
    owner_->machine().rcu.read_unlock();
    owner_->machine().rcu.grace_period();
  }

  std::unique_ptr<XdpPacket> packet_;
  std::unique_ptr<CheckedRun> run_;
  RunOutcome outcome_{};
};

std::string instruction(const SteppedRun& self) {
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
    fields["evidence"] = evidence_name(row.evidence);
    fields["before"] = row.before;
    fields["after"] = row.after;
    rows.append(fields);
  }
  return rows;
}

}  // namespace

void bind_run(py::module_& m) {
  py::class_<SteppedRun>(m, "SteppedRun", "A program in the checked engine, before the instruction at `pc`.")
      .def(py::init<const PyTask&, int, const py::buffer&>(), py::arg("task"), py::arg("fd"),
           py::arg("packet"))
      .def("step", &SteppedRun::step, "Runs one instruction; False when the program has ended.")
      .def_property_readonly("pc", [](const SteppedRun& r) { return r.now().pc(); })
      .def_property_readonly("insn", &instruction,
                             "The instruction that runs next, in the verifier's notation.")
      .def_property_readonly(
          "registers",
          [](const SteppedRun& r) {
            const auto& reg = r.now().registers();
            return std::vector<uint64_t>(reg.begin(), reg.begin() + 11);
          },
          "r0 to r10.")
      .def_property_readonly(
          "stack",
          [](const SteppedRun& r) {
            auto bytes = r.now().stack(r.now().depth());
            return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          },
          "The 512 bytes below r10 of the current frame, lowest address first.")
      .def_property_readonly("executed", [](const SteppedRun& r) { return r.now().executed(); })
      .def_property_readonly("result", &SteppedRun::result, "r0 at the end; None while it runs.");
  m.def("gate_rows", &gate_rows, py::arg("kernel"),
        "What differs between kernel versions: name, since, whether this machine has it, evidence, before, "
        "after.");
}

}  // namespace bpfsim
