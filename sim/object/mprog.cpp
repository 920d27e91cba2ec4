// Models: kernel/bpf/mprog.c (Linux 6.18)
//
// Each rule of a request is turned into a position by itself: REPLACE into that of the program it names,
// BEFORE into the one left of its neighbour, AFTER into the one right of it. Positions run from -1 to the
// number of items; two rules with two answers are ERANGE.
#include "object/mprog.h"

#include <optional>

#include "object/file.h"

namespace bpfsim {

namespace {

using Items = std::vector<bpf_mprog_entry::Item>;

// Whom BEFORE and AFTER relate to: a link, a program, or nobody, which means the ends. Holds it meanwhile.
class Relative {
 public:
  Relative() = default;
  Relative(const Relative&) = delete;
  ~Relative() {
    if (link) bpf_link_put(*link, {"found its place"});
    if (!link && prog) bpf_prog_put(*prog, {"found its place"});
  }

  Result<void> find(Machine& machine, const MprogPlace& place, bpf_prog_type type) {
    const Cause cause{"neighbour in the order of programs"};
    const int fd = int(place.id_or_fd);
    if (place.flags & BPF_F_LINK) {
      if (!(place.flags & BPF_F_ID) && !fd) return refuse(Errno::Inval, "BPF_F_LINK without a link");
      link = TRY(place.flags & BPF_F_ID ? bpf_link_by_id(machine, place.id_or_fd, cause)
                                        : bpf_link_get_from_fd(machine, fd, cause));
      prog = link->prog;
      // A link of struct_ops: the kernel does not ask, and would read through a null pointer.
      if (!prog) return refuse(Errno::Inval, "link {} has no program", link->id);
    } else if (place.flags & BPF_F_ID || fd) {
      prog = TRY(place.flags & BPF_F_ID ? bpf_prog_by_id(machine, place.id_or_fd, cause)
                                        : bpf_prog_get(machine, fd, cause));
    }
    if (prog && type && prog->type != type)
      return refuse(Errno::Inval, "the neighbour is a program of type {}", prog->type);
    return {};
  }

  Prog* prog = nullptr;
  Link* link = nullptr;
};

int total(const Items& items) { return int(items.size()); }

// Where the program stands with exactly this link (or none).
Result<int> pos_exact(const Items& items, const Prog* prog, const Link* link) {
  for (int i = 0; prog && i < total(items); ++i) {
    if (items[size_t(i)].prog != prog) continue;
    if (items[size_t(i)].link == link) return i;
    return refuse(Errno::Busy, "program {} is there in another way", prog->id);
  }
  return refuse(Errno::NoEnt, "the program is not attached here");
}

Result<int> pos_of(const Items& items, const Relative& relative, int at_end, int step) {
  if (!relative.prog) return at_end;
  for (int i = 0; i < total(items); ++i)
    if (items[size_t(i)].prog == relative.prog && (!relative.link || items[size_t(i)].link == relative.link))
      return i + step;
  return refuse(Errno::NoEnt, "program {} is not attached here", relative.prog->id);
}

// One rule's answer joins those before it.
Result<void> agree(std::optional<int>& position, Result<int> answer) {
  const int found = TRY(answer);
  if (position && *position != found)
    return refuse(Errno::Range, "one rule says place {}, another {}", *position, found);
  position = found;
  return {};
}

// The place that all rules agree on. `exact`: what REPLACE or a detach by program says.
Result<int> agreed_place(const Items& items, std::optional<int> exact, const Relative& relative,
                         uint32_t& flags) {
  std::optional<int> position = exact;
  if (flags & BPF_F_BEFORE) TRY(agree(position, pos_of(items, relative, -1, -1)));
  if (flags & BPF_F_AFTER) TRY(agree(position, pos_of(items, relative, total(items), +1)));
  if (!position) {
    if (relative.prog || flags)
      return refuse(Errno::Inval, "a neighbour or flags, but neither before nor after");
    position = total(items);
    flags = BPF_F_AFTER;
  }
  if (*position >= BPF_MPROG_MAX) return refuse(Errno::Range, "at most {} programs", BPF_MPROG_MAX);
  return *position;
}

Result<void> check_revision(const bpf_mprog_entry& entry, uint64_t revision) {
  if (revision && revision != entry.revision)
    return refuse(Errno::Stale, "revision {} was asked for, it is {}", revision, entry.revision);
  return {};
}

}  // namespace

void bpf_mprog_entry::each_held(const HoldVisitor& visit, const std::string& where) const {
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string via = where + "[" + std::to_string(i) + "]";
    if (items[i].link)
      visit({items[i].link, Counter::Refs, false, via});
    else
      visit({items[i].prog, Counter::Refs, true, via});
  }
}

Result<void> bpf_mprog_attach(Machine& machine, bpf_mprog_entry& entry, Prog& prog, Link* link, Prog* old,
                              const MprogPlace& place) {
  KFN(machine, bpf_mprog_attach);
  Items& items = entry.items;
  uint32_t flags = place.flags;
  TRY(check_revision(entry, place.revision));
  for (const auto& item : items)
    if (item.prog == &prog) return refuse(Errno::Exist, "program {} is attached here already", prog.id);
  Relative relative;
  TRY(relative.find(machine, place, prog.type));
  std::optional<int> exact;
  if (flags & BPF_F_REPLACE)
    exact = TRY(pos_exact(items, old, link));
  else if (total(items) == BPF_MPROG_MAX)
    return refuse(Errno::Range, "at most {} programs", BPF_MPROG_MAX);
  const int place_found = TRY(agreed_place(items, exact, relative, flags));
  if (flags & BPF_F_REPLACE) {
    auto& item = items[size_t(place_found)];
    Prog* replaced = std::exchange(item.prog, &prog);
    if (!link) bpf_prog_put(*replaced, {"replaced by program {}", prog.id});
  } else {
    const bool before = place_found != total(items) && flags & BPF_F_BEFORE;
    items.insert(items.begin() + place_found + before, {&prog, link});
  }
  ++entry.revision;
  return {};
}

Result<void> bpf_mprog_detach(Machine& machine, bpf_mprog_entry& entry, Prog* prog, Link* link,
                              const MprogPlace& place) {
  KFN(machine, bpf_mprog_detach);
  Items& items = entry.items;
  uint32_t flags = place.flags;
  if (flags & BPF_F_REPLACE) return refuse(Errno::Inval, "a detach replaces nothing");
  TRY(check_revision(entry, place.revision));
  if (items.empty()) return refuse(Errno::NoEnt, "nothing is attached here");
  Relative relative;
  TRY(relative.find(machine, place, prog ? prog->type : BPF_PROG_TYPE_UNSPEC));
  std::optional<int> exact;
  if (prog) exact = TRY(pos_exact(items, prog, link));
  int at = TRY(agreed_place(items, exact, relative, flags));
  if (at == -1) at = 0;
  if (at == total(items)) --at;
  const bpf_mprog_entry::Item gone = items[size_t(at)];
  if (gone.link && !link) return refuse(Errno::Busy, "link {} holds the program there", gone.link->id);
  items.erase(items.begin() + at);
  ++entry.revision;
  if (!gone.link) bpf_prog_put(*gone.prog, {"detached by task {}", machine.current->pid});
  return {};
}

Result<void> bpf_mprog_query(Machine& machine, const bpf_attr& attr, uint64_t uattr,
                             const bpf_mprog_entry& entry) {
  KFN(machine, bpf_mprog_query);
  const auto& query = attr.query;
  const uint32_t none = 0, there = uint32_t(entry.items.size());
  if (query.query_flags || query.attach_flags) return refuse(Errno::Inval, "flags have no meaning here");
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.attach_flags), &none, sizeof none));
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.revision), &entry.revision, sizeof(uint64_t)));
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.count), &there, sizeof there));
  if (!query.count || !query.prog_ids) return {};
  for (uint32_t i = 0; i < std::min(query.count, there); ++i) {
    const auto& item = entry.items[i];
    const uint32_t link_id = item.link ? item.link->id : 0;
    TRY(copy_to_user(machine, query.prog_ids + i * 4, &item.prog->id, 4));
    if (query.prog_attach_flags) TRY(copy_to_user(machine, query.prog_attach_flags + i * 4, &none, 4));
    if (query.link_ids) TRY(copy_to_user(machine, query.link_ids + i * 4, &link_id, 4));
    if (query.link_attach_flags) TRY(copy_to_user(machine, query.link_attach_flags + i * 4, &none, 4));
  }
  if (query.count < there) return refuse(Errno::NoSpc, "{} programs, room for {}", there, query.count);
  return {};
}

}  // namespace bpfsim
