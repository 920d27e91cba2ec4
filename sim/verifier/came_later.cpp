// No kernel counterpart: a kernel does not know what later ones take.
//
// See came_later.h. A message that several changes bear on is told the first that this version lacks.
#include "verifier/came_later.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "isa/opcodes.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

struct Later {
  std::string_view message;  // what it contains
  Gate gate;
};

constexpr Later kLater[] = {
    {"back-edge from insn", Gate::bounded_loops},
    {"back-edge from insn", Gate::loops_anywhere},
    {"variable stack access", Gate::var_stack_access},
    {"invalid read from stack", Gate::uninit_stack_read},
    {"combined stack size of", Gate::jit_stack_depth},
    {"BPF program is too large", Gate::complexity_1m},
    {"cannot call GPL-restricted function", Gate::ktime_not_gpl},
};

// The name in "unknown func bpf_ringbuf_output#130".
const HelperRow* helper_named(std::string_view message) {
  for (std::string_view words : {"unknown func ", "cannot use helper "}) {
    const size_t at = message.find(words);
    if (at == message.npos) continue;
    const std::string_view name = message.substr(at + words.size());
    return find_helper(name.substr(0, name.find('#')));
  }
  return nullptr;
}

// The first version with the opcode that the message names by its number; none: no version has it.
std::optional<Version> opcode_since(std::string_view message) {
  unsigned code = 0xc4;  // ALU_ARSH_K, which has words of its own
  if (const std::string_view words = "unknown opcode "; message.starts_with(words))
    std::from_chars(message.data() + words.size(), message.data() + message.size(), code, 16);
  else if (!message.starts_with("BPF_ARSH not supported"))
    return {};
  std::optional<Version> first;
  for (const OpRow& row : op_rows)
    if (row.code == code && !row.internal()) first = first ? std::min(*first, row.since) : row.since;
  return first;
}

}  // namespace

std::string came_later(std::string_view message, Version version) {
  if (const HelperRow* helper = helper_named(message); helper && helper->since > version)
    return "it came with Linux " + helper->since.str();
  if (auto first = opcode_since(message); first && *first > version)
    return "this instruction came with Linux " + first->str();
  for (const Later& later : kLater)
    if (message.find(later.message) != message.npos && !has(later.gate, version))
      return "since Linux " + since(later.gate) + ": " + gate_row(later.gate).after;
  return {};
}

}  // namespace bpfsim
