// Models: kernel/bpf/verifier.c, check_stack_read() and check_stack_write() (Linux 6.18)
//
// See stack.h. Offsets count down from the frame pointer: byte fp-1 is byte 0 of slot 0, so that the highest
// byte of a slot, slot_type[7], is its lowest address and the first byte of a little-endian value. Not
// modelled yet: dynptrs, iterators and irq flags in slots.
#include "verifier/stack.h"

#include "uapi/gates.h"
#include "verifier/args.h"
#include "verifier/backtrack.h"
#include "verifier/liveness.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {
bool is_bpf_st_mem(const bpf_insn& insn) {
  return BPF_CLASS(insn.code) == BPF_ST && BPF_MODE(insn.code) == BPF_MEM;
}

bool is_spillable_regtype(uint32_t type) {
  switch (base_type(type)) {
    case NOT_INIT:
    case SCALAR_VALUE:
    case PTR_TO_TP_BUFFER:
    case CONST_PTR_TO_DYNPTR: return false;
    default: return true;
  }
}

void grow_stack_state(bpf_verifier_env& env, bpf_func_state& state, int64_t size) {
  size_t slots = size_t((size + BPF_REG_SIZE - 1) / BPF_REG_SIZE);
  if (size <= 0 || state.stack.size() >= slots) return;
  state.stack.resize(slots);
  uint16_t& depth = env.subprog_info[state.subprogno].stack_depth;
  depth = std::max<uint16_t>(depth, uint16_t(slots * BPF_REG_SIZE));
}

// Stores a register as a spill of `size` bytes; bytes above it in the slot lose what they were.
void save_register_state(bpf_func_state& state, int spi, const bpf_reg_state& reg, int size) {
  bpf_stack_state& slot = state.stack[size_t(spi)];
  slot.spilled_ptr = reg;
  int i = BPF_REG_SIZE;
  for (; i > BPF_REG_SIZE - size; i--) slot.slot_type[size_t(i) - 1] = STACK_SPILL;
  for (; i; i--) {
    bpf_stack_slot_type& type = slot.slot_type[size_t(i) - 1];
    if (type != STACK_ZERO && type != STACK_INVALID) type = STACK_MISC;
  }
}

void scrub_spilled_slot(bpf_stack_state& slot) {
  for (bpf_stack_slot_type& type : slot.slot_type)
    if (type != STACK_INVALID) type = STACK_MISC;
}

void scrub_special_slot(bpf_stack_state& slot) {
  bool special = slot.is_special();
  slot.spilled_ptr.type = NOT_INIT;
  if (special) scrub_spilled_slot(slot);
}

// Stack space that bpf_fastcall patterns use may be used for nothing else, or the patterns are void.
void check_fastcall_stack_contract(bpf_verifier_env& env, const bpf_func_state& state, uint32_t insn_idx,
                                   int off) {
  bpf_subprog_info& subprog = env.subprog_info[state.subprogno];
  if (subprog.fastcall_stack_off <= off || env.insn_aux_data[insn_idx].fastcall_pattern) return;
  subprog.fastcall_stack_off = INT16_MIN;
  for (uint32_t i = subprog.start; i < env.subprog_info[state.subprogno + 1].start; i++) {
    env.insn_aux_data[i].fastcall_spills_num = 0;
    env.insn_aux_data[i].fastcall_pattern = false;
  }
}

Errno refuse_special(bpf_verifier_env& env, const bpf_stack_state& slot) {
  if (slot.slot_type[0] != STACK_DYNPTR) return Errno::None;
  return not_modelled(env, "writing over a dynptr on the stack");
}

// A pointer that is stored, or stored over, could be read speculatively in its place: a barrier follows.
void sanitize_store(bpf_verifier_env& env, const bpf_stack_state& slot, const bpf_reg_state* reg, int byte,
                    int size, uint32_t insn_idx) {
  bool sanitize = reg && is_spillable_regtype(reg->type);
  for (int i = 0; i < size && !sanitize; i++) {
    const bpf_stack_slot_type type = slot.slot_type[size_t((byte - i) % BPF_REG_SIZE)];
    sanitize = type != STACK_MISC && type != STACK_ZERO;
  }
  if (sanitize) env.insn_aux_data[insn_idx].nospec_result = true;
}

bool stores_zero(const bpf_verifier_env& env, const bpf_reg_state* reg, const bpf_insn& insn) {
  const Version version = env.machine.version;
  if (!has(Gate::stack_zero, version)) return false;
  return reg ? reg->is_null() : is_bpf_st_mem(insn) && insn.imm == 0 && has(Gate::imm_spill, version);
}

// Which numbers a version keeps in a slot as they are.
bool spills_scalar(const bpf_verifier_env& env, const bpf_reg_state& reg, int size) {
  const Version version = env.machine.version;
  if (reg.type != SCALAR_VALUE || !env.bpf_capable || !has(Gate::const_spill, version)) return false;
  if (size != BPF_REG_SIZE && !has(Gate::narrow_spill, version)) return false;
  if (reg.is_null() && !has(Gate::zero_spill, version)) return false;
  if (!has(Gate::bounded_spill, version)) return reg.is_const();
  const bool unbounded = tnum_is_unknown(reg.var_off) && reg.r64.unbounded() && reg.r32.unbounded();
  return !unbounded || has(Gate::unbounded_spill, version);
}

Errno store_bytes(bpf_verifier_env& env, bpf_stack_state& slot, const bpf_reg_state* reg, int byte, int size,
                  int value_regno, const bpf_insn& insn) {
  scrub_special_slot(slot);
  bool zero = stores_zero(env, reg, insn);
  if (zero && reg) MUST(mark_chain_precision(env, uint32_t(value_regno)));
  for (int i = 0; i < size; i++)
    slot.slot_type[size_t((byte - i) % BPF_REG_SIZE)] = zero ? STACK_ZERO : STACK_MISC;
  return Errno::None;
}

Errno check_stack_write_fixed_off(bpf_verifier_env& env, bpf_func_state& state, int off, int size,
                                  int value_regno, uint32_t insn_idx) {
  const bpf_insn insn = env.insns[insn_idx];
  int byte = -off - 1, spi = byte / BPF_REG_SIZE;
  bool at_slot = off % BPF_REG_SIZE == 0;
  bpf_stack_state& slot = state.stack[size_t(spi)];
  bpf_func_state& cur = env.cur_func();
  bpf_reg_state* reg = value_regno >= 0 ? &cur.regs[size_t(value_regno)] : nullptr;

  if (!env.allow_ptr_leaks && slot.is_spilled_reg() && !slot.is_spilled_scalar_reg() && size != BPF_REG_SIZE)
    return reject(env, Errno::Access, "attempt to corrupt spilled pointer on stack\n");
  if (!env.bypass_spec_v4) sanitize_store(env, slot, reg, byte, size, insn_idx);
  MUST(refuse_special(env, slot));
  if (at_slot && size == BPF_REG_SIZE) bpf_mark_stack_write(env, state.frameno, 1ull << spi);
  check_fastcall_stack_contract(env, state, insn_idx, off);
  env.mark_stack_slot_scratched(uint32_t(spi));

  if (reg && at_slot && spills_scalar(env, *reg, size)) {
    bool fits = get_reg_width(*reg) <= size * 8;
    if (fits) assign_scalar_id_before_mov(env, *reg);
    save_register_state(state, spi, *reg, size);
    if (!fits) slot.spilled_ptr.id = 0;
  } else if (!reg && at_slot && is_bpf_st_mem(insn) && env.bpf_capable &&
             has(Gate::imm_spill, env.machine.version) &&
             (insn.imm != 0 || has(Gate::zero_spill, env.machine.version))) {
    save_register_state(state, spi, fake_scalar(uint64_t(int64_t{insn.imm})), size);
  } else if (reg && is_spillable_regtype(reg->type)) {
    if (size != BPF_REG_SIZE) return reject(env, Errno::Access, "invalid size of register spill\n");
    if (&state != &cur && reg->type == PTR_TO_STACK)
      return reject(env, Errno::Inval, "cannot spill pointers to stack into stack frame of the caller\n");
    save_register_state(state, spi, *reg, size);
  } else {
    return store_bytes(env, slot, reg, byte, size, value_regno, insn);
  }
  push_jmp_history(env, *env.cur_state, insn_stack_access_flags(state.frameno, spi));
  return Errno::None;
}

// Any of several places may be written: each byte there keeps only what holds in both cases.
Errno check_stack_write_var_off(bpf_verifier_env& env, bpf_func_state& state, uint32_t ptr_regno, int off,
                                int size, int value_regno, uint32_t insn_idx) {
  const bpf_insn& insn = env.insns[insn_idx];
  const bpf_reg_state& ptr = env.cur_regs()[ptr_regno];
  const bpf_reg_state* value = value_regno >= 0 ? &env.cur_regs()[size_t(value_regno)] : nullptr;
  int min_off = int(ptr.r64.smin) + off, max_off = int(ptr.r64.smax) + off + size;
  bool writing_zero = stores_zero(env, value, insn);
  bool zero_used = false;
  for (int i = min_off; i < max_off; i++) MUST(refuse_special(env, state.stack[size_t(get_spi(i))]));
  check_fastcall_stack_contract(env, state, insn_idx, min_off);
  for (int i = min_off; i < max_off; i++) {
    bpf_stack_state& slot = state.stack[size_t(get_spi(i))];
    bpf_stack_slot_type& type = slot.slot_type[size_t((-i - 1) % BPF_REG_SIZE)];
    env.mark_stack_slot_scratched(uint32_t(get_spi(i)));
    if (!env.allow_ptr_leaks && type != STACK_MISC && type != STACK_ZERO)
      return reject(env, Errno::Inval, "spilled ptr in range of var-offset stack write; insn %u, ptr off: %d",
                    insn_idx, i);
    if (writing_zero && type == STACK_SPILL && slot.is_spilled_scalar_reg() && slot.spilled_ptr.is_null()) {
      zero_used = true;
      continue;
    }
    scrub_special_slot(slot);
    bool stays_zero = writing_zero && type == STACK_ZERO;
    zero_used |= stays_zero;
    if (type == STACK_INVALID && !env.allow_uninit_stack)
      return reject(env, Errno::Inval,
                    "uninit stack in range of var-offset write prohibited for !root; insn %u, off: %d",
                    insn_idx, i);
    type = stays_zero ? STACK_ZERO : STACK_MISC;
  }
  if (zero_used && value_regno >= 0) MUST(mark_chain_precision(env, uint32_t(value_regno)));
  return Errno::None;
}

// Bytes that are all known to be zero read as 0.
void mark_reg_stack_read(bpf_verifier_env& env, const bpf_func_state& ptr_state, int min_off, int max_off,
                         uint32_t dst_regno) {
  bpf_reg_state& dst = env.cur_regs()[dst_regno];
  for (int i = min_off; i < max_off; i++) {
    env.mark_stack_slot_scratched(uint32_t(get_spi(i)));
    if (ptr_state.stack[size_t(get_spi(i))].slot_type[size_t((-i - 1) % BPF_REG_SIZE)] != STACK_ZERO)
      return mark_reg_unknown(env, dst);
  }
  mark_reg_const_zero(env, dst);
}

// How many of the bytes may be read, by kind; refused at the first that may not.
struct BytesRead {
  int spilled = 0, zero = 0;
};
Errno check_stack_read_bytes(bpf_verifier_env& env, const bpf_stack_state& slot, int off, int size,
                             bool spill_ok, BytesRead& read) {
  for (int i = 0; i < size; i++) {
    bpf_stack_slot_type type = slot.slot_type[size_t((-off - 1 - i) % BPF_REG_SIZE)];
    read.spilled += type == STACK_SPILL;
    read.zero += type == STACK_ZERO;
    if (type == STACK_MISC || type == STACK_ZERO || (spill_ok && type == STACK_SPILL)) continue;
    if (type == STACK_INVALID && env.allow_uninit_read) continue;
    return reject(env, Errno::Access, "invalid read from stack off %d+%d size %d\n", off, i, size);
  }
  return Errno::None;
}

int spill_size_of(const bpf_stack_state& slot) {
  int size = 1;
  for (int i = BPF_REG_SIZE - 1; i > 0 && slot.slot_type[size_t(i) - 1] == STACK_SPILL; i--) size++;
  return size;
}

// Part of a spill, or a spill of part of a register. Sets `from_spill` when the result is the spilled
// register's.
Errno fill_part(bpf_verifier_env& env, const bpf_stack_state& slot, int off, int size, int spill_size,
                int dst_regno, bool& from_spill) {
  const bpf_reg_state& spilled = slot.spilled_ptr;
  if (spilled.type != SCALAR_VALUE) return reject(env, Errno::Access, "invalid size of register fill\n");
  from_spill = true;
  if (dst_regno < 0) return Errno::None;
  bpf_reg_state& dst = env.cur_regs()[size_t(dst_regno)];
  const bool fits = has(Gate::narrow_fill, env.machine.version) ? size <= spill_size : size == spill_size;
  if (fits && off % BPF_REG_SIZE == 0) {
    int32_t subreg_def = dst.subreg_def;
    dst = spilled;
    dst.subreg_def = subreg_def;
    if (get_reg_width(spilled) > size * 8) dst.id = 0;
    return Errno::None;
  }
  BytesRead read;
  MUST(check_stack_read_bytes(env, slot, off, size, true, read));
  const bool zeros_stay = has(Gate::zero_spill, env.machine.version);
  if (zeros_stay && read.spilled == size && spilled.is_null()) {
    mark_reg_const_zero(env, dst);
    return Errno::None;
  }
  from_spill = false;
  if (zeros_stay && read.zero == size)
    mark_reg_const_zero(env, dst);
  else
    mark_reg_unknown(env, dst);
  return Errno::None;
}

Errno check_stack_read_fixed_off(bpf_verifier_env& env, bpf_func_state& reg_state, int off, int size,
                                 int dst_regno) {
  int spi = get_spi(off);
  const bpf_stack_state& slot = reg_state.stack[size_t(spi)];
  env.mark_stack_slot_scratched(uint32_t(spi));
  check_fastcall_stack_contract(env, env.cur_func(), env.insn_idx, off);
  MUST(bpf_mark_stack_read(env, reg_state.frameno, env.insn_idx, 1ull << spi));

  if (!slot.is_spilled_reg()) {
    BytesRead read;
    MUST(check_stack_read_bytes(env, slot, off, size, false, read));
    if (dst_regno >= 0) mark_reg_stack_read(env, reg_state, off, off + size, uint32_t(dst_regno));
    return Errno::None;
  }
  int spill_size = spill_size_of(slot);
  bool from_spill = true;
  if (size != BPF_REG_SIZE || spill_size != BPF_REG_SIZE) {
    MUST(fill_part(env, slot, off, size, spill_size, dst_regno, from_spill));
    if (dst_regno < 0) return Errno::None;
  } else if (dst_regno >= 0) {
    env.cur_regs()[size_t(dst_regno)] = slot.spilled_ptr;
  } else if (is_pointer_value(env.allow_ptr_leaks, slot.spilled_ptr)) {
    // A helper or an atomic must not take a pointer for a number.
    return reject(env, Errno::Access, "leaking pointer from stack off %d\n", off);
  }
  if (from_spill) push_jmp_history(env, *env.cur_state, insn_stack_access_flags(reg_state.frameno, spi));
  return Errno::None;
}

Errno check_stack_read_var_off(bpf_verifier_env& env, uint32_t ptr_regno, int off, int size, int dst_regno) {
  const bpf_reg_state& reg = env.cur_regs()[ptr_regno];
  MUST(check_stack_range_initialized(env, ptr_regno, off, size, false, BPF_READ, nullptr));
  int min_off = int(reg.r64.smin) + off, max_off = int(reg.r64.smax) + off;
  bpf_func_state& state = func(env, reg);
  mark_reg_stack_read(env, state, min_off, max_off + size, uint32_t(dst_regno));
  check_fastcall_stack_contract(env, state, env.insn_idx, min_off);
  return Errno::None;
}

// Whether a helper that gets a buffer on the stack may read this byte of it.
bool helper_may_read(const bpf_verifier_env& env, const bpf_stack_state& slot, bpf_stack_slot_type byte) {
  if (byte == STACK_MISC || byte == STACK_ZERO) return true;
  if (byte == STACK_INVALID && env.allow_uninit_read) return true;
  return slot.is_spilled_reg() && (slot.spilled_ptr.type == SCALAR_VALUE || env.allow_ptr_leaks);
}

// And where it writes too, what is known of the byte afterwards. A spill is lost whole.
void helper_writes(bpf_verifier_env& env, bpf_stack_state& slot, bpf_stack_slot_type& byte) {
  if (byte == STACK_MISC) return;
  if (byte == STACK_ZERO || (byte == STACK_INVALID && env.allow_uninit_read)) {
    byte = STACK_MISC;
  } else {
    mark_reg_unknown(env, slot.spilled_ptr);
    scrub_spilled_slot(slot);
  }
}

Errno old_stack_access(bpf_verifier_env& env, const bpf_reg_state& reg, int off, int size) {
  if (reg.is_const() || has(Gate::var_stack_access, env.machine.version)) return Errno::None;
  return reject(env, Errno::Access, "variable stack access var_off=%s off=%d size=%d\n",
                tnum_strn(reg.var_off).c_str(), off, size);
}
}  // namespace

Errno check_stack_access_within_bounds(bpf_verifier_env& env, uint32_t regno, int off, int access_size,
                                       bpf_access_type type) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  bpf_func_state& state = func(env, reg);
  const char* what = type == BPF_READ ? " read from" : " write to";
  int64_t min_off, max_off;
  if (reg.is_const()) {
    min_off = int64_t(reg.var_off.value) + off;
    max_off = min_off + access_size;
  } else {
    if (reg.r64.smax >= BPF_MAX_VAR_OFF || reg.r64.smin <= -BPF_MAX_VAR_OFF)
      return reject(env, Errno::Access, "invalid unbounded variable-offset%s stack R%u\n", what, regno);
    min_off = reg.r64.smin + off;
    max_off = reg.r64.smax + off + access_size;
  }
  int64_t lowest =
      type == BPF_WRITE || env.allow_uninit_read ? -int(MAX_BPF_STACK) : -state.allocated_stack();
  Errno err = Errno::None;
  if (min_off < lowest || min_off > -1)
    err = Errno::Access;
  else if (max_off > 0)
    err = Errno::Inval;
  else if (access_size < 0)
    err = Errno::Fault;
  if (err != Errno::None) {
    if (reg.is_const())
      return reject(env, err, "invalid%s stack R%u off=%d size=%d\n", what, regno, off, access_size);
    return reject(env, err, "invalid variable-offset%s stack R%u var_off=%s off=%d size=%d\n", what, regno,
                  tnum_strn(reg.var_off).c_str(), off, access_size);
  }
  grow_stack_state(env, state, -min_off);
  return Errno::None;
}

Errno check_stack_read(bpf_verifier_env& env, uint32_t ptr_regno, int off, int size, int dst_regno) {
  const bpf_reg_state& reg = env.cur_regs()[ptr_regno];
  MUST(old_stack_access(env, reg, off, size));
  if (dst_regno < 0 && !reg.is_const())
    return reject(
        env, Errno::Access,
        "variable offset stack pointer cannot be passed into helper function; var_off=%s off=%d size=%d\n",
        tnum_strn(reg.var_off).c_str(), off, size);
  if (!reg.is_const()) return check_stack_read_var_off(env, ptr_regno, off, size, dst_regno);
  return check_stack_read_fixed_off(env, func(env, reg), off + int(reg.var_off.value), size, dst_regno);
}

Errno check_stack_write(bpf_verifier_env& env, uint32_t ptr_regno, int off, int size, int value_regno,
                        uint32_t insn_idx) {
  const bpf_reg_state& reg = env.cur_regs()[ptr_regno];
  bpf_func_state& state = func(env, reg);
  MUST(old_stack_access(env, reg, off, size));
  if (!reg.is_const())
    return check_stack_write_var_off(env, state, ptr_regno, off, size, value_regno, insn_idx);
  return check_stack_write_fixed_off(env, state, off + int(reg.var_off.value), size, value_regno, insn_idx);
}

Errno check_stack_range_initialized(bpf_verifier_env& env, uint32_t regno, int off, int access_size,
                                    bool zero_size_allowed, bpf_access_type type, bpf_call_arg_meta* meta) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  bpf_func_state& state = func(env, reg);
  if (access_size == 0 && !zero_size_allowed) return reject(env, Errno::Access, "invalid zero-sized read\n");
  MUST(check_stack_access_within_bounds(env, regno, off, access_size, type));
  int min_off, max_off;
  if (reg.is_const()) {
    min_off = max_off = int(reg.var_off.value) + off;
  } else {
    if (!env.bypass_spec_v1)
      return reject(env, Errno::Access, "R%u variable offset stack access prohibited for !root, var_off=%s\n",
                    regno, tnum_strn(reg.var_off).c_str());
    if (meta && meta->raw_mode) meta = nullptr;  // which bytes the helper will write is not known
    min_off = int(reg.r64.smin) + off;
    max_off = int(reg.r64.smax) + off;
  }
  if (meta && meta->raw_mode) {  // the helper only writes: the call marks the bytes
    meta->access_size = access_size;
    meta->regno = regno;
    return Errno::None;
  }
  for (int i = min_off; i < max_off + access_size; i++) {
    int spi = get_spi(i);
    if (spi >= state.nr_slots()) return reject(env, Errno::Fault, "allocated_stack too small\n");
    bpf_stack_state& slot = state.stack[size_t(spi)];
    bpf_stack_slot_type& kind = slot.slot_type[size_t((-i - 1) % BPF_REG_SIZE)];
    if (!helper_may_read(env, slot, kind)) {
      if (reg.is_const())
        return reject(env, Errno::Access, "invalid read from stack R%u off %d+%d size %d\n", regno, min_off,
                      i - min_off, access_size);
      return reject(env, Errno::Access, "invalid read from stack R%u var_off %s+%d size %d\n", regno,
                    tnum_strn(reg.var_off).c_str(), i - min_off, access_size);
    }
    if (type == BPF_WRITE) helper_writes(env, slot, kind);
    MUST(bpf_mark_stack_read(env, reg.frameno, env.insn_idx, 1ull << spi));
  }
  return Errno::None;
}

}  // namespace bpfsim
