// Models: include/linux/bpf_mprog.h, kernel/bpf/mprog.c (Linux 6.18)
//
// Many programs at one attach point, in an order that the users set: each new one says before or after whom
// it goes, and every rule that it names must lead to the same place. A revision counts the changes, so that
// who plans a place by what a query told is refused when somebody was faster. Departs from the kernel: one
// list that changes, where the kernel switches between two so that a running packet sees one or the other.
#pragma once

#include <vector>

#include "object/link.h"
#include "object/prog.h"

namespace bpfsim {

struct bpf_mprog_entry {
  struct Item {
    Prog* prog;
    Link* link;  // null: the program was attached by BPF_PROG_ATTACH, and the entry holds it
  };
  std::vector<Item> items;
  uint64_t revision = 1;

  void each_held(const HoldVisitor& visit, const std::string& where) const;
};

inline constexpr int BPF_MPROG_MAX = 63;  // one of 64 places stays empty, as the end

// What a caller wants: flags BPF_F_BEFORE, AFTER, REPLACE, ID and LINK, whom they relate to, and the revision
// that must still hold (0: any).
struct MprogPlace {
  uint32_t flags = 0, id_or_fd = 0;
  uint64_t revision = 0;
};

// Attaches a program, by itself (then the caller's reference moves in) or by a link; with BPF_F_REPLACE in
// place of `old`.
Result<void> bpf_mprog_attach(Machine& machine, bpf_mprog_entry& entry, Prog& prog, Link* link, Prog* old,
                              const MprogPlace& place);
// Takes away a program or the link's, or with neither what the place names.
Result<void> bpf_mprog_detach(Machine& machine, bpf_mprog_entry& entry, Prog* prog, Link* link,
                              const MprogPlace& place);
// BPF_PROG_QUERY: what is attached, in order.
Result<void> bpf_mprog_query(Machine& machine, const bpf_attr& attr, uint64_t uattr,
                             const bpf_mprog_entry& entry);

}  // namespace bpfsim
