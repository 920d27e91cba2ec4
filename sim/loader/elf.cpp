// No kernel counterpart: the kernel never sees an ELF file; libbpf reads it with libelf, we read it
// ourselves.
//
// Structures follow the System V ABI; every one is copied out of the bytes after its bounds were checked.
#include "loader/elf.h"

#include <cstring>

namespace bpfsim {

namespace {

constexpr uint16_t ET_REL = 1, EM_BPF = 247;

struct Ehdr {
  uint8_t ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, phoff, shoff;
  uint32_t flags;
  uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct Shdr {
  uint32_t name, type;
  uint64_t flags, addr, offset, size;
  uint32_t link, info;
  uint64_t addralign, entsize;
};
struct Sym {
  uint32_t name;
  uint8_t info, other;
  uint16_t shndx;
  uint64_t value, size;
};
struct Rel {
  uint64_t offset, info;
};
static_assert(sizeof(Ehdr) == 64 && sizeof(Shdr) == 64 && sizeof(Sym) == 24 && sizeof(Rel) == 16);

}  // namespace

const char* elf_reloc_type_name(uint32_t type) {
  switch (type) {
    case R_BPF_NONE: return "R_BPF_NONE";
    case R_BPF_64_64: return "R_BPF_64_64";
    case R_BPF_64_ABS64: return "R_BPF_64_ABS64";
    case R_BPF_64_ABS32: return "R_BPF_64_ABS32";
    case R_BPF_64_NODYLD32: return "R_BPF_64_NODYLD32";
    case R_BPF_64_32: return "R_BPF_64_32";
  }
  return "unknown relocation";
}

template <class T>
std::optional<T> ElfFile::read(uint64_t offset) const {
  if (offset > bytes_->size() || bytes_->size() - offset < sizeof(T)) return {};
  T value;
  std::memcpy(&value, bytes_->data() + offset, sizeof value);
  return value;
}

Result<ElfFile> ElfFile::parse(std::span<const uint8_t> bytes) {
  ElfFile elf;
  elf.bytes_ = std::make_shared<const std::vector<uint8_t>>(bytes.begin(), bytes.end());
  TRY(elf.read_sections());
  for (const Section& section : elf.sections_)
    if (section.type == SHT_SYMTAB) TRY(elf.read_symbols(section));
  return elf;
}

Result<void> ElfFile::read_sections() {
  const auto ehdr = read<Ehdr>(0);
  if (!ehdr) return refuse(Errno::Inval, "{} bytes are too few for an ELF header", bytes_->size());
  if (std::memcmp(ehdr->ident, "\177ELF", 4) != 0)
    return refuse(Errno::Inval, "not an ELF file (no \\177ELF magic)");
  if (ehdr->ident[4] != 2) return refuse(Errno::Inval, "not a 64-bit ELF file (class {})", ehdr->ident[4]);
  if (ehdr->ident[5] != 1)
    return refuse(Errno::Inval, "not a little-endian ELF file (data {})", ehdr->ident[5]);
  if (ehdr->machine != EM_BPF)
    return refuse(Errno::Inval, "ELF machine must be 247 (BPF), is {}: compile with clang -target bpf",
                  ehdr->machine);
  if (ehdr->type != ET_REL)
    return refuse(Errno::Inval, "ELF type must be 1 (relocatable), is {}", ehdr->type);
  if (ehdr->shentsize != sizeof(Shdr))
    return refuse(Errno::Inval, "ELF section header size must be 64, is {}", ehdr->shentsize);
  if (ehdr->shstrndx >= ehdr->shnum) return refuse(Errno::Inval, "ELF has no section names (corrupt header)");

  std::vector<uint32_t> names;
  for (uint32_t i = 0; i < ehdr->shnum; ++i) {
    const auto sh = read<Shdr>(ehdr->shoff + uint64_t(i) * sizeof(Shdr));
    if (ehdr->shoff > bytes_->size() || !sh)
      return refuse(Errno::Inval, "ELF section header {} of {} is cut off: truncated file?", i, ehdr->shnum);
    if (sh->type != SHT_NOBITS && sh->type != SHT_NULL &&
        (sh->offset > bytes_->size() || bytes_->size() - sh->offset < sh->size))
      return refuse(Errno::Inval, "ELF section {} ends beyond the file's {} bytes: truncated file?", i,
                    bytes_->size());
    sections_.push_back({.index = i,
                         .name = "",
                         .type = sh->type,
                         .flags = sh->flags,
                         .offset = sh->offset,
                         .size = sh->type == SHT_NULL ? 0 : sh->size,
                         .entsize = sh->entsize,
                         .align = sh->addralign,
                         .link = sh->link,
                         .info = sh->info});
    names.push_back(sh->name);
  }
  const Section& strtab = sections_[ehdr->shstrndx];
  for (Section& section : sections_)
    if (section.type != SHT_NULL) section.name = TRY(string_at(strtab, names[section.index]));
  return {};
}

Result<std::string_view> ElfFile::string_at(const Section& strtab, uint64_t offset) const {
  const auto text = data(strtab);
  if (strtab.type != SHT_STRTAB)
    return refuse(Errno::Inval, "ELF section {} is no string table", strtab.index);
  if (offset >= text.size()) return refuse(Errno::Inval, "ELF string offset {} is outside its table", offset);
  const auto* begin = reinterpret_cast<const char*>(text.data() + offset);
  const auto* end = static_cast<const char*>(std::memchr(begin, 0, text.size() - offset));
  if (!end) return refuse(Errno::Inval, "ELF string at offset {} has no end", offset);
  return std::string_view(begin, size_t(end - begin));
}

Result<void> ElfFile::read_symbols(const Section& symtab) {
  if (!symbols_.empty()) return refuse(Errno::Inval, "ELF has more than one symbol table");
  if (symtab.entsize != sizeof(Sym) || symtab.size % sizeof(Sym))
    return refuse(Errno::Inval, "ELF symbol size must be 24, is {}", symtab.entsize);
  const Section* strtab = section(symtab.link);
  if (!strtab)
    return refuse(Errno::Inval, "ELF symbol table names string table {}, which is not there", symtab.link);
  const auto count = uint32_t(symtab.size / sizeof(Sym));
  symbols_.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    const Sym sym = *read<Sym>(symtab.offset + uint64_t(i) * sizeof(Sym));  // inside, by read_sections
    Symbol symbol{.index = i,
                  .name = TRY(string_at(*strtab, sym.name)),
                  .value = sym.value,
                  .size = sym.size,
                  .type = uint8_t(sym.info & 0xf),
                  .bind = uint8_t(sym.info >> 4),
                  .visibility = uint8_t(sym.other & 3),
                  .shndx = sym.shndx};
    if (symbol.type == STT_SECTION) symbol.name = section_name(symbol.shndx);
    symbols_.push_back(std::move(symbol));
  }
  return {};
}

const ElfFile::Section* ElfFile::find_section(std::string_view name) const {
  for (const Section& section : sections_)
    if (section.name == name) return &section;
  return nullptr;
}

std::string_view ElfFile::section_name(uint32_t index) const {
  const Section* found = section(index);
  return found ? found->name : std::string_view();
}

std::span<const uint8_t> ElfFile::data(const Section& section) const {
  if (section.type == SHT_NOBITS || section.type == SHT_NULL) return {};
  return std::span(*bytes_).subspan(section.offset, section.size);
}

Result<std::vector<ElfFile::Relocation>> ElfFile::relocations(const Section& target) const {
  std::vector<Relocation> relocations;
  for (const Section& rel : sections_) {
    if (rel.type != SHT_REL || rel.info != target.index) continue;
    if (rel.entsize != sizeof(Rel) || rel.size % sizeof(Rel))
      return refuse(Errno::Inval, "ELF relocation size in '{}' must be 16, is {}", rel.name, rel.entsize);
    for (uint64_t at = 0; at < rel.size; at += sizeof(Rel)) {
      const Rel entry = *read<Rel>(rel.offset + at);
      const auto symbol = uint32_t(entry.info >> 32);
      if (symbol >= symbols_.size())
        return refuse(Errno::Inval, "relocation in '{}' names symbol {} of {}", rel.name, symbol,
                      symbols_.size());
      relocations.push_back({entry.offset, uint32_t(entry.info), symbol});
    }
  }
  return relocations;
}

}  // namespace bpfsim
