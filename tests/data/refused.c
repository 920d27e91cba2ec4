// Reads a packet without asking where it ends: the verifier refuses it and shows the line.
#include "bpfsim.h"

SEC("xdp")
int careless(struct xdp_md* ctx) {
  struct ethhdr* eth = (void*)(long)ctx->data;
  return eth->h_proto == bpf_htons(ETH_P_ARP) ? XDP_DROP : XDP_PASS;
}

LICENSE("GPL");
