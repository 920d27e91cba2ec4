// Calls: static and global functions in .text, one that calls another, a callback, two programs in one
// section.
#include "bpfsim.h"

__u64 sum;

static __noinline int leaf(int x) {
  sum += x;
  return x * 3;
}

__noinline int global_middle(int x) { return leaf(x) + leaf(x + 1); }

static __noinline int unused_by_second(int x) { return global_middle(x) - 1; }

static long add_index(__u32 index, void* data) {
  *(__u64*)data += index;
  return 0;
}

SEC("xdp")
int first(struct xdp_md* ctx) {
  int length = ctx->data_end - ctx->data;
  return unused_by_second(length) > 10 ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int second(struct xdp_md* ctx) {
  __u64 total = 0;
  bpf_loop(10, add_index, &total, 0);
  return leaf(total) == 135 ? XDP_PASS : XDP_DROP;
}

LICENSE("GPL");
