// Models: net/bpf/test_run.c (Linux 6.18)
//
// What the program types share of BPF_PROG_TEST_RUN.
#pragma once

#include <functional>
#include <vector>

#include "host/net_device.h"
#include "object/ops.h"
#include "uapi/gates.h"

namespace bpfsim {

// Whether programs of this type can be test-run on this version, as they can since that one.
Result<void> test_run_since(const Prog& prog, Gate gate);
// flags (but for those `allowed`), cpu and batch_size must be 0.
Result<void> no_test_flags(const bpf_attr& attr, uint32_t allowed = 0,
                           std::source_location where = std::source_location::current());
// What user space gave as the context, and the answers to it.
struct TestContext {
  bool given = false;          // user space passed ctx_in or ctx_out
  std::vector<uint8_t> bytes;  // max_size, zero behind what was given
};
Result<TestContext> bpf_ctx_init(Machine& machine, const bpf_attr& attr, uint32_t max_size);
Result<void> bpf_ctx_finish(Machine& machine, const bpf_attr& attr, UserAttr uattr, const TestContext& ctx);
// `whole` is what the program left, of which the last `frags` bytes lie in fragments.
Result<void> bpf_test_finish(Machine& machine, const bpf_attr& attr, UserAttr uattr,
                             const std::vector<uint8_t>& whole, uint64_t frags, uint32_t retval,
                             uint32_t duration);
void eth_type_trans(const Skb& skb, const NetDevice& dev, const uint8_t* frame);  // skb.cpp
struct TestOutcome {
  uint32_t retval = 0, duration = 0;
};
// `before_each` makes anew what a run may have changed.
Result<TestOutcome> bpf_test_run(Machine& machine, Prog& prog, Addr ctx, uint32_t repeat,
                                 const std::function<void()>& before_each = nullptr);
// What a test program may reach, for as long as the test lasts.
struct TestMemory {
  TestMemory(Machine& machine, Span span) : machine(machine), span(span) {}
  ~TestMemory() { machine.arena.free(span); }
  TestMemory(const TestMemory&) = delete;
  Machine& machine;
  Span span;
};

}  // namespace bpfsim
