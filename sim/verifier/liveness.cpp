// Models: kernel/bpf/liveness.c (Linux 6.18)
//
// Which stack slots a later instruction may read. In words:
//
// - Functions are judged once for each chain of calls that leads to them, since their pointers reach other
//   slots each time. The chains are a tree: an Activation is a function called from one place of another
//   Activation.
// - The walk tells, for each instruction and each frame of its chain, which slots it may read (on some
//   visit) and which it must write (on every visit).
// - From these follows the outlook before an instruction: a slot lives if some path from there reads it
//   before it is overwritten; it will be written if every path from there does so. Outlooks are computed
//   from the last instruction to the first, again and again until nothing changes.
// - What a function does to a frame of its callers, the call there does: the outlook at its entry is
//   handed up.
//
// May-read sets only grow and must-write sets only shrink, so the computation can be resumed at any time;
// it is, whenever a path ends. Departs from the kernel: it finds the function of a chain by hashing the
// list of call sites, and the caller's by hashing a shorter list; here these are steps in the tree.
#include "verifier/liveness.h"

#include <map>

#include "verifier/print_state.h"

namespace bpfsim {
namespace {

using Slots = uint64_t;  // bit 0 is fp-8, bit 1 fp-16, ...

struct Outlook {
  Slots live = 0, written = 0;
  bool operator==(const Outlook&) const = default;
};

// One instruction and one frame.
struct Marks {
  Slots may_read = 0, must_write = 0;
  Outlook before;
};

struct Activation {
  Activation(const bpf_verifier_env& env, uint32_t subprog, Activation* caller, uint32_t callsite)
      : caller(caller),
        callsite(callsite),
        depth(caller ? caller->depth + 1 : 0),
        subprog(subprog),
        start(env.subprog_info[subprog].start),
        visited(env.subprog_info[subprog + 1].start - start) {}

  Marks& marks(uint32_t frame, uint32_t insn) {
    if (frames[frame].empty()) frames[frame].resize(visited.size());
    return frames[frame][insn - start];
  }
  bool touches(uint32_t frame) const { return !frames[frame].empty(); }
  bool lives(uint32_t frame, uint32_t insn, uint32_t slot) const {
    return touches(frame) && (frames[frame][insn - start].before.live >> slot & 1);
  }

  void reads(uint32_t frame, uint32_t insn, Slots slots);
  void end_visit(uint32_t insn, const Slots* writes);

  std::string calls() const { return caller ? caller->calls() + std::to_string(callsite) + ',' : ""; }
  std::string name() const { return '(' + calls() + std::to_string(start) + ')'; }

  Activation* const caller;
  const uint32_t callsite;  // the caller's instruction
  const uint32_t depth;     // how many callers there are: the number of its own frame
  const uint32_t subprog, start;
  std::map<std::pair<uint32_t, uint32_t>, std::unique_ptr<Activation>> callees;  // by call and subprogram
  std::vector<Marks> frames[MAX_CALL_FRAMES];  // by instruction; empty until the frame is touched
  std::vector<bool> visited;                   // by instruction: its must_write means something
  bool news = false;                           // the outlooks are out of date
  bool writes_less = false;                    // some must_write has shrunk since they were computed
};

// What is known to live already is no news.
void Activation::reads(uint32_t frame, uint32_t insn, Slots slots) {
  Marks& here = marks(frame, insn);
  const bool more = slots & ~here.may_read;
  here.may_read |= slots;
  if (more && (here.may_read & ~here.before.live)) news = true;
}

void Activation::end_visit(uint32_t insn, const Slots* writes) {
  const bool first = !visited[insn - start];
  for (uint32_t frame = 0; frame <= depth; frame++) {
    if (first && writes[frame] == 0) continue;
    Slots& must_write = marks(frame, insn).must_write;
    const Slots every_time = first ? writes[frame] : writes[frame] & must_write;
    if (every_time == must_write) continue;
    news = true;
    if (!first) writes_less = true;
    must_write = every_time;
  }
  visited[insn - start] = true;
}

std::string change(const char* what, Slots before, Slots after) {
  const Slots more = after & ~before, less = before & ~after;
  std::string text;
  if (more) text += std::string("+") + what + ' ' + bpf_fmt_stack_mask(more) + ' ';
  if (less) text += std::string("-") + what + ' ' + bpf_fmt_stack_mask(less);
  return text;
}

void log_change(bpf_verifier_env& env, const Activation& in, uint32_t frame, uint32_t insn,
                const Outlook& before, const Outlook& after) {
  const std::string at =
      in.name() + " frame " + std::to_string(frame) + " insn " + std::to_string(insn) + ' ';
  for (const std::string& text :
       {change("live", before.live, after.live), change("written", before.written, after.written)})
    if (!text.empty()) bpf_vlog_write(env.log, at + text + '\n');
}

// Takes the outlook before one instruction from those behind it. Behind an exit there is none: it stays
// empty.
bool look_ahead(bpf_verifier_env& env, Activation& in, uint32_t frame, uint32_t insn) {
  uint32_t next[2] = {};
  const int ways = bpf_insn_successors(env.insns, insn, next);
  if (ways == 0) return false;
  Outlook outlook{0, ~Slots{0}};
  for (int way = 0; way < ways; way++) {
    const Outlook& behind = in.marks(frame, next[way]).before;
    outlook.live |= behind.live;
    outlook.written &= behind.written;
  }
  Marks& here = in.marks(frame, insn);
  outlook.live = here.may_read | (outlook.live & ~here.must_write);
  outlook.written |= here.must_write;
  if (outlook == here.before) return false;
  const bool shown =
      here.may_read || here.must_write || insn == in.start || env.insn_aux_data[insn].prune_point;
  if (shown && log_level2(env)) log_change(env, in, frame, insn, here.before, outlook);
  here.before = outlook;
  return true;
}

bool look_ahead_everywhere(bpf_verifier_env& env, Activation& in) {
  const auto& order = env.cfg.insn_postorder;
  bool changed = false;
  for (uint32_t frame = 0; frame <= in.depth; frame++)
    for (uint32_t i = env.subprog_info[in.subprog].postorder_start;
         in.touches(frame) && i < env.subprog_info[in.subprog + 1].postorder_start; i++)
      changed |= look_ahead(env, in, frame, order[i]);
  return changed;
}

void hand_up(Activation& callee) {
  Slots writes[MAX_CALL_FRAMES] = {};
  for (uint32_t frame = 0; frame < callee.depth; frame++) {
    if (!callee.touches(frame)) continue;
    const Outlook& entry = callee.marks(frame, callee.start).before;
    callee.caller->reads(frame, callee.callsite, entry.live);
    writes[frame] = entry.written;
  }
  callee.caller->end_visit(callee.callsite, writes);
}

void compute(bpf_verifier_env& env, Activation& in) {
  // Around a loop, "will be written" would be its own reason to stay: begin anew.
  if (in.writes_less)
    for (std::vector<Marks>& frame : in.frames)
      for (Marks& marks : frame) marks.before.written = 0;
  int rounds = 1;
  while (look_ahead_everywhere(env, in)) rounds++;
  if (log_level2(env))
    verbose(env, "%s live stack update done in %d iterations\n", in.name().c_str(), rounds);
  if (in.caller) hand_up(in);
  in.news = in.writes_less = false;
}

}  // namespace

struct BpfLiveness {
  std::map<uint32_t, std::unique_ptr<Activation>> roots;  // by subprogram: what is verified on its own
  Activation* current = nullptr;                          // of the walk; null until it is asked for
  uint32_t insn = 0;                                      // that the walk is at,
  Slots writes[MAX_CALL_FRAMES] = {};                     // and what it has written there, by frame
  const Activation* asked = nullptr;                      // the state that questions are about,
  uint32_t asked_insn = 0;                                // and where it stands
};

static Activation& activation_of(bpf_verifier_env& env, const bpf_verifier_state& st, uint32_t depth) {
  Activation* at = nullptr;
  for (uint32_t frame = 0; frame <= depth; frame++) {
    const uint32_t subprog = st.frame[frame]->subprogno, callsite = uint32_t(st.frame[frame]->callsite);
    auto& place = at ? at->callees[{callsite, subprog}] : env.liveness->roots[subprog];
    if (!place) place = std::make_unique<Activation>(env, subprog, at, at ? callsite : 0);
    at = place.get();
  }
  return *at;
}

static Activation& current(bpf_verifier_env& env) {
  Activation*& at = env.liveness->current;
  if (!at) at = &activation_of(env, *env.cur_state, env.cur_state->curframe);
  return *at;
}

Errno bpf_stack_liveness_init(bpf_verifier_env& env) {
  env.liveness = std::make_shared<BpfLiveness>();
  return Errno::None;
}

void bpf_reset_live_stack_callchain(bpf_verifier_env& env) { env.liveness->current = nullptr; }

Errno bpf_mark_stack_read(bpf_verifier_env& env, uint32_t frame, uint32_t insn_idx, uint64_t mask) {
  current(env).reads(frame, insn_idx, mask);
  return Errno::None;
}

Errno bpf_reset_stack_write_marks(bpf_verifier_env& env, uint32_t insn_idx) {
  const uint32_t depth = current(env).depth;
  env.liveness->insn = insn_idx;
  for (uint32_t frame = 0; frame <= depth; frame++) env.liveness->writes[frame] = 0;
  return Errno::None;
}

void bpf_mark_stack_write(bpf_verifier_env& env, uint32_t frame, uint64_t mask) {
  env.liveness->writes[frame] |= mask;
}

// An instruction that entered or left a function has no marks of its own: a call's come from the callee.
Errno bpf_commit_stack_write_marks(bpf_verifier_env& env) {
  const BpfLiveness& liveness = *env.liveness;
  if (liveness.current) liveness.current->end_visit(liveness.insn, liveness.writes);
  return Errno::None;
}

Errno bpf_update_live_stack(bpf_verifier_env& env) {
  bpf_reset_live_stack_callchain(env);
  Activation* at = &activation_of(env, *env.cur_state, env.cur_state->curframe);
  for (; at; at = at->caller)  // a callee's news become its caller's
    if (at->news) compute(env, *at);
  return Errno::None;
}

Errno bpf_live_stack_query_init(bpf_verifier_env& env, const bpf_verifier_state& st) {
  env.liveness->asked = &activation_of(env, st, st.curframe);
  env.liveness->asked_insn = st.insn_idx;
  return Errno::None;
}

// The innermost function reads it, or one of its callers, down to the slot's own, once the call there has
// returned. A call that runs a callback again and again counts as not yet made.
bool bpf_stack_slot_alive(bpf_verifier_env& env, uint32_t frameno, uint32_t spi) {
  const Activation* at = env.liveness->asked;
  uint32_t insn = env.liveness->asked_insn;
  while (!at->lives(frameno, insn, spi)) {
    if (at->depth == frameno) return false;
    insn = at->callsite + (env.insn_aux_data[at->callsite].calls_callback ? 0 : 1);
    at = at->caller;
  }
  return true;
}

}  // namespace bpfsim
