// No kernel counterpart: a kernel does not cite its sources; a model of it must.
//
// What a row of a table rests on, so that a reader knows how far to trust it. Only `measured` and `source`
// count as fidelity.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bpfsim {

enum class Evidence : uint8_t {
  Measured,    // seen on a live 6.18
  Source,      // read in kernel trees before and after, and dated to this version by a list or the header's
               // history
  List,        // a published list or the header's history alone
  Unverified,  // from memory; the trees bracket it at best
};

constexpr const char* evidence_name(Evidence evidence) {
  constexpr const char* kNames[] = {"measured", "source", "list", "unverified"};
  return kNames[size_t(evidence)];
}

}  // namespace bpfsim
