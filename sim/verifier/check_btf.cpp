// Models: kernel/bpf/verifier.c, check_btf_func_early(), check_btf_func(), check_btf_line() and
// check_core_relo() (Linux 6.18)
//
// What a program brings about its functions and source lines: func_info says which BTF function starts at
// which instruction, line_info which source line. Both are arrays of records whose size user space chooses.
// Not modelled yet: that the kernel itself applies CO-RE relocations
// (core_relos); those that it would refuse unread are refused.
#include "btf/btf_types.h"
#include "object/btf.h"
#include "object/file.h"
#include "verifier/subprogs.h"

namespace bpfsim {

// LD_ABS and a tail call may end a function in the middle: its caller must know what that returns.
static Errno check_early_end(bpf_verifier_env& env, const bpf_subprog_info& sub, const char* allowed) {
  if (sub.has_ld_abs) return reject(env, Errno::Inval, "LD_ABS is %s\n", allowed);
  if (sub.has_tail_call) return reject(env, Errno::Inval, "tail_call is %s\n", allowed);
  return Errno::None;
}

static Errno check_abnormal_return(bpf_verifier_env& env) {
  if (!has(Gate::tail_call_in_subprogs, env.machine.version)) return Errno::None;  // the walk refuses both
  for (uint32_t i = 1; i < env.subprog_cnt; i++)
    MUST(check_early_end(env, env.subprog_info[i], "not allowed in subprogs without BTF"));
  return Errno::None;
}

static const BtfTypes& types_of(const bpf_verifier_env& env) { return *env.prog.aux->btf->types; }

// An array of records in user memory, each as long as ours or longer: what it has behind must be zero.
struct UserRecords {
  uint64_t address;
  uint32_t count, rec_size;
  const char* nonzero_tail;  // what the kernel says if it is not
  size_t told_at;            // and the field of the caller's attr in which it tells the size that it knows

  template <class Record>
  bool rec_size_ok() const {
    return rec_size >= sizeof(Record) && rec_size <= 252 && rec_size % 4 == 0;
  }
};

static Errno tell_rec_size(bpf_verifier_env& env, const UserRecords& records, uint32_t known) {
  const Errno too_big = reject(env, Errno::TooBig, "%s", records.nonzero_tail);
  if (env.uattr) MUST(copy_to_user(env.machine, env.uattr + records.told_at, &known, sizeof known).err());
  return too_big;
}

// Calls take(index, record) for each: what is wrong with one is said before the next is read.
template <class Record, class Take>
static Errno for_each_record(bpf_verifier_env& env, const UserRecords& records, Take take) {
  for (uint32_t i = 0; i < records.count; i++) {
    const uint64_t from = records.address + uint64_t(i) * records.rec_size;
    for (uint32_t at = sizeof(Record); at < records.rec_size; at++) {
      uint8_t byte = 0;
      MUST(copy_from_user(env.machine, &byte, from + at, 1).err());
      if (byte) return tell_rec_size(env, records, sizeof(Record));
    }
    Record record;
    MUST(copy_from_user(env.machine, &record, from, sizeof record).err());
    MUST(take(i, record));
  }
  return Errno::None;
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
  const UserRecords records = {env.attr.func_info, env.attr.func_info_cnt, env.attr.func_info_rec_size,
                               "nonzero tailing record in func info", offsetof(bpf_attr, func_info_rec_size)};
  if (records.count == 0) return Errno::None;
  if (!records.rec_size_ok<bpf_func_info>())
    return reject(env, Errno::Inval, "invalid func info rec size %u\n", records.rec_size);
  if (records.count > INT32_MAX / sizeof(bpf_func_info)) return Errno::NoMem;  // more than kvcalloc() gives
  std::vector<bpf_func_info> infos;
  MUST(for_each_record<bpf_func_info>(env, records, [&](uint32_t, const bpf_func_info& info) {
    MUST(check_func_record(env, info, infos.empty() ? nullptr : &infos.back()));
    infos.push_back(info);
    return Errno::None;
  }));
  env.prog.aux->func_info = std::move(infos);
  return Errno::None;
}

static Errno get_prog_btf(bpf_verifier_env& env) {
  const Result<Btf*> found = __btf_get_by_fd(env.machine, int(env.attr.prog_btf_fd));
  if (!found) return found.err();
  Btf& btf = **found;
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
    MUST(check_early_end(env, sub, "only allowed in functions that return 'int'."));
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

// Every function must begin with a line of its own: `next` is the first that has none yet.
static Errno give_line_to_func(bpf_verifier_env& env, uint32_t& next, const bpf_line_info& line) {
  if (next == env.subprog_cnt) return Errno::None;
  const uint32_t start = env.subprog_info[next].start;
  if (line.insn_off > start) return reject(env, Errno::Inval, "missing bpf_line_info for func#%u\n", next);
  if (line.insn_off == start) next++;
  return Errno::None;
}

static Errno check_btf_line(bpf_verifier_env& env) {
  KFN(env.machine, check_btf_line);
  const UserRecords records = {env.attr.line_info, env.attr.line_info_cnt, env.attr.line_info_rec_size,
                               "nonzero tailing record in line_info", offsetof(bpf_attr, line_info_rec_size)};
  if (records.count == 0) return Errno::None;
  if (records.count > INT32_MAX / sizeof(bpf_line_info) || !records.rec_size_ok<bpf_line_info>())
    return Errno::Inval;
  std::vector<bpf_line_info> lines;
  uint32_t next_func = 0;
  MUST(for_each_record<bpf_line_info>(env, records, [&](uint32_t i, const bpf_line_info& line) {
    MUST(check_line_record(env, i, line, i ? lines.back().insn_off : 0));
    lines.push_back(line);
    return give_line_to_func(env, next_func, line);
  }));
  if (next_func != env.subprog_cnt)
    return reject(env, Errno::Inval, "missing bpf_line_info for %u funcs starting from func#%u\n",
                  env.subprog_cnt - next_func, next_func);
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
  const UserRecords records = {env.attr.core_relos, env.attr.core_relo_cnt, env.attr.core_relo_rec_size,
                               "nonzero tailing record in core_relo", offsetof(bpf_attr, core_relo_rec_size)};
  if (records.count == 0) return Errno::None;
  if (records.count > INT32_MAX / sizeof(bpf_core_relo) || !records.rec_size_ok<bpf_core_relo>())
    return Errno::Inval;
  const auto prog_len = uint32_t(env.prog.insnsi.size());
  return for_each_record<bpf_core_relo>(env, records, [&](uint32_t i, const bpf_core_relo& relo) {
    if (relo.insn_off % 8 || relo.insn_off / 8 >= prog_len)
      return reject(env, Errno::Inval, "Invalid core_relo[%u].insn_off:%u prog->len:%u\n", i, relo.insn_off,
                    prog_len);
    return bpf_core_apply(env, relo, i);
  });
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
