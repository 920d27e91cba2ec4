// Models: kernel/bpf/syscall.c (bpf_enable_stats, bpf_prog_bind_map, bpf_prog_stream_read),
// kernel/bpf/stream.c (Linux 6.18)
//
// Three small commands. ENABLE_STATS gives a file: while any is open, runs are counted as with
// kernel.bpf_stats_enabled. PROG_BIND_MAP makes a program hold a map that its code does not name.
// PROG_STREAM_READ_BY_FD reads what a program wrote to its two streams: nothing, since bpf_stream_vprintk is
// not modelled yet.
#include <algorithm>

#include "syscall/bpf.h"

namespace bpfsim {

static void bpf_stats_release(File& file) {
  KFN(file.machine, bpf_stats_release);
  --file.machine.sysctl.bpf_stats_files;
}

const FileOps bpf_stats_fops = {
    .name = "bpf-stats", .release = bpf_stats_release, .show_fdinfo = nullptr, .holds = Counter::Refs};

static SysResult bpf_enable_runtime_stats(Machine& machine) {
  KFN(machine, bpf_enable_runtime_stats);
  const int64_t fd = TRY(anon_inode_getfd(machine, bpf_stats_fops, O_CLOEXEC_));
  ++machine.sysctl.bpf_stats_files;
  return fd;
}

SysResult bpf_enable_stats(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_enable_stats);
  TRY(check_attr(machine, BPF_ENABLE_STATS, attr));
  if (!capable(machine, CAP_SYS_ADMIN)) return refuse(Errno::Perm, "needs CAP_SYS_ADMIN");
  if (attr.enable_stats.type != BPF_STATS_RUN_TIME)
    return refuse(Errno::Inval, "statistics of type {}: there is only BPF_STATS_RUN_TIME, 0",
                  attr.enable_stats.type);
  return bpf_enable_runtime_stats(machine);
}

SysResult bpf_prog_bind_map(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_prog_bind_map);
  TRY(check_attr(machine, BPF_PROG_BIND_MAP, attr));
  const auto& bind = attr.prog_bind_map;
  if (bind.flags) return refuse(Errno::Inval, "flags {} have no meaning here", bind.flags);
  Prog& prog = *TRY(bpf_prog_get(machine, int(bind.prog_fd), {"bpf(BPF_PROG_BIND_MAP)"}));
  Holding held(machine, prog, "bpf(BPF_PROG_BIND_MAP)");
  Result<Map*> map = __bpf_map_get(machine, int(bind.map_fd));
  if (map) {
    std::vector<Map*>& used = prog.aux->used_maps;
    if (std::find(used.begin(), used.end(), *map) == used.end()) {
      bpf_map_inc(**map, {"bound to prog {} by task {}", prog.id, machine.current->pid});
      used.push_back(*map);
    }
  }
  held.release();
  bpf_prog_put(prog, {"bpf(BPF_PROG_BIND_MAP) is over"});
  if (!map) return map.refusal();
  return 0;
}

SysResult prog_stream_read(Machine& machine, const bpf_attr& attr) {
  KFN(machine, prog_stream_read);
  TRY(check_attr(machine, BPF_PROG_STREAM_READ_BY_FD, attr));
  const auto& read = attr.prog_stream_read;
  Prog& prog = *TRY(bpf_prog_get(machine, int(read.prog_fd), {"bpf(BPF_PROG_STREAM_READ_BY_FD)"}));
  bpf_prog_put(prog, {"bpf(BPF_PROG_STREAM_READ_BY_FD) is over"});
  if (read.stream_id != BPF_STDOUT && read.stream_id != BPF_STDERR)
    return refuse(Errno::NoEnt, "a program has the streams {} and {}, not {}", BPF_STDOUT, BPF_STDERR,
                  read.stream_id);
  return 0;
}

}  // namespace bpfsim
