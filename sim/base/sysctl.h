// Models: kernel/sysctl.c, net/core/sysctl_net_core.c (Linux 6.18)
//
// The knobs under /proc/sys that BPF has, and the kernel configuration that decides their first values and
// what may be written. The kernel refuses to switch the JIT off where CONFIG_BPF_JIT_ALWAYS_ON is set, and to
// allow unprivileged BPF again once kernel.unprivileged_bpf_disabled is 1.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "uapi/result.h"
#include "uapi/version.h"

namespace bpfsim {

// CONFIG_* options by name, as /proc/config.gz would list them. What a machine can do without may be switched
// off; the others are there to be read.
class Config {
 public:
  Config();
  Result<void> set(const std::string& name, bool on);
  bool on(const std::string& name) const;
  const std::map<std::string, bool>& all() const { return options_; }

 private:
  std::map<std::string, bool> options_;
};

class Sysctls {
 public:
  Sysctls(const Config& config, Version version);

  Result<int64_t> read(const std::string& name) const;
  Result<void> write(const std::string& name, int64_t value);
  std::vector<std::string> names() const;

  // The ones that hot paths ask for.
  int64_t jit_enable = 1, jit_harden = 0, jit_kallsyms = 1, jit_limit = 264241152;
  int64_t unprivileged_bpf_disabled = 2, bpf_stats_enabled = 0;
  // static_key: the sysctl is one reason to count runs, each open file of BPF_ENABLE_STATS another.
  int64_t bpf_stats_files = 0;
  bool bpf_stats_enabled_key() const { return bpf_stats_enabled || bpf_stats_files; }

 private:
  struct Knob {
    const char* name;
    int64_t* value;
    int64_t min, max;
    std::string missing;  // why this machine does not have it
  };
  std::vector<Knob> knobs();
  Result<Knob> find(const std::string& name) const;
  const Version version_;
  const bool jit_;
  const bool jit_always_on_;
  const int64_t most_unprivileged_;
};

}  // namespace bpfsim
