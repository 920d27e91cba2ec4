// Models: kernel/bpf/verifier.c, check_btf_func_early(), check_btf_func(), check_btf_line() and
// check_core_relo() (Linux 6.18)
//
// What a program brings about its functions and source lines: func_info says which BTF function starts at
// which instruction, line_info which source line. Both are arrays of records whose size user space chooses.
// Departs from the kernel: when a record is longer than we know and not zero behind, the size that we know is
// not written back into the caller's attr. Not modelled yet: that the kernel itself applies CO-RE relocations
// (core_relos); those that it would refuse unread are refused.
#include <algorithm>
#include <cstring>

#include "btf/btf_types.h"
#include "object/btf.h"
#include "object/file.h"
#include "verifier/subprogs.h"

namespace bpfsim {

static constexpr uint32_t MIN_BPF_FUNCINFO_SIZE = 8, MAX_FUNCINFO_REC_SIZE = 252;

static Errno check_abnormal_return(bpf_verifier_env& env) {
  for (uint32_t i = 1; i < env.subprog_cnt; i++) {
    if (env.subprog_info[i].has_ld_abs)
      return reject(env, Errno::Inval, "LD_ABS is not allowed in subprogs without BTF\n");
    if (env.subprog_info[i].has_tail_call)
      return reject(env, Errno::Inval, "tail_call is not allowed in subprogs without BTF\n");
  }
  return Errno::None;
}

static const BtfTypes& types_of(const bpf_verifier_env& env) { return *env.prog.aux->btf->types; }

// One record of the caller's array; what it has beyond our struct must be zero.
static Errno read_record(bpf_verifier_env& env, uint64_t user, uint32_t user_size, void* record,
                         uint32_t size, const char* nonzero_tail) {
  for (uint32_t at = size; at < user_size; at++) {
    uint8_t byte = 0;
    if (Result<void> read = copy_from_user(env.machine, &byte, user + at, 1); !read) return read.err();
    if (byte) return reject(env, Errno::TooBig, "%s", nonzero_tail);
  }
  std::memset(record, 0, size);
  return copy_from_user(env.machine, record, user, std::min(size, user_size)).err();
}

static Errno check_func_record(bpf_verifier_env& env, const bpf_func_info& info,
                               const bpf_func_info* before) {
  if (!before && info.insn_off)
    return reject(env, Errno::Inval, "nonzero insn_off %u for the first func info record", info.insn_off);
  if (before && info.insn_off <= before->insn_off)
    return reject(env, Errno::Inval, "same or smaller insn offset (%u) than previous func info record (%u)",
                  info.insn_off, before->insn_off);
  const btf_type* func = types_of(env).type_by_id(info.type_id);
  if (!func || btf_kind(*func) != BTF_KIND_FUNC)
    return reject(env, Errno::Inval, "invalid type id %d in func info", int(info.type_id));
  return Errno::None;
}

static Errno check_btf_func_early(bpf_verifier_env& env) {
  KFN(env.machine, check_btf_func_early);
  const bpf_attr& attr = env.attr;
  const uint32_t rec_size = attr.func_info_rec_size;
  if (attr.func_info_cnt == 0) return Errno::None;
  if (rec_size < MIN_BPF_FUNCINFO_SIZE || rec_size > MAX_FUNCINFO_REC_SIZE || rec_size % 4)
    return reject(env, Errno::Inval, "invalid func info rec size %u\n", rec_size);
  std::vector<bpf_func_info> infos;
  for (uint32_t i = 0; i < attr.func_info_cnt; i++) {
    bpf_func_info info;
    MUST(read_record(env, attr.func_info + uint64_t(i) * rec_size, rec_size, &info, sizeof info,
                     "nonzero tailing record in func info"));
    MUST(check_func_record(env, info, infos.empty() ? nullptr : &infos.back()));
    infos.push_back(info);
  }
  env.prog.aux->func_info = std::move(infos);
  return Errno::None;
}

static Errno get_prog_btf(bpf_verifier_env& env) {
  const Task* task = env.machine.current->task;
  const File* file = task ? task->files.get(int(env.attr.prog_btf_fd)) : nullptr;
  if (!file) return Errno::BadF;
  if (&file->f_op != &btf_fops) return Errno::Inval;
  Btf& btf = *static_cast<Btf*>(file->private_data);
  if (btf.kernel_btf) return Errno::Access;
  btf_get(btf, {"btf of prog {}", int64_t(env.prog.serial)});
  env.prog.aux->btf = &btf;
  return Errno::None;
}

Errno check_btf_info_early(bpf_verifier_env& env) {
  KFN(env.machine, check_btf_info_early);
  if (env.attr.func_info_cnt == 0 && env.attr.line_info_cnt == 0) return Errno::None;
  MUST(get_prog_btf(env));
  return check_btf_func_early(env);
}

static bool returns_scalar(const BtfTypes& types, const btf_type& func) {
  const btf_type* proto = types.type_by_id(func.type);
  const btf_type* ret = proto ? types.skip_modifiers(proto->type) : nullptr;
  if (!ret) return false;
  uint32_t kind = btf_kind(*ret);
  if (kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64) return true;
  return kind == BTF_KIND_INT && btf_int_bits(btf_int_data(*ret)) <= 64;
}

static Errno check_btf_func(bpf_verifier_env& env) {
  KFN(env.machine, check_btf_func);
  if (env.attr.func_info_cnt == 0) return check_abnormal_return(env);
  if (env.attr.func_info_cnt != env.subprog_cnt)
    return reject(env, Errno::Inval, "number of funcs in func_info doesn't match number of subprogs\n");
  const BtfTypes& types = types_of(env);
  std::vector<bpf_func_info_aux> aux(env.subprog_cnt);
  for (uint32_t i = 0; i < env.subprog_cnt; i++) {
    bpf_subprog_info& sub = env.subprog_info[i];
    const bpf_func_info& info = env.prog.aux->func_info[i];
    if (sub.start != info.insn_off)
      return reject(env, Errno::Inval, "func_info BTF section doesn't match subprog layout in BPF program\n");
    const btf_type& func = *types.type_by_id(info.type_id);
    sub.name = types.name_of(func);
    aux[i].linkage = btf_vlen(func);
    if (i == 0 || returns_scalar(types, func)) continue;
    if (sub.has_ld_abs)
      return reject(env, Errno::Inval, "LD_ABS is only allowed in functions that return 'int'.\n");
    if (sub.has_tail_call)
      return reject(env, Errno::Inval, "tail_call is only allowed in functions that return 'int'.\n");
  }
  env.func_info_aux = std::move(aux);
  return Errno::None;
}

static Errno check_line_record(bpf_verifier_env& env, uint32_t i, const bpf_line_info& line,
                               uint32_t before) {
  if ((i && line.insn_off <= before) || line.insn_off >= env.insn_cnt())
    return reject(env, Errno::Inval, "Invalid line_info[%u].insn_off:%u (prev_offset:%u prog->len:%u)\n", i,
                  line.insn_off, before, env.insn_cnt());
  if (env.insns[line.insn_off].code == 0)
    return reject(env, Errno::Inval, "Invalid insn code at line_info[%u].insn_off\n", i);
  const BtfTypes& types = types_of(env);
  if (!types.name_by_offset(line.line_off) || !types.name_by_offset(line.file_name_off))
    return reject(env, Errno::Inval, "Invalid line_info[%u].line_off or .file_name_off\n", i);
  return Errno::None;
}

// Every function must begin with a record of its own.
static Errno check_btf_line(bpf_verifier_env& env) {
  KFN(env.machine, check_btf_line);
  const uint32_t count = env.attr.line_info_cnt, rec_size = env.attr.line_info_rec_size;
  if (count == 0) return Errno::None;
  if (count > INT32_MAX / sizeof(bpf_line_info)) return Errno::Inval;
  if (rec_size < sizeof(bpf_line_info) || rec_size > MAX_FUNCINFO_REC_SIZE || rec_size % 4)
    return Errno::Inval;
  std::vector<bpf_line_info> lines;
  uint32_t sub = 0;
  for (uint32_t i = 0; i < count; i++) {
    bpf_line_info line;
    MUST(read_record(env, env.attr.line_info + uint64_t(i) * rec_size, rec_size, &line, sizeof line,
                     "nonzero tailing record in line_info"));
    MUST(check_line_record(env, i, line, i ? lines.back().insn_off : 0));
    if (sub < env.subprog_cnt && line.insn_off == env.subprog_info[sub].start)
      env.subprog_info[sub++].linfo_idx = i;
    else if (sub < env.subprog_cnt && env.subprog_info[sub].start < line.insn_off)
      return reject(env, Errno::Inval, "missing bpf_line_info for func#%u\n", sub);
    lines.push_back(line);
  }
  if (sub != env.subprog_cnt)
    return reject(env, Errno::Inval, "missing bpf_line_info for %u funcs starting from func#%u\n",
                  env.subprog_cnt - sub, sub);
  env.prog.aux->line_info = std::move(lines);
  return Errno::None;
}

static Errno bpf_core_apply(bpf_verifier_env& env, const bpf_core_relo& relo, uint32_t at) {
  constexpr uint32_t BPF_CORE_TYPE_ID_LOCAL = 6;  // of the program's own BTF, so that nothing is looked for
  const btf_type* local = types_of(env).type_by_id(relo.type_id);
  if (!local) return reject(env, Errno::Inval, "relo #%u: bad type id %u\n", at, relo.type_id);
  if (uint32_t(relo.kind) != BPF_CORE_TYPE_ID_LOCAL && !*types_of(env).name_of(*local))
    return reject(env, Errno::Inval, "target candidate search failed for %d\n", int(relo.type_id));
  return not_modelled(env, "CO-RE relocations by the kernel");
}

static Errno check_core_relo(bpf_verifier_env& env) {
  KFN(env.machine, check_core_relo);
  const bpf_attr& attr = env.attr;
  const uint32_t rec_size = attr.core_relo_rec_size;
  if (attr.core_relo_cnt == 0) return Errno::None;
  if (attr.core_relo_cnt > INT32_MAX / sizeof(bpf_core_relo)) return Errno::Inval;
  if (rec_size < sizeof(bpf_core_relo) || rec_size > MAX_FUNCINFO_REC_SIZE || rec_size % 4)
    return Errno::Inval;
  const auto prog_len = uint32_t(env.prog.insnsi.size());
  for (uint32_t i = 0; i < attr.core_relo_cnt; i++) {
    bpf_core_relo relo;
    MUST(read_record(env, attr.core_relos + uint64_t(i) * rec_size, rec_size, &relo, sizeof relo,
                     "nonzero tailing record in core_relo"));
    if (relo.insn_off % 8 || relo.insn_off / 8 >= prog_len)
      return reject(env, Errno::Inval, "Invalid core_relo[%u].insn_off:%u prog->len:%u\n", i, relo.insn_off,
                    prog_len);
    MUST(bpf_core_apply(env, relo, i));
  }
  return Errno::None;
}

Errno check_btf_info(bpf_verifier_env& env) {
  KFN(env.machine, check_btf_info);
  if (env.attr.func_info_cnt == 0 && env.attr.line_info_cnt == 0) return check_abnormal_return(env);
  MUST(check_btf_func(env));
  MUST(check_btf_line(env));
  return check_core_relo(env);
}

void adjust_btf_func(bpf_verifier_env& env) {
  std::vector<bpf_func_info>& infos = env.prog.aux->func_info;
  for (uint32_t i = 0; i < infos.size() && i < env.subprog_cnt; i++)
    infos[i].insn_off = env.subprog_info[i].start;
}

}  // namespace bpfsim
