// A simulated machine as Python holds it: the kernel, its guarded user memory, and the recording in progress.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "bind.h"
#include "guarded_memory.h"
#include "history.h"
#include "kernel.h"
#include "object/file.h"
#include "object/object.h"
#include "python_map.h"
#include "trace/recorder.h"

namespace bpfsim {

struct PyKernel {
  PyKernel(const MachineOptions& options, size_t history_bytes);

  GuardedUserMemory user;
  PythonMaps python_maps;
  Kernel kernel;
  std::shared_ptr<Recorder> recorder;    // declared first: the recording refers to it
  std::unique_ptr<Recording> recording;  // one at a time
  std::unique_ptr<History> history;      // made when first asked for
  std::unique_ptr<Watcher> breaks;       // history.cpp
  bool has_guests = false;               // guests.cpp
  std::thread::id inside;                // whose call is under way, or was the last
  // Forks share it with the machine that they were forked from.
  std::shared_ptr<const char> lineage = std::make_shared<const char>();

  Machine& machine() { return kernel.machine(); }

  // For a call into the machine. While one is under way another thread waits; from inside it (a method of a
  // map type, a signal's handler), and while there are guests, RuntimeError.
  Kernel& enter();
};

// A task keeps its machine alive.
struct PyTask {
  std::shared_ptr<PyKernel> owner;
  Task* task;

  Kernel& kernel() const { return owner->enter(); }
};

// A kernel object by its number: reading it after it is gone raises ReferenceError, never touches freed
// memory.
struct ObjectView {
  std::shared_ptr<PyKernel> owner;
  uint64_t serial;
  std::string label;

  Object& get() const;
};

ObjectView object_view(const std::shared_ptr<PyKernel>& owner, const Object& object);
ObjectView object_at(const PyTask& task, int fd);  // OSError EBADF

py::tuple graph_tuples(const GraphPicture& picture);

void bind_files(py::class_<PyTask>& task);
void bind_sockets(py::class_<PyTask>& task);
void bind_tracing(py::class_<PyTask>& task);
void bind_tracing(py::class_<PyKernel, std::shared_ptr<PyKernel>>& kernel);
void bind_mmap(py::module_& m, py::class_<PyTask>& task);

py::list map_ops_rows(const ObjectView& self);
void copy_map_types(PyKernel& to, const PyKernel& from);  // for a fork

// Python's garbage collector asks what a machine holds.
int traverse_python_maps(PyKernel& kernel, visitproc visit, void* arg);
void clear_python_maps(PyKernel& kernel);

// Ctrl-C that arrived during a call, or what a map type's method raised in it.
inline void raise_pending() {
  if (PyErr_Occurred()) throw py::error_already_set();
}
inline void raise_pending(PyKernel& kernel) {
  raise_pending();
  kernel.python_maps.raise_kept();
}

// What a call answered, unless Python code that ran in it has raised something.
template <class T>
T answer(const PyTask& task, Result<T> result) {
  raise_pending(*task.owner);
  if constexpr (std::is_void_v<T>)
    ok_or_raise(result);
  else
    return value_or_raise(std::move(result));
}

// Of the guest that this thread runs, where it runs one (guests.cpp).
bool runs_guest();
bool guest_is_stopped();

}  // namespace bpfsim
