/* bpfsim.h: all that the lessons' C programs need, and no kernel header. Types, contexts and constants have the
 * kernel's names and layout; the helpers come from bpfsim_helpers.h. Compile with
 *   clang -target bpf -g -O2 -I <this folder> -c prog.c -o prog.o
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16, __le16, __sum16;
typedef __u32 __be32, __le32, __wsum;
typedef __u64 __be64, __le64;

#if !defined(bool) && __STDC_VERSION__ < 202311L
typedef _Bool bool;
enum { false, true };
#endif
#ifndef NULL
#define NULL ((void *)0)
#endif

/* A program is a function in a section whose name says its type: SEC("xdp"). */
#define SEC(name) __attribute__((section(name), used))
#define LICENSE(text) char _license[] SEC("license") = text
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __weak __attribute__((weak))
#define __hidden __attribute__((visibility("hidden")))
#define barrier() asm volatile("" ::: "memory")
#define offsetof(type, member) __builtin_offsetof(type, member)

/* A map is a global variable in .maps whose *type* is the definition. */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]
enum libbpf_pin_type { LIBBPF_PIN_NONE, LIBBPF_PIN_BY_NAME };

/* The old form, a struct of numbers in "maps". */
struct bpf_map_def {
  unsigned int type, key_size, value_size, max_entries, map_flags;
};

#include "bpfsim_types.h"

enum { BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2, BPF_F_LOCK = 4 };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_RDONLY_PROG = 1 << 7, BPF_F_WRONLY_PROG = 1 << 8, BPF_F_MMAPABLE = 1 << 10 };
enum { BPF_F_CURRENT_CPU = 0xffffffffULL, BPF_F_INGRESS = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };

/* XDP */
enum xdp_action { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
struct xdp_md {
  __u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

/* Traffic control, sockets */
enum { TC_ACT_UNSPEC = -1, TC_ACT_OK = 0, TC_ACT_SHOT = 2, TC_ACT_REDIRECT = 7 };
struct __sk_buff {
  __u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
  __u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id;
  __u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port;
  __u32 data_meta;
  union {
    void *flow_keys;
    __u64 : 64;
  } __attribute__((aligned(8)));
  __u64 tstamp;
  __u32 wire_len, gso_segs;
  union {
    void *sk;
    __u64 : 64;
  } __attribute__((aligned(8)));
  __u32 gso_size;
  __u8 tstamp_type;
  __u32 : 24;
  __u64 hwtstamp;
};

/* Packets */
#define ETH_ALEN 6
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86DD
struct ethhdr {
  unsigned char h_dest[ETH_ALEN], h_source[ETH_ALEN];
  __be16 h_proto;
} __attribute__((packed));
enum { IPPROTO_IP = 0, IPPROTO_ICMP = 1, IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_IPV6 = 41, IPPROTO_ICMPV6 = 58 };
struct iphdr {
  __u8 ihl : 4, version : 4;
  __u8 tos;
  __be16 tot_len, id, frag_off;
  __u8 ttl, protocol;
  __sum16 check;
  __be32 saddr, daddr;
};
struct in6_addr {
  union {
    __u8 u6_addr8[16];
    __be16 u6_addr16[8];
    __be32 u6_addr32[4];
  } in6_u;
};
struct ipv6hdr {
  __u8 priority : 4, version : 4;
  __u8 flow_lbl[3];
  __be16 payload_len;
  __u8 nexthdr, hop_limit;
  struct in6_addr saddr, daddr;
};
struct udphdr {
  __be16 source, dest, len;
  __sum16 check;
};
struct tcphdr {
  __be16 source, dest;
  __be32 seq, ack_seq;
  __u16 res1 : 4, doff : 4, fin : 1, syn : 1, rst : 1, psh : 1, ack : 1, urg : 1, ece : 1, cwr : 1;
  __be16 window;
  __sum16 check;
  __be16 urg_ptr;
};
struct icmphdr {
  __u8 type, code;
  __sum16 checksum;
  __be32 rest;
};

/* BPF is compiled for little-endian machines here: network order is the other way round. */
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_cpu_to_be64(x) __builtin_bswap64(x)
#define bpf_be64_to_cpu(x) __builtin_bswap64(x)

#include "bpfsim_helpers.h"

/* bpf_printk("port %d", port): the format goes to .rodata. Define BPF_NO_GLOBAL_DATA for kernels before 5.2. */
#ifdef BPF_NO_GLOBAL_DATA
#define BPF_PRINTK_FORMAT char
#else
#define BPF_PRINTK_FORMAT static const char
#endif
#define bpf_printk(text, args...)                              \
  ({                                                           \
    BPF_PRINTK_FORMAT printk_format[] = text;                  \
    bpf_trace_printk(printk_format, sizeof(printk_format), ##args); \
  })
