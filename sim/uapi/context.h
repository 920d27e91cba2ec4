// Models: include/uapi/linux/bpf.h (Linux 6.18), the contexts that programs see
//
// What R1 points to, as a program's C source declares it, and as ctx_in and ctx_out of BPF_PROG_TEST_RUN
// carry it. Pointers of the kernel's header are 64-bit numbers here on every host. Not modelled yet: the
// contexts of the other program types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bpfsim {

struct xdp_md {
  uint32_t data;
  uint32_t data_end;
  uint32_t data_meta;
  uint32_t ingress_ifindex;
  uint32_t rx_queue_index;
  uint32_t egress_ifindex;
};

// Values of maps that name a device or a CPU: a program's descriptor goes in, its id comes out.
union bpf_map_prog {
  int32_t fd;
  uint32_t id;
};
struct bpf_devmap_val {
  uint32_t ifindex;
  bpf_map_prog bpf_prog;
};
struct bpf_cpumap_val {
  uint32_t qsize;
  bpf_map_prog bpf_prog;
};

struct __sk_buff {
  uint32_t len;
  uint32_t pkt_type;
  uint32_t mark;
  uint32_t queue_mapping;
  uint32_t protocol;
  uint32_t vlan_present;
  uint32_t vlan_tci;
  uint32_t vlan_proto;
  uint32_t priority;
  uint32_t ingress_ifindex;
  uint32_t ifindex;
  uint32_t tc_index;
  uint32_t cb[5];
  uint32_t hash;
  uint32_t tc_classid;
  uint32_t data;
  uint32_t data_end;
  uint32_t napi_id;
  uint32_t family;
  uint32_t remote_ip4;
  uint32_t local_ip4;
  uint32_t remote_ip6[4];
  uint32_t local_ip6[4];
  uint32_t remote_port;
  uint32_t local_port;
  uint32_t data_meta;
  uint64_t flow_keys;
  uint64_t tstamp;
  uint32_t wire_len;
  uint32_t gso_segs;
  uint64_t sk;
  uint32_t gso_size;
  uint8_t tstamp_type;
  uint64_t hwtstamp;
};

struct bpf_sock {
  uint32_t bound_dev_if;
  uint32_t family;
  uint32_t type;
  uint32_t protocol;
  uint32_t mark;
  uint32_t priority;
  uint32_t src_ip4;
  uint32_t src_ip6[4];
  uint32_t src_port;
  uint16_t dst_port;
  uint32_t dst_ip4;
  uint32_t dst_ip6[4];
  uint32_t state;
  int32_t rx_queue_mapping;
};

struct bpf_cgroup_dev_ctx {
  uint32_t access_type;  // BPF_DEVCG_ACC_* << 16 | BPF_DEVCG_DEV_*
  uint32_t major;
  uint32_t minor;
};

struct bpf_sock_addr {
  uint32_t user_family;
  uint32_t user_ip4;
  uint32_t user_ip6[4];
  uint32_t user_port;
  uint32_t family;
  uint32_t type;
  uint32_t protocol;
  uint32_t msg_src_ip4;
  uint32_t msg_src_ip6[4];
  uint64_t sk;
};

struct bpf_sock_ops {
  uint32_t op;
  union {
    uint32_t args[4];
    uint32_t reply;
    uint32_t replylong[4];
  };
  uint32_t family;
  uint32_t remote_ip4;
  uint32_t local_ip4;
  uint32_t remote_ip6[4];
  uint32_t local_ip6[4];
  uint32_t remote_port;
  uint32_t local_port;
  uint32_t is_fullsock;
  uint32_t snd_cwnd;
  uint32_t srtt_us;
  uint32_t bpf_sock_ops_cb_flags;
  uint32_t state;
  uint32_t rtt_min;
  uint32_t snd_ssthresh;
  uint32_t rcv_nxt;
  uint32_t snd_nxt;
  uint32_t snd_una;
  uint32_t mss_cache;
  uint32_t ecn_flags;
  uint32_t rate_delivered;
  uint32_t rate_interval_us;
  uint32_t packets_out;
  uint32_t retrans_out;
  uint32_t total_retrans;
  uint32_t segs_in;
  uint32_t data_segs_in;
  uint32_t segs_out;
  uint32_t data_segs_out;
  uint32_t lost_out;
  uint32_t sacked_out;
  uint32_t sk_txhash;
  uint64_t bytes_received;
  uint64_t bytes_acked;
  uint64_t sk;
  uint64_t skb_data;
  uint64_t skb_data_end;
  uint32_t skb_len;
  uint32_t skb_tcp_flags;
  uint64_t skb_hwtstamp;
};

struct bpf_sysctl {
  uint32_t write;
  uint32_t file_pos;
};

struct bpf_sockopt {
  uint64_t sk;
  uint64_t optval;
  uint64_t optval_end;
  int32_t level;
  int32_t optname;
  int32_t optlen;
  int32_t retval;
};

struct sk_msg_md {
  uint64_t data;
  uint64_t data_end;
  uint32_t family;
  uint32_t remote_ip4;
  uint32_t local_ip4;
  uint32_t remote_ip6[4];
  uint32_t local_ip6[4];
  uint32_t remote_port;
  uint32_t local_port;
  uint32_t size;
  uint64_t sk;
};

struct sk_reuseport_md {
  uint64_t data;
  uint64_t data_end;
  uint32_t len;
  uint32_t eth_protocol;
  uint32_t ip_protocol;
  uint32_t bind_inany;
  uint32_t hash;
  uint64_t sk;
  uint64_t migrating_sk;
};

struct bpf_sk_lookup {
  union {
    uint64_t sk;
    uint64_t cookie;
  };
  uint32_t family;
  uint32_t protocol;
  uint32_t remote_ip4;
  uint32_t remote_ip6[4];
  uint16_t remote_port;
  uint32_t local_ip4;
  uint32_t local_ip6[4];
  uint32_t local_port;
  uint32_t ingress_ifindex;
};

struct bpf_perf_event_data {
  uint64_t regs[21];  // bpf_user_pt_regs_t of x86-64
  uint64_t sample_period;
  uint64_t addr;
};

struct bpf_flow_keys {
  uint16_t nhoff;
  uint16_t thoff;
  uint16_t addr_proto;
  uint8_t is_frag;
  uint8_t is_first_frag;
  uint8_t is_encap;
  uint8_t ip_proto;
  uint16_t n_proto;
  uint16_t sport;
  uint16_t dport;
  union {
    struct {
      uint32_t ipv4_src;
      uint32_t ipv4_dst;
    };
    struct {
      uint32_t ipv6_src[4];
      uint32_t ipv6_dst[4];
    };
  };
  uint32_t flags;
  uint32_t flow_label;
};

static_assert(sizeof(xdp_md) == 24 && offsetof(xdp_md, egress_ifindex) == 20);
static_assert(sizeof(__sk_buff) == 192 && offsetof(__sk_buff, cb) == 48 && offsetof(__sk_buff, data) == 76);
static_assert(offsetof(__sk_buff, flow_keys) == 144 && offsetof(__sk_buff, sk) == 168);
static_assert(offsetof(__sk_buff, tstamp_type) == 180 && offsetof(__sk_buff, hwtstamp) == 184);
static_assert(sizeof(bpf_sock) == 80 && offsetof(bpf_sock, dst_port) == 48 &&
              offsetof(bpf_sock, state) == 72);
static_assert(sizeof(bpf_sk_lookup) == 72 && offsetof(bpf_sk_lookup, ingress_ifindex) == 64);
static_assert(sizeof(bpf_cgroup_dev_ctx) == 12 && sizeof(bpf_sysctl) == 8 && sizeof(bpf_sockopt) == 40);
static_assert(sizeof(bpf_sock_addr) == 72 && offsetof(bpf_sock_addr, sk) == 64);
static_assert(sizeof(bpf_sock_ops) == 224 && offsetof(bpf_sock_ops, sk_txhash) == 164);
static_assert(sizeof(sk_msg_md) == 80 && sizeof(sk_reuseport_md) == 56);
static_assert(offsetof(bpf_perf_event_data, sample_period) == 168);
static_assert(sizeof(bpf_flow_keys) == 56 && offsetof(bpf_flow_keys, flags) == 48);

}  // namespace bpfsim
