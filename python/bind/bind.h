// What the bindings share: one registration function per area, called by module.cpp.
#pragma once

#include <pybind11/cast.h>

#include <string>
#include <string_view>

// Text on its way to Python. Its bytes may be a file's, a packet's or a user's: those that are no UTF-8 are
// shown as \x80.
namespace pybind11::detail {
template <class Text, bool is_view>
struct shown_text_caster : string_caster<Text, is_view> {
  static handle cast(const Text& text, return_value_policy, handle) {
    PyObject* shown = PyUnicode_DecodeUTF8(text.data(), ssize_t(text.size()), "backslashreplace");
    if (!shown) throw error_already_set();
    return shown;
  }
};
template <>
struct type_caster<std::string> : shown_text_caster<std::string, false> {};
template <>
struct type_caster<std::string_view> : shown_text_caster<std::string_view, true> {};
}  // namespace pybind11::detail

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

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

// Raises a Python exception; as with every text, its bytes may be any.
[[noreturn]] void raise_error(PyObject* type, const std::string& text);

// Raises BpfError, an OSError with .errno, .errname, .check and .reason.
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
