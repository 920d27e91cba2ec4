// No kernel counterpart: a kernel runs a program to its end; a lesson wants to stand between two
// instructions.
//
// An XDP program in the checked engine, in the middle of a packet that came from nowhere (lo is its device).
// Like any running program it is an RCU reader: what it uses is not freed before it is done or forgotten.
// Not modelled yet: stepping programs of other types.
#pragma once

#include <memory>
#include <span>

#include "host/packet.h"
#include "object/file.h"
#include "run/checked.h"

namespace bpfsim {

class SteppedRun {
 public:
  static Result<std::unique_ptr<SteppedRun>> start(Task& task, int prog_fd, std::span<const uint8_t> packet);
  ~SteppedRun() { finish(); }
  SteppedRun(const SteppedRun&) = delete;

  bool step();                                          // false when the program has ended
  const CheckedRun* now() const { return run_.get(); }  // null when it has
  const RunOutcome& outcome() const { return outcome_; }

 private:
  SteppedRun(Prog& prog, std::unique_ptr<XdpPacket> packet);
  void finish();

  Machine& machine_;
  std::unique_ptr<XdpPacket> packet_;
  std::unique_ptr<CheckedRun> run_;
  RunOutcome outcome_{};
};

}  // namespace bpfsim
