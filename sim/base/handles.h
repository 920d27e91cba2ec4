// No kernel counterpart: the kernel hands programs the addresses of its own structs; we hand out numbered
// slots.
//
// A map or socket that a register can hold is one slot of a handle page. The register holds
// the slot's simulated address, which looks like any kernel pointer; a helper turns it into the object by a
// checked index, so a wild value can never become a wild pointer of the process. Slots have their own range
// of addresses outside the arena: a load through one is a fault, as it would be for a program that the
// verifier refused.
#pragma once

#include <cstdint>
#include <vector>

#include "base/arena.h"

namespace bpfsim {

inline constexpr Addr kHandleBase = 0xffff888f00000000;
inline constexpr uint64_t kHandleStride = 1024;

enum class HandleKind : uint8_t { Free, Map, Socket };

class Handles {
 public:
  Addr publish(HandleKind kind, void* object) {
    uint32_t slot;
    if (free_.empty()) {
      slot = uint32_t(slots_.size());
      slots_.push_back({kind, object});
    } else {
      slot = free_.back();
      free_.pop_back();
      slots_[slot] = {kind, object};
    }
    return kHandleBase + slot * kHandleStride;
  }

  void withdraw(Addr addr) {
    uint64_t slot = (addr - kHandleBase) / kHandleStride;
    if (slot >= slots_.size()) return;
    slots_[slot] = {HandleKind::Free, nullptr};
    free_.push_back(uint32_t(slot));
  }

  // The object of that kind behind the address, or null.
  void* resolve(HandleKind kind, Addr addr) const {
    uint64_t offset = addr - kHandleBase;
    uint64_t slot = offset / kHandleStride;
    if (offset % kHandleStride != 0 || slot >= slots_.size() || slots_[slot].kind != kind) return nullptr;
    return slots_[slot].object;
  }

 private:
  struct Slot {
    HandleKind kind;
    void* object;
  };
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace bpfsim
