// No kernel counterpart: a kernel cannot go back; a deterministic machine can, if it knows what came in.
//
// Doing a journal again, and looking at the machine while it does.
#include "history.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "kernel.h"
#include "object/registry.h"

namespace bpfsim {

namespace {

// Tells a lifetime event from all others.
template <class OnEvent>
class LifetimeWatcher final : public Watcher {
 public:
  LifetimeWatcher(Machine& machine, OnEvent on_event) : Watcher(machine), on_event_(on_event) {}
  void see(const Event& event) override {
    if (const auto* ref = dynamic_cast<const RefEvent*>(&event))
      on_event_(Moment{seen_++, ref->serial, ref->object_kind, label_of(ref->serial), true, ref->counter,
                       ref->delta, ref->after, ref->cause.str()});
    else if (const auto* life = dynamic_cast<const LifeEvent*>(&event))
      on_event_(Moment{seen_++, life->serial, life->object_kind, life->label, false, Counter::Refs, 0, 0,
                       life->what});
  }
  void next_step() { seen_ = 0; }

 private:
  std::string label_of(uint64_t serial) const {
    auto found = machine_.objects.find(serial);
    return found == machine_.objects.end() ? "" : found->second->label();
  }
  OnEvent on_event_;
  size_t seen_ = 0;
};

// A variable that has another value until the end of the block, however that is left.
template <class T>
class Lent {
 public:
  Lent(T& variable, T value) : variable_(variable), before_(std::exchange(variable, std::move(value))) {}
  ~Lent() { variable_ = std::move(before_); }
  Lent(const Lent&) = delete;

 private:
  T& variable_;
  T before_;
};

GraphPicture without(const std::set<uint64_t>& serials, GraphPicture picture) {
  std::erase_if(picture.nodes, [&](const auto& node) { return serials.contains(node.serial); });
  std::erase_if(picture.edges, [&](const auto& edge) {
    return serials.contains(edge.holder) || serials.contains(edge.held);
  });
  return picture;
}

// Where the memory of two arenas differs first; its size if nowhere. What the kernel itself chains there are
// addresses of this process: into the arena they must lead to the same place, to other objects they may
// differ.
uint64_t first_difference(const Arena& one, const Arena& other) {
  const uint8_t *bytes = one.host(kArenaBase), *others = other.host(kArenaBase);
  auto same = [&](uint64_t word, uint64_t other_word) {
    const uint64_t place = word - reinterpret_cast<uintptr_t>(bytes);
    const uint64_t other_place = other_word - reinterpret_cast<uintptr_t>(others);
    if (place < one.reserve() || other_place < other.reserve()) return place == other_place;
    auto is_address = [](uint64_t word) { return word >= 0x10000 && word < 1ull << 48; };
    return is_address(word) && is_address(other_word);
  };
  for (uint64_t page = 0; page < one.touched(); page += kPageSize) {
    if (std::memcmp(bytes + page, others + page, kPageSize) == 0) continue;
    for (uint64_t at = page; at < page + kPageSize; at += 8) {
      uint64_t word, other_word;
      std::memcpy(&word, bytes + at, 8);
      std::memcpy(&other_word, others + at, 8);
      if (word != other_word && !same(word, other_word)) return at;
    }
  }
  return one.touched();
}

}  // namespace

History::History(Kernel& live) : live_(live), journal_(*live.journal()) {}
History::~History() = default;

std::string History::text(size_t number) const {
  const JournalStep& step = journal_.steps()[number];
  return step.said.empty() ? describe_bpf(step, journal_.tape(), journal_.tape_end(number)) : step.said;
}

Result<void> History::one_step(Kernel& on, size_t number) const {
  const JournalStep& step = journal_.steps()[number];
  Machine& machine = on.machine();
  PlayingMemory memory(journal_.tape(), step.tape, journal_.tape_end(number));
  const int64_t result = [&] {
    Lent<UserMemory*> user(machine.user, &memory);
    Lent interrupted(machine.interrupted, live_.machine().interrupted);
    return on.repeat(step);
  }();
  if (memory.stopped) return refuse(Errno::Intr, "interrupted in step {}", number);
  if (result != step.result)
    return refuse(Errno::Io, "done again, step {} answered {}, not {} as before", number, result,
                  step.result);
  if (memory.astray)
    return refuse(Errno::Io, "done again, step {} read other user memory than before", number);
  if (memory.written != step.written)
    return refuse(Errno::Io, "done again, step {} wrote something else to user memory", number);
  if (Stamp(machine) != step.after)
    return refuse(Errno::Io, "done again, step {} left the clock or the counters elsewhere", number);
  return {};
}

Result<void> History::replay(Kernel& fresh, size_t begin, size_t end) const {
  const auto& types = live_.machine().registry->extra_map_types;  // but a fork may have its own
  fresh.machine().registry->extra_map_types.insert(types.begin(), types.end());
  for (size_t number = begin; number < std::min(end, size()); ++number) {
    TRY(one_step(fresh, number));
    const auto& asked = live_.machine().interrupted;
    if (number % 256 == 255 && asked && asked())
      return refuse(Errno::Intr, "interrupted before step {}", number + 1);
  }
  return {};
}

Result<std::unique_ptr<Kernel>> History::fork_from(size_t steps) const {
  auto fork = std::make_unique<Kernel>(live_.options(), journal_.most_bytes());
  TRY(replay(*fork, 0, steps));
  return fork;
}

Result<Kernel*> History::at(size_t steps) {
  if (!kept_ || kept_at_ > steps) {
    kept_ = std::make_unique<Kernel>(live_.options());
    kept_at_ = 0;
  }
  // After a failure the next one starts anew; somebody may watch this one.
  const size_t from = std::exchange(kept_at_, SIZE_MAX);
  TRY(replay(*kept_, from, steps));
  kept_at_ = steps;
  return kept_.get();
}

void History::keep(size_t steps, const GraphPicture& picture) {
  if (graphs_.size() >= 8 * kWindow) graphs_.clear();
  graphs_.insert_or_assign(steps, picture);
}

Result<GraphPicture> History::graph(size_t steps) {
  if (auto found = graphs_.find(steps); found != graphs_.end()) return found->second;
  const bool back = kept_ && kept_at_ > steps;
  if (back)
    for (size_t on_the_way = steps - std::min(steps, kWindow - 1); on_the_way < steps; ++on_the_way)
      keep(on_the_way, graph_picture(TRY(at(on_the_way))->machine()));
  const GraphPicture picture = graph_picture(TRY(at(steps))->machine());
  keep(steps, picture);
  return picture;
}

Result<std::vector<Moment>> History::moments(size_t step) {
  std::vector<Moment> seen;
  Machine& machine = TRY(at(step))->machine();
  {
    auto note = [&](Moment moment) { seen.push_back(std::move(moment)); };
    LifetimeWatcher<decltype(note)> watcher(machine, note);
    TRY(at(step + 1));
  }
  return seen;
}

Result<GraphPicture> History::graph_in(size_t step, size_t event) {
  if (inside_ == step)
    if (auto found = graphs_inside_.find(event); found != graphs_inside_.end()) return found->second;
  inside_ = step;
  graphs_inside_.clear();
  Machine& machine = TRY(at(step))->machine();
  {
    std::set<uint64_t> freed;  // their memory may go a little later, when what they held has been put
    auto look = [&](const Moment& moment) {
      if (!moment.counted && moment.cause == "freed") freed.insert(moment.serial);
      if (moment.event + kWindow > event && moment.event < event + kWindow)
        graphs_inside_.emplace(moment.event, without(freed, graph_picture(machine)));
    };
    LifetimeWatcher<decltype(look)> watcher(machine, look);
    TRY(at(step + 1));
  }
  auto found = graphs_inside_.find(event);
  if (found == graphs_inside_.end())
    return refuse(Errno::NoEnt, "step {} has no lifetime event {}", step, event);
  return found->second;
}

Result<std::vector<std::pair<size_t, Moment>>> History::watch(uint64_t serial) {
  std::vector<std::pair<size_t, Moment>> changes;
  Kernel again(live_.options());
  size_t number = 0;
  auto note = [&](Moment moment) {
    if (moment.serial == serial) changes.emplace_back(number, std::move(moment));
  };
  LifetimeWatcher<decltype(note)> watcher(again.machine(), note);
  for (; number < size(); ++number) {
    watcher.next_step();
    TRY(replay(again, number, number + 1));
  }
  return changes;
}

std::string History::check() {
  if (!ended().empty()) return ended();
  Kernel again(live_.options());
  if (Result<void> done = replay(again, 0, size()); !done) return done.refusal().reason();
  const Machine &one = live_.machine(), &other = again.machine();
  if (Stamp(one) != Stamp(other)) return "something changed the machine after the last step";
  if (graph_picture(one) != graph_picture(other))
    return "another graph:\n" + graph_picture(one).str() + "and done again:\n" + graph_picture(other).str();
  if (one.dmesg != other.dmesg) return "another kernel log";
  if (one.trace_pipe != other.trace_pipe) return "another trace_pipe";
  const uint64_t touched = one.arena.touched();
  if (touched != other.arena.touched() || one.arena.live_objects() != other.arena.live_objects())
    return "another arena: " + std::to_string(touched) + " bytes in use, done again " +
           std::to_string(other.arena.touched());
  const uint64_t at = first_difference(one.arena, other.arena);
  if (at == touched) return "";
  const Arena::Block* block = one.arena.find(kArenaBase + at);
  return "other memory, " + std::to_string(at) + " bytes into the arena" +
         (block ? std::string(", in ") + block->owner : "");
}

}  // namespace bpfsim
