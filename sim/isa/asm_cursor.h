// No kernel counterpart: belongs to the assembler (isa/asm.h).
//
// A place in one line of source, moving from left to right over words, registers and numbers. The first thing
// that does not fit is noted as an error; after that every step gives nothing and stays, so that a grammar
// written with these steps need not ask after each.
#pragma once

#include "isa/asm.h"

namespace bpfsim {

struct Register {
  int number = 0;
  bool wide = true;  // r1, not w1
};

struct Number {
  bool negative = false, hex = false;
  uint64_t magnitude = 0;

  uint64_t bits() const { return negative ? 0 - magnitude : magnitude; }
  bool fits_signed(int width) const {
    const uint64_t limit = 1ull << (width - 1);
    return magnitude < limit || (negative && magnitude == limit);
  }
  bool fits_unsigned(int width) const { return !negative && magnitude >> width == 0; }
};

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
int hex_digit(char c);  // -1: none
bool is_register(std::string_view word);

class LineCursor {
 public:
  LineCursor(std::string_view line, int line_number, std::vector<AsmError>& errors)
      : line_(line), line_number_(line_number), errors_(errors) {}

  // What stands at the cursor.
  char peek(size_t ahead = 0) const { return at_ + ahead < line_.size() ? line_[at_ + ahead] : '\0'; }
  bool at_end();
  bool at_number() const {
    return is_digit(peek()) || ((peek() == '-' || peek() == '+') && is_digit(peek(1)));
  }
  std::string_view word_here() const;

  // Steps. After a failure each of them gives nothing and stays.
  void skip_space();
  size_t here();
  void fail(std::string_view expected);
  void refuse_at(size_t at, std::string message);
  bool accept(std::string_view symbol);
  void expect(std::string_view symbol);
  bool accept_word(std::string_view word);
  Register reg();
  Register reg_of_width(bool wide);
  int value_reg(uint8_t size);
  Number number(const char* expected);
  int16_t offset16();
  int32_t imm32(bool high_bit_may_be_set);

  std::string_view line_;
  int line_number_;
  size_t at_ = 0;
  bool failed_ = false;

 private:
  std::vector<AsmError>& errors_;
};

}  // namespace bpfsim
