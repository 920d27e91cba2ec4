// Models: kernel/bpf/syscall.c (bpf_prog_test_run) (Linux 6.18)
//
// BPF_PROG_TEST_RUN: a context comes with its size or not at all; the rest is the program type's.
#include "syscall/bpf.h"
#include "uapi/gates.h"

namespace bpfsim {

SysResult bpf_prog_test_run(Machine& machine, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_prog_test_run);
  if (!has(Gate::attach_unasked, machine.version) && !capable(machine, CAP_SYS_ADMIN))
    return refuse(Errno::Perm, "needs CAP_SYS_ADMIN");
  TRY(check_attr(machine, BPF_PROG_TEST_RUN, attr));
  if (!attr.test.ctx_size_in != !attr.test.ctx_in)
    return refuse(Errno::Inval, "ctx_in and ctx_size_in belong together");
  if (!attr.test.ctx_size_out != !attr.test.ctx_out)
    return refuse(Errno::Inval, "ctx_out and ctx_size_out belong together");
  Prog& prog =
      *TRY(bpf_prog_get(machine, int(attr.test.prog_fd), {"test run by task {}", machine.current->pid}));
  Holding running(machine, prog, "bpf(BPF_PROG_TEST_RUN)");
  Result<void> done = refuse(Errno::NotSupp, "program type {} cannot be run for a test", prog.type);
  if (prog.aux->ops && prog.aux->ops->test_run) done = prog.aux->ops->test_run(prog, attr, uattr);
  running.release();
  bpf_prog_put(prog, {"test run is over"});
  if (!done) return done.refusal();
  return 0;
}

}  // namespace bpfsim
