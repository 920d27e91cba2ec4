// No kernel counterpart: belongs to the assembler (isa/asm.h).
//
// See asm_cursor.h. Numbers are kept as sign and 64 bits; whether they fit is asked where the field is known,
// since the same bits are a mask in a 32-bit operation and a surprise in a 64-bit one.
#include "isa/asm_cursor.h"

namespace bpfsim {

static bool is_word_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
         c == '$' || uint8_t(c) >= 0x80;
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_register(std::string_view word) {
  if (word.size() < 2 || (word[0] != 'r' && word[0] != 'w')) return false;
  return (word.size() == 2 && is_digit(word[1])) || word.substr(1) == "10";
}

void LineCursor::skip_space() {
  while (peek() == ' ' || peek() == '\t' || peek() == '\r') ++at_;
}

size_t LineCursor::here() {
  skip_space();
  return at_;
}

bool LineCursor::at_end() {
  skip_space();
  return at_ >= line_.size() || peek() == ';' || peek() == '#' || (peek() == '/' && peek(1) == '/');
}

std::string_view LineCursor::word_here() const {
  size_t end = at_;
  while (end < line_.size() && is_word_char(line_[end])) ++end;
  return line_.substr(at_, end - at_);
}

void LineCursor::refuse_at(size_t at, std::string message) {
  if (!failed_) errors_.push_back({line_number_, int(at) + 1, std::move(message)});
  failed_ = true;
}

void LineCursor::fail(std::string_view expected) {
  std::string found = "the end of the line";
  if (!at_end()) {
    std::string_view word = word_here();
    if (word.empty()) word = line_.substr(at_, 1);
    const unsigned char first = word[0];
    if (first < 0x20 || first == 0x7f)
      found = "the control character " + std::to_string(first);
    else
      found = '"' + std::string(word) + '"';
  }
  refuse_at(at_, "expected " + std::string(expected) + ", found " + found);
}

bool LineCursor::accept(std::string_view symbol) {
  skip_space();
  if (failed_ || !line_.substr(at_).starts_with(symbol)) return false;
  at_ += symbol.size();
  return true;
}

void LineCursor::expect(std::string_view symbol) {
  if (!failed_ && !accept(symbol)) fail('"' + std::string(symbol) + '"');
}

bool LineCursor::accept_word(std::string_view word) {
  skip_space();
  if (failed_ || word_here() != word) return false;
  at_ += word.size();
  return true;
}

Register LineCursor::reg() {
  skip_space();
  if (failed_) return {};
  const std::string_view word = word_here();
  if (!is_register(word)) {
    fail("a register (r0-r10, w0-w10)");
    return {};
  }
  at_ += word.size();
  return {word.size() == 3 ? 10 : word[1] - '0', word[0] == 'r'};
}

Register LineCursor::reg_of_width(bool wide) {
  skip_space();
  const std::string_view word = word_here();
  if (!failed_ && (!is_register(word) || (word[0] == 'r') != wide))
    fail(wide ? "a 64-bit register (r0-r10)" : "a 32-bit register (w0-w10)");
  return reg();
}

// A register that gives or takes a value of this size in memory. The log writes r for every size, LLVM w for
// the smaller ones; both mean the same bytes.
int LineCursor::value_reg(uint8_t size) { return size == BPF_DW ? reg_of_width(true).number : reg().number; }

Number LineCursor::number(const char* expected) {
  const size_t start = here();
  Number value;
  if (peek() == '-' || peek() == '+') value.negative = line_[at_++] == '-';
  skip_space();
  if (failed_ || !is_digit(peek())) {
    at_ = start;
    fail(expected);
    return {};
  }
  value.hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X') && hex_digit(peek(2)) >= 0;
  if (value.hex) at_ += 2;
  const uint64_t base = value.hex ? 16 : 10;
  bool too_large = false;
  for (; value.hex ? hex_digit(peek()) >= 0 : is_digit(peek()); ++at_) {
    const uint64_t digit = hex_digit(peek());
    too_large |= value.magnitude > (UINT64_MAX - digit) / base;
    value.magnitude = value.magnitude * base + digit;
  }
  if (is_word_char(peek())) {
    at_ = start;
    fail(expected);
  } else if (too_large || (value.negative && value.magnitude > 1ull << 63)) {
    refuse_at(start, "the number does not fit in 64 bits");
  }
  return value;
}

int16_t LineCursor::offset16() {
  const size_t start = here();
  const Number value = number("an offset");
  if (!failed_ && !value.fits_signed(16)) refuse_at(start, "the offset must be from -32768 to 32767");
  return int16_t(value.bits());
}

// The field has 32 bits and is sign-extended where 64 are needed: a number with bit 31 set is only let
// through where that cannot surprise (a 32-bit operation) or where the log writes the field so (a comparison,
// in hex).
int32_t LineCursor::imm32(bool high_bit_may_be_set) {
  const size_t start = here();
  const Number value = number("a number");
  if (!failed_ && !value.fits_signed(32) && !(high_bit_may_be_set && value.fits_unsigned(32)))
    refuse_at(
        start,
        high_bit_may_be_set || !value.fits_unsigned(32)
            ? "the number does not fit in the 32 bits of an immediate"
            : "the number does not fit in an immediate, which is 32 bits with sign: move it into a register "
              "first (r1 = ... ll)");
  return int32_t(value.bits());
}

}  // namespace bpfsim
