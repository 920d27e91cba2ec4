#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <vector>

#include "catch.h"
#include "isa/insn.h"
#include "kernel.h"
#include "object/file.h"
#include "test_data.h"
#include "uapi/bpf.h"
#include "uapi/result.h"

using namespace bpfsim;

namespace {
// A machine with the maps of verifier_live_6_18.tsv, and bpf(PROG_LOAD) with a log.
class Loader {
 public:
  explicit Loader(const MachineOptions& options = {}) : kernel_(options), task_(kernel_.spawn("loader")) {
    map(3, BPF_MAP_TYPE_ARRAY, 4, 8, 4);
    map(4, BPF_MAP_TYPE_HASH, 4, 8, 4);
    map(5, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4);
    map(7, BPF_MAP_TYPE_QUEUE, 0, 8, 4);
    map(8, BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_RDONLY_PROG);
    map(9, BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_WRONLY_PROG);
  }

  Errno load(bpf_prog_type type, std::vector<bpf_insn> insns, uint32_t level = 1, uint32_t prog_flags = 0) {
    bpf_attr attr{};
    log_.assign(1 << 20, '\0');
    attr.prog_type = type;
    attr.insns = address(insns.data());
    attr.insn_cnt = uint32_t(insns.size());
    attr.license = address("GPL");
    attr.prog_flags = prog_flags;
    attr.log_level = level;
    if (level) {
      attr.log_buf = address(log_.data());
      attr.log_size = uint32_t(log_.size());
    }
    auto fd = kernel_.bpf(task_, BPF_PROG_LOAD, attr, sizeof attr);
    log_.resize(log_.find('\0'));
    log_ = std::regex_replace(log_, std::regex("0xffff8[0-9a-f]{11}"), "<map>");
    reason_ = fd.refusal().reason();
    if (fd) REQUIRE(kernel_.close(task_, int(*fd)).ok());
    return fd.err();
  }

  // Our descriptor of the map that has this one in the table; false if no such map is modelled.
  bool translate(std::vector<bpf_insn>& insns) const {
    for (size_t i = 0; i < insns.size(); i++) {
      if (!is_ld_imm64(insns[i])) continue;
      if (insns[i].src_reg == BPF_PSEUDO_MAP_FD || insns[i].src_reg == BPF_PSEUDO_MAP_VALUE) {
        auto fd = fds_.find(insns[i].imm);
        if (insns[i].imm <= 11 && fd == fds_.end()) return false;
        if (fd != fds_.end()) insns[i].imm = fd->second;
      }
      i++;
    }
    return true;
  }

  const std::string& log() const { return log_; }
  const std::string& reason() const { return reason_; }
  Machine& machine() { return kernel_.machine(); }
  Task& task() { return task_; }
  int fd(int in_table) const { return fds_.at(in_table); }

 private:
  static uint64_t address(const void* p) { return uint64_t(reinterpret_cast<uintptr_t>(p)); }
  void map(int in_table, bpf_map_type type, uint32_t key, uint32_t value, uint32_t max, uint32_t flags = 0) {
    bpf_attr attr{};
    attr.map_type = type, attr.key_size = key, attr.value_size = value;
    attr.max_entries = max, attr.map_flags = flags;
    if (auto fd = kernel_.bpf(task_, BPF_MAP_CREATE, attr, sizeof attr)) fds_[in_table] = int(*fd);
  }

  Kernel kernel_;
  Task& task_;
  std::map<int, int> fds_;
  std::string log_, reason_;
};

std::vector<bpf_insn> from_hex(const std::string& hex) {
  std::vector<bpf_insn> insns(hex.size() / 16);
  auto* bytes = reinterpret_cast<unsigned char*>(insns.data());
  for (size_t i = 0; i < insns.size() * 8; i++)
    bytes[i] = uint8_t(std::stoi(hex.substr(i * 2, 2), nullptr, 16));
  return insns;
}

std::string mask_maps(const std::string& text) {
  return std::regex_replace(text, std::regex("0xffff8[0-9a-f]{11}"), "<map>");
}

struct Verdict {
  std::string name, type, attach, result, processed, insns, log_tail;
};

std::vector<Verdict> live_verdicts() {
  std::ifstream file(test_data_dir() / "verifier_live_6_18.tsv");
  std::vector<Verdict> all;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream in(line);
    Verdict v;
    for (std::string* field : {&v.name, &v.type, &v.attach, &v.result, &v.processed, &v.insns, &v.log_tail})
      std::getline(in, *field, '\t');
    all.push_back(v);
  }
  return all;
}

const std::map<std::string, bpf_prog_type> kTypes = {
    {"BPF_PROG_TYPE_SOCKET_FILTER", BPF_PROG_TYPE_SOCKET_FILTER},
    {"BPF_PROG_TYPE_XDP", BPF_PROG_TYPE_XDP},
    {"BPF_PROG_TYPE_SCHED_CLS", BPF_PROG_TYPE_SCHED_CLS},
};

// The last lines of the log, without the statistics, as the table joins them; as many as the table has.
std::string tail_of(const std::string& log, const std::string& like) {
  std::vector<std::string> lines;
  std::istringstream in(log);
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line.rfind("processed ", 0) != 0) lines.push_back(line);
  size_t want = like.empty() ? 0 : 1;
  for (size_t at = like.find(" / "); at != std::string::npos; at = like.find(" / ", at + 3)) want++;
  std::string tail;
  for (size_t i = lines.size() - std::min(want, lines.size()); i < lines.size(); i++)
    tail += (tail.empty() ? "" : " / ") + lines[i];
  return tail;
}
}  // namespace

TEST_CASE("Programs are judged as 6.18 judges them, in its words") {
  Loader loader;
  int judged = 0, not_modelled = 0;
  for (const Verdict& live : live_verdicts()) {
    std::vector<bpf_insn> insns = from_hex(live.insns);
    auto type = kTypes.find(live.type);
    if (insns.empty() || type == kTypes.end() || !loader.translate(insns)) {
      not_modelled++;
      continue;
    }
    // A million lines of log would fill any buffer and turn the errno into ENOSPC.
    const bool endless = live.result == "E2BIG";
    Errno err = loader.load(type->second, insns, endless ? 0 : 1);
    const char* no_helper = "program of this type cannot use helper";
    bool helper_missing = loader.log().find(no_helper) != std::string::npos &&
                          live.log_tail.find(no_helper) == std::string::npos;
    if (helper_missing || loader.log().find("not modelled yet") != std::string::npos) {
      not_modelled++;
      continue;
    }
    judged++;
    INFO(live.name << "\n" << loader.reason() << "\n" << loader.log());
    CHECK((err == Errno::None ? "ok" : errno_name(err)) == live.result);
    if (endless) continue;
    std::string tail = mask_maps(live.log_tail);
    CHECK(tail_of(loader.log(), tail) == tail);
    if (!live.processed.empty())
      CHECK(loader.log().find("processed " + live.processed + " insns") != std::string::npos);
  }
  INFO(not_modelled << " not modelled");
  CHECK(judged >= 120);
}

TEST_CASE("The log of level 2 is the kernel's, line by line") {
  Loader loader;
  auto insns = program(mov64_imm(0, 0), mov64_imm(1, 5), jmp_imm(BPF_JEQ, 1, 5, 1), exit_insn(), exit_insn());
  REQUIRE(loader.load(BPF_PROG_TYPE_SOCKET_FILTER, insns, 2) == Errno::None);
  CHECK(loader.log() == R"(func#0 @0
Live regs before insn:
      0: .......... (b7) r0 = 0
      1: 0......... (b7) r1 = 5
      2: 01........ (15) if r1 == 0x5 goto pc+1
      3: 0......... (95) exit
      4: 0......... (95) exit
0: R1=ctx() R10=fp0
0: (b7) r0 = 0                        ; R0=0
1: (b7) r1 = 5                        ; R1=5
2: (15) if r1 == 0x5 goto pc+1
mark_precise: frame0: last_idx 2 first_idx 0 subseq_idx -1 
mark_precise: frame0: regs=r1 stack= before 1: (b7) r1 = 5
2: R1=5
4: (95) exit
processed 4 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
)");
}

TEST_CASE("Only what is a may_goto keeps a state for it") {
  struct {
    bpf_insn insn;
    const char* states;
  } const rows[] = {{may_goto(0), "total_states 1"}, {{0xe5, 6, 1, 0, 0}, "total_states 0"}};
  for (const auto& row : rows) {
    bpf_insn insn = row.insn;
    insn.imm = 1;
    Loader loader;
    CHECK(loader.load(BPF_PROG_TYPE_SOCKET_FILTER, program(insn, mov64_imm(0, 0), exit_insn()), 2) ==
          Errno::Inval);
    CHECK(loader.log().find("invalid may_goto imm 1\n") != std::string::npos);
    CHECK(loader.log().find(row.states) != std::string::npos);
  }
}

TEST_CASE("Older kernels know no loop, and give up sooner") {
  struct Case {
    Version version;
    Errno loop, long_walk;
  };
  for (Case c : {Case{"4.19"_v, Errno::Inval, Errno::TooBig}, Case{"5.4"_v, Errno::None, Errno::None},
                 Case{"6.18"_v, Errno::None, Errno::None}}) {
    CAPTURE(c.version.str());
    MachineOptions options;
    options.version = c.version;
    Loader loader(options);
    auto loop = program(mov64_imm(1, 10), alu64_imm(BPF_ADD, 1, -1), jmp_imm(BPF_JNE, 1, 0, -2),
                        mov64_imm(0, 0), exit_insn());
    CHECK(loader.load(BPF_PROG_TYPE_SOCKET_FILTER, loop, 0) == c.loop);
    // Branches on unknown bits, each of which changes a number that an access rests on: no two paths may be
    // merged.
    std::vector<bpf_insn> walk =
        program(call_helper(BPF_FUNC_get_prandom_u32), mov64_reg(6, 0), mov64_imm(7, 0));
    for (int bit = 0; bit < 14; bit++) {
      append(walk, jmp_imm(BPF_JSET, 6, int64_t{1} << bit, 1));
      append(walk, alu64_imm(BPF_ADD, 7, int64_t{1} << bit));
    }
    for (const bpf_insn& insn :
         program(ld_map_fd(1, loader.fd(3)), mov64_reg(2, 10), alu64_imm(BPF_ADD, 2, -4),
                 st_mem(BPF_W, 10, -4, 0), call_helper(BPF_FUNC_map_lookup_elem), jmp_imm(BPF_JEQ, 0, 0, 3),
                 alu64_imm(BPF_AND, 7, 7), alu64_reg(BPF_ADD, 0, 7), ldx_mem(BPF_B, 0, 0, 0), mov64_imm(0, 0),
                 exit_insn()))
      append(walk, insn);
    CHECK(loader.load(BPF_PROG_TYPE_SOCKET_FILTER, walk, 0) == c.long_walk);
  }
}

TEST_CASE("Who may not see addresses gets none, and no unknown stack") {
  Loader loader;
  loader.machine().sysctl.unprivileged_bpf_disabled = 0;
  loader.task().cred.effective = 0;
  struct Case {
    std::vector<bpf_insn> insns;
    std::string last;
  };
  const Case cases[] = {
      {program(mov64_reg(0, 10), exit_insn()), "R0 leaks addr as return value"},
      {program(ldx_mem(BPF_DW, 0, 10, -8), exit_insn()), "invalid read from stack R10 off=-8 size=8"},
      {program(mov64_imm(0, 0), stx_mem(BPF_DW, 1, 10, 48), exit_insn()), "R10 leaks addr into ctx"},
      {program(mov64_imm(0, 0), jmp_reg(BPF_JEQ, 1, 10, 0), exit_insn()),
       "R10 pointer comparison prohibited"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.last);
    Errno err = loader.load(BPF_PROG_TYPE_SOCKET_FILTER, c.insns);
    INFO(loader.log());
    CHECK(err == Errno::Access);
    CHECK(tail_of(loader.log(), c.last) == c.last);
  }
}
