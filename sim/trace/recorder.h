// Models: kernel/trace/ftrace.c (Linux 6.18)
//
// What teaches is a record here; the verifier's log, which is kernel behaviour, is another channel. A choke
// point calls emit<SomeEvent>(machine, fields...): one branch when nobody watches. Each station declares its
// own events. KFN(machine, check_cfg) opens a function-graph scope: the functions that a load passes are
// found nowhere else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/machine.h"

namespace bpfsim {

// How an event shows its fields to a view, a test or Python.
struct FieldSink {
  virtual ~FieldSink() = default;
  virtual void number(const char* name, int64_t value) = 0;
  virtual void address(const char* name, uint64_t value) = 0;
  virtual void text(const char* name, std::string_view value) = 0;
};

struct Event {
  virtual ~Event() = default;
  virtual const char* kind() const = 0;
  virtual void fields(FieldSink&) const = 0;
};

struct Record {
  uint64_t seq, time_ns;
  uint32_t cpu;
  int pid;
  int depth;               // of the function graph
  std::thread::id thread;  // the host's: several may use a machine, one after the other
  std::unique_ptr<Event> event;
};

class Recorder {
 public:
  explicit Recorder(size_t limit = 1'000'000) : limit_(limit) {}
  // Takes the event unless the limit is reached; then it is counted as lost and left to the caller.
  void add(Machine& machine, std::unique_ptr<Event>& event);
  const std::vector<Record>& records() const { return records_; }
  uint64_t lost() const { return lost_; }  // events after the limit was reached
  void make_room(size_t more) { limit_ = std::max(limit_, records_.size() + more); }

 private:
  std::vector<Record> records_;
  size_t limit_;
  uint64_t lost_ = 0;
};

// Hears of every choke point as it is passed, while the machine stands in it.
class Watcher {
 public:
  explicit Watcher(Machine& machine);
  virtual ~Watcher();
  Watcher(const Watcher&) = delete;
  virtual void see(const Event& event) = 0;

 protected:
  Machine& machine_;
};

// Whether anybody hears of choke points has changed.
void update_watched(Machine& machine);

// Starts and stops recording on a machine. Recorders do not nest: the newest one hears.
class Recording {
 public:
  Recording(Machine& machine, Recorder& recorder) : machine_(machine), before_(machine.recorder) {
    machine.recorder = &recorder;
    update_watched(machine);
  }
  ~Recording() {
    machine_.recorder = before_;
    update_watched(machine_);
  }
  Recording(const Recording&) = delete;

 private:
  Machine& machine_;
  Recorder* before_;
};

void choke_point(Machine& machine, std::unique_ptr<Event> event);

template <class E, class... Args>
inline void emit(Machine& machine, Args&&... args) {
  if (machine.watched) [[unlikely]]
    choke_point(machine, std::make_unique<E>(std::forward<Args>(args)...));
}

// A kernel function is entered and left.
struct FunctionEvent final : Event {
  FunctionEvent(const char* name, bool enter) : name(name), enter(enter) {}
  const char* name;
  bool enter;
  const char* kind() const override { return enter ? "enter" : "leave"; }
  void fields(FieldSink& sink) const override { sink.text("function", name); }
};

class FunctionScope {
 public:
  FunctionScope(Machine& machine, const char* name) : machine_(machine), name_(name) {
    if (machine.watched) [[unlikely]]
      enter();
  }
  ~FunctionScope() {
    if (entered_) [[unlikely]]
      leave();
  }
  FunctionScope(const FunctionScope&) = delete;

 private:
  void enter();
  void leave();
  Machine& machine_;
  const char* name_;
  bool entered_ = false;
};

#define KFN(machine, function) ::bpfsim::FunctionScope kernel_function_scope((machine), #function)

}  // namespace bpfsim
