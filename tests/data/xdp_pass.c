#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

SEC("xdp")
int pass(struct xdp_md* ctx) { return XDP_PASS; }

char _license[] SEC("license") = "GPL";
