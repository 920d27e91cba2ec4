// Models: bpf_object__init_btf(), btf_fixup_datasec() and adjust_prog_btf_ext_info() of
// tools/lib/bpf/libbpf.c
//
// clang's .BTF is not yet what the kernel takes: sizes of sections and places of variables are zero, since
// only the linker would know them. The loader is that linker. .BTF.ext is not for the kernel as it is either:
// its records are sorted by section, and are handed over per program with PROG_LOAD.
#include <algorithm>
#include <cstring>
#include <tuple>
#include <unordered_map>

#include "loader/open_parts.h"

namespace bpfsim::loader {

using SymbolsByName = std::unordered_map<std::string_view, const ElfFile::Symbol*>;

static SymbolsByName symbols_by_name(const ElfFile& elf) {
  SymbolsByName found;
  for (const ElfFile::Symbol& sym : elf.symbols())
    if (sym.type == STT_FUNC || (sym.type == STT_OBJECT && sym.bind != STB_LOCAL))
      found.emplace(sym.name, &sym);
  return found;
}

// The symbol of a section's variable; nullptr if it is no global one, which has nothing to be looked up.
static Result<const ElfFile::Symbol*> find_var_symbol(const BpfObject& object, const SymbolsByName& symbols,
                                                      const btf_type& var, const std::string& section) {
  if (btf_var_linkage(var) != BTF_VAR_GLOBAL_ALLOCATED) return nullptr;
  const char* name = object.btf->name_of(var);
  const auto found = symbols.find(name);
  if (found == symbols.end() || found->second->type != STT_OBJECT)
    return refuse(Errno::NoEnt, "DATASEC '{}': no ELF symbol for variable '{}'", section, name);
  return found->second;
}

static Result<void> fixup_datasec(BpfObject& object, const SymbolsByName& symbols, btf_type& sec) {
  const std::string name = object.btf->name_of(sec);
  if (name == ".kconfig" || name == ".ksyms") return {};  // only externs: refused where they are used
  const auto mend = [&](const std::string& what, uint32_t& value, uint64_t known) {
    if (value == known) return;
    note(object, Step::Kind::Btf,
         "DATASEC " + name + ": " + what + std::to_string(value) + " -> " + std::to_string(known));
    value = uint32_t(known);
  };
  const bool unlinked = sec.size == 0;
  if (unlinked) {
    const ElfFile::Section* section = object.elf.find_section(name);
    if (!section || !section->size || section->size > UINT32_MAX)
      return refuse(Errno::NoEnt, "BTF names a section '{}', which the ELF does not have", name);
    mend("size ", sec.size, section->size);
  }
  const std::span places(reinterpret_cast<btf_var_secinfo*>(&sec + 1), btf_vlen(sec));
  for (btf_var_secinfo& place : places) {
    btf_type* var = object.btf->mutable_type(place.type);
    if (!var || btf_kind(*var) != BTF_KIND_VAR)
      return refuse(Errno::Inval, "DATASEC '{}': member {} is no variable", name, &place - places.data());
    const ElfFile::Symbol* symbol = TRY(find_var_symbol(object, symbols, *var, name));
    if (!symbol) continue;
    if (unlinked) mend(std::string(object.btf->name_of(*var)) + " at offset ", place.offset, symbol->value);
    if (symbol->is_hidden()) *reinterpret_cast<uint32_t*>(var + 1) = BTF_VAR_STATIC;
  }
  std::sort(places.begin(), places.end(), [](const btf_var_secinfo& a, const btf_var_secinfo& b) {
    return std::tie(a.offset, a.type, a.size) < std::tie(b.offset, b.type, b.size);
  });
  return {};
}

// A global function that is hidden from others is verified together with its callers, as a static one.
static void fixup_func_linkage(BpfObject& object, const SymbolsByName& symbols, btf_type& func) {
  if (btf_vlen(func) != BTF_FUNC_GLOBAL) return;
  const char* name = object.btf->name_of(func);
  const auto found = symbols.find(name);
  if (found == symbols.end() || found->second->type != STT_FUNC || !found->second->is_hidden()) return;
  func.info = btf_info_enc(BTF_KIND_FUNC, false, BTF_FUNC_STATIC);
  note(object, Step::Kind::Btf, std::string("FUNC ") + name + " is hidden: global -> static");
}

Result<void> read_btf(BpfObject& object) {
  const ElfFile::Section* section = object.elf.find_section(".BTF");
  if (!section) {
    note(object, Step::Kind::Note, "no .BTF section (compiled without -g?)");
    return {};
  }
  object.btf = TRY(BtfTypes::parse(object.elf.data(*section)));
  note(object, Step::Kind::Btf, std::to_string(object.btf->nr_types() - 1) + " types");
  const SymbolsByName symbols = symbols_by_name(object.elf);
  for (uint32_t id = 1; id < object.btf->nr_types(); ++id) {
    btf_type& t = *object.btf->mutable_type(id);
    if (btf_kind(t) == BTF_KIND_DATASEC) TRY(fixup_datasec(object, symbols, t));
    if (btf_kind(t) == BTF_KIND_FUNC) fixup_func_linkage(object, symbols, t);
  }
  return {};
}

namespace {

// .BTF.ext: a header, then for func_info, line_info and CO-RE relocations a record size and, per ELF section,
// the section's name, a count and the records.
struct BtfExtHeader {
  uint16_t magic;
  uint8_t version, flags;
  uint32_t hdr_len;
  uint32_t func_info_off, func_info_len, line_info_off, line_info_len;
  uint32_t core_relo_off, core_relo_len;  // since hdr_len 32
};

uint32_t load32(std::span<const uint8_t> bytes, size_t at) {
  uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Calls visit(program, record) for each record of one of the three parts that is about a program.
template <class Record, class Visit>
Result<void> for_each_record(BpfObject& object, std::span<const uint8_t> part, Visit visit) {
  if (part.empty()) return {};
  if (part.size() < 4) return refuse(Errno::Inval, ".BTF.ext: part of {} bytes is too short", part.size());
  const uint32_t rec_size = load32(part, 0);
  if (rec_size < sizeof(Record) || rec_size % 4)
    return refuse(Errno::Inval, ".BTF.ext: record size must be at least {}, is {}", sizeof(Record), rec_size);
  for (size_t at = 4; at < part.size();) {
    if (part.size() - at < 8) return refuse(Errno::Inval, ".BTF.ext: section header at {} is cut off", at);
    const char* name = object.btf->name_by_offset(load32(part, at));
    const uint64_t count = load32(part, at + 4);
    at += 8;
    if (!name || count == 0 || count > (part.size() - at) / rec_size)
      return refuse(Errno::Inval, ".BTF.ext: {} records at {} do not fit", count, at);
    const ElfFile::Section* section = object.elf.find_section(name);
    for (uint64_t i = 0; i < count; ++i, at += rec_size) {
      Record record;
      std::memcpy(&record, part.data() + at, sizeof record);
      if (!section || record.insn_off % 8) continue;
      if (BpfProgram* program = find_program_at(object.programs, section->index, record.insn_off / 8))
        visit(*program, record);
    }
  }
  return {};
}

}  // namespace

Result<void> read_btf_ext(BpfObject& object) {
  const ElfFile::Section* section = object.elf.find_section(".BTF.ext");
  if (!section || !object.btf) return {};
  const auto data = object.elf.data(*section);
  BtfExtHeader hdr{};
  constexpr size_t short_header = offsetof(BtfExtHeader, core_relo_off);
  if (data.size() < short_header)
    return refuse(Errno::Inval, ".BTF.ext of {} bytes has no header", data.size());
  std::memcpy(&hdr, data.data(), short_header);
  if (hdr.magic != BTF_MAGIC || hdr.hdr_len < short_header || hdr.hdr_len > data.size())
    return refuse(Errno::Inval, ".BTF.ext: magic {} or header length {} is wrong", hdr.magic, hdr.hdr_len);
  std::memcpy(&hdr, data.data(), std::min<size_t>(hdr.hdr_len, sizeof hdr));
  const auto body = data.subspan(hdr.hdr_len);
  auto inside = [&](uint32_t off, uint32_t len) { return off <= body.size() && len <= body.size() - off; };
  if (!inside(hdr.func_info_off, hdr.func_info_len) || !inside(hdr.line_info_off, hdr.line_info_len) ||
      !inside(hdr.core_relo_off, hdr.core_relo_len))
    return refuse(Errno::Inval, ".BTF.ext: a part ends beyond the section's {} bytes", data.size());

  size_t funcs = 0, lines = 0, relos = 0;
  TRY(for_each_record<bpf_func_info>(object, body.subspan(hdr.func_info_off, hdr.func_info_len),
                                     [&](BpfProgram& program, bpf_func_info record) {
                                       record.insn_off = record.insn_off / 8 - program.sec_insn_off;
                                       program.func_info.push_back(record), ++funcs;
                                     }));
  TRY(for_each_record<bpf_line_info>(object, body.subspan(hdr.line_info_off, hdr.line_info_len),
                                     [&](BpfProgram& program, bpf_line_info record) {
                                       record.insn_off = record.insn_off / 8 - program.sec_insn_off;
                                       program.line_info.push_back(record), ++lines;
                                     }));
  TRY(for_each_record<bpf_core_relo>(
      object, body.subspan(hdr.core_relo_off, hdr.core_relo_len),
      [&](BpfProgram& program, const bpf_core_relo&) { program.has_core_relos = true, ++relos; }));
  note(object, Step::Kind::Btf,
       std::to_string(funcs) + " functions with types, " + std::to_string(lines) + " source lines");
  if (relos)
    note(object, Step::Kind::Note,
         std::to_string(relos) +
             " CO-RE relocations, which are not modelled: programs with them will not load");
  return {};
}

}  // namespace bpfsim::loader
