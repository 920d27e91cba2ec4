// BPFFS: pins, directories, paths and permissions.
#include "sim.h"
#include "syscall/inode.h"

using namespace bpfsim;

namespace {

struct PinSim : Sim {
  using Sim::Sim;
  long pin(Task& task, long fd, const char* path, uint32_t flags = 0) {
    bpf_attr attr;
    attr.pathname = user_ptr(path);
    attr.bpf_fd = uint32_t(fd);
    attr.file_flags = flags;
    return bpf(task, BPF_OBJ_PIN, attr);
  }
  long pin(long fd, const char* path) { return pin(t, fd, path); }
  long get(Task& task, const char* path, uint32_t flags = 0) {
    bpf_attr attr;
    attr.pathname = user_ptr(path);
    attr.file_flags = flags;
    return bpf(task, BPF_OBJ_GET, attr);
  }
  long get(const char* path, uint32_t flags = 0) { return get(t, path, flags); }
};

}  // namespace

TEST_CASE("a pin keeps a map alive without any task, until it is unlinked") {
  PinSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0, "m");
  Map& map = s.map(fd);
  CHECK(s.pin(fd, "/sys/fs/bpf/m") == 0);
  CHECK(map.refcnt.value() == 2);
  CHECK(map.usercnt.value() == 2);
  s.k.exit(s.t);
  CHECK(map.refcnt.value() == 1);
  const auto path = object_graph(s.machine()).why_alive(map);
  REQUIRE(path.size() == 1);
  CHECK(path[0].via == "pin /sys/fs/bpf/m");

  Task& next = s.k.spawn("next");
  CHECK(s.get(next, "/sys/fs/bpf/m") == 3);
  CHECK(map.refcnt.value() == 2);
  CHECK(s.k.unlink(next, "/sys/fs/bpf/m").ok());
  CHECK(map.refcnt.value() == 1);
  CHECK(s.get(next, "/sys/fs/bpf/m") == minus(Errno::NoEnt));
  CHECK(s.k.close(next, 3).ok());
  CHECK(s.alive().empty());
}

TEST_CASE("a machine that halts drops its pins") {
  PinSim s;
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/a").ok());
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/a/b").ok());
  CHECK(s.pin(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1), "/sys/fs/bpf/a/b/m") == 0);
}

TEST_CASE("what OBJ_PIN refuses") {
  PinSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  CHECK(s.pin(fd, "/sys/fs/bpf/m") == 0);
  const std::string long_name = "/sys/fs/bpf/" + std::string(256, 'a');
  const std::string long_path = "/" + std::string(5000, '/');
  struct {
    long fd;
    const char* path;
    Errno expected;
  } const cases[] = {
      {fd, "/sys/fs/bpf/m", Errno::Exist},
      {fd, "/sys/fs/bpf", Errno::Exist},
      {fd, "/sys/fs/bpf/", Errno::Exist},
      {fd, "/", Errno::Exist},
      {fd, "/sys/fs/bpf/.", Errno::Exist},
      {fd, "/sys/fs/bpf/..", Errno::Exist},
      {fd, "", Errno::NoEnt},
      {fd, "/sys/fs/bpf/none/m", Errno::NoEnt},
      {fd, "/sys/fs/bpf/n/", Errno::NoEnt},
      {fd, "/sys/fs/bpf/m/n", Errno::NotDir},
      {fd, "/sys/fs/bpf/a.b", Errno::Perm},
      {fd, "/sys/fs/bpf/a.b/c", Errno::Perm},
      {fd, "/tmp/m", Errno::Perm},
      {fd, "/none/m", Errno::NoEnt},
      {fd, "m", Errno::Perm},
      {fd, long_name.c_str(), Errno::NameTooLong},
      {fd, long_path.c_str(), Errno::NameTooLong},
      {99, "/sys/fs/bpf/n", Errno::Inval},
      {-1, "/sys/fs/bpf/n", Errno::Inval},
  };
  for (const auto& c : cases) {
    INFO(c.fd << " " << c.path);
    CHECK(s.pin(c.fd, c.path) == minus(c.expected));
  }
  CHECK(s.map(fd).refcnt.value() == 2);
  CHECK(s.pin(s.t, fd, "/sys/fs/bpf/n", 1) == minus(Errno::Inval));
  CHECK(s.pin(fd, "/sys/../sys//fs/./bpf/n") == 0);
  CHECK(*s.k.listdir(s.t, "/sys/fs/bpf") == std::vector<std::string>{"m", "n"});
  CHECK(*s.k.listdir(s.t, "/") == std::vector<std::string>{"bin", "sys", "tmp"});
  CHECK(*s.k.listdir(s.t, "/bin") == std::vector<std::string>{"bash"});
  CHECK(s.k.listdir(s.t, "/bin/bash").err() == Errno::NotDir);
  CHECK(s.pin(fd, "/bin/bash/x") == minus(Errno::NotDir));
  CHECK(s.get("/bin/bash") == minus(Errno::Access));
}

TEST_CASE("OBJ_GET opens for reading or writing, as asked") {
  PinSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  CHECK(s.pin(fd, "/sys/fs/bpf/m") == 0);
  const long reader = s.get("/sys/fs/bpf/m", BPF_F_RDONLY), writer = s.get("/sys/fs/bpf/m", BPF_F_WRONLY);
  uint32_t key = 0, value = 1;
  CHECK(s.map_lookup(reader, &key, &value) == 0);
  CHECK(s.map_update(reader, &key, &value) == minus(Errno::Perm));
  CHECK(s.map_lookup(writer, &key, &value) == minus(Errno::Perm));
  CHECK(s.map_update(writer, &key, &value) == 0);
  CHECK(s.get("/sys/fs/bpf/m", BPF_F_RDONLY | BPF_F_WRONLY) == minus(Errno::Inval));
  CHECK(s.get("/sys/fs/bpf/m", BPF_F_MMAPABLE) == minus(Errno::Inval));
  CHECK(s.get("/sys/fs/bpf") == minus(Errno::Access));
  CHECK(s.get("/tmp") == minus(Errno::Access));
  CHECK(s.get("/sys/fs/bpf/m/") == minus(Errno::NotDir));
  CHECK(s.get(nullptr) == minus(Errno::Fault));
}

TEST_CASE("a pin is its owner's: another user needs the mode's leave") {
  PinSim s;
  Task& user = s.k.spawn("user", {1000, 1ull << CAP_BPF});
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  CHECK(s.pin(fd, "/sys/fs/bpf/m") == 0);
  CHECK(s.k.stat(s.t, "/sys/fs/bpf/m")->mode == (kModeFile | 0600));
  CHECK(s.get(user, "/sys/fs/bpf/m") == minus(Errno::Access));
  CHECK(s.k.chmod(user, "/sys/fs/bpf/m", 0666).err() == Errno::Perm);
  CHECK(s.k.chmod(s.t, "/sys/fs/bpf/m", 0644).ok());
  CHECK(s.get(user, "/sys/fs/bpf/m") == minus(Errno::Access));
  CHECK(s.get(user, "/sys/fs/bpf/m", BPF_F_RDONLY) == 3);
  CHECK(s.k.unlink(user, "/sys/fs/bpf/m").err() == Errno::Perm);  // sticky
  CHECK(s.pin(user, 3, "/sys/fs/bpf/mine") == 0);                 // everybody may write here
  CHECK(s.k.unlink(user, "/sys/fs/bpf/mine").ok());

  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/rooted", 0755).ok());
  CHECK(s.pin(user, 3, "/sys/fs/bpf/rooted/m") == minus(Errno::Access));
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/closed", 0700).ok());
  CHECK(s.get(user, "/sys/fs/bpf/closed/m") == minus(Errno::Access));
  CHECK(s.k.listdir(user, "/sys/fs/bpf/closed").err() == Errno::Access);
  CHECK(s.k.listdir(s.t, "/sys/fs/bpf/closed").ok());
}

TEST_CASE("directories come and go, names move") {
  PinSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d/").ok());
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d").err() == Errno::Exist);
  CHECK(s.k.mkdir(s.t, "/tmp/d").err() == Errno::Perm);
  CHECK(s.k.stat(s.t, "/sys/fs/bpf")->nlink == 3);
  CHECK(s.pin(fd, "/sys/fs/bpf/d/m") == 0);
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf/d").err() == Errno::NotEmpty);
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf/d/m").err() == Errno::NotDir);
  CHECK(s.k.unlink(s.t, "/sys/fs/bpf/d").err() == Errno::IsDir);
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf").err() == Errno::Busy);
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf/d/.").err() == Errno::Inval);

  CHECK(s.k.rename(s.t, "/sys/fs/bpf/d/m/", "/sys/fs/bpf/d").err() == Errno::NotDir);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/d/m", "/sys/fs/bpf/d").err() == Errno::NotEmpty);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/d/m", "/sys/fs/bpf/moved").ok());
  CHECK(s.k.stat(s.t, "/sys/fs/bpf/moved")->object == &s.map(fd));
  CHECK(s.k.stat(s.t, "/sys/fs/bpf/d/m").err() == Errno::NoEnt);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/d", "/sys/fs/bpf/d/e").err() == Errno::Inval);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/d", "/sys/fs/bpf/moved").err() == Errno::NotDir);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/moved", "/sys/fs/bpf/d").err() == Errno::IsDir);

  // Over another pin: that one's reference goes.
  const long other = s.map_create(BPF_MAP_TYPE_HASH, 4, 4, 1);
  CHECK(s.pin(other, "/sys/fs/bpf/other") == 0);
  CHECK(s.map(other).refcnt.value() == 2);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/moved", "/sys/fs/bpf/other").ok());
  CHECK(s.map(other).refcnt.value() == 1);
  CHECK(object_graph(s.machine()).disagreements().empty());
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf/d").ok());
  CHECK(*s.k.listdir(s.t, "/sys/fs/bpf") == std::vector<std::string>{"other"});
}

TEST_CASE("a relative path begins at the directory of path_fd") {
  PinSim s;
  auto obj = [&](int cmd, long fd, const char* path, long path_fd, uint32_t flags = BPF_F_PATH_FD) {
    bpf_attr attr;
    attr.pathname = user_ptr(path);
    attr.bpf_fd = uint32_t(fd);
    attr.file_flags = flags;
    attr.path_fd = int(path_fd);
    return s.bpf(cmd, attr);
  };
  const long map = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d").ok());
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d/e").ok());
  const long dir = *s.k.open(s.t, "/sys/fs/bpf/d", O_DIRECTORY_);
  CHECK(obj(BPF_OBJ_PIN, map, "m", dir) == 0);
  CHECK(*s.k.listdir(s.t, "/sys/fs/bpf/d") == std::vector<std::string>{"e", "m"});
  const long looked = *s.k.open(s.t, "/sys/fs/bpf/d/e", O_PATH_);
  const long pin = *s.k.open(s.t, "/sys/fs/bpf/d/m", O_PATH_);
  const long group = *s.k.open(s.t, "/sys/fs/cgroup", O_DIRECTORY_);
  struct {
    int cmd;
    long fd;
    const char* path;
    long path_fd;
    uint32_t flags;
    Errno expected;
  } const cases[] = {
      {BPF_OBJ_PIN, map, "m", looked, BPF_F_PATH_FD, Errno::None},
      {BPF_OBJ_PIN, map, "../n", looked, BPF_F_PATH_FD, Errno::None},
      {BPF_OBJ_PIN, map, "/sys/fs/bpf/o", 99, BPF_F_PATH_FD, Errno::None},
      {BPF_OBJ_PIN, map, "m", dir, BPF_F_PATH_FD, Errno::Exist},
      {BPF_OBJ_PIN, map, "x", 99, BPF_F_PATH_FD, Errno::BadF},
      {BPF_OBJ_PIN, map, "x", map, BPF_F_PATH_FD, Errno::NotDir},
      {BPF_OBJ_PIN, map, "x", pin, BPF_F_PATH_FD, Errno::NotDir},
      {BPF_OBJ_PIN, map, "x", group, BPF_F_PATH_FD, Errno::Perm},
      {BPF_OBJ_PIN, map, "", dir, BPF_F_PATH_FD, Errno::NoEnt},
      {BPF_OBJ_PIN, map, "x", dir, 0, Errno::Inval},
      {BPF_OBJ_GET, 0, "none", dir, BPF_F_PATH_FD, Errno::NoEnt},
      {BPF_OBJ_GET, 0, "m", dir, BPF_F_PATH_FD | BPF_F_RDONLY | BPF_F_WRONLY, Errno::Inval},
      {BPF_OBJ_GET, 0, "e", dir, BPF_F_PATH_FD, Errno::Access},
  };
  for (const auto& c : cases) {
    INFO(c.cmd << " " << c.path << " " << c.path_fd);
    CHECK(obj(c.cmd, c.fd, c.path, c.path_fd, c.flags) == minus(c.expected));
  }
  const long opened = obj(BPF_OBJ_GET, 0, "e/m", dir, BPF_F_PATH_FD | BPF_F_RDONLY);
  CHECK(s.object(opened) == s.object(map));

  // A directory that is removed while it is open takes no more names.
  CHECK(s.k.unlink(s.t, "/sys/fs/bpf/d/e/m").ok());
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf/d/e").ok());
  CHECK(obj(BPF_OBJ_PIN, map, "m", looked) == minus(Errno::NoEnt));
}

TEST_CASE("path_fd came with Linux 6.5") {
  MachineOptions options;
  options.version = "6.4"_v;
  PinSim s(options);
  bpf_attr attr;
  attr.pathname = user_ptr("/sys/fs/bpf/m");
  attr.bpf_fd = uint32_t(s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1));
  attr.file_flags = BPF_F_PATH_FD;
  CHECK(s.bpf(BPF_OBJ_PIN, attr) == minus(Errno::Inval));
  attr.file_flags = 0;
  CHECK(s.bpf(BPF_OBJ_PIN, attr) == 0);
}

TEST_CASE("a rename asks both directories, then whether a directory that moves may be written") {
  PinSim s;  // a live 6.18 gave these answers
  Task& user = s.k.spawn("user", {1000, 0});
  CHECK(s.k.mkdir(user, "/sys/fs/bpf/from").ok());
  CHECK(s.k.mkdir(user, "/sys/fs/bpf/to").ok());
  CHECK(s.k.mkdir(user, "/sys/fs/bpf/from/d").ok());
  CHECK(s.k.chmod(user, "/sys/fs/bpf/from/d", 0555).ok());
  CHECK(s.k.rename(user, "/sys/fs/bpf/from/d", "/sys/fs/bpf/to/d").err() == Errno::Access);
  CHECK(s.k.rename(user, "/sys/fs/bpf/from/d", "/sys/fs/bpf/from/e").ok());  // its ".." stays
  CHECK(s.k.chmod(user, "/sys/fs/bpf/to", 0444).ok());
  CHECK(s.k.rename(user, "/sys/fs/bpf/none", "/sys/fs/bpf/to/e").err() == Errno::Access);
  CHECK(s.k.rename(s.t, "/sys/fs/bpf/from/e", "/sys/fs/bpf/to/e").ok());  // CAP_DAC_OVERRIDE
}

TEST_CASE(
    "what a directory's mode passes on: the set-group-ID bit, and names with a dot where there is none") {
  PinSim s;  // a live 6.18 gave these answers
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d").ok());
  CHECK(s.k.chmod(s.t, "/sys/fs/bpf/d", 02777).ok());
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d/e", 0777).ok());
  CHECK(s.k.stat(s.t, "/sys/fs/bpf/d/e")->mode == (kModeDir | kModeSetgid | 0755));

  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d/x.y").err() == Errno::Perm);
  CHECK(s.k.chmod(s.t, "/sys/fs/bpf/d", 0).ok());
  CHECK(s.k.stat(s.t, "/sys/fs/bpf/d/x.y").err() == Errno::NoEnt);
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d/x.y").ok());
  Task& user = s.k.spawn("user", {1000, 0});
  CHECK(s.k.stat(user, "/sys/fs/bpf/d/x.y").err() == Errno::Access);
}
