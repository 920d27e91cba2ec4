// A kernel that says yes: hands out fds and remembers what is open. For what the loader asks, not for what is
// true.
#pragma once

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "loader/bpf_object.h"

namespace bpfsim {

struct FakeKernel {
  int next_fd = 3;
  std::set<int> open_fds;
  int refuse_cmd = -1;  // this command gets refuse_err
  int refuse_err = 0;
  std::string log = "the verifier's words\n";
  struct Call {
    int cmd;
    bpf_attr attr;
  };
  std::vector<Call> calls;

  SysBpf sys_bpf() {
    return [this](int cmd, bpf_attr* attr, unsigned) -> long {
      calls.push_back({cmd, *attr});
      if (cmd == BPF_PROG_LOAD && attr->log_level && attr->log_size > log.size())
        std::memcpy(reinterpret_cast<char*>(attr->log_buf), log.c_str(), log.size() + 1);
      if (cmd == refuse_cmd) return -refuse_err;
      if (cmd == BPF_OBJ_GET) return -2;
      if (cmd == BPF_BTF_LOAD || cmd == BPF_MAP_CREATE || cmd == BPF_PROG_LOAD) {
        open_fds.insert(next_fd);
        return next_fd++;
      }
      return 0;
    };
  }
  std::function<void(int)> close_fd() {
    return [this](int fd) { open_fds.erase(fd); };
  }
  std::vector<Call> of(int cmd) const {
    std::vector<Call> found;
    for (const Call& call : calls)
      if (call.cmd == cmd) found.push_back(call);
    return found;
  }
};

}  // namespace bpfsim
