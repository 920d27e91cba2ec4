// The recorder for Python: records as plain values.
#include <algorithm>
#include <thread>

#include "bind.h"

namespace bpfsim {

namespace {

// One recorded event. Fields are read when asked for; the recorder keeps the event itself.
struct RecordView {
  std::shared_ptr<Recorder> recorder;
  size_t at;
  const Record& record() const { return recorder->records()[at]; }
};

// Which of the events from `begin` on this thread has made; nearly always all.
py::object own_events(const Recorder& recorder, size_t begin) {
  const auto& records = recorder.records();
  auto ours = [](const Record& record) { return record.thread == std::this_thread::get_id(); };
  const size_t end = records.size();
  if (begin >= end || std::all_of(records.begin() + ptrdiff_t(begin), records.end(), ours))
    return py::module_::import("builtins").attr("range")(begin, end);
  py::list own;
  for (size_t at = begin; at < end; ++at)
    if (ours(records[at])) own.append(at);
  return own;
}

}  // namespace

void bind_trace(py::module_& m) {
  py::class_<RecordView>(m, "Record", "One event of a recording.")
      .def_property_readonly(
          "seq", [](const RecordView& v) { return v.record().seq; },
          "Its number in the machine's whole life; gaps are what was not recorded.")
      .def_property_readonly(
          "time_ns", [](const RecordView& v) { return v.record().time_ns; }, "Simulated time.")
      .def_property_readonly(
          "cpu", [](const RecordView& v) { return v.record().cpu; }, "The CPU it happened on.")
      .def_property_readonly(
          "pid", [](const RecordView& v) { return v.record().pid; },
          "The task that called; 0 where none did.")
      .def_property_readonly(
          "depth", [](const RecordView& v) { return v.record().depth; },
          "How many kernel functions it is inside of.")
      .def_property_readonly(
          "kind", [](const RecordView& v) { return v.record().event->kind(); },
          "'enter', 'leave', 'get', 'put', 'map_op', ...: which fields it has.")
      .def_property_readonly(
          "fields", [](const RecordView& v) { return event_fields(*v.record().event); },
          "What the event says, by name.")
      .def("__repr__", [](const RecordView& v) {
        return py::str("<{} {}>").format(v.record().event->kind(), event_fields(*v.record().event));
      });
  py::class_<Recorder, std::shared_ptr<Recorder>>(m, "Recorder", "A list of events, up to a limit.")
      .def(py::init<size_t>(), py::arg("limit") = 1'000'000)
      .def("__len__", [](const Recorder& r) { return r.records().size(); })
      .def("__getitem__",
           [](std::shared_ptr<Recorder> r, py::ssize_t at) {
             py::ssize_t size = py::ssize_t(r->records().size());
             if (at < 0) at += size;
             if (at < 0 || at >= size)
               throw py::index_error("the recording has " + std::to_string(size) + " events");
             return RecordView{std::move(r), size_t(at)};
           })
      .def("own", &own_events, py::arg("begin"),
           "The places of the events from `begin` on that this thread made.")
      .def("make_room", &Recorder::make_room, py::arg("more"), "At least so many more events are kept.")
      .def_property_readonly("lost", &Recorder::lost, "Events after the limit was reached.");
}

}  // namespace bpfsim
