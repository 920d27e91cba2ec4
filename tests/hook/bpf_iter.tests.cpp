// Iterators and the machine's own BTF: loaded by BTF id, linked, opened, read; the same programs on the live
// kernel, whose ids and text of the log differ only where its BTF does.
#include "hook/bpf_iter.h"

#include "btf/btf_types.h"
#include "btf/vmlinux.h"
#include "host/tracing.h"
#include "live_bpf.h"
#include "object/btf.h"
#include "sim.h"
#include "uapi/info.h"

#ifdef __linux__
#include <unistd.h>
#endif

using namespace bpfsim;

namespace {

constexpr uint8_t DW = 0x79, W = 0x61, H = 0x69, B = 0x71;
bpf_insn load(uint8_t size, uint8_t dst, uint8_t src, int off) { return {size, dst, src, int16_t(off), 0}; }
const bpf_insn kRet0[] = {{0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}};
const bpf_insn kMov64 = {0xbf, 0, 0, 0, 0};

std::vector<bpf_insn> ending(std::vector<bpf_insn> insns) {
  insns.insert(insns.end(), std::begin(kRet0), std::end(kRet0));
  return insns;
}

uint32_t offset(const char* structure, const char* member) { return vmlinux_offset(structure, member); }

// For each object: writes the 4 bytes at `off` of it to the file.
std::vector<bpf_insn> writes_u32(int off, int arg = 8) {
  bpf_insn fp = kMov64;
  fp.dst_reg = 2, fp.src_reg = 10;
  return ending({load(DW, 6, 1, 0),
                 load(DW, 7, 1, arg),
                 {0x15, 7, 0, 6, 0},
                 load(W, 3, 7, off),
                 {0x63, 10, 3, -4, 0},
                 load(DW, 1, 6, 0),
                 fp,
                 {0x07, 2, 0, 0, -4},
                 {0xb7, 3, 0, 0, 4},
                 {0x85, 0, 0, 0, BPF_FUNC_seq_write}});
}
std::vector<bpf_insn> fix_jump(std::vector<bpf_insn> insns) {
  insns[2].off = 7;
  return insns;
}
std::vector<bpf_insn> writes_u32_of(const char* structure, const char* member) {
  return fix_jump(writes_u32(int(offset(structure, member))));
}

uint32_t btf_id(const char* name, uint32_t kind) { return vmlinux_btf().types->find_by_name(name, kind); }

bpf_attr iter_attr(const std::vector<bpf_insn>& insns, uint32_t btf_id, std::vector<char>* log = nullptr,
                   uint32_t level = 1, bpf_attach_type attach = BPF_TRACE_ITER) {
  bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_TRACING, insns, log, level);
  attr.expected_attach_type = attach;
  attr.attach_btf_id = btf_id;
  return attr;
}

long load_iter(Sim& s, const char* target, const std::vector<bpf_insn>& insns) {
  bpf_attr attr =
      iter_attr(insns, btf_id((std::string("bpf_iter_") + target).c_str(), BTF_KIND_FUNC), &s.log);
  const long fd = s.bpf(BPF_PROG_LOAD, attr);
  UNSCOPED_INFO(s.log.data());
  return fd;
}

long link_iter(Sim& s, long prog, const uint32_t* info = nullptr, uint32_t length = 0) {
  bpf_attr attr;
  attr.link_create.prog_fd = uint32_t(prog);
  attr.link_create.attach_type = BPF_TRACE_ITER;
  attr.link_create.iter_info = user_ptr(info);
  attr.link_create.iter_info_len = length;
  return s.bpf(BPF_LINK_CREATE, attr);
}

long open_iter(Sim& s, long link) {
  bpf_attr attr;
  attr.iter_create.link_fd = uint32_t(link);
  return s.bpf(BPF_ITER_CREATE, attr);
}

std::vector<uint32_t> words(const std::string& text) {
  std::vector<uint32_t> out(text.size() / 4);
  if (!out.empty()) std::memcpy(out.data(), text.data(), out.size() * 4);
  return out;
}

std::string read_all(Sim& s, long fd, size_t piece = 4096) {
  std::string all;
  for (;;) {
    Result<std::string> part = s.k.read(s.t, int(fd), piece);
    REQUIRE(part);
    if (part->empty()) return all;
    all += *part;
  }
}

}  // namespace

TEST_CASE("the machine's own BTF is the first of all, and tells its name") {
  Sim s;
  bpf_attr next;
  REQUIRE(s.bpf(BPF_BTF_GET_NEXT_ID, next) == 0);
  CHECK(next.next_id == 1);
  bpf_attr by_id;
  by_id.start_id = 1;
  const long fd = s.bpf(BPF_BTF_GET_FD_BY_ID, by_id);
  REQUIRE(fd >= 0);
  char name[16] = {};
  bpf_btf_info info{};
  info.name = user_ptr(name);
  info.name_len = sizeof name;
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(fd);
  attr.info.info = user_ptr(&info);
  attr.info.info_len = sizeof info;
  REQUIRE(s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
  CHECK(info.kernel_btf == 1);
  CHECK(std::string(name) == "vmlinux");
  CHECK(info.btf_size == vmlinux_btf().data.size());
  MachineOptions old;
  old.version = *Version::parse("5.10");
  Sim before(old);
  bpf_attr none;
  CHECK(before.bpf(BPF_BTF_GET_NEXT_ID, none) == minus(Errno::NoEnt));
}

TEST_CASE("the live kernel takes the machine's own BTF for BTF") {
  LIVE_KERNEL_OR_SKIP();
  const std::vector<uint8_t>& data = vmlinux_btf().data;
  bpf_attr attr;
  attr.btf = user_ptr(data.data());
  attr.btf_size = uint32_t(data.size());
  const long fd = live::sys_bpf(BPF_BTF_LOAD, &attr, sizeof attr);
  CHECK(fd >= 0);
  live::close_fd(fd);
}

TEST_CASE("an iterator over maps writes what each map is") {
  Sim s;
  for (uint32_t entries : {3u, 5u, 7u}) s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, entries);
  const long prog = load_iter(s, "bpf_map", writes_u32_of("bpf_map", "max_entries"));
  INFO(s.why());
  REQUIRE(prog >= 0);
  const long link = link_iter(s, prog);
  REQUIRE(link >= 0);
  CHECK(s.object(link)->label() == "link 1 (iter)");
  const long file = open_iter(s, link);
  REQUIRE(file >= 0);
  CHECK(s.prog(prog).aux->refcnt.value() == 3);
  CHECK(words(read_all(s, file)) == std::vector<uint32_t>{3, 5, 7});
  CHECK(s.k.read(s.t, int(file), 100)->empty());
  // A second file begins again, whatever the size of a read.
  const long again = open_iter(s, link);
  CHECK(words(read_all(s, again, 3)) == std::vector<uint32_t>{3, 5, 7});
  // A map that is born behind the position is seen.
  const long third = open_iter(s, link);
  CHECK(s.k.read(s.t, int(third), 4)->size() == 4);
  s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 9);
  CHECK(words(read_all(s, third)) == std::vector<uint32_t>{5, 7, 9});
  CHECK(s.close(link) == 0);
  CHECK(s.close(prog) == 0);
  CHECK(words(read_all(s, third)).empty());
  s.k.exit(s.t);
  CHECK(s.alive().empty());
}

TEST_CASE("iterators over programs, links and tasks show theirs") {
  Sim s;
  s.k.spawn("other");
  for (auto [target, structure, member, expected] :
       {std::tuple{"bpf_prog", "bpf_prog", "type", std::vector<uint32_t>{BPF_PROG_TYPE_TRACING}},
        {"bpf_link", "bpf_link", "type", std::vector<uint32_t>{BPF_LINK_TYPE_ITER}},
        {"task", "task_struct", "pid", std::vector<uint32_t>{470, 471}}}) {
    const long prog = load_iter(s, target, writes_u32_of(structure, member));
    INFO(target << ": " << s.why());
    REQUIRE(prog >= 0);
    const long link = link_iter(s, prog), file = open_iter(s, link);
    REQUIRE(file >= 0);
    CHECK(words(read_all(s, file)) == expected);
    char name[16] = {};
    bpf_link_info info;
    info.iter.target_name = user_ptr(name);
    info.iter.target_name_len = sizeof name;
    bpf_attr attr;
    attr.info.bpf_fd = uint32_t(link);
    attr.info.info = user_ptr(&info);
    attr.info.info_len = sizeof info;
    CHECK(s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
    CHECK(std::string(name) == target);
    for (long fd : {file, link, prog}) s.close(fd);
  }
  CHECK(s.alive().empty());
}

TEST_CASE("a program follows pointers from one kernel struct to the next") {
  Sim s;
  // bpf_prog -> aux -> id
  auto insns = fix_jump(writes_u32(int(offset("bpf_prog_aux", "id"))));
  insns.insert(insns.begin() + 3, load(DW, 7, 7, int(offset("bpf_prog", "aux"))));
  insns[2].off = 8;
  const long prog = load_iter(s, "bpf_prog", insns);
  INFO(s.why());
  REQUIRE(prog >= 0);
  const long file = open_iter(s, link_iter(s, prog));
  CHECK(words(read_all(s, file)) == std::vector<uint32_t>{s.prog(prog).id});
}

TEST_CASE("an iterator over a map's elements holds the map and shows keys and values") {
  Sim s;
  const long map = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 3),
             queue = s.map_create(BPF_MAP_TYPE_QUEUE, 0, 4, 3);
  for (uint32_t i = 0; i < 3; ++i) {
    const uint32_t value = 10 * i;
    s.map_update(map, &i, &value);
  }
  auto values = fix_jump(writes_u32(0, 24)), keys = fix_jump(writes_u32(0, 16));
  const long value_prog = load_iter(s, "bpf_map_elem", values), key_prog = load_iter(s, "bpf_map_elem", keys);
  auto far = fix_jump(writes_u32(4, 24));
  const long far_prog = load_iter(s, "bpf_map_elem", far);
  INFO(s.why());
  REQUIRE(far_prog >= 0);
  const uint32_t info[4] = {uint32_t(map)}, other[4] = {uint32_t(queue)}, none[4] = {};
  CHECK(link_iter(s, value_prog) == minus(Errno::BadF));
  CHECK(link_iter(s, value_prog, none, 4) == minus(Errno::BadF));
  CHECK(link_iter(s, value_prog, other, 4) == minus(Errno::Inval));
  CHECK(link_iter(s, far_prog, info, 4) == minus(Errno::Access));
  CHECK(link_iter(s, value_prog, info, 0) == minus(Errno::Inval));
  const long link = link_iter(s, value_prog, info, 4), key_link = link_iter(s, key_prog, info, 16);
  REQUIRE(link >= 0);
  CHECK(s.map(map).refcnt.value() == 3);
  CHECK(s.map(map).usercnt.value() == 3);
  CHECK(words(read_all(s, open_iter(s, link))) == std::vector<uint32_t>{0, 10, 20});
  CHECK(words(read_all(s, open_iter(s, key_link))) == std::vector<uint32_t>{0, 1, 2});
  bpf_attr attr;
  bpf_link_info about;
  attr.info.bpf_fd = uint32_t(link);
  attr.info.info = user_ptr(&about);
  attr.info.info_len = sizeof about;
  CHECK(s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
  CHECK(about.iter.map.map_id == s.map(map).id);
  s.k.exit(s.t);
  CHECK(s.alive().empty());
}

TEST_CASE("a program that answers 1 is asked again for the same object") {
  Sim s;
  s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 1);
  const std::vector<bpf_insn> again = {{0xb7, 0, 0, 0, 1}, {0x95, 0, 0, 0, 0}};
  const long prog = load_iter(s, "bpf_map", again);
  const long file = open_iter(s, link_iter(s, prog));
  CHECK(s.k.read(s.t, int(file), 8).err() == Errno::Again);
  CHECK(s.k.read(s.t, int(file), 8).err() == Errno::Again);
}

#ifdef __linux__

namespace {

// The live kernel's own ids, found by reading its BTF through the command that a person would use.
struct LiveBtf {
  BtfTypes types;
  static Result<LiveBtf> read() {
    FILE* file = std::fopen("/sys/kernel/btf/vmlinux", "rb");
    if (!file) return refuse(Errno::NoEnt, "no vmlinux BTF");
    std::vector<uint8_t> data;
    uint8_t part[65536];
    while (size_t n = std::fread(part, 1, sizeof part, file)) data.insert(data.end(), part, part + n);
    std::fclose(file);
    return LiveBtf{TRY(BtfTypes::parse(data))};
  }
};

// Numbers that the two BTFs disagree about.
std::string without_ids(std::string log) {
  for (size_t at = 0; (at = log.find("btf_id ", at)) != log.npos; at += 7) {
    const size_t from = at + 7, end = log.find(' ', from);
    log.replace(from, end - from, "N");
  }
  const size_t stats = log.find("verification time");
  return log.substr(0, stats);
}

}  // namespace

TEST_CASE("a read that is interrupted, wherever it stands, loses and repeats nothing") {
  Sim s;
  for (int i = 0; i < 3; ++i) REQUIRE(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1) >= 0);
  std::vector<bpf_insn> insns = {{0xb7, 9, 0, 0, 0}, {0x07, 9, 0, 0, 1}, {0xa5, 9, 0, -2, 70000}};
  const auto writes = writes_u32_of("bpf_map", "id");
  insns.insert(insns.end(), writes.begin(), writes.end());
  bpf_attr attr = iter_attr(insns, btf_id("bpf_iter_bpf_map", BTF_KIND_FUNC));
  const long prog = s.bpf(BPF_PROG_LOAD, attr);
  REQUIRE(prog >= 0);
  const long link = link_iter(s, prog);
  REQUIRE(link >= 0);
  bool came = true;
  int at = 0, inside = 0;
  for (; came; ++at) {
    const long fd = open_iter(s, link);
    came = false;
    int asked = 0;
    s.machine().interrupted = [&] {
      if (asked++ != at) return false;
      inside += s.machine().current->running != nullptr;
      return came = true;
    };
    std::string all;
    for (bool ended = false; !ended;) {
      const Result<std::string> part = s.k.read(s.t, int(fd), 4096);
      CHECK((part || part.err() == Errno::Intr));
      if (!part && part.err() != Errno::Intr) break;
      ended = part && part->empty();
      if (part) all += *part;
    }
    INFO("interrupted at look " << at);
    CHECK(words(all) == std::vector<uint32_t>{1, 2, 3});
    s.machine().interrupted = nullptr;
    REQUIRE(s.close(int(fd)) == 0);
    CHECK(object_graph(s.machine()).disagreements().empty());
  }
  CHECK(at > 7);
  CHECK(inside >= 4);  // at each map and at the end
}

TEST_CASE("the live verifier says the same of iterators that walk kernel structs") {
  LIVE_KERNEL_OR_SKIP();
  Result<LiveBtf> live_btf = LiveBtf::read();
  if (!live_btf) {
    WARN("skipped: /sys/kernel/btf/vmlinux cannot be read");
    return;
  }
  Sim s;
  const bpf_insn jeq5 = {0x15, 5, 0, 4, 0};
  struct Case {
    const char* what;
    const char* target;
    std::vector<bpf_insn> insns;
    const char* license = "GPL";
  };
  const Case cases[] = {
      {"meta and seq",
       "bpf_map",
       {load(DW, 2, 1, 0), load(DW, 3, 2, 0), load(DW, 4, 3, 0), load(DW, 5, 3, 112), load(B, 6, 4, 0),
        load(DW, 7, 2, 8), load(DW, 8, 3, 40)}},
      {"a map",
       "bpf_map",
       {load(DW, 5, 1, 8), jeq5, load(W, 6, 5, 92), load(DW, 7, 5, 136), load(DW, 8, 5, 48),
        load(DW, 9, 5, 184)}},
      {"a map unchecked", "bpf_map", {load(DW, 5, 1, 8), load(W, 6, 5, 92)}},
      {"a program",
       "bpf_prog",
       {load(DW, 5, 1, 8), jeq5, load(DW, 6, 5, 80), load(W, 7, 6, 32), load(B, 8, 5, 20),
        load(DW, 9, 6, 960)}},
      {"a task",
       "task",
       {load(DW, 5, 1, 8), jeq5, load(W, 6, 5, 1264), load(DW, 7, 5, 1328), load(W, 8, 7, 1264),
        load(DW, 9, 5, 1280)}},
      {"a task's name",
       "task",
       {load(DW, 5, 1, 8), jeq5, load(W, 6, 5, 1752), load(B, 7, 5, 1767), load(DW, 8, 5, 1760),
        load(DW, 9, 5, 1756)}},
      {"a task's parent's",
       "task",
       {load(DW, 5, 1, 8), jeq5, load(DW, 6, 5, 1288), load(DW, 7, 6, 1288), load(W, 8, 7, 1268),
        load(DW, 9, 6, 1328)}},
      {"a link",
       "bpf_link",
       {load(DW, 5, 1, 8), jeq5, load(W, 6, 5, 8), load(DW, 7, 5, 32), load(DW, 8, 7, 80),
        load(W, 9, 8, 32)}},
      {"an element",
       "bpf_map_elem",
       {load(DW, 2, 1, 8),
        load(DW, 3, 1, 16),
        load(DW, 4, 1, 24),
        {0x15, 3, 0, 3, 0},
        {0x15, 4, 0, 2, 0},
        load(W, 5, 3, 0),
        load(DW, 6, 4, 0),
        load(W, 7, 2, 92)}},
      {"writing a key", "bpf_map_elem", {load(DW, 3, 1, 16), {0x15, 3, 0, 1, 0}, {0x7a, 3, 0, 0, 5}}},
      {"writing a value", "bpf_map_elem", {load(DW, 4, 1, 24), {0x15, 4, 0, 1, 0}, {0x7a, 4, 0, 0, 5}}},
      {"before a key", "bpf_map_elem", {load(DW, 3, 1, 16), {0x15, 3, 0, 1, 0}, load(DW, 5, 3, -8)}},
      {"writing a struct", "bpf_map", {load(DW, 5, 1, 0), {0x7a, 5, 0, 8, 0}}},
      {"a half argument", "bpf_map", {load(W, 5, 1, 4)}},
      {"an argument too many", "bpf_map", {load(DW, 5, 1, 16)}},
      {"half of an argument", "bpf_map", {load(W, 5, 1, 0)}},
      {"writing the context", "bpf_map", {{0x7a, 1, 0, 0, 5}}},
      {"behind a struct", "bpf_map", {load(DW, 5, 1, 0), load(DW, 6, 5, 24)}},
      {"before a struct", "bpf_map", {load(DW, 5, 1, 0), load(DW, 6, 5, -8)}},
      {"half a pointer", "bpf_map", {load(DW, 5, 1, 0), load(W, 6, 5, 0)}},
      {"across a pointer", "bpf_map", {load(DW, 5, 1, 0), load(DW, 6, 5, 4)}},
      {"across two numbers", "bpf_map", {load(DW, 5, 1, 0), load(DW, 6, 5, 12)}},
      {"seq_write",
       "bpf_map",
       {load(DW, 6, 1, 0),
        load(DW, 1, 6, 0),
        {0xbf, 2, 10, 0, 0},
        {0x07, 2, 0, 0, -8},
        {0x7a, 10, 0, -8, 65},
        {0xb7, 3, 0, 0, 8},
        {0x85, 0, 0, 0, BPF_FUNC_seq_write}}},
      {"seq_write to a map",
       "bpf_map",
       {load(DW, 6, 1, 8),
        {0xbf, 1, 6, 0, 0},
        {0xbf, 2, 10, 0, 0},
        {0x07, 2, 0, 0, -8},
        {0x7a, 10, 0, -8, 65},
        {0xb7, 3, 0, 0, 8},
        {0x85, 0, 0, 0, BPF_FUNC_seq_write}}},
      {"seq_write to meta",
       "bpf_map",
       {load(DW, 1, 1, 0),
        {0xbf, 2, 10, 0, 0},
        {0x07, 2, 0, 0, -8},
        {0x7a, 10, 0, -8, 65},
        {0xb7, 3, 0, 0, 8},
        {0x85, 0, 0, 0, BPF_FUNC_seq_write}}},
      {"a socket of a map",
       "sockmap",
       {load(DW, 2, 1, 8),
        load(DW, 3, 1, 16),
        load(DW, 5, 1, 24),
        {0x15, 3, 0, 3, 0},
        {0x15, 5, 0, 2, 0},
        load(W, 6, 3, 0),
        load(H, 7, 5, 16),
        load(W, 8, 2, 92)}},
      {"a socket with a value",
       "bpf_sk_storage_map",
       {load(DW, 5, 1, 16), jeq5, load(H, 6, 5, 534), load(H, 7, 5, 532), load(W, 8, 5, 528),
        load(B, 9, 5, 18)}},
      {"a socket's value",
       "bpf_sk_storage_map",
       {load(DW, 4, 1, 24), {0x15, 4, 0, 1, 0}, {0x7a, 4, 0, 8, 5}}},
      {"a socket unchecked", "bpf_sk_storage_map", {load(DW, 5, 1, 16), load(H, 6, 5, 16)}},
      {"writing a socket's key", "sockmap", {load(DW, 4, 1, 16), {0x15, 4, 0, 1, 0}, {0x7a, 4, 0, 8, 5}}},
      {"TCP",
       "tcp",
       {load(DW, 5, 1, 8), jeq5, load(H, 6, 5, 14), load(W, 7, 5, 0), load(B, 8, 5, 18), load(W, 9, 1, 16)}},
      {"behind a connection", "tcp", {load(DW, 5, 1, 8), jeq5, load(H, 6, 5, 136), load(DW, 7, 1, 24)}},
      {"UDP",
       "udp",
       {load(DW, 5, 1, 8), jeq5, load(H, 6, 5, 814), load(W, 7, 5, 808), load(DW, 8, 1, 24),
        load(DW, 9, 1, 16)}},
      {"AF_UNIX",
       "unix",
       {load(DW, 5, 1, 8), jeq5, load(DW, 6, 5, 872), load(H, 7, 6, 534), load(B, 8, 6, 18),
        load(DW, 9, 1, 16)}},
      {"netlink",
       "netlink",
       {load(DW, 5, 1, 8), jeq5, load(W, 6, 5, 792), load(H, 7, 5, 534), load(B, 8, 5, 18),
        load(H, 9, 5, 16)}},
      {"a task's file",
       "task_file",
       {load(DW, 5, 1, 24), jeq5, load(W, 6, 5, 40), load(DW, 7, 5, 32), load(DW, 8, 7, 64),
        load(DW, 9, 1, 16)}},
      {"a task's mapping",
       "task_vma",
       {load(DW, 5, 1, 16), jeq5, load(DW, 6, 5, 80), load(DW, 7, 5, 88), load(DW, 8, 7, 32),
        load(DW, 9, 1, 8)}},
      {"a cgroup",
       "cgroup",
       {load(DW, 5, 1, 8), jeq5, load(W, 6, 5, 216), load(DW, 7, 5, 256), load(DW, 8, 7, 96),
        load(W, 9, 5, 216)}},
      {"a symbol",
       "ksym",
       {load(DW, 5, 1, 8), jeq5, load(DW, 6, 5, 32), load(B, 7, 5, 44), load(W, 8, 5, 616),
        load(B, 9, 5, 45)}},
      {"behind a symbol's module", "ksym", {load(DW, 5, 1, 8), jeq5, load(B, 6, 5, 613)}},
      {"a route", "ipv6_route", {load(DW, 5, 1, 8), {0x15, 5, 0, 1, 0}, load(W, 6, 5, 100)}},
      {"a slab cache", "kmem_cache", {load(DW, 5, 1, 8), {0x15, 5, 0, 1, 0}, load(W, 6, 5, 36)}},
      {"a device's buffer", "dmabuf", {load(DW, 5, 1, 8), {0x15, 5, 0, 1, 0}, load(DW, 6, 5, 0)}},
      {"not GPL", "bpf_map", {load(DW, 6, 1, 0), load(DW, 1, 6, 0)}, "MIT"},
  };
  for (const Case& c : cases) {
    const std::vector<bpf_insn> insns = ending(c.insns);
    const std::string function = std::string("bpf_iter_") + c.target;
    std::vector<char> live_log, sim_log;
    bpf_attr to_live = iter_attr(insns, live_btf->types.find_by_name(function, BTF_KIND_FUNC), &live_log, 2);
    bpf_attr to_sim = iter_attr(insns, btf_id(function.c_str(), BTF_KIND_FUNC), &sim_log, 2);
    to_live.license = to_sim.license = user_ptr(c.license);
    const long expected = live::sys_bpf(BPF_PROG_LOAD, &to_live, sizeof to_live);
    live::close_fd(expected);
    const long got = s.bpf(BPF_PROG_LOAD, to_sim);
    if (got >= 0) s.close(got);
    INFO(c.what);
    CHECK((got < 0 ? got : 0) == (expected < 0 ? expected : 0));
    CHECK(without_ids(sim_log.data()) == without_ids(live_log.data()));
  }
}

TEST_CASE("the live kernel refuses the same BTF ids, links and iterators") {
  LIVE_KERNEL_OR_SKIP();
  Result<LiveBtf> live_btf = LiveBtf::read();
  if (!live_btf) {
    WARN("skipped: /sys/kernel/btf/vmlinux cannot be read");
    return;
  }
  Sim s;
  const auto insns = ending({});
  const auto find = [&](bool live, const char* name, uint32_t kind) {
    return live ? live_btf->types.find_by_name(name, kind) : btf_id(name, kind);
  };
  struct {
    const char* what;
    const char* name;
    uint32_t kind;
    uint32_t id;
    uint32_t attach;
    uint32_t flags = 0;
  } const loads[] = {
      {"no id", nullptr, 0, 0, BPF_TRACE_ITER},
      {"a struct", "bpf_map", BTF_KIND_STRUCT, 0, BPF_TRACE_ITER},
      {"another function", "do_exit", BTF_KIND_FUNC, 0, BPF_TRACE_ITER},
      {"beyond the last", nullptr, 0, 0xfffff, BPF_TRACE_ITER},
      {"no id at all", nullptr, 0, 0x100000, BPF_TRACE_ITER},
      {"attach type 0", "bpf_iter_bpf_map", BTF_KIND_FUNC, 0, 0},
      {"attach type perf", "bpf_iter_bpf_map", BTF_KIND_FUNC, 0, BPF_PERF_EVENT},
      {"a function as a tracepoint", "bpf_iter_bpf_map", BTF_KIND_FUNC, 0, BPF_TRACE_RAW_TP},
      {"a type as a tracepoint", "u32", BTF_KIND_TYPEDEF, 0, BPF_TRACE_RAW_TP},
      {"a tracepoint", "btf_trace_sys_enter", BTF_KIND_TYPEDEF, 0, BPF_TRACE_RAW_TP},
      {"a sleepable tracepoint", "btf_trace_sys_enter", BTF_KIND_TYPEDEF, 0, BPF_TRACE_RAW_TP,
       BPF_F_SLEEPABLE},
      {"a sleepable iterator", "bpf_iter_bpf_map", BTF_KIND_FUNC, 0, BPF_TRACE_ITER, BPF_F_SLEEPABLE},
  };
  for (const auto& c : loads) {
    long results[2];
    std::vector<char> logs[2];
    for (bool live : {true, false}) {
      const uint32_t id = c.name ? find(live, c.name, c.kind) : c.id;
      bpf_attr attr = iter_attr(insns, id, &logs[live], 1, bpf_attach_type(c.attach));
      attr.prog_flags = c.flags;
      results[live] = live ? live::sys_bpf(BPF_PROG_LOAD, &attr, sizeof attr) : s.bpf(BPF_PROG_LOAD, attr);
    }
    live::close_fd(results[1]);
    if (results[0] >= 0) s.close(results[0]);
    INFO(c.what << ": " << s.why() << "; live: " << logs[1].data());
    CHECK((results[0] < 0 ? results[0] : 0) == (results[1] < 0 ? results[1] : 0));
  }

  // A link of an iterator hangs on nothing but its own descriptors.
  bpf_attr make;
  make.map_type = BPF_MAP_TYPE_ARRAY, make.key_size = 4, make.value_size = 8, make.max_entries = 4;
  struct Side {
    bool live;
    long map, maps_prog, elem_prog, link;
  };
  auto call = [&](const Side& side, int cmd, bpf_attr& attr) {
    return side.live ? live::sys_bpf(cmd, &attr, sizeof attr) : s.bpf(cmd, attr);
  };
  auto set_up = [&](bool live) {
    Side side{live, -1, -1, -1, -1};
    bpf_attr map = make;
    side.map = call(side, BPF_MAP_CREATE, map);
    bpf_attr maps = iter_attr(insns, find(live, "bpf_iter_bpf_map", BTF_KIND_FUNC));
    side.maps_prog = call(side, BPF_PROG_LOAD, maps);
    const auto reads_value = ending({load(DW, 4, 1, 24), {0x15, 4, 0, 1, 0}, load(DW, 6, 4, 0)});
    bpf_attr elems = iter_attr(reads_value, find(live, "bpf_iter_bpf_map_elem", BTF_KIND_FUNC));
    side.elem_prog = call(side, BPF_PROG_LOAD, elems);
    bpf_attr link;
    link.link_create.prog_fd = uint32_t(side.maps_prog), link.link_create.attach_type = BPF_TRACE_ITER;
    side.link = call(side, BPF_LINK_CREATE, link);
    return side;
  };
  const Side sides[2] = {set_up(false), set_up(true)};
  static uint32_t infos[4][32];
  struct Case {
    const char* what;
    int cmd;
    void (*fill)(bpf_attr&, const Side&);
  };
  static const auto link = [](bpf_attr& a, long prog, int length = -1) {
    a.link_create.prog_fd = uint32_t(prog), a.link_create.attach_type = BPF_TRACE_ITER;
    if (length >= 0)
      a.link_create.iter_info = user_ptr(infos[0]), a.link_create.iter_info_len = uint32_t(length);
  };
  const Case cases[] = {
      {"link", BPF_LINK_CREATE, [](bpf_attr& a, const Side& s) { link(a, s.maps_prog); }},
      {"attach type", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) {
         link(a, s.maps_prog), a.link_create.attach_type = BPF_TRACE_FENTRY;
       }},
      {"target_fd", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { link(a, s.maps_prog), a.link_create.target_fd = 1; }},
      {"flags", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { link(a, s.maps_prog), a.link_create.flags = 1; }},
      {"length without info", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { link(a, s.maps_prog), a.link_create.iter_info_len = 4; }},
      {"info without length", BPF_LINK_CREATE, [](bpf_attr& a, const Side& s) { link(a, s.maps_prog, 0); }},
      {"zero info", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][0] = 0, link(a, s.maps_prog, 16); }},
      {"long info", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][0] = 0, infos[0][4] = 1, link(a, s.maps_prog, 20); }},
      {"info of a page and more", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][4] = 0, link(a, s.maps_prog, 4097); }},
      {"no map", BPF_LINK_CREATE, [](bpf_attr& a, const Side& s) { link(a, s.elem_prog); }},
      {"map 0", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][0] = 0, link(a, s.elem_prog, 4); }},
      {"map 9999", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][0] = 9999, link(a, s.elem_prog, 4); }},
      {"a program for a map", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][0] = uint32_t(s.maps_prog), link(a, s.elem_prog, 4); }},
      {"a map", BPF_LINK_CREATE,
       [](bpf_attr& a, const Side& s) { infos[0][0] = uint32_t(s.map), link(a, s.elem_prog, 4); }},
      {"iter", BPF_ITER_CREATE, [](bpf_attr& a, const Side& s) { a.iter_create.link_fd = uint32_t(s.link); }},
      {"iter flags", BPF_ITER_CREATE,
       [](bpf_attr& a, const Side& s) { a.iter_create.link_fd = uint32_t(s.link), a.iter_create.flags = 1; }},
      {"iter of a map", BPF_ITER_CREATE,
       [](bpf_attr& a, const Side& s) { a.iter_create.link_fd = uint32_t(s.map); }},
      {"iter of nothing", BPF_ITER_CREATE, [](bpf_attr& a, const Side&) { a.iter_create.link_fd = 9999; }},
      {"detach", BPF_LINK_DETACH,
       [](bpf_attr& a, const Side& s) { a.link_detach.link_fd = uint32_t(s.link); }},
      {"update to another target", BPF_LINK_UPDATE,
       [](bpf_attr& a, const Side& s) {
         a.link_update.link_fd = uint32_t(s.link), a.link_update.new_prog_fd = uint32_t(s.elem_prog);
       }},
      {"update to itself", BPF_LINK_UPDATE,
       [](bpf_attr& a, const Side& s) {
         a.link_update.link_fd = uint32_t(s.link), a.link_update.new_prog_fd = uint32_t(s.maps_prog);
       }},
      {"query", BPF_TASK_FD_QUERY,
       [](bpf_attr& a, const Side& s) {
         a.task_fd_query.pid = s.live ? uint32_t(getpid()) : 470, a.task_fd_query.fd = uint32_t(s.link);
       }},
  };
  for (const Case& c : cases) {
    long results[2];
    for (const Side& side : sides) {
      bpf_attr attr;
      c.fill(attr, side);
      results[side.live] = call(side, c.cmd, attr);
      if (results[side.live] > 0) side.live ? live::close_fd(results[1]) : void(s.close(results[0]));
    }
    INFO(c.what << ": " << s.why());
    CHECK((results[0] < 0 ? results[0] : 0) == (results[1] < 0 ? results[1] : 0));
  }
  for (long fd : {sides[1].map, sides[1].maps_prog, sides[1].elem_prog, sides[1].link}) live::close_fd(fd);
}

TEST_CASE("reading an iterator over a map's elements gives the live kernel's bytes") {
  LIVE_KERNEL_OR_SKIP();
  Result<LiveBtf> live_btf = LiveBtf::read();
  if (!live_btf) {
    WARN("skipped: /sys/kernel/btf/vmlinux cannot be read");
    return;
  }
  Sim s;
  const auto values = fix_jump(writes_u32(0, 24));
  std::string texts[2];
  for (bool live : {false, true}) {
    auto call = [&](int cmd, bpf_attr& attr) {
      return live ? live::sys_bpf(cmd, &attr, sizeof attr) : s.bpf(cmd, attr);
    };
    bpf_attr make;
    make.map_type = BPF_MAP_TYPE_ARRAY, make.key_size = 4, make.value_size = 4, make.max_entries = 5;
    const long map = call(BPF_MAP_CREATE, make);
    for (uint32_t i = 0; i < 5; ++i) {
      const uint32_t value = i * i + 1;
      bpf_attr update;
      update.map_fd = uint32_t(map), update.key = user_ptr(&i), update.value = user_ptr(&value);
      call(BPF_MAP_UPDATE_ELEM, update);
    }
    const uint32_t id = live ? live_btf->types.find_by_name("bpf_iter_bpf_map_elem", BTF_KIND_FUNC)
                             : btf_id("bpf_iter_bpf_map_elem", BTF_KIND_FUNC);
    bpf_attr load = iter_attr(values, id);
    const long prog = call(BPF_PROG_LOAD, load);
    const uint32_t info[4] = {uint32_t(map)};
    bpf_attr link_attr;
    link_attr.link_create.prog_fd = uint32_t(prog), link_attr.link_create.attach_type = BPF_TRACE_ITER;
    link_attr.link_create.iter_info = user_ptr(info), link_attr.link_create.iter_info_len = 16;
    const long link = call(BPF_LINK_CREATE, link_attr);
    bpf_attr create;
    create.iter_create.link_fd = uint32_t(link);
    const long file = call(BPF_ITER_CREATE, create);
    REQUIRE(file >= 0);
    for (size_t size : {6u, 3u, 100u, 100u}) {
      char part[128];
      std::string got;
      if (live) {
        const auto n = ::read(int(file), part, size);
        got = std::string(part, n > 0 ? size_t(n) : 0);
      } else {
        got = *s.k.read(s.t, int(file), size);
      }
      texts[live] += std::to_string(got.size()) + ":" + got + ";";
    }
    if (live)
      for (long fd : {file, link, prog, map}) live::close_fd(fd);
  }
  CHECK(texts[0] == texts[1]);
}
#endif
