// No kernel counterpart: a kernel is one machine and its globals; here any number live side by side.
//
// Capability checks, user memory and the kernel log of one machine.
#include "base/machine.h"

#include <algorithm>
#include <cstdio>

#include "uapi/gates.h"

namespace bpfsim {

void printk(Machine& machine, const std::string& text) {
  char stamp[32];
  uint64_t us = machine.clock.now_ns / 1000;
  std::snprintf(stamp, sizeof stamp, "[%5llu.%06llu] ", static_cast<unsigned long long>(us / 1'000'000),
                static_cast<unsigned long long>(us % 1'000'000));
  machine.dmesg.push_back(stamp + text);
  if (machine.dmesg.size() > 10'000) machine.dmesg.pop_front();
}

bool host_interrupts(Machine& machine) {
  ++machine.interrupt_checks;
  return machine.user->interrupts(machine.interrupt_checks, machine.interrupted && machine.interrupted());
}

bool capable(const Machine& machine, Capability cap) {
  const Credentials* cred = machine.current->cred;
  return !cred || (cred->effective >> cap & 1) != 0;  // the kernel itself may do anything
}

bool bpf_capable(const Machine& machine) {
  bool split = has(Gate::cap_bpf, machine.version);
  return capable(machine, CAP_SYS_ADMIN) || (split && capable(machine, CAP_BPF));
}

bool perfmon_capable(const Machine& machine) {
  bool split = has(Gate::cap_bpf, machine.version);
  return capable(machine, CAP_SYS_ADMIN) || (split && capable(machine, CAP_PERFMON));
}

bool bpf_net_capable(const Machine& machine) {
  return capable(machine, CAP_SYS_ADMIN) || capable(machine, CAP_NET_ADMIN);
}

bool net_admin_capable(const Machine& machine) {
  return has(Gate::net_admin_by_sys_admin, machine.version) ? bpf_net_capable(machine)
                                                            : capable(machine, CAP_NET_ADMIN);
}

static UserMemory& memory_at(Machine& machine, uint64_t user) {
  return user >= kMmapBase && machine.mapped ? *machine.mapped : *machine.user;
}

Result<void> copy_from_user(Machine& machine, void* to, uint64_t user, size_t size) {
  if (!memory_at(machine, user).read(to, user, size))
    return refuse(Errno::Fault, "{} bytes at user address {} cannot be read", size, user);
  return {};
}

Result<void> copy_to_user(Machine& machine, uint64_t user, const void* from, size_t size) {
  if (!memory_at(machine, user).write(user, from, size))
    return refuse(Errno::Fault, "{} bytes at user address {} cannot be written", size, user);
  return {};
}

Result<std::string> strncpy_from_user(Machine& machine, uint64_t user, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    char c;
    TRY(copy_from_user(machine, &c, user + i, 1));
    if (c == 0) return text;
    text.push_back(c);
  }
  return refuse(Errno::TooBig, "no NUL within {} bytes", size);
}

Result<void> bpf_check_uarg_tail_zero(Machine& machine, uint64_t user, uint32_t expected_size,
                                      uint32_t actual_size, const char* what) {
  if (actual_size > kPageSize)
    return refuse(Errno::TooBig, "{} bytes of {} are more than a page", actual_size, what);
  uint8_t tail[64];  // never over the end of a page: what is not 0 is met before one that is not there
  for (uint32_t at = expected_size; at < actual_size;) {
    const auto to_page_end = uint32_t(kPageSize - (user + at) % kPageSize);
    const uint32_t part = std::min({uint32_t(sizeof tail), actual_size - at, to_page_end});
    TRY(copy_from_user(machine, tail, user + at, part));
    for (uint32_t i = 0; i < part; ++i)
      if (tail[i] != 0)
        return refuse(Errno::TooBig, "this kernel knows {} bytes of {}, and byte {} is not 0", expected_size,
                      what, at + i);
    at += part;
  }
  return {};
}

Result<void> bpf_copy_to_user(Machine& machine, uint64_t user, const std::string& name, uint32_t room) {
  const uint32_t length = std::min<uint32_t>(uint32_t(name.size()), room - 1);
  TRY(copy_to_user(machine, user, name.substr(0, length).c_str(), length + 1));
  if (length < name.size())
    return refuse(Errno::NoSpc, "the name needs {} bytes, not {}", name.size() + 1, room);
  return {};
}

}  // namespace bpfsim
