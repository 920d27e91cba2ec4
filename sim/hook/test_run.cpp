// Models: net/bpf/test_run.c (Linux 6.18)
//
// What BPF_PROG_TEST_RUN does for any program type: reads the context, runs the program `repeat` times on one
// packet that it may change each time, and writes back packet, size, answer and mean duration. Departs from
// the kernel: the duration is simulated time, and a program that dies of a simulated oops is -EFAULT with a
// report in dmesg (the kernel would have killed the caller).
#include "hook/test_run.h"

#include <algorithm>
#include <cstddef>

#include "run/select_runtime.h"

namespace bpfsim {

Result<void> test_run_since(const Prog& prog, Gate gate) {
  if (has(gate, prog.machine.version)) return {};
  return refuse(Errno::NotSupp, "before {} a program of type {} cannot be run for a test", since(gate),
                prog.type);
}

Result<void> no_test_flags(const bpf_attr& attr, uint32_t allowed, std::source_location where) {
  const auto& test = attr.test;
  if (!(test.flags & ~allowed) && !test.cpu && !test.batch_size) return {};
  return refuse(Errno::Inval, Fact("flags {}, cpu {} and batch_size {} must be 0", where), test.flags,
                test.cpu, test.batch_size);
}

Result<TestContext> bpf_ctx_init(Machine& machine, const bpf_attr& attr, uint32_t max_size) {
  TestContext ctx;
  if (!attr.test.ctx_in && !attr.test.ctx_out) return ctx;
  ctx.given = true;
  ctx.bytes.resize(max_size);
  if (!attr.test.ctx_in) return ctx;
  TRY(bpf_check_uarg_tail_zero(machine, attr.test.ctx_in, max_size, attr.test.ctx_size_in, "the context"));
  TRY(copy_from_user(machine, ctx.bytes.data(), attr.test.ctx_in, std::min(max_size, attr.test.ctx_size_in)));
  return ctx;
}

Result<void> bpf_ctx_finish(Machine& machine, const bpf_attr& attr, UserAttr uattr, const TestContext& ctx) {
  if (!ctx.given || !attr.test.ctx_out) return {};
  uint32_t size = uint32_t(ctx.bytes.size()), copied = std::min(size, attr.test.ctx_size_out);
  Result<void> done = copy_to_user(machine, attr.test.ctx_out, ctx.bytes.data(), copied);
  if (done) done = copy_to_user(machine, uattr + offsetof(bpf_attr, test.ctx_size_out), &size, sizeof size);
  if (copied < size)  // whatever else went wrong
    return refuse(Errno::NoSpc, "ctx_size_out is {}, the context has {}", copied, size);
  return done;
}

static Result<void> copy_packet(Machine& machine, const bpf_attr& attr, UserAttr uattr,
                                const std::vector<uint8_t>& whole, uint64_t linear, uint64_t frags,
                                uint32_t retval, uint32_t duration) {
  const auto size = uint32_t(whole.size());
  if (attr.test.data_out) {
    TRY(copy_to_user(machine, attr.test.data_out, whole.data(), linear));
    TRY(copy_to_user(machine, attr.test.data_out + linear, whole.data() + (size - frags), frags));
  }
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, test.data_size_out), &size, sizeof size));
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, test.retval), &retval, sizeof retval));
  return copy_to_user(machine, uattr + offsetof(bpf_attr, test.duration), &duration, sizeof duration);
}

Result<void> bpf_test_finish(Machine& machine, const bpf_attr& attr, UserAttr uattr,
                             const std::vector<uint8_t>& whole, uint64_t frags, uint32_t retval,
                             uint32_t duration) {
  uint32_t size = uint32_t(whole.size()), copied = size, room = attr.test.data_size_out;
  if (room)
    copied = std::min(copied, room);  // before 5.0 the kernel writes past the room: here it never does
  Refusal short_room = refuse(Errno::NoSpc, "data_size_out is {}, the packet has {} bytes", room, size);
  if (attr.test.data_out && copied < frags) return short_room;
  // Where the room is short, the fragments move up into it and the first page is cut, as in the kernel.
  Result<void> done = copy_packet(machine, attr, uattr, whole, copied - frags, frags, retval, duration);
  // Short room is what is said, also of a room that cannot be written.
  if (copied < size && has(Gate::test_run_room, machine.version)) return short_room;
  return done;
}

Result<TestOutcome> bpf_test_run(Machine& machine, Prog& prog, Addr ctx, uint32_t repeat,
                                 const std::function<void()>& before_each) {
  KFN(machine, bpf_test_run);
  if (repeat == 0) repeat = 1;
  uint64_t from = machine.clock.now_ns;
  TestOutcome outcome;
  constexpr uint32_t kLookEvery = 1024;
  for (uint32_t i = 0; i < repeat; ++i) {
    if (before_each) before_each();
    RunOutcome run = bpf_prog_run(machine, prog, ctx);
    bool asked = i % kLookEvery == kLookEvery - 1 && host_interrupts(machine);
    if (run.stop == RunStop::Interrupted || asked)
      return refuse(Errno::Intr, "interrupted in run {} of {}", i + 1, repeat);
    if (run.stop == RunStop::Oops)
      return refuse(Errno::Fault, "the program died of a simulated oops in run {}: see dmesg", i + 1);
    outcome.retval = uint32_t(run.value);
  }
  outcome.duration = uint32_t((machine.clock.now_ns - from) / repeat);
  return outcome;
}

}  // namespace bpfsim
