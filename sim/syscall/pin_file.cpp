// Models: kernel/bpf/inode.c (bpffs_map_fops, bpffs_obj_fops), kernel/bpf/bpf_iter.c (iter_open) (Linux 6.18)
//
// A pin opened as a file, for cat: a map that has BTF prints its elements, by the map_seq_show_elem of its
// table; an iterator's link begins to iterate, as ITER_CREATE does; anything else is EIO. The open file holds
// the pin, which outlives its name until the file is closed. Departs from the kernel: BPFFS has no maps.debug
// and progs.debug, which a kernel with CONFIG_BPF_PRELOAD puts there.
#include <vector>

#include "hook/bpf_iter.h"
#include "object/link.h"
#include "object/map.h"
#include "object/ops.h"
#include "syscall/bpf.h"
#include "syscall/inode.h"

namespace bpfsim {

namespace {

// How far the reading of a map has come.
struct MapSeq final : Object {
  MapSeq(Machine& machine, uint32_t key_size) : Object(machine, ObjectKind::SeqFile), key(key_size) {}
  std::string label() const override { return "seq_file " + std::to_string(serial); }

  std::vector<uint8_t> key;  // of the last element that was shown
  bool begun = false, at_key = false, ended = false;
  std::string text;  // shown and not read yet
};

// Shows what comes next; false at the end.
bool map_seq_next(Map& map, MapSeq& seq) {
  if (!seq.begun) {
    seq.begun = true;
    seq.text =
        "# WARNING!! The output is for debug purpose only\n# WARNING!! The output format will change\n";
    return true;
  }
  if (seq.ended) return false;
  std::vector<uint8_t> next(seq.key.size());
  RcuReader reader(map.machine.rcu);
  seq.ended = !MAP_OP(map, map_get_next_key, map, seq.at_key ? seq.key.data() : nullptr, next.data());
  if (seq.ended) return false;
  seq.key = std::move(next);
  seq.at_key = true;
  seq.text += MAP_OP(map, map_seq_show_elem, map, seq.key.data());
  return true;
}

Result<std::string> map_seq_read(File& file, size_t size) {
  KFN(file.machine, seq_read);
  auto& map = static_cast<Map&>(*file.f_inode->i_private);
  auto& seq = static_cast<MapSeq&>(*file.private_data);
  constexpr uint32_t kLookEvery = 1024;
  for (uint32_t shown = 1; seq.text.size() < size && map_seq_next(map, seq); ++shown)
    if (shown % kLookEvery == 0 && host_interrupts(file.machine)) return refuse(Errno::Intr, "interrupted");
  const std::string text = seq.text.substr(0, size);
  seq.text.erase(0, size);
  file.f_pos += text.size();
  return text;
}

void map_seq_release(File& file) {
  emit<LifeEvent>(file.machine, *file.private_data, "freed");
  delete static_cast<MapSeq*>(file.private_data);
}

const FileOps bpffs_map_fops = {.name = "bpffs_map",
                                .release = map_seq_release,
                                .show_fdinfo = nullptr,
                                .holds = Counter::Refs,
                                .read = map_seq_read};

bool bpf_map_support_seq_show(const Map& map) {
  return map.btf && (map.btf_value_type_id || map.btf_vmlinux_value_type_id) && map.ops->map_seq_show_elem;
}

// The file holds the inode from now on.
void opens(File& file, Inode& inode, uint32_t flags) {
  file.f_flags = flags;
  file.f_mode = ((flags & O_ACCMODE_) + 1) & 3;
  file.f_inode = &inode;
  inode.i_count.inc({"opened by task {}", inode.machine.current->pid});
}

}  // namespace

static Result<int64_t> bpffs_obj_open(const Inode& inode, const char* why) {
  return refuse(Errno::Io, "{} is a pin{}: BPF_OBJ_GET or O_PATH opens it", inode.name, why);
}

Result<int64_t> bpffs_open_pin(Inode& inode, uint32_t flags) {
  Machine& machine = inode.machine;
  Object& object = *inode.i_private;
  Task& task = current_task(machine);
  if (object.kind == ObjectKind::Link && is_bpf_iter_link(static_cast<Link&>(object))) {
    KFN(machine, iter_open);
    const int64_t fd = TRY(bpf_iter_new_fd(static_cast<Link&>(object)));
    opens(*task.files.get(int(fd)), inode, flags);
    return fd;
  }
  const auto* map = object.kind == ObjectKind::Map ? static_cast<Map*>(&object) : nullptr;
  if (!map || !bpf_map_support_seq_show(*map))
    return bpffs_obj_open(inode, map ? " of a map that cannot show itself by BTF" : "");
  KFN(machine, bpffs_map_open);
  auto* seq = new MapSeq(machine, map->key_size);
  emit<LifeEvent>(machine, *seq, "born");
  auto* file = new File(machine, bpffs_map_fops, seq, flags);
  opens(*file, inode, flags);
  return TRY(fd_install(task, *file));
}

}  // namespace bpfsim
