// Calls a kernel function that is defined nowhere in this file.
#include "bpfsim.h"

extern void bpf_rcu_read_lock(void) __attribute__((section(".ksyms")));

SEC("tc")
int externs(struct __sk_buff* skb) {
  bpf_rcu_read_lock();
  return 0;
}

LICENSE("GPL");
