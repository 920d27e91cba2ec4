// No kernel counterpart: the kernel's headers are the table; a lesson needs to read it.
//
// The rows, made from the .def files, and how they are found.
#include "uapi/tables.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "uapi/bpf_attr.h"
#include "uapi/context.h"

namespace bpfsim {

namespace {

constexpr Version v(std::string_view text) { return Version::parse(text).value(); }

constexpr CommandRow kCommands[] = {
#define COMMAND(name, number, since) {name, #name, v(since)},
#include "uapi/commands.def"
#undef COMMAND
};

constexpr MapTypeRow kMapTypes[] = {
#define MAP_TYPE(name, number, since) {name, #name, v(since)},
#include "uapi/map_types.def"
#undef MAP_TYPE
};

constexpr ProgTypeRow kProgTypes[] = {
#define PROG_TYPE(name, number, since, context, ops, capabilities) \
  {name, #name, v(since), context, ops, capabilities},
#include "uapi/prog_types.def"
#undef PROG_TYPE
};

constexpr AttachTypeRow kAttachTypes[] = {
#define ATTACH_TYPE(name, number, since, prog_type) {name, #name, v(since), prog_type},
#include "uapi/attach_types.def"
#undef ATTACH_TYPE
};

constexpr LinkTypeRow kLinkTypes[] = {
#define LINK_TYPE(name, number, since) {name, #name, v(since)},
#include "uapi/link_types.def"
#undef LINK_TYPE
};

constexpr IterTargetRow kIterTargets[] = {
#define ITER_TARGET(name, since) {#name, v(since)},
#include "uapi/iter_targets.def"
#undef ITER_TARGET
};

constexpr HelperRow kHelpers[] = {
#define HELPER(name, number, since, gpl_only, signature) \
  {BPF_FUNC_##name, "bpf_" #name, v(since), gpl_only, signature},
#include "uapi/helpers.def"
#undef HELPER
};

constexpr FlagRow kMapFlags[] = {
#define MAP_FLAG(name, bit, since) {name, #name, v(since)},
#include "uapi/map_flags.def"
#undef MAP_FLAG
};

constexpr FlagRow kProgFlags[] = {
#define PROG_FLAG(name, bit, since) {name, #name, v(since)},
#include "uapi/prog_flags.def"
#undef PROG_FLAG
};

constexpr AttrSizeRow kAttrSizes[] = {
#define ATTR_SIZE(since, size, evidence) {v(since), size, Evidence::evidence},
#define LAST_FIELD(command, since, field, evidence)
#include "uapi/bpf_attr.def"
#undef LAST_FIELD
#undef ATTR_SIZE
};

constexpr LastFieldRow kLastFields[] = {
#define ATTR_SIZE(since, size, evidence)
#define LAST_FIELD(command, since, field, evidence)                                                          \
  {command, v(since), #field, uint32_t(offsetof(bpf_attr, field) + sizeof(std::declval<bpf_attr&>().field)), \
   Evidence::evidence},
#include "uapi/bpf_attr.def"
#undef LAST_FIELD
#undef ATTR_SIZE
};

// Second names: they find the row of the first.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"BPF_PROG_RUN", "BPF_PROG_TEST_RUN"},
    {"BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED", "BPF_MAP_TYPE_CGROUP_STORAGE"},
    {"BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED", "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE"},
};

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

// "hash" and "MAP_TYPE_HASH" both name BPF_MAP_TYPE_HASH when its prefix is "BPF_MAP_TYPE_".
bool names(std::string_view given, std::string_view kernel_name, std::string_view prefix) {
  return same_name(given, kernel_name) || same_name(given, kernel_name.substr(4)) ||
         same_name(given, kernel_name.substr(prefix.size()));
}

template <class Row>
const Row* by_number(std::span<const Row> rows, int64_t number) {
  int64_t index = number - int64_t(rows.front().number);
  return index >= 0 && index < int64_t(rows.size()) ? &rows[size_t(index)] : nullptr;
}

template <class Row>
const Row* by_name(std::span<const Row> rows, std::string_view name, std::string_view prefix) {
  for (const auto& [alias, first_name] : kAliases)
    if (alias.starts_with(prefix) && names(name, alias, prefix)) name = first_name;
  auto row = std::ranges::find_if(rows, [&](const Row& r) { return names(name, r.name, prefix); });
  return row == rows.end() ? nullptr : &*row;
}

uint32_t known_flags(std::span<const FlagRow> rows, Version version) {
  uint32_t known = 0;
  for (const FlagRow& row : rows)
    if (row.since <= version) known |= row.number;
  return known;
}

}  // namespace

std::span<const CommandRow> commands() { return kCommands; }
std::span<const MapTypeRow> map_types() { return kMapTypes; }
std::span<const ProgTypeRow> prog_types() { return kProgTypes; }

static constexpr ContextFieldRow kContextFields[] = {
#define CONTEXT_FIELD(type, first, last, since)                                                            \
  {#type, offsetof(type, first), offsetof(type, last) + sizeof(type::last), Version::parse(since).value(), \
   std::string_view(#first) == #last ? #type "." #first : #type "." #first " to " #last},
#include "uapi/context_fields.def"
#undef CONTEXT_FIELD
};

const ContextFieldRow* later_context_field(std::string_view context, int off, int size, Version version) {
  for (const ContextFieldRow& row : kContextFields)
    if (row.since > version && row.context == context && off < int(row.end) && off + size > int(row.from))
      return &row;
  return nullptr;
}

uint32_t context_size(std::string_view context, size_t size, size_t align, Version version) {
  size_t known = 0;  // a field that came later may have filled a hole before one that came earlier
  for (const ContextFieldRow& row : kContextFields)
    if (row.since <= version && row.context == context) known = std::max(known, row.end);
  for (const ContextFieldRow& row : kContextFields)
    if (row.since > version && row.context == context && row.from >= known)
      size = std::min(size, (row.from + align - 1) / align * align);
  return uint32_t(size);
}

std::span<const AttachTypeRow> attach_types() { return kAttachTypes; }
std::span<const LinkTypeRow> link_types() { return kLinkTypes; }
std::span<const HelperRow> helpers() { return kHelpers; }
std::span<const FlagRow> map_flags() { return kMapFlags; }
std::span<const FlagRow> prog_flags() { return kProgFlags; }
std::span<const LastFieldRow> last_fields() { return kLastFields; }

const CommandRow* find_command(uint32_t number) { return by_number(commands(), number); }
const CommandRow* find_command(std::string_view name) { return by_name(commands(), name, "BPF_"); }
const MapTypeRow* find_map_type(uint32_t number) { return by_number(map_types(), number); }
const MapTypeRow* find_map_type(std::string_view name) { return by_name(map_types(), name, "BPF_MAP_TYPE_"); }
const ProgTypeRow* find_prog_type(uint32_t number) { return by_number(prog_types(), number); }
const ProgTypeRow* find_prog_type(std::string_view name) {
  return by_name(prog_types(), name, "BPF_PROG_TYPE_");
}
const AttachTypeRow* find_attach_type(uint32_t number) { return by_number(attach_types(), number); }
const AttachTypeRow* find_attach_type(std::string_view name) { return by_name(attach_types(), name, "BPF_"); }
bool knows_attach_type(Version version, uint32_t number) {
  const AttachTypeRow* row = find_attach_type(number);
  return row && row->since <= version;
}
const LinkTypeRow* find_link_type(uint32_t number) { return by_number(link_types(), number); }
const LinkTypeRow* find_link_type(std::string_view name) {
  return by_name(link_types(), name, "BPF_LINK_TYPE_");
}
const IterTargetRow* find_iter_target(std::string_view function) {
  constexpr std::string_view kPrefix = "bpf_iter_";
  if (!function.starts_with(kPrefix)) return nullptr;
  const auto row = std::ranges::find(kIterTargets, function.substr(kPrefix.size()), &IterTargetRow::name);
  return row == std::end(kIterTargets) ? nullptr : row;
}
const HelperRow* find_helper(int32_t number) { return by_number(helpers(), number); }
const HelperRow* find_helper(std::string_view name) {
  constexpr std::string_view kEnumPrefix = "BPF_FUNC_";
  if (name.starts_with(kEnumPrefix)) name.remove_prefix(kEnumPrefix.size());
  return by_name(helpers(), name, "bpf_");
}

std::string short_name(std::string_view kernel_name) {
  for (std::string_view prefix :
       {"BPF_MAP_TYPE_", "BPF_PROG_TYPE_", "BPF_LINK_TYPE_", "BPF_FUNC_", "BPF_", "bpf_"})
    if (kernel_name.starts_with(prefix)) {
      kernel_name.remove_prefix(prefix.size());
      break;
    }
  std::string name(kernel_name);
  std::ranges::transform(name, name.begin(), lower);
  return name;
}

uint32_t known_map_flags(Version version) { return known_flags(kMapFlags, version); }
uint32_t known_prog_flags(Version version) { return known_flags(kProgFlags, version); }

uint32_t bpf_attr_size(Version version) {
  size_t row = std::size(kAttrSizes) - 1;  // from the newest, since each call asks
  while (row > 0 && kAttrSizes[row].since > version) --row;
  return kAttrSizes[row].size;  // a machine is never older than the first row
}

// Where a command's rows begin: each call asks.
static uint32_t first_of(bpf_cmd command) {
  static constexpr auto kFirst = [] {
    std::array<uint32_t, MAX_BPF_CMD> first;
    first.fill(std::size(kLastFields));
    for (uint32_t row = std::size(kLastFields); row-- > 0;) first[kLastFields[row].command] = row;
    return first;
  }();
  return uint32_t(command) < kFirst.size() ? kFirst[command] : uint32_t(std::size(kLastFields));
}

const LastFieldRow* last_field(bpf_cmd command, Version version) {
  const LastFieldRow* found = nullptr;
  const LastFieldRow* row = std::begin(kLastFields) + first_of(command);
  for (; row != std::end(kLastFields) && row->command == command; ++row)
    if (row->since <= version) found = row;
  return found;
}

}  // namespace bpfsim
