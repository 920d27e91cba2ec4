// Sequences of bpf(2) with any commands and attrs, on a machine with two CPUs and a small arena. The input is
// a list of calls, each: command, attr size, attr bytes. Pointers are offsets into a block that the input
// fills too, so that they often point at something; all others are -EFAULT. After every call the counters
// must equal what a walk finds, and at the end nothing may be left.
#include <array>
#include <cstring>

#include "kernel.h"
#include "object/file.h"
#include "object/graph.h"

using namespace bpfsim;

namespace {

struct BlockMemory final : UserMemory {
  std::array<uint8_t, 4096> block{};
  bool covers(uint64_t user, size_t size) const {
    return user <= block.size() && size <= block.size() - user;
  }
  bool read(void* to, uint64_t user, size_t size) override {
    if (!covers(user, size)) return false;
    if (size) std::memcpy(to, block.data() + user, size);
    return true;
  }
  bool write(uint64_t user, const void* from, size_t size) override {
    if (!covers(user, size)) return false;
    if (size) std::memcpy(block.data() + user, from, size);
    return true;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  BlockMemory memory;
  MachineOptions options;
  options.arena_bytes = 16u << 20;
  Kernel kernel(options);
  kernel.machine().user = &memory;
  Task& task = kernel.spawn("fuzz");

  // The first half of the input is the block that pointers reach; attrs are put at its end.
  constexpr uint64_t kAttr = 4096 - 256;
  const size_t filled = size / 2 < kAttr ? size / 2 : size_t(kAttr);
  if (filled) std::memcpy(memory.block.data(), data, filled);
  for (size_t at = filled; at + 2 <= size;) {
    const int command = data[at] % 40;
    const size_t given = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
    std::memset(memory.block.data() + kAttr, 0, 256);
    if (given) std::memcpy(memory.block.data() + kAttr, data + at + 2, given);
    at += 2 + given;
    (void)kernel.sys_bpf(task, command, kAttr, uint32_t(given));
    if (!object_graph(kernel.machine()).disagreements().empty()) __builtin_trap();
  }
  kernel.exit(task);
  if (!object_graph(kernel.machine()).leaks().empty()) __builtin_trap();
  return 0;
}
