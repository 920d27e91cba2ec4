// Models: include/asm-generic/vmlinux.lds.h (.BTF), kernel/bpf/btf.c (btf_parse_vmlinux) (Linux 6.18)
//
// The machine's own vmlinux BTF: the structs, functions and tracepoints that it models, under the kernel's
// names and with the offsets of the measured 6.18 build. One table makes the BTF and serves those who lay
// such a struct out in memory. Departs from the kernel: a hundred types in place of a hundred thousand, and
// of each struct only some members, so type ids are this machine's own.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace bpfsim {

class BtfTypes;

struct VmlinuxBtf {
  std::vector<uint8_t> data;  // as /sys/kernel/btf/vmlinux has it
  std::shared_ptr<const BtfTypes> types;
};
const VmlinuxBtf& vmlinux_btf();

// Where a member lies in its struct, and how large the struct is. A name that the table lacks is a bug of the
// simulator and throws.
uint32_t vmlinux_offset(std::string_view structure, std::string_view member);
uint32_t vmlinux_size(std::string_view structure);

}  // namespace bpfsim
