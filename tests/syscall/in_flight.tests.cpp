// While a command is under way the references that it holds itself are edges of the object graph too: at each
// event the counters are those of the edges. What is being counted up has one more, until it has its place.
#include "hook/attach.h"
#include "hook/hook.h"
#include "isa/opcodes.h"
#include "sim.h"
#include "syscall/rtnetlink.h"
#include "uapi/if_link.h"

using namespace bpfsim;

namespace {

struct Accountant final : Watcher {
  using Watcher::Watcher;
  void see(const Event& event) override {
    const auto* ref = dynamic_cast<const RefEvent*>(&event);
    const auto counted = ref && ref->delta > 0 ? machine_.objects.find(ref->serial) : machine_.objects.end();
    ++events;
    for (const std::string& line : object_graph(machine_).disagreements())
      if (counted == machine_.objects.end() || !line.starts_with(counted->second->label() + ":"))
        wrong.push_back((ref ? ref->cause.str() : std::string(event.kind())) + ": " + line);
  }
  int events = 0;
  std::vector<std::string> wrong;
};

struct Updates : Sim {
  long load(bpf_prog_type type, bpf_attach_type expected) {
    const std::vector<bpf_insn> insns = {mov64_imm(BPF_REG_0, 0), exit_insn()};
    bpf_attr attr = prog_load_attr(type, insns);
    attr.expected_attach_type = expected;
    return bpf(BPF_PROG_LOAD, attr);
  }
  // Watched: what it answers, and that no counter was wrong on the way.
  long update(long link, long prog, long old_prog) {
    bpf_attr attr;
    attr.link_update.link_fd = uint32_t(link);
    attr.link_update.new_prog_fd = uint32_t(prog);
    attr.link_update.old_prog_fd = uint32_t(old_prog);
    attr.link_update.flags = old_prog ? uint32_t(BPF_F_REPLACE) : 0;
    return watched([&] { return bpf(BPF_LINK_UPDATE, attr); });
  }
  long setlink(long prog, long expected) {
    return watched([&] {
      return -long(k.rtnl_setlink(t, build_setlink_xdp(2, int(prog), expected ? XDP_FLAGS_REPLACE : 0,
                                                       expected ? int(expected) : -1))
                       .err());
    });
  }
  template <class Call>
  long watched(Call call) {
    Accountant accountant(machine());
    const long ret = call();
    for (const std::string& line : accountant.wrong) UNSCOPED_INFO(line);
    CHECK(accountant.wrong.empty());
    CHECK(accountant.events > 4);
    return ret;
  }
};

}  // namespace

TEST_CASE("while a link gets another program, each reference has its holder at every event") {
  Updates s;
  (void)s.k.mkdir(s.t, "/sys/fs/cgroup/a");
  const long group = long(*s.k.open(s.t, "/sys/fs/cgroup/a")),
             netns = long(*s.k.open(s.t, "/proc/self/ns/net"));
  const long sockets = s.map_create(BPF_MAP_TYPE_SOCKMAP, 4, 4, 2);
  const struct {
    bpf_prog_type type;
    bpf_attach_type at;
    long target;
  } places[] = {
      {BPF_PROG_TYPE_XDP, BPF_XDP, 2},
      {BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS, 2},
      {BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS, group},
      {BPF_PROG_TYPE_FLOW_DISSECTOR, BPF_FLOW_DISSECTOR, netns},
      {BPF_PROG_TYPE_SK_SKB, BPF_SK_SKB_VERDICT, sockets},
  };
  for (const auto& place : places) {
    CAPTURE(place.type);
    const long first = s.load(place.type, place.at), second = s.load(place.type, place.at);
    const long link = s.link_create(first, place.target, place.at);
    REQUIRE(link > 0);
    CHECK(s.update(link, second, 0) == 0);
    CHECK(s.update(link, second, 0) == 0);  // has it already
    CHECK(s.update(link, first, second) == 0);
    CHECK(s.update(link, second, second) == minus(Errno::Perm));
    CHECK(s.update(link, group, 0) == minus(Errno::Inval));
    s.close(link), s.close(first), s.close(second);
  }
}

TEST_CASE("while rtnetlink attaches a program, each reference has its holder at every event") {
  Updates s;
  const long first = s.load(BPF_PROG_TYPE_XDP, BPF_XDP), second = s.load(BPF_PROG_TYPE_XDP, BPF_XDP);
  const long filter = s.load(BPF_PROG_TYPE_SOCKET_FILTER, bpf_attach_type(0));
  CHECK(s.setlink(first, 0) == 0);
  CHECK(s.setlink(second, first) == 0);
  CHECK(s.setlink(first, first) == minus(Errno::Exist));
  CHECK(s.setlink(first, filter) == minus(Errno::Inval));
  CHECK(s.setlink(-1, 0) == 0);
}
