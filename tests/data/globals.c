// Variables: constants in .rodata, values in .data, zeroes in .bss, a format string.
#include "bpfsim.h"

const volatile __u32 limit = 7;
const volatile char label[8] = "drops";
__u64 packets = 100;
static volatile __u32 secret = 5;
__u32 last_length;
__u64 history[4];

SEC("xdp")
int globals(struct xdp_md* ctx) {
  __u32 length = ctx->data_end - ctx->data;
  packets += secret;
  last_length = length;
  history[length & 3] = packets;
  secret = length;
  if (length > limit) bpf_printk("%d bytes", length);
  return label[0] == 'd' ? XDP_PASS : XDP_ABORTED;
}

LICENSE("Dual MIT/GPL");
