// Values that lie with a task, an inode, a cgroup or a socket: made and found by a descriptor, gone with the
// owner or the map.
#include "host/socket.h"
#include "object/inode.h"
#include "sim.h"

using namespace bpfsim;

namespace {

constexpr int kOpenPath = int(O_PATH_);

struct StorageSim : Sim {
  StorageSim() {
    // 1: int, 2: long
    const uint32_t types[] = {1, 1u << 24, 4, 32, 5, 1u << 24, 8, 64};
    const char strings[] = "\0int\0long";
    std::vector<uint8_t> blob(24 + sizeof types + sizeof strings);
    const uint32_t header[] = {0x0001eb9f, 24, 0, sizeof types, sizeof types, sizeof strings};
    std::memcpy(blob.data(), header, sizeof header);
    std::memcpy(blob.data() + 24, types, sizeof types);
    std::memcpy(blob.data() + 24 + sizeof types, strings, sizeof strings);
    bpf_attr attr;
    std::memset(static_cast<void*>(&attr), 0, sizeof attr);
    struct {
      uint64_t btf, log;
      uint32_t size;
    } load = {user_ptr(blob.data()), 0, uint32_t(blob.size())};
    std::memcpy(static_cast<void*>(&attr), &load, sizeof load);
    btf = bpf(BPF_BTF_LOAD, attr);
    REQUIRE(btf >= 0);
  }
  bpf_attr attr_of(bpf_map_type type) {
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = 4;
    attr.value_size = 8;
    attr.map_flags = BPF_F_NO_PREALLOC;
    attr.btf_fd = uint32_t(btf);
    attr.btf_key_type_id = 1;
    attr.btf_value_type_id = 2;
    return attr;
  }
  long create(bpf_map_type type) {
    bpf_attr attr = attr_of(type);
    return bpf(BPF_MAP_CREATE, attr);
  }
  long put(long map, long owner, uint64_t value, uint64_t flags = BPF_ANY) {
    const int key = int(owner);
    return map_update(map, &key, &value, flags);
  }
  // The value, or -errno.
  int64_t get(long map, long owner) {
    const int key = int(owner);
    int64_t value = 0;
    const long ret = map_lookup(map, &key, &value);
    return ret < 0 ? ret : value;
  }
  long drop(long map, long owner) {
    const int key = int(owner);
    return map_delete(map, &key);
  }
  long pidfd(const Task& of) { return *k.pidfd_open(t, of.pid); }

  long btf = -1;
};

}  // namespace

TEST_CASE("a task storage map keeps one value for each task") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_TASK_STORAGE), other = s.create(BPF_MAP_TYPE_TASK_STORAGE);
  Task& child = s.k.fork(s.t);
  const long me = s.pidfd(s.t), its = s.pidfd(child);
  CHECK(s.get(map, me) == minus(Errno::NoEnt));
  CHECK(s.drop(map, me) == minus(Errno::NoEnt));
  CHECK(s.put(map, me, 1, BPF_EXIST) == minus(Errno::NoEnt));
  CHECK(s.put(map, me, 1, BPF_NOEXIST) == 0);
  CHECK(s.put(map, me, 1, BPF_NOEXIST) == minus(Errno::Exist));
  CHECK(s.put(map, me, 2, 3) == minus(Errno::Inval));
  CHECK(s.put(map, me, 2, BPF_F_LOCK) == minus(Errno::Inval));
  CHECK(s.put(map, its, 7) == 0);
  CHECK(s.put(other, me, 9) == 0);
  CHECK(s.put(map, me, 2, BPF_EXIST) == 0);
  CHECK(s.get(map, me) == 2);
  CHECK(s.get(map, its) == 7);
  CHECK(s.get(other, me) == 9);
  CHECK(s.get(other, its) == minus(Errno::NoEnt));
  CHECK(s.get(map, s.pidfd(s.t)) == 2);  // another pidfd of the same task
  CHECK(s.drop(map, me) == 0);
  CHECK(s.get(map, me) == minus(Errno::NoEnt));
  CHECK(s.get(other, me) == 9);
  int next = 0;
  CHECK(s.map_get_next_key(map, nullptr, &next) == minus(Errno::NotSupp));
  s.k.exit(child);
}

TEST_CASE("the key of task storage is a pidfd and nothing else") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_TASK_STORAGE);
  for (long fd : {0L, map, s.btf, 99L, -1L}) CHECK(s.get(map, fd) == minus(Errno::BadF));
  CHECK(s.k.pidfd_open(s.t, 9999).err() == Errno::Srch);
  CHECK(s.k.pidfd_open(s.t, 0).err() == Errno::Inval);
  CHECK(s.k.pidfd_open(s.t, s.t.pid, 1).err() == Errno::Inval);
  CHECK_THAT(*fdinfo(s.t, int(s.pidfd(s.t))), Catch::Matchers::EndsWith("Pid:\t470\nNSpid:\t470\n"));
}

TEST_CASE("values go with their task, after a grace period, and the pidfd finds nobody") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_TASK_STORAGE), other = s.create(BPF_MAP_TYPE_TASK_STORAGE);
  Task& child = s.k.spawn("child");
  const long its = s.pidfd(child);
  const uint64_t before = s.machine().arena.live_objects();
  CHECK(s.put(map, its, 7) == 0);
  CHECK(s.put(other, its, 8) == 0);
  CHECK(s.machine().arena.live_objects() == before + 2);
  s.machine().rcu.hold();
  s.k.exit(child);
  CHECK(s.get(map, its) == minus(Errno::NoEnt));
  CHECK(s.put(map, its, 7) == minus(Errno::NoEnt));
  CHECK(s.machine().arena.live_objects() == before + 2);
  s.machine().rcu.release();
  s.machine().rcu.grace_period();
  CHECK(s.machine().arena.live_objects() == before);
  CHECK(child.bpf_storage == nullptr);
  CHECK_THAT(*fdinfo(s.t, int(its)), Catch::Matchers::EndsWith("Pid:\t-1\nNSpid:\t-1\n"));
}

TEST_CASE("values go with their map, and the task keeps what other maps gave it") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_TASK_STORAGE), other = s.create(BPF_MAP_TYPE_TASK_STORAGE);
  const long me = s.pidfd(s.t);
  const uint64_t before = s.machine().arena.live_objects();
  CHECK(s.put(map, me, 1) == 0);
  CHECK(s.put(other, me, 2) == 0);
  CHECK(s.close(map) == 0);
  CHECK(s.machine().arena.live_objects() == before + 1);
  CHECK(s.get(other, me) == 2);
  CHECK(s.close(other) == 0);
  CHECK(s.machine().arena.live_objects() == before);
  CHECK(s.t.bpf_storage == nullptr);
}

TEST_CASE("inode storage takes any descriptor, also one opened with O_PATH") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_INODE_STORAGE);
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/bpf/d").ok());
  const int dir = int(*s.k.open(s.t, "/sys/fs/bpf/d", kOpenPath));
  const int again = int(*s.k.open(s.t, "/sys/fs/bpf/d", O_RDONLY_));
  CHECK(s.put(map, dir, 5) == 0);
  CHECK(s.get(map, again) == 5);
  CHECK(s.get(map, 0) == minus(Errno::NoEnt));
  CHECK(s.put(map, 0, 6) == 0);  // the terminal
  CHECK(s.get(map, 2) == 6);
  CHECK(s.put(map, map, 7) == 0);
  CHECK(s.get(map, s.btf) == 7);  // one inode for all anonymous files
  CHECK(s.put(map, s.pidfd(s.t), 8) == 0);
  CHECK(s.get(map, s.pidfd(s.t)) == 8);
  CHECK(s.get(map, 99) == minus(Errno::BadF));
}

TEST_CASE("cgroup storage takes a cgroup's directory, and its values go with the group") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_CGRP_STORAGE);
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/cgroup/a").ok());
  const long group = *s.k.open(s.t, "/sys/fs/cgroup/a"), root = *s.k.open(s.t, "/sys/fs/cgroup");
  const uint64_t before = s.machine().arena.live_objects();
  for (long fd : {0L, map, 99L}) CHECK(s.get(map, fd) == minus(Errno::BadF));
  CHECK(s.get(map, group) == minus(Errno::NoEnt));
  CHECK(s.put(map, group, 4) == 0);
  CHECK(s.put(map, root, 5, BPF_NOEXIST) == 0);
  CHECK(s.get(map, group) == 4);
  CHECK(s.get(map, root) == 5);
  CHECK(s.drop(map, root) == 0);
  CHECK(s.k.rmdir(s.t, "/sys/fs/cgroup/a").ok());
  CHECK(s.get(map, group) == minus(Errno::NoEnt));
  CHECK(s.machine().arena.live_objects() == before + 1);
  CHECK(s.close(group) == 0);
  CHECK(s.machine().arena.live_objects() == before);
}

TEST_CASE("socket storage takes a socket, charges it, and goes with it") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_SK_STORAGE);
  const long sock = *s.k.socket(s.t, AF_INET_, SOCK_STREAM_);
  const uint64_t before = s.machine().arena.live_objects();
  for (long fd : {0L, map}) CHECK(s.get(map, fd) == minus(Errno::NotSock));
  CHECK(s.get(map, 99) == minus(Errno::BadF));
  CHECK(s.put(map, sock, 1, BPF_EXIST) == minus(Errno::NoEnt));
  CHECK(s.put(map, sock, 1) == 0);
  Sock& sk = static_cast<Sock&>(*s.object(sock));
  CHECK(sk.sk_omem_alloc == 80 + 176);  // an element, and the socket's list of them
  CHECK(s.put(map, sock, 2) == 0);
  CHECK(s.get(map, sock) == 2);
  CHECK(sk.sk_omem_alloc == 80 + 176);
  CHECK(s.drop(map, sock) == 0);
  CHECK(sk.sk_omem_alloc == 0);
  CHECK(s.put(map, sock, 3) == 0);
  sk.sk_omem_alloc += 128 << 10;  // as if other options had used all that a socket may have
  CHECK(s.put(map, sock, 4) == minus(Errno::NoMem));
  CHECK(s.get(map, sock) == 3);
  sk.sk_omem_alloc -= 128 << 10;
  CHECK(s.close(sock) == 0);
  CHECK(s.machine().arena.live_objects() == before);
}

TEST_CASE("a connection gets what maps with BPF_F_CLONE keep for the listener") {
  StorageSim s;
  bpf_attr cloning = s.attr_of(BPF_MAP_TYPE_SK_STORAGE);
  cloning.map_flags |= BPF_F_CLONE;
  const long map = s.bpf(BPF_MAP_CREATE, cloning), other = s.create(BPF_MAP_TYPE_SK_STORAGE);
  const int listener = int(*s.k.socket(s.t, AF_INET_, SOCK_STREAM_));
  const int client = int(*s.k.socket(s.t, AF_INET_, SOCK_STREAM_));
  const SockAddr address{"127.0.0.1", 80};
  REQUIRE(s.k.bind(s.t, listener, address).ok());
  REQUIRE(s.k.listen(s.t, listener).ok());
  CHECK(s.put(map, listener, 5) == 0);
  CHECK(s.put(other, listener, 6) == 0);
  REQUIRE(s.k.connect(s.t, client, address).ok());
  const long accepted = *s.k.accept(s.t, listener);
  CHECK(s.get(map, accepted) == 5);
  CHECK(s.get(other, accepted) == minus(Errno::NoEnt));
  CHECK(s.get(map, client) == minus(Errno::NoEnt));
  CHECK(s.put(map, listener, 7) == 0);
  CHECK(s.get(map, accepted) == 5);  // a copy
}

TEST_CASE("a deleted directory lives while it is open, and its values with it") {
  StorageSim s;
  const long map = s.create(BPF_MAP_TYPE_INODE_STORAGE);
  REQUIRE(s.k.mkdir(s.t, "/sys/fs/bpf/d").ok());
  const int dir = int(*s.k.open(s.t, "/sys/fs/bpf/d", O_RDONLY_));
  const uint64_t before = s.machine().arena.live_objects();
  CHECK(s.put(map, dir, 5) == 0);
  CHECK(s.k.rmdir(s.t, "/sys/fs/bpf/d").ok());
  CHECK(s.object(dir)->label() == "dir /sys/fs/bpf/d (deleted)");
  CHECK(s.get(map, dir) == 5);
  CHECK(s.k.mkdir(s.t, "/sys/fs/bpf/d").ok());  // another one of that name
  CHECK(s.get(map, *s.k.open(s.t, "/sys/fs/bpf/d", O_RDONLY_)) == minus(Errno::NoEnt));
  CHECK(s.close(dir) == 0);
  CHECK(s.machine().arena.live_objects() == before);
  CHECK(s.get(map, dir) == minus(Errno::BadF));
}

TEST_CASE("a pin that is open with O_PATH keeps its map after the unlink") {
  StorageSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0, "m");
  Map& map = s.map(fd);
  const char* path = "/sys/fs/bpf/m";
  bpf_attr pin;
  pin.pathname = user_ptr(path);
  pin.bpf_fd = uint32_t(fd);
  REQUIRE(s.bpf(BPF_OBJ_PIN, pin) == 0);
  const long open = *s.k.open(s.t, path, kOpenPath);
  CHECK(s.map_lookup(open, &fd, &pin) == minus(Errno::BadF));  // no descriptor of the map
  CHECK(s.k.unlink(s.t, path).ok());
  CHECK(s.close(fd) == 0);
  CHECK(map.refcnt.value() == 1);
  CHECK(object_graph(s.machine()).disagreements().empty());
  CHECK(object_graph(s.machine()).why_alive(map).size() == 3);
  CHECK(s.close(open) == 0);
  CHECK(s.alive() == std::vector<std::string>{"btf 2", "file (btf)"});
}

TEST_CASE("what open(2) refuses") {
  StorageSim s;
  const long fd = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  bpf_attr pin;
  pin.pathname = user_ptr("/sys/fs/bpf/m");
  pin.bpf_fd = uint32_t(fd);
  REQUIRE(s.bpf(BPF_OBJ_PIN, pin) == 0);
  Task& user = s.k.spawn("user", {1000, 0});
  CHECK(s.k.open(s.t, "/sys/fs/bpf/nothing", O_RDONLY_).err() == Errno::NoEnt);
  CHECK(s.k.open(s.t, "/sys/fs/bpf", O_RDWR_).err() == Errno::IsDir);
  CHECK(s.k.open(s.t, "/sys/fs/bpf/m", O_RDONLY_ | O_DIRECTORY_).err() == Errno::NotDir);
  CHECK(s.k.open(s.t, "/sys/fs/bpf/m", O_RDONLY_).err() == Errno::Io);
  CHECK(s.k.open(user, "/sys/fs/bpf/m", O_RDONLY_).err() == Errno::Access);
  CHECK(s.k.open(user, "/sys/fs/bpf/m", kOpenPath).ok());
}

TEST_CASE("what creating local storage refuses") {
  StorageSim s;
  struct {
    const char* what;
    void (*change)(bpf_attr&);
    Errno err;
  } const rows[] = {
      {"usual", [](bpf_attr&) {}, Errno::None},
      {"preallocated", [](bpf_attr& a) { a.map_flags = 0; }, Errno::Inval},
      {"clone", [](bpf_attr& a) { a.map_flags |= BPF_F_CLONE; }, Errno::None},
      {"other flag", [](bpf_attr& a) { a.map_flags |= BPF_F_NUMA_NODE; }, Errno::Inval},
      {"entries", [](bpf_attr& a) { a.max_entries = 1; }, Errno::Inval},
      {"key of 8", [](bpf_attr& a) { a.key_size = 8; }, Errno::Inval},
      {"no value", [](bpf_attr& a) { a.value_size = 0; }, Errno::Inval},
      {"value of other size than its type", [](bpf_attr& a) { a.value_size = 65407; }, Errno::Inval},
      {"large value", [](bpf_attr& a) { a.value_size = 65408; }, Errno::TooBig},
      {"no key type", [](bpf_attr& a) { a.btf_key_type_id = 0; }, Errno::Inval},
      {"no BTF", [](bpf_attr& a) { a.btf_fd = 99; }, Errno::BadF},
      {"terminal as BTF", [](bpf_attr& a) { a.btf_fd = 0; }, Errno::Inval},
  };
  for (bpf_map_type type : {BPF_MAP_TYPE_TASK_STORAGE, BPF_MAP_TYPE_INODE_STORAGE, BPF_MAP_TYPE_CGRP_STORAGE,
                            BPF_MAP_TYPE_SK_STORAGE}) {
    for (const auto& row : rows) {
      INFO(row.what);
      bpf_attr attr = s.attr_of(type);
      row.change(attr);
      const long ret = s.bpf(BPF_MAP_CREATE, attr);
      CHECK((ret < 0 ? ret : 0) == minus(row.err));
    }
    bpf_attr attr = s.attr_of(type);
    Task& user = s.k.spawn("user", {1000, 0});
    CHECK(s.bpf(user, BPF_MAP_CREATE, attr) == minus(Errno::Perm));
  }
}
