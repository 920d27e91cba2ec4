// No kernel counterpart: bpf(2) takes numbers; a person types names, and mistypes them.
//
// The distance is computed row by row over the two words, as Damerau and Levenshtein have it.
#include "uapi/suggest.h"

#include <algorithm>

namespace bpfsim {

static size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t changed = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + changed});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string nearest_name(std::string_view bad, std::span<const std::string> names) {
  constexpr size_t kLongestName = 64;  // longer than any name we know: nothing can be near
  if (bad.empty() || bad.size() > kLongestName) return "";
  std::string nearest;
  size_t least = std::max<size_t>(1, bad.size() / 3) + 1;
  for (const std::string& name : names) {
    size_t distance = edit_distance(bad, name);
    if (distance < least) least = distance, nearest = name;
  }
  return nearest;
}

}  // namespace bpfsim
