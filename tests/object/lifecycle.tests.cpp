// Who keeps an object alive, and when it goes: descriptors, forks, exits, RCU.
#include "sim.h"

using namespace bpfsim;
using Labels = std::vector<std::string>;

TEST_CASE("a map lives as long as a descriptor holds it, and its memory goes after a grace period") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 8, 4, 0, "counts");
  REQUIRE(fd == 3);
  Map& map = s.map(fd);
  CHECK(map.id == 1);
  CHECK(map.refcnt.value() == 1);
  CHECK(map.usercnt.value() == 1);
  CHECK(map_from_handle(s.machine(), map.handle) == &map);
  const Addr handle = map.handle;

  s.machine().rcu.hold();
  CHECK(s.close(fd) == 0);
  CHECK(s.alive() == Labels{"map 1 (counts), id gone"});  // the id is gone, the memory waits
  CHECK(s.machine().rcu.waiting().size() == 1);
  CHECK(s.machine().registry->map_idr.size() == 0);
  s.machine().rcu.release();
  s.machine().rcu.grace_period();
  CHECK(s.alive().empty());
  CHECK(map_from_handle(s.machine(), handle) == nullptr);
  CHECK(s.machine().arena.live_objects() == 0);
}

TEST_CASE("an id is not used again soon") {
  Sim s;
  for (uint32_t id = 1; id <= 3; ++id) {
    const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 4, 4);
    CHECK(s.map(fd).id == id);
    CHECK(s.close(fd) == 0);
  }
}

TEST_CASE("dup and fork share the file; the last close of all releases it") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  Map& map = s.map(fd);
  File& file = *s.t.files.get(int(fd));
  CHECK(*s.k.dup(s.t, int(fd)) == 4);
  CHECK(file.f_count.value() == 2);
  Task& child = s.k.fork(s.t);
  CHECK(child.pid == 471);
  CHECK(child.files.get(3) == &file);
  CHECK(child.files.get(4) == &file);
  CHECK(file.f_count.value() == 4);
  CHECK(map.refcnt.value() == 1);  // one file, whoever shares it
  CHECK(object_graph(s.machine()).disagreements().empty());

  s.k.exit(s.t);
  CHECK(file.f_count.value() == 2);
  CHECK(s.k.close(child, 3).ok());
  CHECK(s.alive().size() == 2);
  CHECK(s.k.close(child, 4).ok());
  CHECK(s.alive().empty());
  CHECK(s.k.close(child, 4).err() == Errno::BadF);
}

TEST_CASE("a task that exits closes everything, and can do no more") {
  Sim s;
  for (int i = 0; i < 10; ++i) CHECK(s.map_create(BPF_MAP_TYPE_HASH, 8, 8, 8) == 3 + i);
  s.k.exit(s.t);
  CHECK(s.alive().empty());
  CHECK(s.machine().objects.count(s.t.serial) == 0);
  CHECK(s.map_create(BPF_MAP_TYPE_HASH, 8, 8, 8) == minus(Errno::Srch));
}

TEST_CASE("descriptors are the lowest free ones, up to the limit") {
  Sim s;
  s.check_graph = false;
  for (int fd = 3; fd < FdTable::kLimit; ++fd) REQUIRE(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1) == fd);
  CHECK(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1) == minus(Errno::MFile));
  CHECK(s.alive().size() == 2 * (FdTable::kLimit - 3));  // the map that found no descriptor is gone again
  CHECK(s.k.dup(s.t, 3).err() == Errno::MFile);
  CHECK(s.close(500) == 0);
  CHECK(s.close(7) == 0);
  s.check_graph = true;
  CHECK(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1) == 7);
  CHECK(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1) == 500);
}

TEST_CASE("the ledger tells every reference with its cause") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  Task& child = s.k.fork(s.t);
  File& file = *s.t.files.get(int(fd));
  CHECK(s.close(fd) == 0);
  std::vector<std::string> story;
  for (const LedgerEntry& entry : file.ledger)
    story.push_back((entry.delta > 0 ? "+1 " : "-1 ") + entry.cause.str());
  CHECK(story == std::vector<std::string>{"+1 fd 3 of task 470", "+1 fork: fd 3 of task 471",
                                          "-1 close fd 3 of task 470"});
  s.k.exit(child);
}

TEST_CASE("fdinfo says what the file holds") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 8, 16, BPF_F_RDONLY);
  CHECK_THAT(
      *fdinfo(s.t, int(fd)),
      Catch::Matchers::StartsWith(
          "pos:\t0\nflags:\t02000000\nmnt_id:\t17\nino:\t17\nmap_type:\t1\nkey_size:\t4\nvalue_size:\t8\n"
          "max_entries:\t16\nmap_flags:\t0x0\n"));
  CHECK(fdinfo(s.t, 99).err() == Errno::NoEnt);
}
