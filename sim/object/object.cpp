// Models: include/linux/refcount.h, include/linux/bpf.h (Linux 6.18)
//
// Birth, death, and the one place where a reference counter changes.
#include "object/object.h"

#include <stdexcept>
#include <utility>

namespace bpfsim {

const char* object_kind_name(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::Prog: return "prog";
    case ObjectKind::Map: return "map";
    case ObjectKind::Link: return "link";
    case ObjectKind::Btf: return "btf";
    case ObjectKind::File: return "file";
    case ObjectKind::Inode: return "inode";
    case ObjectKind::Task: return "task";
    case ObjectKind::NetDevice: return "netdev";
    case ObjectKind::Cgroup: return "cgroup";
    case ObjectKind::Sock: return "sock";
    case ObjectKind::PerfEvent: return "perf_event";
    case ObjectKind::SeqFile: return "seq_file";
    case ObjectKind::Kernel: return "kernel";
    case ObjectKind::NetNs: return "netns";
  }
  return "?";
}

std::string Cause::str() const {
  Refusal text{Errno::None, what, "", {FactArg(a), FactArg(b)}};
  return text.reason();
}

Object::Object(Machine& machine, ObjectKind kind)
    : machine(machine), kind(kind), serial(machine.next_serial++) {
  machine.objects.emplace(serial, this);
}

Object::~Object() { machine.objects.erase(serial); }

std::string label_with_id(const Object& object, const std::string& name) {
  const uint32_t id = object.id ? object.id : object.former_id;
  const char* state = object.id ? "" : object.former_id ? ", id gone" : ", no id";
  return object_kind_name(object.kind) + (id ? " " + std::to_string(id) : "") +
         (name.empty() ? "" : " (" + name + ")") + state;
}

// The number is kept until the object is freed, for those who look on; the kernel's object has 0 from here
// on.
void id_is_gone(Object& object) {
  emit<LifeEvent>(object.machine, object, "id freed");
  object.former_id = std::exchange(object.id, 0);
}

int64_t Refcount::change(int delta, const Cause& cause) {
  value_ += delta;
  const int64_t after =
      value_;  // what this change made of it: another context may come in while this one is parked
  if (after < 0) throw std::logic_error("refcount of " + owner_.label() + " fell below zero: " + cause.str());
  if (ended_) throw std::logic_error("refcount of " + owner_.label() + " rose from zero: " + cause.str());
  // An inode counts only who has it open: its name keeps it too, as the machine does what it holds itself.
  const bool kept = owner_.kind == ObjectKind::Inode || owner_.is_root();
  ended_ = after == 0 && counter_ == Counter::Refs && !kept;
  Machine& machine = owner_.machine;
  // A map that a million syscalls touched keeps the beginning and the newest part of its story.
  constexpr size_t kKept = 4096;
  if (owner_.ledger.size() >= kKept)
    owner_.ledger.erase(owner_.ledger.begin() + 256, owner_.ledger.begin() + 2048);
  owner_.ledger.push_back(
      {machine.next_ref_event++, machine.clock.now_ns, counter_, int8_t(delta), after, cause});
  emit<RefEvent>(machine, owner_, counter_, delta, after, cause);
  return after;
}

void RefEvent::fields(FieldSink& sink) const {
  sink.text("object", object_kind_name(object_kind));
  sink.number("serial", int64_t(serial));
  sink.number("id", id);
  sink.text("counter", counter == Counter::Refs ? "refcnt" : "usercnt");
  sink.number("delta", delta);
  sink.number("after", after);
  sink.text("cause", cause.str());
}

void LifeEvent::fields(FieldSink& sink) const {
  sink.text("object", object_kind_name(object_kind));
  sink.number("serial", int64_t(serial));
  sink.number("id", id);
  sink.text("what", what);
  sink.text("label", label);
}

}  // namespace bpfsim
