// Models: include/uapi/linux/bpf.h (Linux 6.18), the structs that BPF_OBJ_GET_INFO_BY_FD fills, and func and
// line info
//
// In the kernel's own layout: info.info of union bpf_attr points to one of them, and info.info_len may be
// shorter (an older program) or longer (a newer one) than the struct.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "uapi/bpf.h"
#include "uapi/evidence.h"
#include "uapi/version.h"

namespace bpfsim {

struct bpf_prog_info {
  uint32_t type;
  uint32_t id;
  uint8_t tag[8];
  uint32_t jited_prog_len;
  uint32_t xlated_prog_len;
  uint64_t jited_prog_insns;
  uint64_t xlated_prog_insns;
  uint64_t load_time;
  uint32_t created_by_uid;
  uint32_t nr_map_ids;
  uint64_t map_ids;
  char name[16];
  uint32_t ifindex;
  uint32_t gpl_compatible : 1;
  uint64_t netns_dev;
  uint64_t netns_ino;
  uint32_t nr_jited_ksyms;
  uint32_t nr_jited_func_lens;
  uint64_t jited_ksyms;
  uint64_t jited_func_lens;
  uint32_t btf_id;
  uint32_t func_info_rec_size;
  uint64_t func_info;
  uint32_t nr_func_info;
  uint32_t nr_line_info;
  uint64_t line_info;
  uint64_t jited_line_info;
  uint32_t nr_jited_line_info;
  uint32_t line_info_rec_size;
  uint32_t jited_line_info_rec_size;
  uint32_t nr_prog_tags;
  uint64_t prog_tags;
  uint64_t run_time_ns;
  uint64_t run_cnt;
  uint64_t recursion_misses;
  uint32_t verified_insns;
  uint32_t attach_btf_obj_id;
  uint32_t attach_btf_id;
};

struct bpf_map_info {
  uint32_t type;
  uint32_t id;
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t map_flags;
  char name[16];
  uint32_t ifindex;
  uint32_t btf_vmlinux_value_type_id;
  uint64_t netns_dev;
  uint64_t netns_ino;
  uint32_t btf_id;
  uint32_t btf_key_type_id;
  uint32_t btf_value_type_id;
  uint32_t btf_vmlinux_id;
  uint64_t map_extra;
  uint64_t hash;
  uint32_t hash_size;
};

struct bpf_link_info {
  bpf_link_info() { std::memset(static_cast<void*>(this), 0, sizeof *this); }

  uint32_t type;
  uint32_t id;
  uint32_t prog_id;
  union {
    struct {
      uint64_t tp_name;
      uint32_t tp_name_len;
      uint64_t cookie;
    } raw_tracepoint;
    struct {
      uint32_t attach_type;
      uint32_t target_obj_id;
      uint32_t target_btf_id;
      uint64_t cookie;
    } tracing;
    struct {
      uint64_t cgroup_id;
      uint32_t attach_type;
    } cgroup;
    struct {
      uint64_t target_name;
      uint32_t target_name_len;
      union {
        struct {
          uint32_t map_id;
        } map;
      };
      union {
        struct {
          uint64_t cgroup_id;
          uint32_t order;
        } cgroup;
        struct {
          uint32_t tid;
          uint32_t pid;
        } task;
      };
    } iter;
    struct {
      uint32_t netns_ino;
      uint32_t attach_type;
    } netns;
    struct {
      uint32_t ifindex;
    } xdp;
    struct {
      uint32_t map_id;
    } struct_ops;
    struct {
      uint32_t pf;
      uint32_t hooknum;
      int32_t priority;
      uint32_t flags;
    } netfilter;
    struct {
      uint64_t addrs;
      uint32_t count;
      uint32_t flags;
      uint64_t missed;
      uint64_t cookies;
    } kprobe_multi;
    struct {
      uint64_t path;
      uint64_t offsets;
      uint64_t ref_ctr_offsets;
      uint64_t cookies;
      uint32_t path_size;
      uint32_t count;
      uint32_t flags;
      uint32_t pid;
    } uprobe_multi;
    struct {
      uint32_t type;
      union {
        struct {
          uint64_t file_name;
          uint32_t name_len;
          uint32_t offset;
          uint64_t cookie;
          uint64_t ref_ctr_offset;
        } uprobe;
        struct {
          uint64_t func_name;
          uint32_t name_len;
          uint32_t offset;
          uint64_t addr;
          uint64_t missed;
          uint64_t cookie;
        } kprobe;
        struct {
          uint64_t tp_name;
          uint32_t name_len;
          uint64_t cookie;
        } tracepoint;
        struct {
          uint64_t config;
          uint32_t type;
          uint64_t cookie;
        } event;
      };
    } perf_event;
    struct {
      uint32_t ifindex;
      uint32_t attach_type;
    } tcx;
    struct {
      uint32_t ifindex;
      uint32_t attach_type;
    } netkit;
    struct {
      uint32_t map_id;
      uint32_t attach_type;
    } sockmap;
  };
};

struct bpf_btf_info {
  uint64_t btf;
  uint32_t btf_size;
  uint32_t id;
  uint64_t name;
  uint32_t name_len;
  uint32_t kernel_btf;
};

// Records of func_info, line_info and core_relos of BPF_PROG_LOAD.
struct bpf_func_info {
  uint32_t insn_off;
  uint32_t type_id;
};

struct bpf_line_info {
  uint32_t insn_off;
  uint32_t file_name_off;
  uint32_t line_off;
  uint32_t line_col;  // line << 10 | column
};

struct bpf_core_relo {
  uint32_t insn_off;
  uint32_t type_id;
  uint32_t access_str_off;
  uint32_t kind;
};

// What each version added to them.
enum class InfoStruct : uint8_t { map, prog, btf, link };
enum class InfoPart : uint8_t {
#define INFO_PART(of, name, begin, end, since, evidence) of##_##name,
#include "uapi/info_parts.def"
#undef INFO_PART
};

struct InfoPartRow {
  InfoStruct of;
  uint16_t begin, end;
  Version since;
  Evidence evidence;
};

inline constexpr InfoPartRow kInfoParts[] = {
#define INFO_PART(of, name, begin, end, since, evidence) \
  {InfoStruct::of, begin, end, Version::parse(since).value(), Evidence::evidence},
#include "uapi/info_parts.def"
#undef INFO_PART
};

constexpr bool tells(InfoPart part, Version version) { return kInfoParts[size_t(part)].since <= version; }

// The struct's size on that version, which is what info_len comes back as; 0: it has none.
constexpr uint32_t info_size(InfoStruct of, Version version) {
  uint32_t size = 0;
  for (const InfoPartRow& row : kInfoParts)
    if (row.of == of && row.since <= version) size = std::max<uint32_t>(size, row.end);
  return (size + 7) / 8 * 8;
}

static_assert(info_size(InfoStruct::map, kLatest) == sizeof(bpf_map_info));
static_assert(info_size(InfoStruct::prog, kLatest) == sizeof(bpf_prog_info));
static_assert(info_size(InfoStruct::btf, kLatest) == sizeof(bpf_btf_info));
static_assert(info_size(InfoStruct::link, kLatest) == sizeof(bpf_link_info));
static_assert(offsetof(bpf_map_info, ifindex) == 40 && offsetof(bpf_map_info, btf_id) == 64);
static_assert(offsetof(bpf_prog_info, ifindex) == 80 && offsetof(bpf_prog_info, nr_jited_ksyms) == 104);
static_assert(offsetof(bpf_prog_info, btf_id) == 128 && offsetof(bpf_prog_info, run_time_ns) == 192);
static_assert(offsetof(bpf_prog_info, verified_insns) == 216 && offsetof(bpf_btf_info, name) == 16);
static_assert(sizeof(bpf_prog_info) == 232 && offsetof(bpf_prog_info, name) == 64);
static_assert(offsetof(bpf_prog_info, netns_dev) == 88 && offsetof(bpf_prog_info, attach_btf_id) == 224);
static_assert(sizeof(bpf_map_info) == 104 && offsetof(bpf_map_info, name) == 24);
static_assert(offsetof(bpf_map_info, map_extra) == 80 && offsetof(bpf_map_info, hash_size) == 96);
static_assert(sizeof(bpf_link_info) == 64 && offsetof(bpf_link_info, xdp) == 16);
static_assert(sizeof(bpf_btf_info) == 32 && offsetof(bpf_btf_info, kernel_btf) == 28);
static_assert(sizeof(bpf_func_info) == 8 && sizeof(bpf_line_info) == 16 && sizeof(bpf_core_relo) == 16);

}  // namespace bpfsim
