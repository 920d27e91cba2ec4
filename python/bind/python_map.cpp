// A map type in Python: MapOps whose functions call the methods of a lesson's class.
//
// A registered type has a table of its own: a trampoline for each member that the class has, under the
// method's name, so that a recording and m.ops show what is really called. A lookup answers with an address
// in the arena, as programs need it: of an Element that the class made, or of the map's copy of the bytes
// that it returned. An OSError becomes the errno of the call; any other exception is kept and raised when the
// call into the machine returns. A method runs in the middle of a system call, so it may not begin another on
// the same machine. Departs from the kernel: such a type is no part of one.
#include "python_map.h"

#include <cstring>
#include <optional>

#include "gil.h"
#include "machine.h"
#include "object/registry.h"

namespace bpfsim {

// The value of one element, in memory that programs can reach. Python holds it; the map frees what is left.
struct PythonElement {
  std::shared_ptr<PythonMap*> cell;  // null inside when the map is gone
  Span span;
  ~PythonElement();
};

struct PythonMap final : Map {
  PythonMap(Machine& machine, const bpf_attr& attr, const PythonMapType& type)
      : Map(machine, attr), type(type), cell(std::make_shared<PythonMap*>(this)) {}
  ~PythonMap() override;

  const PythonMapType& type;
  std::shared_ptr<PythonMap*> cell;  // how Python finds it, until it is gone
  py::object state, face;            // what map_alloc gave; what methods get as `map`
  std::map<Addr, Span> spans;        // of elements and copies
  struct Copy {
    Span span;
    std::string given;  // by the method; what is there now may be a program's
  };
  std::map<std::string, Copy> copies;

  Result<Span> new_span() {
    Span span = TRY(machine.arena.alloc(std::max<uint64_t>(value_size, 1), "python_map element"));
    spans[span.addr] = span;
    return span;
  }
  // A program may still hold the address: the memory goes after a grace period.
  void drop_span(Span span) {
    if (spans.erase(span.addr))
      machine.rcu.call_rcu("element of " + label(), nullptr, [&m = machine, span] { m.arena.free(span); });
  }
};

namespace {

PythonMap& python_map(Map& map) { return static_cast<PythonMap&>(map); }
const PythonMapType& type_of(const Map& map) { return static_cast<const PythonMapType&>(*map.ops); }

// What a method gets as `map`.
struct MapFace {
  std::shared_ptr<PythonMap*> cell;
  PythonMap& get() const {
    if (*cell) return **cell;
    PyErr_SetString(PyExc_ReferenceError, "this map is gone");
    throw py::error_already_set();
  }
};

// A reason of up to 117 characters: a refusal keeps 39 of each name.
Refusal refuse_text(const char* function, Errno err, const std::string& text) {
  auto part = [&](size_t at) { return at < text.size() ? text.substr(at, 39) : std::string(); };
  Refusal refusal = refuse(err, "{}{}{}", part(0), part(39), part(78));
  refusal.function = function;
  return refusal;
}

// The errno of an OSError, None where it has none of Linux.
Errno errno_of(const py::object& error) {
  py::object number = py::getattr(error, "errno", py::none());
  if (!PyLong_Check(number.ptr())) return Errno::None;
  int overflow = 0;
  long value = PyLong_AsLongAndOverflow(number.ptr(), &overflow);
  if (overflow || value <= 0 || value > 4095 || std::strcmp(errno_name(Errno(value)), "E?") == 0)
    return Errno::None;
  return Errno(value);
}

const char* word(const PythonMapType& type, const char* method) {
  auto found = type.functions.find(method);
  return found == type.functions.end() ? method : found->second;
}

// Whether this machine does the past again: what a method printed and raised then is known already.
bool is_again(const Machine& machine, const PythonMapType& type) {
  return &machine != type.owner->machine || type.owner->again;
}

// For as long as it lives, print() goes nowhere.
class Quiet {
 public:
  Quiet() {
    const py::object nowhere = py::module_::import("io").attr("StringIO")();
    for (auto& [name, before] : streams_) {
      before = py::reinterpret_borrow<py::object>(PySys_GetObject(name));
      PySys_SetObject(name, nowhere.ptr());
    }
  }
  ~Quiet() {
    for (auto& [name, before] : streams_) PySys_SetObject(name, before.ptr());
  }
  Quiet(const Quiet&) = delete;

 private:
  std::pair<const char*, py::object> streams_[2] = {{"stdout", {}}, {"stderr", {}}};
};

// An exception of a method: an OSError with an errno of Linux is the kernel's answer, any other is a mistake
// in the class, which the caller gets to see as it is.
Refusal answer_of(const Machine& machine, const PythonMapType& type, const char* method,
                  py::error_already_set& error) {
  const char* function = word(type, method);
  if (error.matches(PyExc_OSError)) {
    if (Errno err = errno_of(error.value()); err != Errno::None) {
      py::object text = py::getattr(error.value(), "strerror", py::none());
      const bool readable = PyUnicode_Check(text.ptr());
      return refuse_text(function, err, readable ? text.cast<std::string>() : "");
    }
  }
  if (!is_again(machine, type)) type.owner->errors.push_back(error);
  return refuse_text(function, Errno::Io, "the method raised an exception that is no errno");
}

template <class... Args>
Result<py::object> call_python(Machine& machine, const PythonMapType& type, const char* method,
                               const Args&... args) {
  if (!type.ops) return refuse(Errno::Io, "the class of map type '{}' is gone", type.name);
  PythonMaps& maps = *type.owner;
  py::error_scope keeps_an_earlier_error;
  ++maps.inside;
  struct Leave {
    PythonMaps& maps;
    ~Leave() { --maps.inside; }
  } leave{maps};
  try {
    std::optional<Quiet> quiet;
    if (is_again(machine, type)) quiet.emplace();
    return call_or_stand_still(py::object(type.ops.attr(method)), py::make_tuple(args...));
  } catch (py::error_already_set& error) {
    return answer_of(machine, type, method, error);
  } catch (const std::exception& error) {
    return refuse_text(word(type, method), Errno::Io, error.what());
  }
}

// A mistake in what a method returned is the class's too.
Refusal wrong_return(const Machine& machine, const PythonMapType& type, const char* method,
                     const std::string& what) {
  PyErr_SetString(PyExc_TypeError, (word(type, method) + what).c_str());
  py::error_already_set error;
  return answer_of(machine, type, method, error);
}
Refusal wrong_return(const Map& map, const char* method, const std::string& what) {
  return wrong_return(map.machine, type_of(map), method, what);
}

std::string type_name(const py::object& of) { return py::str(py::type::of(of).attr("__name__")); }

// A method that has nothing to return. An errno that it returns, as the kernel's functions do, would be lost.
template <class... Args>
Result<void> call_for_nothing(Machine& machine, const PythonMapType& type, const char* method,
                              const Args&... args) {
  const py::object found = TRY(call_python(machine, type, method, args...));
  if (found.is_none()) return {};
  std::string shown = "a value of type " + type_name(found), name = "E2BIG";
  if (PyLong_Check(found.ptr())) {
    int overflow = 0;
    const long value = PyLong_AsLongAndOverflow(found.ptr(), &overflow);
    shown = overflow ? "an int" : std::to_string(value);
    if (!overflow && value < 0 && value >= -4095 && std::strcmp(errno_name(Errno(-value)), "E?") != 0)
      name = errno_name(Errno(-value));
  }
  return wrong_return(
      machine, type, method,
      " returned " + shown + ": it returns nothing, and refuses by raise OSError(errno." + name + ")");
}

// A thread that Python does not know (a parked guest's) cannot call into it.
#define NEED_PYTHON()                             \
  if (!PyGILState_Check() || !Py_IsInitialized()) \
  return refuse(Errno::DeadLk, "a map type in Python cannot be called from a guest's thread")

py::bytes bytes_of(const void* data, size_t size) { return py::bytes(static_cast<const char*>(data), size); }

// Bytes of a size that the caller wants.
Result<std::string> want_bytes(const Map& map, const char* method, const py::object& given, size_t size) {
  if (!PyBytes_Check(given.ptr()) && !PyByteArray_Check(given.ptr()))
    return wrong_return(map, method, " must return bytes, not " + type_name(given));
  std::string raw =
      PyBytes_Check(given.ptr())
          ? std::string(PyBytes_AS_STRING(given.ptr()), size_t(PyBytes_GET_SIZE(given.ptr())))
          : std::string(PyByteArray_AS_STRING(given.ptr()), size_t(PyByteArray_GET_SIZE(given.ptr())));
  if (raw.size() != size)
    return wrong_return(map, method,
                        " must return " + std::to_string(size) + " bytes, not " + std::to_string(raw.size()));
  return raw;
}

py::object attr_face(const bpf_attr& attr) {
  py::object face = py::module_::import("types").attr("SimpleNamespace")();
  face.attr("map_type") = uint32_t(attr.map_type);
  face.attr("key_size") = attr.key_size;
  face.attr("value_size") = attr.value_size;
  face.attr("max_entries") = attr.max_entries;
  face.attr("map_flags") = attr.map_flags;
  face.attr("numa_node") = attr.numa_node;
  face.attr("map_extra") = uint64_t(attr.map_extra);
  return face;
}

const PythonMapType& type_of(Machine& machine, const bpf_attr& attr) {
  return static_cast<const PythonMapType&>(*machine.registry->extra_map_types.at(attr.map_type).ops);
}

// ---- The trampolines

Result<void> alloc_check(Machine& machine, const bpf_attr& attr) {
  NEED_PYTHON();
  return call_for_nothing(machine, type_of(machine, attr), "map_alloc_check", attr_face(attr));
}

constexpr uint32_t kMaxSize = 4u << 20;

Result<Map*> alloc(Machine& machine, const bpf_attr& attr) {
  NEED_PYTHON();
  const PythonMapType& type = type_of(machine, attr);
  if (attr.key_size > kMaxSize || attr.value_size > kMaxSize)
    return refuse(Errno::TooBig, "a key or value has at most {} bytes", kMaxSize);
  auto map = std::make_unique<PythonMap>(machine, attr, type);
  map->face = py::cast(MapFace{map->cell});
  map->state = py::none();
  if (type.map_alloc.name[0]) map->state = TRY(call_python(machine, type, "map_alloc", attr_face(attr)));
  return static_cast<Map*>(map.release());
}

void free_map(Map& map) {
  PythonMap& self = python_map(map);
  if (type_of(map).map_free.name[0] && PyGILState_Check() && self.type.ops)
    (void)call_python(map.machine, self.type, "map_free", self.face);
  delete &self;
}

void release(Map& map, File&) {
  if (PyGILState_Check()) (void)call_python(map.machine, type_of(map), "map_release", python_map(map).face);
}
void release_uref(Map& map) {
  if (PyGILState_Check())
    (void)call_python(map.machine, type_of(map), "map_release_uref", python_map(map).face);
}

// Where the element is: an Element's own memory, or the map's copy of the bytes for this key.
Result<void*> lookup_by(Map& map, const void* key, const char* method) {
  NEED_PYTHON();
  PythonMap& self = python_map(map);
  py::bytes given = bytes_of(key, map.key_size);
  py::object found = TRY(call_python(map.machine, self.type, method, self.face, given));
  std::string name = given;
  auto copy = self.copies.find(name);
  if (found.is_none()) {
    if (copy != self.copies.end()) {
      self.drop_span(copy->second.span);
      self.copies.erase(copy);
    }
    return nullptr;
  }
  if (py::isinstance<PythonElement>(found)) {
    PythonElement& element = found.cast<PythonElement&>();
    if (*element.cell != &map) return wrong_return(map, method, " returned an element of another map");
    return static_cast<void*>(element.span.host);
  }
  std::string raw = TRY(want_bytes(map, method, found, map.value_size));
  if (copy == self.copies.end())
    copy = self.copies.emplace(name, PythonMap::Copy{TRY(self.new_span()), ""}).first;
  auto& [span, last] = copy->second;
  const std::string now(static_cast<const char*>(static_cast<void*>(span.host)), last.size());
  const bool lost = now != last && now != raw;
  std::memcpy(span.host, raw.data(), raw.size());
  last = raw;
  if (lost)
    return wrong_return(map, method,
                        " returned bytes, and a program wrote to their copy: that is lost. "
                        "It writes to the value itself where the method returns a map.element()");
  return static_cast<void*>(span.host);
}

Result<void*> lookup_elem(Map& map, const void* key) { return lookup_by(map, key, "map_lookup_elem"); }
Result<void*> lookup_elem_sys_only(Map& map, const void* key) {
  return lookup_by(map, key, "map_lookup_elem_sys_only");
}

Result<void> update_elem(Map& map, const void* key, const void* value, uint64_t flags) {
  NEED_PYTHON();
  return call_for_nothing(map.machine, type_of(map), "map_update_elem", python_map(map).face,
                          bytes_of(key, map.key_size), bytes_of(value, map.value_size), flags);
}

Result<void> delete_elem(Map& map, const void* key) {
  NEED_PYTHON();
  return call_for_nothing(map.machine, type_of(map), "map_delete_elem", python_map(map).face,
                          bytes_of(key, map.key_size));
}

// What a method returned goes to `to`; None means that there is nothing.
Result<void> copy_out(Map& map, const char* method, const py::object& found, void* to, size_t size) {
  if (found.is_none()) {
    std::memset(to, 0, size);
    return refuse_text(word(type_of(map), method), Errno::NoEnt, "the method returned None");
  }
  if (py::isinstance<PythonElement>(found) && size == map.value_size) {
    PythonElement& element = found.cast<PythonElement&>();
    if (*element.cell != &map) return wrong_return(map, method, " returned an element of another map");
    std::memcpy(to, element.span.host, size);
    return {};
  }
  std::string raw = TRY(want_bytes(map, method, found, size));
  std::memcpy(to, raw.data(), size);
  return {};
}

Result<void> get_next_key(Map& map, const void* key, void* next_key) {
  NEED_PYTHON();
  py::object from = key ? py::object(bytes_of(key, map.key_size)) : py::none();
  py::object next =
      TRY(call_python(map.machine, type_of(map), "map_get_next_key", python_map(map).face, from));
  return copy_out(map, "map_get_next_key", next, next_key, map.key_size);
}

Result<void> lookup_and_delete_elem(Map& map, const void* key, void* value, uint64_t flags) {
  NEED_PYTHON();
  py::object found = TRY(call_python(map.machine, type_of(map), "map_lookup_and_delete_elem",
                                     python_map(map).face, bytes_of(key, map.key_size), flags));
  return copy_out(map, "map_lookup_and_delete_elem", found, value, map.value_size);
}

Result<void> push_elem(Map& map, const void* value, uint64_t flags) {
  NEED_PYTHON();
  return call_for_nothing(map.machine, type_of(map), "map_push_elem", python_map(map).face,
                          bytes_of(value, map.value_size), flags);
}

Result<void> take(Map& map, const char* method, void* value) {
  NEED_PYTHON();
  py::object found = TRY(call_python(map.machine, type_of(map), method, python_map(map).face));
  return copy_out(map, method, found, value, map.value_size);
}
Result<void> pop_elem(Map& map, void* value) { return take(map, "map_pop_elem", value); }
Result<void> peek_elem(Map& map, void* value) { return take(map, "map_peek_elem", value); }

uint64_t mem_usage(const Map& map) {
  if (!PyGILState_Check()) return 0;
  const PythonMap& self = static_cast<const PythonMap&>(map);
  Result<py::object> bytes = call_python(map.machine, self.type, "map_mem_usage", self.face);
  return bytes && PyLong_Check((*bytes).ptr()) ? PyLong_AsUnsignedLongLongMask((*bytes).ptr()) : 0;
}

// ---- What the class leaves out

template <class T>
Result<T> lacks(const Map& map, const char* member) {
  Refusal refusal = refuse(Errno::OpNotSupp, "map type '{}' has no {}", type_of(map).name, member);
  refusal.function = member;
  return refusal;
}
Result<void*> no_lookup(Map& map, const void*) { return lacks<void*>(map, "map_lookup_elem"); }
Result<void> no_update(Map& map, const void*, const void*, uint64_t) {
  return lacks<void>(map, "map_update_elem");
}
Result<void> no_delete(Map& map, const void*) { return lacks<void>(map, "map_delete_elem"); }
Result<void> no_next_key(Map& map, const void*, void*) { return lacks<void>(map, "map_get_next_key"); }
Result<void> no_push(Map& map, const void*, uint64_t) { return lacks<void>(map, "map_push_elem"); }
Result<void> no_pop(Map& map, void*) { return lacks<void>(map, "map_pop_elem"); }
Result<void> no_peek(Map& map, void*) { return lacks<void>(map, "map_peek_elem"); }

// The text for as long as the process lives, once for each: a recording may outlast the machine that it
// shows.
const char* kept_word(const std::string& text) {
  PyObject* word = PyUnicode_FromStringAndSize(text.data(), Py_ssize_t(text.size()));
  if (!word) throw py::error_already_set();
  PyUnicode_InternInPlace(&word);  // our reference stays
  return PyUnicode_AsUTF8(word);
}

using Methods = PythonMapType::Methods;

// The trampoline under the method's name where the class has the method, else what refuses, without a name.
template <class F>
void fill(PythonMapType& type, const Methods& methods, OpsEntry<F>& entry, const char* member,
          decltype(entry.fn) with, decltype(entry.fn) without = nullptr) {
  auto found = methods.find(member);
  if (found == methods.end()) {
    entry = {without, "", ""};
    return;
  }
  entry = {with, kept_word(found->second.first), kept_word(found->second.second)};
  type.functions[member] = entry.name;
}

void fill_table(PythonMapType& type, const Methods& methods) {
  fill(type, methods, type.map_alloc_check, "map_alloc_check", alloc_check);
  fill(type, methods, type.map_alloc, "map_alloc", alloc, alloc);
  fill(type, methods, type.map_release, "map_release", release);
  fill(type, methods, type.map_free, "map_free", free_map, free_map);
  fill(type, methods, type.map_get_next_key, "map_get_next_key", get_next_key, no_next_key);
  fill(type, methods, type.map_release_uref, "map_release_uref", release_uref);
  fill(type, methods, type.map_lookup_elem_sys_only, "map_lookup_elem_sys_only", lookup_elem_sys_only);
  fill(type, methods, type.map_lookup_and_delete_elem, "map_lookup_and_delete_elem", lookup_and_delete_elem);
  fill(type, methods, type.map_lookup_elem, "map_lookup_elem", lookup_elem, no_lookup);
  fill(type, methods, type.map_update_elem, "map_update_elem", update_elem, no_update);
  fill(type, methods, type.map_delete_elem, "map_delete_elem", delete_elem, no_delete);
  fill(type, methods, type.map_push_elem, "map_push_elem", push_elem, no_push);
  fill(type, methods, type.map_pop_elem, "map_pop_elem", pop_elem, no_pop);
  fill(type, methods, type.map_peek_elem, "map_peek_elem", peek_elem, no_peek);
  fill(type, methods, type.map_mem_usage, "map_mem_usage", mem_usage);
}

void register_map_type(PyKernel& kernel, uint32_t number, const std::string& name, py::object ops,
                       const Methods& methods) {
  auto& extra = kernel.machine().registry->extra_map_types;
  if (number < kFirstExtraMapType || extra.count(number))
    throw py::value_error("the number of a new map type is free and at least " +
                          std::to_string(kFirstExtraMapType));
  auto type = std::make_unique<PythonMapType>();
  type->name = name;
  type->number = number;
  type->ops = std::move(ops);
  type->methods = methods;
  type->owner = &kernel.python_maps;
  kernel.python_maps.machine = &kernel.machine();
  fill_table(*type, methods);
  extra[number] = {name, type.get()};
  kernel.python_maps.types[number] = std::move(type);
}

py::list extra_map_types(PyKernel& kernel) {
  py::list rows;
  for (const auto& [number, type] : kernel.python_maps.types)
    rows.append(py::make_tuple(number, type->name, type->ops ? type->ops : py::none()));
  return rows;
}

PythonElement* new_element(const MapFace& face, const py::bytes& value) {
  PythonMap& map = face.get();
  std::string raw = value;
  if (raw.size() > map.value_size)
    throw py::value_error("the map's values have " + std::to_string(map.value_size) + " bytes, not " +
                          std::to_string(raw.size()));
  Span span = value_or_raise(map.new_span());
  std::memcpy(span.host, raw.data(), raw.size());
  return new PythonElement{map.cell, span};
}

PythonMap& owner_of(const PythonElement& element) { return MapFace{element.cell}.get(); }

void set_element(PythonElement& self, const py::bytes& value) {
  PythonMap& map = owner_of(self);
  std::string raw = value;
  if (raw.size() != map.value_size)
    throw py::value_error("the value must have " + std::to_string(map.value_size) + " bytes, not " +
                          std::to_string(raw.size()));
  std::memcpy(self.span.host, raw.data(), raw.size());
}

}  // namespace

PythonElement::~PythonElement() {
  if (*cell) (*cell)->drop_span(span);
}

PythonMap::~PythonMap() {
  *cell = nullptr;
  for (const auto& [addr, span] : spans) machine.arena.free(span);
  if (PyGILState_Check()) return;
  (void)state.release();  // a thread that Python does not know may not touch them
  (void)face.release();
}

const py::object* state_of(const Map& map) {
  const auto* own = dynamic_cast<const PythonMap*>(&map);
  return own ? &own->state : nullptr;
}

PythonMaps::~PythonMaps() {
  for (py::error_already_set& error : errors) {
    error.restore();
    PyErr_WriteUnraisable(nullptr);
  }
}

void PythonMaps::raise_kept() {
  if (errors.empty()) return;
  std::vector<py::error_already_set> kept = std::exchange(errors, {});
  for (size_t i = 1; i < kept.size(); ++i)
    kept[0].value().attr("add_note")("and after it: " + std::string(kept[i].what()));
  throw kept[0];
}

void copy_map_types(PyKernel& to, const PyKernel& from) {
  for (const auto& [number, type] : from.python_maps.types)
    register_map_type(to, number, type->name, type->ops, type->methods);
}

// Python's collector sees through a machine that nothing else holds.
int traverse_python_maps(PyKernel& kernel, visitproc visit, void* arg) {
  for (const auto& [number, type] : kernel.python_maps.types) Py_VISIT(type->ops.ptr());
  for (const auto& [serial, object] : kernel.machine().objects) {
    auto* map = object->kind == ObjectKind::Map ? dynamic_cast<PythonMap*>(object) : nullptr;
    if (!map) continue;
    Py_VISIT(map->state.ptr());
    Py_VISIT(map->face.ptr());
  }
  return 0;
}

void clear_python_maps(PyKernel& kernel) {
  std::vector<py::object> dropped;  // at the end, since that may run Python code
  for (const auto& [serial, object] : kernel.machine().objects)
    if (auto* map = dynamic_cast<PythonMap*>(object))
      dropped.push_back(std::exchange(map->state, py::none()));
  for (const auto& [number, type] : kernel.python_maps.types)
    dropped.push_back(std::exchange(type->ops, py::object()));
}

void bind_python_maps(py::module_& m) {
  py::class_<MapFace>(m, "CustomMap",
                      "A map of a lesson's own type, as its methods get it. ReferenceError once it is gone.")
      .def_property(
          "state", [](const MapFace& f) { return f.get().state; },
          [](const MapFace& f, py::object state) { f.get().state = std::move(state); },
          "What map_alloc returned; the type's own.")
      .def_property_readonly(
          "id", [](const MapFace& f) { return f.get().id; }, "The map's number.")
      .def_property_readonly(
          "name", [](const MapFace& f) { return f.get().name; }, "As map_name says; '' without one.")
      .def_property_readonly(
          "key_size", [](const MapFace& f) { return f.get().key_size; }, "In bytes.")
      .def_property_readonly(
          "value_size", [](const MapFace& f) { return f.get().value_size; }, "In bytes.")
      .def_property_readonly(
          "max_entries", [](const MapFace& f) { return f.get().max_entries; },
          "How many elements it was made for.")
      .def_property_readonly(
          "map_flags", [](const MapFace& f) { return f.get().map_flags; }, "BPF_F_*, as given to MAP_CREATE.")
      .def_property_readonly(
          "cpu", [](const MapFace& f) { return f.get().machine.current->cpu; }, "The CPU that asks.")
      .def_property_readonly(
          "now_ns", [](const MapFace& f) { return f.get().machine.clock.now_ns; }, "Simulated time.")
      .def("element", &new_element, py::arg("value") = py::bytes(),
           "A value in memory that programs can reach. A lookup that returns it gives a program its address.")
      .def("__repr__", [](const MapFace& f) {
        return *f.cell ? "<" + (*f.cell)->label() + ">" : "<a map that is gone>";
      });
  py::class_<PythonElement>(m, "Element",
                            "A value in the map's memory; it goes when nobody holds it any more.")
      .def_property(
          "value", [](const PythonElement& e) { return bytes_of(e.span.host, owner_of(e).value_size); },
          py::cpp_function(&set_element, py::name("value"), py::arg("self"), py::arg("value")),
          "Its bytes, as programs and user space see them now.")
      .def("__repr__", [](const PythonElement& e) {
        return *e.cell
                   ? "<Element " + std::string(py::repr(bytes_of(e.span.host, (*e.cell)->value_size))) + ">"
                   : std::string("<an element of a map that is gone>");
      });
  m.def("register_map_type", &register_map_type, py::arg("kernel"), py::arg("number"), py::arg("name"),
        py::arg("ops"), py::arg("methods"),
        "Kernel.register_map_type() calls this after it has looked at the class.");
  m.def("extra_map_types", &extra_map_types, py::arg("kernel"),
        "(number, name, ops) of the types that a lesson added.");
}

}  // namespace bpfsim
