// No kernel counterpart: the kernel returns -EINVAL and forgets why; here the reason travels back with the
// number.
//
// Formatting of refusals, done only when somebody reads one.
#include "uapi/result.h"

#include <utility>

namespace bpfsim {

const char* errno_name(Errno err) {
  switch (err) {
    case Errno::None: return "E0";
#define ERRNO(name, number, text) \
  case Errno::name: return text;
#include "uapi/errno.def"
#undef ERRNO
  }
  return "E?";
}

const char* errno_phrase(Errno err) {
  // 524 never should reach user space, and the C library has no phrase for it; bpf(2) lets it through all the
  // same.
  return err == Errno::NotSupp ? "Operation is not supported (kernel-internal ENOTSUPP)"
                               : std::strerror(int(err));
}

std::string FactArg::str() const {
  switch (kind_) {
    case Kind::Signed: return std::to_string(int64_t(number_));
    case Kind::Unsigned: return std::to_string(number_);
    case Kind::Text:
    case Kind::Part: return text_;
    case Kind::Absent: break;
  }
  return "";
}

// The kernel's function of which ours does a part; else ours.
static std::string_view kernels_name(std::string_view function) {
  static constexpr std::pair<std::string_view, std::string_view> parts[] = {
#define PART(ours, kernels) {#ours, #kernels},
#include "uapi/parts.def"
#undef PART
  };
  for (const auto& [ours, kernels] : parts)
    if (ours == function) return kernels;
  return function;
}

// source_location gives "bpfsim::Result<> bpfsim::array_map_alloc_check(const Attr&)"; a reader wants the
// bare name, and the kernel's.
std::string Refusal::check() const {
  std::string_view name = function;
  if (size_t paren = name.find('('); paren != name.npos) name = name.substr(0, paren);
  if (size_t space = name.rfind(' '); space != name.npos) name = name.substr(space + 1);
  while (!name.empty() && (name.front() == '*' || name.front() == '&')) name.remove_prefix(1);
  if (size_t colons = name.rfind("::"); colons != name.npos) name = name.substr(colons + 2);
  return std::string(kernels_name(name));
}

void Refusal::put_name(std::string_view name, size_t& at, size_t& spare) {
  for (; name.size() > FactArg::kLongest && spare; --spare) {
    args[at++] = FactArg::part(name.substr(0, FactArg::kLongest));
    name.remove_prefix(FactArg::kLongest);
  }
  args[at++] = FactArg(name);
}

std::string Refusal::reason() const {
  std::string text;
  size_t arg = 0;
  for (const char* p = fact; *p; ++p) {
    if (p[0] == '{' && p[1] == '}' && arg < 3) {
      while (args[arg].goes_on()) text += args[arg++].str();
      text += args[arg++].str();
      ++p;
    } else {
      text += *p;
    }
  }
  return text;
}

}  // namespace bpfsim
