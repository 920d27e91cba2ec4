// bpf_object_open and bpf_object_load on the objects of tests/data, with a kernel that says yes.
#include <memory>
#include <random>

#include "catch.h"
#include "fake_kernel.h"
#include "isa/disasm.h"
#include "loader/bpf_object.h"
#include "test_data.h"

using namespace bpfsim;

namespace {

BpfObject open_object(const std::string& name) {
  auto object = bpf_object_open(read_test_data(name + ".o"), name);
  INFO(object.refusal().reason());
  REQUIRE(object);
  return *std::move(object);
}

std::string one_line(const std::vector<bpf_insn>& insns) {
  std::string text = insns.empty() ? "" : print_bpf_insn(insns, 0, {true, {}, source_imm});
  return text;
}

// The steps as a lesson would print them; numbers of syscalls' addresses are left out.
std::string steps_text(const BpfObject& object) {
  std::string text;
  for (const Step& s : object.steps) {
    text += std::string(step_kind_name(s.kind)) + ": " + s.text;
    if (s.kind == Step::Kind::Relocation)
      text += "\n    " + s.program + " " + std::to_string(s.insn) + ": " + one_line(s.before) + "  ->  " +
              one_line(s.after);
    if (s.kind == Step::Kind::Syscall) text += " = " + std::to_string(s.result);
    text += "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("the steps of each object are those of its golden file") {
  for (const std::string name :
       {"xdp_pass", "xdp_drop", "globals", "subprogs", "maps", "legacy", "sections"}) {
    BpfObject object = open_object(name);
    FakeKernel kernel;
    const auto loaded = bpf_object_load(object, kernel.sys_bpf());
    INFO(name << ": " << loaded.refusal().reason());
    CHECK(loaded);
    const std::string steps = steps_text(object);
    const auto file = test_data_dir().parent_path() / "loader" / "golden" / (name + ".steps");
    if (std::getenv("BPFSIM_UPDATE_GOLDEN")) std::ofstream(file) << steps;
    std::ifstream in(file);
    CHECK(steps == std::string(std::istreambuf_iterator<char>(in), {}));
  }
}

TEST_CASE("a map's fd and a variable's place are patched into LD_IMM64") {
  BpfObject object = open_object("globals");
  FakeKernel kernel;
  REQUIRE(bpf_object_load(object, kernel.sys_bpf()));
  const BpfMap* data = object.find_map(".data");
  REQUIRE(data);
  CHECK(data->name == "globals.data");
  bool found = false;
  for (const Step& s : object.steps)
    if (s.kind == Step::Kind::Relocation && s.text.find("packets is") != std::string::npos) {
      found = true;
      CHECK(s.after[0].src_reg == BPF_PSEUDO_MAP_VALUE);
      CHECK(s.after[0].imm == data->fd);
      CHECK(object.programs[0].insns[size_t(s.insn)] == s.after[0]);
      CHECK(object.programs[0].elf_insns[size_t(s.insn)] == s.before[0]);
    }
  CHECK(found);
}

TEST_CASE("data maps have libbpf's names and flags, and constants are frozen") {
  BpfObject object = open_object("globals");
  FakeKernel kernel;
  REQUIRE(bpf_object_load(object, kernel.sys_bpf()));
  CHECK(object.find_map("globals.rodata")->map_flags == (BPF_F_RDONLY_PROG | BPF_F_MMAPABLE));
  CHECK(object.find_map("globals.data")->map_flags == BPF_F_MMAPABLE);
  CHECK(object.find_map("globals.bss")->map_flags == BPF_F_MMAPABLE);
  REQUIRE(kernel.of(BPF_MAP_FREEZE).size() == 1);
  CHECK(int(kernel.of(BPF_MAP_FREEZE)[0].attr.map_fd) == object.find_map("globals.rodata")->fd);
  BpfObject renamed = *bpf_object_open(read_test_data("globals.o"), "my_object_name");
  CHECK(renamed.find_map(".rodata")->name == "my_objec.rodata");
  CHECK(renamed.find_map(".bss")->name == "my_objec.bss");
}

TEST_CASE("subprograms are appended once, in the order in which the walk meets them") {
  BpfObject object = open_object("subprogs");
  FakeKernel kernel;
  REQUIRE(bpf_object_load(object, kernel.sys_bpf()));
  const BpfProgram& first = *object.find_program("first");
  std::vector<std::string> appended;
  for (const Step& s : object.steps)
    if (s.kind == Step::Kind::Subprogram && s.program == "first")
      appended.push_back(s.text.substr(0, s.text.find(':')));
  CHECK(appended == std::vector<std::string>{"unused_by_second", "global_middle", "leaf"});
  CHECK(first.func_info.size() == 4);
  // Every call lands on the start of a function.
  for (size_t i = 0; i < first.insns.size(); ++i) {
    if (!bpf_pseudo_call(first.insns[i])) continue;
    const int64_t target = int64_t(i) + first.insns[i].imm + 1;
    CHECK(std::any_of(first.func_info.begin(), first.func_info.end(),
                      [&](const bpf_func_info& f) { return f.insn_off == target; }));
  }
  const BpfProgram& second = *object.find_program("second");
  CHECK(std::any_of(second.insns.begin(), second.insns.end(),
                    [](const bpf_insn& i) { return bpf_pseudo_func(i); }));
}

TEST_CASE("each BTF-defined map is what its struct says") {
  BpfObject object = open_object("maps");
  struct Expected {
    const char* name;
    uint32_t type, key, value, entries, flags;
  };
  for (const Expected& e :
       std::initializer_list<Expected>{{"flows", BPF_MAP_TYPE_HASH, 12, 16, 128, BPF_F_NO_PREALLOC},
                                       {"a_map_with_a_na", BPF_MAP_TYPE_ARRAY, 4, 24, 3, 0},
                                       {"queue", BPF_MAP_TYPE_QUEUE, 0, 4, 16, 0},
                                       {"events", BPF_MAP_TYPE_RINGBUF, 0, 0, 3000, 0},
                                       {"inner_b", BPF_MAP_TYPE_ARRAY, 4, 8, 4, 0},
                                       {"outer", BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, 0},
                                       {"jumps", BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2, 0}}) {
    INFO(e.name);
    const BpfMap* map = object.find_map(e.name);
    REQUIRE(map);
    CHECK(map->type == e.type);
    CHECK(map->key_size == e.key);
    CHECK(map->value_size == e.value);
    CHECK(map->max_entries == e.entries);
    CHECK(map->map_flags == e.flags);
  }
  CHECK(object.find_map("outer")->values == std::map<uint32_t, std::string>{{1, "inner_a"}, {3, "inner_b"}});
  CHECK(object.find_map("jumps")->values == std::map<uint32_t, std::string>{{1, "target"}});
  FakeKernel kernel;
  REQUIRE(bpf_object_load(object, kernel.sys_bpf()));
  for (const auto& call : kernel.of(BPF_MAP_CREATE))
    if (call.attr.map_type == BPF_MAP_TYPE_RINGBUF) CHECK(call.attr.max_entries == 4096);
}

TEST_CASE("sections give programs their types") {
  BpfObject object = open_object("sections");
  struct Expected {
    const char* name;
    uint32_t type, attach, flags;
  };
  for (const Expected& e : std::initializer_list<Expected>{
           {"socket_filter", BPF_PROG_TYPE_SOCKET_FILTER, 0, 0},
           {"tc_main", BPF_PROG_TYPE_SCHED_CLS, 0, 0},
           {"tcx_in", BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS, 0},
           {"frags", BPF_PROG_TYPE_XDP, BPF_XDP, BPF_F_XDP_HAS_FRAGS},
           {"devmap", BPF_PROG_TYPE_XDP, BPF_XDP_DEVMAP, 0},
           {"probe", BPF_PROG_TYPE_KPROBE, 0, 0},
           {"point", BPF_PROG_TYPE_TRACEPOINT, 0, 0},
           {"egress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, 0},
           {"connect4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, 0},
           {"sleeps", BPF_PROG_TYPE_SYSCALL, 0, BPF_F_SLEEPABLE},
           {"only_if_asked", BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0}}) {
    INFO(e.name);
    const BpfProgram* p = object.find_program(e.name);
    REQUIRE(p);
    CHECK(p->type == e.type);
    CHECK(p->expected_attach_type == e.attach);
    CHECK(p->prog_flags == e.flags);
  }
  CHECK(!object.find_program("only_if_asked")->autoload);
}

TEST_CASE("what is not modelled is refused in plain words") {
  FakeKernel kernel;
  BpfObject core = open_object("core");
  CHECK(bpf_object_load(core, kernel.sys_bpf()).refusal().reason() ==
        "program 'core' has CO-RE relocations, which are not modelled yet");
  BpfObject externs = open_object("externs");
  CHECK(bpf_object_load(externs, kernel.sys_bpf()).refusal().reason() ==
        "program 'externs': 'bpf_rcu_read_lock' is defined nowhere; kernel functions and variables are not "
        "modelled");
}

TEST_CASE("a program without a section's name is refused in plain words") {
  BpfObject object = open_object("no_section");
  FakeKernel kernel;
  CHECK(bpf_object_load(object, kernel.sys_bpf()).refusal().reason() ==
        "program 'forgotten': section '.text' names no program type");
  object.find_program("forgotten")->type = BPF_PROG_TYPE_XDP;  // its user may say it instead
  bpf_object_close(object, kernel.close_fd());
  CHECK(bpf_object_load(object, kernel.sys_bpf()));
  CHECK(kernel.of(BPF_PROG_LOAD).size() == 1);
}

TEST_CASE("a refused program is loaded again for its log, and everything is given back") {
  BpfObject object = open_object("xdp_drop");
  FakeKernel kernel;
  kernel.refuse_cmd = BPF_PROG_LOAD;
  kernel.refuse_err = 13;
  LoadOptions options;
  options.close_fd = kernel.close_fd();
  const auto loaded = bpf_object_load(object, kernel.sys_bpf(), options);
  CHECK(loaded.err() == Errno::Access);
  REQUIRE(object.refused);
  CHECK(object.refused->cmd == BPF_PROG_LOAD);
  CHECK(object.refused->what == "PROG_LOAD of 'xdp_drop'");
  CHECK(object.log == "the verifier's words\n");
  REQUIRE(kernel.of(BPF_PROG_LOAD).size() == 2);
  CHECK(kernel.of(BPF_PROG_LOAD)[0].attr.log_level == 0);
  CHECK(kernel.of(BPF_PROG_LOAD)[1].attr.log_level == 1);
  CHECK(kernel.open_fds.empty());
  CHECK(object.find_program("xdp_drop")->fd == -1);
}

TEST_CASE("every fd of a loaded object is given back by close") {
  for (const char* name : {"maps", "globals", "subprogs"}) {
    BpfObject object = open_object(name);
    FakeKernel kernel;
    LoadOptions options;
    options.close_fd = kernel.close_fd();
    REQUIRE(bpf_object_load(object, kernel.sys_bpf(), options));
    CHECK(!bpf_object_load(object, kernel.sys_bpf(), options));  // loaded already
    bpf_object_close(object, kernel.close_fd());
    CHECK(kernel.open_fds.empty());
  }
}

TEST_CASE("why a call was refused is what the kernel says") {
  BpfObject object = open_object("xdp_drop");
  FakeKernel kernel;
  kernel.refuse_cmd = BPF_MAP_CREATE;
  kernel.refuse_err = 22;
  LoadOptions options;
  options.close_fd = kernel.close_fd();
  options.last_refusal = [] { return refuse(Errno::Inval, "{} is a bad number", 3); };
  CHECK(bpf_object_load(object, kernel.sys_bpf(), options).refusal().reason() == "3 is a bad number");
  REQUIRE(object.refused);
  CHECK(object.refused->what == "MAP_CREATE of 'blocked_ports' (type 1)");
  CHECK(kernel.open_fds.empty());
}

TEST_CASE("a copy of an opened object loads by itself, also when the first is gone") {
  auto first = std::make_unique<BpfObject>(open_object("maps"));
  BpfObject second = *first;
  FakeKernel kernel;
  REQUIRE(bpf_object_load(*first, kernel.sys_bpf()));
  CHECK(second.btf_fd == -1);
  first.reset();
  CHECK(second.elf.find_section(".maps"));
  CHECK(bpf_object_load(second, kernel.sys_bpf()));
}

TEST_CASE("a map that is given is copied where that can be done, and only the copy is given back") {
  BpfObject object = open_object("xdp_drop");
  FakeKernel kernel;
  kernel.open_fds = {100};
  LoadOptions options;
  options.reuse_maps = {{"blocked_ports", 100}};
  options.close_fd = kernel.close_fd();
  options.dup_fd = [&](int fd) { return *kernel.open_fds.insert(fd + 1).first; };
  REQUIRE(bpf_object_load(object, kernel.sys_bpf(), options));
  CHECK(object.find_map("blocked_ports")->fd == 101);
  CHECK(kernel.of(BPF_MAP_CREATE).size() == object.maps.size() - 1);
  bpf_object_close(object, options.close_fd);
  CHECK(kernel.open_fds == std::set<int>{100});
}

TEST_CASE("every program names the kernel that it is loaded into, unless the file does") {
  LoadOptions options;
  options.kernel_version = "4.19"_v;
  FakeKernel kernel;
  BpfObject object = open_object("xdp_drop");
  REQUIRE(bpf_object_load(object, kernel.sys_bpf(), options));
  BpfObject named = open_object("xdp_drop");
  named.kern_version = 7;
  REQUIRE(bpf_object_load(named, kernel.sys_bpf(), options));
  CHECK(kernel.of(BPF_PROG_LOAD)[0].attr.kern_version == (4u << 16 | 19u << 8));
  CHECK(kernel.of(BPF_PROG_LOAD)[1].attr.kern_version == 7);
}

TEST_CASE("a mistyped section is told the name that was meant") {
  for (const auto& [section, meant] : std::initializer_list<std::pair<const char*, const char*>>{
           {"xpd", "xdp"},
           {"kprob/do_exit", "kprobe/do_exit"},
           {"cgroup_skb/egres", "cgroup_skb/egress"},
           {"tracepiont/syscalls/sys_enter_openat", "tracepoint/syscalls/sys_enter_openat"},
           {".text", ""},
           {"", ""},
           {"something else", ""}}) {
    INFO(section);
    CHECK(nearest_section(section) == meant);
  }
  BpfObject object = open_object("no_section");
  object.find_program("forgotten")->section = "xpd";
  FakeKernel kernel;
  CHECK(bpf_object_load(object, kernel.sys_bpf()).refusal().reason() ==
        "program 'forgotten': section 'xpd' names no program type; did you mean 'xdp'?");
}

TEST_CASE("an old kernel gets no names, no types and no maps of variables") {
  BpfObject object = open_object("xdp_drop");
  FakeKernel kernel;
  LoadOptions options;
  options.kernel_version = "4.14"_v;
  REQUIRE(bpf_object_load(object, kernel.sys_bpf(), options));
  CHECK(kernel.of(BPF_BTF_LOAD).empty());
  CHECK(kernel.of(BPF_MAP_CREATE)[0].attr.map_name[0] == 0);
  CHECK(kernel.of(BPF_PROG_LOAD)[0].attr.prog_name[0] == 0);
  CHECK(kernel.of(BPF_PROG_LOAD)[0].attr.expected_attach_type == 0);
  BpfObject globals = open_object("globals");
  CHECK(bpf_object_load(globals, kernel.sys_bpf(), options).err() == Errno::OpNotSupp);
}

TEST_CASE("truncated and mutated objects are refused or loaded, and never crash") {
  std::mt19937 random(7);
  for (const char* name :
       {"xdp_drop", "globals", "subprogs", "maps", "legacy", "sections", "core", "externs"}) {
    const auto good = read_test_data(std::string(name) + ".o");
    for (size_t n = 0; n < good.size(); ++n) {
      const auto cut = bpf_object_open(std::span(good).first(n), name);
      CHECK(!cut);
      CHECK(!cut.refusal().reason().empty());
    }
    int opened = 0;
    for (int round = 0; round < 1500; ++round) {
      auto bytes = good;
      for (uint32_t flips = 1 + random() % 6; flips; --flips)
        bytes[random() % bytes.size()] = uint8_t(random());
      auto object = bpf_object_open(bytes, name);
      if (!object) continue;
      ++opened;
      FakeKernel kernel;
      LoadOptions options;
      options.log_size = 64;
      options.close_fd = kernel.close_fd();
      if (bpf_object_load(*object, kernel.sys_bpf(), options)) bpf_object_close(*object, options.close_fd);
      CHECK(kernel.open_fds.empty());
    }
    CHECK(opened > 100);
  }
}
