// Models: include/linux/bpf_verifier.h (struct bpf_verifier_env) (Linux 6.18)
//
// What all rooms of the verifier share while one program is checked: the program, what was learnt of each
// instruction and subprogram, the states kept for pruning, and the log. A check that refuses says so in one
// line: `return reject(env, Errno::Access, "R%d !read_ok\n", regno);` writes the kernel's message and gives
// the errno; MUST(check(...)) passes a refusal on. What is not modelled is refused by not_modelled(), whose
// message begins with "bpfsim: not modelled yet: " so that nobody takes it for the kernel's verdict.
#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "base/machine.h"
#include "object/ops.h"
#include "uapi/bpf_attr.h"
#include "uapi/btf.h"
#include "uapi/gates.h"
#include "verifier/log.h"
#include "verifier/state.h"

namespace bpfsim {

constexpr uint32_t BPF_MAX_SUBPROGS = 256;
constexpr uint32_t MAX_USED_MAPS = 64;
constexpr uint32_t MAX_USED_BTFS = 64;
constexpr uint32_t BPF_COMPLEXITY_LIMIT_STATES = 64;

enum : uint8_t {
  BPF_ALU_SANITIZE_SRC = 1 << 0,
  BPF_ALU_SANITIZE_DST = 1 << 1,
  BPF_ALU_NEG_VALUE = 1 << 2,
  BPF_ALU_NON_POINTER = 1 << 3,
  BPF_ALU_IMMEDIATE = 1 << 4,
};

// What the passes leave behind for each instruction. Grows and shrinks with the program.
struct bpf_insn_aux_data {
  uint32_t ptr_type = NOT_INIT;  // loads and stores: through which type of pointer
  uint32_t orig_idx = 0;
  Map* map_ptr = nullptr;  // calls: the one map that every path passes
  bool map_ptr_poisoned = false, map_ptr_unpriv = false;
  uint8_t alu_state = 0;
  uint32_t alu_limit = 0;
  uint32_t map_index = 0;  // ld_imm64: index into used_maps
  uint32_t map_off = 0;    // ld_imm64 of a map value: offset in it
  int ctx_field_size = 0;
  uint32_t seen = 0;  // the pass that processed it; 0: dead code
  uint32_t scc = 0;   // strong component of the control flow, 0 if alone
  uint16_t live_regs_before = 0;
  bool nospec : 1 = false;         // must not be executed speculatively
  bool nospec_result : 1 = false;  // a barrier must follow
  bool zext_dst : 1 = false;       // its 32-bit result is read as 64 bits
  bool is_iter_next : 1 = false;
  bool jmp_point : 1 = false;         // enters the jump history
  bool prune_point : 1 = false;       // states are compared here
  bool force_checkpoint : 1 = false;  // and always kept
  bool calls_callback : 1 = false;
  bool fastcall_pattern : 1 = false;
  bool newer_form : 1 = false;  // this kernel has the opcode, but not with this offset, immediate or source
  uint8_t fastcall_spills_num : 3 = 0;
};

struct bpf_subprog_arg_info {
  uint32_t arg_type = 0;  // ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_PTR_TO_MEM
  uint32_t mem_size = 0;
};

struct bpf_subprog_info {
  uint32_t start = 0;            // entry; the entry after the last one holds the program's length
  uint32_t postorder_start = 0;  // into cfg.insn_postorder
  uint16_t stack_depth = 0;
  int16_t fastcall_stack_off = 0;
  bool has_tail_call = false, tail_call_reachable = false, has_ld_abs = false;
  bool is_cb = false, is_async_cb = false, is_exception_cb = false;
  bool keep_fastcall_stack = false;
  bool changes_pkt_data = false, might_sleep = false;
  bool args_cached = false;
  uint32_t arg_cnt = 0;
  bpf_subprog_arg_info args[5];
  std::string name;
};

struct bpf_func_info_aux {
  uint32_t linkage = BTF_FUNC_STATIC;
  bool called = false, verified = false;
  bool unreliable = false;  // its BTF is not what its callers pass
};

// Numbers that are being followed backwards to where they were made: registers and stack slots, by frame.
struct backtrack_state {
  uint32_t frame = 0;  // the walk is in
  struct Wanted {
    uint32_t regs = 0;
    uint64_t slots = 0;
  } wanted[MAX_CALL_FRAMES];
};

// Ids of an old state and those of the current one that stand for them.
struct bpf_idmap {
  uint32_t tmp_id_gen = 0;
  uint32_t count = 0;
  struct Pair {
    uint32_t old, cur;
  } map[(MAX_BPF_REG + MAX_BPF_STACK / BPF_REG_SIZE) * MAX_CALL_FRAMES];
};

struct BpfLiveness;  // liveness.h
struct SccVisits;    // prune.h

// What differs between kernel versions.
struct VerifierLimits {
  uint32_t insns;    // processed instructions
  uint32_t jmp_seq;  // paths waiting
  bool loops;        // back-edges may be
};
VerifierLimits verifier_limits(Version version);

struct bpf_verifier_env {
  bpf_verifier_env(Machine& machine, Prog& prog, const bpf_attr& attr);
  ~bpf_verifier_env();
  bpf_verifier_env(const bpf_verifier_env&) = delete;

  Machine& machine;
  Prog& prog;
  const bpf_attr& attr;
  UserAttr uattr = 0;  // where the caller has it
  const VerifierOps* ops = nullptr;
  VerifierLimits limits;

  // Who loads, and how.
  bool bpf_capable = false, allow_ptr_leaks = false;
  bool allow_uninit_stack = false, allow_uninit_read = false;  // unwritten slots: written by chance, read
  bool bypass_spec_v1 = false, bypass_spec_v4 = false;
  bool tracks_precision = false;  // else every scalar's value matters when states are compared
  bool strict_alignment = false, test_state_freq = false, test_reg_invariants = false;

  // The program and what is known of its parts.
  std::vector<bpf_insn>& insns;  // prog.insnsi
  std::vector<bpf_insn_aux_data> insn_aux_data;
  std::vector<bpf_subprog_info> subprog_info;  // subprog_cnt entries and one that ends the last
  std::vector<bpf_func_info_aux> func_info_aux;
  uint32_t subprog_cnt = 0;
  std::vector<Map*> used_maps;  // each holds a reference of ours until the program takes it over
  std::vector<Btf*> used_btfs;
  struct {
    std::vector<uint32_t> insn_postorder;  // instructions in post-order, grouped by subprogram
  } cfg;
  uint32_t scc_cnt = 0;
  bool seen_direct_write = false;

  // The search.
  uint32_t insn_idx = 0;
  int prev_insn_idx = -1;
  std::unique_ptr<bpf_verifier_state> cur_state;
  std::vector<bpf_verifier_stack_elem> stack;                   // paths to explore, the newest last
  std::vector<std::unique_ptr<bpf_verifier_state>> state_pool;  // done with, to be filled again
  std::vector<bpf_verifier_state_list*> explored_states;  // heads of lists, by instruction and call site
  bpf_verifier_state_list* free_list = nullptr;           // forgotten, but still somebody's parent
  std::unique_ptr<SccVisits> scc_visits;
  std::shared_ptr<BpfLiveness> liveness;
  backtrack_state bt;
  int cur_hist_ent = -1;  // index into the current state's jmp_history, -1: none for this instruction
  bpf_idmap idmap_scratch;
  uint32_t id_gen = 0;
  bool explore_alu_limits = false;
  bpf_reg_state fake_reg[2];
  uint64_t next_path = 0;  // names paths for the recorder

  // Statistics.
  uint32_t pass_cnt = 0;
  uint32_t prev_insn_processed = 0, insn_processed = 0;
  uint32_t prev_jmps_processed = 0, jmps_processed = 0;
  uint64_t verification_time = 0;
  uint32_t max_states_per_insn = 0, total_states = 0, peak_states = 0, longest_mark_read_walk = 0;
  uint32_t free_list_size = 0, explored_states_size = 0, num_backedges = 0;

  // The log, and what changed since it last printed the state.
  bpf_verifier_log log;
  uint32_t scratched_regs = 0;
  uint64_t scratched_stack_slots = 0;
  uint64_t prev_log_pos = 0, prev_insn_print_pos = 0;
  const bpf_line_info* prev_linfo = nullptr;
  std::string refusal;                   // the last message of reject(), without its newline
  const char* refused_in = "bpf_check";  // the function that gave it

  uint32_t insn_cnt() const { return uint32_t(insns.size()); }
  bpf_insn_aux_data& cur_aux() { return insn_aux_data[insn_idx]; }
  bpf_func_state& cur_func() { return cur_state->cur(); }
  std::array<bpf_reg_state, MAX_BPF_REG>& cur_regs() { return cur_state->cur().regs; }

  void mark_reg_scratched(uint32_t regno) { scratched_regs |= 1u << regno; }
  void mark_stack_slot_scratched(uint32_t spi) { scratched_stack_slots |= 1ull << spi; }
  bool state_scratched() const { return scratched_regs || scratched_stack_slots; }
  void mark_verifier_state_clean() { scratched_regs = 0, scratched_stack_slots = 0; }
  void mark_verifier_state_scratched() { scratched_regs = ~0u, scratched_stack_slots = ~0ull; }
};

// What the kernel prints, where it prints it.
[[gnu::format(printf, 2, 3)]] void verbose(bpf_verifier_env& env, const char* format, ...);
// Who refuses: an environment becomes it wherever reject() and its like are called with one.
struct Refusing {
  Refusing(bpf_verifier_env& env, std::source_location where = std::source_location::current())
      : env(env), function(where.function_name()) {}
  bpf_verifier_env& env;
  const char* function;
};
// Prints and refuses.
[[gnu::format(printf, 3, 4)]] [[nodiscard]] Errno reject(Refusing by, Errno err, const char* format, ...);
// Refuses what the kernel may well accept.
[[gnu::format(printf, 2, 3)]] [[nodiscard]] Errno not_modelled(Refusing by, const char* format, ...);
// Prints "verifier bug: ..." and refuses with EFAULT: the kernel's own words where its checks contradict each
// other.
[[gnu::format(printf, 2, 3)]] [[nodiscard]] Errno verifier_bug(Refusing by, const char* format, ...);

#define MUST(...)                                                                                 \
  do {                                                                                            \
    if (::bpfsim::Errno must_err = (__VA_ARGS__); must_err != ::bpfsim::Errno::None) [[unlikely]] \
      return must_err;                                                                            \
  } while (0)

inline bool log_level(const bpf_verifier_env& env) { return env.log.level & BPF_LOG_LEVEL; }
inline bool log_level2(const bpf_verifier_env& env) { return env.log.level & BPF_LOG_LEVEL2; }

// After check_subprogs: the subprogram that holds the instruction; the number of the one that starts there,
// or -1.
uint32_t bpf_find_containing_subprog(const bpf_verifier_env& env, uint32_t insn_idx);
int find_subprog(const bpf_verifier_env& env, uint32_t start);
bool subprog_is_global(const bpf_verifier_env& env, uint32_t subprog);

// The instructions that may follow: at most two, the fall-through first. Returns how many.
int bpf_insn_successors(const std::vector<bpf_insn>& insns, uint32_t idx, uint32_t succ[2]);

}  // namespace bpfsim
