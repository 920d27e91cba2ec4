// Models: kernel/bpf/log.c (Linux 6.18), the state as text
//
// The kernel prints piece by piece; here a line is composed and written at once, which gives the same bytes.
// Not modelled yet: names of BTF types (no register holds one so far).
#include "verifier/print_state.h"

#include <bit>
#include <cstdio>

#include "isa/disasm.h"
#include "verifier/btf_access.h"

namespace bpfsim {

namespace {
const char* const kTypeNames[] = {
    "?",    "scalar",  "ctx",       "map_ptr", "map_value",   "map_key",    "fp",        "pkt_meta",
    "pkt",  "pkt_end", "flow_keys", "sock",    "sock_common", "tcp_sock",   "tp_buffer", "xdp_sock",
    "ptr_", "mem",     "arena",     "buf",     "func",        "dynptr_ptr",
};

// 16-bit numbers are decimal, larger ones hexadecimal.
void add_unum(std::string& out, uint64_t x) {
  char text[24];
  std::snprintf(text, sizeof text, x <= UINT16_MAX ? "%llu" : "0x%llx", (unsigned long long)x);
  out += text;
}
void add_snum(std::string& out, int64_t x) {
  char text[24];
  bool decimal = x >= INT16_MIN && x <= INT16_MAX;
  if (decimal)
    std::snprintf(text, sizeof text, "%lld", (long long)x);
  else
    std::snprintf(text, sizeof text, "0x%llx", (unsigned long long)x);
  out += text;
}

// Attributes in brackets, with commas between.
class Attributes {
 public:
  explicit Attributes(std::string& out) : out_(out) {}
  std::string& next(const char* name) {
    if (any_) out_ += ',';
    any_ = true;
    return out_ += name;
  }

 private:
  std::string& out_;
  bool any_ = false;
};

bool decimal(int64_t x) { return x >= INT16_MIN && x <= INT16_MAX; }

// Bounds that say something. Equal ones are written as one: smin=smin32=0; only minimums with minimums,
// maximums with maximums, and no negative number with one that merely has the same bits. 32-bit numbers that
// will be written in hexadecimal are not sign-extended.
void add_ranges(std::string& out, Attributes& attributes, const Scalar& reg) {
  const Range64& q = reg.r64;
  const Range32& w = reg.r32;
  auto low = [](int32_t x) { return decimal(x) ? int64_t{x} : int64_t{uint32_t(x)}; };
  struct {
    const char* name;
    bool is_signed;
    uint64_t value;
    bool omit;
  } bounds[] = {
      {"smin", true, uint64_t(q.smin), q.smin == Range64::kSMin},
      {"smax", true, uint64_t(q.smax), q.smax == Range64::kSMax},
      {"umin", false, q.umin, q.umin == 0},
      {"umax", false, q.umax, q.umax == Range64::kUMax},
      {"smin32", true, uint64_t(low(w.smin)), w.smin == Range32::kSMin},
      {"smax32", true, uint64_t(low(w.smax)), w.smax == Range32::kSMax},
      {"umin32", false, w.umin, w.umin == 0},
      {"umax32", false, w.umax, w.umax == Range32::kUMax},
  };
  for (size_t i = 0; i < std::size(bounds); i++) {
    auto& one = bounds[i];
    if (one.omit) continue;
    bool negative = one.is_signed && int64_t(one.value) < 0;
    attributes.next(one.name) += '=';
    for (size_t j = i + 2; j < std::size(bounds); j += 2) {
      auto& other = bounds[j];
      if (other.omit || other.value != one.value) continue;
      if ((other.is_signed && int64_t(other.value) < 0) != negative) continue;
      other.omit = true;
      out += other.name;
      out += '=';
    }
    one.is_signed ? add_snum(out, int64_t(one.value)) : add_unum(out, one.value);
  }
}

bool type_is_map_ptr(uint32_t type) {
  return base_type(type) == CONST_PTR_TO_MAP || base_type(type) == PTR_TO_MAP_KEY ||
         base_type(type) == PTR_TO_MAP_VALUE;
}

void add_identity(std::string& out, Attributes& attributes, const bpf_reg_state& reg) {
  if (reg.id) attributes.next("id=") += std::to_string(reg.id & ~BPF_ADD_CONST);
  if (reg.id & BPF_ADD_CONST) {
    char text[16];
    std::snprintf(text, sizeof text, "%+d", reg.off);
    out += text;
  }
  if (reg.ref_obj_id) attributes.next("ref_obj_id=") += std::to_string(reg.ref_obj_id);
  bool alloc = base_type(reg.type) == PTR_TO_BTF_ID && (reg.type & MEM_ALLOC);
  if (alloc && (reg.type & NON_OWN_REF)) attributes.next("non_own_ref");
}

void add_reg(std::string& out, const bpf_func_state& state, const bpf_reg_state& reg) {
  uint32_t type = reg.type;
  if (type == SCALAR_VALUE && reg.precise) out += 'P';
  if (reg.is_scalar_const()) return add_snum(out, int64_t(reg.var_off.value));
  out += reg_type_str(type);
  if (base_type(type) == PTR_TO_BTF_ID) out += btf_reg_name(reg);
  if (type == PTR_TO_ARENA) return;
  if (type == PTR_TO_STACK) {
    if (state.frameno != reg.frameno) out += '[' + std::to_string(reg.frameno) + ']';
    if (reg.is_const()) return add_snum(out, int64_t(reg.var_off.value + uint64_t(int64_t{reg.off})));
  }
  out += '(';
  Attributes attributes(out);
  add_identity(out, attributes, reg);
  if (type_is_map_ptr(type)) {
    if (!reg.map_ptr->name.empty()) attributes.next("map=") += reg.map_ptr->name;
    attributes.next("ks=") += std::to_string(reg.map_ptr->key_size);
    attributes.next("vs=") += std::to_string(reg.map_ptr->value_size);
  }
  if (type != SCALAR_VALUE && reg.off) add_snum(attributes.next("off="), reg.off);
  if (type_is_pkt_pointer(type)) add_unum(attributes.next("r="), uint64_t(int64_t{reg.range}));
  if (base_type(type) == PTR_TO_MEM) add_unum(attributes.next("sz="), reg.mem_size);
  if (reg.is_const()) {
    if (reg.var_off.value) add_snum(attributes.next("imm="), int64_t(reg.var_off.value));
  } else {
    add_ranges(out, attributes, reg);
    if (!tnum_is_unknown(reg.var_off)) attributes.next("var_off=") += tnum_strn(reg.var_off);
  }
  out += ')';
}

// One slot of eight bytes. Bytes above a narrower spill are shown before it: fp-8=mmmm(value).
void add_slot(std::string& out, const bpf_func_state& state, int spi) {
  static constexpr char kLetters[] = {'?', 'r', 'm', '0', 'd', 'i', 'f'};
  const bpf_stack_state& slot = state.stack[size_t(spi)];
  std::string bytes;
  bool valid = false;
  for (bpf_stack_slot_type type : slot.slot_type) {
    valid |= type != STACK_INVALID;
    bytes += kLetters[type];
  }
  if (!valid) return;
  out += " fp" + std::to_string((-spi - 1) * BPF_REG_SIZE) + '=';
  if (!slot.is_spilled_reg()) {
    out += bytes;
    return;
  }
  out += bytes.substr(0, bytes.find('r'));
  add_reg(out, state, slot.spilled_ptr);
}
}  // namespace

std::string reg_type_str(uint32_t type) {
  std::string text;
  if (type & MEM_RDONLY) text += "rdonly_";
  if (type & MEM_RINGBUF) text += "ringbuf_";
  if (type & MEM_USER) text += "user_";
  if (type & MEM_PERCPU) text += "percpu_";
  if (type & MEM_RCU) text += "rcu_";
  if (type & PTR_UNTRUSTED) text += "untrusted_";
  if (type & PTR_TRUSTED) text += "trusted_";
  uint32_t base = base_type(type);
  text += base < std::size(kTypeNames) ? kTypeNames[base] : "?";
  if (type & PTR_MAYBE_NULL) text += base == PTR_TO_BTF_ID ? "or_null_" : "_or_null";
  return text;
}

std::string verifier_state_text(const bpf_verifier_env& env, const bpf_verifier_state& vstate,
                                uint32_t frameno, bool print_all) {
  const bpf_func_state& state = *vstate.frame[frameno];
  std::string out;
  if (state.frameno) out += " frame" + std::to_string(state.frameno) + ':';
  for (uint32_t i = 0; i < MAX_BPF_REG; i++) {
    const bpf_reg_state& reg = state.regs[i];
    if (reg.type == NOT_INIT || !(print_all || (env.scratched_regs >> i & 1))) continue;
    out += " R" + std::to_string(i) + '=';
    add_reg(out, state, reg);
  }
  for (int i = 0; i < state.nr_slots(); i++)
    if (print_all || (env.scratched_stack_slots >> i & 1)) add_slot(out, state, i);
  if (!vstate.refs.empty() && vstate.refs[0].id) {
    out += " refs=" + std::to_string(vstate.refs[0].id);
    for (size_t i = 1; i < vstate.refs.size(); i++)
      if (vstate.refs[i].id) out += ',' + std::to_string(vstate.refs[i].id);
  }
  if (state.in_callback_fn) out += " cb";
  if (state.in_async_callback_fn) out += " async_cb";
  return out;
}

void print_verifier_state(bpf_verifier_env& env, const bpf_verifier_state& vstate, uint32_t frameno,
                          bool print_all) {
  if (env.log.needed()) bpf_vlog_write(env.log, verifier_state_text(env, vstate, frameno, print_all) + '\n');
  if (!print_all) env.mark_verifier_state_clean();
}

// How many blanks bring the comment to column 40 or the next multiple of 8 behind the instruction.
static int vlog_alignment(uint64_t pos) {
  uint64_t column = std::max<uint64_t>(pos + 4, 40);
  return int((column + 7) / 8 * 8 - pos - 1);
}

void print_insn_state(bpf_verifier_env& env, const bpf_verifier_state& vstate, uint32_t frameno) {
  if (env.prev_log_pos && env.prev_log_pos == env.log.end_pos) {
    bpf_vlog_reset(env.log, env.prev_log_pos - 1);  // without the newline
    verbose(env, "%*c;", vlog_alignment(env.prev_insn_print_pos), ' ');
  } else {
    verbose(env, "%u:", env.insn_idx);
  }
  print_verifier_state(env, vstate, frameno, false);
}

void verbose_insn(bpf_verifier_env& env, uint32_t idx) {
  DisasmOptions options;
  options.allow_ptr_leaks = env.allow_ptr_leaks;
  options.call_name = [](const bpf_insn& insn) -> std::optional<std::string> {
    if (bpf_pseudo_kfunc_call(insn) && insn.imm == 0) return "";  // BTF id 0 is void, which has no name
    return {};
  };
  bpf_vlog_write(env.log, print_bpf_insn(env.insns, idx, options) + '\n');
}

std::string fmt_reg_mask(uint32_t mask) {
  std::string out;
  for (; mask; mask &= mask - 1) out += (out.empty() ? "r" : ",r") + std::to_string(std::countr_zero(mask));
  return out;
}

std::string bpf_fmt_stack_mask(uint64_t mask) {
  std::string out;
  for (; mask; mask &= mask - 1) {
    if (!out.empty()) out += ',';
    out += std::to_string(-(std::countr_zero(mask) + 1) * BPF_REG_SIZE);
  }
  return out;
}

}  // namespace bpfsim
