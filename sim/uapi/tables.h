// No kernel counterpart: the kernel's headers are the table; a lesson needs to read it.
//
// Identity, for reading and for looking up: a row for each command, type, helper and flag, with its kernel
// name, its number and the version that brought it. The rows are the .def files that also make the enums of
// bpf.h; what a type does stands in its own room. Rows older than the oldest machine (4.14) are kept for
// reading.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "uapi/bpf.h"
#include "uapi/evidence.h"
#include "uapi/version.h"

namespace bpfsim {

struct CommandRow {
  bpf_cmd number;
  const char* name;
  Version since;
};

struct MapTypeRow {
  bpf_map_type number;
  const char* name;
  Version since;
};

// Capabilities that BPF_PROG_LOAD asks for by program type. LOAD_FREE: none, while the machine lets users
// load.
enum LoadCapability : uint8_t { LOAD_FREE = 0, LOAD_BPF = 1, LOAD_NET_ADMIN = 2, LOAD_PERFMON = 4 };

struct ProgTypeRow {
  bpf_prog_type number;
  const char* name;
  Version since;
  const char* context;   // C type behind R1: "xdp_md"
  const char* ops;       // "xdp" for xdp_verifier_ops and xdp_prog_ops
  uint8_t capabilities;  // of LoadCapability; any one is also satisfied by CAP_SYS_ADMIN
};

// Fields of a context that came after 4.14 (uapi/context_fields.def).
struct ContextFieldRow {
  std::string_view context;
  size_t from, end;
  Version since;
  const char* fields;  // "xdp_md.data_meta", "xdp_md.ingress_ifindex to rx_queue_index"
};
// The first of them that has one of these bytes and that this version lacks; none: it has all.
const ContextFieldRow* later_context_field(std::string_view context, int off, int size, Version version);
inline bool context_has(std::string_view context, int off, int size, Version version) {
  return !later_context_field(context, off, size, version);
}
// sizeof of that C type on that version, of a type whose size and alignment are these today.
uint32_t context_size(std::string_view context, size_t size, size_t align, Version version);

struct AttachTypeRow {
  bpf_attach_type number;
  const char* name;
  Version since;
  bpf_prog_type prog_type;  // what attach_type_to_prog_type() answers
};

struct LinkTypeRow {
  bpf_link_type number;
  const char* name;
  Version since;
};

struct HelperRow {
  bpf_func_id number;
  const char* name;  // "bpf_map_lookup_elem"
  Version since;
  bool gpl_only;
  const char* signature;  // "void *bpf_map_lookup_elem(struct bpf_map *map, const void *key)"
};

struct IterTargetRow {
  const char* name;  // "bpf_map": the function bpf_iter_bpf_map stands for it
  Version since;
};

struct FlagRow {
  uint32_t number;
  const char* name;
  Version since;
};

// In order of number. All but the flags are dense: row i has the first row's number plus i.
std::span<const CommandRow> commands();
std::span<const MapTypeRow> map_types();
std::span<const ProgTypeRow> prog_types();
std::span<const AttachTypeRow> attach_types();
std::span<const LinkTypeRow> link_types();
std::span<const HelperRow> helpers();
std::span<const FlagRow> map_flags();
std::span<const FlagRow> prog_flags();

// By number: the row, or null. By name: "BPF_MAP_TYPE_HASH", "MAP_TYPE_HASH" or "hash", in any case; the row,
// or null.
const CommandRow* find_command(uint32_t number);
const CommandRow* find_command(std::string_view name);
const MapTypeRow* find_map_type(uint32_t number);
const MapTypeRow* find_map_type(std::string_view name);
const ProgTypeRow* find_prog_type(uint32_t number);
const ProgTypeRow* find_prog_type(std::string_view name);
const AttachTypeRow* find_attach_type(uint32_t number);
const AttachTypeRow* find_attach_type(std::string_view name);
// To an older kernel a later attach type is a number without a meaning, which it may take all the same.
bool knows_attach_type(Version version, uint32_t number);
const LinkTypeRow* find_link_type(uint32_t number);
const LinkTypeRow* find_link_type(std::string_view name);
const HelperRow* find_helper(int32_t number);
const HelperRow* find_helper(std::string_view name);

// By the name of the function that stands for it; null: there is none.
const IterTargetRow* find_iter_target(std::string_view function);

// "BPF_MAP_TYPE_HASH" -> "hash", "BPF_MAP_CREATE" -> "map_create", "bpf_redirect" -> "redirect"
std::string short_name(std::string_view kernel_name);

// The bits that this version knows, of map_flags and prog_flags.
uint32_t known_map_flags(Version version);
uint32_t known_prog_flags(Version version);

// union bpf_attr by version: its size, and the last field that a command may set (CHECK_ATTR).
struct AttrSizeRow {
  Version since;
  uint32_t size;
  Evidence evidence;
};

struct LastFieldRow {
  bpf_cmd command;
  Version since;
  const char* field;  // "test.batch_size"
  uint32_t end;       // the first byte after it
  Evidence evidence;
};

std::span<const LastFieldRow> last_fields();
uint32_t bpf_attr_size(Version version);
const LastFieldRow* last_field(bpf_cmd command, Version version);  // null: this version lacks the command

}  // namespace bpfsim
