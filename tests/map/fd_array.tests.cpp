#include "kernel.h"
#include "map/map_types.h"
#include "map/view.h"
#include "object/file.h"
#include "object/graph.h"
#include "object/prog.h"
#include "object/registry.h"
#include "object/tail_call.h"
#include "sim.h"

using namespace bpfsim;

namespace {

// A loaded program, without the way through the verifier: what a prog array looks at.
int prog_fd(Sim& sim, bpf_prog_type type, const char* name, Map* used = nullptr) {
  Prog* prog = new Prog(sim.machine());
  prog->type = type;
  prog->aux->name = name;
  bpf_prog_inc(*prog, {"born"});
  prog->id = sim.machine().registry->prog_idr.alloc(prog);
  if (used) {
    bpf_map_inc(*used, {"used by a program"});
    prog->aux->used_maps.push_back(used);
  }
  File* file = new File(sim.machine(), bpf_prog_fops, prog, O_RDWR_);
  file->f_count.inc({"fd"});
  Result<int> fd = sim.t.files.install(file);
  REQUIRE(fd);
  return *fd;
}

long put_fd(Sim& sim, long map, uint32_t key, long fd, uint64_t flags = BPF_ANY) {
  uint32_t value = uint32_t(fd);
  return sim.map_update(map, &key, &value, flags);
}

// The id in a slot, or -errno.
long id_at(Sim& sim, long map, uint32_t key) {
  uint32_t id = 0;
  long ret = sim.map_lookup(map, &key, &id);
  return ret ? ret : long(id);
}

}  // namespace

TEST_CASE("A prog array takes descriptors of programs and gives their ids, as on a live 6.18") {
  Sim sim;
  long array = sim.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2);
  REQUIRE(array >= 0);
  long other = sim.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 2);
  int xdp = prog_fd(sim, BPF_PROG_TYPE_XDP, "a"), socket = prog_fd(sim, BPF_PROG_TYPE_SOCKET_FILTER, "b");
  struct {
    uint32_t key;
    long fd;
    uint64_t flags;
    Errno want;
  } cases[] = {
      {0, xdp, BPF_NOEXIST, Errno::Inval}, {0, xdp, BPF_EXIST, Errno::Inval},
      {2, xdp, BPF_ANY, Errno::TooBig},    {0, 999, BPF_ANY, Errno::BadF},
      {0, other, BPF_ANY, Errno::Inval},   {0, xdp, BPF_ANY, Errno::None},
      {0, socket, BPF_ANY, Errno::Inval},  {1, xdp, BPF_ANY, Errno::None},
  };
  for (auto& c : cases) {
    INFO("key " << c.key << " fd " << c.fd << " flags " << c.flags);
    CHECK(put_fd(sim, array, c.key, c.fd, c.flags) == minus(c.want));
  }
  CHECK(id_at(sim, array, 0) == long(sim.prog(xdp).id));
  CHECK(id_at(sim, array, 5) == minus(Errno::NoEnt));
  CHECK(map_ops(BPF_MAP_TYPE_PROG_ARRAY)->prog_array_elem(sim.map(array), 0) == &sim.prog(xdp));
  CHECK(map_ops(BPF_MAP_TYPE_PROG_ARRAY)->prog_array_elem(sim.map(array), 2) == nullptr);
  uint32_t key = 0, beyond = 5;
  CHECK(sim.map_delete(array, &key) == 0);
  CHECK(sim.map_delete(array, &key) == minus(Errno::NoEnt));
  CHECK(sim.map_delete(array, &beyond) == minus(Errno::TooBig));
  CHECK(id_at(sim, array, 0) == minus(Errno::NoEnt));
  CHECK(put_fd(sim, array, 0, socket) == minus(Errno::Inval));  // the owner's kind is remembered
}

TEST_CASE("A program in a prog array lives after its descriptor is closed, until the array's last one is") {
  Sim sim;
  long array = sim.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2);
  int prog = prog_fd(sim, BPF_PROG_TYPE_XDP, "self", &sim.map(array));  // and it uses the array itself
  REQUIRE(put_fd(sim, array, 1, prog) == 0);
  Prog& self = sim.prog(prog);
  CHECK(object_graph(sim.machine()).cycles().size() == 1);
  REQUIRE(sim.close(prog) == 0);
  CHECK(self.aux->refcnt.value() == 1);
  REQUIRE(sim.close(array) == 0);  // map_release_uref empties the slots, or neither would ever go
  CHECK(sim.alive().empty());
}

TEST_CASE("Which programs may meet in a prog array") {
  Sim sim;
  long array = sim.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2);
  Map& map = sim.map(array);
  Prog& owner = sim.prog(prog_fd(sim, BPF_PROG_TYPE_XDP, "owner", &map));
  Prog& user = sim.prog(prog_fd(sim, BPF_PROG_TYPE_XDP, "user", &map));
  CHECK(bpf_check_tail_call(owner));
  CHECK(map.owner.set);
  CHECK(bpf_check_tail_call(user));
  user.jited = true;
  CHECK(bpf_check_tail_call(user).err() == Errno::Inval);
  CHECK(!bpf_prog_map_compatible(map, user));
  user.jited = false;
  user.expected_attach_type = BPF_XDP_CPUMAP;
  CHECK(!bpf_prog_map_compatible(map, user));
  user.expected_attach_type = owner.expected_attach_type;
  user.aux->xdp_has_frags = true;
  CHECK(!bpf_prog_map_compatible(map, user));
  user.aux->xdp_has_frags = false;
  user.aux->dev_bound = true;
  CHECK(!bpf_prog_map_compatible(map, user));
  user.aux->dev_bound = false;
  CHECK(bpf_prog_map_compatible(map, user));
}

TEST_CASE("Programs in a prog array share the storages of a cgroup, or have none and lead nowhere") {
  Sim sim;
  Map* storage[3] = {};
  for (Map*& one : storage) one = &sim.map(sim.map_create(BPF_MAP_TYPE_CGROUP_STORAGE, 16, 8, 0));
  struct {
    Map *owner, *user;
    bool tail_calls, fits;
  } cases[] = {
      {storage[0], storage[0], false, true},  {storage[0], storage[0], true, true},
      {storage[0], storage[1], false, false}, {storage[0], nullptr, false, true},
      {storage[0], nullptr, true, false},     {nullptr, storage[0], false, false},
      {nullptr, nullptr, true, true},
  };
  for (auto& c : cases) {
    for (int percpu : {0, 1}) {
      Map& map = sim.map(sim.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2));
      Prog& owner = sim.prog(prog_fd(sim, BPF_PROG_TYPE_CGROUP_SKB, "owner", &map));
      Prog& user = sim.prog(prog_fd(sim, BPF_PROG_TYPE_CGROUP_SKB, "user", &map));
      owner.aux->cgroup_storage[percpu] = c.owner;
      user.aux->cgroup_storage[percpu] = c.user;
      user.aux->tail_call_reachable = c.tail_calls;
      REQUIRE(bpf_check_tail_call(owner));
      INFO("case " << &c - cases << " percpu " << percpu);
      CHECK(bool(bpf_check_tail_call(user)) == c.fits);
      CHECK(bpf_prog_map_compatible(map, user) == c.fits);
    }
  }
}

TEST_CASE("Programs for functions of another prototype do not meet in a prog array") {
  for (bpf_prog_type type : {BPF_PROG_TYPE_TRACING, BPF_PROG_TYPE_LSM, BPF_PROG_TYPE_EXT,
                             BPF_PROG_TYPE_STRUCT_OPS, BPF_PROG_TYPE_XDP}) {
    Sim sim;
    Map& map = sim.map(sim.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2));
    Prog& owner = sim.prog(prog_fd(sim, type, "owner", &map));
    Prog& user = sim.prog(prog_fd(sim, type, "user", &map));
    for (Prog* prog : {&owner, &user}) {
      prog->aux->attach_func_btf = 5;
      prog->aux->attach_func_proto = 7;
    }
    REQUIRE(bpf_check_tail_call(owner));
    CHECK(bpf_check_tail_call(user));
    user.aux->attach_func_proto = 8;
    INFO("type " << int(type));
    CHECK(bool(bpf_check_tail_call(user)) == (type == BPF_PROG_TYPE_XDP));
    user.aux->attach_func_proto = 7;
    user.aux->attach_func_btf = 6;
    CHECK(bool(bpf_check_tail_call(user)) == (type == BPF_PROG_TYPE_XDP));
  }
}

TEST_CASE("A map of maps keeps its inner maps alive and gives programs their handles") {
  for (bpf_map_type type : {BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS}) {
    Sim sim;
    long inner = sim.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 2),
         second = sim.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 2);
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = attr.value_size = 4;
    attr.max_entries = 2;
    attr.inner_map_fd = uint32_t(inner);
    long outer = sim.bpf(BPF_MAP_CREATE, attr);
    REQUIRE(outer >= 0);
    REQUIRE(put_fd(sim, outer, 0, inner) == 0);
    Map& map = sim.map(inner);
    uint32_t key = 0, none = 1;
    const MapOps& ops = *sim.map(outer).ops;
    Result<void*> found = ops.map_lookup_elem(sim.map(outer), &key);
    REQUIRE(found);
    CHECK(map_from_handle(sim.machine(), sim.machine().arena.addr(*found)) == &map);
    CHECK(*ops.map_lookup_elem(sim.map(outer), &none) == nullptr);
    REQUIRE(sim.close(inner) == 0);
    CHECK(map.refcnt.value() == 1);
    CHECK(map.usercnt.value() == 0);
    REQUIRE(put_fd(sim, outer, 0, second) == 0);  // replaced: the first one goes
    CHECK(id_at(sim, outer, 0) == long(sim.map(second).id));
    CHECK(sim.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 2) == inner);
    CHECK(object_graph(sim.machine()).leaks().empty());
    for (long fd : {inner, second, outer}) CHECK(sim.close(fd) == 0);
    CHECK(sim.alive().empty());
    CHECK(sim.machine().arena.live_bytes() == 0);
  }
}

TEST_CASE("The view of a prog array shows what its slots hold") {
  Sim sim;
  long array = sim.map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1000);
  int prog = prog_fd(sim, BPF_PROG_TYPE_XDP, "a");
  REQUIRE(put_fd(sim, array, 700, prog) == 0);
  FdArrayView view = std::get<FdArrayView>(view_map(sim.map(array)));
  REQUIRE(view.slots.size() == 1);
  CHECK(view.slots[0].object == sim.object(prog));
  CHECK(view.slots[0].key == RawBytes{0xbc, 2, 0, 0});
}
