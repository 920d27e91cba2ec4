// bpfsim._core: one registration per area, each in a file of its own.
#include "bind.h"
#include "gil.h"
#include "python_map.h"

namespace bpfsim {

void raise_error(PyObject* type, const std::string& text) {
  PyErr_SetObject(type, py::cast(text).ptr());
  throw py::error_already_set();
}

// pybind11 loses an exception whose text is no UTF-8. Left to it are those whose texts are our own.
static void raise_with_any_bytes(std::exception_ptr thrown) {
  const auto raise = [](PyObject* type, const std::exception& error) {
    PyErr_SetObject(type, py::cast(error.what()).ptr());
  };
  try {
    std::rethrow_exception(thrown);
  } catch (const py::value_error& error) {
    raise(PyExc_ValueError, error);
  } catch (const py::key_error& error) {
    raise(PyExc_KeyError, error);
  } catch (const py::type_error& error) {
    raise(PyExc_TypeError, error);
  } catch (const py::attribute_error& error) {
    raise(PyExc_AttributeError, error);
  }
}

void raise_refusal(const Refusal& refusal) {
  if (PyErr_Occurred()) throw py::error_already_set();  // Ctrl-C, which made the call give up
  std::string text = errno_phrase(refusal.err);
  if (*refusal.function) text += " (" + refusal.check() + ": " + refusal.reason() + ")";
  const py::object kind = py::module_::import("bpfsim.attr").attr("BpfError");
  py::object error = call_or_stand_still(kind, py::make_tuple(int(refusal.err), text));
  error.attr("errname") = errno_name(refusal.err);
  error.attr("check") = refusal.check();
  error.attr("reason") = refusal.reason();
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

static py::buffer_info request(const py::buffer& buffer, bool writable) try {
  return buffer.request(writable);
} catch (const py::error_already_set& error) {
  if (!writable || !error.matches(PyExc_BufferError)) throw;
  throw py::buffer_error(
      "a buffer that may be written is wanted, such as a bytearray; this one is read-only");
}

Bytes::Bytes(const py::buffer& buffer, bool writable) : info(request(buffer, writable)) {
  py::ssize_t packed = info.itemsize;
  for (py::ssize_t i = info.ndim; i-- > 0; packed *= info.shape[size_t(i)])
    if (info.strides[size_t(i)] != packed && info.shape[size_t(i)] > 1)
      throw py::value_error("the buffer's bytes must lie side by side");
}

py::dict event_fields(const Event& event) {
  struct Sink final : FieldSink {
    py::dict fields;
    void number(const char* name, int64_t value) override { fields[name] = value; }
    void address(const char* name, uint64_t value) override { fields[name] = value; }
    void text(const char* name, std::string_view value) override { fields[name] = value; }
  } sink;
  event.fields(sink);
  return sink.fields;
}

// A method of an object that a subclass or T.__new__(T) left without __init__: pybind11 would hand it memory
// that nobody has filled.
static void refuse_unmade(py::module_& m) {
  for (auto [name, member] : m.attr("__dict__").cast<py::dict>())
    if (PyType_Check(member.ptr()))
      if (auto* type = py::detail::get_type_info(reinterpret_cast<PyTypeObject*>(member.ptr())))
        type->operator_new = [](size_t) -> void* { throw py::type_error("__init__() was not called"); };
}

}  // namespace bpfsim

PYBIND11_MODULE(_core, m) {
  using namespace bpfsim;
  m.doc() = "The C++ core of bpfsim: a simulated machine with Linux's BPF subsystem. Import bpfsim instead.";
  m.attr("__version__") = BPFSIM_VERSION;
  py::register_local_exception_translator(raise_with_any_bytes);
  bind_tables(m);
  bind_info(m);
  bind_isa(m);
  bind_live(m);
  bind_trace(m);
  bind_objects(m);
  bind_maps(m);
  bind_kernel(m);
  bind_loader(m);
  bind_net(m);
  bind_run(m);
  bind_history(m);
  bind_guests(m);
  explain_arguments(m);
  refuse_unmade(m);
}
