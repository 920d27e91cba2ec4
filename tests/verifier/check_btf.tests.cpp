// CO-RE relocations that the kernel refuses before it applies any: the same errno and the same line in the
// log as the live kernel's.
#include <string>

#include "btf/btf_build.h"
#include "catch.h"
#include "isa/insn.h"
#include "kernel.h"
#include "live_bpf.h"
#include "uapi/info.h"

using namespace bpfsim;

namespace {

struct Answer {
  int64_t result;
  std::string log;
};

uint64_t user_ptr(const void* p) { return reinterpret_cast<uintptr_t>(p); }

template <class Call>
Answer load(const Call& call, const std::vector<bpf_core_relo>& relos, uint32_t rec_size, uint32_t count) {
  BtfBuilder b;
  b.add_func("main", b.add_func_proto(b.add_int("int", 4, BTF_INT_SIGNED), {}), BTF_FUNC_STATIC);
  const std::vector<uint8_t> btf = b.bytes();
  bpf_attr attr;
  attr.btf = user_ptr(btf.data());
  attr.btf_size = uint32_t(btf.size());
  const int64_t btf_fd = call(BPF_BTF_LOAD, attr);

  const bpf_insn insns[] = {mov64_imm(0, 0), exit_insn()};
  const bpf_func_info info = {0, 3};
  std::string log(4096, '\0');
  attr = {};
  attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attr.insns = user_ptr(insns);
  attr.insn_cnt = 2;
  attr.license = user_ptr("GPL");
  attr.log_buf = user_ptr(log.data());
  attr.log_size = uint32_t(log.size());
  attr.log_level = 1;
  attr.prog_btf_fd = uint32_t(btf_fd);
  attr.func_info = user_ptr(&info);
  attr.func_info_cnt = 1;
  attr.func_info_rec_size = sizeof info;
  attr.core_relos = user_ptr(relos.data());
  attr.core_relo_cnt = count;
  attr.core_relo_rec_size = rec_size;
  const int64_t result = call(BPF_PROG_LOAD, attr);
  return {result, log.c_str()};
}

}  // namespace

TEST_CASE("CO-RE relocations that cannot be read are refused as by the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Kernel kernel{MachineOptions{}};
  Task& task = kernel.spawn("test");
  std::vector<long> opened;
  const auto live_call = [&](int cmd, bpf_attr& attr) {
    const long result = live::sys_bpf(cmd, &attr, sizeof attr);
    if (result >= 0) opened.push_back(result);
    return int64_t(result);
  };
  const auto our_call = [&](int cmd, bpf_attr& attr) {
    return kernel.sys_bpf(task, cmd, user_ptr(&attr), sizeof attr);
  };
  const struct {
    std::vector<bpf_core_relo> relos;
    uint32_t rec_size = 16, count = 1;
  } cases[] = {
      {{{0, 1, 0, 0}}, 15},
      {{{0, 1, 0, 0}}, 12},
      {{{0, 1, 0, 0}}, 256},
      {{{0, 1, 0, 0}}, 16, 0x80000000},
      {{{4, 1, 0, 0}}},
      {{{16, 1, 0, 0}}},
      {{{0, 99, 0, 0}}},
      {{{0, 2, 0, 0}}},                    // a prototype has no name
      {{{0, 1, 0, 0}, {1, 0, 0, 0}}, 20},  // the second begins with what the first has behind
  };
  for (const auto& c : cases) {
    const Answer ours = load(our_call, c.relos, c.rec_size, c.count),
                 theirs = load(live_call, c.relos, c.rec_size, c.count);
    INFO("size " << c.rec_size << " count " << c.count << " type " << c.relos[0].type_id);
    CHECK(ours.result < 0);
    CHECK(ours.result == theirs.result);
    CHECK(ours.log == theirs.log);
  }
  for (long fd : opened) live::close_fd(fd);
}
