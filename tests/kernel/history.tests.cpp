// What entered a machine is done again on another one, and gives the same machine.
#include "history.h"

#include <random>

#include "hook/hook.h"
#include "isa/asm.h"
#include "object/ops.h"
#include "sim.h"
#include "trace/parking.h"

using namespace bpfsim;

namespace {

constexpr size_t kMiB = 1 << 20;

// A machine with a history, one task, and the graph after each step taken live.
struct Past {
  explicit Past(size_t bytes = 64 * kMiB, uint64_t seed = 0) : k(options(seed), bytes), t(k.spawn("bash")) {}

  static MachineOptions options(uint64_t seed) {
    MachineOptions options;
    options.arena_bytes = 64 * kMiB;
    options.seed = seed;
    return options;
  }

  Kernel k;
  Task& t;
  History past{k};
  std::vector<GraphPicture> live{graph_picture(k.machine())};  // [0]: after the spawn

  long bpf(Task& task, int cmd, const bpf_attr& attr) {
    const long ret = long(k.sys_bpf(task, cmd, user_ptr(&attr), sizeof attr));
    look();
    return ret;
  }
  void look() { live.push_back(graph_picture(k.machine())); }

  long create(bpf_map_type type, uint32_t key_size = 4, uint32_t value_size = 8, const char* name = "m") {
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = key_size;
    attr.value_size = value_size;
    attr.max_entries = 16;
    std::strncpy(attr.map_name, name, sizeof attr.map_name - 1);
    return bpf(t, BPF_MAP_CREATE, attr);
  }
  long elem(Task& task, int cmd, long fd, const void* key, const void* value) {
    bpf_attr attr;
    attr.map_fd = uint32_t(fd);
    attr.key = user_ptr(key);
    attr.value = user_ptr(value);
    return bpf(task, cmd, attr);
  }
  long load(const std::string& source) {
    const Assembly code = assemble(source);
    REQUIRE(code.ok());
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, code.insns);
    return bpf(t, BPF_PROG_LOAD, attr);
  }
  long pin(int cmd, long fd, const char* path) {
    bpf_attr attr;
    attr.pathname = user_ptr(path);
    attr.bpf_fd = cmd == BPF_OBJ_PIN ? uint32_t(fd) : 0;
    return bpf(t, cmd, attr);
  }

  // Every graph of the past, asked for from the end to the start, is the one that was seen live.
  void check_all() {
    REQUIRE(past.ended() == "");
    REQUIRE(past.size() == live.size());
    for (size_t steps = past.size(); steps > 0; --steps) {
      const Result<GraphPicture> then = past.graph(steps);
      INFO(past.text(steps - 1));
      REQUIRE(then.ok());
      CHECK((*then).str() == live[steps - 1].str());
    }
    CHECK(past.check() == "");
  }
};

}  // namespace

TEST_CASE("the graph at every step is the one that was") {
  Past p;
  const uint32_t key = 1;
  const uint64_t value = 7;
  const long fd = p.create(BPF_MAP_TYPE_HASH, 4, 8, "counts");
  REQUIRE(fd == 3);
  CHECK(p.elem(p.t, BPF_MAP_UPDATE_ELEM, fd, &key, &value) == 0);
  CHECK(p.pin(BPF_OBJ_PIN, fd, "/sys/fs/bpf/counts") == 0);
  (void)p.k.dup(p.t, int(fd)), p.look();
  Task& child = p.k.fork(p.t);
  p.look();
  p.k.exit(p.t), p.look();
  CHECK(p.elem(child, BPF_MAP_LOOKUP_ELEM, fd, &key, &value) == 0);
  (void)p.k.unlink(child, "/sys/fs/bpf/counts"), p.look();
  p.k.rcu_hold(), p.look();
  p.k.exit(child), p.look();
  CHECK(p.live.back().str().find("counts") != std::string::npos);  // its free waits
  p.k.rcu_release(), p.look();
  CHECK(p.live.back().str().find("counts") == std::string::npos);
  p.check_all();
  CHECK(p.past.text(1) == "BPF(MAP_CREATE) hash \"counts\"");
  CHECK(p.past.text(2) == "BPF(MAP_UPDATE_ELEM) fd 3 key 1 value 7");
  CHECK(p.past.text(3) == "BPF(OBJ_PIN) fd 3 at /sys/fs/bpf/counts");
  CHECK(describe_result(p.past.step(1)) == "fd 3");
}

TEST_CASE("refusals and wild pointers are refused again") {
  Past p;
  const long fd = p.create(BPF_MAP_TYPE_ARRAY);
  const uint32_t key = 99;
  uint64_t value = 0;
  CHECK(p.elem(p.t, BPF_MAP_LOOKUP_ELEM, fd, &key, &value) == minus(Errno::NoEnt));
  CHECK(p.elem(p.t, BPF_MAP_LOOKUP_ELEM, 77, &key, &value) == minus(Errno::BadF));
  CHECK(p.elem(p.t, BPF_MAP_LOOKUP_ELEM, fd, reinterpret_cast<void*>(8), &value) == minus(Errno::Fault));
  const uint32_t first = 0;
  CHECK(p.elem(p.t, BPF_MAP_LOOKUP_ELEM, fd, &first, reinterpret_cast<void*>(8)) == minus(Errno::Fault));
  CHECK(p.k.sys_bpf(p.t, BPF_MAP_CREATE, 8, 16) == minus(Errno::Fault));
  p.look();
  CHECK(p.load("r0 = r9\nexit") == minus(Errno::Access));
  CHECK_FALSE(p.k.close(p.t, 55).ok());
  p.look();
  p.check_all();
  CHECK(describe_result(p.past.step(4)) == "EFAULT");
  CHECK(p.past.text(6) == "BPF(MAP_CREATE)");
}

TEST_CASE("what a call read is kept, not where: memory may change afterwards") {
  Past p;
  std::vector<uint8_t> key(4, 0), value(8, 1);
  const long fd = p.create(BPF_MAP_TYPE_HASH);
  CHECK(p.elem(p.t, BPF_MAP_UPDATE_ELEM, fd, key.data(), value.data()) == 0);
  std::fill(value.begin(), value.end(), 9);
  key = {};
  key.shrink_to_fit();
  CHECK(p.past.check() == "");
  auto fork = p.past.fork_from(p.past.size());
  REQUIRE(fork.ok());
  const uint32_t zero = 0;
  uint64_t seen = 0;
  bpf_attr attr;
  attr.map_fd = uint32_t(fd);
  attr.key = user_ptr(&zero);
  attr.value = user_ptr(&seen);
  CHECK((*fork)->bpf(*(*fork)->task(p.t.pid), BPF_MAP_LOOKUP_ELEM, attr).ok());
  CHECK(seen == 0x0101010101010101);
}

TEST_CASE("a fork lives on by itself, with a history of its own") {
  Past p;
  const long fd = p.create(BPF_MAP_TYPE_HASH);
  const uint32_t key = 1;
  const uint64_t value = 5;
  (void)p.k.close(p.t, int(fd));
  auto forked = p.past.fork_from(2);
  REQUIRE(forked.ok());
  Kernel& fork = **forked;
  Task& task = *fork.task(p.t.pid);
  CHECK(task.files.get(int(fd)) != nullptr);
  CHECK(p.t.files.get(int(fd)) == nullptr);
  bpf_attr attr;
  attr.map_fd = uint32_t(fd);
  attr.key = user_ptr(&key);
  attr.value = user_ptr(&value);
  CHECK(fork.bpf(task, BPF_MAP_UPDATE_ELEM, attr).ok());
  History again(fork);
  CHECK(again.size() == 3);
  CHECK(again.text(1) == p.past.text(1));
  CHECK(again.check() == "");
  CHECK(p.past.size() == 3);
  CHECK(p.past.check() == "");
  auto grandchild = again.fork_from(3);
  REQUIRE(grandchild.ok());
  CHECK(graph_picture((*grandchild)->machine()) == graph_picture(fork.machine()));
}

TEST_CASE("inside a call the references of its stack are edges") {
  Past p;
  const long fd = p.create(BPF_MAP_TYPE_HASH);
  (void)fd;
  const size_t step = p.past.size() - 1;
  const auto moments = p.past.moments(step);
  REQUIRE(moments.ok());
  bool in_flight = false, agrees = true;
  for (const Moment& moment : *moments) {
    const auto graph = p.past.graph_in(step, moment.event);
    REQUIRE(graph.ok());
    for (const auto& edge : (*graph).edges)
      in_flight |= edge.holder == p.t.serial && edge.via.rfind("fd ", 0) != 0;
    agrees &= !(*graph).nodes.empty();
  }
  CHECK(agrees);
  CHECK((*moments).size() >= 3);
  CHECK(in_flight);
  CHECK(p.past.graph_in(step, (*moments).size()).err() == Errno::NoEnt);
}

TEST_CASE("every change of one object's counters is found again") {
  Past p;
  const long fd = p.create(BPF_MAP_TYPE_HASH);
  const Object& map = *p.t.files.get(int(fd))->private_data;
  const uint64_t serial = map.serial;
  const uint32_t id = map.id;
  (void)p.k.dup(p.t, int(fd));
  const uint64_t counted = map.ledger.size();
  bpf_attr attr;
  attr.map_id = id;
  const long again = long(p.k.sys_bpf(p.t, BPF_MAP_GET_FD_BY_ID, user_ptr(&attr), sizeof attr));
  REQUIRE(again > 0);
  CHECK(map.ledger.size() > counted);
  const std::vector<LedgerEntry> ledger = map.ledger;
  const auto changes = p.past.watch(serial);
  REQUIRE(changes.ok());
  size_t at = 0;
  for (const auto& [step, moment] : *changes) {
    if (!moment.counted) continue;
    REQUIRE(at < ledger.size());
    CHECK(moment.cause == ledger[at].cause.str());
    CHECK(moment.after == ledger[at].after);
    ++at;
  }
  CHECK(at == ledger.size());
}

TEST_CASE("packets, programs and the maps that they change are done again") {
  Past p;
  const long fd = p.create(BPF_MAP_TYPE_ARRAY, 4, 8, "hits");
  const Assembly assembly = assemble(
      "r2 = r10\nr2 += -4\n*(u32 *)(r10 - 4) = 0\nr1 = map[hits]\ncall map_lookup_elem\n"
      "if r0 == 0 goto out\nr1 = 1\nlock *(u64 *)(r0 + 0) += r1\nout:\nr0 = 2\nexit");
  REQUIRE(assembly.ok());
  std::vector<bpf_insn> code = assembly.insns;
  for (const MapRef& map : assembly.maps) code[map.insn].imm = int32_t(fd);
  bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, code);
  const long prog = p.bpf(p.t, BPF_PROG_LOAD, attr);
  REQUIRE(prog > 0);
  bpf_attr link;
  link.link_create.prog_fd = uint32_t(prog);
  link.link_create.target_ifindex = 2;
  link.link_create.attach_type = BPF_XDP;
  REQUIRE(p.bpf(p.t, BPF_LINK_CREATE, link) > 0);
  std::vector<uint8_t> packet(64, 0xaa);
  for (int i = 0; i < 3; ++i) {
    auto receipt = p.k.receive(2, packet);
    REQUIRE(receipt.ok());
    CHECK((*receipt).ran);
    CHECK((*receipt).verdict == 2);
    p.look();
  }
  packet.assign(8, 0);
  CHECK((*p.k.receive(2, packet)).dropped);
  p.look();
  CHECK(p.k.receive(9, packet).err() == Errno::NoDev);
  p.look();
  auto run = p.k.step_prog(p.t, int(prog), std::vector<uint8_t>(60, 1));
  REQUIRE(run.ok());
  p.look();
  for (int i = 0; i < 4; ++i) {
    CHECK(p.k.step_insn(*run));
    p.look();
  }
  p.k.step_end(*run), p.look();
  (void)p.k.sysctl_write("net.core.bpf_jit_enable", 0), p.look();
  (void)p.k.set_caps(p.t, 0), p.look();
  CHECK(p.create(BPF_MAP_TYPE_HASH) == minus(Errno::Perm));
  p.check_all();
  CHECK(p.past.text(4) == "a packet of 64 bytes arrives at netdev 2");
}

TEST_CASE("what goes round the doors ends the history, and it says so") {
  Past p;
  (void)p.create(BPF_MAP_TYPE_HASH);
  p.k.machine().clock.advance(1);
  (void)p.create(BPF_MAP_TYPE_HASH);
  CHECK(p.past.size() == 2);
  CHECK(
      p.past.ended() ==
      "the history ends before step 2: something changed the machine without going through a door of Kernel");
  CHECK(p.past.check() != "");
  CHECK(p.past.graph(2).ok());
}

TEST_CASE("a parked context ends the history") {
  Past p;
  (void)p.create(BPF_MAP_TYPE_HASH);
  (void)p.k.parking();
  (void)p.create(BPF_MAP_TYPE_HASH);
  CHECK(p.past.size() == 2);
  CHECK(p.past.ended().find("parked") != std::string::npos);
}

TEST_CASE("the bound on memory ends the history, and what was kept stays good") {
  Past p(4096);
  long fd = 0;
  for (int i = 0; i < 40; ++i) fd = p.create(BPF_MAP_TYPE_ARRAY);
  REQUIRE(fd == 42);
  CHECK(p.past.size() < 40);
  CHECK(p.past.size() > 4);
  CHECK(p.past.ended().find("bound") != std::string::npos);
  CHECK(p.k.journal()->bytes() < 4096 + 1024);
  const auto graph = p.past.graph(p.past.size());
  REQUIRE(graph.ok());
  CHECK(*graph == p.live[p.past.size() - 1]);
}

TEST_CASE("an interrupt is part of what came from outside") {
  Past p;
  const long prog = p.load("r0 = 0\nexit");
  REQUIRE(prog > 0);
  p.k.machine().interrupted = [n = 0]() mutable { return ++n == 3; };
  const std::vector<uint8_t> packet(64);
  bpf_attr attr;
  attr.test.prog_fd = uint32_t(prog);
  attr.test.data_in = user_ptr(packet.data());
  attr.test.data_size_in = 64;
  attr.test.repeat = 1'000'000;
  CHECK(p.bpf(p.t, BPF_PROG_TEST_RUN, attr) == minus(Errno::Intr));
  p.k.machine().interrupted = nullptr;
  p.check_all();
}

TEST_CASE("a machine that answers otherwise the second time is found out") {
  Past p;
  (void)p.create(BPF_MAP_TYPE_ARRAY);
  // A closure that looks at the world outside is what a door must not have.
  JournalStep& step = const_cast<JournalStep&>(p.past.step(1));
  step.again = [](Kernel&, Task*) -> int64_t { return 4; };
  CHECK(p.past.check() == "done again, step 1 answered 4, not 3 as before");
  CHECK_FALSE(p.past.fork_from(2).ok());
  CHECK(p.past.graph(1).ok());
  CHECK_FALSE(p.past.graph(2).ok());
}

TEST_CASE("two machines keep their histories apart, and nothing is left of either") {
  Past one, other;
  (void)one.create(BPF_MAP_TYPE_HASH);
  (void)other.create(BPF_MAP_TYPE_ARRAY);
  (void)other.create(BPF_MAP_TYPE_QUEUE, 0, 8);
  CHECK(one.past.size() == 2);
  CHECK(other.past.size() == 3);
  one.check_all();
  other.check_all();
}

TEST_CASE("ten thousand random calls are done again to the same machine") {
  Past p(64 * kMiB, 7);
  std::mt19937 random(2026);
  auto one_of = [&](uint32_t n) { return uint32_t(random() % n); };
  const bpf_map_type types[] = {BPF_MAP_TYPE_HASH,     BPF_MAP_TYPE_ARRAY,  BPF_MAP_TYPE_LRU_HASH,
                                BPF_MAP_TYPE_QUEUE,    BPF_MAP_TYPE_STACK,  BPF_MAP_TYPE_PERCPU_HASH,
                                BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_RINGBUF};
  const std::string paths[] = {"/sys/fs/bpf/a", "/sys/fs/bpf/b", "/sys/fs/bpf/d/c", "/sys/fs/bpf/d"};
  std::vector<Task*> tasks{&p.t};
  uint64_t key[4] = {}, value[64] = {};
  for (int i = 0; i < 10'000; ++i) {
    Task& task = *tasks[one_of(uint32_t(tasks.size()))];
    const int fd = 3 + int(one_of(12));
    const std::string& path = paths[one_of(4)];
    bpf_attr attr;
    key[0] = one_of(20), value[0] = random();
    attr.map_fd = uint32_t(fd);
    attr.key = one_of(30) ? user_ptr(key) : 8;
    attr.value = user_ptr(value);
    int cmd = -1;
    switch (one_of(24)) {
      case 0: {
        bpf_attr create;
        create.map_type = types[one_of(8)];
        const bool keyless = create.map_type == BPF_MAP_TYPE_QUEUE || create.map_type == BPF_MAP_TYPE_STACK;
        create.key_size = keyless ? 0 : create.map_type == BPF_MAP_TYPE_LPM_TRIE ? 8 : 4;
        create.value_size = 8;
        create.map_flags = create.map_type == BPF_MAP_TYPE_LPM_TRIE ? BPF_F_NO_PREALLOC : 0;
        create.max_entries = 1 + one_of(10);
        (void)p.k.bpf(task, BPF_MAP_CREATE, create);
        break;
      }
      case 1: (void)p.k.close(task, fd); break;
      case 2: (void)p.k.dup(task, fd); break;
      case 3:
        if (tasks.size() < 5) tasks.push_back(&p.k.fork(task));
        break;
      case 4:
        if (tasks.size() > 1 && one_of(4) == 0) {
          p.k.exit(task);
          std::erase(tasks, &task);
        }
        break;
      case 5: (void)p.k.unlink(task, path); break;
      case 6: (void)p.k.mkdir(task, path); break;
      case 7: (void)p.k.rmdir(task, path); break;
      case 8: (void)p.k.rename(task, path, paths[one_of(4)]); break;
      case 9: one_of(2) ? p.k.rcu_hold() : void(p.k.rcu_release()); break;
      case 10:
      case 11: {
        bpf_attr pin;
        pin.pathname = user_ptr(path.c_str());
        pin.bpf_fd = one_of(2) ? uint32_t(fd) : 0;
        (void)p.k.bpf(task, pin.bpf_fd ? BPF_OBJ_PIN : BPF_OBJ_GET, pin);
        break;
      }
      case 12: {
        bpf_attr by_id;
        by_id.map_id = one_of(40);
        (void)p.k.bpf(task, BPF_MAP_GET_FD_BY_ID, by_id);
        break;
      }
      case 13:
      case 14: cmd = BPF_MAP_DELETE_ELEM; break;
      case 15: cmd = BPF_MAP_GET_NEXT_KEY; break;
      case 16: cmd = BPF_MAP_LOOKUP_AND_DELETE_ELEM; break;
      case 17:
      case 18:
      case 19: cmd = BPF_MAP_LOOKUP_ELEM; break;
      default: cmd = BPF_MAP_UPDATE_ELEM;
    }
    if (cmd >= 0) (void)p.k.bpf(task, cmd, attr);
  }
  REQUIRE(p.past.ended() == "");
  CHECK(p.past.size() > 9'000);
  CHECK(p.past.check() == "");
  // Positions anywhere, in any order, and a look into the calls there.
  for (size_t at : {9'000u, 17u, 4'711u, 4'710u, 0u, 8'000u}) {
    auto moments = p.past.moments(at);
    REQUIRE(moments.ok());
    for (const Moment& moment : *moments) REQUIRE(p.past.graph_in(at, moment.event).ok());
    auto fork = p.past.fork_from(at);
    REQUIRE(fork.ok());
    CHECK(graph_picture((*fork)->machine()) == *p.past.graph(at));
    CHECK(object_graph((*fork)->machine()).disagreements().empty());
  }
}

TEST_CASE("programs, links and maps of maps live at random, and the graph can be walked at every event") {
  Past p(64 * kMiB, 3);
  std::mt19937 random(18);
  auto one_of = [&](uint32_t n) { return uint32_t(random() % n); };
  std::vector<Task*> tasks{&p.t};
  const char* paths[] = {"/sys/fs/bpf/a", "/sys/fs/bpf/b"};
  auto create = [&](Task& task, bpf_map_type type, uint32_t inner) {
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = 4;
    attr.value_size = 4;
    attr.max_entries = 4;
    attr.inner_map_fd = inner;
    (void)p.k.bpf(task, BPF_MAP_CREATE, attr);
  };
  auto load = [&](Task& task, int fd) {
    const Assembly tail = assemble("r2 = map[jumps]\nr3 = 0\ncall tail_call\nr0 = 2\nexit");
    REQUIRE(tail.ok());
    std::vector<bpf_insn> code = tail.insns;
    code[tail.maps[0].insn].imm = fd;
    if (one_of(2)) code = assemble("r0 = 2\nexit").insns;
    bpf_attr attr = prog_load_attr(BPF_PROG_TYPE_XDP, code);
    (void)p.k.bpf(task, BPF_PROG_LOAD, attr);
  };
  const std::vector<uint8_t> packet(64);
  for (int i = 0; i < 3'000; ++i) {
    Task& task = *tasks[one_of(uint32_t(tasks.size()))];
    const uint32_t fd = 3 + one_of(10), other = 3 + one_of(10), key = one_of(4), ifindex = 1 + one_of(2);
    bpf_attr attr;
    switch (one_of(16)) {
      case 0: create(task, BPF_MAP_TYPE_PROG_ARRAY, 0); break;
      case 1: create(task, one_of(2) ? BPF_MAP_TYPE_ARRAY : BPF_MAP_TYPE_HASH, 0); break;
      case 2: create(task, one_of(2) ? BPF_MAP_TYPE_ARRAY_OF_MAPS : BPF_MAP_TYPE_HASH_OF_MAPS, fd); break;
      case 3: load(task, int(fd)); break;
      case 4:
      case 5:
      case 6:
        attr.map_fd = fd;
        attr.key = user_ptr(&key);
        attr.value = user_ptr(&other);
        (void)p.k.bpf(task, one_of(3) ? BPF_MAP_UPDATE_ELEM : BPF_MAP_DELETE_ELEM, attr);
        break;
      case 7:
        attr.link_create.prog_fd = fd;
        attr.link_create.target_ifindex = ifindex;
        attr.link_create.attach_type = BPF_XDP;
        (void)p.k.bpf(task, BPF_LINK_CREATE, attr);
        break;
      case 8:
        attr.link_update.link_fd = fd;
        attr.link_update.new_prog_fd = other;
        (void)p.k.bpf(task, one_of(2) ? BPF_LINK_UPDATE : BPF_LINK_DETACH, attr);
        break;
      case 9:
        if (tasks.size() < 4) tasks.push_back(&p.k.fork(task));
        break;
      case 10:
        if (tasks.size() > 1 && one_of(3) == 0) {
          p.k.exit(task);
          std::erase(tasks, &task);
        }
        break;
      case 11: one_of(2) ? p.k.rcu_hold() : void(p.k.rcu_release()); break;
      case 12:
        attr.pathname = user_ptr(paths[one_of(2)]);
        attr.bpf_fd = one_of(2) ? fd : 0;
        (void)p.k.bpf(task, attr.bpf_fd ? BPF_OBJ_PIN : BPF_OBJ_GET, attr);
        break;
      case 13: (void)p.k.unlink(task, paths[one_of(2)]); break;
      case 14: (void)p.k.receive(int(ifindex), packet); break;
      default: (void)p.k.close(task, int(fd));
    }
  }
  REQUIRE(p.past.ended() == "");
  CHECK(p.past.check() == "");

  struct Walker final : Watcher {
    using Watcher::Watcher;
    void see(const Event& event) override {
      const std::string kind = event.kind();
      if (kind != "get" && kind != "put" && kind != "life") return;
      ++events;
      edges += graph_picture(machine_).edges.size();
    }
    size_t events = 0, edges = 0;
  };
  Kernel again(p.k.options());
  {
    Walker walker(again.machine());
    CHECK(p.past.replay(again, 0, p.past.size()).ok());
    CHECK(walker.events > 3'000);
    CHECK(walker.edges > walker.events);
  }
  // Nothing is left of the machine once its tasks, pins and devices let go.
  for (Task* task : again.tasks())
    if (!task->exited && task != again.tasks().back()) again.exit(*task);
  Task& last = *again.tasks().back();
  for (const char* path : paths) (void)again.unlink(last, path);
  again.exit(last);
  again.rcu_release();
  CHECK(object_graph(again.machine()).disagreements().empty());
  for (const auto& [serial, object] : again.machine().objects) {
    INFO(object->label());
    const bool machines_own = object->kind == ObjectKind::Kernel || object->label() == "btf 1 (vmlinux)";
    CHECK((machines_own || object->kind == ObjectKind::Inode || object->kind == ObjectKind::NetDevice));
  }
}
