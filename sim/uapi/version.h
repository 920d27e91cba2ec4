// No kernel counterpart: a kernel is one version and need not name it; a simulated machine boots as any of
// them.
//
// A kernel version as this project counts it, "6.18": the two numbers that decide what a kernel has. A
// third part ("5.4.0", "6.18.44-amd64") is read over: neither stable updates nor what a distribution calls
// its kernel are told apart.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bpfsim {

struct Version {
  uint16_t major = 0, minor = 0;

  friend constexpr auto operator<=>(Version, Version) = default;
  std::string str() const { return std::to_string(major) + "." + std::to_string(minor); }

  // "6.18", "5.4.0" or "6.1-rc3"; nothing if it does not begin with two numbers.
  static constexpr std::optional<Version> parse(std::string_view text) {
    uint32_t numbers[2] = {0, 0};
    for (uint32_t& number : numbers) {
      size_t digits = 0;
      for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
        number = number * 10 + uint32_t(text[digits] - '0');
        if (number > UINT16_MAX) return {};
      }
      if (digits == 0) return {};
      text.remove_prefix(digits);
      if (&number != numbers) break;
      if (text.empty() || text.front() != '.') return {};
      text.remove_prefix(1);
    }
    if (!text.empty() && text.front() != '.' && text.front() != '-') return {};
    return Version{uint16_t(numbers[0]), uint16_t(numbers[1])};
  }
};

// "6.18"_v: a version in our own source; one that does not parse does not compile.
consteval Version operator""_v(const char* text, size_t length) {
  return Version::parse({text, length}).value();
}

inline constexpr Version kFirst{4, 14};   // the oldest kernel that a machine boots as
inline constexpr Version kLatest{6, 18};  // the default, and the one that a live kernel checks

}  // namespace bpfsim
