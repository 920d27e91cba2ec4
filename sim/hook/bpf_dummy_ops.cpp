// Models: net/bpf/bpf_dummy_struct_ops.c (Linux 6.18)
//
// STRUCT_OPS programs: each is one member of a struct of functions that the kernel calls, and the struct's
// owner says what it may do. Here is the struct that is there for tests, bpf_dummy_ops, whose members take a
// state of four bytes and some numbers: TEST_RUN calls them, they may write into the state, and call no
// helper at all. The other is tcp_congestion_ops (bpf_tcp_ca.cpp), which TEST_RUN refuses.
#include <cstring>
#include <stdexcept>
#include <string>

#include "btf/btf_types.h"
#include "btf/struct_ops.h"
#include "hook/test_run.h"
#include "hook/types.h"
#include "object/btf.h"
#include "run/select_runtime.h"

namespace bpfsim {

namespace {

constexpr uint32_t kStateSize = 4;  // struct bpf_dummy_ops_state { int val; }

// The state of test_1 may be NULL: the kernel's own test_1 names that argument cb__nullable.
bool state_may_be_null(const Prog& prog) { return prog.aux->attach_func_name == "test_1"; }

bool bpf_dummy_ops_is_valid_access(int off, int size, bpf_access_type type, const Prog& prog,
                                   InsnAccessAux& info) {
  if (!bpf_tracing_btf_ctx_access(off, size, type, prog, info)) return false;
  if (off == 0 && info.reg_type && state_may_be_null(prog)) {
    info.reg_type |= PTR_MAYBE_NULL;
    info.message.clear();
  }
  return true;
}

std::string bpf_dummy_ops_btf_struct_access(std::string_view structure, int off, int size) {
  if (structure != "bpf_dummy_ops_state") return "only access to bpf_dummy_ops_state is supported";
  if (off + size <= int(kStateSize)) return "";
  return "write access at off " + std::to_string(off) + " with size " + std::to_string(size);
}

const FuncProto* no_helper(bpf_func_id, const Prog&) { return nullptr; }

struct TestArgs {
  uint64_t args[MAX_BPF_FUNC_ARGS];
  uint8_t state[kStateSize];
  uint8_t unused[8 - kStateSize];  // programs see these bytes too
};

Result<TestArgs> dummy_ops_init_args(const Prog& prog, const bpf_attr& attr) {
  const btf_type& proto = *prog.aux->attach_btf->types->type_by_id(prog.aux->attach_func_proto);
  const size_t size = btf_params(proto).size() * sizeof(uint64_t);
  if (attr.test.ctx_size_in != size)
    return refuse(Errno::Inval, "ctx_size_in must be {}, 8 bytes for each argument, is {}", size,
                  attr.test.ctx_size_in);
  TestArgs test{};
  TRY(copy_from_user(prog.machine, test.args, attr.test.ctx_in, size));
  if (test.args[0]) TRY(copy_from_user(prog.machine, test.state, test.args[0], kStateSize));
  return test;
}

Result<void> bpf_struct_ops_test_run(Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_struct_ops_test_run);
  const BpfStructOpsDesc* desc = bpf_struct_ops_find(prog.aux->attach_btf_id, machine.version);
  if (std::string_view(desc->name) != "bpf_dummy_ops")
    return refuse(Errno::OpNotSupp, "only members of bpf_dummy_ops are called by TEST_RUN");
  TestArgs test = TRY(dummy_ops_init_args(prog, attr));
  const uint64_t u_state = test.args[0];
  if (!u_state && !state_may_be_null(prog)) return refuse(Errno::Inval, "the state must not be NULL");
  const TestMemory memory(machine, TRY(machine.arena.alloc(sizeof test, "arguments of a test run")));
  if (u_state) test.args[0] = memory.span.addr + offsetof(TestArgs, state);
  std::memcpy(memory.span.host, &test, sizeof test);
  const RunOutcome run = bpf_prog_run(machine, prog, memory.span.addr);
  std::memcpy(&test, memory.span.host, sizeof test);
  if (run.stop == RunStop::Interrupted) return refuse(Errno::Intr, "interrupted");
  if (run.stop == RunStop::Oops)
    return refuse(Errno::Fault, "the program died of a simulated oops: see dmesg");
  if (u_state) TRY(copy_to_user(machine, u_state, test.state, kStateSize));
  const uint32_t retval = uint32_t(run.value);
  return copy_to_user(machine, uattr + offsetof(bpf_attr, test.retval), &retval, sizeof retval);
}

const VerifierOps bpf_dummy_verifier_ops = {.name = "bpf_dummy_ops",
                                            .get_func_proto = no_helper,
                                            .is_valid_access = bpf_dummy_ops_is_valid_access,
                                            .btf_struct_access = bpf_dummy_ops_btf_struct_access};

}  // namespace

// As in the kernel empty: which ones hold, the verifier finds when it knows the struct.
const VerifierOps bpf_struct_ops_verifier_ops = {.name = "bpf_struct_ops"};
const ProgOps bpf_struct_ops_prog_ops = {.name = "bpf_struct_ops", .test_run = bpf_struct_ops_test_run};

const VerifierOps* struct_ops_verifier_ops(std::string_view name) {
  if (name == "bpf_dummy_ops") return &bpf_dummy_verifier_ops;
  if (name == "tcp_congestion_ops") return &bpf_tcp_ca_verifier_ops;
  throw std::logic_error("no room verifies members of struct " + std::string(name));
}

}  // namespace bpfsim
