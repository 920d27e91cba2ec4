// What the bindings share: one registration function per area, called by module.cpp.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "trace/recorder.h"
#include "uapi/result.h"

namespace bpfsim {

namespace py = pybind11;

void bind_tables(py::module_& m);
void bind_info(py::module_& m);
void bind_isa(py::module_& m);
void bind_live(py::module_& m);
void bind_trace(py::module_& m);
void bind_objects(py::module_& m);
void bind_kernel(py::module_& m);
void bind_loader(py::module_& m);
void bind_net(py::module_& m);
void bind_run(py::module_& m);
void bind_guests(py::module_& m);
void bind_history(py::module_& m);
void explain_arguments(py::module_& m);  // of everything bound before

// Raises OSError with .errno, .errname, .check and .reason.
[[noreturn]] void raise_refusal(const Refusal& refusal);

template <class T>
T value_or_raise(Result<T> result) {
  if (!result) raise_refusal(result.refusal());
  return *std::move(result);
}
inline void ok_or_raise(const Result<void>& result) {
  if (!result) raise_refusal(result.refusal());
}

// The bytes behind a Python buffer. `writable` asks for one that may be written.
struct Bytes {
  Bytes(const py::buffer& buffer, bool writable);
  py::buffer_info info;
  uint8_t* data() const { return static_cast<uint8_t*>(info.ptr); }
  size_t size() const { return size_t(info.size * info.itemsize); }
};

// An event's fields as a dict.
py::dict event_fields(const Event& event);

}  // namespace bpfsim
