// As examples were written before BTF: struct bpf_map_def in "maps", a version, no debug information.
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

struct bpf_map_def SEC("maps") counters = {
    .type = BPF_MAP_TYPE_ARRAY, .key_size = sizeof(__u32), .value_size = sizeof(__u64), .max_entries = 2};

struct bpf_map_def SEC("maps") seen = {
    .type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 8, .map_flags = 1};

SEC("xdp1")
int xdp_prog1(struct xdp_md* ctx) {
  __u32 key = 1, mark = 9;
  __u64* value = bpf_map_lookup_elem(&counters, &key);
  if (value) __sync_fetch_and_add(value, 1);
  bpf_map_update_elem(&seen, &key, &mark, BPF_ANY);
  return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
__u32 _version SEC("version") = 0x040e00;
