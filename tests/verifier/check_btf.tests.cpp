// What a program brings about its functions and lines, and CO-RE relocations that the kernel refuses before
// it applies any: the same errno and the same line in the log as the live kernel's.
#include <string>

#include "btf/btf_build.h"
#include "isa/insn.h"
#include "live_bpf.h"
#include "sim.h"
#include "uapi/info.h"

using namespace bpfsim;

namespace {

struct Answer {
  long result;  // 0 or -errno
  std::string log;
};

// The same programs for the simulator and for the live kernel.
struct Both : Sim {
  ~Both() {
    for (long fd : opened) live::close_fd(fd);
  }
  long call(bool asks_live, int cmd, bpf_attr& attr) {
    if (!asks_live) return bpf(cmd, attr);
    opened.push_back(live::sys_bpf(cmd, &attr, sizeof attr));
    return opened.back();
  }
  Answer load(bool asks_live, const std::vector<bpf_insn>& insns, const BtfBuilder& types, auto fill) {
    const std::vector<uint8_t> blob = types.bytes();
    bpf_attr btf;
    btf.btf = user_ptr(blob.data());
    btf.btf_size = uint32_t(blob.size());
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_SOCKET_FILTER, insns, &log);
    attr.prog_btf_fd = uint32_t(call(asks_live, BPF_BTF_LOAD, btf));
    fill(attr);
    const long result = call(asks_live, BPF_PROG_LOAD, attr);
    return {std::min(result, 0l), result < 0 ? log.data() : ""};
  }
  std::vector<long> opened;
};

struct Relos {
  std::vector<bpf_core_relo> relos;
  uint32_t rec_size = 16, count = 1;
};

Answer load(Both& both, bool asks_live, const Relos& c) {
  BtfBuilder b;
  b.add_func("main", b.add_func_proto(b.add_int("int", 4, BTF_INT_SIGNED), {}), BTF_FUNC_STATIC);
  const bpf_func_info info = {0, 3};
  return both.load(asks_live, {mov64_imm(0, 0), exit_insn()}, b, [&](bpf_attr& attr) {
    attr.func_info = user_ptr(&info);
    attr.func_info_cnt = 1;
    attr.func_info_rec_size = sizeof info;
    attr.core_relos = user_ptr(c.relos.data());
    attr.core_relo_cnt = c.count;
    attr.core_relo_rec_size = c.rec_size;
  });
}

}  // namespace

TEST_CASE("CO-RE relocations that cannot be read are refused as by the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
  const Relos cases[] = {
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
  for (const Relos& c : cases) {
    const Answer ours = load(both, false, c), theirs = load(both, true, c);
    INFO("size " << c.rec_size << " count " << c.count << " type " << c.relos[0].type_id);
    CHECK(ours.result < 0);
    CHECK(ours.result == theirs.result);
    CHECK(ours.log == theirs.log);
  }
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

Answer load(Both& both, bool asks_live, const Infos& c) {
  BtfBuilder b;
  const uint32_t proto = b.add_func_proto(b.add_int("int", 4, BTF_INT_SIGNED), {});
  b.add_func("main", proto, BTF_FUNC_STATIC);
  b.add_func("sub", proto, BTF_FUNC_STATIC);
  b.add_func("nothing", b.add_func_proto(0, {}), BTF_FUNC_STATIC);
  b.add_func("some", b.add_func_proto(b.add_struct("s", 4, {{"a", 1, 0}}), {}), BTF_FUNC_STATIC);
  // main() { sub(); } sub() { ... }: instruction 4 is the second half of an LD_IMM64.
  const std::vector<bpf_insn> insns = {
      {0x85, 0, 1, 0, 1},                                                           // call sub
      exit_insn(),        c.ld_abs ? bpf_insn{0x30, 0, 0, 0, 0} : mov64_imm(0, 0),  // r0 = *(u8 *)skb[0]
      {0x18, 2, 0, 0, 1}, {0, 0, 0, 0, 0},
      exit_insn()};
  return both.load(asks_live, insns, b, [&](bpf_attr& attr) {
    attr.func_info = user_ptr(c.funcs.data());
    attr.func_info_cnt = c.func_count;
    attr.func_info_rec_size = c.func_size;
    attr.line_info = user_ptr(c.lines.data());
    attr.line_info_cnt = c.line_count;
    attr.line_info_rec_size = c.line_size;
  });
}

}  // namespace

TEST_CASE("what a program says of its functions and lines is judged as by the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Both both;
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
    const Answer ours = load(both, false, c), theirs = load(both, true, c);
    INFO(c.name);
    accepted += ours.result == 0;
    CHECK(ours.result == theirs.result);
    CHECK(ours.log == theirs.log);
  }
  CHECK(accepted == 5);
}
