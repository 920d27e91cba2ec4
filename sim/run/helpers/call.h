// Models: include/linux/filter.h (BPF_CALL_0 to BPF_CALL_5) (Linux 6.18)
//
// A helper's body takes five registers, whatever it uses; these macros name the ones that it does. And what
// bodies share: turning a register into memory or an object, and a refusal into a negative number.
#pragma once

#include "run/engine.h"
#include "run/helpers/table.h"

namespace bpfsim {

#define BPF_CALL_0(name) \
  static uint64_t name([[maybe_unused]] Machine& machine, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
#define BPF_CALL_1(name, a) \
  static uint64_t name([[maybe_unused]] Machine& machine, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t)
#define BPF_CALL_2(name, a, b)                                                                        \
  static uint64_t name([[maybe_unused]] Machine& machine, uint64_t a, uint64_t b, uint64_t, uint64_t, \
                       uint64_t)
#define BPF_CALL_3(name, a, b, c)                                                                       \
  static uint64_t name([[maybe_unused]] Machine& machine, uint64_t a, uint64_t b, uint64_t c, uint64_t, \
                       uint64_t)
#define BPF_CALL_4(name, a, b, c, d)                                                                      \
  static uint64_t name([[maybe_unused]] Machine& machine, uint64_t a, uint64_t b, uint64_t c, uint64_t d, \
                       uint64_t)
#define BPF_CALL_5(name, a, b, c, d, e)                                                                   \
  static uint64_t name([[maybe_unused]] Machine& machine, uint64_t a, uint64_t b, uint64_t c, uint64_t d, \
                       uint64_t e)

// Argument types that many prototypes share.
inline constexpr uint32_t ARG_RDONLY_MEM = uint32_t(ARG_PTR_TO_MEM) | MEM_RDONLY;
inline constexpr uint32_t ARG_RDONLY_MEM_OR_NULL = ARG_RDONLY_MEM | PTR_MAYBE_NULL;
inline constexpr uint32_t ARG_ALIGNED_RESULT =
    uint32_t(ARG_PTR_TO_FIXED_SIZE_MEM) | MEM_UNINIT | MEM_WRITE | MEM_ALIGNED;

inline uint64_t fail(Errno err) { return uint64_t(-int64_t(err)); }
inline uint64_t status(const Result<void>& result) { return result ? 0 : fail(result.err()); }

// The map in a register. Anything else there is a simulated oops, which only a program that no verifier saw
// can cause.
Map* map_argument(Machine& machine, uint64_t reg);

// A lookup gave the running program this socket, and counted it where sockets are counted.
void program_holds_sock(Machine& machine, Addr handle);

}  // namespace bpfsim
