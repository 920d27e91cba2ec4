// User memory that tells a wild pointer in union bpf_attr by the signal that it raises, where the host has
// signals; elsewhere (WebAssembly) by the buffers that the call was given, and then nothing else may be
// touched.
#include "guarded_memory.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#ifndef __EMSCRIPTEN__
#include <csetjmp>
#include <csignal>
#endif

#include "base/arena.h"

namespace bpfsim {

namespace {

#ifdef __EMSCRIPTEN__

constexpr bool kSignals = false;
void install_handlers() {}
bool guarded_copy(void* to, const void* from, size_t size) { return std::memcpy(to, from, size) != nullptr; }

#else

constexpr bool kSignals = true;
thread_local volatile sig_atomic_t armed = 0;
thread_local sigjmp_buf landing;
struct sigaction previous_segv, previous_bus;

void on_fault(int signal, siginfo_t* info, void* context) {
  if (armed) {
    armed = 0;
    siglongjmp(landing, 1);
  }
  // Not ours: let the one before us have it. One that came in between (faulthandler, enabled between two
  // machines) has us as the one before it: then nobody wants it, and it ends the process.
  static thread_local volatile sig_atomic_t passed_on = 0;
  if (passed_on) {
    ::signal(signal, SIG_DFL);
    raise(signal);
    return;
  }
  passed_on = 1;
  const struct sigaction& previous = signal == SIGBUS ? previous_bus : previous_segv;
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
    ::signal(signal, SIG_DFL);
    raise(signal);
  } else {
    previous.sa_handler(signal);
  }
  passed_on = 0;
}

void take_over(int signal, struct sigaction& previous) {
  struct sigaction now{};
  sigaction(signal, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) return;
  previous = now;
  struct sigaction ours{};
  ours.sa_sigaction = on_fault;
  // NODEFER: the jump out of the handler does not restore the mask, so the signal must not be blocked in it.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(signal, &ours, nullptr);
}

// Only what may fault stands between arming and disarming; nothing there has a destructor.
bool guarded_copy(void* to, const void* from, size_t size) {
  if (sigsetjmp(landing, 0) != 0) return false;
  armed = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // the copy stays between the two
  std::memcpy(to, from, size);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  armed = 0;
  return true;
}

void install_handlers() {
  static std::mutex installing;
  std::lock_guard lock(installing);
  take_over(SIGSEGV, previous_segv);
  take_over(SIGBUS, previous_bus);
}

#endif

}  // namespace

GuardedUserMemory::GuardedUserMemory() { install_handlers(); }

bool GuardedUserMemory::inside(const char* does, uint64_t user, size_t size) {
  for (const Extent& extent : extents) {
    const uint64_t skip = user - extent.start;
    if (skip >= extent.size || size <= extent.size - skip) continue;
    overrun = std::string("the call ") + does + " " + std::to_string(skip + size) + " bytes of a buffer of " +
              std::to_string(extent.size);
    return false;
  }
  return kSignals || std::ranges::any_of(extents, [&](const Extent& e) { return user - e.start < e.size; });
}

bool GuardedUserMemory::read(void* to, uint64_t user, size_t size) {
  return size == 0 || (inside("reads", user, size) &&
                       guarded_copy(to, reinterpret_cast<const void*>(uintptr_t(user)), size));
}

// Page by page: what lies before a page that is not there has been written, as in the kernel.
bool GuardedUserMemory::write(uint64_t user, const void* from, size_t size) {
  if (size != 0 && !inside("writes", user, size)) return false;
  const auto* bytes = static_cast<const uint8_t*>(from);
  for (size_t part; size > 0; user += part, bytes += part, size -= part) {
    part = std::min<size_t>(size, kPageSize - user % kPageSize);
    if (!guarded_copy(reinterpret_cast<void*>(uintptr_t(user)), bytes, part)) return false;
  }
  return true;
}

}  // namespace bpfsim
