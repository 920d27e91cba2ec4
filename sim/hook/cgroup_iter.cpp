// Models: kernel/bpf/cgroup_iter.c (Linux 6.18)
//
// An iterator over cgroups: from one that the link names by descriptor or id (or the root) down, before or
// after their children, up to the root, or that one alone. A program that answers 1 ends the walk. The whole
// walk must go into one read(2)'s buffer: a second read of an unfinished one is EOPNOTSUPP. Departs from the
// kernel: a removed group no longer knows what was above it.
#include <algorithm>

#include "hook/iter_seq.h"

namespace bpfsim {

namespace {

constexpr std::pair<uint32_t, const char*> kOrders[] = {
    {BPF_CGROUP_ITER_DESCENDANTS_PRE, "descendants_pre"},
    {BPF_CGROUP_ITER_DESCENDANTS_POST, "descendants_post"},
    {BPF_CGROUP_ITER_ANCESTORS_UP, "ancestors_up"},
    {BPF_CGROUP_ITER_SELF_ONLY, "self_only"},
};

std::vector<Cgroup*> children_by_age(const Cgroup& cgroup) {
  std::vector<Cgroup*> children;
  for (const auto& [name, child] : cgroup.children) children.push_back(child);
  std::sort(children.begin(), children.end(), [](Cgroup* a, Cgroup* b) { return a->serial < b->serial; });
  return children;
}

// The groups below, and this one before them or after them.
void walk_down(Cgroup& cgroup, bool pre, std::vector<Cgroup*>& walk) {
  if (pre) walk.push_back(&cgroup);
  for (Cgroup* child : children_by_age(cgroup)) walk_down(*child, pre, walk);
  if (!pre) walk.push_back(&cgroup);
}

std::vector<Cgroup*> walk_of(const IterAux& aux) {
  std::vector<Cgroup*> walk;
  if (aux.order == BPF_CGROUP_ITER_DESCENDANTS_PRE || aux.order == BPF_CGROUP_ITER_DESCENDANTS_POST)
    walk_down(*aux.start, aux.order == BPF_CGROUP_ITER_DESCENDANTS_PRE, walk);
  else if (aux.order == BPF_CGROUP_ITER_ANCESTORS_UP)
    for (Cgroup* cgroup = aux.start; cgroup; cgroup = cgroup->parent) walk.push_back(cgroup);
  else
    walk.push_back(aux.start);
  return walk;
}

Result<Cgroup*> cgroup_get_from_id(Machine& machine, uint64_t id, const Cause& cause) {
  std::vector<Cgroup*> all;
  walk_down(cgroup_root(machine), true, all);
  for (Cgroup* cgroup : all)
    if (cgroup->id == id) return cgroup_get(*cgroup, cause), cgroup;
  return refuse(Errno::NoEnt, "there is no cgroup with id {}", id);
}

Result<void> bpf_iter_attach_cgroup(Prog& prog, const IterLinkInfo& info, IterAux& aux) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_iter_attach_cgroup);
  const uint32_t order = info.words[0];
  const int fd = int(info.words[1]);
  const uint64_t id = uint64_t(info.words[3]) << 32 | info.words[2];
  if (order < BPF_CGROUP_ITER_SELF_ONLY || order > BPF_CGROUP_ITER_ANCESTORS_UP)
    return refuse(Errno::Inval, "order {} is none", order);
  if (fd && id) return refuse(Errno::Inval, "both fd {} and id {} name a cgroup", fd, id);
  const Cause cause{"where an iterator of task {} starts", machine.current->pid};
  if (fd)
    aux.start = TRY(cgroup_get_from_fd(machine, fd, cause));
  else if (id)
    aux.start = TRY(cgroup_get_from_id(machine, id, cause));
  else
    cgroup_get(*(aux.start = &cgroup_root(machine)), cause);
  aux.order = order;
  return {};
}

std::string bpf_iter_cgroup_show_fdinfo(const IterAux& aux) {
  const std::string below = aux.start->path().substr(std::string_view("/sys/fs/cgroup").size());
  std::string lines = "cgroup_path:\t" + (below.empty() ? "/" : below) + "\n";
  for (const auto& [order, name] : kOrders)
    if (order == aux.order) lines += std::string("order: ") + name + "\n";
  return lines;
}

void bpf_iter_cgroup_fill_link_info(const IterAux& aux, bpf_link_info& info) {
  info.iter.cgroup.order = aux.order;
  info.iter.cgroup.cgroup_id = aux.start->id;
}

Addr show_cgroup(Images& images, const Cgroup& cgroup) {
  Image& kn = add_image(images, cgroup.machine, "kernfs_node");
  Image& image = add_image(images, cgroup.machine, "cgroup");
  kn.set("id", uint64_t(cgroup.id));
  int32_t level = 0;
  for (const Cgroup* above = cgroup.parent; above; above = above->parent) ++level;
  image.set("level", level);
  image.set("kn", kn.addr());
  return image.addr();
}

Result<bool> cgroup_iter_seq_show(IterSeq& seq, Errno&) {
  if (seq.new_read && seq.reads > 1) {
    if (seq.done_stop) return false;
    return refuse(Errno::OpNotSupp, "the walk did not fit into the first read");
  }
  const std::vector<Cgroup*> walk = walk_of(seq.aux);
  if (seq.terminate || seq.at.number >= walk.size()) return false;
  const Cgroup& cgroup = *walk[seq.at.number++];
  if (!cgroup.online) return true;
  Images images;
  seq.terminate = bpf_iter_run_prog(seq, show_cgroup(images, cgroup)) != Errno::None;
  return true;
}

}  // namespace

const IterOps cgroup_iter = {.attach_target = bpf_iter_attach_cgroup,
                             .show_fdinfo = bpf_iter_cgroup_show_fdinfo,
                             .fill_link_info = bpf_iter_cgroup_fill_link_info,
                             .show_next = cgroup_iter_seq_show};

}  // namespace bpfsim
