// An argument that may be a name or a number, and is no name.
#pragma once

#include "bind.h"

namespace bpfsim {

template <class Number>
Number number_in(const py::object& given, const char* what) {
  try {
    return given.cast<Number>();
  } catch (const py::cast_error&) {
    const auto shown = py::reinterpret_steal<py::object>(PyObject_ASCII(given.ptr()));
    if (!shown) throw py::error_already_set();
    const char* wrong = PyLong_Check(given.ptr()) ? " is out of range: " : " must be a name or a number, is ";
    throw py::type_error(what + (wrong + shown.cast<std::string>().substr(0, 100)));
  }
}

}  // namespace bpfsim
