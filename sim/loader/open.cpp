// Models: bpf_object_open() of tools/lib/bpf/libbpf.c (libbpf 1.4, of Linux 6.12): user space, not the kernel
//
// The order in which an object file is read: sections, license and version, BTF, maps, programs, line
// information.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "loader/open_parts.h"

namespace bpfsim {

const char* step_kind_name(Step::Kind kind) {
  switch (kind) {
    case Step::Kind::Section: return "section";
    case Step::Kind::Symbol: return "symbol";
    case Step::Kind::License: return "license";
    case Step::Kind::Btf: return "btf";
    case Step::Kind::Map: return "map";
    case Step::Kind::Program: return "program";
    case Step::Kind::Syscall: return "syscall";
    case Step::Kind::Relocation: return "relocation";
    case Step::Kind::Subprogram: return "subprogram";
    case Step::Kind::Note: return "note";
  }
  return "?";
}

BpfMap* BpfObject::find_map(std::string_view map_name) {
  for (BpfMap& map : maps)
    if (map.name == map_name || map.full_name == map_name) return &map;
  return nullptr;
}

BpfProgram* BpfObject::find_program(std::string_view program_name) {
  for (BpfProgram& program : programs)
    if (program.name == program_name) return &program;
  return nullptr;
}

namespace loader {

std::string in_hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

void note(BpfObject& object, Step::Kind kind, std::string text) {
  object.steps.push_back({.kind = kind, .text = std::move(text)});
}

static const char* section_purpose(const ElfFile::Section& s) {
  if (s.type == SHT_SYMTAB) return "symbols";
  if (s.type == SHT_STRTAB) return "strings";
  if (s.type == SHT_REL) return "relocations";
  if (s.is_code()) return s.name == ".text" ? "subprograms" : "programs";
  if (s.name == "license") return "license";
  if (s.name == "version") return "kernel version";
  if (s.name == ".maps") return "map definitions";
  if (s.name == "maps") return "map definitions (struct bpf_map_def)";
  if (s.name == ".BTF") return "types";
  if (s.name == ".BTF.ext") return "types of functions, source lines";
  if (is_data_section(s)) return "variables: becomes a map";
  return "not loaded";
}

static void read_sections(BpfObject& object) {
  for (const ElfFile::Section& s : object.elf.sections()) {
    if (s.type == SHT_NULL) continue;
    note(object, Step::Kind::Section,
         "[" + std::to_string(s.index) + "] " + std::string(s.name) + ": " + std::to_string(s.size) +
             " bytes, " + section_purpose(s));
  }
  for (const ElfFile::Symbol& sym : object.elf.symbols()) {
    // clang-14 leaves its jump labels (LBB0_3) in the table: no type, local.
    if (sym.name.empty() || sym.type == STT_SECTION || sym.type == STT_FILE ||
        (sym.type == STT_NOTYPE && sym.bind == STB_LOCAL))
      continue;
    const char* what = sym.type == STT_FUNC ? "function" : sym.type == STT_OBJECT ? "object" : "name";
    const std::string where =
        sym.shndx == SHN_UNDEF ? "undefined" : std::string(object.elf.section_name(sym.shndx));
    note(object, Step::Kind::Symbol,
         std::string(sym.name) + ": " + what + " in " + where + " at " + in_hex(sym.value) + ", " +
             std::to_string(sym.size) + " bytes");
  }
}

static Result<void> read_license_and_version(BpfObject& object) {
  if (const ElfFile::Section* section = object.elf.find_section("license")) {
    const auto text = object.elf.data(*section);
    object.license.assign(text.begin(), std::find(text.begin(), text.end(), 0));
    note(object, Step::Kind::License, "license \"" + object.license + "\"");
  } else {
    note(object, Step::Kind::Note, "no license section: the program counts as not GPL-compatible");
  }
  if (const ElfFile::Section* section = object.elf.find_section("version")) {
    const auto data = object.elf.data(*section);
    if (data.size() != sizeof object.kern_version)
      return refuse(Errno::Inval, "section 'version' must have 4 bytes, has {}", data.size());
    std::memcpy(&object.kern_version, data.data(), data.size());
    note(object, Step::Kind::License, "kernel version " + in_hex(object.kern_version));
  }
  return {};
}

}  // namespace loader

Result<BpfObject> bpf_object_open(std::span<const uint8_t> bytes, std::string name) {
  BpfObject object;
  object.name = std::move(name);
  object.elf = TRY(ElfFile::parse(bytes));
  loader::read_sections(object);
  TRY(loader::read_license_and_version(object));
  TRY(loader::read_btf(object));
  TRY(loader::init_maps(object));
  TRY(loader::init_programs(object));
  TRY(loader::init_map_values(object));
  TRY(loader::read_btf_ext(object));
  return object;
}

}  // namespace bpfsim
