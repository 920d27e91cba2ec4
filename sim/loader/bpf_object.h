// Models: tools/lib/bpf/libbpf.c (libbpf 1.4, of Linux 6.12), struct bpf_object: user space, not the kernel
//
// What libbpf does between clang's object file and a running program, in two calls as there:
// bpf_object_open() reads the ELF and finds maps and programs; bpf_object_load() speaks bpf(2): BTF_LOAD,
// MAP_CREATE, patching the instructions, PROG_LOAD. The syscall is a callable, so that the same code drives
// the simulator or a live kernel. Every step is recorded with what it changed (Step), for lessons to show.
//
// Departs from libbpf: `maps` sections with struct bpf_map_def still work (libbpf 1.0 dropped them); what
// libbpf finds out by probing the kernel is told here by LoadOptions::kernel_version. Not modelled yet: CO-RE
// relocations, externs (.ksyms, .kconfig: kernel functions and variables), struct_ops, attach targets
// in LSM hooks and modules, BTF sanitizing for kernels that lack a kind, PROG_BIND_MAP of
// .rodata, static linking.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "btf/btf_types.h"
#include "isa/insn.h"
#include "loader/elf.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"
#include "uapi/info.h"
#include "uapi/result.h"
#include "uapi/version.h"

namespace bpfsim {

// bpf(2): a result >= 0 or -errno.
using SysBpf = std::function<long(int cmd, union bpf_attr* attr, unsigned size)>;

struct Step {
  enum class Kind {
    Section,     // an ELF section and what it is taken for
    Symbol,      // a function, map or variable in the symbol table
    License,     // also the version section
    Btf,         // what was read from .BTF and .BTF.ext, what was completed in it
    Map,         // a map definition found
    Program,     // a program or subprogram found
    Syscall,     // one bpf(2): cmd, attr, result
    Relocation,  // an instruction patched: before and after
    Subprogram,  // a subprogram's instructions appended to a program
    Note,        // what departs from the usual way, and why
  } kind;
  std::string text;
  std::string program{};                    // the program whose instructions changed
  int64_t insn = -1;                        // index in it
  std::vector<bpf_insn> before{}, after{};  // one slot, or two of an LD_IMM64
  int cmd = -1;                             // a bpf_cmd
  std::vector<uint8_t> attr{};              // as it was passed
  long result = 0;                          // fd, 0 or -errno
};
const char* step_kind_name(Step::Kind kind);

// One line of libbpf's table section_defs[].
struct SectionDef {
  enum : uint32_t { SEC_ATTACH_OPT = 1, SEC_SLEEPABLE = 2, SEC_ATTACH_BTF = 4, SEC_XDP_FRAGS = 8 };
  const char* name;
  bpf_prog_type prog_type;
  uint32_t expected_attach_type;
  uint32_t flags;
};
const SectionDef* find_section_def(std::string_view section);            // as libbpf 1.x matches
const SectionDef* find_section_def_by_prefix(std::string_view section);  // as before 1.0: "xdp_prog1" is xdp
std::string nearest_section(std::string_view section);  // the name that was meant, or "" if none is near

struct BpfMap {
  enum class Origin { Btf, Legacy, Data, Rodata, Bss };  // .maps, maps, and the three kinds of variables
  enum class Pinning : uint32_t { None = 0, ByName = 1 };

  std::string name;       // as the kernel gets it, cut to 15 characters
  std::string full_name;  // the variable's or section's name
  Origin origin = Origin::Btf;
  uint32_t sec_idx = 0;
  uint64_t sec_offset = 0;

  uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, map_flags = 0, numa_node = 0;
  uint64_t map_extra = 0;
  uint32_t btf_key_type_id = 0, btf_value_type_id = 0;
  Pinning pinning = Pinning::None;

  std::vector<uint8_t> data;  // initial contents of a data map; may be changed between open and load
  std::vector<BpfMap> inner;  // the template of a map in map: none or one
  std::map<uint32_t, std::string> values;  // slot -> map or program to put there

  int fd = -1;
  bool is_data() const { return origin >= Origin::Data; }
};

struct BpfProgram {
  std::string name, section;
  uint32_t sec_idx = 0, sec_insn_off = 0, sec_insn_cnt = 0;
  bool is_subprog = false, is_global = false, autoload = true;

  uint32_t type = BPF_PROG_TYPE_UNSPEC;  // may be changed between open and load, as the next two
  uint32_t expected_attach_type = 0;
  uint32_t prog_flags = 0;
  uint32_t attach_btf_id = 0;  // found in the kernel's BTF when it is loaded, or in that of a program:
  int attach_prog_fd = 0;      // which one the caller says, and
  std::string attach_func;     // of its functions this; "": the one that the section names
  const SectionDef* def = nullptr;

  std::vector<bpf_insn> elf_insns;  // as the file has them
  std::vector<bpf_insn> insns;      // as PROG_LOAD gets them: with subprograms appended, patched
  std::vector<bpf_func_info> func_info;
  std::vector<bpf_line_info> line_info;

  int fd = -1;
  std::string log;  // the verifier's

  struct Reloc {
    uint32_t insn_idx = 0;  // in elf_insns, later in insns
    ElfFile::Relocation elf{};
  };
  std::vector<Reloc> relocs;
  bool has_core_relos = false;
};

struct BpfObject {
  std::string name, license;
  uint32_t kern_version = 0;
  ElfFile elf;
  std::optional<BtfTypes> btf;  // completed as libbpf does, ready for BTF_LOAD
  std::vector<BpfMap> maps;
  std::vector<BpfProgram> programs;  // subprograms of .text included: is_subprog
  std::vector<Step> steps;
  int btf_fd = -1;
  std::string btf_log;
  std::string log;  // the verifier's, of the program loaded last

  struct RefusedCall {
    int cmd;
    std::string what;  // "MAP_CREATE of 'counts' (type 1)"
  };
  std::optional<RefusedCall>
      refused;  // the bpf(2) call that ended the load; none where the loader itself did

  BpfMap* find_map(std::string_view map_name);
  BpfProgram* find_program(std::string_view program_name);
};

struct LoadOptions {
  uint32_t log_level =
      0;  // 0: a refused program is loaded once more with level 1, to have the verifier's words
  uint32_t log_size = 1 << 20;
  Version kernel_version = kLatest;  // what the kernel has: names, BTF, global data
  uint32_t nr_cpus = 1;              // size of a PERF_EVENT_ARRAY without max_entries
  bool load_btf = true;
  bool pin_maps = true;  // for maps that ask for LIBBPF_PIN_BY_NAME
  std::string pin_root_path = "/sys/fs/bpf";
  std::vector<std::pair<std::string, int>> reuse_maps;  // name, fd: do not create, use this
  std::function<int(int fd)> dup_fd;      // how to copy an fd; without it reuse_maps are taken over
  std::function<void(int fd)> close_fd;   // how to give an fd back; without it the caller does
  std::function<Refusal()> last_refusal;  // why the last call was refused, where the kernel says it
};

// name is the file's base name without ".o"; the names of data maps begin with it.
Result<BpfObject> bpf_object_open(std::span<const uint8_t> bytes, std::string name);
Result<void> bpf_object_load(BpfObject& object, const SysBpf& sys_bpf, const LoadOptions& options = {});

// Gives back every fd that a load has left in the object.
void bpf_object_close(BpfObject& object, const std::function<void(int fd)>& close_fd);

}  // namespace bpfsim
