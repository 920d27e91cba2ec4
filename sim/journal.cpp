// No kernel counterpart: a kernel cannot go back; a deterministic machine can, if it knows what came in.
//
// Taping and playing what a call learns from outside, and when a journal ends.
#include "journal.h"

#include <cstring>
#include <utility>

namespace bpfsim {

namespace {

uint64_t mixed(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15;
  return hash ^ hash >> 32;
}

uint64_t mixed(uint64_t hash, uint64_t user, const void* from, size_t size) {
  hash = mixed(mixed(hash, user), size);
  const auto* bytes = static_cast<const uint8_t*>(from);
  uint64_t word = 0;
  for (; size >= sizeof word; size -= sizeof word, bytes += sizeof word) {
    std::memcpy(&word, bytes, sizeof word);
    hash = mixed(hash, word);
  }
  word = 0;
  if (size) std::memcpy(&word, bytes, size);
  return mixed(hash, word);
}

}  // namespace

std::string Says::str() const {
  std::string text;
  const Word* word = words_;
  for (std::string_view rest = format_; !rest.empty(); rest.remove_prefix(1)) {
    if (!rest.starts_with("{}")) {
      text += rest.front();
      continue;
    }
    rest.remove_prefix(1);
    text += word->is_text     ? std::string(word->text)
            : word->is_signed ? std::to_string(int64_t(word->number))
                              : std::to_string(word->number);
    ++word;
  }
  return text;
}

void Tape::add(What what, uint64_t where, const void* bytes, size_t size) {
  const size_t at = bytes_.size();
  const auto size32 = uint32_t(size);
  bytes_.resize(at + kHead + (what <= Handed ? size : 0));
  uint8_t* to = bytes_.data() + at;
  *to = what;
  std::memcpy(to + 1, &where, sizeof where);
  std::memcpy(to + 9, &size32, sizeof size32);
  if (what <= Handed && size) std::memcpy(to + kHead, bytes, size);
}

Tape::Record Tape::at(size_t offset) const {
  const uint8_t* from = bytes_.data() + offset;
  Record record{What(*from), 0, 0, from + kHead};
  std::memcpy(&record.where, from + 1, sizeof record.where);
  std::memcpy(&record.size, from + 9, sizeof record.size);
  return record;
}

size_t Tape::after(size_t offset) const {
  const Record record = at(offset);
  return offset + kHead + (record.what <= Handed ? record.size : 0);
}

bool TapingMemory::room(size_t size) {
  full = full || size > most || tape.size() > most - size;
  return !full;
}

bool TapingMemory::read(void* to, uint64_t user, size_t size) {
  const bool done = inner->read(to, user, size);
  if (room(done ? size : 0)) tape.add(done ? Tape::Read : Tape::ReadFault, user, done ? to : nullptr, size);
  return done;
}

bool TapingMemory::write(uint64_t user, const void* from, size_t size) {
  const bool done = inner->write(user, from, size);
  ++writes;
  if (done)
    written = mixed(written, user, from, size);
  else if (room(0))
    tape.add(Tape::WriteFault, writes, nullptr, 0);
  return done;
}

std::span<const uint8_t> TapingMemory::handed(std::span<const uint8_t> bytes) {
  bytes = inner->handed(bytes);
  if (room(bytes.size())) tape.add(Tape::Handed, 0, bytes.data(), bytes.size());
  return bytes;
}

bool TapingMemory::interrupts(uint64_t check, bool asked) {
  const bool stop = inner->interrupts(check, asked);
  if (stop && room(0)) tape.add(Tape::Interrupt, check, nullptr, 0);
  return stop;
}

bool PlayingMemory::next_is(Tape::What what, uint64_t where) {
  if (at_ >= end_) return false;
  const Tape::Record record = tape_.at(at_);
  return record.what == what && record.where == where;
}

bool PlayingMemory::read(void* to, uint64_t user, size_t size) {
  const bool faulted = next_is(Tape::ReadFault, user);
  if (!faulted && !next_is(Tape::Read, user)) astray = true;
  if (astray) return false;
  const Tape::Record record = tape_.at(at_);
  if (record.size != uint32_t(size)) astray = true;
  if (astray) return false;
  at_ = tape_.after(at_);
  if (faulted) return false;
  if (size) std::memcpy(to, record.bytes, size);
  return true;
}

bool PlayingMemory::write(uint64_t user, const void* from, size_t size) {
  if (next_is(Tape::WriteFault, ++writes_)) {
    at_ = tape_.after(at_);
    return false;
  }
  written = mixed(written, user, from, size);
  return true;
}

std::span<const uint8_t> PlayingMemory::handed(std::span<const uint8_t>) {
  if (!next_is(Tape::Handed, 0)) {
    astray = true;
    return {};
  }
  const Tape::Record record = tape_.at(at_);
  at_ = tape_.after(at_);
  return {record.bytes, record.size};
}

bool PlayingMemory::interrupts(uint64_t check, bool asked) {
  stopped = stopped || asked;
  if (stopped) return true;
  if (!next_is(Tape::Interrupt, check)) return false;
  at_ = tape_.after(at_);
  return true;
}

Journal::Journal(Machine& machine, size_t most_bytes) : machine_(machine), most_(most_bytes), boot_(machine) {
  memory_.most = most_bytes;
}

void Journal::end(const std::string& why) {
  ended_ = "the history ends before step " + std::to_string(steps_.size()) + ": " + why;
}

bool Journal::listens() {
  if (inside_ || !ended_.empty()) return false;
  if (machine_.parking)
    end("a machine on which contexts are parked does not run its calls one after the other");
  else if (Stamp(machine_) != before(steps_.size()))
    end("something changed the machine without going through a door of Kernel");
  else if (bytes() >= most_)
    end("it holds " + std::to_string(most_ >> 20) + " MiB, its bound");
  return ended_.empty();
}

void Journal::open(JournalCall call) {
  inside_ = true;
  memory_.inner = std::exchange(machine_.user, &memory_);
  memory_.written = memory_.writes = 0;
  steps_.emplace_back(std::move(call)).tape = tape().size();
}

void Journal::close(int64_t result) {
  machine_.user = memory_.inner;
  inside_ = false;
  JournalStep& step = steps_.back();
  step.result = result;
  step.written = memory_.written;
  step.after = Stamp(machine_);
  if (!step.said.empty()) said_ += 2 * step.said.capacity();  // about what the door has captured as well
  if (!memory_.full) return;
  memory_.tape.cut(step.tape);
  steps_.pop_back();
  end("what the next call reads does not fit into its bound of " + std::to_string(most_ >> 20) + " MiB");
}

}  // namespace bpfsim
