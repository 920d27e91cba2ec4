// Models: include/linux/bpf.h (struct bpf_iter_reg, bpf_iter_aux_info), kernel/bpf/bpf_iter.c (Linux 6.18)
//
// What the rooms of the iterators share: how a target says what its link is narrowed down to, where an open
// iteration stands, how the next element is shown. A program sees a copy of each kernel struct, laid out as
// the kernel's and filled as far as this machine's BTF has members; so it is the same whether a load through
// it is guarded or not.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hook/bpf_iter.h"
#include "host/cgroup.h"
#include "host/seq_file.h"
#include "uapi/info.h"

namespace bpfsim {

// union bpf_iter_link_info: a map's descriptor; or a cgroup's order, descriptor and id; or a task's tid, pid
// and pidfd.
struct IterLinkInfo {
  uint32_t words[4] = {};
};

enum : uint32_t { BPF_TASK_ITER_ALL, BPF_TASK_ITER_TID, BPF_TASK_ITER_TGID };
enum : uint32_t {
  BPF_CGROUP_ITER_ORDER_UNSPEC,
  BPF_CGROUP_ITER_SELF_ONLY,
  BPF_CGROUP_ITER_DESCENDANTS_PRE,
  BPF_CGROUP_ITER_DESCENDANTS_POST,
  BPF_CGROUP_ITER_ANCESTORS_UP
};

// struct bpf_iter_aux_info: what a link is narrowed down to. A link holds what is in it, and so does every
// file that was made of it, which has a copy.
struct IterAux {
  Map* map = nullptr;  // with a uref
  Cgroup* start = nullptr;
  uint32_t order = 0;
  uint32_t task_type = BPF_TASK_ITER_ALL, pid = 0;
};

// Where an iteration stands: the smallest number that has not been shown, and the next place within it.
struct IterPos {
  uint64_t number = 0;
  uint32_t within = 0;
  std::vector<uint8_t> key;  // of the element before
};

// The open iteration: a seq_file with a program of its own.
struct IterSeq final : SeqFile {
  IterSeq(Machine& machine, const IterTarget& target, Prog& prog, const IterAux& aux);
  void each_held(const HoldVisitor& visit) const override;
  const IterTarget& target;
  Prog* prog;
  IterAux aux;
  const uint64_t session_id;
  uint64_t seq_num = 0;
  IterPos at;
  uint32_t reads = 0;      // how many read(2) have looked for elements
  bool new_read = true;    // the next element is the first of this one
  bool terminate = false;  // the program wants no more (cgroups)
  bool done_stop = false;
  bool looks_ahead = false;  // nothing is shown, only looked for
};

// struct bpf_iter_reg. What is null has nothing to say.
struct IterOps {
  Result<void> (*attach_target)(Prog& prog, const IterLinkInfo& info, IterAux& aux) = nullptr;
  std::string (*show_fdinfo)(const IterAux& aux) = nullptr;
  void (*fill_link_info)(const IterAux& aux, bpf_link_info& info) = nullptr;
  // Shows what is next and moves behind it. False: there is nothing. `said` is what came of the program.
  Result<bool> (*show_next)(IterSeq& seq, Errno& said);
  bool silent_end = false;  // the program is not run once more for the end
};

// bpf_iter_run_prog() with the arguments behind meta: EAGAIN when the program answers 1 and wants the element
// again.
Errno bpf_iter_run_prog(IterSeq& seq, uint64_t arg1 = 0, uint64_t arg2 = 0, uint64_t arg3 = 0);

// A copy of a kernel struct, as its program sees it, for as long as it is shown.
class Image {
 public:
  Image(Machine& machine, const char* structure);
  ~Image();
  Image(const Image&) = delete;
  Addr addr() const { return span_.addr; }
  void set(const char* member, const void* bytes, size_t size) { set_in(structure_, member, bytes, size); }
  // The member of a struct with which this one begins.
  void set_in(const char* first, const char* member, const void* bytes, size_t size);
  template <class T>
  void set(const char* member, T value) {
    set(member, &value, sizeof value);
  }
  template <class T>
  void set_in(const char* first, const char* member, T value) {
    set_in(first, member, &value, sizeof value);
  }
  void set_name(const char* member, const std::string& name, size_t size = 16);

 private:
  Machine& machine_;
  const char* structure_;
  Span span_;
};

// What one element looks like: its struct, and those that its pointers lead to.
using Images = std::vector<std::unique_ptr<Image>>;
Image& add_image(Images& images, Machine& machine, const char* structure);
Addr show_map(Images& images, const Map& map);
Addr show_sock(Images& images, const Sock& sk, const char* structure = "sock");

extern const IterOps bpf_map_iter, bpf_prog_iter, bpf_link_iter;                // bpf_iter.cpp
extern const IterOps bpf_map_elem_iter, sockmap_iter, sk_storage_map_iter;      // map_iter.cpp
extern const IterOps task_iter, task_file_iter, task_vma_iter;                  // task_iter.cpp
extern const IterOps cgroup_iter;                                               // cgroup_iter.cpp
extern const IterOps tcp_iter, udp_iter, unix_iter, netlink_iter;               // sock_iter.cpp
extern const IterOps ksym_iter, ipv6_route_iter, kmem_cache_iter, dmabuf_iter;  // misc_iter.cpp

}  // namespace bpfsim
