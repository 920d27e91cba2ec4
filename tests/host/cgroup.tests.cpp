// The cgroup hierarchy: directories, descriptors, tasks, and who holds a removed group.
#include "host/cgroup.h"

#include "sim.h"
#include "syscall/inode.h"

using namespace bpfsim;

static std::vector<std::string> wrong_counts(Sim& s) { return object_graph(s.machine()).disagreements(); }

TEST_CASE("cgroups are made and removed as directories of /sys/fs/cgroup") {
  Sim s;
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a"));
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a/b"));
  CHECK(s.k.mkdir(s.t, "/sys/fs/cgroup/a").err() == Errno::Exist);
  CHECK(s.k.mkdir(s.t, "/sys/fs/cgroup/none/b").err() == Errno::NoEnt);
  CHECK(s.k.mkdir(s.t, "/sys/fs/cgroup/c\nd").err() == Errno::Inval);
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup/a").err() == Errno::Busy);
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup").err() == Errno::Busy);
  CHECK(s.k.unlink(s.t, "/sys/fs/cgroup/a").err() == Errno::IsDir);
  CHECK((*s.k.listdir(s.t, "/sys/fs/cgroup/a") == std::vector<std::string>{"b"}));
  CHECK(s.k.stat(s.t, "/sys/fs/cgroup/a/../a/b")->ino == 3);
  CHECK(wrong_counts(s).empty());
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup/a/b"));
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(s.k.stat(s.t, "/sys/fs/cgroup/a").err() == Errno::NoEnt);
}

TEST_CASE("only root may change the hierarchy") {
  Sim s;
  Task& user = s.k.spawn("user", {1000, 0});
  CHECK(s.k.mkdir(user, "/sys/fs/cgroup/a").err() == Errno::Access);
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(s.k.rmdir(user, "/sys/fs/cgroup/a").err() == Errno::Access);
  CHECK(s.k.open(user, "/sys/fs/cgroup/a"));
}

TEST_CASE("a descriptor keeps a removed cgroup, and nothing finds it any more") {
  Sim s;
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a"));
  const int fd = int(*s.k.open(s.t, "/sys/fs/cgroup/a"));
  auto& group = static_cast<Cgroup&>(*s.object(fd));
  CHECK(group.refcnt.value() == 2);
  REQUIRE(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
  CHECK(group.refcnt.value() == 1);
  CHECK(group.label() == "cgroup /sys/fs/cgroup/a (removed)");
  CHECK(wrong_counts(s).empty());
  CHECK(object_graph(s.machine()).leaks().empty());
  const size_t before = s.machine().objects.size();
  CHECK(s.close(fd) == 0);
  CHECK(s.machine().objects.size() == before - 2);  // the file and the group
}

TEST_CASE("nothing need hold the root of the hierarchy: it is there again and again") {
  Sim s;
  for (int i = 0; i < 3; i++) {
    const int fd = int(*s.k.open(s.t, "/sys/fs/cgroup"));
    CHECK(s.object(fd) == &cgroup_root(s.machine()));
    CHECK(s.close(fd) == 0);
  }
  CHECK(wrong_counts(s).empty());
}

TEST_CASE("a task stands in one cgroup, its children start there, and its exit leaves it") {
  Sim s;
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a"));
  REQUIRE(s.k.move_to_cgroup(s.t, "/sys/fs/cgroup/a", s.t));
  Task& child = s.k.fork(s.t);
  CHECK(task_cgroup(child).path() == "/sys/fs/cgroup/a");
  CHECK(wrong_counts(s).empty());
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup/a").err() == Errno::Busy);
  s.k.exit(child);
  REQUIRE(s.k.move_to_cgroup(s.t, "/sys/fs/cgroup", s.t));
  CHECK(task_cgroup(s.t).is_root());
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup/a"));
}
