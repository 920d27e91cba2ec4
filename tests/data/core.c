// A CO-RE relocation: the offset of a member is to be found in the kernel's own BTF.
#include "bpfsim.h"

struct task_struct {
  int pid;
} __attribute__((preserve_access_index));

SEC("raw_tp/sched_switch")
int core(__u64* ctx) {
  struct task_struct* task = (void*)ctx[1];
  int pid = 0;
  bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
  return pid;
}

LICENSE("GPL");
