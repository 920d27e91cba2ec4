// Values with special fields: who may create them, what bpf(2) and mmap(2) then allow. The rows of Linux 6.1
// are those of its own map_check_btf; for 6.18 tests/agree/fields.py asks a live kernel.
#include "btf/btf_build.h"
#include "object/ops.h"
#include "sim.h"

using namespace bpfsim;

namespace {

uint32_t special(BtfBuilder& b, std::string_view name, uint32_t size) {
  const uint32_t byte = b.add_int("u8", 1), index = b.add_int("u32", 4);
  return b.add_struct(name, size, {{"opaque", b.add_array(byte, index, size)}});
}

struct FieldSim : Sim {
  using Sim::Sim;

  // A map whose value of 32 bytes has the field at 8; the key's type is 1.
  long create(bpf_map_type type, const std::string& field, uint32_t flags = 0) {
    BtfBuilder b;
    b.add_int("int", 4);
    uint32_t member;
    if (field == "kptr") {
      member = b.add_ptr(b.add_ref(BTF_KIND_TYPE_TAG, "kptr", b.add_struct("mine", 4, {{"x", 1}})));
    } else {
      member = special(b, field, field == "bpf_spin_lock" ? 4 : 16);
    }
    const uint32_t value = b.add_struct("value", 32, {{"plain", 1}, {"field", member, 64}});
    const std::vector<uint8_t> bytes = b.bytes();
    bpf_attr load;
    load.btf = user_ptr(bytes.data()), load.btf_size = uint32_t(bytes.size());
    const long btf_fd = bpf(BPF_BTF_LOAD, load);
    if (btf_fd < 0) return btf_fd;
    bpf_attr attr;
    attr.map_type = type, attr.key_size = 4, attr.value_size = 32, attr.max_entries = 4;
    attr.map_flags = flags, attr.btf_fd = uint32_t(btf_fd);
    attr.btf_key_type_id = 1, attr.btf_value_type_id = value;
    return bpf(BPF_MAP_CREATE, attr);
  }
};

MachineOptions version(const char* text) {
  MachineOptions options;
  options.version = *Version::parse(text);
  return options;
}

}  // namespace

TEST_CASE("Which maps may have which special fields, by version") {
  constexpr bpf_map_type H = BPF_MAP_TYPE_HASH, L = BPF_MAP_TYPE_LRU_HASH, A = BPF_MAP_TYPE_ARRAY,
                         P = BPF_MAP_TYPE_PERCPU_HASH, PA = BPF_MAP_TYPE_PERCPU_ARRAY;
  struct {
    const char* version;
    bpf_map_type type;
    const char* field;
    uint32_t flags;
    long expected;  // 0: created
  } cases[] = {
      {"6.18", H, "bpf_spin_lock", 0, 0},
      {"6.18", A, "bpf_spin_lock", 0, 0},
      {"6.18", L, "bpf_spin_lock", 0, -95},
      {"6.18", A, "bpf_spin_lock", BPF_F_WRONLY_PROG, -13},
      {"6.18", L, "bpf_timer", 0, 0},
      {"6.18", P, "bpf_timer", 0, -95},
      {"6.18", P, "kptr", 0, 0},
      {"6.1", H, "bpf_spin_lock", 0, 0},
      {"6.1", H, "bpf_spin_lock", BPF_F_RDONLY_PROG, -13},
      {"6.1", H, "bpf_spin_lock", BPF_F_WRONLY_PROG, 0},
      {"6.1", L, "bpf_spin_lock", 0, -524},
      {"6.1", H, "bpf_timer", BPF_F_RDONLY_PROG, -13},
      {"6.1", P, "bpf_timer", 0, -95},
      {"6.1", A, "kptr", BPF_F_WRONLY_PROG, -13},
      {"6.1", PA, "kptr", 0, 0},
      {"6.1", P, "kptr", 0, -95},
      {"6.0", A, "kptr", 0, 0},
      {"6.0", PA, "kptr", 0, -95},
      {"5.14", P, "bpf_timer", 0, 0},  // no special field yet
      {"5.4", L, "bpf_spin_lock", 0, -524},
  };
  for (const auto& c : cases) {
    INFO(c.version << " type " << c.type << " " << c.field << " flags " << c.flags);
    FieldSim s(version(c.version));
    const long fd = s.create(c.type, c.field, c.flags);
    INFO(s.why());
    CHECK((fd < 0 ? fd : 0) == c.expected);
  }
}

TEST_CASE("Special fields need CAP_BPF; before 6.2 only kptrs did") {
  for (auto [text, field, expected] :
       {std::tuple{"6.18", "bpf_timer", -1L}, {"6.1", "bpf_timer", 0L}, {"6.1", "kptr", -1L}}) {
    INFO(text << " " << field);
    FieldSim s(version(text));
    s.machine().sysctl.unprivileged_bpf_disabled = 0;
    // BTF_LOAD asks for the capability too, so the descriptor comes from before it was dropped.
    const long map = s.create(BPF_MAP_TYPE_HASH, field);
    REQUIRE(map >= 0);
    s.t.cred.effective = 0;
    bpf_attr attr;
    const Map& made = s.map(map);
    attr.map_type = BPF_MAP_TYPE_HASH, attr.key_size = 4, attr.value_size = 32, attr.max_entries = 4;
    attr.btf_fd = 3, attr.btf_key_type_id = 1, attr.btf_value_type_id = made.btf_value_type_id;
    const long fd = s.bpf(BPF_MAP_CREATE, attr);
    INFO(s.why());
    CHECK((fd < 0 ? fd : 0) == expected);
  }
}

TEST_CASE(
    "A value with a lock: BPF_F_LOCK is for it, its own bytes are nobody's, it is neither frozen nor "
    "mapped") {
  FieldSim s;
  const long fd = s.create(BPF_MAP_TYPE_ARRAY, "bpf_spin_lock", BPF_F_MMAPABLE);
  const long plain = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 32, 4);
  REQUIRE(fd >= 0);
  uint32_t key = 1;
  uint8_t value[32];
  std::memset(value, 0xee, sizeof value);
  CHECK(s.map_update(fd, &key, value, BPF_F_LOCK) == 0);
  CHECK(s.map_update(plain, &key, value, BPF_F_LOCK) == -22);
  CHECK(s.elem(BPF_MAP_LOOKUP_ELEM, fd, &key, value, BPF_F_LOCK) == 0);
  for (int at = 0; at < 32; ++at) CHECK(value[at] == (at >= 8 && at < 12 ? 0 : 0xee));
  CHECK(s.map_freeze(fd) == -524);
  CHECK(s.k.mmap(s.t, int(fd), 4096, 1, 1, 0).err() == Errno::NotSupp);
}

TEST_CASE("Before 6.2 an inner map has no lock in its values") {
  for (auto [text, expected] : {std::pair{"6.1", -524L}, {"6.18", 0L}}) {
    FieldSim s(version(text));
    bpf_attr attr;
    attr.map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS, attr.key_size = 4, attr.value_size = 4, attr.max_entries = 1;
    attr.inner_map_fd = uint32_t(s.create(BPF_MAP_TYPE_HASH, "bpf_spin_lock"));
    const long fd = s.bpf(BPF_MAP_CREATE, attr);
    CHECK((fd < 0 ? fd : 0) == expected);
  }
}

TEST_CASE("Before 6.2 a map whose values have only a lock can be frozen") {
  FieldSim s(version("6.1"));
  CHECK(s.map_freeze(s.create(BPF_MAP_TYPE_ARRAY, "bpf_spin_lock")) == 0);
  CHECK(s.map_freeze(s.create(BPF_MAP_TYPE_ARRAY, "bpf_timer")) == -524);
}

TEST_CASE("Under BPF_F_LOCK a hash writes over the element that is there") {
  FieldSim s;
  const long fd = s.create(BPF_MAP_TYPE_HASH, "bpf_spin_lock", BPF_F_NO_PREALLOC);
  REQUIRE(fd >= 0);
  Map& map = s.map(fd);
  uint32_t key = 1;
  uint8_t value[32] = {1};
  REQUIRE(s.map_update(fd, &key, value) == 0);
  const void* first = *map.ops->map_lookup_elem(map, &key);
  REQUIRE(s.map_update(fd, &key, value, BPF_F_LOCK) == 0);
  CHECK(*map.ops->map_lookup_elem(map, &key) == first);
  REQUIRE(s.map_update(fd, &key, value) == 0);
  CHECK(*map.ops->map_lookup_elem(map, &key) != first);
  CHECK(s.map_update(fd, &key, value, BPF_F_LOCK | BPF_NOEXIST) == -17);
}
