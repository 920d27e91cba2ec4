// Models: include/uapi/linux/bpf.h (Linux 6.18)
//
// The names and numbers of the syscall's vocabulary. Each enum is made from the rows of its .def file, which
// also make the tables of tables.h, so that a name and its number stand in one place. The flags that go with
// them follow. Departs from the kernel's header: constants are typed instead of macros, opcodes live in isa/,
// structs in bpf_attr.h, info.h and context.h, and limits that the kernel keeps to itself (linux/bpf.h,
// linux/filter.h) stand at the end.
#pragma once

#include <cstdint>

namespace bpfsim {

enum bpf_cmd : uint32_t {
#define COMMAND(name, number, since) name = number,
#include "uapi/commands.def"
#undef COMMAND
  BPF_PROG_RUN = BPF_PROG_TEST_RUN,  // its second name, since 5.14
  MAX_BPF_CMD = BPF_PROG_STREAM_READ_BY_FD + 1,
};

enum bpf_map_type : uint32_t {
  BPF_MAP_TYPE_UNSPEC = 0,
#define MAP_TYPE(name, number, since) name = number,
#include "uapi/map_types.def"
#undef MAP_TYPE
  BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED = BPF_MAP_TYPE_CGROUP_STORAGE,
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED = BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
  MAX_BPF_MAP_TYPE = BPF_MAP_TYPE_ARENA + 1,
};

enum bpf_prog_type : uint32_t {
  BPF_PROG_TYPE_UNSPEC = 0,
#define PROG_TYPE(name, number, since, context, ops, capabilities) name = number,
#include "uapi/prog_types.def"
#undef PROG_TYPE
  MAX_BPF_PROG_TYPE = BPF_PROG_TYPE_NETFILTER + 1,
};

enum bpf_attach_type : uint32_t {
#define ATTACH_TYPE(name, number, since, prog_type) name = number,
#include "uapi/attach_types.def"
#undef ATTACH_TYPE
  MAX_BPF_ATTACH_TYPE = BPF_TRACE_UPROBE_SESSION + 1,
};

enum bpf_link_type : uint32_t {
  BPF_LINK_TYPE_UNSPEC = 0,
#define LINK_TYPE(name, number, since) name = number,
#include "uapi/link_types.def"
#undef LINK_TYPE
  MAX_BPF_LINK_TYPE = BPF_LINK_TYPE_SOCKMAP + 1,
};

enum bpf_func_id : int32_t {
  BPF_FUNC_unspec = 0,
#define HELPER(name, number, since, gpl_only, signature) BPF_FUNC_##name = number,
#include "uapi/helpers.def"
#undef HELPER
  BPF_FUNC_MAX_ID = BPF_FUNC_cgrp_storage_delete + 1,  // the kernel's __BPF_FUNC_MAX_ID
};

// BPF_MAP_UPDATE_ELEM and bpf_map_update_elem(): flags of one update.
inline constexpr uint64_t BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2, BPF_F_LOCK = 4;

// BPF_MAP_CREATE: map_flags. BPF_F_RDONLY, BPF_F_WRONLY and BPF_F_PATH_FD also serve as file_flags.
#define MAP_FLAG(name, bit, since) inline constexpr uint32_t name = 1u << bit;
#include "uapi/map_flags.def"
#undef MAP_FLAG

// BPF_PROG_LOAD: prog_flags.
#define PROG_FLAG(name, bit, since) inline constexpr uint32_t name = 1u << bit;
#include "uapi/prog_flags.def"
#undef PROG_FLAG

// BPF_PROG_LOAD: log_level.
inline constexpr uint32_t BPF_LOG_LEVEL1 = 1, BPF_LOG_LEVEL2 = 2, BPF_LOG_STATS = 4, BPF_LOG_FIXED = 8;
inline constexpr uint32_t BPF_LOG_LEVEL = BPF_LOG_LEVEL1 | BPF_LOG_LEVEL2;
inline constexpr uint32_t BPF_LOG_MASK = BPF_LOG_LEVEL | BPF_LOG_STATS | BPF_LOG_FIXED;

// BPF_PROG_ATTACH: attach_flags, and those of links that order themselves.
inline constexpr uint32_t BPF_F_ALLOW_OVERRIDE = 1u << 0;
inline constexpr uint32_t BPF_F_ALLOW_MULTI = 1u << 1;
inline constexpr uint32_t BPF_F_REPLACE = 1u << 2;
inline constexpr uint32_t BPF_F_BEFORE = 1u << 3;
inline constexpr uint32_t BPF_F_AFTER = 1u << 4;
inline constexpr uint32_t BPF_F_ID = 1u << 5;
inline constexpr uint32_t BPF_F_PREORDER = 1u << 6;
inline constexpr uint32_t BPF_F_QUERY_EFFECTIVE = 1u << 0;  // BPF_PROG_QUERY: query_flags

// BPF_LINK_CREATE: flags of single hooks.
inline constexpr uint32_t BPF_F_NETFILTER_IP_DEFRAG = 1u << 0;
inline constexpr uint32_t BPF_F_KPROBE_MULTI_RETURN = 1u << 0, BPF_F_UPROBE_MULTI_RETURN = 1u << 0;

// BPF_PROG_TEST_RUN: test.flags.
inline constexpr uint32_t BPF_F_TEST_RUN_ON_CPU = 1u << 0;
inline constexpr uint32_t BPF_F_TEST_XDP_LIVE_FRAMES = 1u << 1;
inline constexpr uint32_t BPF_F_TEST_SKB_CHECKSUM_COMPLETE = 1u << 2;

// What the source register field of an LD_IMM64 says that its 64 bits are, and of a CALL what its number is.
inline constexpr uint8_t BPF_PSEUDO_MAP_FD = 1, BPF_PSEUDO_MAP_VALUE = 2, BPF_PSEUDO_BTF_ID = 3;
inline constexpr uint8_t BPF_PSEUDO_FUNC = 4, BPF_PSEUDO_MAP_IDX = 5, BPF_PSEUDO_MAP_IDX_VALUE = 6;
inline constexpr uint8_t BPF_PSEUDO_CALL = 1, BPF_PSEUDO_KFUNC_CALL = 2;

// Helpers' flags: perf events and stacks, ring buffers, redirection.
inline constexpr uint64_t BPF_F_INDEX_MASK = 0xffffffffu, BPF_F_CURRENT_CPU = BPF_F_INDEX_MASK;
inline constexpr uint64_t BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2;
inline constexpr uint64_t BPF_RB_AVAIL_DATA = 0, BPF_RB_RING_SIZE = 1, BPF_RB_CONS_POS = 2,
                          BPF_RB_PROD_POS = 3;
inline constexpr uint32_t BPF_RINGBUF_BUSY_BIT = 1u << 31, BPF_RINGBUF_DISCARD_BIT = 1u << 30;
inline constexpr uint32_t BPF_RINGBUF_HDR_SZ = 8;
inline constexpr uint64_t BPF_F_INGRESS = 1, BPF_F_BROADCAST = 8, BPF_F_EXCLUDE_INGRESS = 16;

// What a program answers.
enum xdp_action : uint32_t { XDP_ABORTED = 0, XDP_DROP = 1, XDP_PASS = 2, XDP_TX = 3, XDP_REDIRECT = 4 };
enum sk_action : uint32_t { SK_DROP = 0, SK_PASS = 1 };
enum tcx_action_base : int32_t { TCX_NEXT = -1, TCX_PASS = 0, TCX_DROP = 2, TCX_REDIRECT = 7 };

enum bpf_stats_type : uint32_t { BPF_STATS_RUN_TIME = 0 };
enum bpf_stream_id : uint32_t { BPF_STDOUT = 1, BPF_STDERR = 2 };

inline constexpr uint32_t BPF_OBJ_NAME_LEN = 16;
inline constexpr uint32_t BPF_TAG_SIZE = 8;
inline constexpr uint32_t MAX_BPF_FUNC_ARGS = 12;
inline constexpr uint32_t XDP_PACKET_HEADROOM = 256;

// The kernel's own limits. Which holds on which version: gates.h.
inline constexpr uint32_t BPF_MAXINSNS = 4096;
inline constexpr uint32_t BPF_COMPLEXITY_LIMIT_INSNS = 1000000;
inline constexpr uint32_t MAX_BPF_STACK = 512;

}  // namespace bpfsim
