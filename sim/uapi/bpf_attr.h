// Models: include/uapi/linux/bpf.h (Linux 6.18), union bpf_attr
//
// The argument of bpf(2), in the kernel's own layout, so that the same bytes serve the simulator and a live
// kernel. Each command reads its own member; a pointer is a 64-bit number, the address in the calling
// process. How many of the bytes a command may set, and how large the union was on an older version, say
// tables.h.
//
// Departs from the kernel: a fresh bpf_attr is all zero, because a syscall refuses what unused bytes hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace bpfsim {

union bpf_attr {
  bpf_attr() { std::memset(static_cast<void*>(this), 0, sizeof *this); }

  // BPF_MAP_CREATE
  struct {
    uint32_t map_type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t map_flags;
    uint32_t inner_map_fd;
    uint32_t numa_node;
    char map_name[16];
    uint32_t map_ifindex;
    uint32_t btf_fd;
    uint32_t btf_key_type_id;
    uint32_t btf_value_type_id;
    uint32_t btf_vmlinux_value_type_id;
    uint64_t map_extra;
    int32_t value_type_btf_obj_fd;
    int32_t map_token_fd;
    uint64_t excl_prog_hash;
    uint32_t excl_prog_hash_size;
  };
  // BPF_MAP_*_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_MAP_FREEZE
  struct {
    uint32_t map_fd;
    uint64_t key;
    union {
      uint64_t value;
      uint64_t next_key;
    };
    uint64_t flags;
  };
  // BPF_MAP_*_BATCH
  struct {
    uint64_t in_batch;
    uint64_t out_batch;
    uint64_t keys;
    uint64_t values;
    uint32_t count;
    uint32_t map_fd;
    uint64_t elem_flags;
    uint64_t flags;
  } batch;
  // BPF_PROG_LOAD
  struct {
    uint32_t prog_type;
    uint32_t insn_cnt;
    uint64_t insns;
    uint64_t license;
    uint32_t log_level;
    uint32_t log_size;
    uint64_t log_buf;
    uint32_t kern_version;
    uint32_t prog_flags;
    char prog_name[16];
    uint32_t prog_ifindex;
    uint32_t expected_attach_type;
    uint32_t prog_btf_fd;
    uint32_t func_info_rec_size;
    uint64_t func_info;
    uint32_t func_info_cnt;
    uint32_t line_info_rec_size;
    uint64_t line_info;
    uint32_t line_info_cnt;
    uint32_t attach_btf_id;
    union {
      uint32_t attach_prog_fd;
      uint32_t attach_btf_obj_fd;
    };
    uint32_t core_relo_cnt;
    uint64_t fd_array;
    uint64_t core_relos;
    uint32_t core_relo_rec_size;
    uint32_t log_true_size;
    int32_t prog_token_fd;
    uint32_t fd_array_cnt;
    uint64_t signature;
    uint32_t signature_size;
    int32_t keyring_id;
  };
  // BPF_OBJ_PIN, BPF_OBJ_GET
  struct {
    uint64_t pathname;
    uint32_t bpf_fd;
    uint32_t file_flags;
    int32_t path_fd;
  };
  // BPF_PROG_ATTACH, BPF_PROG_DETACH
  struct {
    union {
      uint32_t target_fd;
      uint32_t target_ifindex;
    };
    uint32_t attach_bpf_fd;
    uint32_t attach_type;
    uint32_t attach_flags;
    uint32_t replace_bpf_fd;
    union {
      uint32_t relative_fd;
      uint32_t relative_id;
    };
    uint64_t expected_revision;
  };
  // BPF_PROG_TEST_RUN
  struct {
    uint32_t prog_fd;
    uint32_t retval;
    uint32_t data_size_in;
    uint32_t data_size_out;
    uint64_t data_in;
    uint64_t data_out;
    uint32_t repeat;
    uint32_t duration;
    uint32_t ctx_size_in;
    uint32_t ctx_size_out;
    uint64_t ctx_in;
    uint64_t ctx_out;
    uint32_t flags;
    uint32_t cpu;
    uint32_t batch_size;
  } test;
  // BPF_*_GET_NEXT_ID, BPF_*_GET_FD_BY_ID
  struct {
    union {
      uint32_t start_id;
      uint32_t prog_id;
      uint32_t map_id;
      uint32_t btf_id;
      uint32_t link_id;
    };
    uint32_t next_id;
    uint32_t open_flags;
    int32_t fd_by_id_token_fd;
  };
  // BPF_OBJ_GET_INFO_BY_FD
  struct {
    uint32_t bpf_fd;
    uint32_t info_len;
    uint64_t info;
  } info;
  // BPF_PROG_QUERY
  struct {
    union {
      uint32_t target_fd;
      uint32_t target_ifindex;
    };
    uint32_t attach_type;
    uint32_t query_flags;
    uint32_t attach_flags;
    uint64_t prog_ids;
    union {
      uint32_t prog_cnt;
      uint32_t count;
    };
    uint64_t prog_attach_flags;
    uint64_t link_ids;
    uint64_t link_attach_flags;
    uint64_t revision;
  } query;
  // BPF_RAW_TRACEPOINT_OPEN
  struct {
    uint64_t name;
    uint32_t prog_fd;
    uint64_t cookie;
  } raw_tracepoint;
  // BPF_BTF_LOAD
  struct {
    uint64_t btf;
    uint64_t btf_log_buf;
    uint32_t btf_size;
    uint32_t btf_log_size;
    uint32_t btf_log_level;
    uint32_t btf_log_true_size;
    uint32_t btf_flags;
    int32_t btf_token_fd;
  };
  // BPF_TASK_FD_QUERY
  struct {
    uint32_t pid;
    uint32_t fd;
    uint32_t flags;
    uint32_t buf_len;
    uint64_t buf;
    uint32_t prog_id;
    uint32_t fd_type;
    uint64_t probe_offset;
    uint64_t probe_addr;
  } task_fd_query;
  // BPF_LINK_CREATE
  struct {
    union {
      uint32_t prog_fd;
      uint32_t map_fd;
    };
    union {
      uint32_t target_fd;
      uint32_t target_ifindex;
    };
    uint32_t attach_type;
    uint32_t flags;
    union {
      uint32_t target_btf_id;
      struct {
        uint64_t iter_info;
        uint32_t iter_info_len;
      };
      struct {
        uint64_t bpf_cookie;
      } perf_event;
      struct {
        uint32_t flags;
        uint32_t cnt;
        uint64_t syms;
        uint64_t addrs;
        uint64_t cookies;
      } kprobe_multi;
      struct {
        uint32_t target_btf_id;
        uint64_t cookie;
      } tracing;
      struct {
        uint32_t pf;
        uint32_t hooknum;
        int32_t priority;
        uint32_t flags;
      } netfilter;
      struct {
        union {
          uint32_t relative_fd;
          uint32_t relative_id;
        };
        uint64_t expected_revision;
      } tcx;
      struct {
        uint64_t path;
        uint64_t offsets;
        uint64_t ref_ctr_offsets;
        uint64_t cookies;
        uint32_t cnt;
        uint32_t flags;
        uint32_t pid;
      } uprobe_multi;
      struct {
        union {
          uint32_t relative_fd;
          uint32_t relative_id;
        };
        uint64_t expected_revision;
      } netkit;
      struct {
        union {
          uint32_t relative_fd;
          uint32_t relative_id;
        };
        uint64_t expected_revision;
      } cgroup;
    };
  } link_create;
  // BPF_LINK_UPDATE
  struct {
    uint32_t link_fd;
    union {
      uint32_t new_prog_fd;
      uint32_t new_map_fd;
    };
    uint32_t flags;
    union {
      uint32_t old_prog_fd;
      uint32_t old_map_fd;
    };
  } link_update;
  // BPF_LINK_DETACH
  struct {
    uint32_t link_fd;
  } link_detach;
  // BPF_ENABLE_STATS
  struct {
    uint32_t type;
  } enable_stats;
  // BPF_ITER_CREATE
  struct {
    uint32_t link_fd;
    uint32_t flags;
  } iter_create;
  // BPF_PROG_BIND_MAP
  struct {
    uint32_t prog_fd;
    uint32_t map_fd;
    uint32_t flags;
  } prog_bind_map;
  // BPF_TOKEN_CREATE
  struct {
    uint32_t flags;
    uint32_t bpffs_fd;
  } token_create;
  // BPF_PROG_STREAM_READ_BY_FD
  struct {
    uint64_t stream_buf;
    uint32_t stream_buf_len;
    uint32_t stream_id;
    uint32_t prog_fd;
  } prog_stream_read;
};

static_assert(alignof(uint64_t) == 8, "the kernel's __aligned_u64");
static_assert(sizeof(bpf_attr) == 168 && std::is_trivially_copyable_v<bpf_attr>);
#define BPF_ATTR_AT(field, at) static_assert(offsetof(bpf_attr, field) == at)
BPF_ATTR_AT(map_name, 28);
BPF_ATTR_AT(map_extra, 64);
BPF_ATTR_AT(excl_prog_hash_size, 88);
BPF_ATTR_AT(flags, 24);
BPF_ATTR_AT(batch.flags, 48);
BPF_ATTR_AT(prog_name, 48);
BPF_ATTR_AT(fd_array, 120);
BPF_ATTR_AT(log_true_size, 140);
BPF_ATTR_AT(keyring_id, 164);
BPF_ATTR_AT(path_fd, 16);
BPF_ATTR_AT(expected_revision, 24);
BPF_ATTR_AT(test.batch_size, 72);
BPF_ATTR_AT(fd_by_id_token_fd, 12);
BPF_ATTR_AT(info.info, 8);
BPF_ATTR_AT(query.revision, 56);
BPF_ATTR_AT(raw_tracepoint.cookie, 16);
BPF_ATTR_AT(btf_token_fd, 36);
BPF_ATTR_AT(task_fd_query.probe_addr, 40);
BPF_ATTR_AT(link_create.uprobe_multi.pid, 56);
BPF_ATTR_AT(link_update.old_prog_fd, 12);
BPF_ATTR_AT(prog_stream_read.prog_fd, 16);
#undef BPF_ATTR_AT

}  // namespace bpfsim
