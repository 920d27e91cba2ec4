// What a view of a thing of a machine is hashed by: the machine, and the thing's number in it.
#pragma once

#include <cstdint>
#include <functional>

namespace bpfsim {

inline size_t hash_of(const void* machine, uint64_t number) {
  return std::hash<const void*>()(machine) ^ std::hash<uint64_t>()(number * 0x9e3779b97f4a7c15);
}

}  // namespace bpfsim
