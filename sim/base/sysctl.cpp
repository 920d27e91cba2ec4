// Models: kernel/sysctl.c, net/core/sysctl_net_core.c (Linux 6.18)
//
// One row per knob: its name, where its value lives, and the range that the kernel accepts.
#include "base/sysctl.h"

#include <algorithm>
#include <limits>

#include "uapi/gates.h"
#include "uapi/suggest.h"

namespace bpfsim {

static Refusal unknown_name(Fact fact, const std::string& name, const std::vector<std::string>& known) {
  const std::string near = nearest_name(name, known);
  return refuse(Errno::NoEnt, fact, name, near.empty() ? "" : "; did you mean " + near + "?");
}

// What every machine has: nothing asks whether these are on.
constexpr std::string_view kAlwaysOn[] = {"CONFIG_BPF",        "CONFIG_BPF_SYSCALL", "CONFIG_CGROUP_BPF",
                                          "CONFIG_BPF_EVENTS", "CONFIG_BPF_LSM",     "CONFIG_NET",
                                          "CONFIG_XDP_SOCKETS"};

Config::Config()
    : options_{{"CONFIG_BPF", true},
               {"CONFIG_BPF_SYSCALL", true},
               {"CONFIG_BPF_JIT", true},
               {"CONFIG_BPF_JIT_ALWAYS_ON", false},
               {"CONFIG_BPF_JIT_DEFAULT_ON", true},
               {"CONFIG_BPF_UNPRIV_DEFAULT_OFF", true},
               {"CONFIG_CGROUP_BPF", true},
               {"CONFIG_BPF_EVENTS", true},
               {"CONFIG_FPROBE", false},  // as the measured kernel: kprobe_multi links need it
               {"CONFIG_NETKIT", false},
               {"CONFIG_UPROBES", true},
               {"CONFIG_BPF_LSM", true},
               {"CONFIG_DEBUG_INFO_BTF", true},
               {"CONFIG_NET", true},
               {"CONFIG_XDP_SOCKETS", true}} {}

Result<void> Config::set(const std::string& name, bool on) {
  auto option = options_.find(name.starts_with("CONFIG_") ? name : "CONFIG_" + name);
  if (option == options_.end()) {
    std::vector<std::string> known;
    for (const auto& [option_name, value] : options_) known.push_back(option_name);
    return unknown_name("no such configuration option: {}{}", name, known);
  }
  if (!on && std::ranges::find(kAlwaysOn, option->first) != std::end(kAlwaysOn))
    return refuse(Errno::Inval, "not modelled yet: a machine without {}", option->first);
  option->second = on;
  return {};
}

bool Config::on(const std::string& name) const {
  auto option = options_.find(name);
  return option != options_.end() && option->second;
}

// An option that came later is off, whatever the configuration says.
Sysctls::Sysctls(const Config& config, Version version)
    : version_(version),
      jit_(config.on("CONFIG_BPF_JIT")),
      jit_always_on_(config.on("CONFIG_BPF_JIT_ALWAYS_ON") && has(Gate::jit_always_on, version)),
      most_unprivileged_(has(Gate::unpriv_bpf_disabled_2, version) ? 2 : 1) {
  const bool default_on = config.on("CONFIG_BPF_JIT_DEFAULT_ON") && has(Gate::jit_default_on, version);
  const bool default_off =
      config.on("CONFIG_BPF_UNPRIV_DEFAULT_OFF") && has(Gate::unpriv_default_off, version);
  jit_enable = jit_ && (jit_always_on_ || default_on);
  unprivileged_bpf_disabled = default_off ? 2 : 0;
}

std::vector<Sysctls::Knob> Sysctls::knobs() {
  auto since = [&](Gate gate) {
    if (has(gate, version_)) return std::string();
    return "came with Linux " + bpfsim::since(gate) + "; this is " + version_.str();
  };
  const std::string no_jit = jit_ ? "" : "comes with CONFIG_BPF_JIT";
  const bool ranges = has(Gate::jit_knob_range, version_);
  const int64_t least = ranges ? 0 : std::numeric_limits<int32_t>::min();
  auto most = [&](int64_t known) { return ranges ? known : std::numeric_limits<int32_t>::max(); };
  return {
      {"kernel.bpf_stats_enabled", &bpf_stats_enabled, 0, 1, since(Gate::stats_enabled)},
      {"kernel.unprivileged_bpf_disabled", &unprivileged_bpf_disabled, 2 - most_unprivileged_,
       most_unprivileged_, ""},
      {"net.core.bpf_jit_enable", &jit_enable, jit_always_on_ ? 1 : least, jit_always_on_ ? 1 : most(2),
       no_jit},
      {"net.core.bpf_jit_harden", &jit_harden, least, most(2), no_jit},
      {"net.core.bpf_jit_kallsyms", &jit_kallsyms, least, most(1), no_jit},
      {"net.core.bpf_jit_limit", &jit_limit, 1, std::numeric_limits<int64_t>::max(),
       jit_ ? since(Gate::jit_limit) : no_jit},
  };
}

Result<Sysctls::Knob> Sysctls::find(const std::string& name) const {
  for (const Knob& knob : const_cast<Sysctls*>(this)->knobs()) {
    if (name != knob.name) continue;
    if (!knob.missing.empty()) return refuse(Errno::NoEnt, "{} {}", name, knob.missing);
    return knob;
  }
  return unknown_name("no such sysctl: {}{}", name, names());
}

Result<int64_t> Sysctls::read(const std::string& name) const { return *TRY(find(name)).value; }

Result<void> Sysctls::write(const std::string& name, int64_t value) {
  const Knob knob = TRY(find(name));
  if (value < knob.min || value > knob.max)
    return refuse(Errno::Inval, "the value must be {} to {}, is {}", knob.min, knob.max, value);
  if (knob.value == &unprivileged_bpf_disabled && unprivileged_bpf_disabled == 1 && value != 1)
    return refuse(Errno::Perm, "unprivileged_bpf_disabled is 1 and stays so until the next boot");
  *knob.value = value;
  return {};
}

std::vector<std::string> Sysctls::names() const {
  std::vector<std::string> names;
  for (const Knob& knob : const_cast<Sysctls*>(this)->knobs())
    if (knob.missing.empty()) names.push_back(knob.name);
  return names;
}

}  // namespace bpfsim
