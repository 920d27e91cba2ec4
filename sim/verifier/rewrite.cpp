// Models: kernel/bpf/core.c, bpf_patch_insn_single() and bpf_remove_insns(); kernel/bpf/verifier.c,
// bpf_patch_insn_data() and verifier_remove_insns() (Linux 6.18)
//
// See rewrite.h.
#include "verifier/rewrite.h"

#include <optional>

#include "verifier/events.h"
#include "verifier/fixups.h"
#include "verifier/regs.h"

namespace bpfsim {

// Jumps, calls of subprograms and function pointers name another instruction by distance.
static std::optional<int64_t> distance_of(const bpf_insn& insn) {
  if (bpf_pseudo_func(insn) || bpf_pseudo_call(insn) || insn.code == (BPF_JMP32 | BPF_JA)) return insn.imm;
  uint8_t op = BPF_OP(insn.code);
  bool jump = is_jmp(insn) && op != BPF_CALL && op != BPF_EXIT && insn.code != (BPF_JMP | BPF_TAIL_CALL);
  return jump ? std::optional<int64_t>(insn.off) : std::nullopt;
}

static bool distance_in_imm(const bpf_insn& insn) {
  return is_ld_imm64(insn) || bpf_pseudo_call(insn) || insn.code == (BPF_JMP32 | BPF_JA);
}

static bool insn_has_def32(const bpf_insn& insn) {
  int reg = insn_def_regno(insn);
  return reg != -1 && !is_reg64(insn, uint32_t(reg), nullptr, DST_OP);
}

Errno Rewrite::aim(uint32_t orig_idx, bpf_insn& insn, int64_t distance) {
  if (distance_in_imm(insn)) {
    insn.imm = int32_t(distance);
    return Errno::None;
  }
  insn.off = int16_t(distance);
  if (insn.off == distance) return Errno::None;
  verbose(env_, "insn %u cannot be patched due to 16-bit range\n", orig_idx);
  return Errno::NoMem;
}

Errno Rewrite::move_kept(uint32_t at, Insns& insns) {
  bpf_insn insn = env_.insns[at];
  // Dead code that stays may jump anywhere.
  std::optional<int64_t> distance = distance_of(insn);
  int64_t target = distance ? int64_t(at) + 1 + *distance : -1;
  if (target >= 0 && target < int64_t(new_index_.size()))
    MUST(aim(env_.insn_aux_data[at].orig_idx, insn, int64_t(moved(uint32_t(target))) - moved(at) - 1));
  insns.push_back(insn);
  return Errno::None;
}

Errno Rewrite::move_patch(uint32_t at, const Insns& patch, Insns& insns) {
  const int64_t count = int64_t(patch.size());
  for (int64_t p = 0; p < count; p++) {
    bpf_insn insn = patch[size_t(p)];
    std::optional<int64_t> distance = distance_of(insn);
    int64_t to = p + 1 + distance.value_or(0);  // counted from the patch's start
    if (distance && (to < 0 || to >= count)) {
      int64_t target = int64_t(at) + to - (to >= count ? count - 1 : 0);
      if (target >= 0 && target < int64_t(new_index_.size()))
        MUST(
            aim(env_.insn_aux_data[at].orig_idx, insn, int64_t(moved(uint32_t(target))) - moved(at) - p - 1));
    }
    insns.push_back(insn);
  }
  return Errno::None;
}

// A function of which nothing remains is no function any more.
void Rewrite::move_subprogs() {
  std::vector<bpf_subprog_info> subs;
  std::vector<bpf_func_info> infos;
  std::vector<bpf_func_info_aux> aux;
  const std::vector<bpf_func_info>& old_infos = env_.prog.aux->func_info;
  for (uint32_t s = 0; s < env_.subprog_cnt; s++) {
    bpf_subprog_info& sub = env_.subprog_info[s];
    uint32_t start = moved(sub.start);
    if (s && start == moved(env_.subprog_info[s + 1].start)) continue;
    if (s < old_infos.size()) infos.push_back(old_infos[s]);
    if (s < env_.func_info_aux.size()) aux.push_back(env_.func_info_aux[s]);
    subs.push_back(sub);
    subs.back().start = start;
  }
  env_.subprog_cnt = uint32_t(subs.size());
  subs.push_back(env_.subprog_info.back());
  subs.back().start = new_index_.back();
  env_.subprog_info = std::move(subs);
  env_.prog.aux->func_info = std::move(infos);
  env_.func_info_aux = std::move(aux);
}

// The first instruction behind removed ones takes over their last line, if it has none of its own.
void Rewrite::move_lines(uint32_t old_cnt) {
  std::vector<bpf_line_info>& lines = env_.prog.aux->line_info;
  if (lines.empty()) return;
  std::vector<bpf_line_info> kept;
  for (bpf_line_info line : lines) {
    if (line.insn_off < old_cnt) line.insn_off = moved(line.insn_off);
    if (line.insn_off >= new_index_.back()) continue;
    if (!kept.empty() && kept.back().insn_off == line.insn_off) kept.pop_back();
    kept.push_back(line);
  }
  lines = std::move(kept);
  env_.prev_linfo = nullptr;
}

Errno Rewrite::apply() {
  if (patches_.empty()) return Errno::None;
  const uint32_t old_cnt = env_.insn_cnt();
  new_index_.assign(old_cnt + 1, 0);
  auto patch = patches_.begin();
  for (uint32_t i = 0, to = 0; i <= old_cnt; i++) {
    new_index_[i] = to;
    bool patched = patch != patches_.end() && patch->first == i;
    to += patched ? uint32_t((patch++)->second.size()) : 1;
  }

  Insns insns;
  std::vector<bpf_insn_aux_data> aux;
  insns.reserve(new_index_.back());
  aux.reserve(new_index_.back());
  patch = patches_.begin();
  for (uint32_t i = 0; i < old_cnt; i++) {
    if (patch == patches_.end() || patch->first != i) {
      MUST(move_kept(i, insns));
      aux.push_back(env_.insn_aux_data[i]);
      continue;
    }
    const Insns& news = (patch++)->second;
    MUST(move_patch(i, news, insns));
    for (size_t p = 0; p < news.size(); p++) {
      bool last = p + 1 == news.size();
      aux.push_back(last ? env_.insn_aux_data[i] : bpf_insn_aux_data{.seen = env_.insn_aux_data[i].seen});
      aux.back().zext_dst = insn_has_def32(news[p]);
    }
  }
  env_.insns = std::move(insns);
  env_.insn_aux_data = std::move(aux);
  move_subprogs();
  move_lines(old_cnt);
  patches_.clear();
  return Errno::None;
}

Errno bpf_patch_insn_data(bpf_verifier_env& env, uint32_t off, const Insns& patch) {
  Rewrite rewrite(env);
  rewrite.replace(off, patch);
  return rewrite.apply();
}

void rewrite_stage(bpf_verifier_env& env, const char* pass) {
  emit<ProgramRewritten>(env.machine, env, pass);
}

}  // namespace bpfsim
