// Python functions as guests of a machine: each is held before every call that it makes, and where a counter
// of certain objects changes, while others run. bpfsim.races tries their interleavings. An object has the
// same name in each of them: its serial if it was there before, else whose guest bore it, and as which one.
//
// Who waits for a guest looks for Ctrl-C: then, and when the guests are dropped before they have ended,
// KeyboardInterrupt is raised in each of them, again and again until it has ended.
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "gil.h"
#include "journal.h"
#include "machine.h"
#include "trace/parking.h"

namespace bpfsim {

namespace {

class Guests;
thread_local Guests* guest_of = nullptr;  // whose guest this thread runs

using Name = std::pair<int, uint64_t>;  // guest and how many it bore before; or kThere and a serial
constexpr int kThere = -1;

class Guests {
 public:
  Guests(std::shared_ptr<PyKernel> kernel, std::set<Name> held_at)
      : owner_(std::move(kernel)), held_at_(std::move(held_at)), first_born_(owner_->machine().next_serial) {
    if (owner_->has_guests) throw std::runtime_error("this machine has its guests already");
    parking().around_wait = [this](const Parking::Turn& turn) { wait(turn); };
    owner_->has_guests = true;
  }
  ~Guests() {
    py::error_scope keeps_an_earlier_error;
    finish();
    parking().around_wait = nullptr;
    owner_->has_guests = false;
  }
  Guests(const Guests&) = delete;

  // The function must not raise: who calls this catches what the script raises.
  int start(const py::function& body) {
    bodies_.push_back(std::make_unique<py::function>(body));  // dies with us, where Python's lock is held
    where_.emplace_back();
    const int number = int(where_.size()) - 1;
    parked_.push_back(true);
    threads_.push_back(0);
    const py::function* script = bodies_.back().get();
    const Machine& machine = owner_->machine();
    const int guest = parking().start(
        machine.boot,
        [this, script, number] {
          std::optional<py::gil_scoped_acquire> locked;
          or_stand_still([&] { locked.emplace(); });
          guest_of = this;
          threads_[size_t(number)] = PyThread_get_thread_ident();
          try {
            call_or_stand_still(*script);
          } catch (py::error_already_set& error) {
            if (!stopped_) error.discard_as_unraisable("a guest of a simulated machine");
          }
          threads_[size_t(number)] = 0;
        },
        stop(number));
    numbers_.push_back(guest);
    parked_[size_t(number)] = parking().parked(guest);
    raise_interrupt();
    return number;
  }

  bool resume(int number) {
    check_guest(number);
    if (parked_[size_t(number)])
      parked_[size_t(number)] = parking().resume(numbers_[size_t(number)], stop(number));
    raise_interrupt();
    return parked_[size_t(number)];
  }
  bool parked(int number) const {
    check_guest(number);
    return parked_[size_t(number)];
  }
  std::string where(int number) const {
    check_guest(number);
    return where_[size_t(number)];
  }
  // The objects that more than one guest has touched: only there does the order of turns inside a call
  // matter.
  std::set<Name> shared() const {
    std::set<Name> names;
    for (const auto& [name, guests] : touched_)
      if (guests.size() > 1) names.insert(name);
    return names;
  }
  bool stopped() const { return stopped_; }
  void finish() {
    stop_all();
    for (size_t guest = 0; guest < numbers_.size(); ++guest)
      if (parked_[guest])
        parked_[guest] = parking().resume(numbers_[guest], [](const Event&) { return false; });
  }

 private:
  void wait(const Parking::Turn& turn) {
    const bool locked = PyGILState_Check();  // not on a thread that has not begun yet
    if (!locked || guest_of == this) {
      std::optional<GilAway> unlocked;
      if (locked) unlocked.emplace();
      while (!turn(std::chrono::hours(1))) {
      }
      return;
    }
    for (;;) {
      {
        GilAway unlocked;
        if (turn(std::chrono::milliseconds(50))) break;
      }
      if (PyErr_CheckSignals() != 0) interrupt_.emplace();
      if (interrupt_ || stopped_ || guest_is_stopped()) stop_all();
    }
  }
  void stop_all() {
    stopped_ = true;
    for (unsigned long thread : threads_)
      if (thread) PyThreadState_SetAsyncExc(thread, PyExc_KeyboardInterrupt);
  }
  void raise_interrupt() {
    if (!interrupt_) return;
    py::error_already_set interrupt = *std::exchange(interrupt_, {});
    throw interrupt;
  }
  Parking& parking() { return owner_->kernel.parking(); }
  // An object's first counter goes up when it is born, so who is seen with it first bore it.
  const Name& name_of(uint64_t serial, int number) {
    auto [it, unseen] = names_.try_emplace(serial, kThere, serial);
    if (unseen && serial >= first_born_) it->second = {number, born_[number]++};
    return it->second;
  }
  void check_guest(int number) const {
    if (number < 0 || size_t(number) >= numbers_.size()) throw py::index_error("there is no such guest");
  }
  Parking::Stop stop(int number) {
    return [this, number](const Event& event) {
      if (const auto* call = dynamic_cast<const CallEvent*>(&event)) {
        where_[size_t(number)] = "before " + call->text;
        return true;
      }
      const auto* ref = dynamic_cast<const RefEvent*>(&event);
      if (!ref) return false;
      const Name& name = name_of(ref->serial, number);
      touched_[name].insert(number);
      if (!held_at_.contains(name)) return false;
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
  const std::set<Name> held_at_;
  const uint64_t first_born_;
  std::map<uint64_t, Name> names_;
  std::map<int, uint64_t> born_;
  std::map<Name, std::set<int>> touched_;
  std::vector<std::unique_ptr<py::function>> bodies_;
  std::vector<std::string> where_;
  std::vector<int> numbers_;
  std::vector<bool> parked_;
  std::vector<unsigned long> threads_;  // Python's number of the thread of each, 0 when it has ended
  bool stopped_ = false;
  std::optional<py::error_already_set> interrupt_;  // what came while we waited
};

}  // namespace

bool runs_guest() { return guest_of; }
bool guest_is_stopped() { return guest_of && guest_of->stopped(); }

void bind_guests(py::module_& m) {
  py::class_<Guests>(m, "Guests", "Python functions that run inside a machine by turns (bpfsim.races).")
      .def(py::init<std::shared_ptr<PyKernel>, std::set<Name>>(), py::arg("kernel").none(false),
           py::arg("held_at"))
      .def("start", &Guests::start, py::arg("body"),
           "A new guest, run until the first place where it is held. Returns its number.")
      .def("resume", &Guests::resume, py::arg("number"),
           "On to the next such place; False when it has ended.")
      .def("parked", &Guests::parked, py::arg("number"))
      .def("where", &Guests::where, py::arg("number"), "Where it is held, in words.")
      .def("shared", &Guests::shared, "The objects that more than one guest has touched, by name.")
      .def("finish", &Guests::finish,
           "Ends every guest that has not ended: KeyboardInterrupt where it stands.");
}

}  // namespace bpfsim
