// Models: kernel/bpf/bpf_iter.c, map_iter.c, prog_iter.c, link_iter.c (Linux 6.18)
//
// See bpf_iter.h. The table of targets, their links, and reading; and the three targets that are all objects
// of a kind, found by id, one after the other, so that what is born or dies between two reads is seen or
// missed as in the kernel. Which version has which target: uapi/iter_targets.def, asked when a program is
// loaded.
#include "hook/bpf_iter.h"

#include <algorithm>
#include <cstring>

#include "btf/vmlinux.h"
#include "hook/iter_seq.h"
#include "object/file.h"
#include "object/registry.h"
#include "run/select_runtime.h"
#include "uapi/gates.h"

namespace bpfsim {

namespace {

constexpr uint32_t kOrNull = uint32_t(PTR_TO_BTF_ID) | PTR_MAYBE_NULL, kTrustedOrNull = kOrNull | PTR_TRUSTED;
constexpr uint32_t kBufOrNull = uint32_t(PTR_TO_BUF) | PTR_MAYBE_NULL;

// What each argument is was read from 6.18's verifier log.
constexpr IterTarget kTargets[] = {
    {"task", {{8, kTrustedOrNull, "task_struct"}, {}}, true, task_iter},
    {"task_file", {{8, kOrNull, "task_struct"}, {24, kOrNull, "file"}}, true, task_file_iter},
    {"task_vma", {{8, kOrNull, "task_struct"}, {16, kOrNull, "vm_area_struct"}}, true, task_vma_iter},
    {"bpf_map", {{8, kTrustedOrNull, "bpf_map"}, {}}, false, bpf_map_iter},
    {"bpf_map_elem",
     {{16, kBufOrNull | MEM_RDONLY, nullptr}, {24, kBufOrNull, nullptr}},
     false,
     bpf_map_elem_iter},
    {"bpf_prog", {{8, kOrNull, "bpf_prog"}, {}}, false, bpf_prog_iter},
    {"bpf_link", {{8, kOrNull, "bpf_link"}, {}}, false, bpf_link_iter},
    {"sockmap", {{16, kBufOrNull | MEM_RDONLY, nullptr}, {24, kOrNull, "sock"}}, false, sockmap_iter},
    {"bpf_sk_storage_map", {{16, kOrNull, "sock"}, {24, kBufOrNull, nullptr}}, false, sk_storage_map_iter},
    {"tcp", {{8, kTrustedOrNull, "sock_common"}, {}}, false, tcp_iter},
    {"udp", {{8, kTrustedOrNull, "udp_sock"}, {}}, false, udp_iter},
    {"unix", {{8, kOrNull, "unix_sock"}, {}}, false, unix_iter},
    {"netlink", {{8, kOrNull, "netlink_sock"}, {}}, false, netlink_iter},
    {"cgroup", {{8, kTrustedOrNull, "cgroup"}, {}}, true, cgroup_iter},
    {"ksym", {{8, kOrNull, "kallsym_iter"}, {}}, true, ksym_iter},
    {"ipv6_route", {{8, kOrNull, "fib6_info"}, {}}, false, ipv6_route_iter},
    {"kmem_cache", {{8, kTrustedOrNull, "kmem_cache"}, {}}, true, kmem_cache_iter},
    {"dmabuf", {{8, kOrNull, "dma_buf"}, {}}, true, dmabuf_iter},
};

void each_held_of(const IterAux& aux, const HoldVisitor& visit, const std::string& via) {
  if (aux.start) visit({aux.start, Counter::Refs, true, via + "start"});
  if (!aux.map) return;
  visit({aux.map, Counter::Refs, true, via + "map"});
  visit({aux.map, Counter::UserRefs, true, via + "map"});
}

void get_aux(const IterAux& aux, const Cause& cause) {
  if (aux.map) bpf_map_inc_with_uref(*aux.map, cause);
  if (aux.start) cgroup_get(*aux.start, cause);
}

void put_aux(IterAux& aux, const Cause& cause) {
  if (Map* map = std::exchange(aux.map, nullptr)) bpf_map_put_with_uref(*map, cause);
  if (Cgroup* start = std::exchange(aux.start, nullptr)) cgroup_put(*start, cause);
}

struct IterLink final : Link {
  IterLink(Prog& prog, const IterTarget& target, const IterAux& aux);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    each_held_of(aux, visit, "iter_link->aux.");
  }
  const IterTarget& target;
  IterAux aux;
};

IterLink& iter_link(Link& link) { return static_cast<IterLink&>(link); }
const IterLink& iter_link(const Link& link) { return static_cast<const IterLink&>(link); }

void bpf_iter_link_release(Link& link) {
  KFN(link.machine, bpf_iter_link_release);
  put_aux(iter_link(link).aux, {"its iterator's link is gone"});
}

// Takes over the caller's reference of new_prog on success.
Result<void> bpf_iter_link_replace(Link& link, Prog& new_prog, Prog* old_prog, Holding& given) {
  KFN(link.machine, bpf_iter_link_replace);
  if (old_prog && link.prog != old_prog)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old_prog->id);
  const Prog& old = *link.prog;
  if (old.type != new_prog.type || old.expected_attach_type != new_prog.expected_attach_type ||
      old.aux->attach_btf_id != new_prog.aux->attach_btf_id)
    return refuse(Errno::Inval, "the new program is of another type or target");
  given.release();
  bpf_prog_put(*std::exchange(link.prog, &new_prog), {"replaced in link {}", link.id});
  return {};
}

std::string bpf_iter_link_show_fdinfo(const Link& link) {
  const IterLink& iter = iter_link(link);
  const std::string name = std::string("target_name:\t") + iter.target.name + "\n";
  return iter.target.ops.show_fdinfo ? name + iter.target.ops.show_fdinfo(iter.aux) : name;
}

Result<void> bpf_iter_link_fill_link_info(const Link& link, bpf_link_info& info) {
  TRY(fill_name(link.machine, iter_link(link).target.name, info.iter.target_name, info.iter.target_name_len));
  if (const auto fill = iter_link(link).target.ops.fill_link_info) fill(iter_link(link).aux, info);
  return {};
}

const LinkOps bpf_iter_link_lops = {.name = "iter",
                                    .release = bpf_iter_link_release,
                                    .detach = nullptr,
                                    .update_prog = bpf_iter_link_replace,
                                    .show_fdinfo = bpf_iter_link_show_fdinfo,
                                    .fill_link_info = bpf_iter_link_fill_link_info};

IterLink::IterLink(Prog& prog, const IterTarget& target, const IterAux& aux)
    : Link(prog.machine, BPF_LINK_TYPE_ITER, bpf_iter_link_lops, &prog, BPF_TRACE_ITER),
      target(target),
      aux(aux) {}

Result<IterLinkInfo> read_link_info(Machine& machine, const bpf_attr& attr) {
  const uint64_t from = attr.link_create.iter_info;
  const uint32_t length = attr.link_create.iter_info_len;
  IterLinkInfo info;
  if (!from != !length) return refuse(Errno::Inval, "iter_info and iter_info_len belong together");
  if (!from) return info;
  const uint32_t known = has(Gate::iter_info_long, machine.version) ? sizeof info : sizeof(uint32_t);
  TRY(bpf_check_uarg_tail_zero(machine, from, known, length, "iter_info"));
  TRY(copy_from_user(machine, &info, from, std::min(length, known)));
  return info;
}

Addr show_prog(Images& images, const Prog& prog) {
  Image& aux = add_image(images, prog.machine, "bpf_prog_aux");
  Image& image = add_image(images, prog.machine, "bpf_prog");
  aux.set("refcnt", prog.aux->refcnt.value());
  aux.set("used_map_cnt", uint32_t(prog.aux->used_maps.size()));
  aux.set("max_ctx_offset", prog.aux->max_ctx_offset);
  aux.set("stack_depth", prog.aux->stack_depth);
  aux.set("id", prog.id);
  aux.set("load_time", prog.aux->load_time_ns);
  aux.set("verified_insns", prog.aux->verified_insns);
  aux.set_name("name", prog.aux->name);
  aux.set("prog", image.addr());
  image.set("type", uint32_t(prog.type));
  image.set("expected_attach_type", uint32_t(prog.expected_attach_type));
  image.set("len", uint32_t(prog.insnsi.size()));
  image.set("tag", prog.tag.data(), prog.tag.size());
  image.set("aux", aux.addr());
  return image.addr();
}

Addr show_link(Images& images, const Link& link) {
  Image& image = add_image(images, link.machine, "bpf_link");
  image.set("refcnt", link.refcnt.value());
  image.set("id", link.id);
  image.set("type", uint32_t(link.type));
  image.set("attach_type", uint32_t(link.attach_type));
  if (link.prog) image.set("prog", show_prog(images, *link.prog));
  return image.addr();
}

// bpf_map_get_curr_or_next() and its like.
template <class T>
Result<bool> show_next_of(IterSeq& seq, Errno& said, const IdRegistry<T>& ids,
                          Addr (*show)(Images&, const T&)) {
  const T* object = ids.at_or_after(std::max<uint32_t>(1, uint32_t(seq.at.number)));
  if (!object) return false;
  seq.at.number = object->id + 1;
  Images images;
  said = bpf_iter_run_prog(seq, show(images, *object));
  return true;
}

Result<bool> bpf_map_seq_show(IterSeq& seq, Errno& said) {
  return show_next_of<Map>(seq, said, seq.machine.registry->map_idr, show_map);
}

Result<bool> bpf_prog_seq_show(IterSeq& seq, Errno& said) {
  return show_next_of<Prog>(seq, said, seq.machine.registry->prog_idr, show_prog);
}

Result<bool> bpf_link_seq_show(IterSeq& seq, Errno& said) {
  return show_next_of<Link>(seq, said, seq.machine.registry->link_idr, show_link);
}

// One step: the next element is shown. False at the end, after the program was run once more for the end
// itself.
Result<bool> step(IterSeq& seq) {
  const size_t text_before = seq.buf.size();
  const IterPos before = seq.at;
  seq.overflowed = false;
  Errno said = Errno::None;
  const bool more = TRY(seq.target.ops.show_next(seq, said));
  seq.new_read = false;
  if (!more) {
    if (seq.done_stop) return false;
    const Errno end = seq.target.ops.silent_end ? Errno::None : bpf_iter_run_prog(seq);
    if (end != Errno::Again) said = end;  // what the program answers at the end is not asked
  }
  if (said != Errno::None || seq.overflowed) {
    seq.buf.resize(text_before);
    seq.at = before;
    if (said == Errno::Intr) return refuse(said, "interrupted in the program for element {}", seq.index);
    if (text_before) return false;  // what is there is given first
    if (said == Errno::None)
      return refuse(Errno::TooBig, "one element's text is larger than {} bytes", SeqFile::kSize);
    if (said == Errno::Fault) return refuse(said, "the program died of a simulated oops: see dmesg");
    return refuse(said, "the program answered 1 for element {}", seq.index);
  }
  if (!more) {
    seq.done_stop = true;
    return false;
  }
  ++seq.index;
  ++seq.seq_num;
  return true;
}

// Whether there is one more. If not, the end is seen in the same read, however much that was to give.
bool has_next(IterSeq& seq) {
  const IterPos at = seq.at;
  const bool terminate = seq.terminate;
  Errno said;
  seq.looks_ahead = true;
  const Result<bool> more = seq.target.ops.show_next(seq, said);
  seq.looks_ahead = false;
  seq.at = at;
  seq.terminate = terminate;
  return more && *more;
}

Result<std::string> bpf_seq_read(File& file, size_t size) {
  KFN(file.machine, bpf_seq_read);
  auto& seq = static_cast<IterSeq&>(*file.private_data);
  constexpr int MAX_ITER_OBJECTS = 1000000;
  if (seq.from == seq.buf.size()) {
    seq.buf.clear();
    seq.from = 0;
    seq.new_read = true;
    ++seq.reads;
    for (int i = 0; i < MAX_ITER_OBJECTS; ++i) {
      if (!TRY(step(seq)) || (seq.buf.size() >= size && has_next(seq))) break;
      if (host_interrupts(seq.machine)) return refuse(Errno::Intr, "interrupted");
    }
  }
  const std::string text = seq.buf.substr(seq.from, size);
  seq.from += text.size();
  file.f_pos += text.size();
  return text;
}

void iter_release(File& file) {
  KFN(file.machine, iter_release);
  auto& seq = static_cast<IterSeq&>(*file.private_data);
  put_aux(seq.aux, {"an iterator's file is closed"});
  bpf_prog_put(*seq.prog, {"an iterator's file is closed"});
  emit<LifeEvent>(file.machine, seq, "freed");
  delete &seq;
}

const FileOps bpf_iter_fops = {.name = "bpf_iter",
                               .release = iter_release,
                               .show_fdinfo = nullptr,
                               .holds = Counter::Refs,
                               .read = bpf_seq_read};

}  // namespace

const IterOps bpf_map_iter = {.show_next = bpf_map_seq_show};
const IterOps bpf_prog_iter = {.show_next = bpf_prog_seq_show};
const IterOps bpf_link_iter = {.show_next = bpf_link_seq_show};

IterSeq::IterSeq(Machine& machine, const IterTarget& target, Prog& prog, const IterAux& aux)
    : SeqFile(machine), target(target), prog(&prog), aux(aux), session_id(serial) {}

void IterSeq::each_held(const HoldVisitor& visit) const {
  visit({prog, Counter::Refs, true, "iter_priv->prog"});
  each_held_of(aux, visit, "seq_info->");
}

Image::Image(Machine& machine, const char* structure) : machine_(machine), structure_(structure) {
  auto span = machine.arena.alloc(vmlinux_size(structure), structure);
  if (!span) return;
  std::memset(span->host, 0, span->size);
  span_ = *span;
}

Image::~Image() {
  if (span_.size) machine_.arena.free(span_);
}

void Image::set_in(const char* first, const char* member, const void* bytes, size_t size) {
  if (span_.size) std::memcpy(span_.host + vmlinux_offset(first, member), bytes, size);
}

void Image::set_name(const char* member, const std::string& name, size_t size) {
  std::string text = name.substr(0, size - 1);
  text.resize(size);
  set(member, text.data(), size);
}

Image& add_image(Images& images, Machine& machine, const char* structure) {
  return *images.emplace_back(std::make_unique<Image>(machine, structure));
}

Addr show_map(Images& images, const Map& map) {
  Image& image = add_image(images, map.machine, "bpf_map");
  image.set("map_type", uint32_t(map.map_type));
  image.set("key_size", map.key_size);
  image.set("value_size", map.value_size);
  image.set("max_entries", map.max_entries);
  image.set("map_extra", map.map_extra);
  image.set("map_flags", map.map_flags);
  image.set("id", map.id);
  image.set("btf_key_type_id", map.btf_key_type_id);
  image.set_name("name", map.name);
  image.set("refcnt", map.refcnt.value());
  image.set("usercnt", map.usercnt.value());
  image.set("frozen", uint8_t(map.frozen));
  return image.addr();
}

Errno bpf_iter_run_prog(IterSeq& seq, uint64_t arg1, uint64_t arg2, uint64_t arg3) {
  Machine& machine = seq.machine;
  if (seq.looks_ahead) return Errno::None;
  KFN(machine, bpf_iter_run_prog);
  Images images;
  // Where a map's elements are shown, the program sees the map at the end too.
  if (seq.aux.map) arg3 = arg2, arg2 = arg1, arg1 = show_map(images, *seq.aux.map);
  Image meta(machine, "bpf_iter_meta");
  meta.set("seq", seq.image.addr);
  meta.set("session_id", seq.session_id);
  meta.set("seq_num", seq.seq_num);
  auto ctx = machine.arena.alloc(32, "bpf_iter context");
  if (!ctx) return Errno::NoMem;
  const uint64_t args[4] = {meta.addr(), arg1, arg2, arg3};
  std::memcpy(ctx->host, args, sizeof args);
  const RunOutcome outcome = bpf_prog_run(machine, *seq.prog, ctx->addr);
  machine.arena.free(*ctx);
  if (outcome.stop != RunStop::Returned)
    return outcome.stop == RunStop::Interrupted ? Errno::Intr : Errno::Fault;
  return outcome.value == 0 ? Errno::None : Errno::Again;
}

const IterTarget* iter_target_of(const Prog& prog) {
  constexpr std::string_view kPrefix = "bpf_iter_";
  const std::string& name = prog.aux->attach_func_name;
  for (const IterTarget& target : kTargets)
    if (name.starts_with(kPrefix) && name.substr(kPrefix.size()) == target.name) return &target;
  return nullptr;
}

Result<Link*> bpf_iter_link_attach(Prog& prog, const bpf_attr& attr) {
  Machine& machine = prog.machine;
  KFN(machine, bpf_iter_link_attach);
  if (attr.link_create.target_fd || attr.link_create.flags)
    return refuse(Errno::Inval, "target_fd {} and flags {} must be 0", attr.link_create.target_fd,
                  attr.link_create.flags);
  const IterLinkInfo info = TRY(read_link_info(machine, attr));
  const IterTarget* target = iter_target_of(prog);
  if (!target) return refuse(Errno::NoEnt, "no iterator is called {}", prog.aux->attach_func_name);
  if (prog.aux->sleepable && !target->resched)
    return refuse(Errno::Inval, "the iterator {} takes no sleepable program", target->name);
  IterAux aux;
  if (target->ops.attach_target) TRY(target->ops.attach_target(prog, info, aux));
  return new IterLink(prog, *target, aux);
}

bool is_bpf_iter_link(const Link& link) { return &link.ops == &bpf_iter_link_lops; }

Result<int64_t> bpf_iter_new_fd(Link& link) {
  Machine& machine = link.machine;
  KFN(machine, bpf_iter_new_fd);
  if (!is_bpf_iter_link(link)) return refuse(Errno::Inval, "a {} link is no iterator's", link.ops.name);
  TRY(current_task(machine).files.check_room());
  const IterLink& from = iter_link(link);
  bpf_prog_inc(*link.prog, {"iterated by task {}", machine.current->pid});
  get_aux(from.aux, {"iterated by task {}", machine.current->pid});
  auto& seq = *new IterSeq(machine, from.target, *link.prog, from.aux);
  emit<LifeEvent>(machine, seq, "born");
  Holding newborn(machine, seq, "bpf(BPF_ITER_CREATE)");
  return anon_inode_getfd(machine, bpf_iter_fops, seq, O_RDONLY_ | O_CLOEXEC_, newborn);
}

}  // namespace bpfsim
