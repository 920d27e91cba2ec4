// Map types that a lesson writes in Python.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bind.h"
#include "object/map.h"
#include "object/ops.h"

namespace bpfsim {

struct PythonMap;

// One type: its table is filled with trampolines for the members that the lesson's class has.
struct PythonMapType : MapOps {
  using Methods = std::map<std::string, std::pair<std::string, std::string>>;  // member -> (name, file)
  Methods methods;
  std::string name;
  uint32_t number = 0;
  py::object ops;  // the lesson's class or object; empty once the collector has cleared it
  std::map<std::string_view, const char*> functions;  // the method's name by member
  struct PythonMaps* owner = nullptr;
};

// What one machine has of them. Declared before the kernel that uses it, so that it goes after it.
struct PythonMaps {
  ~PythonMaps();
  std::map<uint32_t, std::unique_ptr<PythonMapType>> types;
  std::vector<py::error_already_set> errors;  // that no system call can carry, kept for its caller
  const Machine* machine = nullptr;           // theirs; others do its past again
  int inside = 0;                             // methods that run now
  bool again = false;                         // the past is being done again on this machine

  void raise_kept();
};

const py::object* state_of(const Map& map);  // of a type in Python; null for the kernel's own

void bind_maps(py::module_& m);
void bind_python_maps(py::module_& m);

}  // namespace bpfsim
