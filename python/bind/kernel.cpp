// Kernel and Task: booting a machine, and entering its kernel.
#include <chrono>

#include "gil.h"
#include "hash_of.h"
#include "machine.h"
#include "uapi/gates.h"
#include "uapi/suggest.h"

namespace bpfsim {

namespace {

Version parse_version(const std::string& text) {
  std::optional<Version> version = Version::parse(text);
  if (!version) throw py::value_error("a kernel version looks like '6.18' or '5.4', not '" + text + "'");
  if (*version < kFirst || *version > kLatest)
    throw py::value_error("machines boot as kernel " + kFirst.str() + " to " + kLatest.str() + ", not " +
                          text);
  if (!released(*version)) throw py::value_error("there was no kernel " + version->str());
  return *version;
}

const std::pair<const char*, Capability> kCapabilityNames[] = {
    {"CAP_CHOWN", CAP_CHOWN},
    {"CAP_DAC_OVERRIDE", CAP_DAC_OVERRIDE},
    {"CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH},
    {"CAP_FOWNER", CAP_FOWNER},
    {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE},
    {"CAP_NET_ADMIN", CAP_NET_ADMIN},
    {"CAP_NET_RAW", CAP_NET_RAW},
    {"CAP_IPC_LOCK", CAP_IPC_LOCK},
    {"CAP_SYS_ADMIN", CAP_SYS_ADMIN},
    {"CAP_SYS_RESOURCE", CAP_SYS_RESOURCE},
    {"CAP_SYSLOG", CAP_SYSLOG},
    {"CAP_PERFMON", CAP_PERFMON},
    {"CAP_BPF", CAP_BPF},
};

CapabilitySet parse_capabilities(const std::vector<std::string>& names) {
  CapabilitySet set = 0;
  for (const std::string& name : names) {
    bool found = false;
    for (auto [known, cap] : kCapabilityNames)
      if (name == known || "CAP_" + name == known) set |= 1ull << cap, found = true;
    if (!found) {
      std::vector<std::string> known;
      for (auto [cap_name, cap] : kCapabilityNames) known.push_back(cap_name);
      const std::string near = nearest_name(name.starts_with("CAP_") ? name : "CAP_" + name, known);
      throw py::value_error("no capability that bpf(2) asks for is called '" + name + "'" +
                            (near.empty() ? "" : "; did you mean '" + near + "'?"));
    }
  }
  return set;
}

Credentials credentials(uint32_t uid, const std::optional<std::vector<std::string>>& caps) {
  return {uid, caps ? parse_capabilities(*caps) : uid == 0 ? kAllCapabilities : 0};
}

std::shared_ptr<PyKernel> boot(const std::string& version, int cpus, uint64_t seed,
                               const std::map<std::string, bool>& config, bool history, size_t history_mib) {
  MachineOptions options;
  options.version = parse_version(version);
  if (cpus < 1 || cpus > 256)
    throw py::value_error("a machine has 1 to 256 CPUs, not " + std::to_string(cpus));
  options.cpus = uint32_t(cpus);
  options.seed = seed;
  for (const auto& [name, on] : config)
    if (Result<void> set = options.config.set(name, on); !set) {
      if (set.err() == Errno::NoEnt) throw py::key_error(set.refusal().reason());
      throw py::value_error(set.refusal().reason());
    }
  return std::make_shared<PyKernel>(options, history ? history_mib << 20 : 0);
}

// The buffers of a call are known to user memory until it returns.
class KnownBuffers {
 public:
  KnownBuffers(GuardedUserMemory& user, const Bytes& attr, const py::list& buffers) : user_(user) {
    add(attr);
    for (const py::handle& buffer : buffers) add(Bytes(py::cast<py::buffer>(buffer), false));
  }
  ~KnownBuffers() { user_.extents.clear(), user_.overrun.clear(); }
  KnownBuffers(const KnownBuffers&) = delete;

 private:
  void add(const Bytes& bytes) { user_.extents.push_back({uintptr_t(bytes.data()), bytes.size()}); }
  GuardedUserMemory& user_;
};

int64_t sys_bpf(const PyTask& self, int cmd, const py::buffer& attr, std::optional<uint32_t> size,
                const py::list& buffers) {
  Bytes bytes(attr, true);
  uint32_t length = size.value_or(uint32_t(bytes.size()));
  if (length > bytes.size()) throw py::value_error("size is larger than the attr buffer");
  Kernel& kernel = self.kernel();
  KnownBuffers known(self.owner->user, bytes, buffers);
  // A command may answer in a part of union bpf_attr that the caller's buffer does not reach.
  bpf_attr room;
  const bool is_short = bytes.size() < sizeof room;
  if (is_short) std::memcpy(static_cast<void*>(&room), bytes.data(), bytes.size());
  const auto uattr = uintptr_t(is_short ? static_cast<void*>(&room) : bytes.data());
  int64_t result = kernel.sys_bpf(*self.task, cmd, uattr, length);
  if (is_short) std::memcpy(bytes.data(), &room, bytes.size());
  raise_pending(*self.owner);
  if (!self.owner->user.overrun.empty()) throw py::value_error(self.owner->user.overrun);
  return result;
}

py::object last_refusal(const PyTask& self) {
  const Refusal& refusal = self.kernel().last_refusal();
  if (refusal.err == Errno::None) return py::none();
  return py::make_tuple(refusal.check(), refusal.reason());
}

// The first 15 bytes of a name, as a process keeps them, without a part of a letter at the end.
std::string whole_letters(std::string comm) {
  constexpr size_t kMost = 15;
  if (comm.size() <= kMost) return comm;
  size_t end = kMost;
  while (end > 0 && (uint8_t(comm[end]) & 0xc0) == 0x80) --end;
  return comm.substr(0, end);
}

// The machine that a Kernel or a Task holds alone, or null. A map type's class may refer back to either:
// Python's collector can take such a ring apart when nobody else holds the machine.
PyKernel* sole_machine(PyObject* self) {
  if (!py::detail::is_holder_constructed(self)) return nullptr;
  if (py::isinstance<PyTask>(self)) {
    const auto& task = py::cast<const PyTask&>(py::handle(self));
    return task.owner.use_count() == 1 ? task.owner.get() : nullptr;
  }
  auto kernel = py::cast<std::shared_ptr<PyKernel>>(py::handle(self));
  return kernel.use_count() == 2 ? kernel.get() : nullptr;  // the wrapper's and this one
}

int traverse_machine(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  PyKernel* kernel = sole_machine(self);
  return kernel ? traverse_python_maps(*kernel, visit, arg) : 0;
}

int clear_machine(PyObject* self) {
  if (PyKernel* kernel = sole_machine(self)) clear_python_maps(*kernel);
  return 0;
}

// Before anything in the ring is cleared: no method is called that would find its object half gone.
void finalize_machine(PyObject* self) { clear_machine(self); }

void collected_by_python(PyHeapTypeObject* heap_type) {
  heap_type->ht_type.tp_flags |= Py_TPFLAGS_HAVE_GC;
  heap_type->ht_type.tp_traverse = traverse_machine;
  heap_type->ht_type.tp_clear = clear_machine;
  heap_type->ht_type.tp_finalize = finalize_machine;
}

void start_recording(PyKernel& self, std::shared_ptr<Recorder> recorder) {
  if (self.recording)
    throw std::runtime_error("this machine is being recorded already; the outer trace has it all");
  self.recorder = std::move(recorder);
  self.recording = std::make_unique<Recording>(self.machine(), *self.recorder);
}

void stop_recording(PyKernel& self) {
  self.recording.reset();
  self.recorder.reset();
}

std::string what_is_open(const File& file) {
  return file.label() + (file.private_data ? ": " + file.private_data->label() : "");
}

void bind_task(py::module_& m) {
  py::class_<PyTask> task(m, "Task",
                          "A process of a simulated machine: a pid, credentials and a table of descriptors.",
                          py::custom_type_setup(collected_by_python));
  task.def_property_readonly(
          "pid", [](const PyTask& t) { return t.task->pid; }, "Its number; the first is 470.")
      .def_property_readonly(
          "comm", [](const PyTask& t) { return t.task->comm; },
          "Its name, at most 15 bytes as task_struct keeps it.")
      .def_property_readonly(
          "uid", [](const PyTask& t) { return t.task->cred.uid; }, "Its user; 0 is root.")
      .def_property_readonly(
          "exited", [](const PyTask& t) { return t.task->exited; },
          "Whether it has called exit(); every further call is refused with ESRCH.")
      .def_property_readonly(
          "possible_cpus", [](const PyTask& t) { return t.owner->machine().cpus; },
          "How many CPUs the machine may have: the values of a per-CPU element.")
      .def_property_readonly(
          "kernel", [](const PyTask& t) { return t.owner; }, "The machine that it is of.")
      .def_property_readonly(
          "last_refusal", &last_refusal,
          "(check that refused, reason) of the last sys_bpf on this machine, or None. The check has the "
          "name of\nthe kernel's function where it has one.")
      .def(
          "sys_bpf", &sys_bpf, py::arg("cmd"), py::arg("attr"), py::arg("size") = py::none(),
          py::arg("buffers") = py::list(),
          "bpf(2), exactly: `attr` is a writable buffer in the layout of union bpf_attr, pointers in it are\n"
          "addresses of this process, `size` the bytes passed (default: all). Returns >= 0 or -errno and "
          "raises\n"
          "nothing of the kernel's; a wild pointer is -EFAULT. `buffers` are what the pointers point at, if "
          "you like: "
          "then\nValueError says that the call goes beyond the end of one, as it does for attr. Models "
          "__sys_bpf().")
      .def(
          "close", [](const PyTask& t, int fd) { answer(t, t.kernel().close(*t.task, fd)); }, py::arg("fd"),
          "close(2): takes the descriptor, and the object goes with its last reference. OSError EBADF.\n"
          "Models close_fd() and, with a file's last descriptor, __fput().")
      .def(
          "dup", [](const PyTask& t, int fd) { return answer(t, t.kernel().dup(*t.task, fd)); },
          py::arg("fd"), "dup(2): a second descriptor of the same open file. OSError EBADF, EMFILE.")
      .def(
          "fork",
          [](const PyTask& t) {
            if (t.task->exited) raise_refusal(task_has_exited(*t.task));
            return PyTask{t.owner, &t.kernel().fork(*t.task)};
          },
          "fork(2): a child whose descriptors share this task's open files. OSError ESRCH.")
      .def(
          "exit",
          [](const PyTask& t) {
            t.kernel().exit(*t.task);
            raise_pending(*t.owner);
          },
          "exit(2): closes every descriptor, gives back every mapping. Harmless when done twice.\n"
          "Models do_exit().")
      .def(
          "set_caps",
          [](const PyTask& t, const std::vector<std::string>& names) {
            answer(t, t.kernel().set_caps(*t.task, parse_capabilities(names)));
          },
          py::arg("names"), "Keeps exactly these capabilities: task.set_caps([\"CAP_BPF\"]).")
      .def_property_readonly(
          "fds",
          [](const PyTask& t) {
            py::dict fds;
            const auto& slots = t.task->files.slots();
            for (size_t fd = 0; fd < slots.size(); ++fd)
              if (slots[fd]) fds[py::int_(fd)] = what_is_open(*slots[fd]);
            return fds;
          },
          "The open descriptors and what they are: {3: 'file (bpf-map): map 1 (counts)'}.")
      .def("object_at", &object_at, py::arg("fd"), "The kernel object behind a descriptor. OSError EBADF.")
      .def(
          "__eq__",
          [](const PyTask& a, const PyTask& b) { return a.owner == b.owner && a.task->pid == b.task->pid; },
          py::is_operator())
      .def("__hash__", [](const PyTask& t) { return hash_of(t.owner.get(), uint64_t(t.task->pid)); })
      .def("__repr__", [](const PyTask& t) {
        return "<Task " + std::to_string(t.task->pid) + " " + t.task->comm +
               (t.task->exited ? " (exited)>" : ">");
      });
  bind_files(task);
  bind_sockets(task);
  bind_tracing(task);
  bind_mmap(m, task);
}

}  // namespace

Kernel& PyKernel::enter() {
  while (python_maps.inside || kernel.busy()) {
    if (has_guests || inside == std::this_thread::get_id())
      throw std::runtime_error("this machine is in the middle of a call: another cannot begin in it");
    raise_pending();
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    GilAway turn;  // for the thread whose call it is
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  inside = std::this_thread::get_id();
  return kernel;
}

// Whether it is time again to let Python's other threads run during a long call.
static bool others_wait_long() {
  thread_local auto last = std::chrono::steady_clock::now();
  const auto now = std::chrono::steady_clock::now();
  if (now - last < std::chrono::milliseconds(5)) return false;
  last = now;
  return true;
}

PyKernel::PyKernel(const MachineOptions& options, size_t history_bytes) : kernel(options, history_bytes) {
  machine().user = &user;
  machine().interrupted = [] {
    if (!PyGILState_Check()) return false;
    if (PyErr_CheckSignals() != 0) return true;  // Python's signals arrive in its main thread only
    if (!runs_guest() && !others_wait_long()) return false;
    GilAway turn;  // also for who waits for a guest, and may want to stop it
    return guest_is_stopped();
  };
}

ObjectView object_at(const PyTask& self, int fd) {
  if (self.task->exited) raise_refusal(task_has_exited(*self.task));
  File* file = self.task->files.get(fd);
  if (!file || !file->private_data)
    raise_refusal(refuse(Errno::BadF, "descriptor {} of task {} holds no BPF object", fd, self.task->pid));
  return object_view(self.owner, *file->private_data);
}

void bind_kernel(py::module_& m) {
  bind_task(m);
  py::class_<PyKernel, std::shared_ptr<PyKernel>> kernel(
      m, "Kernel",
      "One simulated machine. Any number live side by side; the same seed gives the same run.\n\n"
      "A wild address in a call is EFAULT, found by the signal that it raises. faulthandler, enabled\n"
      "after the last machine was made, prints such a signal once as a fatal error, which it is not:\n"
      "enable it before.",
      py::custom_type_setup(collected_by_python));
  bind_tracing(kernel);
  kernel
      .def(py::init(&boot), py::arg("version") = "6.18", py::arg("cpus") = 2, py::arg("seed") = 0,
           py::arg("config") = std::map<std::string, bool>{}, py::arg("history") = true,
           py::arg("history_mib") = 64)
      .def_property_readonly(
          "keeps_history", [](PyKernel& k) { return k.kernel.journal() != nullptr; },
          "Whether Kernel(history=True) made it.")
      .def_property_readonly(
          "version", [](PyKernel& k) { return k.machine().version.str(); },
          "The version that it boots as: '6.18'.")
      .def_property_readonly(
          "cpus", [](PyKernel& k) { return k.machine().cpus; }, "How many CPUs it has.")
      .def_property_readonly(
          "config", [](PyKernel& k) { return k.machine().config.all(); },
          "The CONFIG_* options, as in /proc/config.gz.")
      .def(
          "spawn",
          [](std::shared_ptr<PyKernel> k, const std::string& comm, uint32_t uid,
             const std::optional<std::vector<std::string>>& caps) {
            return PyTask{k, &k->enter().spawn(whole_letters(comm), credentials(uid, caps))};
          },
          py::arg("comm") = "bash", py::arg("uid") = 0, py::arg("caps") = py::none(),
          "A new process. Root has every capability, others none, unless `caps` names them.")
      .def_property_readonly(
          "tasks",
          [](std::shared_ptr<PyKernel> k) {
            std::vector<PyTask> tasks;
            for (Task* task : k->kernel.tasks()) tasks.push_back({k, task});
            return tasks;
          },
          "The live tasks, by pid.")
      .def(
          "task",
          [](std::shared_ptr<PyKernel> k, int pid) {
            Task* task = k->kernel.task(pid);
            if (!task) throw py::key_error("this machine never had a task " + std::to_string(pid));
            return PyTask{k, task};
          },
          py::arg("pid"), "A task by its pid, also one that has exited. KeyError.")
      .def(
          "sysctl_read",
          [](PyKernel& k, const std::string& name) { return value_or_raise(k.machine().sysctl.read(name)); },
          py::arg("name"), "The value of a sysctl. OSError ENOENT.")
      .def(
          "sysctl_write",
          [](PyKernel& k, const std::string& name, int64_t value) {
            ok_or_raise(k.enter().sysctl_write(name, value));
          },
          py::arg("name"), py::arg("value"), "Sets a sysctl. OSError ENOENT, EINVAL (out of range), EPERM.")
      .def(
          "sysctl_names", [](PyKernel& k) { return k.machine().sysctl.names(); },
          "The sysctls that the machine has.")
      .def_property_readonly(
          "dmesg", [](PyKernel& k) { return k.machine().dmesg; }, "The kernel log, a line each.")
      .def(
          "read_trace_pipe", [](PyKernel& k) { return k.enter().read_trace_pipe(); },
          "The lines of /sys/kernel/tracing/trace_pipe that nobody has read yet; reading takes them.")
      .def_property_readonly(
          "now_ns", [](PyKernel& k) { return k.machine().clock.now_ns; }, "Simulated time, ns.")
      .def_property_readonly(
          "recorder", [](PyKernel& k) { return k.recorder; }, "What records this machine now, or None.")
      .def("start_recording", &start_recording, py::arg("recorder").none(false),
           "Records every choke point into `recorder` from now on. RuntimeError when one records already.")
      .def("stop_recording", &stop_recording, "Ends the recording; harmless when none runs.")
      .def(
          "rcu_hold", [](PyKernel& k) { k.enter().rcu_hold(); },
          "Holds the grace period open: what is freed from now on waits, and can be looked at.")
      .def(
          "rcu_release",
          [](PyKernel& k) {
            int ran = k.enter().rcu_release();
            raise_pending(k);
            return ran;
          },
          "Lets the grace period end. Returns how many frees ran.")
      .def_property_readonly(
          "rcu_waiting",
          [](PyKernel& k) {
            std::vector<std::string> waiting;
            for (const Rcu::Waiting& entry : k.machine().rcu.waiting()) waiting.push_back(entry.what);
            return waiting;
          },
          "What waits for a grace period.")
      .def("__repr__", [](PyKernel& k) { return "<Kernel " + k.machine().version.str() + ">"; });
}

}  // namespace bpfsim
