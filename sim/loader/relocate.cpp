// Models: bpf_object__reloc_code() and bpf_object__relocate_data() of tools/lib/bpf/libbpf.c: user space
//
// A program leaves clang with holes. First the calls: each subprogram that is reached is appended once,
// behind what is there already, in the order of a depth-first walk, and every call's imm becomes the distance
// to it. Then the data: an LD_IMM64 of a map gets the map's fd, one of a variable the fd of its section's map
// and the offset in it; the kernel turns both into addresses.
#include <unordered_map>

#include "loader/open_parts.h"

namespace bpfsim::loader {

namespace {

class Relocator {
 public:
  Relocator(BpfObject& object, BpfProgram& main, const std::vector<BpfProgram>& pristine)
      : object_(object), main_(main), pristine_(pristine), placed_(pristine.size(), -1) {}

  Result<void> run() {
    const size_t self = size_t(&main_ - object_.programs.data());
    main_ = pristine_[self];
    main_.insns = main_.elf_insns;
    placed_[self] = 0;
    for (const BpfProgram::Reloc& reloc : main_.relocs) relocs_.emplace(reloc.insn_idx, reloc.elf);
    TRY(link_calls(self));
    for (const BpfProgram::Reloc& reloc : std::vector(main_.relocs)) TRY(relocate_data(reloc));
    drop_incomplete_info();
    return {};
  }

 private:
  struct Frame {
    size_t program;
    uint32_t next;  // instruction to look at
  };

  std::string_view target_name(const ElfFile::Relocation& rel) const {
    return object_.elf.symbols()[rel.symbol].name;
  }

  const ElfFile::Relocation* find_reloc(uint32_t insn) const {
    const auto found = relocs_.find(insn);
    return found == relocs_.end() ? nullptr : &found->second;
  }

  // Not a recursion: a hostile file may have a chain of a hundred thousand subprograms.
  Result<void> link_calls(size_t self) {
    std::vector<Frame> stack{{self, 0}};
    while (!stack.empty()) {
      const BpfProgram& code = pristine_[stack.back().program];
      const uint32_t i = stack.back().next++;
      if (i >= code.sec_insn_cnt) {
        stack.pop_back();
        continue;
      }
      const auto at = uint32_t(placed_[stack.back().program]) + i;
      const bpf_insn insn = main_.insns[at];
      if (is_ld_imm64(insn)) ++stack.back().next;  // its second slot is no instruction
      const ElfFile::Relocation* rel = find_reloc(at);
      const ElfFile::Section* target =
          rel ? object_.elf.section(object_.elf.symbols()[rel->symbol].shndx) : nullptr;
      // clang leaves a function's address as a plain constant; that its symbol stands among code tells what
      // it is.
      const bool is_address = is_ld_imm64(insn) && target && target->is_code();
      if (!bpf_pseudo_call(insn) && !is_address) continue;
      if (rel && target && target->type == SHT_NULL) continue;  // an extern: refused with the data
      const size_t callee = TRY(find_callee(code, i, insn, rel));
      const bool is_new = placed_[callee] < 0;
      if (is_new) TRY(append(callee));
      set_target(at, callee, rel);
      if (is_new) stack.push_back({callee, 0});
    }
    return {};
  }

  // Where a call or a function pointer leads: by its relocation, or inside its own section without one.
  Result<size_t> find_callee(const BpfProgram& code, uint32_t i, const bpf_insn& insn,
                             const ElfFile::Relocation* rel) {
    uint32_t sec_idx = code.sec_idx;
    int64_t target = int64_t(code.sec_insn_off) + i + insn.imm + 1;
    if (rel) {
      const ElfFile::Symbol& sym = object_.elf.symbols()[rel->symbol];
      sec_idx = sym.shndx;
      if (sym.value % 8 || sym.value > UINT32_MAX || (is_ld_imm64(insn) && insn.imm % 8))
        return refuse(Errno::Inval, "program '{}': '{}' is not at an instruction", main_.name, sym.name);
      target = is_ld_imm64(insn) ? int64_t(sym.value + insn.imm) / 8 : int64_t(sym.value / 8) + insn.imm + 1;
    }
    // The programs of the object and their copies stand in the same order.
    const BpfProgram* found =
        target < 0 ? nullptr : find_program_at(object_.programs, sec_idx, uint64_t(target));
    if (!found || found->sec_insn_off != target)
      return refuse(Errno::Inval, "program '{}': instruction {} of '{}' calls what is no function's start",
                    main_.name, i, code.name);
    return size_t(found - object_.programs.data());
  }

  Result<void> append(size_t index) {
    const BpfProgram& sub = pristine_[index];
    const auto base = uint32_t(main_.insns.size());
    if (base + uint64_t(sub.sec_insn_cnt) > BPF_COMPLEXITY_LIMIT_INSNS)
      return refuse(Errno::TooBig, "program '{}' has more than a million instructions with its subprograms",
                    main_.name);
    placed_[index] = base;
    main_.insns.insert(main_.insns.end(), sub.elf_insns.begin(), sub.elf_insns.end());
    for (BpfProgram::Reloc reloc : sub.relocs) {
      reloc.insn_idx += base;
      main_.relocs.push_back(reloc);
      relocs_.emplace(reloc.insn_idx, reloc.elf);
    }
    for (bpf_func_info info : sub.func_info) {
      info.insn_off += base;
      main_.func_info.push_back(info);
    }
    for (bpf_line_info info : sub.line_info) {
      info.insn_off += base;
      main_.line_info.push_back(info);
    }
    main_.has_core_relos |= sub.has_core_relos;
    ++subprogs_;
    object_.steps.push_back({.kind = Step::Kind::Subprogram,
                             .text = sub.name + ": " + std::to_string(sub.sec_insn_cnt) +
                                     " instructions appended to " + main_.name + " at " +
                                     std::to_string(base),
                             .program = main_.name,
                             .insn = base,
                             .after = sub.elf_insns});
    return {};
  }

  void set_target(uint32_t at, size_t callee, const ElfFile::Relocation* rel) {
    bpf_insn& insn = main_.insns[at];
    const std::vector<bpf_insn> before = slots(at);
    insn.imm = int32_t(placed_[callee] - int64_t(at) - 1);
    if (is_ld_imm64(insn)) insn.src_reg = BPF_PSEUDO_FUNC;
    record(at, before,
           (is_ld_imm64(insn) ? "address of " : "call of ") + pristine_[callee].name +
               (rel ? std::string(" (") + elf_reloc_type_name(rel->type) + ")" : " in the same section"));
  }

  Result<void> relocate_data(const BpfProgram::Reloc& reloc) {
    const ElfFile::Symbol& sym = object_.elf.symbols()[reloc.elf.symbol];
    const bpf_insn& insn = main_.insns[reloc.insn_idx];
    if (sym.shndx == SHN_UNDEF)
      return refuse(Errno::OpNotSupp,
                    "program '{}': '{}' is defined nowhere; kernel functions and variables are not "
                    "modelled",
                    main_.name, sym.name);
    if (bpf_pseudo_call(insn) || bpf_pseudo_func(insn)) return {};  // done
    if (!is_ld_imm64(insn))
      return refuse(Errno::Inval, "program '{}': relocation of '{}' at {} is on no LD_IMM64", main_.name,
                    sym.name, reloc.insn_idx);
    const ElfFile::Section* section = object_.elf.section(sym.shndx);
    if (!section)
      return refuse(Errno::Inval, "program '{}': '{}' stands in no section (a variable without a value?)",
                    main_.name, sym.name);
    return is_data_section(*section) ? patch_variable(reloc, sym) : patch_map(reloc, sym);
  }

  Result<void> patch_map(const BpfProgram::Reloc& reloc, const ElfFile::Symbol& sym) {
    const uint32_t at = reloc.insn_idx;
    // A section's symbol has the offset in the instruction.
    const uint64_t offset = sym.value + (sym.type == STT_SECTION ? uint32_t(main_.insns[at].imm) : 0);
    for (const BpfMap& map : object_.maps) {
      if (map.is_data() || map.sec_idx != sym.shndx || map.sec_offset != offset) continue;
      const std::vector<bpf_insn> before = slots(at);
      main_.insns[at].src_reg = BPF_PSEUDO_MAP_FD;
      main_.insns[at].imm = map.fd;
      main_.insns[at + 1].imm = 0;
      record(at, before,
             std::string(elf_reloc_type_name(reloc.elf.type)) + ": map " + map.name + " is fd " +
                 std::to_string(map.fd));
      return {};
    }
    return refuse(Errno::Inval, "program '{}': '{}' in section '{}' is no map", main_.name, sym.name,
                  object_.elf.section_name(sym.shndx));
  }

  Result<void> patch_variable(const BpfProgram::Reloc& reloc, const ElfFile::Symbol& sym) {
    const uint32_t at = reloc.insn_idx;
    for (const BpfMap& map : object_.maps) {
      if (!map.is_data() || map.sec_idx != sym.shndx) continue;
      const std::vector<bpf_insn> before = slots(at);
      const auto offset = int32_t(uint32_t(main_.insns[at].imm) + uint32_t(sym.value));
      main_.insns[at].src_reg = BPF_PSEUDO_MAP_VALUE;
      main_.insns[at].imm = map.fd;
      main_.insns[at + 1].imm = offset;
      const std::string what = sym.type == STT_SECTION ? "" : std::string(sym.name) + " is ";
      record(at, before,
             std::string(elf_reloc_type_name(reloc.elf.type)) + ": " + what + "byte " +
                 std::to_string(offset) + " of map " + map.name + ", fd " + std::to_string(map.fd));
      return {};
    }
    return refuse(Errno::Inval, "program '{}': '{}' is in '{}', which has no map", main_.name, sym.name,
                  object_.elf.section_name(sym.shndx));
  }

  std::vector<bpf_insn> slots(uint32_t at) const {
    const bool two = is_ld_imm64(main_.insns[at]) && at + 1 < main_.insns.size();
    return {main_.insns.begin() + at, main_.insns.begin() + at + (two ? 2 : 1)};
  }

  void record(uint32_t at, std::vector<bpf_insn> before, std::string text) {
    object_.steps.push_back({.kind = Step::Kind::Relocation,
                             .text = std::move(text),
                             .program = main_.name,
                             .insn = at,
                             .before = std::move(before),
                             .after = slots(at)});
  }

  // The kernel wants the types of all functions or of none.
  void drop_incomplete_info() {
    if (main_.func_info.size() == subprogs_ + 1 || main_.func_info.empty()) return;
    main_.func_info.clear();
    main_.line_info.clear();
    note(object_, Step::Kind::Note,
         main_.name + ": BTF lacks the type of one of its functions: loaded without types and source lines");
  }

  BpfObject& object_;
  BpfProgram& main_;
  const std::vector<BpfProgram>& pristine_;
  std::vector<int64_t> placed_;  // program -> its first instruction in main_, -1 if it is not there
  std::unordered_map<uint32_t, ElfFile::Relocation> relocs_;  // by instruction of main_
  size_t subprogs_ = 0;
};

}  // namespace

Result<void> relocate_program(BpfObject& object, BpfProgram& program,
                              const std::vector<BpfProgram>& pristine) {
  return Relocator(object, program, pristine).run();
}

}  // namespace bpfsim::loader
