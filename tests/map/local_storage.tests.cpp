// The older cgroup storage, driven as an attachment drives it.
#include "map/local_storage.h"

#include "sim.h"

using namespace bpfsim;

namespace {

struct Owner final : Object {  // stands for a cgroup
  Owner(Machine& machine, uint32_t number) : Object(machine, ObjectKind::Cgroup) { id = number; }
  std::string label() const override { return "cgroup"; }
};

BpfCgroupStorage& attached(Map& map, Object& cgroup, bpf_attach_type type) {
  BpfCgroupStorage* storage = *bpf_cgroup_storage_alloc(map);
  bpf_cgroup_storage_link(*storage, cgroup, type);
  return *storage;
}

}  // namespace

TEST_CASE("user space reads and writes a cgroup's value, and can neither make nor delete one") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_CGROUP_STORAGE, 16, 4, 0);
  REQUIRE(fd >= 0);
  bpf_cgroup_storage_key key{5, BPF_CGROUP_INET_INGRESS}, next{};
  uint32_t value = 7;
  CHECK(s.map_update(fd, &key, &value) == minus(Errno::NoEnt));
  CHECK(s.map_lookup(fd, &key, &value) == minus(Errno::NoEnt));
  CHECK(s.map_get_next_key(fd, nullptr, &next) == minus(Errno::NoEnt));

  Owner five(s.machine(), 5), six(s.machine(), 6);
  BpfCgroupStorage& first = attached(s.map(fd), five, BPF_CGROUP_INET_INGRESS);
  attached(s.map(fd), five, BPF_CGROUP_INET_EGRESS);
  attached(s.map(fd), six, BPF_CGROUP_INET_EGRESS);
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
  CHECK(order == std::vector<uint64_t>{61, 51, 50});
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
  Owner five(s.machine(), 5);
  BpfCgroupStorage& storage = attached(s.map(fd), five, BPF_CGROUP_INET_EGRESS);
  CHECK(cgroup_storage_lookup(s.map(fd), {5, BPF_CGROUP_INET_INGRESS}) == &storage);
  const uint64_t key = 5;
  uint64_t values[2] = {0x100000001, 2}, read[2] = {};  // one for each CPU, rounded up to 8 bytes
  CHECK(s.map_update(fd, &key, values, BPF_NOEXIST) == minus(Errno::Inval));
  CHECK(s.map_update(fd, &key, values) == 0);
  CHECK(s.map_lookup(fd, &key, read) == 0);
  CHECK(read[0] == values[0]);
  CHECK(read[1] == values[1]);
  CHECK(s.close(fd) == 0);
}
