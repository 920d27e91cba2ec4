// Models: kernel/bpf/helpers.c (snprintf, strtol, strtoul, strncmp), kernel/trace/bpf_trace.c
// (bpf_trace_printk), kernel/trace/trace_output.c (Linux 6.18)
//
// Text in and out of programs. A line of trace_pipe has the shape that its version prints: until 5.8 a raw
// trace_printk with "0x00000001: " and no newline of its own, since 5.9 the event bpf_trace_printk, which
// ends the line itself; four flag columns until 5.14 and five since (migration disabled); pids five wide
// until 5.9 and seven since; 'b' for softirqs switched off since 5.19. Versions of these steps are from the
// kernel's history, not measured.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <limits>

#include "object/file.h"
#include "run/helpers/call.h"
#include "uapi/gates.h"

namespace bpfsim {

std::string trace_pipe_line(const Machine& machine, const std::string& text) {
  const Context& context = *machine.current;
  bool in_task = context.task != nullptr;
  bool event = has(Gate::trace_printk_event, machine.version);
  std::string comm = in_task ? context.task->comm : "<idle>";

  // Irqs off or softirqs off, need-resched, in softirq, depth of preempt_disable, of migrate_disable.
  std::string flags;
  flags += in_task && has(Gate::trace_bh_off, machine.version) ? 'b' : '.';
  flags += '.';
  flags += in_task ? '.' : 's';
  flags += '1';
  if (has(Gate::trace_migrate_disable, machine.version)) flags += '1';

  uint64_t us = (machine.clock.now_ns + 500) / 1000;
  char head[128];
  std::snprintf(head, sizeof head,
                has(Gate::trace_pid_7, machine.version) ? "%16s-%-7d [%03u] %s %5llu.%06llu: "
                                                        : "%16s-%-5d [%03u] %s %5llu.%06llu: ",
                comm.c_str(), in_task ? context.pid : 0, context.cpu, flags.c_str(),
                static_cast<unsigned long long>(us / 1'000'000),
                static_cast<unsigned long long>(us % 1'000'000));
  return head + std::string(event ? "bpf_trace_printk: " : "0x00000001: ") + text;
}

BPF_CALL_5(bpf_trace_printk, fmt, fmt_size, arg1, arg2, arg3) {
  uint64_t args[] = {arg1, arg2, arg3};
  if (!program_memory(machine, fmt, uint32_t(fmt_size), BPF_READ)) return 0;
  Result<Formatted> formatted = bpf_bprintf(machine, fmt, uint32_t(fmt_size), args, 3);
  if (!formatted) return fail(formatted.err());
  constexpr size_t MAX_BPRINTF_BUF = 1024;
  std::string line = trace_pipe_line(machine, formatted->text.substr(0, MAX_BPRINTF_BUF - 1));
  if (has(Gate::trace_printk_event, machine.version)) line += '\n';
  machine.trace_pipe.push_back(line);
  constexpr size_t kRing = 10'000;
  if (machine.trace_pipe.size() > kRing) machine.trace_pipe.pop_front();
  return formatted->length;
}

const FuncProto bpf_trace_printk_proto = {
    .func = bpf_trace_printk,
    .gpl_only = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_RDONLY_MEM, ARG_CONST_SIZE},
};

BPF_CALL_5(bpf_snprintf, str, str_size, fmt, data, data_len) {
  constexpr uint32_t MAX_BPRINTF_VARARGS = 12;
  uint32_t bytes = uint32_t(data_len), room = uint32_t(str_size);
  if (bytes % 8 || bytes > MAX_BPRINTF_VARARGS * 8 || (bytes && !data)) return fail(Errno::Inval);
  uint64_t args[MAX_BPRINTF_VARARGS] = {};
  if (bytes) {
    const uint8_t* from = program_memory(machine, data, bytes, BPF_READ);
    if (!from) return 0;
    std::memcpy(args, from, bytes);
  }
  Result<Formatted> formatted =
      bpf_bprintf(machine, fmt, std::numeric_limits<uint32_t>::max(), args, bytes / 8);
  if (!formatted) return fail(formatted.err());
  if (room) {
    uint8_t* to = program_memory(machine, str, room, BPF_WRITE);
    if (!to) return 0;
    size_t length = std::min<size_t>(formatted->text.size(), room - 1);
    std::memcpy(to, formatted->text.data(), length);
    to[length] = 0;
  }
  return formatted->length + 1;
}

const FuncProto bpf_snprintf_proto = {
    .func = bpf_snprintf,
    .gpl_only = true,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_MEM_OR_NULL, ARG_CONST_SIZE_OR_ZERO, ARG_PTR_TO_CONST_STR, ARG_RDONLY_MEM_OR_NULL,
                 ARG_CONST_SIZE_OR_ZERO},
};

namespace {

struct Number {
  uint64_t magnitude = 0;
  bool negative = false;
  uint64_t consumed = 0;
};

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 36;
}

// Blanks, a sign, a prefix for the base, digits; at most 63 characters after the sign are looked at.
Result<Number> parse_number(std::string_view text, uint64_t flags) {
  unsigned base = unsigned(flags & 0x1f);
  if (text.empty() || flags >> 5 || (base != 0 && base != 8 && base != 10 && base != 16))
    return refuse(Errno::Inval, "base must be 0, 8, 10 or 16, flags are {}", flags);
  Number number;
  size_t at = 0;
  while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  if (at < text.size() && text[at] == '-') number.negative = true, ++at;
  if (at == text.size()) return refuse(Errno::Inval, "no digits in {} characters", text.size());

  std::string_view body = text.substr(at, 63);
  size_t used = 0;
  bool hex = body.size() > 2 && body[0] == '0' && (body[1] | 0x20) == 'x' && digit_of(body[2]) < 16;
  if (base == 0) base = hex ? 16 : body[0] == '0' ? 8 : 10;
  bool prefixed = body.size() > 1 && body[0] == '0' && (body[1] | 0x20) == 'x';
  if (base == 16 && prefixed) used = 2;
  size_t digits = 0;
  for (; used < body.size() && unsigned(digit_of(body[used])) < base; ++used, ++digits) {
    uint64_t next = number.magnitude * base + unsigned(digit_of(body[used]));
    if (number.magnitude > (~0ull - unsigned(digit_of(body[used]))) / base)
      return refuse(Errno::Range, "the number does not fit 64 bits");
    number.magnitude = next;
  }
  if (digits == 0) return refuse(Errno::Inval, "no digits of base {}", base);
  number.consumed = at + used;
  return number;
}

Result<Number> number_argument(Machine& machine, Addr buf, uint64_t size, uint64_t flags) {
  const uint8_t* text = program_memory(machine, buf, size, BPF_READ);
  if (!text) return refuse(Errno::Fault, "the text cannot be read");
  return parse_number({reinterpret_cast<const char*>(text), size_t(size)}, flags);
}

}  // namespace

BPF_CALL_4(bpf_strtol, buf, buf_len, flags, res) {
  uint8_t* to = program_memory(machine, res, 8, BPF_WRITE);
  if (!to) return 0;
  std::memset(to, 0, 8);
  Result<Number> number = number_argument(machine, buf, buf_len, flags);
  if (!number) return fail(number.err());
  uint64_t limit = uint64_t(std::numeric_limits<int64_t>::max()) + (number->negative ? 1 : 0);
  if (number->magnitude > limit) return fail(Errno::Range);
  uint64_t value = number->negative ? 0 - number->magnitude : number->magnitude;
  std::memcpy(to, &value, 8);
  return number->consumed;
}

const FuncProto bpf_strtol_proto = {
    .func = bpf_strtol,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_RDONLY_MEM, ARG_CONST_SIZE, ARG_ANYTHING, ARG_ALIGNED_RESULT},
    .arg_size = {0, 0, 0, 8},
};

BPF_CALL_4(bpf_strtoul, buf, buf_len, flags, res) {
  uint8_t* to = program_memory(machine, res, 8, BPF_WRITE);
  if (!to) return 0;
  std::memset(to, 0, 8);
  Result<Number> number = number_argument(machine, buf, buf_len, flags);
  if (!number) return fail(number.err());
  if (number->negative) return fail(Errno::Inval);
  std::memcpy(to, &number->magnitude, 8);
  return number->consumed;
}

const FuncProto bpf_strtoul_proto = {
    .func = bpf_strtoul,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_RDONLY_MEM, ARG_CONST_SIZE, ARG_ANYTHING, ARG_ALIGNED_RESULT},
    .arg_size = {0, 0, 0, 8},
};

BPF_CALL_3(bpf_strncmp, s1, s1_size, s2) {
  for (uint64_t i = 0; i < uint32_t(s1_size); ++i) {
    const uint8_t* a = program_memory(machine, s1 + i, 1, BPF_READ);
    const uint8_t* b = a ? program_memory(machine, s2 + i, 1, BPF_READ) : nullptr;
    if (!b) return 0;
    if (*a != *b) return *a < *b ? ~0ull : 1;
    if (*a == 0) break;
  }
  return 0;
}

const FuncProto bpf_strncmp_proto = {
    .func = bpf_strncmp,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_RDONLY_MEM, ARG_CONST_SIZE, ARG_PTR_TO_CONST_STR},
};

}  // namespace bpfsim
