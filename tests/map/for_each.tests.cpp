// bpf_for_each_map_elem from a program: the callback adds up values into the caller's stack.
#include "isa/insn.h"
#include "kernel.h"
#include "map/view.h"
#include "run/engine.h"
#include "run/select_runtime.h"
#include "sim.h"

using namespace bpfsim;

namespace {

// r0 = bpf_for_each_map_elem(map, callback, &sum, flags), then exit with sum * 1000 + r0 (or r0 if negative).
// The callback adds *(u32 *)value to sum, and answers `answer`; with `erase` it deletes the key first.
int64_t for_each(Sim& sim, Map& map, int32_t answer, uint64_t flags = 0, bool erase = false) {
  Prog prog(sim.machine());
  std::vector<bpf_insn> insns = {st_mem(BPF_DW, 10, -8, 0)};
  auto add = [&](std::initializer_list<bpf_insn> more) { insns.insert(insns.end(), more); };
  auto imm64 = [&](uint8_t dst, uint64_t value) {
    bpf_insn low{}, high{};
    low.code = BPF_LD | BPF_IMM | BPF_DW;
    low.dst_reg = dst;
    low.imm = int32_t(uint32_t(value));
    high.imm = int32_t(uint32_t(value >> 32));
    add({low, high});
  };
  constexpr uint64_t kCallback = 15;
  imm64(1, map.handle);
  imm64(2, kTextBase + 8 * kCallback);
  add({mov64_reg(3, 10), alu64_imm(BPF_ADD, 3, -8), mov64_imm(4, int32_t(flags)),
       call_helper(BPF_FUNC_for_each_map_elem), jmp_imm(BPF_JSLT, 0, 0, 3), ldx_mem(BPF_DW, 1, 10, -8),
       alu64_imm(BPF_MUL, 1, 1000), alu64_reg(BPF_ADD, 0, 1), exit_insn(), exit_insn()});
  REQUIRE(insns.size() == kCallback);
  add({ldx_mem(BPF_W, 0, 3, 0), ldx_mem(BPF_DW, 5, 4, 0), alu64_reg(BPF_ADD, 5, 0),
       stx_mem(BPF_DW, 4, 5, 0)});
  if (erase) add({call_helper(BPF_FUNC_map_delete_elem)});
  add({mov64_imm(0, answer), exit_insn()});
  prog.insnsi = insns;
  REQUIRE(bpf_prog_select_runtime(prog));
  RunOutcome outcome = bpf_prog_run(sim.machine(), prog, 0);
  CHECK(outcome.stop == RunStop::Returned);
  return int64_t(outcome.value);
}

}  // namespace

TEST_CASE("A callback visits every element of an array or hash, until it answers 1") {
  for (bpf_map_type type : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH}) {
    Sim sim;
    long fd = sim.map_create(type, 4, 4, 4);
    for (uint32_t key = 0; key < 4; ++key) {
      uint32_t value = 1u << key;
      REQUIRE(sim.map_update(fd, &key, &value) == 0);
    }
    INFO("type " << type);
    CHECK(for_each(sim, sim.map(fd), 0) == 15 * 1000 + 4);
    CHECK(for_each(sim, sim.map(fd), 1) % 1000 == 1);
    CHECK(for_each(sim, sim.map(fd), 0, 1) == minus(Errno::Inval));
  }
}

TEST_CASE("A callback of a per-CPU map gets its own CPU's values") {
  for (bpf_map_type type : {BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH}) {
    Sim sim;
    long fd = sim.map_create(type, 4, 4, 1);
    uint32_t key = 0;
    uint64_t values[2] = {5, 7};
    REQUIRE(sim.machine().cpus == 2);
    REQUIRE(sim.map_update(fd, &key, values) == 0);
    CHECK(for_each(sim, sim.map(fd), 0) == 5 * 1000 + 1);
  }
}

TEST_CASE("A callback may delete the elements that it visits") {
  for (uint32_t flags : {0u, uint32_t(BPF_F_NO_PREALLOC)}) {
    Sim sim;
    long fd = sim.map_create(BPF_MAP_TYPE_HASH, 4, 4, 100, flags);
    for (uint32_t key = 0; key < 100; ++key) REQUIRE(sim.map_update(fd, &key, &key) == 0);
    CHECK(for_each(sim, sim.map(fd), 0, 0, true) == 4950 * 1000 + 100);
    uint32_t next;
    CHECK(sim.map_get_next_key(fd, nullptr, &next) == minus(Errno::NoEnt));
  }
}
