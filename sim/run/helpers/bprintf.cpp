// Models: kernel/bpf/helpers.c (bpf_bprintf_prepare), lib/vsprintf.c (bstr_printf) (Linux 6.18)
//
// What bpf_trace_printk and bpf_snprintf accept as a format, and the text that comes of it. A conversion is
// %, any of "0 +-", a width, and one of: d i u x X with l or ll before it, c, s, p and its kinds. Anything
// else is -EINVAL before a byte is written, and so is a conversion without an argument. Departs from the
// kernel: one pass instead of two; a hashed %p takes the hash from the address alone; no symbol has a name,
// so %ps prints the address as the kernel does for an address that it has no symbol for. 6.18's rules are
// used for every version.
#include <cctype>
#include <cstdio>

#include "run/helpers/call.h"

namespace bpfsim {

namespace {

// Past this much text only the length is counted: a width may ask for millions of blanks.
constexpr size_t kKept = 8192;

struct Spec {
  bool zero = false, plus = false, minus = false, space = false;
  uint64_t width = 0;
};

class Printer {
 public:
  Printer(Machine& machine, const std::string& fmt, const uint64_t* args, uint32_t num_args)
      : machine_(machine), fmt_(fmt), args_(args), num_args_(num_args) {}

  Result<Formatted> print() {
    while (at_ < fmt_.size()) {
      unsigned char c = static_cast<unsigned char>(fmt_[at_]);
      if (c < 0x80 && !std::isprint(c) && !std::isspace(c))
        return refuse(Errno::Inval, "the format holds the control character {} at {}", unsigned(c), at_);
      if (c == '%' && peek(1) != '%') {
        TRY(conversion());
        continue;
      }
      put(fmt_.substr(at_, 1));
      at_ += c == '%' ? 2 : 1;
    }
    return out_;
  }

 private:
  char peek(size_t ahead) const { return at_ + ahead < fmt_.size() ? fmt_[at_ + ahead] : '\0'; }
  static bool ends_word(char c) {
    unsigned char u = static_cast<unsigned char>(c);
    return c == 0 || (u < 0x80 && (std::isspace(u) || std::ispunct(u)));
  }

  void put(const std::string& text) {
    out_.length += text.size();
    if (out_.text.size() < kKept) out_.text += text;
  }
  void put_padded(const Spec& spec, const std::string& body, bool number = false) {
    uint64_t fill = spec.width > body.size() ? spec.width - body.size() : 0;
    size_t kept = size_t(fill < kKept ? fill : kKept);
    out_.length += fill - kept;
    if (spec.minus) {
      put(body);
      put(std::string(kept, ' '));
    } else if (spec.zero && number) {
      size_t sign = !body.empty() && (body[0] == '-' || body[0] == '+' || body[0] == ' ') ? 1 : 0;
      put(body.substr(0, sign) + std::string(kept, '0') + body.substr(sign));
    } else {
      put(std::string(kept, ' ') + body);
    }
  }

  Spec flags_and_width() {
    Spec spec;
    for (;; ++at_) {
      char c = peek(0);
      if (c == '0')
        spec.zero = true;
      else if (c == '+')
        spec.plus = true;
      else if (c == '-')
        spec.minus = true;
      else if (c == ' ')
        spec.space = true;
      else
        break;
    }
    constexpr uint64_t kWidest = (1u << 23) - 1;
    for (; std::isdigit(static_cast<unsigned char>(peek(0))); ++at_)
      if (spec.width <= kWidest) spec.width = spec.width * 10 + uint64_t(peek(0) - '0');
    if (spec.width > kWidest) spec.width = kWidest;
    return spec;
  }

  Result<void> conversion() {
    size_t start = at_++;
    if (used_ >= num_args_)
      return refuse(Errno::Inval, "the conversion at {} has no argument: {} are given", start, num_args_);
    Spec spec = flags_and_width();
    uint64_t arg = args_[used_++];
    switch (peek(0)) {
      case 'p': return pointer(spec, arg);
      case 's': return string(spec, arg);
      case 'c':
        ++at_;
        put_padded(spec, std::string(1, char(arg)));
        return {};
      default: return integer(spec, arg);
    }
  }

  Result<void> integer(const Spec& spec, uint64_t arg) {
    int longs = 0;
    for (; longs < 2 && peek(0) == 'l'; ++at_) ++longs;
    char c = peek(0);
    char text[32];
    if (c == 'd' || c == 'i') {
      int64_t value = longs ? int64_t(arg) : int32_t(arg);
      std::snprintf(text, sizeof text, "%lld", static_cast<long long>(value));
      std::string body = text;
      if (value >= 0 && spec.plus)
        body = "+" + body;
      else if (value >= 0 && spec.space)
        body = " " + body;
      put_padded(spec, body, true);
    } else if (c == 'u' || c == 'x' || c == 'X') {
      unsigned long long value = longs ? arg : uint32_t(arg);
      std::snprintf(text, sizeof text, c == 'u' ? "%llu" : c == 'x' ? "%llx" : "%llX", value);
      put_padded(spec, text, true);
    } else {
      return refuse(Errno::Inval, "the format has no conversion '{}', at {}", std::string(1, c), at_);
    }
    ++at_;
    return {};
  }

  Result<void> string(const Spec& spec, uint64_t arg) {
    if (!ends_word(peek(1)))
      return refuse(Errno::Inval, "%s must be followed by a blank or a sign, not by '{}'",
                    fmt_.substr(at_ + 1, 1));
    ++at_;
    put_padded(spec, string_at(arg));
    return {};
  }

  // A string of the kernel; what cannot be read is empty.
  std::string string_at(Addr addr) const {
    std::string text;
    for (; text.size() < 512 && is_program_memory(machine_, addr, 1); ++addr) {
      char c = char(*machine_.arena.host(addr));
      if (c == 0) break;
      text.push_back(c);
    }
    return text;
  }

  Result<void> pointer(const Spec& spec, uint64_t arg) {
    char kind = peek(1);
    if (ends_word(kind)) {
      ++at_;
      put_address(spec, arg ? uint32_t(Random(arg).next()) : 0, "%016llx");
      return {};
    }
    if ((kind == 'k' || kind == 'u') && peek(2) == 's') {
      at_ += 2;
      return string(spec, arg);
    }
    if (kind == 'x' || kind == 'K' || kind == 's' || kind == 'S' || kind == 'B') {
      at_ += 2;
      if (kind == 'x')
        put_address(spec, arg, "%016llx");
      else if (kind == 'K')
        put_address(spec, arg ? uint32_t(Random(arg).next()) : 0, "%016llx");
      else
        put_address(spec, arg, "0x%llx");
      return {};
    }
    if ((kind == 'i' || kind == 'I') && (peek(2) == '4' || peek(2) == '6')) {
      put_padded(spec, ip_text(arg, kind == 'I', peek(2) == '6'));
      at_ += 3;
      return {};
    }
    return refuse(Errno::Inval, "the format has no conversion '%p{}'", std::string(1, kind));
  }

  void put_address(const Spec& spec, uint64_t value, const char* form) {
    char text[32];
    std::snprintf(text, sizeof text, form, static_cast<unsigned long long>(value));
    put_padded(spec, text);
  }

  // %pI4 1.2.3.4, %pi4 001.002.003.004, %pI6 with colons, %pi6 without.
  std::string ip_text(Addr addr, bool usual, bool six) const {
    uint8_t bytes[16] = {};
    size_t size = six ? 16 : 4;
    if (is_program_memory(machine_, addr, size)) std::copy_n(machine_.arena.host(addr), size, bytes);
    std::string text;
    char part[8];
    for (size_t i = 0; i < size; ++i) {
      if (six) {
        std::snprintf(part, sizeof part, "%02x", bytes[i]);
        if (usual && i && i % 2 == 0) text += ':';
      } else {
        std::snprintf(part, sizeof part, usual ? "%u" : "%03u", unsigned(bytes[i]));
        if (i) text += '.';
      }
      text += part;
    }
    return text;
  }

  Machine& machine_;
  const std::string& fmt_;
  const uint64_t* args_;
  const uint32_t num_args_;
  uint32_t used_ = 0;
  size_t at_ = 0;
  Formatted out_;
};

}  // namespace

Result<Formatted> bpf_bprintf(Machine& machine, Addr fmt_addr, uint64_t fmt_size, const uint64_t* args,
                              uint32_t num_args) {
  std::string fmt;
  for (uint64_t i = 0;; ++i) {
    if (i == fmt_size) return refuse(Errno::Inval, "the format of {} bytes has no NUL", fmt_size);
    if (!is_program_memory(machine, fmt_addr + i, 1))
      return refuse(Errno::Fault, "the format cannot be read at byte {}", i);
    char c = char(*machine.arena.host(fmt_addr + i));
    if (c == 0) break;
    fmt.push_back(c);
  }
  return Printer(machine, fmt, args, num_args).print();
}

}  // namespace bpfsim
