// Models: kernel/bpf/bpf_iter.c, map_iter.c, prog_iter.c, link_iter.c, task_iter.c (Linux 6.18)
//
// See bpf_iter.h. The program is shown a copy of the object's struct, laid out as the kernel's and filled as
// far as this machine's BTF has members; so it is the same whether a load through it is guarded or not. The
// objects are found by id, one after the other, so that what is born or dies between two reads is seen or
// missed as in the kernel; the one that is shown holds a reference meanwhile. Not modelled yet: the other
// targets (task_file, cgroup, tcp, netlink, ...), narrowing tasks by pid (iter_info of a task iterator).
#include "hook/bpf_iter.h"

#include <algorithm>
#include <cstring>

#include "btf/vmlinux.h"
#include "host/seq_file.h"
#include "object/file.h"
#include "object/registry.h"
#include "run/select_runtime.h"

namespace bpfsim {

namespace {

constexpr uint32_t kOrNull = uint32_t(PTR_TO_BTF_ID) | PTR_MAYBE_NULL, kTrustedOrNull = kOrNull | PTR_TRUSTED;
constexpr uint32_t kBufOrNull = uint32_t(PTR_TO_BUF) | PTR_MAYBE_NULL;

// In the order in which fill_link_info and error texts name them; what each argument is was read from 6.18's
// verifier log.
constexpr IterTarget kTargets[] = {
    {"task", {{8, kTrustedOrNull, "task_struct"}, {}}, true},
    {"bpf_map", {{8, kTrustedOrNull, "bpf_map"}, {}}, false},
    {"bpf_map_elem", {{16, kBufOrNull | MEM_RDONLY, nullptr}, {24, kBufOrNull, nullptr}}, false},
    {"bpf_prog", {{8, kOrNull, "bpf_prog"}, {}}, false},
    {"bpf_link", {{8, kOrNull, "bpf_link"}, {}}, false},
};

bool is(const IterTarget& target, const char* name) { return std::strcmp(target.name, name) == 0; }

struct IterLink final : Link {
  IterLink(Prog& prog, const IterTarget& target, Map* map);
  void each_held(const HoldVisitor& visit) const override {
    Link::each_held(visit);
    if (!map) return;
    visit({map, Counter::Refs, true, "iter_link->aux.map"});
    visit({map, Counter::UserRefs, true, "iter_link->aux.map"});
  }
  const IterTarget& target;
  Map* map;  // whose elements are shown; held with a uref
};

IterLink& iter_link(Link& link) { return static_cast<IterLink&>(link); }
const IterLink& iter_link(const Link& link) { return static_cast<const IterLink&>(link); }

void bpf_iter_link_release(Link& link) {
  KFN(link.machine, bpf_iter_link_release);
  if (Map* map = std::exchange(iter_link(link).map, nullptr))
    bpf_map_put_with_uref(*map, {"its iterator's link is gone"});
}

// Takes over the caller's reference of new_prog on success.
Result<void> bpf_iter_link_replace(Link& link, Prog& new_prog, Prog* old_prog) {
  KFN(link.machine, bpf_iter_link_replace);
  if (old_prog && link.prog != old_prog)
    return refuse(Errno::Perm, "the link holds program {}, not {}", link.prog->id, old_prog->id);
  const Prog& old = *link.prog;
  if (old.type != new_prog.type || old.expected_attach_type != new_prog.expected_attach_type ||
      old.aux->attach_btf_id != new_prog.aux->attach_btf_id)
    return refuse(Errno::Inval, "the new program is of another type or target");
  bpf_prog_put(*std::exchange(link.prog, &new_prog), {"replaced in link {}", link.id});
  return {};
}

std::string bpf_iter_link_show_fdinfo(const Link& link) {
  std::string lines = std::string("target_name:\t") + iter_link(link).target.name + "\n";
  if (is(iter_link(link).target, "task")) lines += "task_type:\tALL\n";
  if (const Map* map = iter_link(link).map) lines += "map_id:\t" + std::to_string(map->id) + "\n";
  return lines;
}

Result<void> bpf_iter_link_fill_link_info(const Link& link, bpf_link_info& info) {
  const std::string name = iter_link(link).target.name;
  if (!info.iter.target_name != !info.iter.target_name_len)
    return refuse(Errno::Inval, "a name's buffer and its length belong together");
  const uint32_t room = info.iter.target_name_len;
  info.iter.target_name_len = uint32_t(name.size()) + 1;
  if (info.iter.target_name) {
    const std::string fits = name.substr(0, room - 1);
    TRY(copy_to_user(link.machine, info.iter.target_name, fits.c_str(), fits.size() + 1));
    if (fits.size() < name.size())
      return refuse(Errno::NoSpc, "the name needs {} bytes, not {}", name.size() + 1, room);
  }
  if (const Map* map = iter_link(link).map) info.iter.map.map_id = map->id;
  return {};
}

const LinkOps bpf_iter_link_lops = {.name = "iter",
                                    .release = bpf_iter_link_release,
                                    .detach = nullptr,
                                    .update_prog = bpf_iter_link_replace,
                                    .show_fdinfo = bpf_iter_link_show_fdinfo,
                                    .fill_link_info = bpf_iter_link_fill_link_info};

IterLink::IterLink(Prog& prog, const IterTarget& target, Map* map)
    : Link(prog.machine, BPF_LINK_TYPE_ITER, bpf_iter_link_lops, &prog, BPF_TRACE_ITER),
      target(target),
      map(map) {}

// union bpf_iter_link_info: what narrows the iteration down; a map's descriptor comes first.
struct IterLinkInfo {
  uint32_t words[4] = {};
};

Result<IterLinkInfo> read_link_info(Machine& machine, const bpf_attr& attr) {
  const uint64_t from = attr.link_create.iter_info;
  const uint32_t length = attr.link_create.iter_info_len;
  IterLinkInfo info;
  if (!from != !length) return refuse(Errno::Inval, "iter_info and iter_info_len belong together");
  if (!from) return info;
  if (length > kPageSize) return refuse(Errno::TooBig, "iter_info_len {} is more than a page", length);
  for (uint32_t at = sizeof info; at < length; ++at) {
    uint8_t byte;
    TRY(copy_from_user(machine, &byte, from + at, 1));
    if (byte) return refuse(Errno::TooBig, "byte {} of iter_info is not 0, it has {}", at, sizeof info);
  }
  TRY(copy_from_user(machine, &info, from, std::min<uint32_t>(length, sizeof info)));
  return info;
}

bool has_percpu_values(const Map& map) {
  return map.map_type == BPF_MAP_TYPE_PERCPU_HASH || map.map_type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
         map.map_type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

// The map whose elements are shown, with a uref.
Result<Map*> bpf_iter_attach_map(Prog& prog, int fd) {
  KFN(prog.machine, bpf_iter_attach_map);
  if (!fd) return refuse(Errno::BadF, "iter_info names no map");
  const File* file = current_task(prog.machine).files.get(fd);
  if (!file) return refuse(Errno::BadF, "map fd {} is not open", fd);
  if (&file->f_op != &bpf_map_fops)
    return refuse(Errno::Inval, "fd {} is a {}, not a map", fd, file->f_op.name);
  Map& map = static_cast<Map&>(*file->private_data);
  const bool percpu = has_percpu_values(map);
  if (!percpu && map.map_type != BPF_MAP_TYPE_HASH && map.map_type != BPF_MAP_TYPE_LRU_HASH &&
      map.map_type != BPF_MAP_TYPE_ARRAY)
    return refuse(Errno::Inval, "elements of map type {} are not iterated", map.map_type);
  const uint32_t value_size = percpu ? (map.value_size + 7) / 8 * 8 * prog.machine.cpus : map.value_size;
  if (prog.aux->max_rdonly_access > map.key_size || prog.aux->max_rdwr_access > value_size)
    return refuse(Errno::Access,
                  "the program touches {} bytes of a key and {} of a value: more than there are",
                  prog.aux->max_rdonly_access, prog.aux->max_rdwr_access);
  bpf_map_inc_with_uref(map, {"iterated by a link of task {}", prog.machine.current->pid});
  return &map;
}

// A copy of a kernel struct, as its program sees it, for as long as it is shown.
class Image {
 public:
  Image(Machine& machine, const char* structure)
      : machine_(machine), structure_(structure), span_(alloc(machine, structure)) {}
  ~Image() {
    if (span_.size) machine_.arena.free(span_);
  }
  Image(const Image&) = delete;
  Addr addr() const { return span_.addr; }
  void set(const char* member, const void* bytes, size_t size) {
    if (span_.size) std::memcpy(span_.host + vmlinux_offset(structure_, member), bytes, size);
  }
  template <class T>
  void set(const char* member, T value) {
    set(member, &value, sizeof value);
  }
  void set_name(const char* member, const std::string& name) {
    char text[16] = {};
    std::strncpy(text, name.c_str(), sizeof text - 1);
    set(member, text, sizeof text);
  }

 private:
  static Span alloc(Machine& machine, const char* structure) {
    auto span = machine.arena.alloc(vmlinux_size(structure), structure);
    if (!span) return {};
    std::memset(span->host, 0, span->size);
    return *span;
  }
  Machine& machine_;
  const char* structure_;
  Span span_;
};

// What one object looks like: its struct, and those that its pointers lead to.
using Images = std::vector<std::unique_ptr<Image>>;

Image& add(Images& images, Machine& machine, const char* structure) {
  return *images.emplace_back(std::make_unique<Image>(machine, structure));
}

Addr show_prog(Images& images, const Prog& prog) {
  Image& aux = add(images, prog.machine, "bpf_prog_aux");
  Image& image = add(images, prog.machine, "bpf_prog");
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

Addr show_map(Images& images, const Map& map) {
  Image& image = add(images, map.machine, "bpf_map");
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

Addr show_link(Images& images, const Link& link) {
  Image& image = add(images, link.machine, "bpf_link");
  image.set("refcnt", link.refcnt.value());
  image.set("id", link.id);
  image.set("type", uint32_t(link.type));
  image.set("attach_type", uint32_t(link.attach_type));
  if (link.prog) image.set("prog", show_prog(images, *link.prog));
  return image.addr();
}

// A task, and its ancestors: the first of them is its own parent.
Addr show_task(Images& images, const Task& task) {
  Image& image = add(images, task.machine, "task_struct");
  image.set("pid", int32_t(task.pid));
  image.set("tgid", int32_t(task.pid));
  image.set("prio", int32_t(120));
  image.set_name("comm", task.comm);
  image.set("group_leader", image.addr());
  const Addr parent = task.parent ? show_task(images, *task.parent) : image.addr();
  image.set("real_parent", parent);
  image.set("parent", parent);
  return image.addr();
}

// The open iteration: a seq_file with a program of its own.
struct IterSeq final : SeqFile {
  IterSeq(Machine& machine, const IterTarget& target, Prog& prog, Map* map);
  void each_held(const HoldVisitor& visit) const override {
    visit({prog, Counter::Refs, true, "iter_priv->prog"});
    if (!map) return;
    visit({map, Counter::Refs, true, "seq_info->map"});
    visit({map, Counter::UserRefs, true, "seq_info->map"});
  }
  const IterTarget& target;
  Prog* prog;
  Map* map;
  const uint64_t session_id;
  uint64_t seq_num = 0;
  uint32_t next_id = 1;  // the smallest id that has not been shown
  std::vector<uint8_t> key;
  bool started = false, done_stop = false;
};

IterSeq::IterSeq(Machine& machine, const IterTarget& target, Prog& prog, Map* map)
    : SeqFile(machine), target(target), prog(&prog), map(map), session_id(serial) {}

// bpf_iter_run_prog(): 0, or EAGAIN when the program answers 1 and wants the object again.
Errno run(IterSeq& seq, Addr object, Addr key, Addr value) {
  Machine& machine = seq.machine;
  KFN(machine, bpf_iter_run_prog);
  Image meta(machine, "bpf_iter_meta");
  meta.set("seq", seq.image.addr);
  meta.set("session_id", seq.session_id);
  meta.set("seq_num", seq.seq_num);
  auto ctx = machine.arena.alloc(32, "bpf_iter context");
  if (!ctx) return Errno::NoMem;
  const uint64_t args[4] = {meta.addr(), object, key, value};
  std::memcpy(ctx->host, args, sizeof args);
  const RunOutcome outcome = bpf_prog_run(machine, *seq.prog, ctx->addr);
  machine.arena.free(*ctx);
  if (outcome.stop == RunStop::Interrupted) return Errno::Intr;
  return outcome.value == 0 ? Errno::None : Errno::Again;
}

// Which object is next, held with a reference.
Object* next_object(IterSeq& seq) {
  Registry& registry = *seq.machine.registry;
  if (is(seq.target, "bpf_map")) return registry.map_idr.at_or_after(seq.next_id);
  if (is(seq.target, "bpf_prog")) return registry.prog_idr.at_or_after(seq.next_id);
  if (is(seq.target, "bpf_link")) return registry.link_idr.at_or_after(seq.next_id);
  Object* best = nullptr;
  for (const auto& [serial, object] : seq.machine.objects)
    if (object->kind == ObjectKind::Task && object->id >= seq.next_id && (!best || object->id < best->id) &&
        !static_cast<Task*>(object)->exited)
      best = object;
  return best;
}

Errno show_object(IterSeq& seq, const Object& object) {
  Images images;
  Addr addr = 0;
  switch (object.kind) {
    case ObjectKind::Map: addr = show_map(images, static_cast<const Map&>(object)); break;
    case ObjectKind::Prog: addr = show_prog(images, static_cast<const Prog&>(object)); break;
    case ObjectKind::Link: addr = show_link(images, static_cast<const Link&>(object)); break;
    default: addr = show_task(images, static_cast<const Task&>(object)); break;
  }
  return run(seq, addr, 0, 0);
}

// The key of the next element; false at the end.
bool next_element(IterSeq& seq) {
  std::vector<uint8_t> next(seq.map->key_size);
  const void* from = seq.key.empty() ? nullptr : seq.key.data();
  if (!MAP_OP(*seq.map, map_get_next_key, *seq.map, from, next.data())) return false;
  seq.key = std::move(next);
  return true;
}

Errno show_element(IterSeq& seq) {
  Map& map = *seq.map;
  Images images;
  const Addr shown = show_map(images, map);
  auto key = map.machine.arena.alloc(map.key_size, "an iterator's key");
  if (!key) return Errno::NoMem;
  std::memcpy(key->host, seq.key.data(), seq.key.size());
  Errno err = Errno::None;
  const uint32_t cpus = has_percpu_values(map) ? map.machine.cpus : 0, each = (map.value_size + 7) / 8 * 8;
  if (cpus) {
    // All CPUs' values in a row, as the program sees them; what it writes there is lost, as in the kernel.
    auto all = map.machine.arena.alloc(each * cpus, "an iterator's values");
    if (all) {
      for (uint32_t cpu = 0; cpu < cpus; ++cpu)
        if (auto value = MAP_OP(map, map_lookup_percpu_elem, map, seq.key.data(), cpu); value && *value)
          std::memcpy(all->host + cpu * each, *value, map.value_size);
      err = run(seq, shown, key->addr, all->addr);
      map.machine.arena.free(*all);
    }
  } else if (auto value = MAP_OP(map, map_lookup_elem, map, seq.key.data()); value && *value) {
    const Addr at = map.machine.arena.addr(static_cast<const uint8_t*>(*value));
    err = run(seq, shown, key->addr, at);
  }
  map.machine.arena.free(*key);
  return err;
}

// One step: the next object or element is shown. False at the end, after the program was run once more for
// the end itself.
Result<bool> step(IterSeq& seq) {
  const size_t before = seq.buf.size();
  seq.overflowed = false;
  Errno err = Errno::None;
  const uint32_t id_before = seq.next_id;
  const std::vector<uint8_t> key_before = seq.key;
  bool more = true;
  if (seq.map) {
    more = next_element(seq);
    if (more) err = show_element(seq);
  } else if (Object* object = next_object(seq)) {
    seq.next_id = object->id + 1;
    err = show_object(seq, *object);
  } else {
    more = false;
  }
  if (!more) {
    if (seq.done_stop) return false;
    err = run(seq, 0, 0, 0);
    err = Errno::None;  // what the program says of the end is not asked
  }
  if (err != Errno::None || seq.overflowed) {
    seq.buf.resize(before);
    if (more) seq.next_id = id_before, seq.key = key_before;
    if (before) return false;  // what is there is given first
    if (err == Errno::None)
      return refuse(Errno::TooBig, "one object's text is larger than {} bytes", SeqFile::kSize);
    return refuse(err, "the program answered 1 for object {}", seq.index);
  }
  if (!more) {
    seq.done_stop = true;
    return false;
  }
  ++seq.index;
  ++seq.seq_num;
  return true;
}

Result<std::string> bpf_seq_read(File& file, size_t size) {
  KFN(file.machine, bpf_seq_read);
  auto& seq = static_cast<IterSeq&>(*file.private_data);
  constexpr int MAX_ITER_OBJECTS = 1000000;
  if (seq.from == seq.buf.size()) {
    seq.buf.clear();
    seq.from = 0;
    for (int i = 0; i < MAX_ITER_OBJECTS; ++i) {
      if (!TRY(step(seq)) || seq.buf.size() >= size) break;
      if (host_interrupts(seq.machine)) return refuse(Errno::Intr, "interrupted");
    }
  }
  const std::string text = seq.buf.substr(seq.from, size);
  seq.from += text.size();
  return text;
}

void iter_release(File& file) {
  KFN(file.machine, iter_release);
  auto& seq = static_cast<IterSeq&>(*file.private_data);
  if (seq.map) bpf_map_put_with_uref(*std::exchange(seq.map, nullptr), {"an iterator's file is closed"});
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
  if (is(*target, "task") && (info.words[0] || info.words[1] || info.words[2]))
    return refuse(Errno::OpNotSupp, "not modelled yet: a task iterator of one task");
  Map* map = nullptr;
  if (is(*target, "bpf_map_elem")) map = TRY(bpf_iter_attach_map(prog, int(info.words[0])));
  return new IterLink(prog, *target, map);
}

Result<int64_t> bpf_iter_new_fd(Link& link) {
  Machine& machine = link.machine;
  KFN(machine, bpf_iter_new_fd);
  if (&link.ops != &bpf_iter_link_lops)
    return refuse(Errno::Inval, "a {} link is no iterator's", link.ops.name);
  TRY(current_task(machine).files.check_room());
  const IterLink& from = iter_link(link);
  bpf_prog_inc(*link.prog, {"iterated by task {}", machine.current->pid});
  if (from.map) bpf_map_inc_with_uref(*from.map, {"iterated by task {}", machine.current->pid});
  auto& seq = *new IterSeq(machine, from.target, *link.prog, from.map);
  emit<LifeEvent>(machine, seq, "born");
  Holding newborn(machine, seq, "bpf(BPF_ITER_CREATE)");
  return anon_inode_getfd(machine, bpf_iter_fops, seq, O_RDONLY_ | O_CLOEXEC_, newborn);
}

}  // namespace bpfsim
