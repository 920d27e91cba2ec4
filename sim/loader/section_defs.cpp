// Models: section_defs[] and find_sec_def() of tools/lib/bpf/libbpf.c (libbpf 1.4, of Linux 6.12)
//
// From the name of a section to the type of its programs.
#include "loader/bpf_object.h"
#include "uapi/suggest.h"

namespace bpfsim {

static constexpr uint32_t SEC_ATTACH_OPT = SectionDef::SEC_ATTACH_OPT,
                          SEC_SLEEPABLE = SectionDef::SEC_SLEEPABLE,
                          SEC_ATTACH_BTF = SectionDef::SEC_ATTACH_BTF,
                          SEC_XDP_FRAGS = SectionDef::SEC_XDP_FRAGS;

static constexpr SectionDef kSectionDefs[] = {
#define SECTION(name, prog_type, attach_type, flags) {name, prog_type, attach_type, flags},
#include "loader/sections.def"
#undef SECTION
};

const SectionDef* find_section_def(std::string_view section) {
  for (const SectionDef& def : kSectionDefs) {
    std::string_view name = def.name;
    if (name.back() != '+') {
      if (section == name) return &def;
      continue;
    }
    name.remove_suffix(1);
    if (section.starts_with(name) && (section.size() == name.size() || section[name.size()] == '/'))
      return &def;
  }
  return nullptr;
}

const SectionDef* find_section_def_by_prefix(std::string_view section) {
  const SectionDef* best = nullptr;
  size_t best_length = 0;
  for (const SectionDef& def : kSectionDefs) {
    std::string_view name = def.name;
    if (name.back() == '+') name.remove_suffix(1);
    if (section.starts_with(name) && name.size() > best_length) {
      best = &def;
      best_length = name.size();
    }
  }
  return best;
}

std::string nearest_section(std::string_view section) {
  std::vector<std::string> names, before_slash;  // "tc/egress"; "kprobe", as of kprobe/do_exit
  for (const SectionDef& def : kSectionDefs) {
    std::string name = def.name;
    if (name.back() == '+') before_slash.push_back(name = name.substr(0, name.size() - 1));
    names.push_back(name);
  }
  if (std::string whole = nearest_name(section, names); !whole.empty()) return whole;
  const size_t slash = std::min(section.find('/'), section.size());
  const std::string begin = nearest_name(section.substr(0, slash), before_slash);
  return begin.empty() ? "" : begin + std::string(section.substr(slash));
}

}  // namespace bpfsim
