// Drops UDP packets to the ports that user space puts into a map, and counts each verdict.
#include "bpfsim.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 64);
  __type(key, __u16);
  __type(value, __u64);
} blocked_ports SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 5);
  __type(key, __u32);
  __type(value, __u64);
} verdicts SEC(".maps");

static __always_inline int count(__u32 verdict) {
  __u64* packets = bpf_map_lookup_elem(&verdicts, &verdict);
  if (packets) *packets += 1;
  return verdict;
}

SEC("xdp")
int xdp_drop(struct xdp_md* ctx) {
  void *data = (void*)(long)ctx->data, *data_end = (void*)(long)ctx->data_end;
  struct ethhdr* eth = data;
  struct iphdr* ip = data + sizeof(*eth);
  struct udphdr* udp = data + sizeof(*eth) + sizeof(*ip);
  if ((void*)(udp + 1) > data_end) return count(XDP_PASS);
  if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
    return count(XDP_PASS);

  __u16 port = bpf_ntohs(udp->dest);
  __u64* dropped = bpf_map_lookup_elem(&blocked_ports, &port);
  if (!dropped) return count(XDP_PASS);
  __sync_fetch_and_add(dropped, 1);
  return count(XDP_DROP);
}

LICENSE("GPL");
