// What a program type may do with its context, judged by the live kernel: every offset, every size, load and
// store; and the instructions that each access becomes, byte for byte.
#include "catch.h"
#include "support.h"
#include "uapi/context.h"
#include "uapi/info.h"
#include "uapi/tables.h"

using namespace bpfsim;

static const int kSizes[] = {BPF_B, BPF_H, BPF_W, BPF_DW};

static bool sim_allows(Prog& prog, int off, int size, bpf_access_type type) {
  InsnAccessAux info;
  return verifier_ops(prog.type)->is_valid_access(off, bpf_size_to_bytes(uint8_t(size)), type, prog, info);
}

static std::vector<bpf_insn> one_access(int off, int size, bpf_access_type type, int dst = 2) {
  return type == BPF_READ ? program(ldx_mem(size, dst, 1, off), mov64_imm(0, 0), exit_insn())
                          : program(mov64_imm(0, 0), stx_mem(size, 1, 0, off), exit_insn());
}

TEST_CASE("The same context accesses are allowed as on the live kernel") {
  LIVE_KERNEL_OR_SKIP();
  Kernel kernel(small_machine());
  for (bpf_prog_type type : {BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS}) {
    Prog prog(kernel.machine());
    prog.type = type;
    int limit = type == BPF_PROG_TYPE_XDP ? 32 : 200;
    for (int off = 0; off < limit; ++off) {
      for (int size : kSizes) {
        for (bpf_access_type access : {BPF_READ, BPF_WRITE}) {
          bool writes_tstamp = type == BPF_PROG_TYPE_SCHED_CLS && access == BPF_WRITE && off == 152;
          if (writes_tstamp) continue;  // not modelled yet
          long fd = live_load(type, one_access(off, size, access));
          live::close_fd(fd);
          INFO("type " << type << " off " << off << " size " << bpf_size_to_bytes(uint8_t(size)) << " access "
                       << access);
          CHECK(sim_allows(prog, off, size, access) == (fd >= 0));
        }
      }
    }
  }
}

static std::vector<bpf_insn> live_xlated(long fd) {
  bpf_prog_info info = {};
  std::vector<bpf_insn> insns(64);
  info.xlated_prog_len = uint32_t(insns.size() * sizeof(bpf_insn));
  info.xlated_prog_insns = user_ptr(insns.data());
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = user_ptr(&info);
  if (live::sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr) < 0) return {};
  insns.resize(info.xlated_prog_len / sizeof(bpf_insn));
  return insns;
}

TEST_CASE("Each access becomes the instructions that the live kernel makes of it") {
  LIVE_KERNEL_OR_SKIP();
  Kernel kernel(small_machine());
  int compared = 0;
  for (bpf_prog_type type : {BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS}) {
    Prog prog(kernel.machine());
    prog.type = type;
    int limit = type == BPF_PROG_TYPE_XDP ? 24 : 192;
    for (int off = 0; off < limit; off += 4) {
      for (bpf_access_type access : {BPF_READ, BPF_WRITE}) {
        for (int dst : {2, 1}) {
          bool long_field = type != BPF_PROG_TYPE_XDP && (off == 152 || off == 168 || off == 184);
          int size = type != BPF_PROG_TYPE_XDP && off == 180 ? BPF_B : long_field ? BPF_DW : BPF_W;
          if (!sim_allows(prog, off, size, access) || (access == BPF_WRITE && dst == 1)) continue;
          auto insns = one_access(off, size, access, dst);
          long fd = live_load(type, insns);
          REQUIRE(fd >= 0);
          std::vector<bpf_insn> live = live_xlated(fd);
          live::close_fd(fd);
          INFO("type " << type << " off " << off << " access " << access << " dst " << dst);
          CHECK(rewrite_ctx(prog, insns, 1) == live);
          ++compared;
        }
      }
    }
  }
  CHECK(compared > 70);
}

TEST_CASE("A program type has both of its tables, or is not modelled and has none") {
  int modelled = 0;
  for (const ProgTypeRow& row : prog_types()) {
    CHECK((verifier_ops(row.number) == nullptr) == (prog_ops(row.number) == nullptr));
    modelled += verifier_ops(row.number) != nullptr;
  }
  CHECK(modelled >= 10);
  CHECK(verifier_ops(bpf_prog_type(999)) == nullptr);
}

TEST_CASE("Helpers come to a program type with the version") {
  struct {
    Version version;
    bpf_func_id id;
    bpf_prog_type type;
    bool there;
  } const cases[] = {
      {{6, 18}, BPF_FUNC_map_lookup_elem, BPF_PROG_TYPE_XDP, true},
      {{4, 14}, BPF_FUNC_map_lookup_elem, BPF_PROG_TYPE_XDP, true},
      {{4, 14}, BPF_FUNC_map_push_elem, BPF_PROG_TYPE_XDP, false},
      {{4, 20}, BPF_FUNC_map_push_elem, BPF_PROG_TYPE_XDP, true},
      {{6, 18}, BPF_FUNC_xdp_adjust_head, BPF_PROG_TYPE_SOCKET_FILTER, false},
      {{6, 1}, BPF_FUNC_get_current_pid_tgid, BPF_PROG_TYPE_XDP, false},
      {{6, 12}, BPF_FUNC_get_current_pid_tgid, BPF_PROG_TYPE_XDP, true},
      {{6, 18}, BPF_FUNC_csum_diff, BPF_PROG_TYPE_SOCKET_FILTER, false},
      {{6, 18}, BPF_FUNC_csum_diff, BPF_PROG_TYPE_SCHED_CLS, true},
      {{6, 18}, BPF_FUNC_probe_read, BPF_PROG_TYPE_XDP, false},
  };
  for (auto& c : cases) {
    MachineOptions options = small_machine();
    options.version = c.version;
    Kernel kernel(options);
    Prog prog(kernel.machine());
    prog.type = c.type;
    INFO(c.version.str() << " helper " << c.id);
    CHECK((verifier_ops(c.type)->get_func_proto(c.id, prog) != nullptr) == c.there);
  }
}
