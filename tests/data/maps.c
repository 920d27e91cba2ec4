// The ways to define a map.
#include "bpfsim.h"

struct flow {
  __u32 source, target;
  __u16 port;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 128);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct flow);
  __type(value, __u64[2]);
} flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, 24);
  __uint(max_entries, 3);
} a_map_with_a_name_too_long SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_QUEUE);
  __uint(max_entries, 16);
  __type(value, __u32);
} queue SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 3000);
} events SEC(".maps");

struct inner {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4);
  __type(key, __u32);
  __type(value, __u64);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 4);
  __type(key, __u32);
  __array(values, struct inner);
} outer SEC(".maps") = {.values = {[1] = &inner_a, [3] = &inner_b}};

int target(struct xdp_md* ctx);
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 2);
  __uint(key_size, sizeof(__u32));
  __array(values, int(struct xdp_md*));
} jumps SEC(".maps") = {.values = {[1] = &target}};

SEC("xdp")
int target(struct xdp_md* ctx) { return XDP_TX; }

SEC("xdp")
int entry(struct xdp_md* ctx) {
  struct flow key = {1, 2, 3};
  __u64 value[2] = {4, 5};
  __u32 one = 1;
  bpf_map_update_elem(&flows, &key, value, BPF_ANY);
  bpf_map_push_elem(&queue, &one, 0);
  bpf_map_lookup_elem(&a_map_with_a_name_too_long, &one);
  void* inner = bpf_map_lookup_elem(&outer, &one);
  if (inner) bpf_map_lookup_elem(inner, &one);
  __u32* event = bpf_ringbuf_reserve(&events, 4, 0);
  if (event) {
    *event = one;
    bpf_ringbuf_submit(event, 0);
  }
  bpf_tail_call(ctx, &jumps, one);
  return XDP_PASS;
}

LICENSE("GPL");
