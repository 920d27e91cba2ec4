// The same bytes of union bpf_attr to the simulator and to the kernel that runs the tests: the same errno.
#include "live_bpf.h"
#include "sim.h"

using namespace bpfsim;

namespace {

struct Bytes {
  const char* what;
  int cmd;
  void (*fill)(bpf_attr&, long map, long prog);
  uint32_t size = sizeof(bpf_attr);
};

const uint64_t kKey = 0;
uint64_t value[64];
const bpf_insn kProgram[2] = {{0xb7, 0, 0, 0, 2}, {0x95, 0, 0, 0, 0}};

void array(bpf_attr& a) {
  a.map_type = BPF_MAP_TYPE_ARRAY, a.key_size = 4, a.value_size = 8, a.max_entries = 4;
}
void xdp(bpf_attr& a) {
  a.prog_type = BPF_PROG_TYPE_XDP, a.insns = user_ptr(kProgram), a.insn_cnt = 2, a.license = user_ptr("GPL");
}
void elem(bpf_attr& a, long map) {
  a.map_fd = uint32_t(map), a.key = user_ptr(&kKey), a.value = user_ptr(value);
}

const Bytes kCases[] = {
    {"create: key size", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a), a.key_size = 3; }},
    {"create: type 0", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a), a.map_type = 0; }},
    {"create: type 999", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a), a.map_type = 999; }},
    {"create: map_extra", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a), a.map_extra = 5; }},
    {"create: read and write only", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.map_flags = 24; }},
    {"create: NUMA", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.map_flags = 4, a.numa_node = 900; }},
    {"create: name", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), std::strcpy(a.map_name, "a b"); }},
    {"create: long name", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), std::memset(a.map_name, 'a', 16); }},
    {"create: btf_fd", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.btf_fd = 9999, a.btf_value_type_id = 1; }},
    {"create: key type alone", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.btf_key_type_id = 1; }},
    {"create: btf_fd a map", BPF_MAP_CREATE,
     [](bpf_attr& a, long map, long) { array(a), a.btf_fd = uint32_t(map), a.btf_value_type_id = 1; }},
    {"create: vmlinux type", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.btf_vmlinux_value_type_id = 1; }},
    {"create: hash size", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.excl_prog_hash_size = 32; }},
    {"create: hash size 31", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) {
       array(a), a.excl_prog_hash = user_ptr(value), a.excl_prog_hash_size = 31;
     }},
    {"create: hash nowhere", BPF_MAP_CREATE,
     [](bpf_attr& a, long, long) { array(a), a.excl_prog_hash = 16, a.excl_prog_hash_size = 32; }},
    {"create: ifindex", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a), a.map_ifindex = 12345; }},
    {"create: 12 bytes", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a); }, 12},
    {"create: 0 bytes", BPF_MAP_CREATE, [](bpf_attr& a, long, long) { array(a); }, 0},
    {"command 9999", 9999, [](bpf_attr&, long, long) {}},
    {"command -1", -1, [](bpf_attr&, long, long) {}},
    {"lookup: fd", BPF_MAP_LOOKUP_ELEM, [](bpf_attr& a, long, long) { elem(a, 9999); }},
    {"lookup: fd -1", BPF_MAP_LOOKUP_ELEM, [](bpf_attr& a, long, long) { elem(a, -1); }},
    {"lookup: fd a program", BPF_MAP_LOOKUP_ELEM, [](bpf_attr& a, long, long prog) { elem(a, prog); }},
    {"lookup: flags", BPF_MAP_LOOKUP_ELEM, [](bpf_attr& a, long map, long) { elem(a, map), a.flags = 1; }},
    {"lookup: lock", BPF_MAP_LOOKUP_ELEM,
     [](bpf_attr& a, long map, long) { elem(a, map), a.flags = BPF_F_LOCK; }},
    {"lookup: key nowhere", BPF_MAP_LOOKUP_ELEM,
     [](bpf_attr& a, long map, long) { elem(a, map), a.key = 16; }},
    {"lookup: value nowhere", BPF_MAP_LOOKUP_ELEM,
     [](bpf_attr& a, long map, long) { elem(a, map), a.value = 16; }},
    {"update: flags", BPF_MAP_UPDATE_ELEM, [](bpf_attr& a, long map, long) { elem(a, map), a.flags = 8; }},
    {"update: noexist", BPF_MAP_UPDATE_ELEM, [](bpf_attr& a, long map, long) { elem(a, map), a.flags = 1; }},
    {"update: lock", BPF_MAP_UPDATE_ELEM,
     [](bpf_attr& a, long map, long) { elem(a, map), a.flags = BPF_F_LOCK; }},
    {"delete: value", BPF_MAP_DELETE_ELEM, [](bpf_attr& a, long map, long) { elem(a, map); }},
    {"delete", BPF_MAP_DELETE_ELEM, [](bpf_attr& a, long map, long) { elem(a, map), a.value = 0; }},
    {"lookup and delete", BPF_MAP_LOOKUP_AND_DELETE_ELEM, [](bpf_attr& a, long map, long) { elem(a, map); }},
    {"lookup and delete: flags", BPF_MAP_LOOKUP_AND_DELETE_ELEM,
     [](bpf_attr& a, long map, long) { elem(a, map), a.flags = 1; }},
    {"next key: flags", BPF_MAP_GET_NEXT_KEY, [](bpf_attr& a, long map, long) { elem(a, map), a.flags = 1; }},
    {"next key: nowhere", BPF_MAP_GET_NEXT_KEY,
     [](bpf_attr& a, long map, long) { elem(a, map), a.next_key = 16; }},
    {"freeze: fd", BPF_MAP_FREEZE, [](bpf_attr& a, long, long) { a.map_fd = 9999; }},
    {"freeze: key", BPF_MAP_FREEZE, [](bpf_attr& a, long map, long) { a.map_fd = uint32_t(map), a.key = 1; }},
    {"load: flag", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.prog_flags = 1u << 30; }},
    {"load: no instruction", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.insn_cnt = 0; }},
    {"load: too many", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.insn_cnt = 1000001; }},
    {"load: insns nowhere", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.insns = 16; }},
    {"load: license nowhere", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.license = 16; }},
    {"load: type", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.prog_type = 999; }},
    {"load: type 0", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.prog_type = 0; }},
    {"load: name", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), std::strcpy(a.prog_name, "a-b"); }},
    {"load: attach_btf_id", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.attach_btf_id = 1; }},
    {"load: attach_prog_fd", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.attach_prog_fd = 9999; }},
    {"load: to a program", BPF_PROG_LOAD,
     [](bpf_attr& a, long, long prog) { xdp(a), a.attach_prog_fd = uint32_t(prog); }},
    {"load: sk_lookup", BPF_PROG_LOAD,
     [](bpf_attr& a, long, long) { xdp(a), a.prog_type = BPF_PROG_TYPE_SK_LOOKUP; }},
    {"load: syscall", BPF_PROG_LOAD,
     [](bpf_attr& a, long, long) {
       xdp(a), a.prog_type = BPF_PROG_TYPE_SYSCALL, a.expected_attach_type = 1;
     }},
    {"load: log", BPF_PROG_LOAD, [](bpf_attr& a, long, long) { xdp(a), a.log_level = 1; }},
    {"run: fd", BPF_PROG_TEST_RUN, [](bpf_attr& a, long, long) { a.test.prog_fd = 9999; }},
    {"run: fd a map", BPF_PROG_TEST_RUN, [](bpf_attr& a, long map, long) { a.test.prog_fd = uint32_t(map); }},
    {"run: ctx size", BPF_PROG_TEST_RUN,
     [](bpf_attr& a, long, long prog) { a.test.prog_fd = uint32_t(prog), a.test.ctx_size_in = 4; }},
    {"run: ctx out", BPF_PROG_TEST_RUN,
     [](bpf_attr& a, long, long prog) { a.test.prog_fd = uint32_t(prog), a.test.ctx_out = 4; }},
    {"next id: end", BPF_MAP_GET_NEXT_ID, [](bpf_attr& a, long, long) { a.start_id = INT32_MAX; }},
    {"next id: last", BPF_MAP_GET_NEXT_ID, [](bpf_attr& a, long, long) { a.start_id = INT32_MAX - 1; }},
    {"next id: flags", BPF_PROG_GET_NEXT_ID, [](bpf_attr& a, long, long) { a.open_flags = 1; }},
    {"map by id 0", BPF_MAP_GET_FD_BY_ID, [](bpf_attr&, long, long) {}},
    {"map by id: flags", BPF_MAP_GET_FD_BY_ID, [](bpf_attr& a, long, long) { a.open_flags = 1; }},
    {"map by id: both", BPF_MAP_GET_FD_BY_ID, [](bpf_attr& a, long, long) { a.open_flags = 24; }},
    {"prog by id: flags", BPF_PROG_GET_FD_BY_ID, [](bpf_attr& a, long, long) { a.open_flags = 8; }},
    {"btf by id: flags", BPF_BTF_GET_FD_BY_ID,
     [](bpf_attr& a, long, long) { a.start_id = INT32_MAX, a.open_flags = 8; }},
    {"btf by id", BPF_BTF_GET_FD_BY_ID, [](bpf_attr& a, long, long) { a.start_id = INT32_MAX; }},
    {"link by id: flags", BPF_LINK_GET_FD_BY_ID, [](bpf_attr& a, long, long) { a.open_flags = 8; }},
    {"link by id", BPF_LINK_GET_FD_BY_ID, [](bpf_attr& a, long, long) { a.start_id = INT32_MAX; }},
    {"info: fd", BPF_OBJ_GET_INFO_BY_FD, [](bpf_attr& a, long, long) { a.info.bpf_fd = 9999; }},
    {"info: nowhere", BPF_OBJ_GET_INFO_BY_FD,
     [](bpf_attr& a, long map, long) { a.info.bpf_fd = uint32_t(map), a.info.info_len = 8; }},
    {"info: page", BPF_OBJ_GET_INFO_BY_FD,
     [](bpf_attr& a, long map, long) {
       a.info.bpf_fd = uint32_t(map), a.info.info_len = 4097, a.info.info = user_ptr(value);
     }},
    {"info: nothing", BPF_OBJ_GET_INFO_BY_FD,
     [](bpf_attr& a, long, long prog) {
       a.info.bpf_fd = uint32_t(prog), a.info.info_len = 0, a.info.info = user_ptr(value);
     }},
    {"link: prog", BPF_LINK_CREATE,
     [](bpf_attr& a, long, long) { a.link_create.prog_fd = 9999, a.link_create.attach_type = BPF_XDP; }},
    {"link: prog a map", BPF_LINK_CREATE,
     [](bpf_attr& a, long map, long) {
       a.link_create.prog_fd = uint32_t(map), a.link_create.attach_type = BPF_XDP;
     }},
    {"link: attach type", BPF_LINK_CREATE,
     [](bpf_attr& a, long, long prog) { a.link_create.prog_fd = uint32_t(prog); }},
    {"link: attach type 999", BPF_LINK_CREATE,
     [](bpf_attr& a, long, long prog) {
       a.link_create.prog_fd = uint32_t(prog), a.link_create.attach_type = 999;
     }},
    {"link: no device", BPF_LINK_CREATE,
     [](bpf_attr& a, long, long prog) {
       a.link_create.prog_fd = uint32_t(prog), a.link_create.attach_type = BPF_XDP,
       a.link_create.target_ifindex = 987654;
     }},
    {"link update: fd", BPF_LINK_UPDATE, [](bpf_attr& a, long, long) { a.link_update.link_fd = 9999; }},
    {"link update: a map", BPF_LINK_UPDATE,
     [](bpf_attr& a, long map, long) { a.link_update.link_fd = uint32_t(map); }},
    {"link update: flags", BPF_LINK_UPDATE,
     [](bpf_attr& a, long, long) { a.link_update.link_fd = 9999, a.link_update.flags = 1; }},
    {"link detach: a map", BPF_LINK_DETACH,
     [](bpf_attr& a, long map, long) { a.link_detach.link_fd = uint32_t(map); }},
    {"pin: fd", BPF_OBJ_PIN,
     [](bpf_attr& a, long, long) { a.pathname = user_ptr("/none/x"), a.bpf_fd = 9999; }},
    {"pin: no directory", BPF_OBJ_PIN,
     [](bpf_attr& a, long map, long) { a.pathname = user_ptr("/none/x"), a.bpf_fd = uint32_t(map); }},
    {"pin: not in BPFFS", BPF_OBJ_PIN,
     [](bpf_attr& a, long map,
        long) { a.pathname = user_ptr("/tmp/bpfsim_none"), a.bpf_fd = uint32_t(map); }},
    {"pin: exists", BPF_OBJ_PIN,
     [](bpf_attr& a, long map, long) { a.pathname = user_ptr("/tmp"), a.bpf_fd = uint32_t(map); }},
    {"pin: slash behind", BPF_OBJ_PIN,
     [](bpf_attr& a, long map,
        long) { a.pathname = user_ptr("/tmp/bpfsim_none/"), a.bpf_fd = uint32_t(map); }},
    {"pin: empty path", BPF_OBJ_PIN,
     [](bpf_attr& a, long map, long) { a.pathname = user_ptr(""), a.bpf_fd = uint32_t(map); }},
    {"pin: path nowhere", BPF_OBJ_PIN,
     [](bpf_attr& a, long map, long) { a.pathname = 16, a.bpf_fd = uint32_t(map); }},
    {"pin: flags", BPF_OBJ_PIN,
     [](bpf_attr& a, long map,
        long) { a.pathname = user_ptr("/tmp"), a.bpf_fd = uint32_t(map), a.file_flags = 1; }},
    {"pin: path_fd", BPF_OBJ_PIN,
     [](bpf_attr& a, long map,
        long) { a.pathname = user_ptr("/tmp"), a.bpf_fd = uint32_t(map), a.path_fd = 1; }},
    {"get: directory", BPF_OBJ_GET, [](bpf_attr& a, long, long) { a.pathname = user_ptr("/tmp"); }},
    {"get: none", BPF_OBJ_GET, [](bpf_attr& a, long, long) { a.pathname = user_ptr("/none/x"); }},
    {"get: fd", BPF_OBJ_GET,
     [](bpf_attr& a, long map, long) { a.pathname = user_ptr("/tmp"), a.bpf_fd = uint32_t(map); }},
    {"get: flags", BPF_OBJ_GET,
     [](bpf_attr& a, long, long) { a.pathname = user_ptr("/tmp"), a.file_flags = 1; }},
    {"get: both", BPF_OBJ_GET,
     [](bpf_attr& a, long, long) { a.pathname = user_ptr("/tmp"), a.file_flags = 24; }},
};

}  // namespace

TEST_CASE("the live kernel refuses the same bytes with the same errno") {
  LIVE_KERNEL_OR_SKIP();
  Sim s;
  bpf_attr map_attr, prog_attr;
  array(map_attr);
  xdp(prog_attr);
  const long live_map = live::sys_bpf(BPF_MAP_CREATE, &map_attr, sizeof map_attr);
  const long live_prog = live::sys_bpf(BPF_PROG_LOAD, &prog_attr, sizeof prog_attr);
  const long map = s.bpf(BPF_MAP_CREATE, map_attr), prog = s.bpf(BPF_PROG_LOAD, prog_attr);
  REQUIRE(live_map >= 0);
  REQUIRE(live_prog >= 0);
  REQUIRE(map >= 0);
  REQUIRE(prog >= 0);
  for (const Bytes& c : kCases) {
    bpf_attr to_live, to_sim;
    c.fill(to_live, live_map, live_prog);
    c.fill(to_sim, map, prog);
    const long expected = live::sys_bpf(c.cmd, &to_live, c.size);
    const long got = s.bpf(c.cmd, to_sim, c.size);
    INFO(c.what << ": the simulator says " << s.why());
    CHECK((got < 0 ? got : 0) == (expected < 0 ? expected : 0));
    const bool makes_fd = c.cmd == BPF_MAP_CREATE || c.cmd == BPF_PROG_LOAD || c.cmd == BPF_LINK_CREATE;
    if (makes_fd) live::close_fd(expected);
  }
  live::close_fd(live_map);
  live::close_fd(live_prog);
}
