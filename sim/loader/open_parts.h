// Models: tools/lib/bpf/libbpf.c (libbpf 1.4, of Linux 6.12): user space, not the kernel
//
// The parts of bpf_object_open() and bpf_object_load() that stand in files of their own. Private to loader/.
#pragma once

#include "loader/bpf_object.h"

namespace bpfsim::loader {

// btf_object.cpp
Result<void> read_btf(BpfObject& object);      // .BTF; completes DATASECs and linkage
Result<void> read_btf_ext(BpfObject& object);  // .BTF.ext; gives each program its func_info and line_info

// sanitize_btf.cpp: the types for BTF_LOAD, in words that this kernel knows.
std::vector<uint8_t> bpf_object_sanitize_btf(const BtfTypes& btf, Version kernel);

// maps.cpp
Result<void> init_maps(BpfObject& object);
Result<void> init_map_values(BpfObject& object);  // initial slots of PROG_ARRAYs and maps in maps
bool is_data_section(const ElfFile::Section& section);
bool is_map_in_map(uint32_t map_type);

// programs.cpp
Result<void> init_programs(BpfObject& object);
BpfProgram* find_program_at(std::vector<BpfProgram>& programs, uint32_t sec_idx, uint64_t insn);

// relocate.cpp. `pristine` are the programs as opened: what is appended is copied from there.
Result<void> relocate_program(BpfObject& object, BpfProgram& program,
                              const std::vector<BpfProgram>& pristine);

std::string in_hex(uint64_t value);  // "0x1f"
void note(BpfObject& object, Step::Kind kind, std::string text);

}  // namespace bpfsim::loader
