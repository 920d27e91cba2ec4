// Models: include/linux/bpf_verifier.h (Linux 6.18)
//
// What the verifier knows at one point of one path: the registers and stack of each call frame, and the
// references held. The names are the kernel's; the layout is ours: what is known of a number is the base
// class Scalar (bounds.h), stacks and references are vectors, and a state that is kept for pruning is a
// bpf_verifier_state_list, so that `parent` needs no cast.
#pragma once

#include <array>
#include <iterator>
#include <memory>
#include <vector>

#include "isa/insn.h"
#include "object/reg_type.h"
#include "verifier/bounds.h"

namespace bpfsim {

struct Map;
struct Btf;

constexpr int BPF_REG_SIZE = 8;
constexpr uint32_t MAX_CALL_FRAMES = 8;
constexpr int CALLER_SAVED_REGS = 6;  // R0 to R5
constexpr int BPF_MAIN_FUNC = -1;
constexpr int DEF_NOT_SUBREG = 0;
constexpr int BPF_MAX_VAR_OFF = 1 << 29;
constexpr int BPF_MAX_VAR_SIZ = 1 << 29;
constexpr int MAX_PACKET_OFF = 0xffff;
constexpr int AT_PKT_END = -1,
              BEYOND_PKT_END = -2;  // values of range after a comparison with the packet's end

// Scalars that differ by a known constant share an id: the upper bits say that `off` is that constant.
constexpr uint32_t BPF_ADD_CONST64 = 1u << 31, BPF_ADD_CONST32 = 1u << 30;
constexpr uint32_t BPF_ADD_CONST = BPF_ADD_CONST64 | BPF_ADD_CONST32;

enum bpf_dynptr_type : uint8_t {
  BPF_DYNPTR_TYPE_INVALID,
  BPF_DYNPTR_TYPE_LOCAL,
  BPF_DYNPTR_TYPE_RINGBUF,
  BPF_DYNPTR_TYPE_SKB,
  BPF_DYNPTR_TYPE_XDP,
  BPF_DYNPTR_TYPE_SKB_META,
};
enum bpf_iter_state : uint8_t { BPF_ITER_STATE_INVALID, BPF_ITER_STATE_ACTIVE, BPF_ITER_STATE_DRAINED };

struct bpf_reg_state : Scalar {
  uint32_t type = NOT_INIT;  // bpf_reg_type with flags
  int32_t off = 0;  // fixed part of a pointer's offset; of a linked scalar, the constant between the two

  union {
    struct {
      uint64_t raw1, raw2;
    } raw = {0, 0};
    int32_t range;  // packet pointers: bytes known to lie in the packet, or AT_PKT_END, BEYOND_PKT_END
    struct {        // CONST_PTR_TO_MAP, PTR_TO_MAP_KEY, PTR_TO_MAP_VALUE
      Map* map_ptr;
      uint32_t map_uid;  // not zero for an inner map: which lookup it came from
    };
    struct {  // PTR_TO_BTF_ID
      Btf* btf;
      uint32_t btf_id;
    };
    struct {  // PTR_TO_MEM
      uint32_t mem_size;
      uint32_t dynptr_id;
    };
    struct {  // a stack slot that holds a dynptr
      bpf_dynptr_type type;
      bool first_slot;
    } dynptr;
    struct {  // a stack slot that holds an iterator
      Btf* btf;
      uint32_t btf_id;
      uint32_t state : 2;  // bpf_iter_state
      uint32_t depth : 30;
    } iter;
    uint32_t subprogno;  // PTR_TO_FUNC
  };

  uint32_t id = 0;          // shared by what came from one lookup, one packet pointer, one scalar
  uint32_t ref_obj_id = 0;  // the acquired reference that this pointer, or what it was cast from, holds
  uint32_t frameno = 0;     // PTR_TO_STACK: whose stack
  int32_t subreg_def = DEF_NOT_SUBREG;  // 1 + the instruction that wrote only the low half
  bool precise = false;                 // a scalar whose bounds a verdict rests on

  Scalar& scalar() { return *this; }
  const Scalar& scalar() const { return *this; }
  bool is_null() const { return type == SCALAR_VALUE && tnum_equals_const(var_off, 0); }
  bool is_scalar_const(bool subreg32 = false) const { return type == SCALAR_VALUE && is_const(subreg32); }
};

// The kernel compares by memcmp the fields before `var_off`, or all before `id`.
inline bool same_kind(const bpf_reg_state& a, const bpf_reg_state& b) {
  return a.type == b.type && a.off == b.off && a.raw.raw1 == b.raw.raw1 && a.raw.raw2 == b.raw.raw2;
}
inline bool same_value(const bpf_reg_state& a, const bpf_reg_state& b) {
  return same_kind(a, b) && a.scalar() == b.scalar();
}

enum bpf_stack_slot_type : uint8_t {
  STACK_INVALID,  // nothing stored
  STACK_SPILL,    // a register
  STACK_MISC,     // bytes of the program's
  STACK_ZERO,     // bytes known to be 0
  STACK_DYNPTR,
  STACK_ITER,
  STACK_IRQ_FLAG,
};

struct bpf_stack_state {
  bpf_reg_state spilled_ptr;
  std::array<bpf_stack_slot_type, BPF_REG_SIZE> slot_type{};

  bpf_stack_slot_type top() const { return slot_type[BPF_REG_SIZE - 1]; }
  bool is_spilled_reg() const { return top() == STACK_SPILL; }
  bool is_spilled_scalar_reg() const { return is_spilled_reg() && spilled_ptr.type == SCALAR_VALUE; }
  bool is_spilled_scalar_reg64() const {
    return slot_type[0] == STACK_SPILL && spilled_ptr.type == SCALAR_VALUE;
  }
  bool is_special() const {
    return top() == STACK_SPILL || top() == STACK_DYNPTR || top() == STACK_ITER || top() == STACK_IRQ_FLAG;
  }
};

enum ref_state_type : uint8_t {
  REF_TYPE_PTR = 1 << 1,
  REF_TYPE_IRQ = 1 << 2,
  REF_TYPE_LOCK = 1 << 3,
  REF_TYPE_RES_LOCK = 1 << 4,
  REF_TYPE_RES_LOCK_IRQ = 1 << 5,
};

struct bpf_reference_state {
  ref_state_type type = REF_TYPE_PTR;
  uint32_t id = 0;
  int insn_idx = 0;  // where it was acquired
  void* ptr = nullptr;
};

struct bpf_retval_range {
  int32_t minval = 0, maxval = 0;
};

struct bpf_func_state {
  std::array<bpf_reg_state, MAX_BPF_REG> regs;
  int callsite = BPF_MAIN_FUNC;  // the call that came here
  uint32_t frameno = 0;
  uint32_t subprogno = 0;
  uint32_t async_entry_cnt = 0;
  bpf_retval_range callback_ret_range;
  bool in_callback_fn = false, in_async_callback_fn = false, in_exception_callback_fn = false;
  uint32_t callback_depth = 0;
  std::vector<bpf_stack_state> stack;  // stack[0] is fp-8, stack[1] fp-16, ...

  int allocated_stack() const { return int(stack.size()) * BPF_REG_SIZE; }
  int nr_slots() const { return int(stack.size()); }
};

// Flags of one instruction in the history: which stack slot it touched, and whether an operand pointed to the
// stack.
enum : uint32_t {
  INSN_F_FRAMENO_MASK = 0x7,
  INSN_F_SPI_MASK = 0x3f,
  INSN_F_SPI_SHIFT = 3,
  INSN_F_STACK_ACCESS = 1 << 9,
  INSN_F_DST_REG_STACK = 1 << 10,
  INSN_F_SRC_REG_STACK = 1 << 11,
};

// Registers and slots that one branch narrowed together. What finds no room is not linked any more.
struct linked_reg {
  uint8_t frameno;
  uint8_t regno : 7;  // or slot
  bool is_reg : 1;
};
struct linked_regs {
  uint8_t cnt = 0;
  linked_reg entries[6] = {};

  bool push(linked_reg reg) {
    if (cnt == std::size(entries)) return false;
    entries[cnt++] = reg;
    return true;
  }
};

struct bpf_jmp_history_entry {
  uint32_t idx;
  uint32_t prev_idx : 20, flags : 12;
  linked_regs linked;
};

struct bpf_verifier_state_list;

struct bpf_verifier_state {
  std::array<std::unique_ptr<bpf_func_state>, MAX_CALL_FRAMES> frame;
  bpf_verifier_state_list* parent = nullptr;
  std::vector<bpf_reference_state> refs;
  uint32_t branches = 0;  // paths from here that are not yet explored; 0: this state may prune
  uint32_t insn_idx = 0;
  uint32_t curframe = 0;
  uint32_t active_locks = 0, active_preempt_locks = 0, active_irq_id = 0, active_lock_id = 0;
  void* active_lock_ptr = nullptr;
  bool active_rcu_lock = false;
  bool speculative = false;
  bool in_sleepable = false;
  bool cleaned = false;  // what is dead here was forgotten
  uint32_t first_insn_idx = 0, last_insn_idx = 0;
  bpf_verifier_state* equal_state = nullptr;
  std::vector<bpf_jmp_history_entry> jmp_history;  // from first to last
  uint32_t dfs_depth = 0, callback_unroll_depth = 0, may_goto_depth = 0;
  uint64_t path = 0;  // which path of the search this is, for the recorder

  bpf_func_state& cur() { return *frame[curframe]; }
  const bpf_func_state& cur() const { return *frame[curframe]; }
};

// A state kept at an instruction: later paths that arrive there no worse are pruned.
struct bpf_verifier_state_list : bpf_verifier_state {
  bpf_verifier_state_list* next = nullptr;
  bpf_verifier_state_list** pprev = nullptr;
  uint32_t miss_cnt = 0, hit_cnt = 0;
  bool in_free_list = false;
};

// A path to explore later.
struct bpf_verifier_stack_elem {
  std::unique_ptr<bpf_verifier_state> st;
  uint32_t insn_idx = 0;
  int prev_insn_idx = 0;
  uint64_t log_pos = 0;
};

void copy_func_state(bpf_func_state& dst, const bpf_func_state& src);
void copy_verifier_state(bpf_verifier_state& dst, const bpf_verifier_state& src);
void init_func_state(bpf_func_state& state, int callsite, uint32_t frameno, uint32_t subprogno);

// Where frame `frame` of the state stands: at the state's instruction, or at the call into the next frame.
inline uint32_t frame_insn_idx(const bpf_verifier_state& st, uint32_t frame) {
  return frame == st.curframe ? st.insn_idx : uint32_t(st.frame[frame + 1]->callsite);
}

// Every register and spilled register of every frame.
template <class F>
void for_each_reg_in_vstate(bpf_verifier_state& vstate, F&& f) {
  for (uint32_t i = 0; i <= vstate.curframe; i++) {
    bpf_func_state& state = *vstate.frame[i];
    for (bpf_reg_state& reg : state.regs) f(reg);
    for (bpf_stack_state& slot : state.stack)
      if (slot.is_spilled_reg()) f(slot.spilled_ptr);
  }
}

inline bool type_is_pkt_pointer(uint32_t type) {
  return base_type(type) == PTR_TO_PACKET || base_type(type) == PTR_TO_PACKET_META;
}
inline bool type_is_sk_pointer(uint32_t type) {
  return type == PTR_TO_SOCKET || type == PTR_TO_SOCK_COMMON || type == PTR_TO_TCP_SOCK ||
         type == PTR_TO_XDP_SOCK;
}
inline bool reg_is_pkt_pointer_any(const bpf_reg_state& reg) {
  return type_is_pkt_pointer(reg.type) || reg.type == PTR_TO_PACKET_END;
}
// A packet pointer that stands at the packet's start.
inline bool reg_is_init_pkt_pointer(const bpf_reg_state& reg, bpf_reg_type which) {
  return reg.type == uint32_t(which) && reg.id == 0 && reg.off == 0 && tnum_equals_const(reg.var_off, 0);
}

}  // namespace bpfsim
