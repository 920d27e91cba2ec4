// No kernel counterpart: a kernel does not know what later ones take.
//
// See came_later.h. It is told by the last words of the log; where these do not name the thing, by the
// program too. A message that several changes bear on is told the first that this version lacks.
#include "verifier/came_later.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>

#include "isa/opcodes.h"
#include "uapi/context.h"
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
    {"BPF_ST stores into", Gate::ctx_st},
    {"tail_calls are not allowed in programs with", Gate::tail_call_in_subprogs},
    {"instructions cannot be mixed with bpf-to-bpf calls", Gate::ld_abs_in_subprogs},
    {"invalid mem access 'map_ptr'", Gate::map_ptr_fields},
    {"type=map_value expected=fp", Gate::map_value_args},
    {"cannot pass map_type 14 into func bpf_map_lookup_elem", Gate::devmap_lookup},
    {"cannot pass map_type 17 into func bpf_map_lookup_elem", Gate::devmap_lookup},
    {"cannot pass map_type 15 into func bpf_map_lookup_elem", Gate::sockmap_lookup},
    {"cannot pass map_type 18 into func bpf_map_lookup_elem", Gate::sockmap_lookup},
    {"cannot pass map_type 15 into func bpf_map_update_elem", Gate::sockmap_update},
    {"cannot pass map_type 18 into func bpf_map_update_elem", Gate::sockmap_update},
    {"cannot pass map_type 15 into func bpf_sk_select_reuseport", Gate::sockmap_reuseport},
    {"cannot pass map_type 18 into func bpf_sk_select_reuseport", Gate::sockmap_reuseport},
};

// Where the place in the context, in the program's type or its last words, tells what was missing.
struct LaterAccess {
  std::string_view context;
  int from, end;
  Gate gate;
};
#define FIELDS(type, first, last) \
  #type, int(offsetof(type, first)), int(offsetof(type, last) + sizeof(type::last))
constexpr LaterAccess kLaterAccess[] = {
    {FIELDS(bpf_sock, family, protocol), Gate::sock_narrow},
    {FIELDS(bpf_sock, src_port, src_port), Gate::sock_narrow},
    {FIELDS(bpf_sock_addr, user_port, user_port), Gate::sock_addr_narrow_port},
    {FIELDS(bpf_sock_addr, user_ip6, user_ip6), Gate::sock_addr_wide},
    {FIELDS(bpf_sock_addr, msg_src_ip6, msg_src_ip6), Gate::sock_addr_wide},
    {FIELDS(__sk_buff, queue_mapping, queue_mapping), Gate::tc_write_queue},
};
#undef FIELDS

std::string since_gate(Gate gate) { return "since Linux " + since(gate) + ": " + gate_row(gate).after; }

// Of an access to the context, or to what a flow dissector finds, that was refused.
std::string context_later(const std::string& message, Version version, uint32_t prog_type) {
  int off = 0, size = 0;
  const ProgTypeRow* type = find_prog_type(prog_type);
  std::string_view context = type ? type->context : "";
  if (std::sscanf(message.c_str(), "invalid access to flow keys off=%d size=%d", &off, &size) == 2)
    context = "bpf_flow_keys";
  else if (std::sscanf(message.c_str(), "invalid bpf_context access off=%d size=%d", &off, &size) != 2)
    return {};
  if (const ContextFieldRow* row = later_context_field(context, off, size, version))
    return std::string(row->fields) + " came with Linux " + row->since.str();
  for (const LaterAccess& later : kLaterAccess)
    if (later.context == context && off >= later.from && off < later.end && !has(later.gate, version) &&
        (later.gate != Gate::sock_addr_wide || size == 8))
      return since_gate(later.gate);
  if (!context.empty() && size < 4 && off % 4 && !has(Gate::ctx_narrow_anywhere, version))
    return since_gate(Gate::ctx_narrow_anywhere);
  return {};
}

// The first instruction of the program of which an older kernel says this: it has the opcode, in other forms.
std::string form_later(std::string_view message, Version version, std::span<const bpf_insn> insns) {
  for (const bpf_insn& insn : insns) {
    const OpRow* row = decode(insn);
    if (!row || row->since <= version || !bpf_opcode_in_insntable(insn.code, version)) continue;
    const bool alu = BPF_CLASS(insn.code) == BPF_ALU || BPF_CLASS(insn.code) == BPF_ALU64;
    const std::string_view said = BPF_CLASS(insn.code) == BPF_STX
                                      ? message.starts_with("BPF_ATOMIC")
                                            ? "BPF_ATOMIC uses invalid atomic opcode"
                                            : "BPF_STX uses reserved fields"
                                  : !alu                         ? "BPF_CALL uses reserved fields"
                                  : BPF_OP(insn.code) == BPF_MOV ? "BPF_MOV uses reserved fields"
                                                                 : "BPF_ALU uses reserved fields";
    if (message.starts_with(said)) return "this instruction came with Linux " + row->since.str();
  }
  return {};
}

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

std::string came_later(std::string_view message, Version version, const RefusedProgram& prog) {
  if (std::string later = context_later(std::string(message), version, prog.type); !later.empty())
    return later;
  if (std::string later = form_later(message, version, prog.insns); !later.empty()) return later;
  if (const HelperRow* helper = helper_named(message); helper && helper->since > version)
    return "it came with Linux " + helper->since.str();
  if (auto first = opcode_since(message); first && *first > version)
    return "this instruction came with Linux " + first->str();
  for (const Later& later : kLater)
    if (message.find(later.message) != message.npos && !has(later.gate, version))
      return since_gate(later.gate);
  return {};
}

}  // namespace bpfsim
