// The older cgroup storage, driven as an attachment drives it.
#include "map/local_storage.h"

#include "sim.h"

using namespace bpfsim;

namespace {

BpfCgroupStorage& attached(Map& map, Cgroup& cgroup, bpf_attach_type type) {
  BpfCgroupStorage* storage = *bpf_cgroup_storage_alloc(map);
  bpf_cgroup_storage_link(*storage, cgroup, type);
  return *storage;
}

}  // namespace

TEST_CASE("user space reads and writes a cgroup's value, and can neither make nor delete one") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_CGROUP_STORAGE, 16, 4, 0);
  REQUIRE(fd >= 0);
  bpf_cgroup_storage_key key{2, BPF_CGROUP_INET_INGRESS}, next{};
  uint32_t value = 7;
  CHECK(s.map_update(fd, &key, &value) == minus(Errno::NoEnt));
  CHECK(s.map_lookup(fd, &key, &value) == minus(Errno::NoEnt));
  CHECK(s.map_get_next_key(fd, nullptr, &next) == minus(Errno::NoEnt));

  Cgroup &two = **cgroup_mkdir(cgroup_root(s.machine()), "two"),
         &three = **cgroup_mkdir(cgroup_root(s.machine()), "three");
  BpfCgroupStorage& first = attached(s.map(fd), two, BPF_CGROUP_INET_INGRESS);
  attached(s.map(fd), two, BPF_CGROUP_INET_EGRESS);
  attached(s.map(fd), three, BPF_CGROUP_INET_EGRESS);
  CHECK(s.map_update(fd, &key, &value, BPF_NOEXIST) == minus(Errno::Inval));
  CHECK(s.map_update(fd, &key, &value, BPF_F_LOCK) == minus(Errno::Inval));
  CHECK(s.map_update(fd, &key, &value, BPF_EXIST) == 0);
  value = 0;
  CHECK(s.map_lookup(fd, &key, &value) == 0);
  CHECK(value == 7);
  CHECK(s.map_delete(fd, &key) == minus(Errno::Inval));
  key.attach_type = BPF_CGROUP_INET_EGRESS;  // a value of its own
  CHECK(s.map_lookup(fd, &key, &value) == 0);
  CHECK(value == 0);

  std::vector<uint64_t> order;  // the newest first
  for (const void* at = nullptr; s.map_get_next_key(fd, at, &next) == 0; at = &next)
    order.push_back(next.cgroup_inode_id * 10 + next.attach_type);
  CHECK(order == std::vector<uint64_t>{31, 21, 20});
  bpf_cgroup_storage_free(first);
  key.attach_type = BPF_CGROUP_INET_INGRESS;
  CHECK(s.map_lookup(fd, &key, &value) == minus(Errno::NoEnt));
  CHECK(s.close(fd) == 0);
  CHECK(s.machine().arena.live_objects() == 0);
}

TEST_CASE("with a key of eight bytes a cgroup has one value for all attach types") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 8, 4, 0);
  REQUIRE(fd >= 0);
  Cgroup& two = **cgroup_mkdir(cgroup_root(s.machine()), "two");
  BpfCgroupStorage& storage = attached(s.map(fd), two, BPF_CGROUP_INET_EGRESS);
  CHECK(cgroup_storage_lookup(s.map(fd), {2, BPF_CGROUP_INET_INGRESS}) == &storage);
  const uint64_t key = 2;
  uint64_t values[2] = {0x100000001, 2}, read[2] = {};  // one for each CPU, rounded up to 8 bytes
  CHECK(s.map_update(fd, &key, values, BPF_NOEXIST) == minus(Errno::Inval));
  CHECK(s.map_update(fd, &key, values) == 0);
  CHECK(s.map_lookup(fd, &key, read) == 0);
  CHECK(read[0] == values[0]);
  CHECK(read[1] == values[1]);
  cgroup_destroy(two);  // its values go with it
  CHECK(s.map_lookup(fd, &key, read) == minus(Errno::NoEnt));
  CHECK(s.close(fd) == 0);
}

TEST_CASE("a program uses at most one cgroup storage of each kind") {
  Sim s;
  auto storage = [&](bpf_map_type type) { return int32_t(s.map_create(type, 8, 4, 0)); };
  const int32_t shared = storage(BPF_MAP_TYPE_CGROUP_STORAGE), other = storage(BPF_MAP_TYPE_CGROUP_STORAGE),
                percpu = storage(BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
  for (auto [first, second, err] : {std::tuple{shared, shared, Errno::None},
                                    {shared, percpu, Errno::None},
                                    {shared, other, Errno::Busy}}) {
    const long prog = s.prog_load(BPF_PROG_TYPE_CGROUP_SKB, {{0x18, 1, BPF_PSEUDO_MAP_FD, 0, first},
                                                             {},
                                                             {0x18, 1, BPF_PSEUDO_MAP_FD, 0, second},
                                                             {},
                                                             {0xb7, 0, 0, 0, 1},
                                                             {0x95, 0, 0, 0, 0}});
    INFO(s.why());
    CHECK((prog < 0 ? prog : 0) == minus(err));
  }
}
