// No kernel counterpart: the kernel never sees an ELF file; libbpf reads it with libelf, we read it
// ourselves.
//
// A reader for what clang -target bpf writes: ELF64, little-endian, machine EM_BPF, relocatable. Everything
// is read through bounds-checked copies, so that a truncated or foreign file is a clear error and never a
// crash. The file's bytes are kept: sections and names are views of them, so that an ElfFile moves but is not
// copied.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "uapi/result.h"

namespace bpfsim {

enum : uint32_t {
  SHT_NULL = 0,
  SHT_PROGBITS = 1,
  SHT_SYMTAB = 2,
  SHT_STRTAB = 3,
  SHT_NOBITS = 8,
  SHT_REL = 9
};
enum : uint64_t { SHF_WRITE = 1, SHF_ALLOC = 2, SHF_EXECINSTR = 4 };
enum : uint16_t { SHN_UNDEF = 0, SHN_LORESERVE = 0xff00, SHN_ABS = 0xfff1, SHN_COMMON = 0xfff2 };
enum : uint8_t { STB_LOCAL = 0, STB_GLOBAL = 1, STB_WEAK = 2 };
enum : uint8_t { STT_NOTYPE = 0, STT_OBJECT = 1, STT_FUNC = 2, STT_SECTION = 3, STT_FILE = 4 };
enum : uint8_t { STV_DEFAULT = 0, STV_INTERNAL = 1, STV_HIDDEN = 2 };
enum : uint32_t {
  R_BPF_NONE = 0,
  R_BPF_64_64 = 1,        // ld_imm64 of a map or a variable
  R_BPF_64_ABS64 = 2,     // a 64-bit word in data
  R_BPF_64_ABS32 = 3,     // a 32-bit word in data
  R_BPF_64_NODYLD32 = 4,  // .BTF, .BTF.ext
  R_BPF_64_32 = 10,       // the imm of a call
};

const char* elf_reloc_type_name(uint32_t type);

class ElfFile {
 public:
  struct Section {
    uint32_t index = 0;
    std::string_view name;
    uint32_t type = 0;
    uint64_t flags = 0, offset = 0, size = 0, entsize = 0, align = 0;
    uint32_t link = 0, info = 0;
    bool is_code() const { return type == SHT_PROGBITS && (flags & SHF_EXECINSTR); }
  };
  struct Symbol {
    uint32_t index = 0;
    std::string_view name;  // a section symbol bears its section's name
    uint64_t value = 0, size = 0;
    uint8_t type = 0, bind = 0, visibility = 0;
    uint16_t shndx = 0;
    bool is_hidden() const { return visibility == STV_HIDDEN || visibility == STV_INTERNAL; }
  };
  struct Relocation {
    uint64_t offset = 0;
    uint32_t type = 0, symbol = 0;
  };

  static Result<ElfFile> parse(std::span<const uint8_t> bytes);

  const std::vector<Section>& sections() const { return sections_; }
  const std::vector<Symbol>& symbols() const { return symbols_; }
  const Section* section(uint32_t index) const {
    return index < sections_.size() ? &sections_[index] : nullptr;
  }
  const Section* find_section(std::string_view name) const;
  std::string_view section_name(uint32_t index) const;

  // The section's bytes; empty for NOBITS (.bss).
  std::span<const uint8_t> data(const Section& section) const;

  // The entries of every SHT_REL section that applies to this one.
  Result<std::vector<Relocation>> relocations(const Section& target) const;

 private:
  Result<void> read_sections();
  Result<void> read_symbols(const Section& symtab);
  template <class T>
  std::optional<T> read(uint64_t offset) const;
  Result<std::string_view> string_at(const Section& strtab, uint64_t offset) const;

  std::shared_ptr<const std::vector<uint8_t>> bytes_;  // which the names point into: copies share them
  std::vector<Section> sections_;
  std::vector<Symbol> symbols_;
};

}  // namespace bpfsim
