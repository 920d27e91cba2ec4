// The ELF reader: what it finds in clang's objects, and its manners with files that are none.
#include "loader/elf.h"

#include "catch.h"
#include "test_data.h"

using namespace bpfsim;

TEST_CASE("sections, symbols and relocations of an object are found") {
  const auto elf = ElfFile::parse(read_test_data("xdp_drop.o"));
  REQUIRE(elf);
  const auto* xdp = elf->find_section("xdp");
  REQUIRE(xdp);
  CHECK(xdp->is_code());
  CHECK(elf->data(*xdp).size() == xdp->size);
  CHECK(elf->find_section("license"));
  CHECK(!elf->find_section("no such section"));
  const auto relocations = elf->relocations(*xdp);
  REQUIRE(relocations);
  REQUIRE(!relocations->empty());
  for (const auto& rel : *relocations) {
    CHECK(rel.type == R_BPF_64_64);
    const auto& sym = elf->symbols()[rel.symbol];
    CHECK((sym.name == "blocked_ports" || sym.name == "verdicts"));
    CHECK(elf->section_name(sym.shndx) == ".maps");
  }
}

TEST_CASE("a foreign file is refused with its reason") {
  auto bytes = read_test_data("xdp_pass.o");
  auto reason = [](const std::vector<uint8_t>& file) { return ElfFile::parse(file).refusal().reason(); };
  auto with = [&](size_t at, uint8_t value) {
    auto copy = bytes;
    copy[at] = value;
    return copy;
  };
  CHECK(reason({}) == "0 bytes are too few for an ELF header");
  CHECK(reason(std::vector<uint8_t>(64, 'x')) == "not an ELF file (no \\177ELF magic)");
  CHECK(reason(with(4, 1)) == "not a 64-bit ELF file (class 1)");
  CHECK(reason(with(5, 2)) == "not a little-endian ELF file (data 2)");
  CHECK(reason(with(18, 62)) == "ELF machine must be 247 (BPF), is 62: compile with clang -target bpf");
  CHECK(reason(with(16, 2)) == "ELF type must be 1 (relocatable), is 2");
}
