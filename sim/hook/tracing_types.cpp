// Models: kernel/trace/bpf_trace.c (kprobe, tracepoint, perf_event and raw_tracepoint ops),
// kernel/bpf/syscall.c (bpf_syscall_verifier_ops), net/bpf/test_run.c (bpf_prog_test_run_raw_tp, _syscall)
// (Linux 6.18)
//
// The program types that observe the kernel, and SYSCALL: what of their context they may touch, and their
// TEST_RUN. A context here is the kernel's own memory (registers, a record, arguments), so an access stays as
// it is; only PERF_EVENT's stands for three pointers. SYSCALL's context is the caller's buffer. Not modelled
// yet: writing registers in a uprobe's program, sys_bpf and the other helpers that only SYSCALL has.
#include <cstddef>

#include "hook/test_run.h"
#include "hook/types.h"
#include "run/select_runtime.h"
#include "uapi/context.h"

namespace bpfsim {

namespace {

constexpr int kPtRegsSize = 168, PERF_MAX_TRACE_SIZE = 8192, U16_MAX = 0xffff;
constexpr int kFuncArgsSize = MAX_BPF_FUNC_ARGS * 8;

bool in_context(int off, int size, int from, int end) { return off >= from && off < end && off % size == 0; }

bool kprobe_prog_is_valid_access(int off, int size, bpf_access_type type, const Prog&, InsnAccessAux&) {
  return type == BPF_READ && in_context(off, size, 0, kPtRegsSize) && off + size <= kPtRegsSize;
}

// The first 8 bytes of a record (type, flags, pid) are the kernel's own. A negative offset passes, as
// on 6.18, whose comparison with 8 is unsigned; the program then asks for more bytes than any record has.
bool tp_prog_is_valid_access(int off, int size, bpf_access_type type, const Prog&, InsnAccessAux&) {
  return type == BPF_READ && (off < 0 || off >= 8) && off < PERF_MAX_TRACE_SIZE && off % size == 0;
}

bool raw_tp_prog_is_valid_access(int off, int size, bpf_access_type type, const Prog&, InsnAccessAux&) {
  return type == BPF_READ && in_context(off, size, 0, kFuncArgsSize);
}

bool raw_tp_writable_prog_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                          InsnAccessAux& info) {
  if (off == 0) {
    if (size != 8 || type != BPF_READ) return false;
    info.reg_type = PTR_TO_TP_BUFFER;
  }
  return raw_tp_prog_is_valid_access(off, size, type, prog, info);
}

bool syscall_prog_is_valid_access(int off, int size, bpf_access_type, const Prog&, InsnAccessAux&) {
  return in_context(off, size, 0, U16_MAX);
}

// What struct bpf_perf_event_data stands for: bpf_perf_event_data_kern { regs, data, event } and struct
// perf_sample_data, at the offsets measured on 6.18.
constexpr int kKernRegs = 0, kKernData = 8, kSamplePeriod = 8, kSampleAddr = 184;

bool pe_prog_is_valid_access(int off, int size, bpf_access_type type, const Prog&, InsnAccessAux& info) {
  if (type != BPF_READ || !in_context(off, size, 0, sizeof(bpf_perf_event_data))) return false;
  if (off < kPtRegsSize) return size == 8;
  info.ctx_field_size = 8;
  return true;
}

Insns pe_prog_convert_ctx_access(bpf_access_type, const bpf_insn& insn, const Prog&, uint32_t* target_size) {
  const int dst = insn.dst_reg, src = insn.src_reg;
  if (insn.off < kPtRegsSize)
    return program(ldx_mem(BPF_DW, dst, src, kKernRegs), ldx_mem(BPF_SIZE(insn.code), dst, dst, insn.off));
  *target_size = 8;
  const bool period = insn.off == int(offsetof(bpf_perf_event_data, sample_period));
  return program(ldx_mem(BPF_DW, dst, src, kKernData),
                 ldx_mem(BPF_DW, dst, dst, period ? kSamplePeriod : kSampleAddr));
}

Result<uint32_t> run_on(Prog& prog, const bpf_attr& attr, bool copy_back) {
  Machine& machine = prog.machine;
  const uint32_t size = attr.test.ctx_size_in;
  Addr ctx = 0;
  std::unique_ptr<TestMemory> memory;
  if (size) {
    memory = std::make_unique<TestMemory>(machine, TRY(machine.arena.alloc(size, "test context")));
    TRY(copy_from_user(machine, memory->span.host, attr.test.ctx_in, size));
    ctx = memory->span.addr;
  }
  const RunOutcome run = bpf_prog_run(machine, prog, ctx);
  if (run.stop == RunStop::Interrupted) return refuse(Errno::Intr, "interrupted");
  if (run.stop == RunStop::Oops)
    return refuse(Errno::Fault, "the program died of a simulated oops: see dmesg");
  if (size && copy_back) TRY(copy_to_user(machine, attr.test.ctx_in, memory->span.host, size));
  return uint32_t(run.value);
}

Result<void> check_test_attr(const Prog& prog, const bpf_attr& attr, uint32_t most) {
  const auto& test = attr.test;
  if (test.data_in || test.data_out || test.ctx_out || test.duration || test.repeat || test.batch_size)
    return refuse(Errno::Inval, "this program type has a context only: no data, ctx_out, repeat, batch_size");
  if (test.ctx_size_in < prog.aux->max_ctx_offset || test.ctx_size_in > most)
    return refuse(Errno::Inval, "ctx_size_in {}: the program reads {} bytes, the most is {}",
                  test.ctx_size_in, prog.aux->max_ctx_offset, most);
  return {};
}

Result<void> bpf_prog_test_run_raw_tp(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_raw_tp);
  TRY(test_run_since(prog, Gate::test_run_raw_tp));
  TRY(check_test_attr(prog, attr, kFuncArgsSize));
  const bool on_cpu = attr.test.flags & BPF_F_TEST_RUN_ON_CPU;
  if (!on_cpu && attr.test.cpu) return refuse(Errno::Inval, "cpu without BPF_F_TEST_RUN_ON_CPU");
  if (on_cpu && attr.test.cpu >= machine.cpus)
    return refuse(Errno::NxIo, "cpu {}: this machine has {}", attr.test.cpu, machine.cpus);
  const uint32_t home = machine.current->cpu;
  if (on_cpu) machine.current->cpu = attr.test.cpu;
  Result<uint32_t> retval = run_on(prog, attr, false);
  machine.current->cpu = home;
  if (!retval) return retval.refusal();
  return copy_to_user(machine, uattr + offsetof(bpf_attr, test.retval), &*retval, sizeof *retval);
}

Result<void> bpf_prog_test_run_syscall(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_prog_test_run_syscall);
  if (attr.test.flags) return refuse(Errno::Inval, "flags {} have no meaning here", attr.test.flags);
  TRY(check_test_attr(prog, attr, U16_MAX));
  const uint32_t retval = TRY(run_on(prog, attr, true));
  return copy_to_user(machine, uattr + offsetof(bpf_attr, test.retval), &retval, sizeof retval);
}

}  // namespace

const VerifierOps kprobe_verifier_ops = {
    .name = "kprobe", .get_func_proto = helper_for, .is_valid_access = kprobe_prog_is_valid_access};
const VerifierOps tracepoint_verifier_ops = {
    .name = "tracepoint", .get_func_proto = helper_for, .is_valid_access = tp_prog_is_valid_access};
const VerifierOps perf_event_verifier_ops = {.name = "perf_event",
                                             .get_func_proto = helper_for,
                                             .is_valid_access = pe_prog_is_valid_access,
                                             .convert_ctx_access = pe_prog_convert_ctx_access};
const VerifierOps raw_tracepoint_verifier_ops = {
    .name = "raw_tracepoint", .get_func_proto = helper_for, .is_valid_access = raw_tp_prog_is_valid_access};
const VerifierOps raw_tracepoint_writable_verifier_ops = {
    .name = "raw_tracepoint_writable",
    .get_func_proto = helper_for,
    .is_valid_access = raw_tp_writable_prog_is_valid_access};
const VerifierOps bpf_syscall_verifier_ops = {
    .name = "bpf_syscall", .get_func_proto = helper_for, .is_valid_access = syscall_prog_is_valid_access};

const ProgOps kprobe_prog_ops = {.name = "kprobe", .test_run = nullptr};
const ProgOps tracepoint_prog_ops = {.name = "tracepoint", .test_run = nullptr};
const ProgOps perf_event_prog_ops = {.name = "perf_event", .test_run = nullptr};
const ProgOps raw_tracepoint_prog_ops = {.name = "raw_tracepoint", .test_run = bpf_prog_test_run_raw_tp};
const ProgOps raw_tracepoint_writable_prog_ops = {.name = "raw_tracepoint_writable", .test_run = nullptr};
const ProgOps bpf_syscall_prog_ops = {.name = "bpf_syscall", .test_run = bpf_prog_test_run_syscall};

}  // namespace bpfsim
