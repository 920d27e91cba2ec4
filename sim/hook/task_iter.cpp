// Models: kernel/bpf/task_iter.c (Linux 6.18)
//
// Iterators over tasks, over the files of tasks, and over their mappings, all in the order of pids; of all
// tasks, or of one that the link names by pid, tid or pidfd. Departs from the kernel: a process is one
// thread, and its address space has nothing but the maps that it has mapped.
#include <algorithm>

#include "hook/iter_seq.h"
#include "object/pidfd.h"

namespace bpfsim {

namespace {

Result<void> bpf_iter_attach_task(Prog& prog, const IterLinkInfo& info, IterAux& aux) {
  KFN(prog.machine, bpf_iter_attach_task);
  const auto [tid, pid, pid_fd, unused] = info.words;
  if (!!tid + !!pid + !!pid_fd > 1)
    return refuse(Errno::Inval, "of tid {}, pid {} and a pidfd at most one is named", tid, pid);
  if (tid || pid) {
    aux.task_type = tid ? BPF_TASK_ITER_TID : BPF_TASK_ITER_TGID;
    aux.pid = tid ? tid : pid;
  }
  if (!pid_fd) return {};
  const Task* task = TRY(object_of_fd<Task>(prog.machine, int(pid_fd), pidfd_fops, Errno::BadF));
  aux.task_type = BPF_TASK_ITER_TGID;
  aux.pid = uint32_t(task->pid);
  return {};
}

std::string bpf_iter_task_show_fdinfo(const IterAux& aux) {
  switch (aux.task_type) {
    case BPF_TASK_ITER_TID: return "task_type:\tTID\ntid:\t" + std::to_string(aux.pid) + "\n";
    case BPF_TASK_ITER_TGID: return "task_type:\tPID\npid:\t" + std::to_string(aux.pid) + "\n";
    default: return "task_type:\tALL\n";
  }
}

void bpf_iter_task_fill_link_info(const IterAux& aux, bpf_link_info& info) {
  if (aux.task_type == BPF_TASK_ITER_TID) info.iter.task.tid = aux.pid;
  if (aux.task_type == BPF_TASK_ITER_TGID) info.iter.task.pid = aux.pid;
}

// A task, and its ancestors: the first of them is its own parent.
Addr show_task(Images& images, const Task& task) {
  Image& image = add_image(images, task.machine, "task_struct");
  image.set("pid", int32_t(task.pid));
  image.set("tgid", int32_t(task.pid));
  image.set("prio", int32_t(120));
  image.set_name("comm", task.comm);
  image.set("group_leader", image.addr());
  const Addr parent = task.parent ? show_task(images, *task.parent) : image.addr();
  image.set("real_parent", parent);
  image.set("parent", parent);
  return image.addr();
}

Addr show_file(Images& images, const File& file) {
  Image& inode = add_image(images, file.machine, "inode");
  Image& image = add_image(images, file.machine, "file");
  image.set("f_inode", inode.addr());
  image.set("f_flags", file.f_flags & ~O_CLOEXEC_);  // which is the descriptor's
  return image.addr();
}

// The first living task of this pid or a higher one that the link wants; null: there is none.
const Task* task_seq_get_next(const IterSeq& seq) {
  const Task* best = nullptr;
  for (const auto& [serial, object] : seq.machine.objects) {
    if (object->kind != ObjectKind::Task) continue;
    const Task& task = static_cast<const Task&>(*object);
    if (task.exited || uint64_t(task.pid) < seq.at.number || (best && task.pid > best->pid)) continue;
    if (seq.aux.task_type == BPF_TASK_ITER_ALL || uint32_t(task.pid) == seq.aux.pid) best = &task;
  }
  return best;
}

Result<bool> task_seq_show(IterSeq& seq, Errno& said) {
  const Task* task = task_seq_get_next(seq);
  if (!task) return false;
  seq.at.number = uint64_t(task->pid) + 1;
  Images images;
  said = bpf_iter_run_prog(seq, show_task(images, *task));
  return true;
}

// What tasks have many of: goes to the next task until one has something at its place or behind it.
template <class Find>
const Task* find_in_tasks(IterSeq& seq, Find find) {
  while (const Task* task = task_seq_get_next(seq)) {
    const uint64_t pid = uint64_t(task->pid);
    if (std::exchange(seq.at.number, pid) != pid) seq.at.within = 0;
    if (find(*task)) return task;
    seq.at.number = pid + 1;
    seq.at.within = 0;
  }
  return nullptr;
}

Result<bool> task_file_seq_show(IterSeq& seq, Errno& said) {
  const File* file = nullptr;
  const Task* task = find_in_tasks(seq, [&](const Task& task) {
    const std::vector<File*>& slots = task.files.slots();
    while (seq.at.within < slots.size() && !slots[seq.at.within]) ++seq.at.within;
    if (seq.at.within < slots.size()) file = slots[seq.at.within];
    return file != nullptr;
  });
  if (!task) return false;
  Images images;
  const Addr shown = show_task(images, *task);
  said = bpf_iter_run_prog(seq, shown, seq.at.within++, show_file(images, *file));
  return true;
}

Result<bool> task_vma_seq_show(IterSeq& seq, Errno& said) {
  const Vma* vma = nullptr;
  const Task* task = find_in_tasks(seq, [&](const Task& task) {
    if (seq.at.within < task.mappings.size()) vma = &task.mappings[seq.at.within];
    return vma != nullptr;
  });
  if (!task) return false;
  ++seq.at.within;
  Images images;
  const Addr shown = show_task(images, *task);
  Image& image = add_image(images, seq.machine, "vm_area_struct");
  image.set("vm_start", vma->start);
  image.set("vm_end", vma->start + vma->length);
  image.set("vm_pgoff", vma->offset / kPageSize);
  if (vma->file) image.set("vm_file", show_file(images, *vma->file));
  said = bpf_iter_run_prog(seq, shown, image.addr());
  return true;
}

}  // namespace

const IterOps task_iter = {.attach_target = bpf_iter_attach_task,
                           .show_fdinfo = bpf_iter_task_show_fdinfo,
                           .fill_link_info = bpf_iter_task_fill_link_info,
                           .show_next = task_seq_show};
const IterOps task_file_iter = {.attach_target = bpf_iter_attach_task,
                                .show_fdinfo = bpf_iter_task_show_fdinfo,
                                .fill_link_info = bpf_iter_task_fill_link_info,
                                .show_next = task_file_seq_show};
const IterOps task_vma_iter = {.attach_target = bpf_iter_attach_task,
                               .show_fdinfo = bpf_iter_task_show_fdinfo,
                               .fill_link_info = bpf_iter_task_fill_link_info,
                               .show_next = task_vma_seq_show};

}  // namespace bpfsim
