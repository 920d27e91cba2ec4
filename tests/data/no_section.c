// A program whose author forgot SEC("xdp"): it lands in .text.
#include "bpfsim.h"

int forgotten(struct xdp_md *ctx) {
  return XDP_PASS;
}

LICENSE("GPL");
