// Models: kernel/trace/ftrace.c (Linux 6.18)
//
// The recorder's storage, and the one place where a choke point may also park its context.
#include "trace/recorder.h"

#include "trace/parking.h"

namespace bpfsim {

void Recorder::add(Machine& machine, std::unique_ptr<Event>& event) {
  if (records_.size() >= limit_) {
    ++lost_;
    return;
  }
  const Context& now = *machine.current;
  records_.push_back({records_.size(), machine.clock.now_ns, now.cpu, now.pid, now.trace_depth,
                      std::this_thread::get_id(), std::move(event)});
}

void update_watched(Machine& machine) {
  machine.watched = machine.recorder || machine.parking || !machine.watchers.empty();
}

Watcher::Watcher(Machine& machine) : machine_(machine) {
  machine.watchers.push_back(this);
  update_watched(machine);
}

Watcher::~Watcher() {
  std::erase(machine_.watchers, this);
  update_watched(machine_);
}

void choke_point(Machine& machine, std::unique_ptr<Event> event) {
  const Event& seen = *event;  // its owner may change, its place does not
  if (machine.recorder) machine.recorder->add(machine, event);
  for (Watcher* watcher : machine.watchers) watcher->see(seen);
  if (machine.parking) machine.parking->pass(seen);
}

// What `name` was called on this version; null: its kernels have no such function.
static const char* name_at(const char* name, Version version) {
  struct Row {
    std::string_view name;
    Version since;
    const char* before;
  };
  static constexpr Row rows[] = {
#define FUNCTION(name, since, before) {#name, Version::parse(since).value(), before},
#include "trace/functions.def"
#undef FUNCTION
  };
  for (const Row& row : rows)
    if (row.name == name) return row.since <= version ? name : row.before;
  return name;
}

void FunctionScope::enter() {
  const char* name = name_at(name_, machine_.version);
  if (!name) return;
  name_ = name;
  entered_ = true;
  emit<FunctionEvent>(machine_, name_, true);
  ++machine_.current->trace_depth;
}

void FunctionScope::leave() {
  --machine_.current->trace_depth;
  emit<FunctionEvent>(machine_, name_, false);
}

}  // namespace bpfsim
