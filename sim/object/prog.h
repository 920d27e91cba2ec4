// Models: include/linux/bpf.h, include/linux/filter.h (struct bpf_prog, bpf_prog_aux) (Linux 6.18)
//
// A loaded program, under the kernel's field names: what runs (bpf_prog) and what is only known about it
// (bpf_prog_aux). Departs from the kernel: instructions are a vector, and the instructions as user space gave
// them are kept, so that a lesson can verify the program again.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "isa/insn.h"
#include "object/object.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"
#include "uapi/info.h"

namespace bpfsim {

struct Link;
struct Map;
struct Btf;
struct Prog;
struct FileOps;
struct ProgOps;
struct VerifierOps;
struct NetDevice;

struct SubprogInfo {  // what remains of a subprogram after verification
  uint32_t start = 0;
  uint32_t stack_depth = 0;
  std::string name;
  bool unreliable = false;  // its BTF is not what its callers pass
  bool changes_pkt_data = false, might_sleep = false;
};

// struct bpf_trampoline: what is attached to one function, of the kernel or of a program. Whoever holds a
// link is not the trampoline: a link that goes takes itself off it.
struct Trampoline {
  std::vector<Link*> links;   // fentry, fexit, fmod_ret and LSM programs
  Link* extension = nullptr;  // or the program that stands in the function's place
  uint32_t cgroup_shims = 0;  // attachments of LSM programs to cgroups, which share one program here
  uint32_t cgroup_atype = 0;  // where cgroups keep them
  size_t count() const { return links.size() + (cgroup_shims ? 1 : 0); }
};
// By what a trampoline is found: the program or BTF, and the function's type id.
uint64_t bpf_trampoline_compute_key(const Prog* tgt_prog, const Btf* btf, uint32_t btf_id);

struct ProgAux {
  explicit ProgAux(Object& prog) : refcnt(prog, Counter::Refs) {}
  Refcount refcnt;
  std::string name;
  uint32_t uid = 0;
  uint64_t load_time_ns = 0;
  uint32_t stack_depth = 0;
  uint32_t max_ctx_offset = 0;
  uint32_t verified_insns = 0;
  uint32_t max_tp_access = 0;
  uint32_t max_rdonly_access = 0, max_rdwr_access = 0;  // of an iterator's key and value
  std::vector<Map*> used_maps;
  const Map* cgroup_storage[2] =
      {};  // of used_maps, what has its values at cgroups: one for all CPUs, per CPU
  std::vector<Btf*> used_btfs;
  Btf* btf = nullptr;
  std::vector<SubprogInfo> subprogs;
  std::vector<bpf_func_info> func_info;
  std::vector<bpf_line_info> line_info;
  uint32_t attach_btf_id = 0;
  Btf* attach_btf = nullptr;       // where attach_btf_id lies
  std::string attach_func_name;    // the function or tracepoint that it names
  uint32_t attach_func_proto = 0;  // type id of its prototype
  uint64_t attach_func_btf = 0;    // serial of the BTF where that lies
  Prog* dst_prog = nullptr;        // attach_btf_id lies in this program's BTF; until it is attached
  bpf_prog_type saved_dst_prog_type = BPF_PROG_TYPE_UNSPEC;  // and what it was, for as long as this one lives
  bpf_attach_type saved_dst_attach_type{};
  uint64_t dst_trampoline = 0;       // key of the one to attach to first; 0: it has been attached
  bool attach_tracing_prog = false;  // a TRACING program that traces another
  bool is_extended = false;          // a function of it is replaced: it cannot be tail called
  uint32_t prog_array_member_cnt = 0;
  std::map<uint32_t, Trampoline> trampolines;  // of its own functions, by type id
  bool sleepable = false, xdp_has_frags = false, tail_call_reachable = false, changes_pkt_data = false;
  bool might_sleep = false, dev_bound = false;
  const ProgOps* ops = nullptr;
};

struct Prog final : Object {
  explicit Prog(Machine& machine);
  std::string label() const override;  // "prog 7 (xdp_drop)"
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter which) const override {
    return which == Counter::Refs ? &aux->refcnt : nullptr;
  }

  bpf_prog_type type = BPF_PROG_TYPE_UNSPEC;
  bpf_attach_type expected_attach_type{};
  bool jit_requested = false, jited = false, gpl_compatible = false;
  bool enforce_expected_attach_type = false;
  std::array<uint8_t, BPF_TAG_SIZE> tag{};
  std::vector<bpf_insn> insnsi;
  std::unique_ptr<ProgAux> aux;

  // What bpf_prog_select_runtime chose, and what it prepared for itself.
  uint64_t (*bpf_func)(Machine& machine, const Prog& prog, Addr ctx) = nullptr;
  std::shared_ptr<void> image;

  struct Stats {
    uint64_t nsecs = 0, cnt = 0, misses = 0;
  } stats;
};

// The program behind a descriptor of the current task, as long as that is open.
Result<Prog*> __bpf_prog_get(Machine& machine, int fd);
// A program by a descriptor, or by its id; each takes a reference.
Result<Prog*> bpf_prog_get(Machine& machine, int fd, const Cause& cause);
Result<Prog*> bpf_prog_get_type(Machine& machine, int fd, bpf_prog_type type, const Cause& cause);
Result<Prog*> bpf_prog_by_id(Machine& machine, uint32_t id, const Cause& cause);

// What an extension replaces is of this type, and it is verified as such; any other program's own type.
bpf_prog_type resolve_prog_type(const Prog& prog);

void bpf_prog_inc(Prog& prog, const Cause& cause);
void bpf_prog_put(Prog& prog, const Cause& cause);
// Frees a program that nobody counts any more, with what it holds: after the grace period, or at once when
// its load failed.
void bpf_prog_free(Prog& prog);
std::string bpf_prog_tag_str(const Prog& prog);  // "3b185187f1855c4c"

extern const FileOps bpf_prog_fops;

}  // namespace bpfsim
