// What a program brings about its functions and lines, and CO-RE relocations that the kernel refuses before
// it applies any: the same errno and the same line in the log as the live kernel's.
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

namespace {

struct Infos {
  const char* name;
  std::vector<uint32_t> funcs = {0, 3, 2, 4};  // insn_off, type_id
  uint32_t func_size = 8, func_count = 2;
  std::vector<uint32_t> lines = {0, 1, 1, 1024,
                                 2, 1, 1, 2048};  // insn_off, file_name_off, line_off, line_col
  uint32_t line_size = 16, line_count = 2;
  bool ld_abs = false;  // in the second function
};

template <class Call>
Answer load(const Call& call, const Infos& c) {
  BtfBuilder b;
  const uint32_t proto = b.add_func_proto(b.add_int("int", 4, BTF_INT_SIGNED), {});
  b.add_func("main", proto, BTF_FUNC_STATIC);
  b.add_func("sub", proto, BTF_FUNC_STATIC);
  b.add_func("nothing", b.add_func_proto(0, {}), BTF_FUNC_STATIC);
  b.add_func("some", b.add_func_proto(b.add_struct("s", 4, {{"a", 1, 0}}), {}), BTF_FUNC_STATIC);
  const std::vector<uint8_t> btf = b.bytes();
  bpf_attr attr;
  attr.btf = user_ptr(btf.data());
  attr.btf_size = uint32_t(btf.size());
  const int64_t btf_fd = call(BPF_BTF_LOAD, attr);

  // main() { sub(); } sub() { ... }: instruction 4 is the second half of an LD_IMM64.
  const std::vector<bpf_insn> insns = {
      {0x85, 0, 1, 0, 1},                                                           // call sub
      exit_insn(),        c.ld_abs ? bpf_insn{0x30, 0, 0, 0, 0} : mov64_imm(0, 0),  // r0 = *(u8 *)skb[0]
      {0x18, 2, 0, 0, 1}, {0, 0, 0, 0, 0},
      exit_insn()};
  std::string log(4096, '\0');
  attr = {};
  attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attr.insns = user_ptr(insns.data());
  attr.insn_cnt = uint32_t(insns.size());
  attr.license = user_ptr("GPL");
  attr.log_buf = user_ptr(log.data());
  attr.log_size = uint32_t(log.size());
  attr.log_level = 1;
  attr.prog_btf_fd = uint32_t(btf_fd);
  attr.func_info = user_ptr(c.funcs.data());
  attr.func_info_cnt = c.func_count;
  attr.func_info_rec_size = c.func_size;
  attr.line_info = user_ptr(c.lines.data());
  attr.line_info_cnt = c.line_count;
  attr.line_info_rec_size = c.line_size;
  const int64_t result = call(BPF_PROG_LOAD, attr);
  return {result < 0 ? result : 0, result < 0 ? log.c_str() : ""};
}

}  // namespace

TEST_CASE("what a program says of its functions and lines is judged as by the live kernel") {
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
  const Infos cases[] = {
      {.name = "as it should be"},
      {.name = "no lines", .line_count = 0},
      {.name = "no functions", .func_count = 0},
      {.name = "neither", .func_count = 0, .line_count = 0},
      {.name = "one function of two", .func_count = 1},
      {.name = "first not at 0", .funcs = {1, 3, 2, 4}},
      {.name = "twice the same", .funcs = {0, 3, 0, 4}},
      {.name = "second not where it begins", .funcs = {0, 3, 3, 4}},
      {.name = "no function's type", .funcs = {0, 3, 2, 1}},
      {.name = "no type", .funcs = {0, 3, 2, 99}},
      {.name = "short records", .func_size = 4},
      {.name = "odd records", .func_size = 9},
      {.name = "long records", .func_size = 256},
      {.name = "zero behind", .funcs = {0, 3, 0, 2, 4, 0}, .func_size = 12},
      {.name = "something behind", .funcs = {0, 3, 0, 2, 4, 7}, .func_size = 12},
      {.name = "lines without zero behind", .lines = {0, 1, 1, 1, 9, 2, 1, 1, 1, 0}, .line_size = 20},
      {.name = "short lines", .line_size = 12},
      {.name = "long lines", .line_size = 256},
      {.name = "too many lines", .line_count = 0x80000000},
      {.name = "lines backwards", .lines = {0, 1, 1, 1, 0, 1, 1, 1}},
      {.name = "a line beyond", .lines = {0, 1, 1, 1, 6, 1, 1, 1}},
      {.name = "a line within an instruction", .lines = {0, 1, 1, 1, 4, 1, 1, 1}},
      {.name = "no file", .lines = {0, 9999, 1, 1, 2, 1, 1, 1}},
      {.name = "no text", .lines = {0, 1, 9999, 1, 2, 1, 1, 1}},
      {.name = "first line not at 0", .lines = {1, 1, 1, 1, 2, 1, 1, 1}},
      {.name = "second function without a line", .lines = {0, 1, 1, 1, 3, 1, 1, 1}},
      {.name = "lines end before the second function", .lines = {0, 1, 1, 1, 1, 1, 1, 1}},
      {.name = "a bad line behind a missing one",
       .lines = {0, 1, 1, 1, 3, 1, 1, 1, 9, 1, 1, 1},
       .line_count = 3},
      {.name = "LD_ABS without types", .func_count = 0, .line_count = 0, .ld_abs = true},
      {.name = "LD_ABS, lines alone", .func_count = 0, .ld_abs = true},
      {.name = "LD_ABS in what returns nothing", .funcs = {0, 3, 2, 6}, .ld_abs = true},
      {.name = "LD_ABS in what returns a struct", .funcs = {0, 3, 2, 9}, .ld_abs = true},
  };
  int accepted = 0;
  for (const Infos& c : cases) {
    const Answer ours = load(our_call, c), theirs = load(live_call, c);
    INFO(c.name);
    accepted += ours.result == 0;
    CHECK(ours.result == theirs.result);
    CHECK(ours.log == theirs.log);
  }
  CHECK(accepted == 5);
  for (long fd : opened) live::close_fd(fd);
}
