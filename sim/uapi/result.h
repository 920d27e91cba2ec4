// No kernel counterpart: the kernel returns -EINVAL and forgets why; here the reason travels back with the
// number.
//
// A kernel function returns Result<T>: a value, or a Refusal that says which check refused and what it wanted
// and got. Failures are a hot path too (a lookup that misses), so a Refusal stores the fact unformatted, as
// the address of a literal and up to three arguments, and formats it only when somebody reads it. It stays
// small, since each caller on the way out copies it: a long name goes on in the places that the fact's other
// values leave free. Nothing here throws.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace bpfsim {

enum class Errno : int {
  None = 0,
#define ERRNO(name, number, text) name = number,
#include "uapi/errno.def"
#undef ERRNO
};

const char* errno_name(Errno err);    // "EINVAL"; "E0" for none, "E?" for a number that Linux does not have
const char* errno_phrase(Errno err);  // "Invalid argument", as strerror(3) says it on Linux

// The plain fact that a check states, with "{}" for each argument, and the function that states it.
struct Fact {
  const char* text;
  std::source_location where;
  constexpr Fact(const char* text, std::source_location where = std::source_location::current())
      : text(text), where(where) {}
};

// One argument of a fact, held by value: a number, a name, or a part of a name that the next one goes on
// with.
class FactArg {
 public:
  static constexpr size_t kLongest = 39;  // of a name
  FactArg() {}  // written out, as that of Result<void>: a defaulted one would zero every byte of a {}
  template <class T>
    requires std::is_integral_v<T> || std::is_enum_v<T>
  FactArg(T value) : kind_(std::is_signed_v<T> ? Kind::Signed : Kind::Unsigned), number_(uint64_t(value)) {}
  FactArg(std::string_view text) : kind_(Kind::Text), text_{} {
    text.copy(text_, kLongest);
    if (text.size() > kLongest) std::memcpy(text_ + kLongest - 3, "...", 3);
  }
  FactArg(const char* text) : FactArg(std::string_view(text)) {}
  FactArg(const std::string& text) : FactArg(std::string_view(text)) {}
  static FactArg part(std::string_view text) {
    FactArg arg(text);
    arg.kind_ = Kind::Part;
    return arg;
  }
  bool goes_on() const { return kind_ == Kind::Part; }
  std::string str() const;

 private:
  enum class Kind : uint8_t { Absent, Signed, Unsigned, Text, Part } kind_ = Kind::Absent;
  union {
    uint64_t number_ = 0;
    char text_[kLongest + 1];
  };
};

struct Refusal {
  Errno err = Errno::None;
  const char* fact = "";
  const char* function = "";  // the full signature that the compiler gives; check() cuts it to the name
  FactArg args[3];

  std::string check() const;   // which function refused: "queue_stack_map_alloc_check"
  std::string reason() const;  // "key_size must be 0, is 4"

  // Appends a name from args[at] on. Up to `spare` places more than one are free for it.
  void put_name(std::string_view name, size_t& at, size_t& spare);
};

template <class... Args>
[[nodiscard]] Refusal refuse(Errno err, Fact fact, const Args&... args) {
  static_assert(sizeof...(args) <= 3, "a fact names at most three values");
  const char* function = fact.where.function_name();
  if constexpr ((std::is_convertible_v<const Args&, std::string_view> || ...)) {
    Refusal refusal{err, fact.text, function, {}};
    size_t at = 0, spare = 3 - sizeof...(args);
    auto put = [&](const auto& arg) {
      if constexpr (std::is_convertible_v<decltype(arg), std::string_view>)
        refusal.put_name(arg, at, spare);
      else
        refusal.args[at++] = FactArg(arg);
    };
    (put(args), ...);
    return refusal;
  } else {
    return Refusal{err, fact.text, function, {FactArg(args)...}};
  }
}

template <class T = void>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(const Refusal& refusal) : refusal_(refusal) {}

  explicit operator bool() const { return refusal_.err == Errno::None; }
  bool ok() const { return bool(*this); }
  Errno err() const { return refusal_.err; }
  const Refusal& refusal() const { return refusal_; }
  T& operator*() & { return value_; }
  const T& operator*() const& { return value_; }
  T operator*() && { return std::move(value_); }
  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }

 private:
  T value_{};
  Refusal refusal_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() {}
  Result(const Refusal& refusal) : refusal_(refusal) {}

  explicit operator bool() const { return refusal_.err == Errno::None; }
  bool ok() const { return bool(*this); }
  Errno err() const { return refusal_.err; }
  const Refusal& refusal() const { return refusal_; }
  void operator*() const {}

 private:
  Refusal refusal_;
};

// TRY(call): the value of a call, or return its refusal to our own caller.
#define TRY(...)                                  \
  ({                                              \
    auto try_result = (__VA_ARGS__);              \
    if (!try_result) return try_result.refusal(); \
    *std::move(try_result);                       \
  })

}  // namespace bpfsim
