// No kernel counterpart: a kernel has one behaviour; here each change that we model says from which version
// it holds.
//
// Code that differs between versions asks has(Gate::bounded_loops, machine.version); a lesson reads the rows.
// Only gates with evidence `measured` or `source` count as fidelity.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "uapi/bpf.h"
#include "uapi/evidence.h"
#include "uapi/version.h"

namespace bpfsim {

enum class Gate : uint16_t {
#define GATE(name, since, evidence, before, after) name,
#define GATE_BY_ROWS GATE
#define GATE_TOLD GATE
#include "uapi/gates.def"
#undef GATE
#undef GATE_BY_ROWS
#undef GATE_TOLD
};

enum class Modelled : uint8_t { ByCode, ByRows, No };  // what makes a machine of an older version differ

struct GateRow {
  Gate gate;
  const char* name;
  Version since;
  Evidence evidence;
  const char* before;
  const char* after;
  Modelled modelled;
};

inline constexpr GateRow kGates[] = {
#define GATE_ROW(name, since, evidence, before, after, modelled) \
  {Gate::name, #name, Version::parse(since).value(), Evidence::evidence, before, after, Modelled::modelled},
#define GATE(...) GATE_ROW(__VA_ARGS__, ByCode)
#define GATE_BY_ROWS(...) GATE_ROW(__VA_ARGS__, ByRows)
#define GATE_TOLD(...) GATE_ROW(__VA_ARGS__, No)
#include "uapi/gates.def"
#undef GATE
#undef GATE_BY_ROWS
#undef GATE_TOLD
#undef GATE_ROW
};

constexpr std::span<const GateRow> gates() { return kGates; }
constexpr const GateRow& gate_row(Gate gate) { return kGates[size_t(gate)]; }
// Whether there was such a kernel: 3.19, 4.20 and 5.19 were the last of their numbers.
constexpr bool released(Version version) {
  constexpr uint16_t kLastMinor[] = {19, 20, 19};  // of 3, 4 and 5
  return version.major < 3 || version.major > 5 || version.minor <= kLastMinor[version.major - 3];
}

inline std::string since(Gate gate) { return gate_row(gate).since.str(); }
constexpr bool has(Gate gate, Version version) { return gate_row(gate).since <= version; }

// BPF_COMPLEXITY_LIMIT_INSNS: how many instructions the verifier walks before it gives up.
constexpr uint32_t complexity_limit_insns(Version version) {
  if (has(Gate::complexity_1m, version)) return BPF_COMPLEXITY_LIMIT_INSNS;
  if (has(Gate::complexity_128k, version)) return 131072;
  if (has(Gate::complexity_96k, version)) return 98304;
  return has(Gate::complexity_64k, version) ? 65536 : 32768;
}

// The largest insn_cnt that BPF_PROG_LOAD takes. Privileged: CAP_BPF, before 5.8 CAP_SYS_ADMIN.
constexpr uint32_t max_insn_cnt(Version version, bool privileged) {
  return privileged && has(Gate::max_insns_1m, version) ? BPF_COMPLEXITY_LIMIT_INSNS : BPF_MAXINSNS;
}

}  // namespace bpfsim
