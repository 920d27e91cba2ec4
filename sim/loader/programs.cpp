// Models: bpf_object__add_programs() and bpf_object_init_progs() of tools/lib/bpf/libbpf.c: user space
//
// Each function symbol in a section of code is a program, and its section's name says of which type.
// Functions in `.text` are subprograms: never loaded alone, but appended to the programs that call them
// (relocate.cpp).
#include <algorithm>
#include <cstring>

#include "loader/open_parts.h"

namespace bpfsim::loader {

BpfProgram* find_program_at(std::vector<BpfProgram>& programs, uint32_t sec_idx, uint64_t insn) {
  auto after = std::upper_bound(
      programs.begin(), programs.end(), std::pair(sec_idx, insn),
      [](auto at, auto& p) { return at < std::pair<uint32_t, uint64_t>(p.sec_idx, p.sec_insn_off); });
  if (after == programs.begin()) return nullptr;
  BpfProgram& p = *std::prev(after);
  return p.sec_idx == sec_idx && insn - p.sec_insn_off < p.sec_insn_cnt ? &p : nullptr;
}

static Result<void> add_program(BpfObject& object, const ElfFile::Section& section,
                                const ElfFile::Symbol& sym) {
  const auto code = object.elf.data(section);
  if (sym.value % 8 || sym.size % 8 || sym.size == 0 || sym.value > code.size() ||
      code.size() - sym.value < sym.size)
    return refuse(Errno::Inval, "function '{}' at {} of {} bytes is not a run of instructions in its section",
                  sym.name, sym.value, sym.size);
  const bool in_text = section.name == ".text";
  if (!in_text && sym.bind == STB_LOCAL)
    return refuse(Errno::NotSupp, "program '{}' in section '{}' is static; only functions in .text may be",
                  sym.name, section.name);
  BpfProgram p;
  p.name = sym.name;
  p.section = section.name;
  p.sec_idx = section.index;
  p.sec_insn_off = uint32_t(sym.value / 8);
  p.sec_insn_cnt = uint32_t(sym.size / 8);
  p.is_subprog = in_text;
  p.is_global = sym.bind != STB_LOCAL;
  object.programs.push_back(std::move(p));
  return {};
}

// A leading '?' keeps a program from being loaded.
static void set_type(BpfObject& object, BpfProgram& p) {
  std::string_view section = p.section;
  if (section.starts_with('?')) {
    p.autoload = false;
    section.remove_prefix(1);
  }
  p.def = find_section_def(section);
  if (!p.def && (p.def = find_section_def_by_prefix(section)))
    note(object, Step::Kind::Note,
         "section '" + p.section + "' is taken for '" + p.def->name + "', as libbpf did before 1.0");
  if (!p.def) return;
  p.type = p.def->prog_type;
  p.expected_attach_type = p.def->expected_attach_type;
  if (p.def->flags & SectionDef::SEC_SLEEPABLE) p.prog_flags |= BPF_F_SLEEPABLE;
  if (p.def->flags & SectionDef::SEC_XDP_FRAGS) p.prog_flags |= BPF_F_XDP_HAS_FRAGS;
}

static Result<void> collect_relocations(BpfObject& object, const ElfFile::Section& section) {
  for (const ElfFile::Relocation& rel : TRY(object.elf.relocations(section))) {
    if (rel.offset % 8 || rel.offset >= section.size)
      return refuse(Errno::Inval, "relocation at {} is no instruction of section '{}'", rel.offset,
                    section.name);
    BpfProgram* p = find_program_at(object.programs, section.index, rel.offset / 8);
    if (!p) {
      note(object, Step::Kind::Note,
           "relocation at " + std::to_string(rel.offset) + " of '" + std::string(section.name) +
               "' belongs to no function and is passed over");
      continue;
    }
    const uint32_t insn = uint32_t(rel.offset / 8) - p->sec_insn_off;
    if (is_ld_imm64(p->elf_insns[insn]) && insn + 1 == p->sec_insn_cnt)
      return refuse(Errno::Inval, "program '{}' ends within an LD_IMM64", p->name);
    p->relocs.push_back({insn, rel});
  }
  return {};
}

Result<void> init_programs(BpfObject& object) {
  for (const ElfFile::Symbol& sym : object.elf.symbols()) {
    const ElfFile::Section* section = object.elf.section(sym.shndx);
    if (sym.type == STT_FUNC && section && section->is_code()) TRY(add_program(object, *section, sym));
  }
  auto& programs = object.programs;
  std::sort(programs.begin(), programs.end(), [](const BpfProgram& a, const BpfProgram& b) {
    return std::pair(a.sec_idx, a.sec_insn_off) < std::pair(b.sec_idx, b.sec_insn_off);
  });
  for (size_t i = 1; i < programs.size(); ++i)
    if (programs[i].sec_idx == programs[i - 1].sec_idx &&
        programs[i].sec_insn_off < programs[i - 1].sec_insn_off + programs[i - 1].sec_insn_cnt)
      return refuse(Errno::Inval, "functions '{}' and '{}' overlap", programs[i - 1].name, programs[i].name);
  for (BpfProgram& p : programs) {  // none overlap, so that the copies are not longer than the file
    p.elf_insns.resize(p.sec_insn_cnt);
    const auto code = object.elf.data(*object.elf.section(p.sec_idx));
    std::memcpy(p.elf_insns.data(), code.data() + p.sec_insn_off * size_t(8), p.sec_insn_cnt * size_t(8));
    p.insns = p.elf_insns;
  }
  if (programs.empty())
    return refuse(Errno::NoEnt, "the object has no program: no function in a section of code");

  // Alone in .text: not a subprogram of anybody, but a program whose section says nothing.
  if (programs.size() == 1) programs[0].is_subprog = false;
  for (BpfProgram& p : programs) {
    if (!p.is_subprog) set_type(object, p);
    std::string what = p.is_subprog ? "subprogram"
                       : p.def      ? std::string("type ") + p.def->name
                                    : "unknown type";
    note(object, Step::Kind::Program,
         p.name + ": " + std::to_string(p.sec_insn_cnt) + " instructions of '" + p.section + "' from " +
             std::to_string(p.sec_insn_off) + ", " + what);
  }
  if (std::all_of(programs.begin(), programs.end(), [](const BpfProgram& p) { return p.is_subprog; }))
    note(object, Step::Kind::Note,
         "every function is in .text: none will be loaded (is SEC(\"...\") missing?)");
  for (const ElfFile::Section& section : object.elf.sections())
    if (section.is_code()) TRY(collect_relocations(object, section));
  return {};
}

}  // namespace bpfsim::loader
