// No kernel counterpart: a kernel has many CPUs at once; here one context runs while the others stand still.
//
// The baton: `running_` names who may run, everybody else waits for it.
#include "trace/parking.h"

#include <utility>

#include "trace/recorder.h"

namespace bpfsim {

Parking::Parking(Machine& machine) : machine_(machine) {
  machine.parking = this;
  update_watched(machine);
}

Parking::~Parking() {
  for (int guest = 0; guest < int(guests_.size()); ++guest) {
    if (!guests_[size_t(guest)]->ended) resume(guest, [](const Event&) { return false; });
    guests_[size_t(guest)]->thread.join();
  }
  machine_.parking = nullptr;
  update_watched(machine_);
}

void Parking::wait_for_turn(int who) {
  const Turn turn = [&](std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    return turn_.wait_for(lock, most, [&] { return running_ == who; });
  };
  if (around_wait) return around_wait(turn);
  while (!turn(std::chrono::hours(1))) {
  }
}

void Parking::hand_over(int from, int to) {
  {
    std::lock_guard lock(mutex_);
    running_ = to;
  }
  turn_.notify_all();
  wait_for_turn(from);
}

void Parking::run_until_parked(int guest) {
  Context* host_context = std::exchange(machine_.current, &guests_[size_t(guest)]->context);
  hand_over(running_, guest);
  machine_.current = host_context;
}

int Parking::start(const Context& context, std::function<void()> body, Stop stop) {
  int number = int(guests_.size());
  guests_.push_back(std::make_unique<Guest>());
  Guest& guest = *guests_.back();
  guest.context = context;
  guest.stop = std::move(stop);
  guest.thread = std::thread([this, number, &guest, body = std::move(body)] {
    wait_for_turn(number);
    body();
    guest.ended = true;
    std::lock_guard lock(mutex_);
    running_ = kHost;
    turn_.notify_all();
  });
  run_until_parked(number);
  return number;
}

bool Parking::resume(int guest, Stop stop) {
  if (guests_[size_t(guest)]->ended) return false;
  guests_[size_t(guest)]->stop = std::move(stop);
  run_until_parked(guest);
  return !guests_[size_t(guest)]->ended;
}

void Parking::pass(const Event& event) {
  int me = running_;  // only the holder of the baton gets here, and only it may change this
  if (me == kHost || guests_[size_t(me)]->thread.get_id() != std::this_thread::get_id()) return;
  if (!guests_[size_t(me)]->stop(event)) return;
  hand_over(me, kHost);
}

}  // namespace bpfsim
