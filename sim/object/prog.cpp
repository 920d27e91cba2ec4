// Models: kernel/bpf/syscall.c (bpf_prog_put and its neighbours), kernel/bpf/core.c (bpf_prog_free) (Linux
// 6.18)
//
// The life of a program. The last reference frees the id and lets the BTF go at once; after a grace period,
// when no CPU can still run it, the program puts the maps that it used and is freed.
#include "object/prog.h"

#include "base/align.h"
#include "object/btf.h"
#include "object/file.h"
#include "object/link.h"
#include "object/map.h"
#include "object/registry.h"
#include "uapi/gates.h"
#include "uapi/info.h"

namespace bpfsim {

Prog::Prog(Machine& machine) : Object(machine, ObjectKind::Prog), aux(std::make_unique<ProgAux>(*this)) {}

std::string Prog::label() const { return label_with_id(*this, aux->name); }

void Prog::each_held(const HoldVisitor& visit) const {
  for (size_t i = 0; i < aux->used_maps.size(); ++i)
    visit({aux->used_maps[i], Counter::Refs, true, "used_maps[" + std::to_string(i) + "]"});
  for (size_t i = 0; i < aux->used_btfs.size(); ++i)
    visit({aux->used_btfs[i], Counter::Refs, true, "used_btfs[" + std::to_string(i) + "]"});
  if (aux->btf) visit({aux->btf, Counter::Refs, true, "btf"});
  if (aux->attach_btf) visit({aux->attach_btf, Counter::Refs, true, "attach_btf"});
  if (aux->dst_prog) visit({aux->dst_prog, Counter::Refs, true, "dst_prog"});
  for (const auto& [btf_id, trampoline] : aux->trampolines) {
    const std::string where = "trampoline of func " + std::to_string(btf_id);
    for (const Link* link : trampoline.links) visit({link, Counter::Refs, false, where});
    if (trampoline.extension) visit({trampoline.extension, Counter::Refs, false, where});
  }
}

uint64_t bpf_trampoline_compute_key(const Prog* tgt_prog, const Btf* btf, uint32_t btf_id) {
  constexpr uint64_t kIsBtf = 0x80000000;
  if (tgt_prog) return uint64_t(tgt_prog->id) << 32 | btf_id;
  return uint64_t(btf->id) << 32 | kIsBtf | btf_id;
}

bpf_prog_type resolve_prog_type(const Prog& prog) {
  const bpf_prog_type replaced = prog.aux->saved_dst_prog_type;
  return prog.type == BPF_PROG_TYPE_EXT && replaced ? replaced : prog.type;
}

void bpf_prog_inc(Prog& prog, const Cause& cause) { prog.aux->refcnt.inc(cause); }

Result<Prog*> __bpf_prog_get(Machine& machine, int fd) {
  return object_of_fd<Prog>(machine, fd, bpf_prog_fops);
}

Result<Prog*> bpf_prog_get(Machine& machine, int fd, const Cause& cause) {
  Prog* prog = TRY(object_of_fd<Prog>(machine, fd, bpf_prog_fops));
  bpf_prog_inc(*prog, cause);
  return prog;
}

Result<Prog*> bpf_prog_get_type(Machine& machine, int fd, bpf_prog_type type, const Cause& cause) {
  Prog* prog = TRY(bpf_prog_get(machine, fd, cause));
  if (prog->type == type) return prog;
  Refusal wrong = refuse(Errno::Inval, "fd {} is a program of type {}, not {}", fd, prog->type, type);
  bpf_prog_put(*prog, {"of another type"});
  return wrong;
}

Result<Prog*> bpf_prog_by_id(Machine& machine, uint32_t id, const Cause& cause) {
  Prog* prog = machine.registry->prog_idr.find(id);
  if (!prog) return refuse(Errno::NoEnt, "no program has the id {}", id);
  bpf_prog_inc(*prog, cause);
  return prog;
}

static void bpf_free_used_maps(Prog& prog) {
  for (Map* map : std::exchange(prog.aux->used_maps, {}))
    bpf_map_put(*map, {"a program that used it is freed"});
}

static void bpf_free_used_btfs(Prog& prog) {
  for (Btf* btf : std::exchange(prog.aux->used_btfs, {})) btf_put(*btf, {"a program that used it is freed"});
}

static void bpf_prog_put_btf(Prog& prog) {
  if (Btf* btf = std::exchange(prog.aux->btf, nullptr)) btf_put(*btf, {"its program is going"});
}

void bpf_prog_free(Prog& prog) {
  KFN(prog.machine, bpf_prog_free_deferred);
  emit<LifeEvent>(prog.machine, prog, "freed");
  bpf_prog_put_btf(prog);
  bpf_free_used_maps(prog);
  bpf_free_used_btfs(prog);
  if (Btf* btf = std::exchange(prog.aux->attach_btf, nullptr))
    btf_put(*btf, {"a program attached through it is freed"});
  if (Prog* target = std::exchange(prog.aux->dst_prog, nullptr))
    bpf_prog_put(*target, {"a program attached to it is freed"});
  delete &prog;
}

static void bpf_prog_free_id(Prog& prog) {
  KFN(prog.machine, bpf_prog_free_id);
  if (!prog.id) return;
  prog.machine.registry->prog_idr.remove(prog.id);
  id_is_gone(prog);
}

static void __bpf_prog_put_noref(Prog& prog, std::string what) {
  KFN(prog.machine, __bpf_prog_put_noref);
  bpf_prog_put_btf(prog);
  emit<LifeEvent>(prog.machine, prog, "free queued");
  prog.machine.rcu.call_rcu(std::move(what), &prog, [&prog] { bpf_prog_free(prog); });
}

void bpf_prog_put(Prog& prog, const Cause& cause) {
  if (!prog.aux->refcnt.dec_and_test(cause)) return;
  KFN(prog.machine, bpf_prog_put);
  std::string what = prog.label();
  bpf_prog_free_id(prog);
  __bpf_prog_put_noref(prog, std::move(what));
}

static void bpf_prog_release(File& file) {
  KFN(file.machine, bpf_prog_release);
  bpf_prog_put(static_cast<Prog&>(*file.private_data), {"file released"});
}

std::string bpf_prog_tag_str(const Prog& prog) {
  std::string hex;
  for (uint8_t byte : prog.tag) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

static std::string bpf_prog_show_fdinfo(const File& file) {
  const auto& prog = static_cast<const Prog&>(*file.private_data);
  constexpr uint64_t kSizeofBpfProg = 96;
  const uint64_t size = kSizeofBpfProg + prog.insnsi.size() * sizeof(bpf_insn);
  const uint64_t memlock = round_up(size, kPageSize);
  const Version version = prog.machine.version;
  std::string lines = "prog_type:\t" + std::to_string(prog.type) + "\nprog_jited:\t" +
                      std::to_string(prog.jited) + "\nprog_tag:\t" + bpf_prog_tag_str(prog) + "\n";
  auto line = [&](const char* name, uint64_t value) {
    (lines += name) += ":\t" + std::to_string(value) + "\n";
  };
  line("memlock", memlock);
  if (has(Gate::fdinfo_ids, version)) line("prog_id", prog.id);
  if (tells(InfoPart::prog_run_stats, version)) {
    line("run_time_ns", prog.stats.nsecs);
    line("run_cnt", prog.stats.cnt);
  }
  if (tells(InfoPart::prog_recursion_misses, version)) line("recursion_misses", prog.stats.misses);
  if (tells(InfoPart::prog_verified_insns, version)) line("verified_insns", prog.aux->verified_insns);
  return lines;
}

const FileOps bpf_prog_fops = {"bpf-prog", bpf_prog_release, bpf_prog_show_fdinfo, Counter::Refs};

}  // namespace bpfsim
