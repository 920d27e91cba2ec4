// Models: include/linux/refcount.h, include/linux/bpf.h (Linux 6.18)
//
// What has a life: programs, maps, links, BTF, files, inodes. Each is counted by references, each reference
// has a cause, and the counters keep a ledger of every +1 and -1. Apart from that, every holder can say what
// it holds (each_held); the object graph is found by walking those fields, never from the counters, so that
// "refcount equals the strong edges that arrive" is a real check of both.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/machine.h"
#include "trace/recorder.h"

namespace bpfsim {

enum class ObjectKind : uint8_t {
  Prog,
  Map,
  Link,
  Btf,
  File,
  Inode,
  Task,
  NetDevice,
  Cgroup,
  Sock,
  PerfEvent,
  SeqFile,
  Kernel,
  NetNs
};
const char* object_kind_name(ObjectKind kind);

// Why a reference exists: a literal with "{}" for up to two numbers: {"fd {} of task {}", 3, 470}.
struct Cause {
  const char* what;
  int64_t a = 0, b = 0;
  std::string str() const;
};

// Which counter of an object: a map has two (every reference, and those from user space).
enum class Counter : uint8_t { Refs, UserRefs };

struct LedgerEntry {
  uint64_t seq;  // the machine's running number of reference events
  uint64_t time_ns;
  Counter counter;
  int8_t delta;
  int64_t after;
  Cause cause;
};

struct Object;
class Refcount;

// Edges of the graph, as a holder reports them.
struct Held {
  const Object* object;
  Counter counter;  // the counter that this edge holds up
  bool strong;      // counted; a weak tie (an id, an RCU reader) is drawn only
  std::string via;  // "fd 3", "pin /sys/fs/bpf/p", "used_maps[0]"
};
using HoldVisitor = std::function<void(const Held&)>;

struct Object {
  Object(Machine& machine, ObjectKind kind);
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  virtual std::string label() const = 0;  // "prog 7 (xdp_drop)"
  virtual void each_held(const HoldVisitor&) const {}
  virtual const Refcount* counter(Counter) const { return nullptr; }  // null: it has no such counter
  virtual bool is_root() const { return false; }                      // the machine itself holds it

  Machine& machine;
  const ObjectKind kind;
  const uint64_t serial;
  uint32_t id = 0;         // in its kind's registry; 0 = none or no more
  uint32_t former_id = 0;  // that it had until it was given back; the memory waits to be freed
  std::vector<LedgerEntry> ledger;
};

// One counter of one object. Going below zero is a bug of the simulator and throws; so is another reference
// to an object whose last one has gone.
class Refcount {
 public:
  Refcount(Object& owner, Counter counter) : owner_(owner), counter_(counter) {}
  int64_t value() const { return value_; }
  void inc(const Cause& cause) { change(+1, cause); }
  bool dec_and_test(const Cause& cause) { return change(-1, cause) == 0; }

 private:
  int64_t change(int delta, const Cause& cause);
  Object& owner_;
  const Counter counter_;
  int64_t value_ = 0;
  bool ended_ = false;  // the last reference has gone
};

// Events of this station.
struct RefEvent final : Event {
  RefEvent(const Object& object, Counter counter, int delta, int64_t after, const Cause& cause)
      : object_kind(object.kind),
        serial(object.serial),
        id(object.id),
        counter(counter),
        delta(delta),
        after(after),
        cause(cause) {}
  ObjectKind object_kind;
  uint64_t serial;
  uint32_t id;
  Counter counter;
  int delta;
  int64_t after;
  Cause cause;
  const char* kind() const override { return delta > 0 ? "get" : "put"; }
  void fields(FieldSink& sink) const override;
};

struct LifeEvent final : Event {
  LifeEvent(const Object& object, const char* what)
      : object_kind(object.kind), serial(object.serial), id(object.id), what(what), label(object.label()) {}
  ObjectKind object_kind;
  uint64_t serial;
  uint32_t id;
  const char* what;  // "born", "id freed", "free queued", "freed"
  std::string label;
  const char* kind() const override { return "life"; }
  void fields(FieldSink& sink) const override;
};

// Registry of ids, as the kernel's idr: cyclic allocation from 1, so an id is not reused soon.
template <class T>
class IdRegistry {
 public:
  uint32_t alloc(T* object) {
    while (next_ == 0 || by_id_.count(next_)) ++next_;
    by_id_.emplace(next_, object);
    return next_++;
  }
  void remove(uint32_t id) { by_id_.erase(id); }
  T* find(uint32_t id) const {
    auto it = by_id_.find(id);
    return it == by_id_.end() ? nullptr : it->second;
  }
  // The first object whose id is `id` or greater; null at the end.
  T* at_or_after(uint32_t id) const {
    auto it = by_id_.lower_bound(id);
    return it == by_id_.end() ? nullptr : it->second;
  }
  size_t size() const { return by_id_.size(); }

 private:
  std::map<uint32_t, T*> by_id_;
  uint32_t next_ = 1;
};

}  // namespace bpfsim
