// Objects made, held and let go at random by a few tasks, for as long as asked: counters equal the edges that
// a walk finds, and whenever everything is let go nothing is left, neither objects nor memory.
//
// 20,000 steps, judged after each, or BPFSIM_STEPS of them, judged after every hundredth.
#include <cstdlib>
#include <iterator>
#include <random>

#include "isa/insn.h"
#include "sim.h"
#include "syscall/inode.h"
#include "syscall/rtnetlink.h"

using namespace bpfsim;

namespace {

const std::string kRoot = "/sys/fs/bpf";
constexpr size_t kMostTasks = 5, kMostFds = 40;

class Lives {
 public:
  explicit Lives(uint64_t seed) : random_(seed) { s_.check_graph = false, tasks_.push_back(&s_.t); }

  Machine& machine() { return s_.machine(); }
  uint64_t succeeded = 0;

  void step();
  void end();  // everything exits, is unlinked, detached, and a grace period passes
  std::vector<std::string> wrong() { return object_graph(machine()).disagreements(); }
  std::vector<std::string> left() { return s_.alive(); }

 private:
  size_t below(size_t n) { return size_t(random_() % n); }
  bool rarely() { return below(16) == 0; }
  Task& task() { return *tasks_[below(tasks_.size())]; }

  // A descriptor of the task whose object is of this kind, or another, or none.
  int fd_of(Task& task, ObjectKind kind, bpf_map_type type = BPF_MAP_TYPE_UNSPEC) {
    std::vector<int> fits, all{9999};
    for (size_t fd = 0; fd < task.files.slots().size(); ++fd) {
      const File* file = task.files.slots()[fd];
      if (!file || !file->private_data) continue;  // none, or the terminal
      all.push_back(int(fd));
      const Object& object = *file->private_data;
      if (object.kind != kind) continue;
      if (type == BPF_MAP_TYPE_UNSPEC || static_cast<const Map&>(object).map_type == type)
        fits.push_back(int(fd));
    }
    return fits.empty() || rarely() ? all[below(all.size())] : fits[below(fits.size())];
  }
  int any_fd(Task& task) {
    constexpr ObjectKind kKinds[] = {ObjectKind::Map, ObjectKind::Prog, ObjectKind::Link, ObjectKind::Btf};
    return fd_of(task, kKinds[below(std::size(kKinds))]);
  }
  std::string path() {
    constexpr const char* kNames[] = {"/a", "/b", "/c", "/d/a", "/d/b", "/e/a", "/d", "/e"};
    return kRoot + kNames[below(std::size(kNames))];
  }
  bool sys(Task& task, int cmd, bpf_attr& attr) {
    const long ret = s_.bpf(task, cmd, attr);
    succeeded += ret >= 0;
    return ret >= 0;
  }
  template <class T>
  void count(const Result<T>& result) {
    succeeded += result.ok();
  }

  void map_create() {
    Task& t = task();
    constexpr bpf_map_type kTypes[] = {
        BPF_MAP_TYPE_ARRAY,         BPF_MAP_TYPE_HASH,         BPF_MAP_TYPE_PROG_ARRAY,
        BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_PERCPU_HASH,
        BPF_MAP_TYPE_LRU_HASH,      BPF_MAP_TYPE_LPM_TRIE,     BPF_MAP_TYPE_QUEUE,
        BPF_MAP_TYPE_BLOOM_FILTER,  BPF_MAP_TYPE_RINGBUF,      BPF_MAP_TYPE_PERCPU_ARRAY,
        BPF_MAP_TYPE_USER_RINGBUF,
    };
    const bpf_map_type type = kTypes[below(std::size(kTypes))];
    const bool keyless = type == BPF_MAP_TYPE_QUEUE || type == BPF_MAP_TYPE_BLOOM_FILTER;
    const bool ring = type == BPF_MAP_TYPE_RINGBUF || type == BPF_MAP_TYPE_USER_RINGBUF;
    const bool trie = type == BPF_MAP_TYPE_LPM_TRIE;
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = keyless || ring ? 0 : trie ? 8 : 4;
    attr.value_size = ring ? 0 : 4;
    attr.max_entries = ring ? 4096 : 4;
    attr.map_flags = trie || (type == BPF_MAP_TYPE_HASH && below(2)) ? BPF_F_NO_PREALLOC : 0;
    if (type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS)
      attr.inner_map_fd = uint32_t(fd_of(t, ObjectKind::Map));
    if (rarely()) {
      attr.btf_fd = uint32_t(fd_of(t, ObjectKind::Btf));
      attr.btf_key_type_id = attr.btf_value_type_id = 1;
    }
    sys(t, BPF_MAP_CREATE, attr);
  }

  void prog_load() {
    Task& t = task();
    std::vector<bpf_insn> insns;
    for (int reg = 1; reg <= int(below(3)); ++reg) append(insns, ld_map_fd(reg, fd_of(t, ObjectKind::Map)));
    if (below(4) == 0)  // a tail call: the prog array learns its programs' type
      insns = program(ld_map_fd(2, fd_of(t, ObjectKind::Map, BPF_MAP_TYPE_PROG_ARRAY)),
                      mov64_imm(3, int(below(4))), call_helper(12));
    if (!rarely()) append(insns, mov64_imm(0, 2));  // else r0 cannot be read: refused at the end
    append(insns, exit_insn());
    bpf_attr attr = prog_load_attr(below(4) ? BPF_PROG_TYPE_XDP : BPF_PROG_TYPE_SOCKET_FILTER, insns);
    sys(t, BPF_PROG_LOAD, attr);
  }

  void btf_load() {
    static const uint8_t kInt[] = {0x9f, 0xeb, 1, 0, 24, 0, 0,  0, 0, 0, 0, 0,   16,  0,   0,
                                   0,    16,   0, 0, 0,  5, 0,  0, 0, 1, 0, 0,   0,   0,   0,
                                   0,    1,    4, 0, 0,  0, 32, 0, 0, 1, 0, 'i', 'n', 't', 0};
    bpf_attr attr;
    attr.btf = user_ptr(kInt);
    attr.btf_size = sizeof kInt - (rarely() ? 4 : 0);
    sys(task(), BPF_BTF_LOAD, attr);
  }

  void update() {
    Task& t = task();
    const int fd = fd_of(t, ObjectKind::Map);
    const File* file = t.files.get(fd);
    const bool is_map = file && file->private_data && file->private_data->kind == ObjectKind::Map;
    const bpf_map_type type =
        is_map ? static_cast<const Map&>(*file->private_data).map_type : BPF_MAP_TYPE_UNSPEC;
    const ObjectKind holds = type == BPF_MAP_TYPE_PROG_ARRAY ? ObjectKind::Prog : ObjectKind::Map;
    const uint32_t key[2] = {uint32_t(below(6)), 0};
    uint8_t value[64] = {};
    const int32_t value_fd = fd_of(t, holds);
    std::memcpy(value, &value_fd, sizeof value_fd);
    bpf_attr attr;
    attr.map_fd = uint32_t(fd);
    attr.key = user_ptr(key);
    attr.value = user_ptr(value);
    const int cmds[] = {BPF_MAP_UPDATE_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_ELEM};
    const int cmd = cmds[below(std::size(cmds))];
    if (cmd == BPF_MAP_DELETE_ELEM) attr.value = 0;
    if (type == BPF_MAP_TYPE_QUEUE || type == BPF_MAP_TYPE_BLOOM_FILTER) attr.key = 0;
    sys(t, cmd, attr);
  }

  void pin() {
    Task& t = task();
    const std::string where = path();
    bpf_attr attr;
    attr.pathname = user_ptr(where.c_str());
    attr.bpf_fd = uint32_t(any_fd(t));
    sys(t, BPF_OBJ_PIN, attr);
  }
  void get() {
    const std::string where = path();
    bpf_attr attr;
    attr.pathname = user_ptr(where.c_str());
    sys(task(), BPF_OBJ_GET, attr);
  }
  void unlink() { count(s_.k.unlink(task(), path())); }
  void rename() { count(s_.k.rename(task(), path(), path())); }
  void directories() {
    const std::string where = kRoot + (below(2) ? "/d" : "/e");
    if (below(3))
      count(s_.k.mkdir(task(), where));
    else
      count(s_.k.rmdir(task(), where));
  }

  void fd_by_id() {
    constexpr int kCommands[] = {BPF_MAP_GET_FD_BY_ID, BPF_PROG_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID,
                                 BPF_BTF_GET_FD_BY_ID};
    constexpr int kNext[] = {BPF_MAP_GET_NEXT_ID, BPF_PROG_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID,
                             BPF_BTF_GET_NEXT_ID};
    const size_t kind = below(std::size(kNext));
    Task& t = task();
    bpf_attr attr, next;
    for (size_t skip = below(8) + 1; skip > 0; --skip) {
      if (!sys(t, kNext[kind], next)) break;
      attr.map_id = next.start_id = next.next_id;
    }
    sys(t, kCommands[kind], attr);
  }

  void link_create() {
    Task& t = task();
    bpf_attr attr;
    attr.link_create.prog_fd = uint32_t(fd_of(t, ObjectKind::Prog));
    attr.link_create.target_ifindex = uint32_t(below(2) + 1);
    attr.link_create.attach_type = BPF_XDP;
    sys(t, BPF_LINK_CREATE, attr);
  }
  void link_update() {
    Task& t = task();
    bpf_attr attr;
    attr.link_update.link_fd = uint32_t(fd_of(t, ObjectKind::Link));
    attr.link_update.new_prog_fd = uint32_t(fd_of(t, ObjectKind::Prog));
    sys(t, BPF_LINK_UPDATE, attr);
  }
  void link_detach() {
    Task& t = task();
    bpf_attr attr;
    attr.link_detach.link_fd = uint32_t(fd_of(t, ObjectKind::Link));
    sys(t, BPF_LINK_DETACH, attr);
  }
  void setlink() {
    Task& t = task();
    const int fd = below(2) ? fd_of(t, ObjectKind::Prog) : -1;
    count(s_.k.rtnl_setlink(t, build_setlink_xdp(int(below(2)) + 1, fd, below(2) ? 2 : 4)));
  }
  void test_run() {
    Task& t = task();
    const uint8_t packet[64] = {};
    bpf_attr attr;
    attr.test.prog_fd = uint32_t(fd_of(t, ObjectKind::Prog));
    attr.test.data_in = user_ptr(packet);
    attr.test.data_size_in = sizeof packet;
    sys(t, BPF_PROG_TEST_RUN, attr);
  }

  void spawn() {
    if (tasks_.size() < kMostTasks) tasks_.push_back(&s_.k.spawn("task"));
  }
  void fork() {
    if (tasks_.size() < kMostTasks) tasks_.push_back(&s_.k.fork(task()));
  }
  void exit() {
    if (tasks_.size() == 1) return;
    const size_t which = below(tasks_.size());
    s_.k.exit(*tasks_[which]);
    tasks_.erase(tasks_.begin() + ptrdiff_t(which));
  }
  void dup() {
    Task& t = task();
    count(s_.k.dup(t, any_fd(t)));
  }
  void close() {
    Task& t = task();
    do count(s_.k.close(t, any_fd(t)));
    while (t.files.slots().size() > kMostFds && below(8));
  }
  void hold() { machine().rcu.hold(); }
  void let_go() {
    machine().rcu.release();
    machine().rcu.grace_period();
  }

  void wipe(Task& task, const std::string& directory) {
    for (const std::string& name : *s_.k.listdir(task, directory)) {
      const std::string path = directory + "/" + name;
      if (s_.k.unlink(task, path)) continue;
      wipe(task, path);
      (void)s_.k.rmdir(task, path);
    }
  }

  Sim s_;
  std::mt19937_64 random_;
  std::vector<Task*> tasks_;
};

void Lives::step() {
  using Act = void (Lives::*)();
  static constexpr std::pair<int, Act> kActs[] = {
      {8, &Lives::map_create},  {7, &Lives::prog_load}, {2, &Lives::btf_load},    {14, &Lives::update},
      {4, &Lives::pin},         {3, &Lives::get},       {4, &Lives::unlink},      {1, &Lives::rename},
      {1, &Lives::directories}, {3, &Lives::fd_by_id},  {3, &Lives::link_create}, {2, &Lives::link_update},
      {1, &Lives::link_detach}, {1, &Lives::setlink},   {2, &Lives::test_run},    {1, &Lives::spawn},
      {1, &Lives::fork},        {2, &Lives::exit},      {3, &Lives::dup},         {20, &Lives::close},
      {1, &Lives::hold},        {2, &Lives::let_go},
  };
  static const int all = [] {
    int sum = 0;
    for (const auto& [weight, act] : kActs) sum += weight;
    return sum;
  }();
  int pick = int(below(size_t(all)));
  for (const auto& [weight, act] : kActs)
    if ((pick -= weight) < 0) return (this->*act)();
}

void Lives::end() {
  let_go();
  Task& last = s_.k.spawn("janitor");
  for (Task* task : tasks_) s_.k.exit(*task);
  wipe(last, kRoot);
  for (const int ifindex : {1, 2})
    for (const uint32_t mode : {2u, 4u}) (void)s_.k.rtnl_setlink(last, build_setlink_xdp(ifindex, -1, mode));
  let_go();
  tasks_ = {&last};
}

}  // namespace

TEST_CASE("however objects live and die, counters equal edges and nothing is left") {
  const char* asked = std::getenv("BPFSIM_STEPS");
  const uint64_t steps = asked ? std::strtoull(asked, nullptr, 10) : 20'000, judged = asked ? 100 : 1;
  constexpr uint64_t kSeed = 1, kALife = 5'000;
  Lives lives(kSeed);
  size_t memory = 0;  // what the machine keeps after its first life: run stacks, a packet for each device
  for (uint64_t step = 1; step <= steps; ++step) {
    lives.step();
    if (step % judged == 0) {
      const std::vector<std::string> wrong = lives.wrong();
      INFO("step " << step);
      for (const std::string& line : wrong) UNSCOPED_INFO(line);
      REQUIRE(wrong.empty());
    }
    if (step % kALife && step != steps) continue;
    lives.end();
    INFO("everything let go after step " << step);
    REQUIRE(lives.left() == std::vector<std::string>{});
    REQUIRE(lives.machine().rcu.waiting().empty());
    if (!memory) memory = lives.machine().arena.live_objects();
    REQUIRE(lives.machine().arena.live_objects() == memory);
  }
  CHECK(lives.succeeded > steps / 3);
  if (asked)
    WARN(steps << " steps from seed " << kSeed << ", " << lives.succeeded
               << " calls succeeded, nothing left");
}
