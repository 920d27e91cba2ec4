// Which kernel has which map type and which flag.
#include "sim.h"
#include "uapi/tables.h"

using namespace bpfsim;

namespace {

// The version before a minor one; none before 4.14, with which machines begin.
std::vector<Version> around(Version since) {
  std::vector<Version> versions;
  for (const Version version : {Version{4, 14}, Version{4, 19}, Version{5, 4}, Version{5, 10}, Version{5, 15},
                                Version{6, 1}, Version{6, 6}, Version{6, 12}, since})
    if (version >= kFirst) versions.push_back(version);
  return versions;
}

std::string refusal(Version version, bpf_map_type type, uint32_t flags) {
  MachineOptions options;
  options.version = version;
  Sim s(options);
  s.map_create(type, 4, 4, 1, flags);
  return s.k.last_refusal().reason();
}

bool says(const std::string& reason, const char* words) { return reason.find(words) != reason.npos; }

}  // namespace

TEST_CASE("a map type is refused before the version that brought it") {
  for (const MapTypeRow& row : map_types()) {
    if (row.number == BPF_MAP_TYPE_UNSPEC) continue;
    for (const Version version : around(row.since)) {
      INFO(row.name << " on " << version.str());
      CHECK(says(refusal(version, row.number, 0), "came with Linux") == (version < row.since));
    }
  }
}

TEST_CASE("a flag is refused before the version that brought it") {
  for (const FlagRow& row : map_flags()) {
    if (row.number == BPF_F_TOKEN_FD) continue;  // wants a token first
    for (const Version version : around(row.since)) {
      INFO(row.name << " on " << version.str());
      CHECK(says(refusal(version, BPF_MAP_TYPE_ARRAY, row.number), "which came with Linux") ==
            (version < row.since));
    }
  }
}
