// Models: kernel/bpf/cgroup.c (attach, detach, query, links) (Linux 6.18)
//
// Programs on cgroups. What the first attachment of a type says holds for those after it: alone (no flag),
// alone but a group below may have its own instead (BPF_F_ALLOW_OVERRIDE), or many that all run, here and
// below (BPF_F_ALLOW_MULTI, and every link). Each change computes anew, for the group and all below it, the
// array of programs that run there. A program that uses a CGROUP_STORAGE map gets its value there by being
// attached. LSM programs have a list for each hook that is in use, of which there are ten in all. Of the
// hooks only device access fires (cgroup_device.cpp).
#include <algorithm>

#include "hook/attach.h"
#include "hook/trampoline.h"
#include "map/local_storage.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

constexpr size_t BPF_CGROUP_MAX_PROGS = 64;

struct CgroupLink final : Link {
  CgroupLink(Cgroup& cgroup, Prog& prog, bpf_attach_type type);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    if (cgroup) visit({cgroup, Counter::Refs, true, "link->cgroup"});
  }
  Cgroup* cgroup;  // null once detached, or when the group was removed
};
CgroupLink& cgroup_link(Link& link) { return static_cast<CgroupLink&>(link); }

// The group that a syscall names by a descriptor, held until the scope ends or it is handed on.
class NamedCgroup {
 public:
  NamedCgroup(Machine& machine, Cgroup& cgroup) : cgroup_(&cgroup), held_(machine, cgroup, "bpf()") {}
  ~NamedCgroup() {
    if (cgroup_) cgroup_put(*hand_on(), {"the syscall is over"});
  }
  NamedCgroup(const NamedCgroup&) = delete;
  Cgroup& operator*() const { return *cgroup_; }
  Cgroup* hand_on() {
    held_.release();
    return std::exchange(cgroup_, nullptr);
  }

 private:
  Cgroup* cgroup_;
  Holding held_;
};

// Which list of a group an attach type means; of a hook that has none yet, the one that it would get.
Result<uint32_t> bpf_cgroup_atype_find(Machine& machine, uint32_t attach_type, uint32_t attach_btf_id) {
  if (attach_type == BPF_LSM_MAC)
    return refuse(Errno::Inval, "attach type {} is not one of cgroups", attach_type);
  if (attach_type != BPF_LSM_CGROUP) return attach_type;
  const auto& hooks = machine.cgroups->lsm_atypes;
  auto found = std::find(hooks.begin(), hooks.end(), attach_btf_id);
  if (found == hooks.end()) found = std::find(hooks.begin(), hooks.end(), 0u);
  if (found == hooks.end())
    return refuse(Errno::Inval, "cgroups have LSM programs on {} hooks already", CGROUP_LSM_NUM);
  return CGROUP_LSM_START + uint32_t(found - hooks.begin());
}

// Where a new attachment goes, and as what.
struct Attachment {
  uint32_t type, flags;
  uint32_t id_or_fd = 0;
  uint64_t revision = 0;
};

const cgroup_bpf& slot_of(const Cgroup& cgroup, uint32_t type) {
  static const cgroup_bpf nothing;
  auto found = cgroup.bpf.find(type);
  return found == cgroup.bpf.end() ? nothing : found->second;
}

// A program that stands alone above and may not be overridden keeps everything out below it.
bool hierarchy_allows_attach(const Cgroup& cgroup, uint32_t type) {
  for (const Cgroup* above = cgroup.parent; above; above = above->parent) {
    const cgroup_bpf& slot = slot_of(*above, type);
    if (slot.flags & BPF_F_ALLOW_MULTI) return true;
    if (!slot.progs.empty()) return (slot.flags & BPF_F_ALLOW_OVERRIDE) != 0;
  }
  return true;
}

// First the pre-ordered ones, from the root down, then the others, from this group up. A group that does not
// share counts only where nothing stands below it.
std::vector<Prog*> compute_effective_progs(const Cgroup& cgroup, uint32_t type) {
  std::vector<Prog*> before, after;
  for (const Cgroup* at = &cgroup; at; at = at->parent) {
    const cgroup_bpf& slot = slot_of(*at, type);
    if (before.size() + after.size() && !(slot.flags & BPF_F_ALLOW_MULTI)) continue;
    std::vector<Prog*> first;
    for (const bpf_prog_list& entry : slot.progs)
      (entry.flags & BPF_F_PREORDER ? first : after).push_back(entry.program());
    before.insert(before.begin(), first.begin(), first.end());
  }
  before.insert(before.end(), after.begin(), after.end());
  return before;
}

void update_effective_progs(Cgroup& cgroup, uint32_t type) {
  cgroup.bpf[type].effective = compute_effective_progs(cgroup, type);
  for (auto& [name, child] : cgroup.children) update_effective_progs(*child, type);
}

using Entries = std::vector<bpf_prog_list>;

// The entry that an attachment takes over, or null for a new one. A group that does not share has one at
// most, and that is it; one that shares has each program once, and gives up the one that is to be replaced.
Result<bpf_prog_list*> find_attach_entry(Entries& entries, const Prog* prog, const Prog* replaced,
                                         bool multi) {
  if (!multi) return entries.empty() ? nullptr : entries.data();
  auto entry_of = [&](const Prog* wanted) {
    auto found = std::find_if(entries.begin(), entries.end(),
                              [&](const bpf_prog_list& entry) { return wanted && entry.prog == wanted; });
    return found == entries.end() ? nullptr : &*found;
  };
  if (prog != replaced && entry_of(prog))
    return refuse(Errno::Inval, "program {} is attached here already", prog->id);
  bpf_prog_list* const found = entry_of(replaced);
  if (replaced && !found)
    return refuse(Errno::NoEnt, "the program to replace, {}, is not attached here", replaced->id);
  return found;
}

// Whether a program or link that the caller names by descriptor or id is there, and at which place.
Result<size_t> find_anchor(Machine& machine, const Entries& entries, const Attachment& how) {
  const Cause cause{"neighbour in the order of programs"};
  const bool by_id = how.flags & BPF_F_ID;
  const int fd = int(how.id_or_fd);
  const Object* anchor = nullptr;
  if (how.flags & BPF_F_LINK) {
    if (!by_id && !fd) return refuse(Errno::Inval, "BPF_F_LINK without a link");
    Link& link =
        *TRY(by_id ? bpf_link_by_id(machine, how.id_or_fd, cause) : bpf_link_get_from_fd(machine, fd, cause));
    anchor = &link;
    bpf_link_put(link, {"compared"});
  } else {
    Prog& prog =
        *TRY(by_id ? bpf_prog_by_id(machine, how.id_or_fd, cause) : bpf_prog_get(machine, fd, cause));
    anchor = &prog;
    bpf_prog_put(prog, {"compared"});
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].prog != anchor && entries[i].link != anchor) continue;
    if ((entries[i].flags ^ how.flags) & BPF_F_PREORDER)
      return refuse(Errno::Inval, "one of the neighbours is pre-ordered, the other not");
    return i;
  }
  return refuse(Errno::NoEnt, "the neighbour is not attached here");
}

// Where in the list a new entry goes.
Result<size_t> place_of(Machine& machine, const Entries& entries, bool by_link, const Attachment& how) {
  const bool before = how.flags & BPF_F_BEFORE, after = how.flags & BPF_F_AFTER;
  if (how.flags & (BPF_F_LINK | BPF_F_ID) || how.id_or_fd) {
    if (before == after) return refuse(Errno::Inval, "a neighbour, but neither before nor after it, or both");
    if (bool(how.flags & BPF_F_LINK) != by_link)
      return refuse(Errno::Inval, "links relate to links, programs to programs");
    return TRY(find_anchor(machine, entries, how)) + (before ? 0 : 1);
  }
  if (!entries.empty() && before && after) return refuse(Errno::Inval, "both before and after");
  return before ? 0 : entries.size();
}

Result<void> check_flags(const Machine& machine, uint32_t flags, bool replaces) {
  if ((flags & BPF_F_ALLOW_OVERRIDE) && (flags & BPF_F_ALLOW_MULTI))
    return refuse(Errno::Inval, "BPF_F_ALLOW_OVERRIDE and BPF_F_ALLOW_MULTI together");
  if ((flags & BPF_F_REPLACE) && !(flags & BPF_F_ALLOW_MULTI))
    return refuse(Errno::Inval, "BPF_F_REPLACE is for BPF_F_ALLOW_MULTI");
  if ((flags & BPF_F_REPLACE) && (flags & (BPF_F_BEFORE | BPF_F_AFTER)))
    return refuse(Errno::Inval, "BPF_F_REPLACE has its place already");
  if (replaces != bool(flags & BPF_F_REPLACE)) return refuse(Errno::Inval, "nothing to replace");
  const bool preorder = has(Gate::cgroup_preorder, machine.version) || !(flags & BPF_F_PREORDER);
  if (!preorder) return refuse(Errno::Inval, "BPF_F_PREORDER came later than this version");
  return {};
}

// The values that a program's cgroup storage maps will have for a group, where they have none yet. Programs
// share them, and they stay when a program is detached: until the group or the map goes. (Before 5.9 each
// attachment had its own and took it away, which is not modelled.)
class NewStorages {
 public:
  Result<void> bpf_cgroup_storages_alloc(Cgroup& cgroup, uint32_t type, const Prog& prog) {
    const auto& wanted = prog.aux->cgroup_storage;
    for (Map* map : prog.aux->used_maps) {
      if (map != wanted[0] && map != wanted[1]) continue;
      if (cgroup_storage_lookup(*map, {cgroup.id, type})) continue;
      storages_.push_back(TRY(bpf_cgroup_storage_alloc(*map)));
    }
    return {};
  }
  void bpf_cgroup_storages_link(Cgroup& cgroup, uint32_t type) {
    for (BpfCgroupStorage* storage : std::exchange(storages_, {}))
      bpf_cgroup_storage_link(*storage, cgroup, bpf_attach_type(type));
  }
  ~NewStorages() {
    for (BpfCgroupStorage* storage : storages_) bpf_cgroup_storage_free(*storage);
  }

 private:
  std::vector<BpfCgroupStorage*> storages_;
};

// Either a program by itself, whose reference moves in, or a link.
Result<void> __cgroup_bpf_attach(Cgroup& cgroup, Prog* prog, Link* link, Prog* replaced,
                                 const Attachment& how) {
  Machine& machine = cgroup.machine;
  KFN(machine, __cgroup_bpf_attach);
  const uint32_t saved_flags = how.flags & (BPF_F_ALLOW_OVERRIDE | BPF_F_ALLOW_MULTI);
  TRY(check_flags(machine, how.flags, replaced != nullptr));
  const Prog& new_prog = prog ? *prog : *link->prog;
  const uint32_t atype = TRY(bpf_cgroup_atype_find(machine, how.type, new_prog.aux->attach_btf_id));
  const cgroup_bpf& now = slot_of(cgroup, atype);
  if (how.revision && how.revision != now.revision)
    return refuse(Errno::Stale, "revision {} was asked for, it is {}", how.revision, now.revision);
  if (!hierarchy_allows_attach(cgroup, atype))
    return refuse(Errno::Perm, "a group above has a program that lets none below it");
  if (!now.progs.empty() && now.flags != saved_flags)
    return refuse(Errno::Perm, "the programs there were attached with flags {}, not {}", now.flags,
                  saved_flags);
  if (now.progs.size() >= BPF_CGROUP_MAX_PROGS)
    return refuse(Errno::TooBig, "a group has at most {} programs of one type", BPF_CGROUP_MAX_PROGS);

  cgroup_bpf& slot = cgroup.bpf[atype];
  bpf_prog_list* entry =
      TRY(find_attach_entry(slot.progs, prog, replaced, (how.flags & BPF_F_ALLOW_MULTI) != 0));
  NewStorages storages;
  TRY(storages.bpf_cgroup_storages_alloc(cgroup, how.type, new_prog));
  Prog* old = entry ? entry->prog : nullptr;
  size_t place = 0;
  if (!entry) place = TRY(place_of(machine, slot.progs, link != nullptr, how));
  if (how.type == BPF_LSM_CGROUP) TRY(bpf_trampoline_link_cgroup_shim(prog ? *prog : *link->prog, atype));
  if (entry) {
    *entry = {prog, link, how.flags};
  } else {
    slot.progs.insert(slot.progs.begin() + long(place), {prog, link, how.flags});
  }
  slot.flags = saved_flags;
  update_effective_progs(cgroup, atype);
  ++slot.revision;
  if (old && how.type == BPF_LSM_CGROUP) bpf_trampoline_unlink_cgroup_shim(*old);
  if (old) bpf_prog_put(*old, {"replaced in cgroup {}", cgroup.id});
  storages.bpf_cgroup_storages_link(cgroup, how.type);
  return {};
}

Result<size_t> find_detach_entry(const cgroup_bpf& slot, const Prog* prog, const Link* link) {
  if (!(slot.flags & BPF_F_ALLOW_MULTI)) {
    if (slot.progs.empty()) return refuse(Errno::NoEnt, "nothing is attached here");
    return 0;  // whatever program was named
  }
  if (!prog && !link) return refuse(Errno::Inval, "which of the programs must be said");
  for (size_t i = 0; i < slot.progs.size(); ++i)
    if (slot.progs[i].prog == prog && slot.progs[i].link == link) return i;
  return refuse(Errno::NoEnt, "the program is not attached here");
}

Result<void> __cgroup_bpf_detach(Cgroup& cgroup, Prog* prog, Link* link, uint32_t type, uint64_t revision) {
  KFN(cgroup.machine, __cgroup_bpf_detach);
  const Prog* named = prog ? prog : link ? link->prog : nullptr;
  const uint32_t atype =
      TRY(bpf_cgroup_atype_find(cgroup.machine, type, named ? named->aux->attach_btf_id : 0));
  const cgroup_bpf& now = slot_of(cgroup, atype);
  if (revision && revision != now.revision)
    return refuse(Errno::Stale, "revision {} was asked for, it is {}", revision, now.revision);
  const size_t place = TRY(find_detach_entry(now, prog, link));
  cgroup_bpf& slot = cgroup.bpf[atype];
  Prog* old = slot.progs[place].prog;
  slot.progs.erase(slot.progs.begin() + long(place));
  update_effective_progs(cgroup, atype);
  ++slot.revision;
  if (slot.progs.empty()) slot.flags = 0;
  if (old && type == BPF_LSM_CGROUP) bpf_trampoline_unlink_cgroup_shim(*old);
  if (old) bpf_prog_put(*old, {"detached from cgroup {}", cgroup.id});
  return {};
}

void bpf_cgroup_link_release(Link& link) {
  KFN(link.machine, bpf_cgroup_link_release);
  Cgroup* cgroup = cgroup_link(link).cgroup;
  if (!cgroup) return;  // the group was removed before
  (void)__cgroup_bpf_detach(*cgroup, nullptr, &link, link.attach_type, 0);
  if (link.attach_type == BPF_LSM_CGROUP) bpf_trampoline_unlink_cgroup_shim(*link.prog);
  cgroup_link(link).cgroup = nullptr;
  cgroup_put(*cgroup, {"link {} is detached", link.id});
}

Result<void> bpf_cgroup_link_detach(Link& link) {
  bpf_cgroup_link_release(link);
  return {};
}

bool cgroup_bpf_storages_compatible(const Prog& old_prog, const Prog& new_prog) {
  return std::equal(std::begin(old_prog.aux->cgroup_storage), std::end(old_prog.aux->cgroup_storage),
                    new_prog.aux->cgroup_storage);
}

Result<void> cgroup_bpf_replace(Link& link, Prog& new_prog, Prog* old_prog, Holding& given) {
  KFN(link.machine, cgroup_bpf_replace);
  Cgroup* cgroup = cgroup_link(link).cgroup;
  if (!cgroup) return refuse(Errno::NoLink, "the link is detached");
  if (old_prog && link.prog != old_prog)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old_prog->id);
  if (link.prog->type != new_prog.type) return refuse(Errno::Inval, "the new program is of another type");
  if (!has(Gate::cgroup_replace_any, link.machine.version) &&
      !cgroup_bpf_storages_compatible(*link.prog, new_prog))
    return refuse(Errno::Inval, "the new program has not the same cgroup storages");
  const uint32_t atype =
      TRY(bpf_cgroup_atype_find(link.machine, link.attach_type, new_prog.aux->attach_btf_id));
  const std::vector<bpf_prog_list>& there = slot_of(*cgroup, atype).progs;
  if (std::none_of(there.begin(), there.end(),
                   [&](const bpf_prog_list& entry) { return entry.link == &link; }))
    return refuse(Errno::NoEnt, "the new program is for another hook");
  given.release();
  Prog* old = std::exchange(link.prog, &new_prog);
  ++cgroup->bpf[atype].revision;
  update_effective_progs(*cgroup, atype);
  bpf_prog_put(*old, {"replaced in link {}", link.id});
  return {};
}

uint64_t cgroup_id_of(const Link& link) {
  const Cgroup* cgroup = static_cast<const CgroupLink&>(link).cgroup;
  return cgroup ? cgroup->id : 0;
}

std::string bpf_cgroup_link_show_fdinfo(const Link& link) {
  return "cgroup_id:\t" + std::to_string(cgroup_id_of(link)) + "\nattach_type:\t" +
         std::to_string(link.attach_type) + "\n";
}

Result<void> bpf_cgroup_link_fill_link_info(const Link& link, bpf_link_info& info) {
  info.cgroup.cgroup_id = cgroup_id_of(link);
  info.cgroup.attach_type = link.attach_type;
  return {};
}

const LinkOps bpf_cgroup_link_lops = {
    .name = "cgroup",
    .release = bpf_cgroup_link_release,
    .detach = bpf_cgroup_link_detach,
    .update_prog = cgroup_bpf_replace,
    .show_fdinfo = bpf_cgroup_link_show_fdinfo,
    .fill_link_info = bpf_cgroup_link_fill_link_info,
};

CgroupLink::CgroupLink(Cgroup& cgroup, Prog& prog, bpf_attach_type type)
    : Link(cgroup.machine, BPF_LINK_TYPE_CGROUP, bpf_cgroup_link_lops, &prog, type), cgroup(&cgroup) {}

// What one list answers to a query.
struct Answer {
  std::vector<Prog*> programs;
  uint32_t flags;
};

Answer answer_of(const cgroup_bpf& slot, bool effective, Version version) {
  if (effective) return {slot.effective, has(Gate::query_effective_flags, version) ? 0 : slot.flags};
  Answer answer{{}, slot.flags};
  for (const bpf_prog_list& entry : slot.progs) answer.programs.push_back(entry.program());
  return answer;
}

// As many ids as there is room for, and the flags of each.
Result<void> copy_answers(Machine& machine, const std::vector<Answer>& answers, const bpf_attr& attr) {
  uint32_t at = 0;
  for (const Answer& answer : answers) {
    for (const Prog* prog : answer.programs) {
      if (at == attr.query.prog_cnt) return {};
      TRY(copy_to_user(machine, attr.query.prog_ids + at * 4, &prog->id, 4));
      if (attr.query.prog_attach_flags)
        TRY(copy_to_user(machine, attr.query.prog_attach_flags + at * 4, &answer.flags, 4));
      ++at;
    }
  }
  return {};
}

// The answer of a query: counts first, then the programs. Of LSM programs, those of all hooks.
Result<void> __cgroup_bpf_query(const Cgroup& cgroup, const bpf_attr& attr, UserAttr uattr, uint32_t size) {
  Machine& machine = cgroup.machine;
  KFN(machine, __cgroup_bpf_query);
  const auto& query = attr.query;
  const bool effective = query.query_flags & BPF_F_QUERY_EFFECTIVE, lsm = query.attach_type == BPF_LSM_CGROUP;
  if (effective && query.prog_attach_flags && has(Gate::query_effective_flags, machine.version))
    return refuse(Errno::Inval, "inherited programs have no attach flags");
  if (lsm && !effective && query.prog_cnt && query.prog_ids && !query.prog_attach_flags)
    return refuse(Errno::Inval, "a query of LSM programs asks for their flags");
  std::vector<Answer> answers;
  const uint32_t first = lsm ? CGROUP_LSM_START : query.attach_type;
  for (uint32_t atype = first; atype < first + (lsm ? CGROUP_LSM_NUM : 1); ++atype)
    answers.push_back(answer_of(slot_of(cgroup, atype), effective, machine.version));
  uint32_t count = 0;
  for (const Answer& answer : answers) count += uint32_t(answer.programs.size());
  const uint32_t flags = lsm ? 0 : answers[0].flags;
  const uint64_t revision = effective || lsm ? 0 : slot_of(cgroup, first).revision;
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.attach_flags), &flags, sizeof flags));
  TRY(copy_to_user(machine, uattr + offsetof(bpf_attr, query.prog_cnt), &count, sizeof count));
  const size_t revision_at = offsetof(bpf_attr, query.revision);
  if (has(Gate::cgroup_mprog, machine.version) && size >= revision_at + sizeof revision)
    TRY(copy_to_user(machine, uattr + revision_at, &revision, sizeof revision));
  if (!query.prog_cnt || !query.prog_ids || !count) return {};
  TRY(copy_answers(machine, answers, attr));
  if (query.prog_cnt < count) return refuse(Errno::NoSpc, "{} programs, room for {}", count, query.prog_cnt);
  return {};
}

}  // namespace

bool is_cgroup_prog_type(bpf_prog_type type) {
  switch (type) {
    case BPF_PROG_TYPE_CGROUP_DEVICE:
    case BPF_PROG_TYPE_CGROUP_SKB:
    case BPF_PROG_TYPE_CGROUP_SOCK:
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
    case BPF_PROG_TYPE_CGROUP_SOCKOPT:
    case BPF_PROG_TYPE_CGROUP_SYSCTL:
    case BPF_PROG_TYPE_SOCK_OPS:
    case BPF_PROG_TYPE_LSM: return true;
    default: return false;
  }
}

Result<void> cgroup_bpf_prog_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, cgroup_bpf_prog_attach);
  NamedCgroup cgroup(machine,
                     *TRY(cgroup_get_from_fd(machine, int(attr.target_fd), {"bpf(BPF_PROG_ATTACH)"})));
  Prog* replaced = nullptr;
  if ((attr.attach_flags & BPF_F_ALLOW_MULTI) && (attr.attach_flags & BPF_F_REPLACE))
    replaced = TRY(bpf_prog_get_type(machine, int(attr.replace_bpf_fd), prog.type, {"to be replaced"}));
  const Attachment how{attr.attach_type, attr.attach_flags, attr.relative_fd, attr.expected_revision};
  Result<void> done = __cgroup_bpf_attach(*cgroup, &prog, nullptr, replaced, how);
  if (replaced) bpf_prog_put(*replaced, {"replaced or not"});
  return done;
}

Result<void> cgroup_bpf_prog_detach(Machine& machine, const bpf_attr& attr, bpf_prog_type type) {
  KFN(machine, cgroup_bpf_prog_detach);
  NamedCgroup cgroup(machine,
                     *TRY(cgroup_get_from_fd(machine, int(attr.target_fd), {"bpf(BPF_PROG_DETACH)"})));
  Result<Prog*> prog = bpf_prog_get_type(machine, int(attr.attach_bpf_fd), type, {"to be detached"});
  Prog* named = prog ? *prog : nullptr;
  Result<void> done = __cgroup_bpf_detach(*cgroup, named, nullptr, attr.attach_type, attr.expected_revision);
  if (named) bpf_prog_put(*named, {"bpf(BPF_PROG_DETACH) is over"});
  return done;
}

Result<void> cgroup_bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr, uint32_t size) {
  KFN(machine, cgroup_bpf_prog_query);
  NamedCgroup cgroup(machine,
                     *TRY(cgroup_get_from_fd(machine, int(attr.query.target_fd), {"bpf(BPF_PROG_QUERY)"})));
  return __cgroup_bpf_query(*cgroup, attr, uattr, size);
}

Result<Link*> cgroup_bpf_link_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, cgroup_bpf_link_attach);
  const auto& create = attr.link_create;
  uint32_t known = 0;
  if (has(Gate::cgroup_preorder, machine.version)) known |= BPF_F_PREORDER;
  if (has(Gate::cgroup_mprog, machine.version)) known |= BPF_F_ID | BPF_F_BEFORE | BPF_F_AFTER | BPF_F_LINK;
  if (create.flags & ~known) return refuse(Errno::Inval, "flags {}: known are {}", create.flags, known);
  NamedCgroup cgroup(machine, *TRY(cgroup_get_from_fd(machine, int(create.target_fd), {"held by a link"})));
  auto link = std::make_unique<CgroupLink>(*cgroup, prog, bpf_attach_type(create.attach_type));
  const Attachment how{create.attach_type, create.flags | BPF_F_ALLOW_MULTI, create.cgroup.relative_fd,
                       create.cgroup.expected_revision};
  TRY(__cgroup_bpf_attach(*cgroup, nullptr, link.get(), nullptr, how));
  cgroup.hand_on();
  return link.release();
}

void cgroup_bpf_inherit(Cgroup& cgroup) {
  KFN(cgroup.machine, cgroup_bpf_inherit);
  for (const auto& [type, slot] : cgroup.parent->bpf)
    if (!slot.effective.empty()) cgroup.bpf[type].effective = compute_effective_progs(cgroup, type);
}

void cgroup_bpf_offline(Cgroup& cgroup) {
  KFN(cgroup.machine, cgroup_bpf_release);
  while (!cgroup.storages.empty()) bpf_cgroup_storage_free(*cgroup.storages.back());
  for (auto& [type, slot] : std::exchange(cgroup.bpf, {})) {
    for (bpf_prog_list& entry : slot.progs) {
      if (type >= CGROUP_LSM_START) bpf_trampoline_unlink_cgroup_shim(*entry.program());
      if (entry.prog) bpf_prog_put(*entry.prog, {"cgroup {} is removed", cgroup.id});
      if (!entry.link) continue;
      cgroup_link(*entry.link).cgroup = nullptr;
      cgroup_put(cgroup, {"link {} loses its removed cgroup", entry.link->id});
    }
  }
}

static void offline_with_children(Cgroup& cgroup) {
  for (auto& [name, child] : cgroup.children) offline_with_children(*child);
  cgroup_bpf_offline(cgroup);
}

void cgroup_exit_all(Machine& machine) {
  if (!machine.cgroups) return;
  offline_with_children(*machine.cgroups->root);
  machine.cgroups.reset();
}

}  // namespace bpfsim
