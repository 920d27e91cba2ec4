// Models: kernel/bpf/helpers.c, kernel/bpf/core.c (helpers about time, chance, CPU and task) (Linux 6.18)
//
// Time is the machine's simulated clock, chance its seeded generator, and the current task whatever context
// runs the program: none when a packet arrives on an idle CPU. The kernel has its idle task then (pid 0,
// uid 0, "swapper/0"), and so do these.
#include <algorithm>
#include <cstring>

#include "object/file.h"
#include "run/helpers/call.h"

namespace bpfsim {

BPF_CALL_0(bpf_ktime_get_ns) { return machine.clock.now_ns; }

const FuncProto bpf_ktime_get_ns_proto = {.func = bpf_ktime_get_ns, .ret_type = RET_INTEGER};

// The machine never sleeps, so time since boot is the same number.
BPF_CALL_0(bpf_ktime_get_boot_ns) { return machine.clock.now_ns; }

const FuncProto bpf_ktime_get_boot_ns_proto = {.func = bpf_ktime_get_boot_ns, .ret_type = RET_INTEGER};

constexpr uint64_t HZ = 250;
constexpr uint64_t kTick = 1'000'000'000 / HZ;

// As of the last tick.
BPF_CALL_0(bpf_ktime_get_coarse_ns) { return machine.clock.now_ns / kTick * kTick; }

const FuncProto bpf_ktime_get_coarse_ns_proto = {.func = bpf_ktime_get_coarse_ns, .ret_type = RET_INTEGER};

// Ticks. The counter starts five minutes before it overflows 32 bits, as Linux starts it.
BPF_CALL_0(bpf_jiffies64) { return (1ull << 32) - 300 * HZ + machine.clock.now_ns / kTick; }

const FuncProto bpf_jiffies64_proto = {.func = bpf_jiffies64, .ret_type = RET_INTEGER};

// International atomic time: wall time, whose offset from it is 0 until somebody sets it.
BPF_CALL_0(bpf_ktime_get_tai_ns) { return machine.clock.now_ns + machine.clock.realtime_offset_ns; }

const FuncProto bpf_ktime_get_tai_ns_proto = {.func = bpf_ktime_get_tai_ns, .ret_type = RET_INTEGER};

BPF_CALL_0(bpf_get_prandom_u32) { return machine.random.u32(); }

const FuncProto bpf_get_prandom_u32_proto = {.func = bpf_get_prandom_u32, .ret_type = RET_INTEGER};

BPF_CALL_0(bpf_get_smp_processor_id) { return machine.current->cpu; }

const FuncProto bpf_get_smp_processor_id_proto = {
    .func = bpf_get_smp_processor_id, .allow_fastcall = true, .ret_type = RET_INTEGER};

BPF_CALL_0(bpf_get_numa_node_id) { return 0; }  // one node

const FuncProto bpf_get_numa_node_id_proto = {.func = bpf_get_numa_node_id, .ret_type = RET_INTEGER};

BPF_CALL_0(bpf_get_current_pid_tgid) {
  uint64_t pid = uint32_t(machine.current->pid);  // one thread per process: pid and tgid are one number
  return pid << 32 | pid;
}

const FuncProto bpf_get_current_pid_tgid_proto = {.func = bpf_get_current_pid_tgid, .ret_type = RET_INTEGER};

BPF_CALL_0(bpf_get_current_uid_gid) {
  uint64_t uid = machine.current->cred ? machine.current->cred->uid : 0;
  return uid << 32 | uid;  // the group of a user has the user's number
}

const FuncProto bpf_get_current_uid_gid_proto = {.func = bpf_get_current_uid_gid, .ret_type = RET_INTEGER};

BPF_CALL_2(bpf_get_current_comm, buf, size) {
  uint8_t* to = program_memory(machine, buf, uint32_t(size), BPF_WRITE);
  if (!to || uint32_t(size) == 0) return 0;
  constexpr size_t TASK_COMM_LEN = 16;
  std::string comm =
      machine.current->task ? machine.current->task->comm : "swapper/" + std::to_string(machine.current->cpu);
  size_t length = std::min({comm.size(), TASK_COMM_LEN - 1, size_t(uint32_t(size)) - 1});
  std::memset(to, 0, uint32_t(size));
  std::memcpy(to, comm.data(), length);
  return 0;
}

const FuncProto bpf_get_current_comm_proto = {
    .func = bpf_get_current_comm,
    .ret_type = RET_INTEGER,
    .arg_type = {ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE},
};

}  // namespace bpfsim
