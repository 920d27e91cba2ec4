/* What a BCC program may use without naming it: kernel types and byte order under the kernel's own names.
 * Included before the learner's text by bpfsim.bcc; tables and their methods are the translator's
 * (bcc/dialect.py). */
#pragma once
#include "../bpfsim.h"

typedef __u8 u8, uint8_t, u_char;
typedef __u16 u16, uint16_t;
typedef __u32 u32, uint32_t, u_int;
typedef __u64 u64, uint64_t;
typedef __s8 s8, int8_t;
typedef __s16 s16, int16_t;
typedef __s32 s32, int32_t, pid_t;
typedef __s64 s64, int64_t, ssize_t;
typedef unsigned long size_t, uintptr_t;
typedef _Bool bool;
#define true 1
#define false 0

#define htons(x) bpf_htons(x)
#define ntohs(x) bpf_ntohs(x)
#define htonl(x) bpf_htonl(x)
#define ntohl(x) bpf_ntohl(x)
#define __constant_htons(x) bpf_htons(x)
#define __constant_ntohs(x) bpf_ntohs(x)
#define __constant_htonl(x) bpf_htonl(x)
#define __constant_ntohl(x) bpf_ntohl(x)
#define cpu_to_be16(x) bpf_htons(x)
#define be16_to_cpu(x) bpf_ntohs(x)
#define cpu_to_be32(x) bpf_htonl(x)
#define be32_to_cpu(x) bpf_ntohl(x)

#define lock_xadd(pointer, value) ((void)__sync_fetch_and_add(pointer, value))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define memcpy(to, from, size) __builtin_memcpy(to, from, size)
#define memset(to, byte, size) __builtin_memset(to, byte, size)
#define __maybe_unused __attribute__((unused))
#define __packed __attribute__((packed))

#ifndef ETH_HLEN
#define ETH_HLEN 14
#endif
struct vlan_hdr {
  __be16 h_vlan_TCI, h_vlan_encapsulated_proto;
};

/* The place of the highest bit; bpf_log2l, which histograms use, counts from 1. */
static inline unsigned int bpf_log2(unsigned int v) { return v ? 31 - __builtin_clz(v) : 0; }
static inline unsigned int bpf_log2l(unsigned long v) {
  return 1 + (v >> 32 ? 32 + bpf_log2(v >> 32) : bpf_log2(v));
}
