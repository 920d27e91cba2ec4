// Models: kernel/rcu/tree.c (Linux 6.18)
//
// The queue of frees that wait for a grace period.
#include "base/rcu.h"

#include <utility>

namespace bpfsim {

void Rcu::call_rcu(std::string what, const void* object, Callback callback) {
  waiting_.push_back({std::move(what), object, std::move(callback)});
}

int Rcu::grace_period() {
  if (held_ || readers_ > 0 || running_) return 0;
  running_ = true;
  int ran = 0;
  while (!waiting_.empty()) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    next.callback();
    ++ran;
  }
  running_ = false;
  return ran;
}

}  // namespace bpfsim
