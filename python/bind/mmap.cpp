// mmap(2), munmap(2) and what is seen there, and fdinfo.
#include "object/mmap.h"

#include "machine.h"

namespace bpfsim {

namespace {

// Bytes of a task's addresses. It holds the machine and an address that is never used twice: an access after
// munmap, exit or the end of every other reference is refused, never a wild one.
struct PyMapping {
  PyTask task;
  uint64_t address, length;

  uint64_t at(int64_t index) const {
    if (index < 0) index += int64_t(length);
    if (index < 0 || uint64_t(index) >= length) throw py::index_error("byte outside of the mapping");
    return address + uint64_t(index);
  }
  uint8_t get(int64_t index) const {
    uint8_t byte;
    answer(task, task.kernel().user_load(*task.task, at(index), &byte, 1));
    return byte;
  }
  void set(int64_t index, uint8_t byte) const {
    answer(task, task.kernel().user_store(*task.task, at(index), &byte, 1));
  }
  std::pair<size_t, size_t> range(const py::slice& slice) const {
    size_t start, stop, step, count;
    if (!slice.compute(length, &start, &stop, &step, &count)) throw py::error_already_set();
    if (step != 1) throw py::value_error("a slice of a mapping has no step");
    return {start, count};
  }
  py::bytes get_slice(const py::slice& slice) const {
    auto [start, count] = range(slice);
    std::string bytes(count, 0);
    answer(task, task.kernel().user_load(*task.task, address + start, bytes.data(), count));
    return bytes;
  }
  void set_slice(const py::slice& slice, const py::buffer& value) const {
    auto [start, count] = range(slice);
    Bytes bytes(value, false);
    if (bytes.size() != count)
      throw py::value_error("the slice has " + std::to_string(count) + " bytes, the value " +
                            std::to_string(bytes.size()));
    answer(task, task.kernel().user_store(*task.task, address + start, bytes.data(), count));
  }
  void munmap() const { answer(task, task.kernel().munmap(*task.task, address, length)); }
};

PyMapping map_pages(const PyTask& self, int fd, uint64_t length, uint32_t prot, uint32_t flags,
                    uint64_t offset, uint64_t address) {
  const Result<uint64_t> start = self.kernel().mmap(*self.task, fd, length, prot, flags, offset, address);
  return {self, answer(self, start), length};
}

}  // namespace

void bind_mmap(py::module_& m, py::class_<PyTask>& task) {
  py::class_<PyMapping>(m, "MappedPages",
                        "What task.mmap() gives: bytes that the task shares with the kernel. m[i] and m[i:j] "
                        "read, assignments\nwrite; where a process would get SIGSEGV (munmapped, exited, "
                        "read-only), OSError EFAULT is raised.")
      .def_readonly("address", &PyMapping::address,
                    "Where the task sees it. May stand in union bpf_attr, as a pointer.")
      .def_readonly("length", &PyMapping::length, "In bytes, as asked for; the kernel maps whole pages.")
      .def_readonly("task", &PyMapping::task, "The task whose address space it is in.")
      .def("__len__", [](const PyMapping& self) { return size_t(self.length); })
      .def("__getitem__", &PyMapping::get)
      .def("__getitem__", &PyMapping::get_slice)
      .def("__setitem__", &PyMapping::set)
      .def("__setitem__", &PyMapping::set_slice)
      .def("__bytes__",
           [](const PyMapping& self) { return self.get_slice(py::slice(std::nullopt, std::nullopt, 1)); })
      .def("munmap", &PyMapping::munmap, "munmap(2) of all of it.")
      .def("__enter__", [](const PyMapping& self) { return self; })
      .def("__exit__", [](const PyMapping& self, const py::args&) { self.munmap(); })
      .def("__repr__", [](const PyMapping& self) {
        char text[96];
        std::snprintf(text, sizeof text, "<MappedPages of %llu bytes at %#llx, task %d>",
                      static_cast<unsigned long long>(self.length),
                      static_cast<unsigned long long>(self.address), self.task.task->pid);
        return std::string(text);
      });
  task.def(
          "mmap", &map_pages, py::arg("fd"), py::arg("length"), py::arg("prot") = PROT_READ_ | PROT_WRITE_,
          py::arg("flags") = MAP_SHARED_, py::arg("offset") = 0, py::arg("address") = 0,
          "mmap(2) of a map's descriptor: MappedPages. length and offset in bytes, prot and flags as in "
          "Python's\n"
          "mmap module; address is where an arena is wanted (others go where there is room). It holds the "
          "map as a descriptor does. OSError EBADF; ENODEV for what is no map; "
          "524\n"
          "(ENOTSUPP) for a type without pages; EINVAL without BPF_F_MMAPABLE, beyond the end, or\n"
          "MAP_PRIVATE; EPERM frozen, or a page of a ring that user space may not write; EACCES against the\n"
          "descriptor's mode, or for writing to a BPF_F_RDONLY_PROG map.")
      .def(
          "munmap",
          [](const PyTask& t, uint64_t address, uint64_t length) {
            answer(t, t.kernel().munmap(*t.task, address, length));
          },
          py::arg("address"), py::arg("length"),
          "munmap(2) of whole pages, also of a part of a mapping. OSError EINVAL.")
      .def(
          "fdinfo", [](const PyTask& t, int fd) { return value_or_raise(fdinfo(*t.task, fd)); },
          py::arg("fd"), "The text of /proc/PID/fdinfo/FD. OSError ENOENT.");
}

}  // namespace bpfsim
