// Models: kernel/rcu/tree.c (Linux 6.18)
//
// Read-copy-update as far as object lifetime needs it: the last put queues a free, and the free happens after
// a grace period, when every reader that could still see the object has left. Here a grace period ends when
// the outermost call into the kernel returns and no program is inside a read section on any CPU, unless a
// lesson holds it open. Departs from the kernel: callbacks run at once at that point, in order.
#pragma once

#include <deque>
#include <functional>
#include <string>

namespace bpfsim {

class Rcu {
 public:
  using Callback = std::function<void()>;

  void read_lock() { ++readers_; }
  void read_unlock() { --readers_; }
  int readers() const { return readers_; }

  // `what` names the free in views: "bpf_prog#7". `object` is the address that identifies what waits.
  void call_rcu(std::string what, const void* object, Callback callback);

  void hold() { held_ = true; }
  void release() { held_ = false; }
  bool held() const { return held_; }

  // Runs every callback, also those that they queue, if nobody reads and nobody holds the period open.
  // Returns how many ran.
  int grace_period();

  struct Waiting {
    std::string what;
    const void* object;
    Callback callback;
  };
  const std::deque<Waiting>& waiting() const { return waiting_; }

 private:
  std::deque<Waiting> waiting_;
  int readers_ = 0;
  bool held_ = false, running_ = false;
};

class RcuReader {
 public:
  explicit RcuReader(Rcu& rcu) : rcu_(rcu) { rcu_.read_lock(); }
  ~RcuReader() { rcu_.read_unlock(); }
  RcuReader(const RcuReader&) = delete;

 private:
  Rcu& rcu_;
};

}  // namespace bpfsim
