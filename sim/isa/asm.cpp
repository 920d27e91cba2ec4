// No kernel counterpart: the kernel takes bytes; the text comes from compilers (LLVM's BPF assembler) and
// from us.
//
// One line at a time. The functions of LineParser read as the grammar: the cursor beneath (asm_cursor.h)
// notes the first thing that does not fit and does nothing from there on. Which operators, types and words
// there are comes from the rows of the opcode table. Targets that are names wait in a list until all labels
// are known.
#include "isa/asm.h"

#include <algorithm>
#include <cstdio>

#include "isa/asm_cursor.h"
#include "isa/opcodes.h"
#include "uapi/suggest.h"
#include "uapi/tables.h"

namespace bpfsim {

std::string AsmError::str() const {
  return "line " + std::to_string(line) + ", column " + std::to_string(column) + ": " + message;
}

static std::optional<int32_t> helper_id(std::string_view name) {
  const HelperRow* row = find_helper(name);
  if (!row) return {};
  return row->number;
}

// The first row of a form whose text and masked code byte agree.
static const OpRow* find_row(Form form, std::string_view text, uint8_t mask = 0, uint8_t bits = 0) {
  for (const OpRow& row : op_rows)
    if (row.form == form && row.text == text && (row.code & mask) == bits) return &row;
  return nullptr;
}

// An instruction of this row, with the field set that tells it from others of the same code byte.
static bpf_insn insn_of(const OpRow& row, int dst = 0, int src = 0, int off = 0, int64_t imm = 0) {
  bpf_insn insn = make_insn(row.code, dst, src, off, imm);
  if (row.by == KeyField::Off) insn.off = row.key;
  if (row.by == KeyField::Imm) insn.imm = row.key;
  if (row.by == KeyField::Src) insn.src_reg = row.key;
  return insn;
}

namespace {

struct Address {
  uint8_t size = BPF_DW;
  int base = 0, off = 0;
};

// Where the distance to a target goes. Call: into imm, but the name may also be a helper's or kernel
// function's.
enum class Target { Off, Imm, Call };

struct Fixup {
  size_t insn;  // the first slot
  int line, column;
  std::string name;
  Target target;
};

// The index of the last instruction: its first slot, if it has two.
size_t last_insn(const Assembly& out) { return out.insns.size() - (out.insns.back().code == 0 ? 2 : 1); }

class LineParser : LineCursor {
 public:
  LineParser(std::string_view line, int line_number, Assembly& out, std::vector<Fixup>& fixups)
      : LineCursor(line, line_number, out.errors), out_(out), fixups_(fixups) {}

  void parse();

 private:
  // Parts of an operand.
  const OpRow* op(Form form, uint8_t insn_class, const char* expected);
  std::string_view type(bool signed_too);
  Address address(std::string_view type);
  void target(Target target);

  // Statements and their parts.
  void labels_and_prefix();
  void statement();
  void emit(const bpf_insn& insn);
  void emit_row(const OpRow* row, int dst = 0, int src = 0, int off = 0, int64_t imm = 0);
  void emit_wide(int dst, int kind, int32_t low, int32_t high);
  void jump(std::string_view word);
  void conditional_jump();
  void call();
  void locked();
  void store_release();
  void store();
  void assignment(const Register& dst);
  void move(const Register& dst);
  void load(const Register& dst);
  void constant(const Register& dst);
  void function_like(const Register& dst);
  bool atomic_function(const Register& dst, std::string_view word);
  void map_by_name(const Register& dst);
  void wide_kind(const Register& dst, const OpRow& row);

  Assembly& out_;
  std::vector<Fixup>& fixups_;
  int prefix_ = -1;  // the code byte in "(61) ..."
};

// --- Parts of an operand ---

// The longest operator of this form and class that stands here: "s>>=" before "s>".
const OpRow* LineParser::op(Form form, uint8_t insn_class, const char* expected) {
  skip_space();
  if (failed_) return nullptr;
  const OpRow* best = nullptr;
  size_t best_length = 0;
  for (const OpRow& row : op_rows) {
    const std::string_view text = row.text;
    if (row.form == form && BPF_CLASS(row.code) == insn_class && text.size() > best_length &&
        line_.substr(at_).starts_with(text)) {
      best = &row;
      best_length = text.size();
    }
  }
  if (!best) fail(expected);
  at_ += best_length;
  return best;
}

// "(u32 *)": gives "u32".
std::string_view LineParser::type(bool signed_too) {
  expect("(");
  skip_space();
  const std::string_view word = word_here();
  const bool known = find_row(Form::StoreReg, word) || (signed_too && find_row(Form::Load, word));
  if (!failed_ && !known)
    fail(signed_too ? "a type (u8, u16, u32, u64, s8, s16, s32)" : "a type (u8, u16, u32, u64)");
  if (failed_) return {};
  at_ += word.size();
  expect("*");
  expect(")");
  return word;
}

// "(r1 +4)" behind a type.
Address LineParser::address(std::string_view type) {
  Address where;
  if (const OpRow* row = find_row(Form::Load, type)) where.size = BPF_SIZE(row->code);
  expect("(");
  where.base = reg_of_width(true).number;
  skip_space();
  if (peek() == '+' || peek() == '-') where.off = offset16();
  expect(")");
  return where;
}

// Where to go; fills the field of the last instruction now, or leaves the name to resolve().
void LineParser::target(Target target) {
  skip_space();
  if (failed_) return;
  const size_t start = at_;
  const bool relative = accept_word("pc");
  skip_space();
  if (relative ? peek() == '+' || peek() == '-' : at_number()) {
    bpf_insn& insn = out_.insns[last_insn(out_)];
    if (target == Target::Off)
      insn.off = offset16();
    else
      insn.imm = imm32(false);
    return;
  }
  at_ = start;
  const std::string_view word = word_here();
  if (word.empty() || is_digit(word[0])) return fail("a target (a label, pc+1 or +1)");
  at_ += word.size();
  fixups_.push_back({last_insn(out_), line_number_, int(start) + 1, std::string(word), target});
}

// --- Statements ---

void LineParser::emit(const bpf_insn& insn) {
  if (failed_) return;
  if (prefix_ >= 0 && insn.code != prefix_) {
    char words[80];
    std::snprintf(words, sizeof words, "the line begins with (%02x), but this is a (%02x)", prefix_,
                  insn.code);
    return refuse_at(0, words);
  }
  out_.insns.push_back(insn);
  out_.lines.push_back(line_number_);
}

void LineParser::emit_row(const OpRow* row, int dst, int src, int off, int64_t imm) {
  if (!failed_ && row) emit(insn_of(*row, dst, src, off, imm));
}

void LineParser::emit_wide(int dst, int kind, int32_t low, int32_t high) {
  const TwoSlots slots = ld_imm64_raw(dst, kind, low, high);
  emit(slots[0]);
  if (failed_) return;
  out_.insns.push_back(slots[1]);
  out_.lines.push_back(line_number_);
}

// Labels, and what a log puts before an instruction: "12: (61)".
void LineParser::labels_and_prefix() {
  for (;;) {
    skip_space();
    const std::string_view word = word_here();
    size_t colon = at_ + word.size();
    while (colon < line_.size() && line_[colon] == ' ') ++colon;
    if (word.empty() || colon >= line_.size() || line_[colon] != ':') break;
    if (!std::all_of(word.begin(), word.end(), is_digit)) {
      if (is_digit(word[0])) return fail("a label that begins with a letter");
      if (!out_.labels.emplace(word, out_.insns.size()).second)
        return refuse_at(at_, "label \"" + std::string(word) + "\" is defined twice");
    }
    at_ = colon + 1;
  }
  if (peek() == '(' && hex_digit(peek(1)) >= 0 && hex_digit(peek(2)) >= 0 && peek(3) == ')') {
    prefix_ = hex_digit(peek(1)) * 16 + hex_digit(peek(2));
    at_ += 4;
  }
}

void LineParser::parse() {
  labels_and_prefix();
  if (failed_ || (prefix_ < 0 && at_end())) return;
  statement();
  if (!failed_ && !at_end()) fail("the end of the line");
}

void LineParser::statement() {
  skip_space();
  const std::string_view word = word_here();
  if (find_row(Form::Goto, word) || find_row(Form::Gotol, word)) return jump(word);
  if (accept_word("if")) return conditional_jump();
  if (accept_word("call")) return call();
  if (accept_word("exit")) return emit(exit_insn());
  if (accept_word("nospec")) return emit(st_nospec());
  if (accept_word("lock")) return locked();
  if (accept_word("store_release")) return store_release();
  if (accept("*")) return store();
  if (!is_register(word)) {
    const bool looks_like_register =
        word.size() > 1 && (word[0] == 'r' || word[0] == 'w') && is_digit(word[1]);
    return fail(looks_like_register ? "a register (r0-r10, w0-w10)" : "an instruction");
  }
  assignment(reg());
}

void LineParser::jump(std::string_view word) {
  at_ += word.size();
  const OpRow* row = find_row(Form::Goto, word);
  emit_row(row ? row : find_row(Form::Gotol, word));
  target(row ? Target::Off : Target::Imm);
}

void LineParser::conditional_jump() {
  const Register dst = reg();
  const uint8_t insn_class = dst.wide ? BPF_JMP : BPF_JMP32;
  const OpRow* row = op(Form::JmpImm, insn_class, "a comparison (==, !=, >, >=, <, <=, s>, s>=, s<, s<=, &)");
  if (!row) return;
  skip_space();
  bpf_insn insn;
  if (is_digit(peek()) || peek() == '-' || peek() == '+') {
    const bool hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X');
    insn = insn_of(*row, dst.number, 0, 0, imm32(hex || !dst.wide));
  } else {
    insn = insn_of(*find_row(Form::JmpReg, row->text, 0x07, insn_class), dst.number,
                   reg_of_width(dst.wide).number);
  }
  if (!failed_ && !accept_word("goto")) fail("\"goto\"");
  emit(insn);
  target(Target::Off);
}

void LineParser::call() {
  skip_space();
  if (is_digit(peek())) return emit(call_helper(imm32(false)));
  const size_t start = at_;
  std::string name(word_here());
  if (name.empty()) return fail("a helper, a kernel function or a subprogram");
  at_ += name.size();
  if (name == "kernel" && accept("-function")) name += "-function";
  const bool has_id = peek() == '#' && (is_digit(peek(1)) || (peek(1) == '-' && is_digit(peek(2))));
  if (!has_id) {
    emit(call_local(0));
    at_ = start;
    return target(Target::Call);
  }
  ++at_;
  const int32_t id = imm32(false);
  const std::optional<int32_t> helper = helper_id(name);
  if (helper && *helper != id)
    return refuse_at(start, "helper " + name + " has the number " + std::to_string(*helper));
  emit(helper || name == "unknown" || name == "bpf_unspec" ? call_helper(id) : call_kfunc(id));
}

void LineParser::locked() {
  expect("*");
  const Address where = address(type(false));
  skip_space();
  for (const OpRow& row : op_rows) {
    if (failed_ || row.form != Form::Atomic || BPF_SIZE(row.code) != where.size || !accept(row.text))
      continue;
    return emit_row(&row, where.base, value_reg(where.size), where.off);
  }
  fail(bpf_size_to_bytes(where.size) < 4 ? "an atomic on u32 or u64" : "an atomic operator (+=, |=, &=, ^=)");
}

void LineParser::store_release() {
  expect("(");
  const Address where = address(type(false));
  expect(",");
  const int src = value_reg(where.size);
  expect(")");
  emit(bpfsim::store_release(where.size, where.base, src, where.off));
}

void LineParser::store() {
  const Address where = address(type(false));
  expect("=");
  skip_space();
  if (failed_) return;
  if (is_register(word_here()))
    return emit(stx_mem(where.size, where.base, value_reg(where.size), where.off));
  if (!at_number() && peek() != '-') return fail("a register or a number");
  emit(st_mem(where.size, where.base, where.off, imm32(where.size != BPF_DW)));
}

void LineParser::assignment(const Register& dst) {
  const uint8_t insn_class = dst.wide ? BPF_ALU64 : BPF_ALU;
  const OpRow* row = op(Form::AluImm, insn_class, "an operator (=, +=, -=, *=, ...)");
  if (!row) return;
  if (row->text == std::string_view("=")) return move(dst);
  skip_space();
  if (is_digit(peek()) || peek() == '-' || peek() == '+')
    return emit_row(row, dst.number, 0, 0, imm32(!dst.wide));
  if (!is_register(word_here())) return fail("a register or a number");
  emit_row(find_row(Form::AluReg, row->text, 0x07, insn_class), dst.number, reg_of_width(dst.wide).number);
}

// What stands behind "r1 =".
void LineParser::move(const Register& dst) {
  const uint8_t insn_class = dst.wide ? BPF_ALU64 : BPF_ALU;
  const size_t start = here();
  if (accept("*")) return load(dst);
  if (accept("&")) {
    for (const char* part : {"(", "void", "__percpu", "*", ")", "("}) expect(part);
    const int src = reg_of_width(true).number;
    expect(")");
    return emit(mov64_percpu_reg(dst.number, src));
  }
  if (accept("(")) {
    skip_space();
    const OpRow* row = find_row(Form::MovSx, word_here(), 0x07, insn_class);
    if (!row) return fail(dst.wide ? "a type (s8, s16, s32)" : "a type (s8, s16)");
    at_ += word_here().size();
    expect(")");
    return emit_row(row, dst.number, reg_of_width(dst.wide).number);
  }
  if (accept("-")) {
    skip_space();
    if (is_register(word_here())) {
      const Register src = reg_of_width(dst.wide);
      if (src.number != dst.number)
        return refuse_at(start, "only a register itself can be negated: r1 = -r1");
      return emit_row(find_row(Form::Neg, "-", 0x07, insn_class), dst.number);
    }
    at_ = start;
  }
  if (is_digit(peek()) || peek() == '-' || peek() == '+') return constant(dst);
  if (is_register(word_here()))
    return emit_row(find_row(Form::AluReg, "=", 0x07, insn_class), dst.number, reg_of_width(dst.wide).number);
  function_like(dst);
}

void LineParser::load(const Register& dst) {
  const std::string_view word = type(true);
  const size_t start = here();
  if (!accept_word("skb")) {
    const Address where = address(word);
    if (!failed_ && !dst.wide && (where.size == BPF_DW || word[0] == 's'))
      return refuse_at(0, "this load writes 64 bits: name the register r, not w");
    return emit_row(find_row(Form::Load, word), dst.number, where.base, where.off);
  }
  const OpRow* absolute = find_row(Form::LdAbs, word);
  if (!failed_ && !absolute) return refuse_at(start, "packet loads are of u8, u16 or u32");
  if (!failed_ && dst.number != 0) return refuse_at(start, "packet loads write r0");
  expect("[");
  skip_space();
  if (!is_register(word_here())) {
    const int32_t imm = imm32(false);
    expect("]");
    return emit_row(absolute, 0, 0, 0, imm);
  }
  const int src = reg_of_width(true).number;
  int32_t imm = 0;
  if (accept("+") || peek() == '-') imm = imm32(false);  // the log writes "+ -4"
  expect("]");
  emit_row(find_row(Form::LdInd, word), 0, src, 0, imm);
}

void LineParser::constant(const Register& dst) {
  const size_t start = at_;
  const Number value = number("a number");
  const bool long_suffix = accept_word("ll");
  if (failed_) return;
  if (!dst.wide) {
    if (long_suffix) return refuse_at(start, "a 64-bit constant needs a 64-bit register");
    if (!value.fits_signed(32) && !value.fits_unsigned(32))
      return refuse_at(start, "the number does not fit in the 32 bits of an immediate");
    return emit(mov32_imm(dst.number, int32_t(value.bits())));
  }
  const bool said_to_be_wide = long_suffix || prefix_ == (BPF_LD | BPF_IMM | BPF_DW);
  if (!said_to_be_wide && value.fits_signed(32)) return emit(mov64_imm(dst.number, int32_t(value.bits())));
  emit_wide(dst.number, 0, int32_t(value.bits()), int32_t(value.bits() >> 32));
}

// be16 r1, load_acquire(...), atomic_...(...), addr_space_cast(...), map[...], map_fd 5, func f
void LineParser::function_like(const Register& dst) {
  const std::string_view word = word_here();
  for (const OpRow& row : op_rows) {
    if (row.form == Form::LdImm64 && row.text[0] && word == row.text) {
      at_ += word.size();
      return wide_kind(dst, row);
    }
    if (row.form == Form::End && word == row.text + std::to_string(row.key)) {
      at_ += word.size();
      const size_t start = here();
      const Register src = reg_of_width(dst.wide);
      if (!failed_ && src.number != dst.number)
        return refuse_at(start, "the bytes of a register are swapped in place: r1 = be16 r1");
      return emit_row(&row, dst.number);
    }
  }
  if (accept_word("map")) return map_by_name(dst);
  if (accept_word("load_acquire")) {
    expect("(");
    const Address where = address(type(false));
    expect(")");
    return emit(load_acquire(where.size, dst.number, where.base, where.off));
  }
  if (accept_word("addr_space_cast")) {
    expect("(");
    const int src = reg_of_width(true).number;
    expect(",");
    const Number to = number("an address space");
    expect(",");
    const Number from = number("an address space");
    expect(")");
    if (!failed_ && (!to.fits_unsigned(16) || !from.fits_unsigned(16)))
      return refuse_at(0, "an address space is a number from 0 to 65535");
    return emit(make_insn(BPF_ALU64 | BPF_MOV | BPF_X, dst.number, src, BPF_ADDR_SPACE_CAST,
                          int32_t(uint32_t(to.magnitude) << 16 | uint32_t(from.magnitude))));
  }
  if (!atomic_function(dst, word)) fail("a register, a number, a memory access or a map");
}

// atomic64_fetch_add((u64 *)(r1 +0), r2), which also writes r2; cmpxchg compares with r0 and writes it. LLVM
// says atomic_fetch_add for u64 too.
bool LineParser::atomic_function(const Register& dst, std::string_view word) {
  const bool says_64 = word.starts_with("atomic64_");
  if (!says_64 && !word.starts_with("atomic_")) return false;
  const std::string_view verb = word.substr(says_64 ? 9 : 7);
  const bool cmpxchg = find_row(Form::AtomicCmpxchg, verb);
  if (!cmpxchg && !find_row(Form::AtomicFetch, verb)) return false;

  const size_t start = at_;
  at_ += word.size();
  expect("(");
  const Address where = address(type(false));
  const OpRow* row = find_row(cmpxchg ? Form::AtomicCmpxchg : Form::AtomicFetch, verb, 0x18, where.size);
  if (!row || (says_64 && where.size != BPF_DW))
    refuse_at(start, std::string(word) + " works on " + (says_64 ? "u64" : "u32 or u64"));
  expect(",");
  if (cmpxchg) {
    const size_t compared = here();
    if (value_reg(where.size) != 0) refuse_at(compared, "cmpxchg compares with r0");
    expect(",");
  }
  const int src = value_reg(where.size);
  expect(")");
  if (dst.number != (cmpxchg ? 0 : src))
    refuse_at(0, cmpxchg ? "cmpxchg writes r0" : "the old value goes to the register that gave the operand");
  emit_row(row, where.base, src, where.off);
  return true;
}

// map[counts], map[counts]+8, map[counts][0]+8
void LineParser::map_by_name(const Register& dst) {
  expect("[");
  const size_t close = std::min(line_.find(']', at_), line_.size());
  const std::string_view name = line_.substr(at_, close - at_);
  if (!failed_ && (name.empty() || close == line_.size())) return fail("the name of a map and \"]\"");
  MapRef ref{out_.insns.size(), std::string(name), false, 0};
  at_ = close;
  expect("]");
  if (accept("[")) {
    expect("0");
    expect("]");
    ref.value = true;
  }
  skip_space();
  if (peek() == '+' || peek() == '-') {
    ref.value = true;
    ref.offset = imm32(false);
  }
  if (!failed_ && !dst.wide) return refuse_at(0, "an address needs a 64-bit register");
  emit_wide(dst.number, ref.value ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD, 0, ref.offset);
  if (!failed_) out_.maps.push_back(std::move(ref));
}

// map_fd 5, map_value_fd 5+8, btf_id 7, func callback
void LineParser::wide_kind(const Register& dst, const OpRow& row) {
  if (!dst.wide) return refuse_at(0, "an address needs a 64-bit register");
  if (row.op == Op::LD_FUNC) {
    emit_wide(dst.number, row.key, 0, 0);
    return target(Target::Imm);
  }
  const int32_t low = imm32(false);
  skip_space();
  const int32_t high = peek() == '+' || peek() == '-' ? imm32(false) : 0;
  emit_wide(dst.number, row.key, low, high);
}

// --- Names ---

std::string did_you_mean(const Fixup& fixup, const Assembly& out) {
  std::vector<std::string> labels;
  for (const auto& [label, slot] : out.labels) labels.push_back(label);
  std::string near = nearest_name(fixup.name, labels);
  if (near.empty() && fixup.target == Target::Call) near = nearest_row(helpers(), fixup.name);
  return near.empty() ? "" : ", did you mean \"" + near + "\"?";
}

void resolve(const Fixup& fixup, const AsmOptions& options, Assembly& out) {
  const auto refuse = [&](std::string message) {
    out.errors.push_back({fixup.line, fixup.column, std::move(message)});
  };
  bpf_insn& insn = out.insns[fixup.insn];
  const auto label = out.labels.find(fixup.name);
  if (label != out.labels.end()) {
    const int64_t distance = int64_t(label->second) - int64_t(fixup.insn) - 1;
    if (fixup.target != Target::Off) {
      insn.imm = int32_t(distance);
    } else if (distance < INT16_MIN || distance > INT16_MAX) {
      refuse("label \"" + fixup.name + "\" is " + std::to_string(distance) +
             " instructions away, 16 bits reach 32767: jump on with gotol");
    } else {
      insn.off = int16_t(distance);
    }
    return;
  }
  if (fixup.target != Target::Call)
    return refuse("no label is called \"" + fixup.name + "\"" + did_you_mean(fixup, out));
  if (const std::optional<int32_t> id = helper_id(fixup.name)) {
    insn = call_helper(*id);
    return;
  }
  const std::optional<int32_t> id = options.kfunc_id ? options.kfunc_id(fixup.name) : std::nullopt;
  if (!id)
    return refuse("no label, helper or kernel function is called \"" + fixup.name + "\"" +
                  did_you_mean(fixup, out));
  insn = call_kfunc(*id);
}

}  // namespace

Assembly assemble(std::string_view source, const AsmOptions& options) {
  Assembly out;
  std::vector<Fixup> fixups;
  int line_number = 0;
  while (!source.empty()) {
    const size_t end = std::min(source.find('\n'), source.size());
    LineParser(source.substr(0, end), ++line_number, out, fixups).parse();
    source.remove_prefix(std::min(end + 1, source.size()));
  }
  for (const Fixup& fixup : fixups) resolve(fixup, options, out);
  std::sort(out.errors.begin(), out.errors.end(), [](const AsmError& a, const AsmError& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return out;
}

}  // namespace bpfsim
