// No kernel counterpart: the kernel's log is text; a lesson wants to walk the search itself.
//
// What the verifier tells the recorder: each step with the state before it, and how paths fork, end and are
// pruned. Paths are numbered in the order of their birth; the first is 0. A state is kept as the text that
// the log would show.
#pragma once

#include <string>

#include "isa/disasm.h"
#include "trace/recorder.h"
#include "verifier/env.h"
#include "verifier/print_state.h"

namespace bpfsim {

struct VerifierStep final : Event {
  explicit VerifierStep(const bpf_verifier_env& env)
      : path(env.cur_state->path),
        insn_idx(env.insn_idx),
        frame(env.cur_state->curframe),
        state(verifier_state_text(env, *env.cur_state, env.cur_state->curframe, true)) {}
  uint64_t path;
  uint32_t insn_idx, frame;
  std::string state;
  const char* kind() const override { return "verifier_step"; }
  void fields(FieldSink& sink) const override {
    sink.number("path", int64_t(path));
    sink.number("insn", insn_idx);
    sink.number("frame", frame);
    sink.text("state", state);
  }
};

struct PathPushed final : Event {
  PathPushed(const bpf_verifier_env& env, uint64_t path, uint32_t target, bool speculative)
      : from(env.cur_state->path),
        path(path),
        insn_idx(env.insn_idx),
        target(target),
        speculative(speculative) {}
  uint64_t from, path;
  uint32_t insn_idx, target;
  bool speculative;
  const char* kind() const override { return "path_pushed"; }
  void fields(FieldSink& sink) const override {
    sink.number("from", int64_t(from));
    sink.number("path", int64_t(path));
    sink.number("insn", insn_idx);
    sink.number("target", target);
    sink.number("speculative", speculative);
  }
};

struct PathPopped final : Event {
  explicit PathPopped(const bpf_verifier_env& env) : path(env.cur_state->path), insn_idx(env.insn_idx) {}
  uint64_t path;
  uint32_t insn_idx;
  const char* kind() const override { return "path_popped"; }
  void fields(FieldSink& sink) const override {
    sink.number("path", int64_t(path));
    sink.number("insn", insn_idx);
  }
};

struct PathPruned final : Event {
  PathPruned(const bpf_verifier_env& env, const bpf_verifier_state& by)
      : path(env.cur_state->path),
        by_path(by.path),
        insn_idx(env.insn_idx),
        covered_by(verifier_state_text(env, by, by.curframe, true)) {}
  uint64_t path, by_path;
  uint32_t insn_idx;
  std::string covered_by;
  const char* kind() const override { return "path_pruned"; }
  void fields(FieldSink& sink) const override {
    sink.number("path", int64_t(path));
    sink.number("by_path", int64_t(by_path));
    sink.number("insn", insn_idx);
    sink.text("covered_by", covered_by);
  }
};

struct PathEnded final : Event {
  PathEnded(const bpf_verifier_env& env, const char* how)
      : path(env.cur_state->path), insn_idx(env.insn_idx), how(how) {}
  uint64_t path;
  uint32_t insn_idx;
  const char* how;  // "exit", "refused"
  const char* kind() const override { return "path_ended"; }
  void fields(FieldSink& sink) const override {
    sink.number("path", int64_t(path));
    sink.number("insn", insn_idx);
    sink.text("how", how);
  }
};

// What a pass behind the walk made of the program.
struct ProgramRewritten final : Event {
  ProgramRewritten(const bpf_verifier_env& env, const char* pass) : pass(pass), insns(env.insns) {}
  const char* pass;  // the kernel's function: "convert_ctx_accesses"
  std::vector<bpf_insn> insns;
  const char* kind() const override { return "program_rewritten"; }
  void fields(FieldSink& sink) const override {
    sink.text("pass", pass);
    sink.number("insn_cnt", int64_t(insns.size()));
    sink.text("program", disassemble(insns));
  }
};

}  // namespace bpfsim
