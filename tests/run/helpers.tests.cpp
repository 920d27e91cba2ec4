// Helper bodies, and that identity (uapi/helpers.def) and behaviour (run/helpers) fit each other.
#include <cstring>
#include <set>

#include "catch.h"
#include "live_bpf.h"
#include "object/file.h"
#include "program.h"
#include "run/checked.h"
#include "run/helpers/table.h"

using namespace bpfsim;

TEST_CASE("Each modelled helper is one row of the helper table, with the same license rule") {
  struct Row {
    bpf_func_id id;
    const char* name;
    bool gpl_only;
  };
  const Row rows[] = {
#define HELPER(name, number, since, gpl_only, signature) {BPF_FUNC_##name, #name, gpl_only},
#include "uapi/helpers.def"
#undef HELPER
  };
  std::set<std::string> modelled;
#define BPFSIM_HELPER(name) CHECK(modelled.insert(#name).second);
#include "run/helpers/modelled.def"
#undef BPFSIM_HELPER
  size_t found = 0;
  for (const Row& row : rows) {
    const FuncProto* proto = helper_proto(row.id);
    INFO(row.name);
    CHECK((proto != nullptr) == (modelled.count(row.name) == 1));
    if (!proto) continue;
    ++found;
    CHECK(proto->func != nullptr);
    CHECK(proto->gpl_only == row.gpl_only);
  }
  CHECK(found == modelled.size());
  CHECK(helper_proto(bpf_func_id(0)) == nullptr);
  CHECK(helper_proto(bpf_func_id(-1)) == nullptr);
}

namespace {

// Puts a text on the stack, ending at fp, and its address into r1.
std::vector<bpf_insn> text_on_stack(const std::string& text) {
  size_t size = (text.size() + 1 + 7) / 8 * 8;
  std::string padded = text + std::string(size - text.size(), '\0');
  std::vector<bpf_insn> insns;
  for (size_t at = 0; at < size; at += 8) {
    uint64_t word;
    std::memcpy(&word, padded.data() + at, 8);
    append(insns, ld_imm64(2, word));
    append(insns, stx_mem(BPF_DW, 10, 2, int(at) - int(size)));
  }
  append(insns, mov64_reg(1, 10));
  append(insns, alu64_imm(BPF_ADD, 1, -int64_t(size)));
  return insns;
}

std::vector<bpf_insn> printk_program(const std::string& fmt, const std::vector<uint64_t>& args,
                                     int size = -1) {
  std::vector<bpf_insn> insns = text_on_stack(fmt);
  append(insns, mov64_imm(2, size < 0 ? int(fmt.size()) + 1 : size));
  for (size_t i = 0; i < 3; ++i) append(insns, ld_imm64(3 + int(i), i < args.size() ? args[i] : 0));
  append(insns, call_helper(BPF_FUNC_trace_printk));
  append(insns, exit_insn());
  return insns;
}

const struct Format {
  const char* fmt;
  std::vector<uint64_t> args;
  int64_t ret;       // its length, or an errno
  const char* text;  // null: nothing is printed
} kFormats[] = {
    {"hi", {}, 2, "hi"},
    {"", {}, 0, ""},
    {"hi\n", {}, 3, "hi\n"},
    {"%d %i", {uint64_t(-5), 7}, 4, "-5 7"},
    {"%u %x %X", {uint64_t(-1), 0xabc, 0xabc}, 18, "4294967295 abc ABC"},
    {"%lld", {uint64_t(-1)}, 2, "-1"},
    {"%ld %lu", {uint64_t(-1), uint64_t(-1)}, 23, "-1 18446744073709551615"},
    {"%llx", {0x1122334455667788}, 16, "1122334455667788"},
    {"%d", {0x1122334455667788}, 10, "1432778632"},
    {"%5d|%-5d|%05d", {42, 42, 42}, 17, "   42|42   |00042"},
    {"%+d % d", {5, 5}, 5, "+5  5"},
    {"%05d", {uint64_t(-42)}, 5, "-0042"},
    {"100%%", {}, 4, "100%"},
    {"%c%c", {'o', 'k'}, 2, "ok"},
    {"%s", {0}, 0, ""},
    {"%px", {0xffff888012345678}, 16, "ffff888012345678"},
    {"%d %d %d %d", {1, 2, 3}, -22, nullptr},
    {"%y", {1}, -22, nullptr},
    {"%", {1}, -22, nullptr},
    {"%lllx", {1}, -22, nullptr},
    {"%hd", {1}, -22, nullptr},
    {"%sx", {0}, -22, nullptr},
    {"%pz", {0}, -22, nullptr},
    {"%.3d", {1}, -22, nullptr},
    {"%*d", {1}, -22, nullptr},
    {"bell\a", {}, -22, nullptr},
    {"tab\t", {}, 4, "tab\t"},
    {"gr\xc3\xbc\xc3\x9f", {}, 6, "gr\xc3\xbc\xc3\x9f"},
};

}  // namespace

TEST_CASE("bpf_trace_printk prints what the format says, or refuses it") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  for (const Format& f : kFormats) {
    machine.trace_pipe.clear();
    LooseProgram program(machine, printk_program(f.fmt, f.args));
    INFO("format '" << f.fmt << "'");
    CHECK(int64_t(program.run().value) == f.ret);
    CHECK(machine.trace_pipe.size() == (f.text ? 1u : 0u));
    if (f.text && machine.trace_pipe.size() == 1)
      CHECK(machine.trace_pipe[0].substr(machine.trace_pipe[0].find("printk: ") + 8) ==
            std::string(f.text) + "\n");
  }
  LooseProgram unterminated(machine, printk_program("1234567", {}, 7));
  CHECK(int64_t(unterminated.run().value) == -22);
}

TEST_CASE("The live kernel answers the same to each format") {
  LIVE_KERNEL_OR_SKIP();
  for (const Format& f : kFormats) {
    auto insns = printk_program(f.fmt, f.args);
    // XDP answers 32 bits: enough for a length or an errno
    bpf_attr attr;
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.insns = reinterpret_cast<uintptr_t>(insns.data());
    attr.insn_cnt = uint32_t(insns.size());
    attr.license = reinterpret_cast<uintptr_t>("GPL");
    long fd = live::sys_bpf(BPF_PROG_LOAD, &attr, sizeof attr);
    INFO("format '" << f.fmt << "'");
    REQUIRE(fd >= 0);
    uint8_t packet[64] = {};
    bpf_attr run;
    run.test.prog_fd = uint32_t(fd);
    run.test.data_in = reinterpret_cast<uintptr_t>(packet);
    run.test.data_size_in = sizeof packet;
    REQUIRE(live::sys_bpf(BPF_PROG_TEST_RUN, &run, sizeof run.test) == 0);
    live::close_fd(fd);
    CHECK(int32_t(run.test.retval) == f.ret);
  }
}

TEST_CASE("A line of trace_pipe has its version's shape") {
  struct {
    Version version;
    const char* line;
  } const cases[] = {
      {{6, 18}, "            bash-470     [001] b..11  5613.198301: bpf_trace_printk: hi"},
      {{5, 17}, "            bash-470     [001] b..11  5613.198301: bpf_trace_printk: hi"},
      {{5, 16}, "            bash-470     [001] ...11  5613.198301: bpf_trace_printk: hi"},
      {{5, 9}, "            bash-470     [001] ...1  5613.198301: bpf_trace_printk: hi"},
      {{5, 8}, "            bash-470   [001] ...1  5613.198301: 0x00000001: hi"},
      {{4, 14}, "            bash-470   [001] ...1  5613.198301: 0x00000001: hi"},
  };
  for (auto& [version, line] : cases) {
    MachineOptions options = small_machine();
    options.version = version;
    Kernel kernel(options);
    Task& task = kernel.spawn("bash");
    Machine& machine = kernel.machine();
    machine.clock.now_ns = 5'613'198'301'000;
    machine.current->task = &task;
    machine.current->pid = task.pid;
    machine.current->cpu = 1;
    CHECK(trace_pipe_line(machine, "hi") == line);
    machine.current->task = nullptr;
    CHECK(trace_pipe_line(machine, "hi").substr(0, 18) == "          <idle>-0");
  }
}

TEST_CASE("bpf_snprintf writes as much as there is room for, and says how much it wanted") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  auto fmt = *machine.arena.alloc(16, "format");
  std::memcpy(fmt.host, "%d-%d", 6);
  auto out = *machine.arena.alloc(16, "buffer");
  auto run = [&](uint64_t room, uint64_t data_len) {
    std::memset(out.host, 'x', 16);
    LooseProgram program(machine, bpfsim::program(st_mem(BPF_DW, 10, -16, 12), st_mem(BPF_DW, 10, -8, 345),
                                                  ld_imm64(1, out.addr), mov64_imm(2, int64_t(room)),
                                                  ld_imm64(3, fmt.addr), mov64_reg(4, 10),
                                                  alu64_imm(BPF_ADD, 4, -16), mov64_imm(5, int64_t(data_len)),
                                                  call_helper(BPF_FUNC_snprintf), exit_insn()));
    return int64_t(program.run().value);
  };
  CHECK(run(16, 16) == 7);
  CHECK(std::string(reinterpret_cast<char*>(out.host)) == "12-345");
  CHECK(run(4, 16) == 7);
  CHECK(std::string(reinterpret_cast<char*>(out.host)) == "12-");
  CHECK(run(0, 16) == 7);
  CHECK(out.host[0] == 'x');
  CHECK(run(16, 8) == -22);   // one argument, two conversions
  CHECK(run(16, 12) == -22);  // not a multiple of eight
  CHECK(run(16, 104) == -22);
  machine.arena.free(fmt);
  machine.arena.free(out);
}

TEST_CASE("Numbers are read from text as the kernel reads them") {
  struct {
    const char* text;
    uint64_t flags;
    int64_t strtol_ret, strtol_value, strtoul_ret;
  } const cases[] = {
      {"12", 0, 2, 12, 2},
      {"-12", 10, 3, -12, -22},
      {"  7x", 10, 3, 7, 3},
      {"0x1f", 0, 4, 31, 4},
      {"0x1f", 16, 4, 31, 4},
      {"017", 0, 3, 15, 3},
      {"1f", 16, 2, 31, 2},
      {"9", 8, -22, 0, -22},
      {"", 10, -22, 0, -22},
      {"-", 10, -22, 0, -22},
      {"x", 10, -22, 0, -22},
      {"5", 7, -22, 0, -22},
      {"5", 32, -22, 0, -22},
      {"9223372036854775807", 10, 19, 9223372036854775807, 19},
      {"9223372036854775808", 10, -34, 0, 19},
      {"99999999999999999999", 10, -34, 0, -34},
  };
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  auto run = [&](int helper, const std::string& text, uint64_t flags, bool value) {
    auto insns = text_on_stack(text);
    append(insns, mov64_imm(2, int64_t(text.size())));
    append(insns, mov64_imm(3, int64_t(flags)));
    append(insns, mov64_reg(4, 10));
    append(insns, alu64_imm(BPF_ADD, 4, -64));
    append(insns, call_helper(helper));
    if (value) append(insns, ldx_mem(BPF_DW, 0, 10, -64));
    append(insns, exit_insn());
    LooseProgram program(machine, insns);
    return int64_t(program.run().value);
  };
  for (auto& c : cases) {
    INFO("text '" << c.text << "' flags " << c.flags);
    CHECK(run(BPF_FUNC_strtol, c.text, c.flags, false) == c.strtol_ret);
    CHECK(run(BPF_FUNC_strtol, c.text, c.flags, true) == c.strtol_value);
    CHECK(run(BPF_FUNC_strtoul, c.text, c.flags, false) == c.strtoul_ret);
  }
}

TEST_CASE("Helpers about the task, the CPU and the time see the current context") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  Credentials cred;
  cred.uid = 1000;
  Task& task = kernel.spawn("a_rather_long_name", cred);
  machine.current->task = &task;
  machine.current->pid = task.pid;
  machine.current->cred = &task.cred;
  machine.current->cpu = 1;
  auto call = [&](int helper) {
    LooseProgram program(machine, bpfsim::program(call_helper(helper), exit_insn()));
    return program.run().value;
  };
  CHECK(call(BPF_FUNC_get_smp_processor_id) == 1);
  CHECK(call(BPF_FUNC_get_current_pid_tgid) == (470ull << 32 | 470));
  CHECK(call(BPF_FUNC_get_current_uid_gid) == (1000ull << 32 | 1000));
  uint64_t before = machine.clock.now_ns;
  CHECK(call(BPF_FUNC_ktime_get_ns) == before + Clock::kInstruction + Clock::kHelper);
  CHECK(call(BPF_FUNC_ktime_get_coarse_ns) % 4'000'000 == 0);
  CHECK(call(BPF_FUNC_get_prandom_u32) != call(BPF_FUNC_get_prandom_u32));
  LooseProgram comm(machine,
                    program(mov64_reg(1, 10), alu64_imm(BPF_ADD, 1, -16), mov64_imm(2, 16),
                            call_helper(BPF_FUNC_get_current_comm), ldx_mem(BPF_DW, 0, 10, -8), exit_insn()));
  CHECK(comm.run().value == 0x006e5f676e6f6c5f);  // "_long_n", NUL: fifteen characters and no more
  machine.current->task = nullptr;
  machine.current->cred = nullptr;
}

TEST_CASE("The checksum helper folds as 6.18 does, and as 6.12 does not") {
  // Measured on 6.18: the seed alone, one word, two words whose sum carries.
  struct {
    std::vector<uint32_t> from, to;
    uint32_t seed;
    uint64_t folded;
  } const cases[] = {
      {{1, 2}, {3, 4}, 0, 4},
      {{}, {0x12345678}, 0, 0x68ac},
      {{}, {0xffffffff, 2}, 0, 2},
      {{}, {0xffff0001, 0x00020003}, 5, 0xb},
      {{0x11112222}, {}, 0x7fffffff, 0x4ccc},
      {{}, {}, 0x7fff1234, 0x9233},
  };
  for (Version version : {Version{6, 18}, Version{6, 12}}) {
    MachineOptions options = small_machine();
    options.version = version;
    Kernel kernel(options);
    for (auto& c : cases) {
      std::vector<bpf_insn> insns;
      for (size_t i = 0; i < c.from.size(); ++i)
        append(insns, st_mem(BPF_W, 10, -256 + int(i) * 4, int32_t(c.from[i])));
      for (size_t i = 0; i < c.to.size(); ++i)
        append(insns, st_mem(BPF_W, 10, -128 + int(i) * 4, int32_t(c.to[i])));
      for (const bpf_insn& insn :
           program(mov64_reg(1, 10), alu64_imm(BPF_ADD, 1, -256), mov64_imm(2, int64_t(c.from.size()) * 4),
                   mov64_reg(3, 10), alu64_imm(BPF_ADD, 3, -128), mov64_imm(4, int64_t(c.to.size()) * 4),
                   ld_imm64(5, c.seed), call_helper(BPF_FUNC_csum_diff), exit_insn()))
        insns.push_back(insn);
      LooseProgram program(kernel.machine(), insns);
      uint64_t sum = program.run().value;
      uint64_t folded = (sum & 0xffff) + (sum >> 16);
      folded = (folded & 0xffff) + (folded >> 16);
      CHECK((version == Version{6, 18} ? sum : folded) == c.folded);
    }
  }
}

namespace {

// A map that only tail calls know: programs in a row.
struct Row final : Map {
  Row(Machine& machine, const bpf_attr& attr, const MapOps& table) : Map(machine, attr) { ops = &table; }
  std::vector<Prog*> programs;
};
Prog* row_elem(Map& map, uint32_t index) { return static_cast<Row&>(map).programs[index]; }
const MapOps kRowOps = {.prog_array_elem = OP(row_elem)};

bpf_insn tail_call_insn() { return make_insn(BPF_JMP | BPF_TAIL_CALL, 0, 0, 0, 0); }

}  // namespace

TEST_CASE("Tail calls: 33 and no more, falling through where nothing is, keeping R1") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  bpf_attr attr;
  attr.map_type = BPF_MAP_TYPE_PROG_ARRAY;
  attr.max_entries = 3;
  Row row(machine, attr, kRowOps);
  auto to = [&](int index, int otherwise) {
    return program(ld_imm64(2, row.handle), mov64_imm(3, index), tail_call_insn(), mov64_imm(0, otherwise),
                   exit_insn());
  };
  for (bool checked : {false, true}) {
    auto answer = [&](LooseProgram& program, Addr ctx = 5) {
      return checked ? bpf_prog_run_checked(machine, program.prog, ctx) : program.run(ctx);
    };
    INFO("checked " << checked);
    LooseProgram target(machine, program(mov64_reg(0, 1), exit_insn()));
    row.programs = {&target.prog, nullptr, nullptr};
    LooseProgram hit(machine, to(0, 9)), miss(machine, to(1, 9)), beyond(machine, to(3, 9)),
        far(machine, to(-1, 9));
    CHECK(answer(hit).value == 5);
    CHECK(answer(miss).value == 9);
    CHECK(answer(beyond).value == 9);
    CHECK(answer(far).value == 9);

    // a program that calls itself counts its rounds in the context
    Span counter = *machine.arena.alloc(8, "counter");
    LooseProgram self(machine, program(ldx_mem(BPF_DW, 4, 1, 0), alu64_imm(BPF_ADD, 4, 1),
                                       stx_mem(BPF_DW, 1, 4, 0), ld_imm64(2, row.handle), mov64_imm(3, 2),
                                       tail_call_insn(), ldx_mem(BPF_DW, 0, 1, 0), exit_insn()));
    row.programs[2] = &self.prog;
    CHECK(answer(self, counter.addr).value == 34);  // the first run and 33 tail calls
    machine.arena.free(counter);

    // out of a subprogram, the target returns to the caller
    LooseProgram nested(machine, program(mov64_imm(6, 100), call_local(2), alu64_reg(BPF_ADD, 0, 6),
                                         exit_insn(), ld_imm64(2, row.handle), mov64_imm(3, 0),
                                         tail_call_insn(), mov64_imm(0, 1), exit_insn()));
    CHECK(answer(nested).value == 105);

    LooseProgram no_map(machine, program(mov64_imm(2, 0), mov64_imm(3, 0), tail_call_insn(), exit_insn()));
    CHECK(answer(no_map).stop == RunStop::Oops);
  }
}

TEST_CASE("A helper with a wild pointer stops the program, and the machine goes on") {
  Kernel kernel(small_machine());
  Machine& machine = kernel.machine();
  LooseProgram warm(machine, program(mov64_imm(0, 1), exit_insn()));
  for (int id = 1; id < 220; ++id) {
    if (!helper_proto(bpf_func_id(id))) continue;
    for (uint64_t wild : {0ull, 1ull, ~0ull, 0xffff888fffffff00ull}) {
      LooseProgram program(
          machine, bpfsim::program(ld_imm64(1, wild), ld_imm64(2, wild), ld_imm64(3, wild), ld_imm64(4, wild),
                                   ld_imm64(5, wild), call_helper(id), mov64_imm(0, 1), exit_insn()));
      program.run();
      CheckedRun(machine, program.prog, 0, 10'000).run();
      CHECK(warm.run().value == 1);
    }
  }
}
