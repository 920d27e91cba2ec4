// perf_event_open, read and ioctl of a task, and what of the machine can be traced.
#include "host/tracing.h"

#include "btf/btf_types.h"
#include "btf/struct_ops.h"
#include "host/tcp_cong.h"
#include "machine.h"
#include "number.h"
#include "object/btf.h"
#include "uapi/suggest.h"

namespace bpfsim {

namespace {

constexpr std::pair<const char*, uint32_t> kTypes[] = {{"software", PERF_TYPE_SOFTWARE},
                                                       {"tracepoint", PERF_TYPE_TRACEPOINT},
                                                       {"kprobe", PERF_TYPE_KPROBE},
                                                       {"kretprobe", PERF_TYPE_KPROBE}};
constexpr std::pair<const char*, uint64_t> kSoftware[] = {{"cpu-clock", PERF_COUNT_SW_CPU_CLOCK},
                                                          {"task-clock", PERF_COUNT_SW_TASK_CLOCK},
                                                          {"dummy", PERF_COUNT_SW_DUMMY},
                                                          {"bpf-output", PERF_COUNT_SW_BPF_OUTPUT}};

uint32_t event_type(const py::object& type) {
  if (!py::isinstance<py::str>(type)) return number_in<uint32_t>(type, "a perf event's type");
  const auto wanted = type.cast<std::string>();
  for (auto [name, number] : kTypes)
    if (wanted == name) return number;
  throw py::value_error("a perf event is 'software', 'tracepoint', 'kprobe' or 'kretprobe', not '" + wanted +
                        "'");
}

uint64_t trace_event_id(Kernel& kernel, const std::string& name) {
  for (const Tracepoint& tracepoint : kernel.tracing().tracepoints)
    if (tracepoint.event() == name) return tracepoint.event_id;
  throw py::value_error("no trace event is called '" + name + "'; kernel.tracepoints lists them");
}

uint64_t software_event(const std::string& name) {
  for (auto [known, number] : kSoftware)
    if (name == known) return number;
  throw py::value_error("a software event is 'cpu-clock', 'task-clock', 'dummy' or 'bpf-output', not '" +
                        name + "'");
}

// What a perf tool would fill in: names become the numbers that the attributes take. `held` keeps the text
// that a pointer in them names.
perf_event_attr attributes(const PyTask& self, const py::object& type, const py::object& config,
                           std::string& held) {
  perf_event_attr attr;
  attr.type = event_type(type);
  attr.bits = PERF_ATTR_DISABLED;
  const bool is_return = py::isinstance<py::str>(type) && type.cast<std::string>() == "kretprobe";
  if (!py::isinstance<py::str>(config)) {
    const bool address = py::isinstance<py::str>(type) && attr.type == PERF_TYPE_KPROBE;
    const auto number = number_in<uint64_t>(config, "a perf event's config");
    attr.config = address ? is_return : number;
    attr.config2 = address ? number : 0;
    return attr;
  }
  held = config.cast<std::string>();
  if (attr.type == PERF_TYPE_TRACEPOINT) {
    attr.config = trace_event_id(self.kernel(), held);
  } else if (attr.type == PERF_TYPE_SOFTWARE) {
    attr.config = software_event(held);
  } else {
    attr.config1 = uint64_t(uintptr_t(held.c_str()));
    attr.config = is_return;
  }
  return attr;
}

int perf_event_open(const PyTask& self, const py::object& type, const py::object& config, int pid, int cpu,
                    int group_fd, uint64_t flags) {
  std::string held;
  const perf_event_attr attr = attributes(self, type, config, held);
  return answer(self, self.kernel().perf_event_open(*self.task, attr, pid, cpu, group_fd, flags));
}

}  // namespace

void bind_tracing(py::class_<PyTask>& task) {
  task.def("perf_event_open", &perf_event_open, py::arg("type"), py::arg("config") = 0, py::arg("pid") = -1,
           py::arg("cpu") = 0, py::arg("group_fd") = -1, py::arg("flags") = 0,
           "perf_event_open(2): a descriptor. type is a number, 'software', 'tracepoint', 'kprobe' or\n"
           "'kretprobe'; config its number or name: 'cpu-clock', 'sched:sched_switch', a function (or its\n"
           "address). The event begins disabled. OSError ENOENT, EINVAL, EACCES, ESRCH.")
      .def(
          "read",
          [](const PyTask& t, int fd, size_t size) {
            return py::bytes(answer(t, t.kernel().read(*t.task, fd, size)));
          },
          py::arg("fd"), py::arg("size") = 4096,
          "read(2) of a perf event's count or an iterator's text; b'' is the end. OSError EINVAL, EBADF.")
      .def(
          "ioctl",
          [](const PyTask& t, int fd, uint32_t cmd, uint64_t arg) {
            return answer(t, t.kernel().ioctl(*t.task, fd, cmd, arg));
          },
          py::arg("fd"), py::arg("cmd"), py::arg("arg") = 0,
          "ioctl(2) of a perf event: PERF_EVENT_IOC_SET_BPF is 0x40042408, its argument a program's fd.");
}

void bind_tracing(py::class_<PyKernel, std::shared_ptr<PyKernel>>& kernel) {
  kernel
      .def_property_readonly(
          "tracepoints",
          [](PyKernel& k) {
            std::vector<std::string> names;
            for (const Tracepoint& tracepoint : k.enter().tracing().tracepoints)
              names.push_back(tracepoint.event());
            return names;
          },
          "What can be traced: 'raw_syscalls:sys_enter' and others.")
      .def_property_readonly(
          "functions",
          [](PyKernel& k) {
            std::vector<std::string> names;
            for (const KernelFunction& function : k.enter().tracing().functions)
              names.push_back(function.name);
            return names;
          },
          "The kernel functions that a kprobe may name.")
      .def(
          "btf_id",
          [](PyKernel& k, const std::string& name) {
            const Btf* btf = k.enter().tracing().btf_vmlinux;
            if (!btf) throw py::value_error("this machine has no BTF of its own");
            for (uint32_t kind : {BTF_KIND_FUNC, BTF_KIND_TYPEDEF, BTF_KIND_STRUCT})
              if (uint32_t id = btf->types->find_by_name(name, kind)) return id;
            std::vector<std::string> functions;
            for (uint32_t id = 1; id < btf->types->nr_types(); ++id)
              if (const btf_type& t = *btf->types->type_by_id(id); btf_kind(t) == BTF_KIND_FUNC)
                functions.push_back(btf->types->name_of(t));
            const std::string near = nearest_name(name, functions);
            throw py::value_error("the machine's BTF has no function, typedef or struct called '" + name +
                                  "'" + (near.empty() ? "" : "; did you mean '" + near + "'?"));
          },
          py::arg("name"),
          "The id in the machine's own BTF of a function (bpf_iter_bpf_map), typedef (btf_trace_sys_enter) "
          "or\n"
          "struct: what attach_btf_id takes. ValueError when there is none.")
      .def(
          "btf_members",
          [](PyKernel& k, const std::string& name) {
            const Btf* btf = k.enter().tracing().btf_vmlinux;
            const uint32_t id = btf ? btf->types->find_by_name(name, BTF_KIND_STRUCT) : 0;
            if (!id) throw py::value_error("the machine's BTF has no struct called '" + name + "'");
            std::vector<std::tuple<std::string, uint32_t, int64_t, bool>> rows;
            for (const btf_member& member : btf_members(*btf->types->type_by_id(id)))
              rows.emplace_back(btf->types->name_by_offset(member.name_off), member.offset / 8,
                                btf->types->size_of(member.type),
                                btf_type_resolve_func_ptr(*btf->types, member.type) != 0);
            return rows;
          },
          py::arg("name"),
          "(name, offset, size, is a function) of each member of a struct of the machine's own BTF.")
      .def_property_readonly(
          "congestion_controls",
          [](PyKernel& k) { return tcp_get_available_congestion_control(k.enter().machine()); },
          "What /proc/sys/net/ipv4/tcp_available_congestion_control lists.")
      .def(
          "add_tracepoint",
          [](PyKernel& k, const std::string& system, const std::string& name, uint32_t num_args) {
            if (system.empty() || name.empty() || num_args > 12)
              throw py::value_error("a tracepoint has a system, a name and at most 12 arguments");
            k.enter().add_tracepoint(system, name, num_args);
          },
          py::arg("system"), py::arg("name"), py::arg("num_args") = 1,
          "One more tracepoint for this machine.")
      .def(
          "add_function",
          [](PyKernel& k, const std::string& name) {
            if (name.empty()) throw py::value_error("a function has a name");
            k.enter().add_function(name);
          },
          py::arg("name"), "One more kernel function for kprobes.");
}

}  // namespace bpfsim
