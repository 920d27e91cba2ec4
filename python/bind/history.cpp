// The history of a machine for Python: steps, graphs of the past, forks, breakpoints.
#include "history.h"

#include <algorithm>

#include "journal.h"
#include "machine.h"

namespace bpfsim {

namespace {

template <class T>
T past_or_raise(Result<T> result) {
  if (!result && result.err() == Errno::Intr) raise_pending();
  if (!result) raise_error(PyExc_RuntimeError, result.refusal().reason());
  return *std::move(result);
}
void past_or_raise(const Result<void>& result) {
  if (!result && result.err() == Errno::Intr) raise_pending();
  if (!result) raise_error(PyExc_RuntimeError, result.refusal().reason());
}

struct PyHistory {
  explicit PyHistory(std::shared_ptr<PyKernel> kernel) : owner(std::move(kernel)) {
    if (!owner->kernel.journal())
      throw std::runtime_error("this machine keeps no history: Kernel(history=False)");
    if (!owner->history) owner->history = std::make_unique<History>(owner->kernel);
  }
  History& past() const {
    owner->enter();  // not while a call is under way
    return *owner->history;
  }
  const JournalStep& step(size_t number) const {
    if (number >= past().size())
      throw py::index_error("the history has " + std::to_string(past().size()) + " steps");
    return past().step(number);
  }
  void check_steps(size_t steps) const {
    if (steps > past().size())
      throw py::index_error("the history has " + std::to_string(past().size()) + " steps");
  }
  std::shared_ptr<PyKernel> owner;
};

py::dict moment_dict(const Moment& moment) {
  py::dict row;
  row["event"] = moment.event;
  row["serial"] = moment.serial;
  row["kind"] = object_kind_name(moment.kind);
  row["label"] = moment.label;
  row["counter"] = !moment.counted
                       ? py::object(py::none())
                       : py::object(py::str(moment.counter == Counter::Refs ? "refcnt" : "usercnt"));
  row["delta"] = moment.delta;
  row["after"] = moment.after;
  row["cause"] = moment.cause;
  return row;
}

py::dict step_dict(const PyHistory& self, size_t number) {
  const JournalStep& step = self.step(number);
  py::dict row;
  row["pid"] = step.pid;
  row["text"] = self.past().text(number);
  row["result"] = step.result;
  row["answer"] = describe_result(step);
  row["time_ns"] = step.after.time_ns;
  return row;
}

py::list watch(const PyHistory& self, uint64_t serial) {
  py::list rows;
  for (const auto& [step, moment] : past_or_raise(self.past().watch(serial)))
    rows.append(py::make_tuple(step, moment_dict(moment)));
  return rows;
}

// Does steps again on a fork; what a lesson's map type says in them was said before.
void replay_quietly(const PyHistory& self, PyKernel& fork, size_t begin, size_t end) {
  struct Again {
    explicit Again(PythonMaps& maps) : maps(maps) { maps.again = true; }
    ~Again() { maps.again = false; }
    PythonMaps& maps;
  } again(fork.python_maps);
  past_or_raise(self.past().replay(fork.enter(), begin, end));
}

std::shared_ptr<PyKernel> fork_from(const PyHistory& self, size_t steps) {
  self.check_steps(steps);
  Kernel& live = self.owner->kernel;
  auto fork = std::make_shared<PyKernel>(live.options(), live.journal()->most_bytes());
  fork->lineage = self.owner->lineage;
  copy_map_types(*fork, *self.owner);
  replay_quietly(self, *fork, 0, steps);
  return fork;
}

// Breakpoints on counters. A call is never torn: it runs to its end, then Break is raised; with the number of
// its step where the history holds it, else without.
class Breaks final : public Watcher {
 public:
  explicit Breaks(Kernel& kernel) : Watcher(kernel.machine()), kernel_(kernel) {
    kernel.after_call = [this](std::optional<size_t> step, int64_t result) { raise(step, result); };
  }
  int add(uint64_t serial, Counter counter, std::optional<int64_t> at) {
    points_[++last_] = {serial, counter, at};
    return last_;
  }
  bool remove(int number) { return points_.erase(number) && points_.empty(); }

  void see(const Event& event) override {
    const auto* ref = dynamic_cast<const RefEvent*>(&event);
    if (!ref && !dynamic_cast<const LifeEvent*>(&event)) return;
    const size_t number = events_++;
    if (!ref) return;
    for (auto& [id, point] : points_)
      if (point.serial == ref->serial && point.counter == ref->counter &&
          point.at.value_or(ref->after) == ref->after)
        hits_.push_back(
            {machine_.current, number, id, ref->object_kind, ref->id, ref->after, ref->cause.str()});
  }

  ~Breaks() override { kernel_.after_call = nullptr; }

 private:
  struct Point {
    uint64_t serial;
    Counter counter;
    std::optional<int64_t> at;
  };
  struct Hit {
    const Context* context;  // that of another guest hears of it when its own call returns
    size_t event;
    int point;
    ObjectKind kind;
    uint32_t id;
    int64_t after;
    std::string cause;
  };

  void raise(std::optional<size_t> step, int64_t result) {
    events_ = 0;
    const auto ours = [&](const Hit& hit) { return hit.context == machine_.current; };
    const auto first = std::ranges::find_if(hits_, ours);
    if (first == hits_.end()) return;
    const Hit hit = *first;
    std::erase_if(hits_, ours);
    const char* counter = points_[hit.point].counter == Counter::Refs ? "refcnt" : "usercnt";
    const Journal* journal = kernel_.journal();
    const std::string where =
        step ? "event " + std::to_string(hit.event) + " of step " + std::to_string(*step)
             : "in a call that is no step: " + (journal ? journal->ended() : "this machine keeps no history");
    py::object error = py::module_::import("bpfsim.history")
                           .attr("Break")(py::str("{} of {} {} is {} ({}), {}")
                                              .format(counter, object_kind_name(hit.kind), hit.id, hit.after,
                                                      hit.cause, where));
    error.attr("step") = step;
    error.attr("event") = step ? std::optional(hit.event) : std::nullopt;
    error.attr("counter") = counter;
    error.attr("after") = hit.after;
    error.attr("cause") = hit.cause;
    error.attr("result") = result;
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
    throw py::error_already_set();
  }

  Kernel& kernel_;
  std::map<int, Point> points_;
  std::vector<Hit> hits_;
  size_t events_ = 0;
  int last_ = 0;
};

struct Breakpoint {
  std::shared_ptr<PyKernel> owner;
  int number;
  void remove() {
    auto* breaks = static_cast<Breaks*>(owner->breaks.get());
    if (breaks && breaks->remove(number)) owner->breaks.reset();
  }
};

Breakpoint break_on(const std::shared_ptr<PyKernel>& kernel, uint64_t serial, const std::string& counter,
                    std::optional<int64_t> at) {
  if (counter != "refcnt" && counter != "usercnt")
    throw py::value_error("counter is 'refcnt' or 'usercnt', not '" + counter + "'");
  if (!kernel->breaks) kernel->breaks = std::make_unique<Breaks>(kernel->kernel);
  auto& breaks = static_cast<Breaks&>(*kernel->breaks);
  return {kernel, breaks.add(serial, counter == "refcnt" ? Counter::Refs : Counter::UserRefs, at)};
}

}  // namespace

void bind_history(py::module_& m) {
  py::class_<PyHistory>(m, "Past",
                        "What bpfsim.history builds on: the steps of a machine, done again on demand.")
      .def(py::init<std::shared_ptr<PyKernel>>(), py::arg("kernel").none(false))
      .def("__len__", [](const PyHistory& h) { return h.past().size(); })
      .def_property_readonly("ended", [](const PyHistory& h) { return h.past().ended(); })
      .def_property_readonly("bytes", [](const PyHistory& h) { return h.owner->kernel.journal()->bytes(); })
      .def("step", &step_dict, py::arg("number"))
      .def(
          "graph",
          [](const PyHistory& h, size_t steps) {
            h.check_steps(steps);
            return graph_tuples(past_or_raise(h.past().graph(steps)));
          },
          py::arg("steps"))
      .def(
          "moments",
          [](const PyHistory& h, size_t number) {
            h.step(number);
            py::list rows;
            for (const Moment& moment : past_or_raise(h.past().moments(number)))
              rows.append(moment_dict(moment));
            return rows;
          },
          py::arg("number"))
      .def(
          "graph_in",
          [](const PyHistory& h, size_t number, size_t event) {
            h.step(number);
            return graph_tuples(past_or_raise(h.past().graph_in(number, event)));
          },
          py::arg("number"), py::arg("event"))
      .def("watch", &watch, py::arg("serial"))
      .def("fork_from", &fork_from, py::arg("steps"))
      .def(
          "redo",
          [](const PyHistory& h, PyKernel& fork, size_t step) {
            h.step(step);
            replay_quietly(h, fork, step, step + 1);
          },
          py::arg("fork"), py::arg("step"))
      .def("check", [](const PyHistory& h) {
        std::string difference = h.past().check();
        raise_pending();
        return difference;
      });
  py::class_<Breakpoint>(m, "Breakpoint", "Raises bpfsim.Break after the call in which a counter changed.")
      .def("remove", &Breakpoint::remove, "Stops no more. Harmless when done twice.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__", [](Breakpoint& self, const py::args&) { self.remove(); });
  m.def(
      "are_forks", [](const PyKernel& one, const PyKernel& other) { return one.lineage == other.lineage; },
      py::arg("one"), py::arg("other"),
      "Whether the two are one machine, or one was forked, directly or not.");
  m.def("break_on", &break_on, py::arg("kernel").none(false), py::arg("serial"), py::arg("counter"),
        py::arg("at"));
}

}  // namespace bpfsim
