// No kernel counterpart: bpf(2) takes numbers; a person types names, and mistypes them.
//
// "did you mean": the known name that lies nearest to a bad one, by how many letters must be changed, added,
// dropped or swapped with their neighbour.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "uapi/tables.h"

namespace bpfsim {

// The nearest of the names, or "" if none is near enough to be meant.
std::string nearest_name(std::string_view bad, std::span<const std::string> names);

// The same over the short names of a table's rows: nearest_row(map_types(), "arry") is "array".
template <class Rows>
std::string nearest_row(Rows rows, std::string_view bad) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.push_back(short_name(row.name));
  return nearest_name(short_name(bad), names);
}

}  // namespace bpfsim
