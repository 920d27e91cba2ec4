// MAP_CREATE and the commands on elements: what they refuse, with which errno, and what they do.
#include "sim.h"

using namespace bpfsim;

namespace {

struct CreateCase {
  const char* what;
  void (*fill)(bpf_attr&);
  long expected;  // 0: created
};

const CreateCase kCreate[] = {
    {"an array", [](bpf_attr&) {}, 0},
    {"a type that no version has", [](bpf_attr& a) { a.map_type = 999; }, -22},
    {"type 0", [](bpf_attr& a) { a.map_type = 0; }, -22},
    {"array keys are 4 bytes", [](bpf_attr& a) { a.key_size = 8; }, -22},
    {"no entries", [](bpf_attr& a) { a.max_entries = 0; }, -22},
    {"no values", [](bpf_attr& a) { a.value_size = 0; }, -22},
    {"key type without value type", [](bpf_attr& a) { a.btf_key_type_id = 1; }, -22},
    {"BTF types without a BTF", [](bpf_attr& a) { a.btf_value_type_id = 1, a.btf_fd = 99; }, -9},
    {"vmlinux type for an array", [](bpf_attr& a) { a.btf_vmlinux_value_type_id = 1; }, -22},
    {"map_extra", [](bpf_attr& a) { a.map_extra = 1; }, -22},
    {"read-only and write-only", [](bpf_attr& a) { a.map_flags = BPF_F_RDONLY | BPF_F_WRONLY; }, -22},
    {"read-only", [](bpf_attr& a) { a.map_flags = BPF_F_RDONLY; }, 0},
    {"an unknown flag", [](bpf_attr& a) { a.map_flags = 1u << 31; }, -22},
    {"NUMA node 0", [](bpf_attr& a) { a.map_flags = BPF_F_NUMA_NODE; }, 0},
    {"NUMA node 77", [](bpf_attr& a) { a.map_flags = BPF_F_NUMA_NODE, a.numa_node = 77; }, -22},
    {"a name", [](bpf_attr& a) { std::strcpy(a.map_name, "Counts_1.x"); }, 0},
    {"a name with a space", [](bpf_attr& a) { std::strcpy(a.map_name, "a b"); }, -22},
    {"a name without NUL", [](bpf_attr& a) { std::memset(a.map_name, 'a', 16); }, -22},
    {"a hash size without hash", [](bpf_attr& a) { a.excl_prog_hash_size = 32; }, -22},
};

}  // namespace

TEST_CASE("MAP_CREATE refuses what the kernel refuses, and leaves nothing behind") {
  for (const CreateCase& c : kCreate) {
    INFO(c.what);
    Sim s;
    bpf_attr attr;
    attr.map_type = BPF_MAP_TYPE_ARRAY;
    attr.key_size = 4;
    attr.value_size = 8;
    attr.max_entries = 4;
    c.fill(attr);
    const long ret = s.bpf(BPF_MAP_CREATE, attr);
    INFO(s.why());
    CHECK(ret == (c.expected ? c.expected : 3));
    CHECK(s.alive().size() == (c.expected ? 0 : 2));
    if (c.expected) CHECK(s.machine().arena.live_objects() == 0);
    if (c.expected) CHECK_FALSE(s.k.last_refusal().reason().empty());
  }
}

TEST_CASE("union bpf_attr may be shorter or longer than the kernel's, if the rest is zero") {
  Sim s;
  struct {
    bpf_attr attr;
    uint8_t tail[4096] = {};
  } big;
  big.attr.map_type = BPF_MAP_TYPE_ARRAY;
  big.attr.key_size = 4;
  big.attr.value_size = 8;
  big.attr.max_entries = 4;
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, 16) == 3);
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, 12) == minus(Errno::Inval));  // max_entries is not there: 0
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, 0) == minus(Errno::Inval));
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, 4096) == 4);
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, 4097) == minus(Errno::TooBig));
  big.tail[100] = 1;
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, 4096) == minus(Errno::TooBig));
  CHECK(s.bpf(BPF_MAP_CREATE, big.attr, sizeof(bpf_attr) + 100) == 5);
  CHECK(s.k.sys_bpf(s.t, BPF_MAP_CREATE, 0x1000, 72) == minus(Errno::Fault));
  CHECK(s.k.sys_bpf(s.t, BPF_MAP_CREATE, 0x1000, 4096) == minus(Errno::Fault));
  CHECK(s.bpf(9999, big.attr, 72) == minus(Errno::Inval));
  CHECK(s.bpf(-1, big.attr, 72) == minus(Errno::Inval));
}

TEST_CASE("each command reads up to its last field and no further") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  const uint32_t key = 0;
  uint32_t value = 5;
  CHECK(s.elem(BPF_MAP_DELETE_ELEM, fd, &key, &value) == minus(Errno::Inval));
  CHECK_THAT(s.why(), Catch::Matchers::Contains("map_delete_elem") && Catch::Matchers::Contains("key"));
  CHECK(s.elem(BPF_MAP_GET_NEXT_KEY, fd, &key, &value, 1) == minus(Errno::Inval));
  CHECK(s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, &value, 1) == minus(Errno::Inval));
  CHECK(s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, &value, BPF_F_LOCK) == minus(Errno::Inval));
  CHECK(s.elem(BPF_MAP_UPDATE_ELEM, fd, &key, &value, BPF_F_LOCK) == minus(Errno::Inval));
}

TEST_CASE("elements go in and out through every command") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 4, 4);
  uint32_t key = 1, value = 10, out = 0, next = 0;
  CHECK(s.map_lookup(fd, &key, &out) == minus(Errno::NoEnt));
  CHECK(s.map_get_next_key(fd, nullptr, &next) == minus(Errno::NoEnt));
  CHECK(s.map_update(fd, &key, &value, BPF_EXIST) == minus(Errno::NoEnt));
  CHECK(s.map_update(fd, &key, &value, BPF_NOEXIST) == 0);
  CHECK(s.map_update(fd, &key, &value, BPF_NOEXIST) == minus(Errno::Exist));
  CHECK(s.map_lookup(fd, &key, &out) == 0);
  CHECK(out == 10);
  CHECK(s.map_get_next_key(fd, nullptr, &next) == 0);
  CHECK(next == 1);
  CHECK(s.map_get_next_key(fd, &key, &next) == minus(Errno::NoEnt));
  out = 0;
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, &key, &out) == 0);
  CHECK(out == 10);
  CHECK(s.map_delete(fd, &key) == minus(Errno::NoEnt));
}

TEST_CASE("descriptors that are no maps, and pointers that lead nowhere") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  uint32_t key = 0, value = 0;
  const auto* wild = reinterpret_cast<void*>(uintptr_t(0x10));
  CHECK(s.map_lookup(99, &key, &value) == minus(Errno::BadF));
  CHECK(s.map_lookup(-1, &key, &value) == minus(Errno::BadF));
  CHECK(s.map_lookup(0, &key, &value) == minus(Errno::Inval));  // the terminal
  CHECK(s.elem(BPF_MAP_LOOKUP_ELEM, fd, wild, &value) == minus(Errno::Fault));
  CHECK(s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, wild) == minus(Errno::Fault));
  CHECK(s.elem(BPF_MAP_UPDATE_ELEM, fd, &key, wild) == minus(Errno::Fault));
  CHECK(s.elem(BPF_MAP_GET_NEXT_KEY, fd, nullptr, wild) == minus(Errno::Fault));
}

TEST_CASE("a queue has no keys: a key that is not null is refused") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_QUEUE, 0, 4, 2);
  uint32_t value = 1, key = 0;
  CHECK(s.map_update(fd, nullptr, &value) == 0);
  CHECK(s.map_update(fd, &key, &value) == minus(Errno::Inval));
  CHECK(s.map_lookup(fd, &key, &value) == minus(Errno::Inval));
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, nullptr, &value, BPF_F_LOCK) == minus(Errno::Inval));
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, nullptr, &value) == 0);
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, nullptr, &value) == minus(Errno::NoEnt));
  CHECK(s.map_delete(fd, nullptr) == minus(Errno::Inval));
  CHECK(s.map_get_next_key(fd, nullptr, &value) == minus(Errno::Inval));
}

TEST_CASE("an array cannot look up and delete: 524, ENOTSUPP, as Linux lets it through") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  uint32_t key = 0, value = 0;
  CHECK(s.elem(BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, &key, &value) == -524);
}

TEST_CASE("a per-CPU value is one block with every CPU's, each rounded up to 8 bytes") {
  for (bpf_map_type type : {BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH}) {
    Sim s;
    const long fd = s.map_create(type, 4, 4, 2);
    const uint32_t key = 1;
    uint64_t in[2] = {11, 22}, out[2] = {99, 99};
    CHECK(s.map_update(fd, &key, in) == 0);
    CHECK(s.map_lookup(fd, &key, out) == 0);
    CHECK(out[0] == 11);
    CHECK(out[1] == 22);
  }
}

TEST_CASE("a frozen map is read-only for user space, and freezing needs a writable descriptor") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  uint32_t key = 0, value = 5;
  CHECK(s.map_freeze(fd) == 0);
  CHECK(s.map_freeze(fd) == minus(Errno::Perm));
  CHECK(s.map_update(fd, &key, &value) == minus(Errno::Perm));
  CHECK(s.map_lookup(fd, &key, &value) == 0);
  const long read_only = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, BPF_F_RDONLY);
  CHECK(s.map_freeze(read_only) == minus(Errno::Perm));
  CHECK(s.map_update(read_only, &key, &value) == minus(Errno::Perm));
  const long write_only = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, BPF_F_WRONLY);
  CHECK(s.map_lookup(write_only, &key, &value) == minus(Errno::Perm));
  CHECK(s.map_update(write_only, &key, &value) == 0);
}

TEST_CASE("who may create what") {
  struct {
    const char* version;
    int64_t disabled;
    CapabilitySet caps;
    bpf_map_type type;
    long expected;
  } const cases[] = {
      {"6.18", 2, 0, BPF_MAP_TYPE_ARRAY, -1},
      {"6.18", 0, 0, BPF_MAP_TYPE_ARRAY, 3},
      {"6.18", 0, 0, BPF_MAP_TYPE_QUEUE, -1},
      {"6.18", 2, 1ull << CAP_BPF, BPF_MAP_TYPE_QUEUE, 3},
      {"6.18", 2, 1ull << CAP_SYS_ADMIN, BPF_MAP_TYPE_QUEUE, 3},
      {"5.4", 1, 1ull << CAP_BPF, BPF_MAP_TYPE_ARRAY, -1},
      {"5.4", 1, 1ull << CAP_SYS_ADMIN, BPF_MAP_TYPE_ARRAY, 3},
      {"6.1", 2, 0, BPF_MAP_TYPE_ARRAY, -1},
  };
  for (const auto& c : cases) {
    INFO(c.version << " disabled=" << c.disabled << " caps=" << c.caps << " type=" << c.type);
    MachineOptions options;
    options.version = *Version::parse(c.version);
    Sim s(options);
    s.machine().sysctl.unprivileged_bpf_disabled = c.disabled;
    s.t.cred = {1000, c.caps};
    CHECK(s.map_create(c.type, c.type == BPF_MAP_TYPE_QUEUE ? 0 : 4, 4, 1) == c.expected);
    // On an old kernel the sysctl closes the door to every command, since 5.19 only to creating.
    if (c.expected < 0 && c.disabled) {
      uint32_t key = 0, value = 0;
      CHECK(s.map_lookup(99, &key, &value) == (std::string(c.version) == "5.4" ? -1 : -9));
    }
  }
}

TEST_CASE("an older kernel lacks what came later") {
  struct {
    const char* version;
    int cmd;
    bpf_map_type type;
    const char* reason;
  } const cases[] = {
      {"4.14", BPF_MAP_LOOKUP_AND_DELETE_ELEM, BPF_MAP_TYPE_ARRAY, "came with Linux 4.20"},
      {"5.1", BPF_MAP_FREEZE, BPF_MAP_TYPE_ARRAY, "came with Linux 5.2"},
      {"4.19", BPF_MAP_CREATE, BPF_MAP_TYPE_QUEUE, "came with Linux 4.20"},
  };
  for (const auto& c : cases) {
    MachineOptions options;
    options.version = *Version::parse(c.version);
    Sim s(options);
    bpf_attr attr;
    attr.map_type = c.type;
    CHECK(s.bpf(c.cmd, attr, 4) == minus(Errno::Inval));
    CHECK_THAT(s.why(), Catch::Matchers::Contains(c.reason));
  }
}
