// Models: kernel/bpf/syscall.c (bpf_link_put and its neighbours) (Linux 6.18)
//
// The life of a link. The last reference frees the id, detaches the program from its hook (ops.release), puts
// it, and the link is gone. Departs from the kernel: bpf_link_put does that at once, where the kernel hands
// it to a work queue unless a descriptor's release called.
#include "object/link.h"

#include <cstdio>

#include "object/file.h"
#include "object/ops.h"
#include "object/prog.h"
#include "object/registry.h"
#include "uapi/gates.h"

namespace bpfsim {

Link::Link(Machine& machine, bpf_link_type type, const LinkOps& ops, Prog* prog, bpf_attach_type attach_type)
    : Object(machine, ObjectKind::Link), type(type), ops(ops), prog(prog), attach_type(attach_type) {}

std::string Link::label() const { return label_with_id(*this, ops.name); }

void Link::each_held(const HoldVisitor& visit) const {
  if (prog) visit({prog, Counter::Refs, true, "link->prog"});
}

Result<Link*> bpf_link_get_from_fd(Machine& machine, int fd, const Cause& cause) {
  Link* link = TRY(object_of_fd<Link>(machine, fd, bpf_link_fops));
  bpf_link_inc(*link, cause);
  return link;
}

Result<Link*> bpf_link_by_id(Machine& machine, uint32_t id, const Cause& cause) {
  Link* link = machine.registry->link_idr.find(id);
  if (!link) return refuse(Errno::NoEnt, "no link has the id {}", id);
  bpf_link_inc(*link, cause);
  return link;
}

void bpf_link_inc(Link& link, const Cause& cause) { link.refcnt.inc(cause); }

static void bpf_link_free_id(Link& link) {
  KFN(link.machine, bpf_link_free_id);
  if (!link.id) return;
  link.machine.registry->link_idr.remove(link.id);
  id_is_gone(link);
}

static void bpf_link_dealloc(Link& link) {
  KFN(link.machine, bpf_link_dealloc);
  emit<LifeEvent>(link.machine, link, "freed");
  if (link.ops.dealloc) link.ops.dealloc(link);
  if (Prog* prog = std::exchange(link.prog, nullptr)) bpf_prog_put(*prog, {"its link is freed"});
  delete &link;
}

static void bpf_link_free(Link& link) {
  KFN(link.machine, bpf_link_free);
  bpf_link_free_id(link);
  if (link.prog && link.ops.release) link.ops.release(link);
  bpf_link_dealloc(link);
}

void bpf_link_put(Link& link, const Cause& cause) {
  if (!link.refcnt.dec_and_test(cause)) return;
  bpf_link_free(link);
}

Result<void> fill_name(Machine& machine, const std::string& name, uint64_t to, uint32_t& length,
                       std::source_location where) {
  if (!length != !to)
    return refuse(Errno::Inval, Fact("a name's buffer and its length belong together", where));
  const uint32_t room = length;
  length = uint32_t(name.size()) + 1;
  if (!to) return {};
  return bpf_copy_to_user(machine, to, name, room);
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, value ? "0x%llx" : "0", static_cast<unsigned long long>(value));
  return text;
}

static void bpf_link_release(File& file) {
  KFN(file.machine, bpf_link_release);
  bpf_link_put(static_cast<Link&>(*file.private_data), {"file released"});
}

static std::string bpf_link_show_fdinfo(const File& file) {
  const auto& link = static_cast<const Link&>(*file.private_data);
  const bool has_more = has(Gate::link_fdinfo, link.machine.version);
  std::string lines = std::string("link_type:\t") + link.ops.name + "\n";
  if (has_more) lines += "link_id:\t" + std::to_string(link.id) + "\n";
  if (link.prog)
    lines +=
        "prog_tag:\t" + bpf_prog_tag_str(*link.prog) + "\nprog_id:\t" + std::to_string(link.prog->id) + "\n";
  if (has_more && link.ops.show_fdinfo) lines += link.ops.show_fdinfo(link);
  return lines;
}

const FileOps bpf_link_fops = {"bpf_link", bpf_link_release, bpf_link_show_fdinfo, Counter::Refs};
const FileOps bpf_raw_tp_fops = {"bpf-raw-tracepoint", bpf_link_release, nullptr, Counter::Refs};
const FileOps bpf_tracing_prog_fops = {"bpf-tracing-prog", bpf_link_release, nullptr, Counter::Refs};

}  // namespace bpfsim
