// The live kernel for Python: the same protocol as a simulated machine, on this host's own bpf(2).
#include "bind.h"
#include "gil.h"
#include "live_kernel.h"

namespace bpfsim {

namespace {

// A "task" of the live kernel is this very process.
struct LiveTask {
  std::string name;

  int64_t sys_bpf(int cmd, const py::buffer& attr, std::optional<uint32_t> size) {
    Bytes bytes(attr, true);
    uint32_t length = size.value_or(uint32_t(bytes.size()));
    if (length > bytes.size()) throw py::value_error("size is larger than the attr buffer");
    uint8_t* data = bytes.data();
    GilAway unlocked;
    return LiveKernel::sys_bpf(cmd, data, length);
  }
};

struct Live {
  Live() {
    std::string why = LiveKernel::unavailable();
    if (!why.empty()) raise_error(PyExc_PermissionError, "the live kernel cannot be used here: " + why);
  }
};

int64_t descriptor_or_raise(int64_t result) {
  if (result < 0) raise_refusal(Refusal{Errno(-result), "", "", {}});
  return result;
}

}  // namespace

void bind_live(py::module_& m) {
  py::class_<LiveTask>(m, "LiveTask", "This process as a task of the live kernel.")
      .def("sys_bpf", &LiveTask::sys_bpf, py::arg("cmd"), py::arg("attr"), py::arg("size") = py::none(),
           "bpf(2) of the host: >= 0 or -errno; `attr` is a writable buffer, pointers in it are this "
           "process's.")
      .def(
          "close", [](LiveTask&, int fd) { descriptor_or_raise(LiveKernel::close(fd)); }, py::arg("fd"),
          "close(2). OSError EBADF.")
      .def(
          "dup", [](LiveTask&, int fd) { return descriptor_or_raise(LiveKernel::dup(fd)); }, py::arg("fd"),
          "dup(2): a second descriptor of the same open file. OSError EBADF, EMFILE.")
      .def(
          "fdinfo",
          [](LiveTask&, int fd) {
            std::string text = LiveKernel::fdinfo(fd);
            if (text.empty()) raise_refusal(refuse(Errno::NoEnt, "fd {} is not open", fd));
            return text;
          },
          py::arg("fd"), "The text of /proc/self/fdinfo/FD. OSError ENOENT.")
      .def_property_readonly(
          "possible_cpus", [](const LiveTask&) { return LiveKernel::possible_cpus(); },
          "How many CPUs the host may have: the values of a per-CPU element.")
      .def_readonly("name", &LiveTask::name, "What spawn() was told to call it; the kernel does not know.")
      .def("__repr__", [](const LiveTask& t) { return "<LiveTask " + t.name + ">"; });
  py::class_<Live>(m, "LiveKernel",
                   "The host's own kernel. Raises PermissionError where it does not let us call bpf(2).")
      .def(py::init<>())
      .def_property_readonly(
          "release", [](const Live&) { return LiveKernel::release(); }, "What uname -r says: '6.18.5'.")
      .def(
          "spawn", [](const Live&, std::string name) { return LiveTask{std::move(name)}; },
          py::arg("name") = "live", "A task of the live kernel: this process.")
      .def("__repr__", [](const Live&) { return "<LiveKernel " + LiveKernel::release() + ">"; });
}

}  // namespace bpfsim
