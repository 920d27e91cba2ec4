// No kernel counterpart: a kernel cannot go back; a deterministic machine can, if it knows what came in.
//
// Past states of a machine, by doing its journal (journal.h) again on another one from boot on. Positions are
// "after so many steps", 0 being boot; inside a step they are its lifetime events (a counter went up or down,
// an object was born or freed), at each of which the graph of who holds whom can be looked at, references of
// calls in flight included. A fork is a machine of its own that has done the first steps and lives on.
//
// One machine is kept that stands at the position asked for last, so going forward costs one step. Going back
// costs a new machine and all steps before; the graphs on the way to the goal are kept, so that a walk back
// pays once for many. Departs from what design notes may suggest: no checkpoints of machines, since to make one
// anew from boot takes tens of milliseconds however long the journal (README, "Measured"), and no parked guest,
// since a watcher can look while a call runs through.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "journal.h"
#include "object/graph.h"

namespace bpfsim {

// A lifetime event inside a step.
struct Moment {
  size_t event;  // number in its step
  uint64_t serial;
  ObjectKind kind;
  std::string label;  // of an object that is born or goes
  bool counted;       // a counter changed, else the object was born or went
  Counter counter;
  int delta = 0;
  int64_t after = 0;
  std::string cause;  // or what happened: "born", "id freed", "free queued", "freed"
};

class History {
 public:
  // `live` has a journal and outlives this.
  explicit History(Kernel& live);
  ~History();

  size_t size() const { return journal_.steps().size(); }
  const JournalStep& step(size_t number) const { return journal_.steps()[number]; }
  std::string text(size_t number) const;  // "BPF(MAP_CREATE) hash \"counts\""
  const std::string& ended() const { return journal_.ended(); }

  // A machine of its own that has done the first `steps` steps. Its own history continues from there, with
  // the same bound.
  Result<std::unique_ptr<Kernel>> fork_from(size_t steps) const;
  // The same on a machine that has just booted with live.options().
  Result<void> replay(Kernel& fresh, size_t begin, size_t end) const;

  // Who held whom after the first `steps` steps.
  Result<GraphPicture> graph(size_t steps);
  // The lifetime events of a step, and the graph when one of them had just happened, without what is freed.
  Result<std::vector<Moment>> moments(size_t step);
  Result<GraphPicture> graph_in(size_t step, size_t event);
  // Every change of an object's counters, its birth and its end: (step, event), in order.
  Result<std::vector<std::pair<size_t, Moment>>> watch(uint64_t serial);

  // Does everything again and compares with the live machine: answers, clock, counters, graph, memory that
  // programs reach, kernel log. Empty when all is the same.
  std::string check();

 private:
  Result<void> one_step(Kernel& on, size_t number) const;
  Result<Kernel*> at(size_t steps);  // the kept machine, brought there
  void keep(size_t steps, const GraphPicture& picture);

  static constexpr size_t kWindow = 64;  // graphs that are taken on the way to a position further back
  Kernel& live_;
  const Journal& journal_;
  std::unique_ptr<Kernel> kept_;
  size_t kept_at_ = 0;
  std::map<size_t, GraphPicture> graphs_;
  size_t inside_ = SIZE_MAX;  // the step whose events' graphs are kept
  std::map<size_t, GraphPicture> graphs_inside_;
};

// What a call of bpf(2) was, from the attr that it read (history_text.cpp).
std::string describe_bpf(const JournalStep& step, const Tape& tape, size_t tape_end);
// What it answered: "fd 3", "0", "ENOENT".
std::string describe_result(const JournalStep& step);

}  // namespace bpfsim
