// Python functions as guests of a machine: each is held before every call that it makes, or wherever a
// counter changes, while others run. bpfsim.races tries their interleavings.
#include <set>

#include "journal.h"
#include "machine.h"
#include "trace/parking.h"

namespace bpfsim {

namespace {

class Guests {
 public:
  Guests(std::shared_ptr<PyKernel> kernel, bool references, std::set<uint64_t> only)
      : owner_(std::move(kernel)), references_(references), only_(std::move(only)) {
    parking().around_wait = [](const std::function<void()>& wait) {
      if (!PyGILState_Check()) return wait();
      py::gil_scoped_release released;
      wait();
    };
  }
  ~Guests() { finish(); }
  Guests(const Guests&) = delete;

  // The function must not raise: who calls this catches what the script raises.
  int start(const py::function& body) {
    bodies_.push_back(std::make_unique<py::function>(body));  // dies with us, where Python's lock is held
    where_.emplace_back();
    const int number = int(where_.size()) - 1;
    parked_.push_back(true);
    const py::function* script = bodies_.back().get();
    const Machine& machine = owner_->machine();
    const int guest = parking().start(
        machine.boot,
        [script] {
          py::gil_scoped_acquire locked;
          try {
            (*script)();
          } catch (py::error_already_set& error) {
            error.discard_as_unraisable("a guest of a simulated machine");
          }
        },
        stop(number));
    numbers_.push_back(guest);
    parked_[size_t(number)] = parking().parked(guest);
    return number;
  }

  bool resume(int number) {
    hold(number);
    if (parked_[size_t(number)])
      parked_[size_t(number)] = parking().resume(numbers_[size_t(number)], stop(number));
    return parked_[size_t(number)];
  }
  bool parked(int number) const {
    hold(number);
    return parked_[size_t(number)];
  }
  std::string where(int number) const {
    hold(number);
    return where_[size_t(number)];
  }
  void finish() {
    for (size_t guest = 0; guest < numbers_.size(); ++guest)
      if (parked_[guest])
        parked_[guest] = parking().resume(numbers_[guest], [](const Event&) { return false; });
  }

 private:
  Parking& parking() { return owner_->kernel.parking(); }
  void hold(int number) const {
    if (number < 0 || size_t(number) >= numbers_.size()) throw py::index_error("there is no such guest");
  }
  Parking::Stop stop(int number) {
    return [this, number](const Event& event) {
      if (const auto* call = dynamic_cast<const CallEvent*>(&event)) {
        where_[size_t(number)] = "before " + call->text;
        return true;
      }
      const auto* ref = references_ ? dynamic_cast<const RefEvent*>(&event) : nullptr;
      if (!ref || (!only_.empty() && !only_.contains(ref->serial))) return false;
      const char* counter = ref->counter == Counter::UserRefs      ? "usercnt"
                            : ref->object_kind == ObjectKind::File ? "f_count"
                                                                   : "refcnt";
      where_[size_t(number)] = std::string("after ") + counter + " of " + object_kind_name(ref->object_kind) +
                               " " + std::to_string(ref->id) + " became " + std::to_string(ref->after) +
                               " (" + ref->cause.str() + ")";
      return true;
    };
  }

  std::shared_ptr<PyKernel> owner_;
  const bool references_;
  const std::set<uint64_t> only_;
  std::vector<std::unique_ptr<py::function>> bodies_;
  std::vector<std::string> where_;
  std::vector<int> numbers_;
  std::vector<bool> parked_;
};

}  // namespace

void bind_guests(py::module_& m) {
  py::class_<Guests>(m, "Guests", "Python functions that run inside a machine by turns (bpfsim.races).")
      .def(py::init<std::shared_ptr<PyKernel>, bool, std::set<uint64_t>>(), py::arg("kernel"),
           py::arg("references"), py::arg("only"))
      .def("start", &Guests::start, py::arg("body"),
           "A new guest, run until the first place where it is held. Returns its number.")
      .def("resume", &Guests::resume, py::arg("number"),
           "On to the next such place; False when it has ended.")
      .def("parked", &Guests::parked, py::arg("number"))
      .def("where", &Guests::where, py::arg("number"), "Where it is held, in words.")
      .def("finish", &Guests::finish, "Lets every guest run to its end.");
}

}  // namespace bpfsim
