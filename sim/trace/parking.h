// No kernel counterpart: a kernel has many CPUs at once; here one context runs while the others stand still.
//
// A guest is a context (a task's syscall, or a program on another CPU) that can be held at any choke point
// while the rest of the machine goes on: race explorers, stepping, and "a program still runs on CPU 1" need
// it. Each guest has a thread of the host for its stack, and one baton passes between them, so exactly one
// runs at any moment and the order is the caller's. A machine that parks nobody has no thread and pays
// nothing. A machine that ends while guests stand in it lets each run to its end first.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/machine.h"

namespace bpfsim {

struct Event;

class Parking {
 public:
  using Stop = std::function<bool(const Event&)>;  // should the guest be held at this choke point?

  explicit Parking(Machine& machine);
  ~Parking();
  Parking(const Parking&) = delete;

  // Runs `body` as a guest until `stop` holds it or it ends. Returns the guest's number.
  int start(const Context& context, std::function<void()> body, Stop stop);
  // Lets a parked guest go on. True when it is parked again, false when it has ended.
  bool resume(int guest, Stop stop);
  bool parked(int guest) const { return !guests_[size_t(guest)]->ended; }
  const Context& context(int guest) const { return guests_[size_t(guest)]->context; }

  void pass(const Event& event);  // choke_point() asks here; a thread that is no guest's goes on

  // Who hosts the machine may want to do something while it waits: Python lets go of its lock, and looks for
  // Ctrl-C. Waits for so long at most; whether the turn has come.
  using Turn = std::function<bool(std::chrono::milliseconds most)>;
  std::function<void(const Turn& turn)> around_wait;

 private:
  struct Guest {
    Context context;
    Stop stop;
    std::thread thread;
    bool ended = false;
  };
  static constexpr int kHost = -1;
  void hand_over(int from, int to);
  void wait_for_turn(int who);
  void run_until_parked(int guest);

  Machine& machine_;
  std::vector<std::unique_ptr<Guest>> guests_;
  std::mutex mutex_;
  std::condition_variable turn_;
  int running_ = kHost;
};

}  // namespace bpfsim
