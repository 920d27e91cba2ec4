// Models: kernel/bpf/syscall.c (bpf_obj_get_info_by_fd) (Linux 6.18)
//
// What the kernel tells of an object. The caller's struct may be shorter than the kernel's (an older program)
// or longer if the rest is zero (a newer one); lists inside are cut to the room that the caller gave, and
// their full length comes back.
//
// Departs from the kernel: in the dump of a program a helper call keeps the helper's number, where the kernel
// gives an offset of its own text (or 0). Not modelled yet: native code.
#include "uapi/info.h"

#include <algorithm>

#include "base/align.h"
#include "host/tracing.h"
#include "object/btf.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "verifier/prog_tag.h"

namespace bpfsim {

namespace {

// The caller's struct, read as far as it goes, and written back the same way.
template <class Info>
class UserInfo {
 public:
  UserInfo(Machine& machine, InfoStruct of, const bpf_attr& attr, UserAttr uattr)
      : machine_(machine), of_(of), attr_(attr), uattr_(uattr) {}

  // known: where the last field ends; what the caller has behind it must be zero.
  Result<void> read(uint32_t known = sizeof(Info)) {
    const uint32_t size = info_size(of_, machine_.version);
    std::memset(static_cast<void*>(&info), 0, sizeof info);
    TRY(bpf_check_uarg_tail_zero(machine_, attr_.info.info, std::min(known, size), attr_.info.info_len,
                                 "the info"));
    length_ = std::min(size, attr_.info.info_len);
    return copy_from_user(machine_, &info, attr_.info.info, length_);
  }
  Result<void> write() {
    for (const InfoPartRow& part : kInfoParts)  // what lies in padding here is a field of a later version
      if (part.of == of_ && part.since > machine_.version)
        std::memset(reinterpret_cast<char*>(&info) + part.begin, 0, size_t{part.end} - part.begin);
    TRY(copy_to_user(machine_, attr_.info.info, &info, length_));
    return copy_to_user(machine_, uattr_ + offsetof(bpf_attr, info.info_len), &length_, sizeof length_);
  }
  Info info;

 private:
  Machine& machine_;
  InfoStruct of_;
  const bpf_attr& attr_;
  UserAttr uattr_;
  uint32_t length_ = 0;
};

template <class T>
Result<void> copy_list(Machine& machine, const std::vector<T>& list, uint32_t& count, uint64_t user) {
  const uint32_t room = std::min<uint32_t>(count, uint32_t(list.size()));
  count = uint32_t(list.size());
  return copy_to_user(machine, user, list.data(), room * sizeof(T));
}

// Record sizes must be this kernel's, or 0 where nothing is asked for.
Result<void> set_info_rec_size(bpf_prog_info& info) {
  auto check = [](uint32_t count, uint32_t given, uint32_t ours) -> Result<void> {
    if ((count || given) && given != ours)
      return refuse(Errno::Inval, "a record has {} bytes here, not {}", ours, given);
    return {};
  };
  TRY(check(info.nr_func_info, info.func_info_rec_size, sizeof(bpf_func_info)));
  TRY(check(info.nr_line_info, info.line_info_rec_size, sizeof(bpf_line_info)));
  TRY(check(info.nr_jited_line_info, info.jited_line_info_rec_size, sizeof(uint64_t)));
  info.func_info_rec_size = sizeof(bpf_func_info);
  info.line_info_rec_size = sizeof(bpf_line_info);
  info.jited_line_info_rec_size = sizeof(uint64_t);
  return {};
}

// The map whose address, or the address of whose value, an LD_IMM64 loads: back to its id, as it came in by
// fd.
void map_from_imm(const Prog& prog, bpf_insn& low, bpf_insn& high) {
  const uint64_t imm = uint64_t(uint32_t(high.imm)) << 32 | uint32_t(low.imm);
  for (const Map* map : prog.aux->used_maps) {
    if (map->handle == imm) {
      low.src_reg = BPF_PSEUDO_MAP_FD;
      low.imm = int32_t(map->id);
      high.imm = 0;
      return;
    }
    if (!map->ops->map_direct_value_meta) continue;
    if (Result<uint32_t> off = map->ops->map_direct_value_meta(*map, imm)) {
      low.src_reg = BPF_PSEUDO_MAP_VALUE;
      low.imm = int32_t(map->id);
      high.imm = int32_t(*off);
      return;
    }
  }
}

// The number of the function that begins there: a call in the dump names it, with the distance in `off`.
int32_t find_subprog(const Prog& prog, uint32_t start) {
  const auto& subprogs = prog.aux->subprogs;
  auto found = std::ranges::find(subprogs, start, &SubprogInfo::start);
  return int32_t(found - subprogs.begin());
}

Insns bpf_insn_prepare_dump(const Prog& prog) {
  constexpr uint8_t kCall = BPF_JMP | BPF_CALL, kTailCall = 0xf0,
                    kCallArgs = 0xe0;  // the last two: include/linux/filter.h
  Insns insns = prog.insnsi;
  for (size_t i = 0; i < insns.size(); ++i) {
    bpf_insn& insn = insns[i];
    if (insn.code == (BPF_JMP | kTailCall)) {
      insn.code = kCall;
      insn.imm = BPF_FUNC_tail_call;
    } else if (insn.code == (BPF_JMP | kCallArgs)) {
      insn.code = kCall;
    } else if (insn.code == kCall && insn.src_reg == BPF_PSEUDO_CALL) {
      const auto target = uint32_t(i + 1 + size_t(insn.imm));
      insn.off = int16_t(insn.imm);
      insn.imm = find_subprog(prog, target);
    } else if (BPF_CLASS(insn.code) == BPF_LDX && BPF_MODE(insn.code) == BPF_PROBE_MEM) {
      insn.code = BPF_LDX | BPF_SIZE(insn.code) | BPF_MEM;  // the guard is the kernel's own affair
    } else if (insn.code == (BPF_LD | BPF_IMM | BPF_DW) && i + 1 < insns.size()) {
      map_from_imm(prog, insn, insns[i + 1]);
      ++i;
    }
  }
  return insns;
}

Result<void> dump_instructions(Machine& machine, const Prog& prog, bpf_prog_info& info) {
  const uint32_t asked = info.xlated_prog_len;
  info.xlated_prog_len = uint32_t(prog.insnsi.size() * sizeof(bpf_insn));
  if (!asked) return {};
  const Insns insns = bpf_insn_prepare_dump(prog);
  return copy_to_user(machine, info.xlated_prog_insns, insns.data(), std::min(asked, info.xlated_prog_len));
}

// What stands as the address of a program's only function, which has no native code: that of the interpreter.
constexpr uint64_t kInterpreter = 0xffffffff81200000;

Result<void> fill_privileged(Machine& machine, const Prog& prog, bpf_prog_info& info) {
  TRY(dump_instructions(machine, prog, info));
  info.jited_prog_len = 0;
  const std::vector<uint64_t> ksyms{kInterpreter};
  const std::vector<uint32_t> lengths{0};
  TRY(copy_list(machine, ksyms, info.nr_jited_ksyms, info.jited_ksyms));
  TRY(copy_list(machine, lengths, info.nr_jited_func_lens, info.jited_func_lens));
  info.attach_btf_id = prog.aux->attach_btf_id;
  const Btf* target_btf = prog.aux->dst_prog ? prog.aux->dst_prog->aux->btf : prog.aux->attach_btf;
  if (target_btf) info.attach_btf_obj_id = target_btf->id;
  TRY(copy_list(machine, prog.aux->func_info, info.nr_func_info, info.func_info));
  TRY(copy_list(machine, prog.aux->line_info, info.nr_line_info, info.line_info));
  info.nr_jited_line_info = 0;
  const std::vector<std::array<uint8_t, BPF_TAG_SIZE>> tags{prog.tag};
  return copy_list(machine, tags, info.nr_prog_tags, info.prog_tags);
}

SysResult bpf_prog_get_info_by_fd(Machine& machine, const Prog& prog, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_prog_get_info_by_fd);
  UserInfo<bpf_prog_info> user(machine, InfoStruct::prog, attr, uattr);
  TRY(user.read(offsetof(bpf_prog_info, attach_btf_id) + sizeof(uint32_t)));
  bpf_prog_info& info = user.info;
  info.type = prog.type;
  info.id = prog.id;
  info.load_time = prog.aux->load_time_ns;
  info.created_by_uid = prog.aux->uid;
  info.gpl_compatible = prog.gpl_compatible;
  std::copy(prog.tag.begin(), prog.tag.end(), info.tag);
  std::memset(info.name, 0, sizeof info.name);
  std::copy(prog.aux->name.begin(), prog.aux->name.end(), info.name);
  std::vector<uint32_t> map_ids;
  for (const Map* map : prog.aux->used_maps) map_ids.push_back(map->id);
  TRY(copy_list(machine, map_ids, info.nr_map_ids, info.map_ids));
  TRY(set_info_rec_size(info));
  info.run_time_ns = prog.stats.nsecs;
  info.run_cnt = prog.stats.cnt;
  info.recursion_misses = prog.stats.misses;
  info.verified_insns = prog.aux->verified_insns;
  if (prog.aux->btf) info.btf_id = prog.aux->btf->id;
  if (bpf_capable(machine)) {
    TRY(fill_privileged(machine, prog, info));
  } else {
    info.jited_prog_len = info.xlated_prog_len = 0;
    info.nr_jited_ksyms = info.nr_jited_func_lens = 0;
    info.nr_func_info = info.nr_line_info = info.nr_jited_line_info = 0;
  }
  TRY(user.write());
  return 0;
}

// SHA-256 of the values of an array, each rounded up to 8 bytes as it lies in memory.
Result<void> array_map_get_hash(Map& map, uint64_t user) {
  KFN(map.machine, array_map_get_hash);
  const size_t elem_size = round_up(map.value_size, 8);
  std::vector<uint8_t> values(elem_size * map.max_entries);
  for (uint32_t i = 0; i < map.max_entries; ++i)
    std::memcpy(values.data() + i * elem_size, TRY(map.ops->map_lookup_elem(map, &i)), map.value_size);
  const Sha256 hash = sha256(std::move(values));
  return copy_to_user(map.machine, user, hash.data(), hash.size());
}

SysResult bpf_map_get_info_by_fd(Machine& machine, Map& map, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_map_get_info_by_fd);
  UserInfo<bpf_map_info> user(machine, InfoStruct::map, attr, uattr);
  TRY(user.read(offsetof(bpf_map_info, hash_size) + sizeof(uint32_t)));
  bpf_map_info& info = user.info;
  // Since the hash can be asked for, fields that say nothing of this map keep what the caller wrote there.
  if (!has(Gate::map_hash, machine.version)) std::memset(static_cast<void*>(&info), 0, sizeof info);
  if (info.hash) {
    if (map.map_type != BPF_MAP_TYPE_ARRAY) return refuse(Errno::Inval, "only an array has a hash");
    if (info.hash_size != 32) return refuse(Errno::Inval, "a hash has 32 bytes, not {}", info.hash_size);
    if (!map.frozen) return refuse(Errno::Perm, "the hash is of a map that is frozen, this one is not");
    TRY(array_map_get_hash(map, info.hash));
  } else if (info.hash_size)
    return refuse(Errno::Inval, "hash_size {} without hash", info.hash_size);
  info.type = map.map_type;
  info.id = map.id;
  info.key_size = map.key_size;
  info.value_size = map.value_size;
  info.max_entries = map.max_entries;
  info.map_flags = map.map_flags;
  info.map_extra = map.map_extra;
  std::memset(info.name, 0, sizeof info.name);
  std::copy(map.name.begin(), map.name.end(), info.name);
  if (map.btf) {
    info.btf_id = map.btf->id;
    info.btf_key_type_id = map.btf_key_type_id;
    info.btf_value_type_id = map.btf_value_type_id;
  }
  info.btf_vmlinux_value_type_id = map.btf_vmlinux_value_type_id;
  if (map.map_type == BPF_MAP_TYPE_STRUCT_OPS && has(Gate::struct_ops_btf_id, machine.version))
    info.btf_vmlinux_id = tracing(machine).btf_vmlinux->id;
  TRY(user.write());
  return 0;
}

SysResult bpf_btf_get_info_by_fd(Machine& machine, const Btf& btf, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_btf_get_info_by_fd);
  UserInfo<bpf_btf_info> user(machine, InfoStruct::btf, attr, uattr);
  TRY(user.read());
  bpf_btf_info& info = user.info;
  info.id = btf.id;
  TRY(copy_list(machine, btf.data, info.btf_size, info.btf));
  info.kernel_btf = btf.kernel_btf;
  const uint32_t room = info.name_len;
  if (!info.name != !room) return refuse(Errno::Inval, "name and name_len belong together");
  info.name_len = uint32_t(btf.name.size());
  Result<void> named;
  if (info.name) named = bpf_copy_to_user(machine, info.name, btf.name, room);
  if (named.err() == Errno::Fault) return named.refusal();
  TRY(user.write());
  if (!named) return named.refusal();
  return 0;
}

SysResult bpf_link_get_info_by_fd(Machine& machine, const Link& link, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_link_get_info_by_fd);
  UserInfo<bpf_link_info> user(machine, InfoStruct::link, attr, uattr);
  TRY(user.read());
  user.info.type = link.type;
  user.info.id = link.id;
  if (link.prog) user.info.prog_id = link.prog->id;
  const bool probe = link.type == BPF_LINK_TYPE_PERF_EVENT || link.type == BPF_LINK_TYPE_KPROBE_MULTI;
  if (link.ops.fill_link_info && (!probe || has(Gate::probe_link_info, machine.version)))
    TRY(link.ops.fill_link_info(link, user.info));
  TRY(user.write());
  return 0;
}

}  // namespace

SysResult bpf_obj_get_info_by_fd(Machine& machine, const bpf_attr& attr, UserAttr uattr) {
  KFN(machine, bpf_obj_get_info_by_fd);
  TRY(check_attr(machine, BPF_OBJ_GET_INFO_BY_FD, attr));
  BorrowedFile borrowed(machine, current_task(machine).files.get(int(attr.info.bpf_fd)));
  const File* file = borrowed.get();
  if (!file) return refuse(Errno::BadFd, "fd {} is not open", attr.info.bpf_fd);
  if (!file->private_data) return refuse(Errno::Inval, "fd {} is no BPF object", attr.info.bpf_fd);
  Object& object = *file->private_data;
  if (&file->f_op == &bpf_prog_fops)
    return bpf_prog_get_info_by_fd(machine, static_cast<const Prog&>(object), attr, uattr);
  if (&file->f_op == &bpf_map_fops)
    return bpf_map_get_info_by_fd(machine, static_cast<Map&>(object), attr, uattr);
  if (&file->f_op == &btf_fops)
    return bpf_btf_get_info_by_fd(machine, static_cast<const Btf&>(object), attr, uattr);
  if (&file->f_op == &bpf_link_fops && info_size(InfoStruct::link, machine.version))
    return bpf_link_get_info_by_fd(machine, static_cast<const Link&>(object), attr, uattr);
  return refuse(Errno::Inval, "fd {} is no BPF object", attr.info.bpf_fd);
}

}  // namespace bpfsim
