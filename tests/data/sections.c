// One program per kind of section.
#include "bpfsim.h"

SEC("socket") int socket_filter(struct __sk_buff* skb) { return 0; }
SEC("tc") int tc_main(struct __sk_buff* skb) { return TC_ACT_OK; }
SEC("tcx/ingress") int tcx_in(struct __sk_buff* skb) { return 0; }
SEC("xdp.frags") int frags(struct xdp_md* ctx) { return XDP_PASS; }
SEC("xdp/devmap") int devmap(struct xdp_md* ctx) { return XDP_PASS; }
SEC("kprobe/do_nanosleep") int probe(void* ctx) { return 0; }
SEC("tracepoint/syscalls/sys_enter_openat") int point(void* ctx) { return 0; }
SEC("cgroup_skb/egress") int egress(struct __sk_buff* skb) { return 1; }
SEC("cgroup/connect4") int connect4(void* ctx) { return 1; }
SEC("syscall") int sleeps(void* ctx) { return 0; }
SEC("?raw_tp/sched_switch") int only_if_asked(void* ctx) { return 0; }

LICENSE("GPL");
