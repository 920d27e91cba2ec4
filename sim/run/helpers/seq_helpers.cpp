// Models: kernel/trace/bpf_trace.c (bpf_seq_printf, bpf_seq_write, bpf_probe_read_kernel and its neighbours)
// (Linux 6.18)
//
// Writing into an iterator's file, and reading memory that may not be there. User memory is the memory of the
// process that hosts the machine; kernel memory is the machine's arena. Departs from the kernel:
// bpf_get_current_task is not modelled, and a string that is read stops at the first byte that cannot be.
#include <algorithm>
#include <cstring>

#include "host/seq_file.h"
#include "run/helpers/call.h"

namespace bpfsim {

static uint64_t seq_status(bool written) { return written ? 0 : fail(Errno::Overflow); }

BPF_CALL_5(bpf_seq_printf, m, fmt, fmt_size, data, data_len) {
  constexpr uint32_t MAX_BPRINTF_VARARGS = 12;
  const uint32_t size = uint32_t(data_len);
  SeqFile* seq = seq_file_at(machine, m);
  if (!seq) return fail(Errno::Inval);
  if (size % 8 || size > MAX_BPRINTF_VARARGS * 8 || (size && !data)) return fail(Errno::Inval);
  uint64_t args[MAX_BPRINTF_VARARGS] = {};
  if (size) {
    const uint8_t* from = program_memory(machine, data, size, BPF_READ);
    if (!from) return 0;
    std::memcpy(args, from, size);
  }
  Result<Formatted> text = bpf_bprintf(machine, fmt, uint32_t(fmt_size), args, size / 8);
  if (!text) return fail(text.err());
  return seq_status(seq->write(text->text));
}

const FuncProto bpf_seq_printf_proto = {
    .func = bpf_seq_printf,
    .gpl_only = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_BTF_ID, ARG_RDONLY_MEM, ARG_CONST_SIZE, ARG_RDONLY_MEM_OR_NULL,
                 ARG_CONST_SIZE_OR_ZERO},
    .arg_btf = {"seq_file"},
};

BPF_CALL_3(bpf_seq_write, m, data, len) {
  SeqFile* seq = seq_file_at(machine, m);
  if (!seq) return fail(Errno::Inval);
  const uint32_t size = uint32_t(len);
  if (!size) return seq_status(seq->write(""));
  const uint8_t* from = program_memory(machine, data, size, BPF_READ);
  if (!from) return 0;
  return seq_status(seq->write(std::string(reinterpret_cast<const char*>(from), size)));
}

const FuncProto bpf_seq_write_proto = {
    .func = bpf_seq_write,
    .gpl_only = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_BTF_ID, ARG_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO},
    .arg_btf = {"seq_file"},
};

// One byte of kernel or user memory; false where there is none.
static bool read_byte(Machine& machine, bool user, Addr from, uint8_t& byte) {
  if (user) return bool(copy_from_user(machine, &byte, from, 1));
  if (!is_program_memory(machine, from, 1)) return false;
  byte = *machine.arena.host(from);
  return true;
}

static uint64_t probe_read(Machine& machine, bool user, Addr dst, uint32_t size, Addr from) {
  if (!size) return 0;
  uint8_t* to = program_memory(machine, dst, size, BPF_WRITE);
  if (!to) return 0;
  bool there = user ? bool(copy_from_user(machine, to, from, size)) : is_program_memory(machine, from, size);
  if (there && !user) std::memmove(to, machine.arena.host(from), size);
  if (there) return 0;
  std::memset(to, 0, size);
  return fail(Errno::Fault);
}

// The length with its NUL. What does not fit is cut, and ends with a NUL all the same.
static uint64_t probe_read_str(Machine& machine, bool user, Addr dst, uint32_t size, Addr from) {
  if (!size) return 0;
  uint8_t* to = program_memory(machine, dst, size, BPF_WRITE);
  if (!to) return 0;
  for (uint32_t i = 0; i < size; ++i) {
    if (!read_byte(machine, user, from + i, to[i])) {
      std::memset(to, 0, size);
      return fail(Errno::Fault);
    }
    if (to[i] == 0) return i + 1;
  }
  to[size - 1] = 0;
  return size;
}

#define PROBE_HELPER(name, body, user)                                                               \
  BPF_CALL_3(bpf_##name, dst, size, from) { return body(machine, user, dst, uint32_t(size), from); } \
  const FuncProto bpf_##name##_proto = {                                                             \
      .func = bpf_##name,                                                                            \
      .gpl_only = true,                                                                              \
      .ret_type = RET_INTEGER,                                                                       \
      .arg_type = {ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING},                     \
  };

PROBE_HELPER(probe_read_user, probe_read, true)
PROBE_HELPER(probe_read_kernel, probe_read, false)
PROBE_HELPER(probe_read_user_str, probe_read_str, true)
PROBE_HELPER(probe_read_kernel_str, probe_read_str, false)
#undef PROBE_HELPER

}  // namespace bpfsim
