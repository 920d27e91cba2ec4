// No kernel counterpart: a kernel cannot go back; a deterministic machine can, if it knows what came in.
//
// The journal at the machine's door. Whatever changes a machine from outside goes through a member of Kernel,
// and each of those is one line, `return door(...)`. For every call the journal keeps how to do it again,
// what it learned from outside while it ran (the tape: bytes read of user memory, writes that faulted, an
// interrupt), what it answered, and where the machine stood afterwards. That is enough to do it again on
// another machine (history.h), and to notice when that goes another way.
//
// A journal ends where it would not be true any more: at its bound on memory, where something has changed the
// machine without a door, or where a context is parked. What was kept until then stays good.
#pragma once

#include <concepts>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/machine.h"
#include "trace/recorder.h"

namespace bpfsim {

class Kernel;

// What a call is, in words: {"close({})", fd}. Lives as long as the door is being opened, and is formatted
// only when somebody keeps it.
class Says {
 public:
  template <class... Args>
  Says(const char* format, const Args&... args) : format_(format), words_{Word(args)...} {
    static_assert(sizeof...(args) <= 3, "a call in words names at most three values");
  }
  Says(int bpf_command, uint64_t uattr) : command(bpf_command), uattr(uattr) {}  // its words are on the tape
  std::string str() const;

  const int command = -1;
  const uint64_t uattr = 0;

 private:
  struct Word {
    Word() = default;
    template <std::integral T>
    Word(T number) : number(uint64_t(number)), is_signed(std::is_signed_v<T>) {}
    Word(std::string_view text) : text(text), is_text(true) {}
    std::string_view text;
    uint64_t number = 0;
    bool is_signed = false, is_text = false;
  };
  const char* format_ = "";
  Word words_[3];
};

// What a call answered, as one number: a descriptor, a pid, a verdict, or -errno.
template <class T>
int64_t outcome(const T& value) {
  if constexpr (std::is_integral_v<T>) return int64_t(value);
  if constexpr (requires { value.verdict; }) return int64_t(value.verdict);
  if constexpr (requires { value.pid; }) return int64_t(value.pid);
  return 0;
}
template <class T>
int64_t outcome(const Result<T>& result) {
  if (!result) return -int64_t(result.err());
  if constexpr (std::is_void_v<T>)
    return 0;
  else
    return outcome(*result);
}

std::string describe_command(int command);  // "BPF(MAP_CREATE)" (history_text.cpp)

// A call is about to enter the machine through one of its doors.
struct CallEvent final : Event {
  CallEvent(int pid, std::string text) : pid(pid), text(std::move(text)) {}
  int pid;  // 0: the world outside
  std::string text;
  const char* kind() const override { return "call"; }
  void fields(FieldSink& sink) const override {
    sink.number("pid", pid);
    sink.text("text", text);
  }
};

// Where a machine stands. Two machines that went the same way stand at the same place.
struct Stamp {
  uint64_t time_ns, ref_events, serials;
  Stamp() : time_ns(0), ref_events(0), serials(0) {}
  explicit Stamp(const Machine& machine)
      : time_ns(machine.clock.now_ns), ref_events(machine.next_ref_event), serials(machine.next_serial) {}
  bool operator==(const Stamp&) const = default;
};

// What calls learned from outside, one record behind the other.
class Tape {
 public:
  enum What : uint8_t { Read, Handed, ReadFault, WriteFault, Interrupt };
  struct Record {
    What what;
    uint64_t where;  // the user address; the number of the write or check; 0 for what was handed over
    uint32_t size;
    const uint8_t* bytes;
  };
  void add(What what, uint64_t where, const void* bytes, size_t size);
  Record at(size_t offset) const;
  size_t after(size_t offset) const;  // where the next record begins
  size_t size() const { return bytes_.size(); }
  void cut(size_t size) { bytes_.resize(size); }

 private:
  static constexpr size_t kHead = 13;
  std::vector<uint8_t> bytes_;
};

// One call that enters the machine, and how to make it again.
struct JournalCall {
  int pid = 0;       // 0: no task's; the world outside did it
  int command = -1;  // of bpf(2)
  uint64_t uattr = 0;
  std::string said;  // other calls in words
  std::function<int64_t(Kernel&, Task*)> again;
};

// And what came of it.
struct JournalStep : JournalCall {
  static constexpr int64_t kThrew = INT64_MIN;  // a bug of the simulator was thrown through it

  explicit JournalStep(JournalCall call) : JournalCall(std::move(call)) {}
  size_t tape = 0;  // where what it learned begins
  int64_t result = kThrew;
  uint64_t written = 0;  // a hash of what it wrote to user memory
  Stamp after;
};

// User memory that tapes what passes, or that plays a tape.
class TapingMemory final : public UserMemory {
 public:
  bool read(void* to, uint64_t user, size_t size) override;
  bool write(uint64_t user, const void* from, size_t size) override;
  std::span<const uint8_t> handed(std::span<const uint8_t> bytes) override;
  bool interrupts(uint64_t check, bool asked) override;

  UserMemory* inner = nullptr;
  Tape tape;
  size_t most = 0;  // bytes that the tape may have
  bool full = false;
  uint64_t written = 0, writes = 0;

 private:
  bool room(size_t size);
};

class PlayingMemory final : public UserMemory {
 public:
  PlayingMemory(const Tape& tape, size_t begin, size_t end) : tape_(tape), at_(begin), end_(end) {}
  bool read(void* to, uint64_t user, size_t size) override;
  bool write(uint64_t user, const void* from, size_t size) override;
  std::span<const uint8_t> handed(std::span<const uint8_t> bytes) override;
  bool interrupts(uint64_t check, bool asked) override;

  uint64_t written = 0;
  bool astray = false;   // the call asked for something that it had not asked for the first time
  bool stopped = false;  // the host wants the playing to stop

 private:
  bool next_is(Tape::What what, uint64_t where);
  const Tape& tape_;
  size_t at_, end_;
  uint64_t writes_ = 0;
};

class Journal {
 public:
  Journal(Machine& machine, size_t most_bytes);

  // Whether a call that enters now is to be kept: false inside of one, and after the end of the journal.
  bool listens();
  void open(JournalCall call);
  void close(int64_t result);

  const std::deque<JournalStep>& steps() const { return steps_; }
  const Tape& tape() const { return memory_.tape; }
  size_t tape_end(size_t step) const {
    return step + 1 < steps_.size() ? steps_[step + 1].tape : tape().size();
  }
  const Stamp& before(size_t step) const { return step ? steps_[step - 1].after : boot_; }
  const std::string& ended() const { return ended_; }  // why it goes on no more; empty while it does
  bool inside() const { return inside_; }
  size_t bytes() const { return tape().size() + steps_.size() * sizeof(JournalStep) + said_; }
  size_t most_bytes() const { return most_; }

 private:
  void end(const std::string& why);

  Machine& machine_;
  const size_t most_;
  std::deque<JournalStep> steps_;
  TapingMemory memory_;
  const Stamp boot_;
  std::string ended_;
  size_t said_ = 0;
  bool inside_ = false;
};

// The time that a call spends inside, also when something is thrown through it.
class JournalEntry {
 public:
  JournalEntry(Journal& journal, JournalCall call) : journal_(journal) { journal.open(std::move(call)); }
  ~JournalEntry() {
    if (open_) journal_.close(JournalStep::kThrew);
  }
  JournalEntry(const JournalEntry&) = delete;
  void close(int64_t result) {
    open_ = false;
    journal_.close(result);
  }

 private:
  Journal& journal_;
  bool open_ = true;
};

}  // namespace bpfsim
