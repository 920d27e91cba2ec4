// Global functions: verified once, for any arguments of their types, and the types are those of BTF. Result
// and log of each program must be the live kernel's, at every log level.
#include <regex>

#include "btf/btf_build.h"
#include "isa/opcodes.h"
#include "live_bpf.h"
#include "sim.h"

using namespace bpfsim;

namespace {

bpf_insn call_of(int32_t distance) { return {0x85, 0, 1, 0, distance}; }
bpf_insn mov(uint8_t dst, int32_t imm) { return {0xb7, dst, 0, 0, imm}; }
bpf_insn copy(uint8_t dst, uint8_t src) { return {0xbf, dst, src, 0, 0}; }
bpf_insn add(uint8_t dst, int32_t imm) { return {0x07, dst, 0, 0, imm}; }
const bpf_insn kExit{0x95, 0, 0, 0, 0};

// Arguments by a letter: c context, s struct __sk_buff, p pt_regs, n number, m struct of 8 bytes, v void *,
// b the struct by value. A function is "g:cn" (global) or "s:" (static), with "!" if it returns nothing.
struct Types {
  BtfBuilder btf;
  uint32_t number = btf.add_int("int", 4, BTF_INT_SIGNED);
  uint32_t pair = btf.add_struct("pair", 8, {{"a", number, 0}, {"b", number, 32}});
  uint32_t of(char letter) {
    switch (letter) {
      case 'c': return btf.add_ptr(btf.add_struct("xdp_md", 24, {}));
      case 's': return btf.add_ptr(btf.add_struct("__sk_buff", 192, {}));
      case 'p': return btf.add_ptr(btf.add_struct("pt_regs", 168, {}));
      case 'm': return btf.add_ptr(pair);
      case 'v': return btf.add_ptr(0);
      case 'b': return pair;
      default: return number;
    }
  }
  uint32_t func(const std::string& text, const std::string& name) {
    const bool is_void = text.back() == '!';
    std::vector<BtfBuilder::Param> params;
    for (char letter : text.substr(2))
      if (letter != '!') params.push_back({"x", of(letter)});
    return btf.add_func(name, btf.add_func_proto(is_void ? 0 : number, params),
                        text[0] == 'g' ? BTF_FUNC_GLOBAL : BTF_FUNC_STATIC);
  }
};

struct Case {
  const char* what;
  std::vector<std::string> functions;
  std::vector<uint32_t> starts;
  std::vector<bpf_insn> insns;
  bpf_prog_type type = BPF_PROG_TYPE_XDP;
};

const std::vector<bpf_insn> kOnStack = {mov(2, 0), {0x7b, 10, 2, -8, 0}, copy(1, 10), add(1, -8)};
std::vector<bpf_insn> operator+(std::vector<bpf_insn> one, const std::vector<bpf_insn>& two) {
  one.insert(one.end(), two.begin(), two.end());
  return one;
}

const Case kCases[] = {
    {"a number", {"g:c", "g:n"}, {0, 3}, {mov(1, 3), call_of(1), kExit, copy(0, 1), kExit}},
    {"a pointer for a number", {"g:c", "g:n"}, {0, 2}, {call_of(1), kExit, copy(0, 1), kExit}},
    {"the same, static", {"g:c", "s:n"}, {0, 2}, {call_of(1), kExit, mov(0, 1), kExit}},
    {"the context", {"g:c", "g:c"}, {0, 2}, {call_of(1), kExit, {0x61, 0, 1, 0, 0}, mov(0, 2), kExit}},
    {"a number for it", {"g:c", "g:c"}, {0, 3}, {mov(1, 0), call_of(1), kExit, mov(0, 2), kExit}},
    {"memory",
     {"g:c", "g:m"},
     {0, 7},
     kOnStack +
         std::vector<bpf_insn>{
             call_of(2), mov(0, 2), kExit, {0x55, 1, 0, 2, 0}, mov(0, 0), kExit, {0x79, 0, 1, 0, 0}, kExit}},
    {"memory that may be NULL",
     {"g:c", "g:m"},
     {0, 7},
     kOnStack + std::vector<bpf_insn>{call_of(2), mov(0, 2), kExit, {0x79, 0, 1, 0, 0}, kExit}},
    {"memory beyond its end",
     {"g:c", "g:m"},
     {0, 7},
     kOnStack +
         std::vector<bpf_insn>{
             call_of(2), mov(0, 2), kExit, {0x55, 1, 0, 2, 0}, mov(0, 0), kExit, {0x79, 0, 1, 4, 0}, kExit}},
    {"memory that is not initialised",
     {"g:c", "g:m"},
     {0, 5},
     {copy(1, 10), add(1, -8), call_of(2), mov(0, 2), kExit, mov(0, 0), kExit}},
    {"NULL for memory", {"g:c", "g:m"}, {0, 4}, {mov(1, 0), call_of(2), mov(0, 2), kExit, mov(0, 0), kExit}},
    {"void *", {"g:c", "g:v"}, {0, 4}, {mov(1, 0), call_of(2), mov(0, 2), kExit, mov(0, 0), kExit}},
    {"void * of main", {"g:v"}, {0}, {mov(0, 2), kExit}},
    {"void * of a static main", {"s:v"}, {0}, {mov(0, 2), kExit}},
    {"a main that returns nothing", {"g:c!"}, {0}, {mov(0, 2), kExit}},
    {"nothing returned",
     {"g:c", "g:n!"},
     {0, 4},
     {mov(1, 0), call_of(2), mov(0, 2), kExit, mov(0, 0), kExit}},
    {"six arguments",
     {"g:c", "g:nnnnnn"},
     {0, 4},
     {mov(1, 0), call_of(2), mov(0, 2), kExit, mov(0, 0), kExit}},
    {"a struct by value",
     {"g:c", "g:b"},
     {0, 4},
     {mov(1, 0), call_of(2), mov(0, 2), kExit, mov(0, 0), kExit}},
    {"the context returned", {"g:c", "g:c"}, {0, 3}, {call_of(2), mov(0, 2), kExit, copy(0, 1), kExit}},
    {"a global function that calls one",
     {"g:c", "g:n", "g:nn"},
     {0, 4, 7},
     {mov(1, 1),
      call_of(2),
      mov(0, 2),
      kExit,
      mov(2, 7),
      call_of(1),
      kExit,
      copy(0, 1),
      {0x0f, 0, 2, 0, 0},
      kExit}},
    {"one that calls a static one",
     {"g:c", "g:n", "s:nn"},
     {0, 4, 7},
     {mov(1, 1),
      call_of(2),
      mov(0, 2),
      kExit,
      mov(2, 7),
      call_of(1),
      kExit,
      copy(0, 1),
      {0x0f, 0, 2, 0, 0},
      kExit}},
    {"an argument that is not set",
     {"g:c", "g:nn"},
     {0, 4},
     {mov(1, 1), call_of(2), mov(0, 2), kExit, mov(0, 7), kExit}},
    {"an error in the function",
     {"g:c", "g:n"},
     {0, 4},
     {mov(1, 1), call_of(2), mov(0, 2), kExit, copy(0, 2), kExit}},
    {"an error in one that is never called",
     {"g:c", "g:n"},
     {0, 6},
     {mov(0, 2), {0x55, 0, 0, 1, 2}, kExit, mov(1, 2), call_of(1), kExit, copy(0, 5), kExit}},
    {"a result that is any number",
     {"g:s", "g:n"},
     {0, 3},
     {mov(1, 1), call_of(1), kExit, copy(0, 1), kExit},
     BPF_PROG_TYPE_CGROUP_SKB},
    {"registers of a kprobe",
     {"g:p", "g:p"},
     {0, 2},
     {call_of(1), kExit, {0x79, 0, 1, 0, 0}, kExit},
     BPF_PROG_TYPE_KPROBE},
    {"a packet that moves meanwhile",
     {"g:s", "g:s"},
     {0, 11},
     {copy(6, 1),
      {0x61, 7, 1, 76, 0},
      {0x61, 8, 1, 80, 0},
      copy(2, 7),
      add(2, 1),
      {0x2d, 2, 8, 3, 0},
      call_of(4),
      {0x71, 0, 7, 0, 0},
      kExit,
      mov(0, 0),
      kExit,
      mov(2, 0),
      {0x85, 0, 0, 0, BPF_FUNC_skb_pull_data},
      mov(0, 0),
      kExit},
     BPF_PROG_TYPE_SCHED_CLS},
};

struct Verdict {
  long result;  // 0 or -errno
  std::string log;
  bool operator==(const Verdict&) const = default;
};

template <class SysBpf>
Verdict load(const Case& c, uint32_t level, const SysBpf& sys_bpf, std::vector<long>& opened) {
  Types types;
  std::vector<bpf_func_info> info;
  for (size_t i = 0; i < c.functions.size(); ++i)
    info.push_back({c.starts[i], types.func(c.functions[i], "f" + std::to_string(i))});
  const std::vector<uint8_t> blob = types.btf.bytes();
  bpf_attr btf;
  btf.btf = user_ptr(blob.data());
  btf.btf_size = uint32_t(blob.size());
  opened.push_back(sys_bpf(BPF_BTF_LOAD, btf));
  std::vector<char> log(1 << 16);
  bpf_attr attr = prog_load_attr(c.type, c.insns, &log, level);
  attr.prog_btf_fd = uint32_t(opened.back());
  attr.func_info = user_ptr(info.data());
  attr.func_info_rec_size = sizeof(bpf_func_info);
  attr.func_info_cnt = uint32_t(info.size());
  const long result = sys_bpf(BPF_PROG_LOAD, attr);
  opened.push_back(result);
  static const std::regex time("verification time [0-9]+");
  return {std::min(result, 0l), std::regex_replace(std::string(log.data()), time, "verification time N")};
}

}  // namespace

TEST_CASE("global functions are accepted and refused as by the live kernel, in the same words") {
  LIVE_KERNEL_OR_SKIP();
  for (const Case& c : kCases)
    for (uint32_t level : {1u, 2u, 4u}) {
      INFO(c.what << ", log level " << level);
      Sim s;
      std::vector<long> ours, theirs;
      const Verdict our = load(c, level, [&](int cmd, bpf_attr& attr) { return s.bpf(cmd, attr); }, ours);
      const Verdict live = load(
          c, level, [](int cmd, bpf_attr& attr) { return live::sys_bpf(cmd, &attr, sizeof attr); }, theirs);
      for (long fd : theirs) live::close_fd(fd);
      CHECK(our.result == live.result);
      CHECK(our.log == live.log);
    }
}

TEST_CASE("a call of a global function runs it") {
  Sim s;
  std::vector<long> opened;
  const Verdict verdict =
      load(kCases[0], 1, [&](int cmd, bpf_attr& attr) { return s.bpf(cmd, attr); }, opened);
  REQUIRE(verdict.result == 0);
  std::vector<uint8_t> packet(64);
  bpf_attr attr;
  attr.test.prog_fd = uint32_t(opened.back());
  attr.test.data_in = user_ptr(packet.data());
  attr.test.data_size_in = uint32_t(packet.size());
  REQUIRE(s.bpf(BPF_PROG_TEST_RUN, attr) == 0);
  CHECK(attr.test.retval == 3);
}
