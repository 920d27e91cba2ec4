// No kernel counterpart: one program and its bpf_verifier_env, to call a room of the verifier directly.
#pragma once

#include <string>

#include "isa/asm.h"
#include "kernel.h"
#include "object/file.h"
#include "verifier/env.h"

namespace bpfsim {

struct Bench {
  explicit Bench(const std::string& source, uint32_t level = 2, bool privileged = true,
                 const MachineOptions& options = {})
      : kernel(options),
        task(kernel.spawn("test")),
        prog(kernel.machine()),
        env(kernel.machine(), prog, attr) {
    set(assemble(source));
    kernel.machine().boot.task = &task;
    kernel.machine().boot.cred = &task.cred;
    prog.type = BPF_PROG_TYPE_SOCKET_FILTER;
    prog.jit_requested = prog.gpl_compatible = true;
    env.bpf_capable = env.allow_ptr_leaks = privileged;
    (void)bpf_vlog_init(env.log, user, level, uint64_t(uintptr_t(buffer.data())), uint32_t(buffer.size()));
  }
  void set(const Assembly& assembly) {
    for (const AsmError& error : assembly.errors) errors += error.str() + '\n';
    prog.insnsi = assembly.insns;
    env.insn_aux_data.assign(prog.insnsi.size(), {});
    for (uint32_t i = 0; i < env.insn_cnt(); i++) env.insn_aux_data[i].orig_idx = i;
  }
  std::string log() const { return buffer.substr(0, buffer.find('\0')); }
  // The log since the last call.
  std::string news() {
    std::string text = log().substr(seen);
    seen += text.size();
    return text;
  }

  Kernel kernel;
  Task& task;
  Prog prog;
  bpf_attr attr{};
  TrustedUserMemory user;
  std::string buffer = std::string(1 << 18, '\0');
  bpf_verifier_env env;
  std::string errors;
  size_t seen = 0;
};

}  // namespace bpfsim
