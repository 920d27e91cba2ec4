// Models: kernel/bpf/verifier.c, resolve_pseudo_ldimm64() and what it calls (Linux 6.18)
//
// User space names maps by file descriptor; a program must hold addresses. Each LD_IMM64 of a map becomes the
// address of the map's handle, or of a byte of its only value; the map is held once per program. On the way
// every instruction gets its first check: a known opcode, no reserved field of a load. The program's tag is
// computed before anything changes, so that it does not depend on descriptors. Not modelled yet: kernel
// variables (BPF_PSEUDO_BTF_ID).
#include "verifier/resolve.h"

#include <algorithm>

#include "isa/opcodes.h"
#include "object/btf.h"
#include "object/file.h"
#include "object/map.h"
#include "object/ops.h"
#include "object/registry.h"
#include "uapi/gates.h"
#include "verifier/prog_tag.h"

namespace bpfsim {

static constexpr uint32_t kFdSize = 4;

static Map* map_of_fd(bpf_verifier_env& env, int fd, Errno& err) {
  const Result<Map*> map = __bpf_map_get(env.machine, fd);
  err = map.err();
  return map ? *map : nullptr;
}

static bool sleepable_prog_may_use(bpf_map_type type) {
  switch (type) {
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH_OF_MAPS:
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_USER_RINGBUF:
    case BPF_MAP_TYPE_INODE_STORAGE:
    case BPF_MAP_TYPE_SK_STORAGE:
    case BPF_MAP_TYPE_TASK_STORAGE:
    case BPF_MAP_TYPE_CGRP_STORAGE:
    case BPF_MAP_TYPE_QUEUE:
    case BPF_MAP_TYPE_STACK:
    case BPF_MAP_TYPE_ARENA: return true;
    default: return false;
  }
}

// The digest is known together with the tag; before that, for maps named by fd_array_cnt, no program is the
// right one.
static bool is_exclusive_to_another(const bpf_verifier_env& env, const Map& map) {
  if (map.excl_prog_sha.empty()) return false;
  if (env.prog.tag == decltype(env.prog.tag){}) return true;
  const Sha256 digest = bpf_prog_digest(env.insns);
  return !std::equal(digest.begin(), digest.end(), map.excl_prog_sha.begin());
}

static bool is_used_by_another(const Prog& prog, const Map& map) {
  const auto& idr = prog.machine.registry->prog_idr;
  for (const Prog* other = idr.at_or_after(1); other; other = idr.at_or_after(other->id + 1))
    if (std::ranges::count(other->aux->used_maps, &map)) return true;
  return false;
}

// A program has at most one map of each kind whose values stand at the cgroups that it is attached to.
static Errno bpf_cgroup_storage_assign(bpf_verifier_env& env, const Map& map) {
  const bool percpu = map.map_type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
  if (!percpu && map.map_type != BPF_MAP_TYPE_CGROUP_STORAGE) return Errno::None;
  const Map*& assigned = env.prog.aux->cgroup_storage[percpu];
  if (assigned && assigned != &map)
    return reject(env, Errno::Busy, "only one cgroup storage of each type is allowed\n");
  if (!has(Gate::cgroup_storage_free, env.machine.version) && is_used_by_another(env.prog, map))
    return reject(env, Errno::Busy, "only one cgroup storage of each type is allowed\n");
  assigned = &map;
  return Errno::None;
}

static bool is_run_time_allocated_hash(const Map& map) {
  const bool hash = map.map_type == BPF_MAP_TYPE_HASH || map.map_type == BPF_MAP_TYPE_PERCPU_HASH ||
                    map.map_type == BPF_MAP_TYPE_HASH_OF_MAPS;
  return hash && map.map_flags & BPF_F_NO_PREALLOC;
}

// A program at a kprobe may have interrupted the allocator. Until 6.1 hashes called it for each element.
static Errno check_tracing_hash(bpf_verifier_env& env, const Map& map) {
  const bool tracing = env.prog.type == BPF_PROG_TYPE_KPROBE || env.prog.type == BPF_PROG_TYPE_TRACEPOINT ||
                       env.prog.type == BPF_PROG_TYPE_PERF_EVENT ||
                       env.prog.type == BPF_PROG_TYPE_RAW_TRACEPOINT;
  if (!tracing || has(Gate::tracing_any_hash, env.machine.version)) return Errno::None;
  const bool own = is_run_time_allocated_hash(map);
  const bool inner = map.inner_map_meta && is_run_time_allocated_hash(*map.inner_map_meta);
  if (!own && !inner) return Errno::None;
  if (env.prog.type == BPF_PROG_TYPE_PERF_EVENT)
    return reject(env, Errno::Inval, "perf_event programs can only use preallocated %shash map\n",
                  own ? "" : "inner ");
  if (has(Gate::tracing_hash_warning, env.machine.version))
    verbose(env,
            "trace type programs with %srun-time allocated hash maps are unsafe. "
            "Switch to preallocated hash maps.\n",
            own ? "" : "inner ");
  return Errno::None;
}

static bool is_tracing_prog_type(bpf_prog_type type) {
  return type == BPF_PROG_TYPE_KPROBE || type == BPF_PROG_TYPE_TRACEPOINT ||
         type == BPF_PROG_TYPE_PERF_EVENT || type == BPF_PROG_TYPE_RAW_TRACEPOINT ||
         type == BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE;
}

// Fields of values that programs of these types may not touch, and so may not even name the map.
static Errno check_special_fields(bpf_verifier_env& env, const BtfRecord& record) {
  const bool locks = record.has(BPF_SPIN_LOCK) || record.has(BPF_RES_SPIN_LOCK);
  if (locks && env.prog.type == BPF_PROG_TYPE_SOCKET_FILTER)
    return reject(env, Errno::Inval, "socket filter progs cannot use bpf_spin_lock yet\n");
  if (!is_tracing_prog_type(env.prog.type)) return Errno::None;
  const std::pair<bool, const char*> refused[] = {
      {record.has(BPF_LIST_HEAD) || record.has(BPF_RB_ROOT), "bpf_{list_head,rb_root}"},
      {locks, "bpf_spin_lock"},
      {record.has(BPF_TIMER), "bpf_timer"},
      {record.has(BPF_WORKQUEUE), "bpf_wq"}};
  for (const auto& [has, name] : refused)
    if (has) return reject(env, Errno::Inval, "tracing progs cannot use %s yet\n", name);
  return Errno::None;
}

static Errno check_map_prog_compatibility(bpf_verifier_env& env, const Map& map) {
  if (is_exclusive_to_another(env, map))
    return reject(env, Errno::Access, "program's hash doesn't match map's excl_prog_hash\n");
  MUST(check_special_fields(env, map.record));
  if (map.map_type == BPF_MAP_TYPE_STRUCT_OPS)
    return reject(env, Errno::Inval, "bpf_struct_ops map cannot be used in prog\n");
  if (env.prog.aux->sleepable && !sleepable_prog_may_use(map.map_type))
    return reject(env, Errno::Inval,
                  "Sleepable programs can only use array, hash, ringbuf and local storage maps\n");
  MUST(check_tracing_hash(env, map));
  MUST(bpf_cgroup_storage_assign(env, map));
  if (map.map_type == BPF_MAP_TYPE_ARENA) return not_modelled(env, "an arena map");
  return Errno::None;
}

static Errno add_used_map(bpf_verifier_env& env, Map& map, uint32_t& index) {
  auto known = std::find(env.used_maps.begin(), env.used_maps.end(), &map);
  index = uint32_t(known - env.used_maps.begin());
  if (known != env.used_maps.end()) return Errno::None;
  if (env.used_maps.size() >= MAX_USED_MAPS)
    return reject(env, Errno::TooBig, "The total number of maps per program has reached the limit of %u\n",
                  MAX_USED_MAPS);
  MUST(check_map_prog_compatibility(env, map));
  bpf_map_inc(map, {"used_maps[{}] of prog #{}", int64_t(index), int64_t(env.prog.serial)});
  env.used_maps.push_back(&map);
  return Errno::None;
}

static Btf* btf_of_fd(bpf_verifier_env& env, int fd) {
  const Result<Btf*> btf = __btf_get_by_fd(env.machine, fd);
  return btf ? *btf : nullptr;
}

static Errno add_used_btf(bpf_verifier_env& env, Btf& btf) {
  if (std::find(env.used_btfs.begin(), env.used_btfs.end(), &btf) != env.used_btfs.end()) return Errno::None;
  if (env.used_btfs.size() >= MAX_USED_BTFS)
    return reject(env, Errno::TooBig, "The total number of btfs per program has reached the limit of %u\n",
                  MAX_USED_BTFS);
  btf_get(btf, {"used_btfs[{}] of prog #{}", int64_t(env.used_btfs.size()), int64_t(env.prog.serial)});
  env.used_btfs.push_back(&btf);
  return Errno::None;
}

static Errno read_fd_array(bpf_verifier_env& env, uint64_t at, int& fd) {
  return copy_from_user(env.machine, &fd, env.attr.fd_array + at * kFdSize, kFdSize).err();
}

Errno process_fd_array(bpf_verifier_env& env) {
  KFN(env.machine, process_fd_array);
  if (env.attr.fd_array_cnt == 0) return Errno::None;
  if (env.attr.fd_array_cnt >= UINT32_MAX / kFdSize)
    return reject(env, Errno::Inval, "fd_array_cnt is too big (%u)\n", env.attr.fd_array_cnt);
  for (uint32_t i = 0; i < env.attr.fd_array_cnt; i++) {
    int fd = -1;
    MUST(read_fd_array(env, i, fd));
    Errno err;
    uint32_t index;
    if (Map* map = map_of_fd(env, fd, err)) {
      MUST(add_used_map(env, *map, index));
    } else if (Btf* btf = btf_of_fd(env, fd)) {
      MUST(add_used_btf(env, *btf));
    } else {
      return reject(env, err, "fd %d is not pointing to valid bpf_map or btf\n", fd);
    }
  }
  return Errno::None;
}

static bool is_value_kind(const bpf_insn& insn) {
  return insn.src_reg == BPF_PSEUDO_MAP_VALUE || insn.src_reg == BPF_PSEUDO_MAP_IDX_VALUE;
}

static Errno direct_value_addr(bpf_verifier_env& env, const Map& map, uint32_t off, Addr& addr) {
  if (off >= BPF_MAX_VAR_OFF)
    return reject(env, Errno::Inval, "direct value offset of %u is not allowed\n", off);
  if (!map.ops->map_direct_value_addr)
    return reject(env, Errno::Inval, "no direct value access support for this map type\n");
  Result<Addr> value = MAP_OP(map, map_direct_value_addr, map, off);
  if (!value)
    return reject(env, value.err(), "invalid access to map value pointer, value_size=%u off=%u\n",
                  map.value_size, off);
  addr = *value + off;
  return Errno::None;
}

// The two slots at `i` name a map by descriptor, or by an index into fd_array.
static Errno resolve_map(bpf_verifier_env& env, uint32_t i) {
  bpf_insn &low = env.insns[i], &high = env.insns[i + 1];
  bool by_index = low.src_reg == BPF_PSEUDO_MAP_IDX || low.src_reg == BPF_PSEUDO_MAP_IDX_VALUE;
  bool known = low.src_reg == BPF_PSEUDO_MAP_FD || by_index || is_value_kind(low);
  if (!known || (!is_value_kind(low) && high.imm != 0))
    return reject(env, Errno::Inval, "unrecognized bpf_ld_imm64 insn\n");

  int fd = low.imm;
  if (by_index) {
    if (env.attr.fd_array == 0) return reject(env, Errno::Proto, "fd_idx without fd_array is invalid\n");
    MUST(read_fd_array(env, uint64_t(int64_t(low.imm)), fd));
  }
  Errno err;
  Map* map = map_of_fd(env, fd, err);
  if (!map) return reject(env, err, "fd %d is not pointing to valid bpf_map\n", fd);

  bpf_insn_aux_data& aux = env.insn_aux_data[i];
  MUST(add_used_map(env, *map, aux.map_index));
  Addr addr = map->handle;
  if (is_value_kind(low)) {
    aux.map_off = uint32_t(high.imm);
    MUST(direct_value_addr(env, *map, aux.map_off, addr));
  }
  low.imm = int32_t(uint32_t(addr));
  high.imm = int32_t(addr >> 32);
  return Errno::None;
}

static Errno resolve_ld_imm64(bpf_verifier_env& env, uint32_t i) {
  const bpf_insn* high = i + 1 < env.insn_cnt() ? &env.insns[i + 1] : nullptr;
  if (!high || high->code || high->dst_reg || high->src_reg || high->off)
    return reject(env, Errno::Inval, "invalid bpf_ld_imm64 insn\n");
  if (env.insn_aux_data[i].newer_form) return reject(env, Errno::Inval, "unrecognized bpf_ld_imm64 insn\n");
  switch (env.insns[i].src_reg) {
    case 0: return Errno::None;
    case BPF_PSEUDO_BTF_ID: return not_modelled(env, "the address of a kernel variable (BPF_PSEUDO_BTF_ID)");
    case BPF_PSEUDO_FUNC: env.insn_aux_data[i].ptr_type = PTR_TO_FUNC; return Errno::None;
    default: return resolve_map(env, i);
  }
}

// An opcode that this version has, in a form (by its offset, immediate or source) that came later.
static bool is_newer_form(const bpf_insn& insn, Version version) {
  const OpRow* row = decode(insn);
  return row && row->since > version && bpf_opcode_in_insntable(insn.code, version);
}

Errno resolve_pseudo_ldimm64(bpf_verifier_env& env) {
  KFN(env.machine, resolve_pseudo_ldimm64);
  env.prog.tag = bpf_prog_calc_tag(env.insns, env.machine.version);
  for (uint32_t i = 0; i < env.insn_cnt(); i++) {
    const bpf_insn& insn = env.insns[i];
    uint8_t mode = BPF_MODE(insn.code);
    if (BPF_CLASS(insn.code) == BPF_LDX && ((mode != BPF_MEM && mode != BPF_MEMSX) || insn.imm != 0))
      return reject(env, Errno::Inval, "BPF_LDX uses reserved fields\n");
    env.insn_aux_data[i].newer_form = is_newer_form(insn, env.machine.version);
    const bool was_xadd = BPF_CLASS(insn.code) == BPF_STX && env.insn_aux_data[i].newer_form;
    if (was_xadd && !has(Gate::isa_atomics, env.machine.version))
      return reject(env, Errno::Inval, "BPF_STX uses reserved fields\n");
    if (is_ld_imm64(insn)) {
      MUST(resolve_ld_imm64(env, i));
      i++;
    } else if (!bpf_opcode_in_insntable(insn.code, env.machine.version)) {
      const bool arsh32 = BPF_CLASS(insn.code) == BPF_ALU && BPF_OP(insn.code) == BPF_ARSH;
      if (arsh32 && !has(Gate::opcode_table, env.machine.version))
        return reject(env, Errno::Inval, "BPF_ARSH not supported for 32 bit ALU\n");
      return reject(env, Errno::Inval, "unknown opcode %02x\n", insn.code);
    }
  }
  return Errno::None;
}

void release_used(bpf_verifier_env& env) {
  for (size_t i = 0; i < env.used_maps.size(); i++)
    bpf_map_put(*env.used_maps[i], {"used_maps[{}] of prog #{}", int64_t(i), int64_t(env.prog.serial)});
  env.used_maps.clear();
  for (size_t i = 0; i < env.used_btfs.size(); i++)
    btf_put(*env.used_btfs[i], {"used_btfs[{}] of prog #{}", int64_t(i), int64_t(env.prog.serial)});
  env.used_btfs.clear();
}

void convert_pseudo_ld_imm64(bpf_verifier_env& env) {
  for (bpf_insn& insn : env.insns)
    if (is_ld_imm64(insn) && insn.src_reg != BPF_PSEUDO_FUNC) insn.src_reg = 0;
}

}  // namespace bpfsim
