// Wrong arguments in words. pybind11 answers a call that fits no signature with all its signatures, C++'s
// names of types and every argument: words for who wrote the binding. bpfsim.arguments makes of them which
// argument is wrong and why.
//
// When everything is bound, each function of the module gets this file's entry in place of pybind11's: it
// calls that one, and looks at what it raised. A call that fits costs one more jump.
#include "bind.h"

namespace bpfsim {
namespace {

// pybind11's entry is a protected member.
struct Entry : py::cpp_function {
  static PyObject* call(PyObject* self, PyObject* const* arguments, size_t given, PyObject* names) {
    PyObject* result = dispatcher(self, arguments, given, names);
    if (!result && PyErr_ExceptionMatches(PyExc_TypeError)) in_words(arguments, given, names);
    return result;
  }

  static void in_words(PyObject* const* arguments, size_t given, PyObject* names) {
    py::error_already_set error;
    try {
      const auto text = py::str(error.value()).cast<std::string>();
      if (text.find("(): incompatible ") == std::string::npos) return error.restore();
      const auto positional = size_t(PyVectorcall_NARGS(given));
      py::list list;
      for (size_t i = 0; i < positional; ++i) list.append(py::handle(arguments[i]));
      py::dict named;
      for (size_t i = 0; names && i < py::len(names); ++i)
        named[py::handle(PyTuple_GET_ITEM(names, py::ssize_t(i)))] = py::handle(arguments[positional + i]);
      const py::object words = py::module_::import("bpfsim.arguments").attr("explain")(text, list, named);
      PyErr_SetObject(PyExc_TypeError, words.ptr());
    } catch (const py::error_already_set&) {
      error.restore();  // an argument that cannot even be looked at: pybind11's words are all there is
    }
  }
};

void enter_here(py::handle function) {
  if (PyObject_TypeCheck(function.ptr(), &PyProperty_Type)) return enter_here(function.attr("fset"));
  if (PyInstanceMethod_Check(function.ptr())) function = PyInstanceMethod_GET_FUNCTION(function.ptr());
  if (py::isinstance<py::staticmethod>(function)) return enter_here(function.attr("__func__"));
  if (!PyCFunction_Check(function.ptr())) return;
  PyMethodDef& definition = *reinterpret_cast<PyCFunctionObject*>(function.ptr())->m_ml;
  if (definition.ml_flags != (METH_FASTCALL | METH_KEYWORDS)) return;
  definition.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Entry::call));
}

}  // namespace

void explain_arguments(py::module_& m) {
  for (auto [name, member] : m.attr("__dict__").cast<py::dict>()) {
    enter_here(member);
    if (!PyType_Check(member.ptr())) continue;
    for (auto item : member.attr("__dict__").attr("items")()) enter_here(item.cast<py::tuple>()[1]);
  }
}

}  // namespace bpfsim
