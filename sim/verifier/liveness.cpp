// Models: kernel/bpf/liveness.c (Linux 6.18)
//
// Which stack slots a later instruction may read. The walk collects, for each instruction under each chain of
// calls (a FuncInstance), the slots that it may read and those that it writes on every visit. From these a
// data-flow over the instructions of the function computes what is live before each; for the frames of its
// callers the result at the function's entry becomes what the call reads and writes. May-read sets only grow
// and must-write sets only shrink, so the computation can be resumed at any time; it is, whenever a path
// ends.
#include "verifier/liveness.h"

#include <algorithm>
#include <unordered_map>

#include "verifier/print_state.h"

namespace bpfsim {
namespace {

struct CallChain {
  uint32_t callsites[MAX_CALL_FRAMES] =
      {};  // the call in each frame; of the innermost, where its function starts
  uint32_t sp_starts[MAX_CALL_FRAMES] = {};  // where the function of each frame starts
  uint32_t curframe = 0;

  bool operator==(const CallChain& other) const {
    return curframe == other.curframe && std::equal(callsites, callsites + curframe + 1, other.callsites);
  }
  uint32_t start() const { return sp_starts[curframe]; }
  std::string str() const {
    std::string text = "(";
    for (uint32_t i = 0; i <= curframe; i++) text += (i ? "," : "") + std::to_string(callsites[i]);
    return text + ")";
  }
};

struct HashCallChain {
  size_t operator()(const CallChain& chain) const {
    uint64_t h = chain.curframe;
    for (uint32_t i = 0; i <= chain.curframe; i++) h = (h ^ chain.callsites[i]) * 0x9e3779b97f4a7c15;
    return size_t(h ^ h >> 32);
  }
};

struct Masks {
  uint64_t may_read = 0, must_write = 0;
  uint64_t must_write_acc = 0;  // written by this instruction or, on every path, by a later one
  uint64_t live_before = 0;
};

struct FuncInstance {
  CallChain callchain;
  uint32_t insn_cnt = 0;
  bool updated = false, must_write_dropped = false;
  std::vector<Masks> frames[MAX_CALL_FRAMES];  // by instruction of the function; empty until first used
  std::vector<bool> must_write_set;            // the instruction was visited, must_write means something

  uint32_t relative(uint32_t insn_idx) const { return insn_idx - callchain.start(); }
  Masks* masks(uint32_t frame, uint32_t insn_idx) {
    return frames[frame].empty() ? nullptr : &frames[frame][relative(insn_idx)];
  }
  Masks& need_masks(uint32_t frame, uint32_t insn_idx) {
    if (frames[frame].empty()) frames[frame].resize(insn_cnt);
    return frames[frame][relative(insn_idx)];
  }
};

}  // namespace

struct BpfLiveness {
  std::unordered_map<CallChain, FuncInstance, HashCallChain> func_instances;
  FuncInstance* cur_instance = nullptr;  // of the current state
  uint64_t write_masks_acc[MAX_CALL_FRAMES] = {};
  uint32_t write_insn_idx = 0;
  struct {
    FuncInstance* instances[MAX_CALL_FRAMES] = {};
    uint32_t curframe = 0, insn_idx = 0;
  } query;
};

static FuncInstance& lookup_instance(bpf_verifier_env& env, const CallChain& chain) {
  auto [at, fresh] = env.liveness->func_instances.try_emplace(chain);
  FuncInstance& instance = at->second;
  if (fresh) {
    uint32_t sub = bpf_find_containing_subprog(env, chain.start());
    instance.callchain = chain;
    instance.insn_cnt = env.subprog_info[sub + 1].start - env.subprog_info[sub].start;
    instance.must_write_set.resize(instance.insn_cnt);
  }
  return instance;
}

static FuncInstance& lookup_instance(bpf_verifier_env& env, const bpf_verifier_state& st, uint32_t frameno) {
  CallChain chain;
  for (uint32_t i = 0; i <= frameno; i++) {
    chain.sp_starts[i] = env.subprog_info[st.frame[i]->subprogno].start;
    if (i < st.curframe) chain.callsites[i] = uint32_t(st.frame[i + 1]->callsite);
  }
  chain.curframe = frameno;
  chain.callsites[frameno] = chain.sp_starts[frameno];
  return lookup_instance(env, chain);
}

static FuncInstance& cur_instance(bpf_verifier_env& env) {
  FuncInstance*& cur = env.liveness->cur_instance;
  if (!cur) cur = &lookup_instance(env, *env.cur_state, env.cur_state->curframe);
  return *cur;
}

Errno bpf_stack_liveness_init(bpf_verifier_env& env) {
  env.liveness = std::make_shared<BpfLiveness>();
  return Errno::None;
}

void bpf_reset_live_stack_callchain(bpf_verifier_env& env) { env.liveness->cur_instance = nullptr; }

static void mark_stack_read(FuncInstance& instance, uint32_t frame, uint32_t insn_idx, uint64_t mask) {
  Masks& masks = instance.need_masks(frame, insn_idx);
  uint64_t may_read = masks.may_read | mask;
  if (may_read != masks.may_read && (may_read & ~masks.live_before)) instance.updated = true;
  masks.may_read = may_read;
}

Errno bpf_mark_stack_read(bpf_verifier_env& env, uint32_t frame, uint32_t insn_idx, uint64_t mask) {
  mark_stack_read(cur_instance(env), frame, insn_idx, mask);
  return Errno::None;
}

static void reset_stack_write_marks(BpfLiveness& liveness, const FuncInstance& instance, uint32_t insn_idx) {
  liveness.write_insn_idx = insn_idx;
  std::fill_n(liveness.write_masks_acc, instance.callchain.curframe + 1, 0);
}

Errno bpf_reset_stack_write_marks(bpf_verifier_env& env, uint32_t insn_idx) {
  reset_stack_write_marks(*env.liveness, cur_instance(env), insn_idx);
  return Errno::None;
}

void bpf_mark_stack_write(bpf_verifier_env& env, uint32_t frame, uint64_t mask) {
  env.liveness->write_masks_acc[frame] |= mask;
}

// On its first visit an instruction must-writes what it wrote; later, only what it wrote each time.
static void commit_stack_write_marks(BpfLiveness& liveness, FuncInstance& instance) {
  const uint32_t idx = instance.relative(liveness.write_insn_idx);
  const bool visited = instance.must_write_set[idx];
  for (uint32_t frame = 0; frame <= instance.callchain.curframe; frame++) {
    uint64_t mask = liveness.write_masks_acc[frame];
    if (mask == 0 && !visited) continue;
    Masks& masks = instance.need_masks(frame, liveness.write_insn_idx);
    const uint64_t old = masks.must_write;
    if (visited) mask &= old;
    if (old != mask) instance.updated = true;
    if (old & ~mask) instance.must_write_dropped = true;
    masks.must_write = mask;
  }
  instance.must_write_set[idx] = true;
  liveness.write_insn_idx = 0;
}

Errno bpf_commit_stack_write_marks(bpf_verifier_env& env) {
  if (FuncInstance* cur = env.liveness->cur_instance) commit_stack_write_marks(*env.liveness, *cur);
  return Errno::None;
}

static void log_mask_change(bpf_verifier_env& env, const CallChain& chain, const char* what, uint32_t frame,
                            uint32_t insn_idx, uint64_t before, uint64_t after) {
  if (before == after) return;
  std::string text =
      chain.str() + " frame " + std::to_string(frame) + " insn " + std::to_string(insn_idx) + ' ';
  if (after & ~before) text += std::string("+") + what + ' ' + bpf_fmt_stack_mask(after & ~before) + ' ';
  if (before & ~after) text += std::string("-") + what + ' ' + bpf_fmt_stack_mask(before & ~after);
  bpf_vlog_write(env.log, text + '\n');
}

static bool update_insn(bpf_verifier_env& env, FuncInstance& instance, uint32_t frame, uint32_t insn_idx) {
  uint32_t succ[2] = {};
  int n = bpf_insn_successors(env.insns, insn_idx, succ);
  if (n == 0) return false;
  uint64_t after = 0, written = UINT64_MAX;
  for (int s = 0; s < n; s++) {
    const Masks& next = *instance.masks(frame, succ[s]);
    after |= next.live_before;
    written &= next.must_write_acc;
  }
  Masks& insn = *instance.masks(frame, insn_idx);
  written |= insn.must_write;
  uint64_t before = (after & ~insn.must_write) | insn.may_read;
  bool changed = before != insn.live_before || written != insn.must_write_acc;
  if (log_level2(env) && changed &&
      (insn.may_read || insn.must_write || insn_idx == instance.callchain.start() ||
       env.insn_aux_data[insn_idx].prune_point)) {
    log_mask_change(env, instance.callchain, "live", frame, insn_idx, insn.live_before, before);
    log_mask_change(env, instance.callchain, "written", frame, insn_idx, insn.must_write_acc, written);
  }
  insn.live_before = before;
  insn.must_write_acc = written;
  return changed;
}

// What the function does to the frames of its callers is what the call there does.
static void propagate_to_outer_instance(bpf_verifier_env& env, FuncInstance& instance) {
  CallChain outer_chain = instance.callchain;
  const uint32_t start = outer_chain.start(), curframe = outer_chain.curframe;
  outer_chain.callsites[curframe] = outer_chain.sp_starts[curframe] = 0;
  const uint32_t callsite = outer_chain.callsites[curframe - 1];
  outer_chain.curframe--;
  outer_chain.callsites[outer_chain.curframe] = outer_chain.start();
  FuncInstance& outer = lookup_instance(env, outer_chain);

  reset_stack_write_marks(*env.liveness, outer, callsite);
  for (uint32_t frame = 0; frame < curframe; frame++) {
    const Masks* entry = instance.masks(frame, start);
    if (!entry) continue;
    bpf_mark_stack_write(env, frame, entry->must_write_acc);
    mark_stack_read(outer, frame, callsite, entry->live_before);
  }
  commit_stack_write_marks(*env.liveness, outer);
}

static void update_instance(bpf_verifier_env& env, FuncInstance& instance) {
  const uint32_t curframe = instance.callchain.curframe;
  // What some later instruction writes is not monotonous once a must-write set has shrunk: begin anew.
  if (instance.must_write_dropped)
    for (uint32_t frame = 0; frame <= curframe; frame++)
      for (Masks& masks : instance.frames[frame]) masks.must_write_acc = 0;

  const uint32_t sub = bpf_find_containing_subprog(env, instance.callchain.start());
  const uint32_t begin = env.subprog_info[sub].postorder_start,
                 end = env.subprog_info[sub + 1].postorder_start;
  int rounds = 0;
  for (bool changed = true; changed; rounds++) {
    changed = false;
    for (uint32_t frame = 0; frame <= curframe; frame++) {
      if (instance.frames[frame].empty()) continue;
      for (uint32_t i = begin; i < end; i++)
        changed |= update_insn(env, instance, frame, env.cfg.insn_postorder[i]);
    }
  }
  if (log_level2(env))
    verbose(env, "%s live stack update done in %d iterations\n", instance.callchain.str().c_str(), rounds);
  if (curframe > 0) propagate_to_outer_instance(env, instance);
}

Errno bpf_update_live_stack(bpf_verifier_env& env) {
  bpf_reset_live_stack_callchain(env);
  for (uint32_t frame = env.cur_state->curframe + 1; frame-- > 0;) {
    FuncInstance& instance = lookup_instance(env, *env.cur_state, frame);
    if (!instance.updated) continue;
    update_instance(env, instance);
    instance.updated = instance.must_write_dropped = false;
  }
  return Errno::None;
}

Errno bpf_live_stack_query_init(bpf_verifier_env& env, const bpf_verifier_state& st) {
  auto& query = env.liveness->query;
  query = {};
  for (uint32_t frame = 0; frame <= st.curframe; frame++)
    query.instances[frame] = &lookup_instance(env, st, frame);
  query.curframe = st.curframe;
  query.insn_idx = st.insn_idx;
  return Errno::None;
}

static bool is_live_before(FuncInstance& instance, uint32_t insn_idx, uint32_t frameno, uint32_t spi) {
  const Masks* masks = instance.masks(frameno, insn_idx);
  return masks && (masks->live_before >> spi & 1);
}

// A slot of an outer frame also lives if its own function, or one in between, reads it after the call
// returns; before the call, if that call runs a callback again and again.
bool bpf_stack_slot_alive(bpf_verifier_env& env, uint32_t frameno, uint32_t spi) {
  auto& query = env.liveness->query;
  FuncInstance& innermost = *query.instances[query.curframe];
  if (is_live_before(innermost, query.insn_idx, frameno, spi)) return true;
  for (uint32_t i = frameno; i < query.curframe; i++) {
    uint32_t callsite = innermost.callchain.callsites[i];
    bool again = env.insn_aux_data[callsite].calls_callback;
    if (is_live_before(*query.instances[i], again ? callsite : callsite + 1, frameno, spi)) return true;
  }
  return false;
}

}  // namespace bpfsim
