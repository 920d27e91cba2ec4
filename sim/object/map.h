// Models: include/linux/bpf.h (struct bpf_map), kernel/bpf/syscall.c (Linux 6.18)
//
// What every map has, whatever its type. A map file derives its own struct from Map and fills a MapOps table
// (object/ops.h). refcnt counts every reference; usercnt those that come from user space (descriptors and
// pins): when it falls to zero, a prog array drops its programs though the map itself may live on.
#pragma once

#include <string>

#include "object/btf_record.h"
#include "object/object.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

namespace bpfsim {

struct MapOps;
struct File;
struct FileOps;
struct Btf;
struct Prog;

struct Map : Object {
  Map(Machine& machine, const bpf_attr& attr);
  ~Map() override;
  std::string label() const override;  // "map 3 (counts)"
  void each_held(const HoldVisitor&) const override;
  const Refcount* counter(Counter which) const override {
    return which == Counter::Refs ? &refcnt : &usercnt;
  }

  const MapOps* ops = nullptr;
  bpf_map_type map_type;
  uint32_t key_size, value_size, max_entries, map_flags;
  uint64_t map_extra = 0;
  std::string name;
  bool frozen = false;
  int writecnt = 0;  // writable mmaps and writes in flight; freezing needs zero
  bool bypass_spec_v1 = false;
  Addr handle = 0;  // what a register holds: kHandleBase + slot
  Map* inner_map_meta = nullptr;
  std::vector<uint8_t> excl_prog_sha;  // of the only program that may use it; empty: any may

  Btf* btf = nullptr;
  BtfRecord record;  // the special fields of a value, if it has any
  uint32_t btf_key_type_id = 0, btf_value_type_id = 0, btf_vmlinux_value_type_id = 0;

  // The kind of program that a prog array accepts, set by the first one that it meets.
  struct Owner {
    bool set = false;
    bpf_prog_type type{};
    bpf_attach_type expected_attach_type{};
    bool jited = false, xdp_has_frags = false;
    uint64_t storage_cookie[2] = {};  // serials of its maps whose values stand at cgroups; 0: it has none
    uint64_t attach_func_btf = 0;     // with the next: the prototype of what it is attached to
    uint32_t attach_func_proto = 0;
  } owner;

  Refcount refcnt{*this, Counter::Refs};
  Refcount usercnt{*this, Counter::UserRefs};
};

// The map behind a descriptor of the current task, as long as that is open; and that of a file.
Result<Map*> __bpf_map_get(Machine& machine, int fd);
Result<Map*> __bpf_map_get(const File* file, int fd);
void bpf_map_inc(Map& map, const Cause& cause);
void bpf_map_inc_with_uref(Map& map, const Cause& cause);
void bpf_map_put(Map& map, const Cause& cause);
void bpf_map_put_with_uref(Map& map, const Cause& cause);
// Frees a map that nobody counts any more: after the grace period, or at once when its creation failed.
void bpf_map_free(Map& map);
Map* map_from_handle(const Machine& machine, Addr handle);

extern const FileOps bpf_map_fops;

// The size of one value as bpf(2) copies it: per-CPU types give every CPU's, each rounded up to 8 bytes.
uint32_t bpf_map_value_size(const Map& map);
bool is_percpu_map(bpf_map_type type);

}  // namespace bpfsim
