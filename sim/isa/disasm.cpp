// Models: kernel/bpf/disasm.c (Linux 6.18)
//
// The form of an opcode's row chooses the sentence, its text the operator. What has no row, or a row without
// words (Form::Hidden), goes to print_unlisted, which follows the kernel's printer into the corners where
// that looks at fewer fields than decode() does. Departs from the kernel in one place where that reads past
// its table: the load with sign extension of eight bytes, which prints as s64 here. The verifier refuses it
// before it is printed.
#include "isa/disasm.h"

#include <cstdarg>
#include <cstdio>

#include "isa/opcodes.h"
#include "uapi/tables.h"

namespace bpfsim {

const char* func_id_name(int id) {
  if (id == 0) return "bpf_unspec";
  const HelperRow* row = find_helper(id);
  return row ? row->name : "unknown";
}

[[gnu::format(printf, 1, 2)]] static std::string text(const char* format, ...) {
  char line[192];
  va_list args;
  va_start(args, format);
  std::vsnprintf(line, sizeof line, format, args);
  va_end(args);
  return line;
}

static const char* size_name(uint8_t code) {
  static constexpr const char* names[] = {"u32", "u16", "u8", "u64"};
  return names[BPF_SIZE(code) >> 3];
}

static const char* sign_extended_size_name(uint8_t code) {
  static constexpr const char* names[] = {"s32", "s16", "s8", "s64"};
  return names[BPF_SIZE(code) >> 3];
}

static std::string call_text(const bpf_insn& insn, const DisasmOptions& options) {
  if (insn.src_reg == 0 && std::string_view(func_id_name(insn.imm)) != "unknown")
    return text("call %s#%d", func_id_name(insn.imm), insn.imm);
  std::optional<std::string> name;
  if (options.call_name) name = options.call_name(insn);
  if (insn.src_reg == BPF_PSEUDO_CALL) return "call pc" + name.value_or(text("%+d", insn.imm));
  if (!name) name = insn.src_reg == BPF_PSEUDO_KFUNC_CALL ? "kernel-function" : "unknown";
  return "call " + *name + text("#%d", insn.imm);
}

static bool is_kernel_address(const bpf_insn& insn) {
  switch (insn.src_reg) {
    case BPF_PSEUDO_MAP_FD:
    case BPF_PSEUDO_MAP_VALUE:
    case BPF_PSEUDO_MAP_IDX:
    case BPF_PSEUDO_MAP_IDX_VALUE:
    case BPF_PSEUDO_BTF_ID: return true;
    default: return false;
  }
}

static std::string ld_imm64_text(const bpf_insn& insn, const bpf_insn& next, const DisasmOptions& options) {
  uint64_t value = ld_imm64_value(insn, next);
  if (is_kernel_address(insn) && !options.allow_ptr_leaks) value = 0;
  std::string imm = options.imm_text ? options.imm_text(insn, value) : "";
  if (imm.empty()) imm = text("0x%llx", (unsigned long long)value);
  return text("r%d = ", insn.dst_reg) + imm;
}

// Encodings without a row of their own, as the kernel's printer sees them.
static std::string print_unlisted(const bpf_insn& insn, const DisasmOptions& options) {
  static constexpr const char* alu_operators[16] = {"+=",   "-=",     "*=",     "/=",    "|=", "&=",
                                                    "<<=",  ">>=",    "neg",    "%=",    "^=", "=",
                                                    "s>>=", "endian", "(null)", "(null)"};
  static constexpr const char* jmp_operators[16] = {
      "jmp",  "==",   ">", ">=", "&",  "!=",  "s>",     "s>=",
      "call", "exit", "<", "<=", "s<", "s<=", "(null)", "(null)"};
  const uint8_t code = insn.code;
  const bool register_operand = BPF_SRC(code) == BPF_X;
  const char w = BPF_CLASS(code) == BPF_ALU || BPF_CLASS(code) == BPF_JMP32 ? 'w' : 'r';

  switch (BPF_CLASS(code)) {
    case BPF_ALU:
    case BPF_ALU64:
      if (BPF_OP(code) == BPF_END) {
        const char* word = BPF_CLASS(code) == BPF_ALU64 ? "bswap" : register_operand ? "be" : "le";
        return text("r%d = %s%d r%d", insn.dst_reg, word, insn.imm, insn.dst_reg);
      }
      if (BPF_OP(code) == BPF_NEG) return text("%c%d = -%c%d", w, insn.dst_reg, w, insn.dst_reg);
      if (!register_operand) return text("%c%d %s %d", w, insn.dst_reg, alu_operators[code >> 4], insn.imm);
      return text("%c%d %s %s%c%d", w, insn.dst_reg, alu_operators[code >> 4],
                  BPF_OP(code) == BPF_MOV && insn.off == 32 ? "(s32)" : "", w, insn.src_reg);
    case BPF_JMP:
    case BPF_JMP32:
      if (BPF_OP(code) == BPF_CALL) return call_text(insn, options);
      if (register_operand)
        return text("if %c%d %s %c%d goto pc%+d", w, insn.dst_reg, jmp_operators[code >> 4], w, insn.src_reg,
                    insn.off);
      return text("if %c%d %s 0x%x goto pc%+d", w, insn.dst_reg, jmp_operators[code >> 4], uint32_t(insn.imm),
                  insn.off);
    case BPF_STX: return text("BUG_%02x", code);
    case BPF_ST: return BPF_MODE(code) == BPF_NOSPEC ? "nospec" : text("BUG_st_%02x", code);
    case BPF_LDX:
      if (BPF_MODE(code) != BPF_MEMSX) return text("BUG_ldx_%02x", code);
      return text("r%d = *(%s *)(r%d %+d)", insn.dst_reg, sign_extended_size_name(code), insn.src_reg,
                  insn.off);
    default:
      if (BPF_MODE(code) == BPF_ABS) return text("r0 = *(%s *)skb[%d]", size_name(code), insn.imm);
      if (BPF_MODE(code) == BPF_IND)
        return text("r0 = *(%s *)skb[r%d + %d]", size_name(code), insn.src_reg, insn.imm);
      return text("BUG_ld_%02x", code);
  }
}

static std::string print_listed(const OpRow& row, const bpf_insn& insn, const bpf_insn& next,
                                const DisasmOptions& options) {
  const int dst = insn.dst_reg, src = insn.src_reg, off = insn.off, imm = insn.imm;
  const char w = row.wide() ? 'r' : 'w';
  const char* suffix = BPF_SIZE(insn.code) == BPF_DW ? "64" : "";
  const char* size = size_name(insn.code);

  switch (row.form) {
    case Form::AluImm: return text("%c%d %s %d", w, dst, row.text, imm);
    case Form::AluReg: return text("%c%d %s %c%d", w, dst, row.text, w, src);
    case Form::Neg: return text("%c%d = -%c%d", w, dst, w, dst);
    case Form::MovSx: return text("%c%d = (%s)%c%d", w, dst, row.text, w, src);
    case Form::End: return text("r%d = %s%d r%d", dst, row.text, imm, dst);
    case Form::AddrSpaceCast:
      return text("r%d = addr_space_cast(r%d, %u, %u)", dst, src, uint32_t(imm) >> 16, uint16_t(imm));
    case Form::AddrPercpu: return text("r%d = &(void __percpu *)(r%d)", dst, src);
    case Form::JmpImm: return text("if %c%d %s 0x%x goto pc%+d", w, dst, row.text, uint32_t(imm), off);
    case Form::JmpReg: return text("if %c%d %s %c%d goto pc%+d", w, dst, row.text, w, src, off);
    case Form::Goto: return text("%s pc%+d", row.text, off);
    case Form::Gotol: return text("%s pc%+d", row.text, imm);
    case Form::CallHelper:
    case Form::CallLocal:
    case Form::CallKfunc: return call_text(insn, options);
    case Form::Exit:
    case Form::Nospec: return row.text;
    case Form::Load: return text("r%d = *(%s *)(r%d %+d)", dst, row.text, src, off);
    case Form::StoreImm: return text("*(%s *)(r%d %+d) = %d", row.text, dst, off, imm);
    case Form::StoreReg: return text("*(%s *)(r%d %+d) = r%d", row.text, dst, off, src);
    case Form::Atomic: return text("lock *(%s *)(r%d %+d) %s r%d", size, dst, off, row.text, src);
    case Form::AtomicFetch:
      return text("r%d = atomic%s_%s((%s *)(r%d %+d), r%d)", src, suffix, row.text, size, dst, off, src);
    case Form::AtomicCmpxchg:
      return text("r0 = atomic%s_%s((%s *)(r%d %+d), r0, r%d)", suffix, row.text, size, dst, off, src);
    case Form::LoadAcquire: return text("r%d = %s((%s *)(r%d %+d))", dst, row.text, size, src, off);
    case Form::StoreRelease: return text("%s((%s *)(r%d %+d), r%d)", row.text, size, dst, off, src);
    case Form::LdImm64: return ld_imm64_text(insn, next, options);
    case Form::LdAbs: return text("r0 = *(%s *)skb[%d]", row.text, imm);
    case Form::LdInd: return text("r0 = *(%s *)skb[r%d + %d]", row.text, src, imm);
    case Form::Hidden: return print_unlisted(insn, options);
  }
  return print_unlisted(insn, options);
}

std::string insn_text(std::span<const bpf_insn> insns, size_t at, const DisasmOptions& options) {
  const bpf_insn& insn = insns[at];
  const bpf_insn next = at + 1 < insns.size() ? insns[at + 1] : bpf_insn{};
  if (const OpRow* row = decode(insn)) return print_listed(*row, insn, next, options);
  if (is_ld_imm64(insn)) return ld_imm64_text(insn, next, options);
  if (is_atomic(insn)) {  // of one or two bytes: refused, but printed as its larger brothers
    const OpRow* row = decode(atomic_op(BPF_W, insn.imm, 0, 0, 0));
    if (row) return print_listed(*row, insn, next, options);
  }
  return print_unlisted(insn, options);
}

std::string print_bpf_insn(std::span<const bpf_insn> insns, size_t at, const DisasmOptions& options) {
  std::string words = insn_text(insns, at, options);
  return words.starts_with("BUG_") ? words : text("(%02x) ", insns[at].code) + words;
}

std::string disassemble(std::span<const bpf_insn> insns, const DisasmOptions& options) {
  std::string listing;
  for (size_t at = 0; at < insns.size(); at += is_ld_imm64(insns[at]) ? 2 : 1)
    listing += text("%4zu: ", at) + print_bpf_insn(insns, at, options) + "\n";
  return listing;
}

std::string xlated_imm(const bpf_insn& insn, uint64_t value) {
  const uint32_t low = uint32_t(value), high = uint32_t(value >> 32);
  switch (insn.src_reg) {
    case BPF_PSEUDO_MAP_FD: return text("map[id:%d]", int(low));
    case BPF_PSEUDO_MAP_VALUE: return text("map[id:%d][0]+%d", int(low), int(high));
    case BPF_PSEUDO_MAP_IDX_VALUE: return text("map[idx:%d]+%d", int(low), int(high));
    case BPF_PSEUDO_FUNC: return text("subprog[%+d]", int(low));
    default: return text("0x%llx", (unsigned long long)value);
  }
}

std::string source_imm(const bpf_insn& insn, uint64_t value) {
  const int low = int(uint32_t(value)), high = int(uint32_t(value >> 32));
  const OpRow* row = decode(insn);
  switch (insn.src_reg) {
    case BPF_PSEUDO_MAP_FD:
    case BPF_PSEUDO_MAP_IDX:
    case BPF_PSEUDO_MAP_VALUE:
    case BPF_PSEUDO_MAP_IDX_VALUE:
    case BPF_PSEUDO_BTF_ID:
      return high ? text("%s %d%+d", row->text, low, high) : text("%s %d", row->text, low);
    case BPF_PSEUDO_FUNC: return text("%s pc%+d", row->text, low);
    default: return text("0x%llx ll", (unsigned long long)value);
  }
}

}  // namespace bpfsim
