// Models: kernel/bpf/syscall.c (map_create) (Linux 6.18)
//
// BPF_MAP_CREATE: the attributes that every type shares are checked here, then the type's own
// map_alloc_check, then who may have that type; only then memory is spent.
#include <algorithm>

#include "btf/btf_fields.h"
#include "btf/btf_types.h"
#include "map/common.h"
#include "object/btf.h"
#include "object/registry.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "uapi/tables.h"

namespace bpfsim {

Result<int> bpf_get_file_flag(uint32_t flags) {
  if ((flags & BPF_F_RDONLY) && (flags & BPF_F_WRONLY))
    return refuse(Errno::Inval, "BPF_F_RDONLY and BPF_F_WRONLY exclude each other");
  if (flags & BPF_F_RDONLY) return int(O_RDONLY_);
  if (flags & BPF_F_WRONLY) return int(O_WRONLY_);
  return int(O_RDWR_);
}

Result<std::string> bpf_obj_name_cpy(const char (&name)[BPF_OBJ_NAME_LEN], Version version) {
  std::string copy;
  for (char c : name) {
    if (c == 0) return copy;
    if (!bpf_name_char(c) || (c == '.' && !has(Gate::obj_name_dot, version)))
      return refuse(Errno::Inval, "a name has letters, digits, '_' and since 5.2 '.', not byte {}", c);
    copy.push_back(c);
  }
  return refuse(Errno::Inval, "a name has at most {} characters and then a NUL", BPF_OBJ_NAME_LEN - 1);
}

SysResult bpf_map_new_fd(Map& map, int flags, Holding& reference) {
  KFN(map.machine, bpf_map_new_fd);
  return anon_inode_getfd(map.machine, bpf_map_fops, map, uint32_t(flags) | O_CLOEXEC_, reference);
}

static Result<void> check_attributes(const bpf_attr& attr) {
  if (attr.btf_vmlinux_value_type_id) {
    if (attr.map_type != BPF_MAP_TYPE_STRUCT_OPS || attr.btf_key_type_id || attr.btf_value_type_id)
      return refuse(Errno::Inval, "btf_vmlinux_value_type_id is for struct_ops maps, alone");
  } else if (attr.btf_key_type_id && !attr.btf_value_type_id) {
    return refuse(Errno::Inval, "btf_key_type_id {} wants a btf_value_type_id beside it",
                  attr.btf_key_type_id);
  }
  if (attr.map_extra && attr.map_type != BPF_MAP_TYPE_BLOOM_FILTER && attr.map_type != BPF_MAP_TYPE_ARENA)
    return refuse(Errno::Inval, "map_extra must be 0 for map type {}, is {}", attr.map_type, attr.map_extra);
  return {};
}

// This machine has one NUMA node, number 0.
static Result<void> check_numa_node(const bpf_attr& attr) {
  const bool asked = (attr.map_flags & BPF_F_NUMA_NODE) && attr.numa_node != UINT32_MAX;
  if (asked && attr.numa_node != 0) return refuse(Errno::Inval, "there is no NUMA node {}", attr.numa_node);
  return {};
}

static Result<const MapOps*> find_map_ops(const Machine& machine, const bpf_attr& attr) {
  const uint32_t type = attr.map_type;
  auto& extra = machine.registry->extra_map_types;
  if (auto own = extra.find(type); own != extra.end()) return own->second.ops;
  const MapTypeRow* row = find_map_type(type);
  if (!row || type == BPF_MAP_TYPE_UNSPEC) return refuse(Errno::Inval, "no map type has the number {}", type);
  if (row->since > machine.version)
    return refuse(Errno::Inval, "{} came with Linux {}; this is {}", row->name, row->since.str(),
                  machine.version.str());
  for (const FlagRow& flag : map_flags())
    if (attr.map_flags & flag.number && flag.since > machine.version)
      return refuse(Errno::Inval, "map_flags has {}, which came with Linux {}; this is {}", flag.name,
                    flag.since.str(), machine.version.str());
  const MapOps* ops = machine.calls->map_ops(bpf_map_type(type));
  if (!ops) return refuse(Errno::Inval, "not modelled yet: map type {}", type);
  return ops;
}

// Which capability a type asks for, on top of what kernel.unprivileged_bpf_disabled asks.
static Result<void> check_map_privileges(const Machine& machine, bpf_map_type type) {
  if (machine.sysctl.unprivileged_bpf_disabled && !bpf_capable(machine))
    return refuse(Errno::Perm, "kernel.unprivileged_bpf_disabled is {} and the task lacks CAP_BPF",
                  machine.sysctl.unprivileged_bpf_disabled);
  switch (type) {
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_HASH_OF_MAPS:
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_USER_RINGBUF:
    case BPF_MAP_TYPE_CGROUP_STORAGE:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: return {};
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_SOCKHASH:
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH:
    case BPF_MAP_TYPE_XSKMAP:
      if (!net_admin_capable(machine)) return refuse(Errno::Perm, "map type {} needs CAP_NET_ADMIN", type);
      return {};
    default:
      if (!bpf_capable(machine)) return refuse(Errno::Perm, "map type {} needs CAP_BPF", type);
      return {};
  }
}

// Types that looked at their attributes first in every version.
static bool asks_late(bpf_map_type type) {
  switch (type) {
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY:
    case BPF_MAP_TYPE_STRUCT_OPS:
    case BPF_MAP_TYPE_SK_STORAGE:
    case BPF_MAP_TYPE_INODE_STORAGE:
    case BPF_MAP_TYPE_TASK_STORAGE:
    case BPF_MAP_TYPE_CGRP_STORAGE: return true;
    default: return false;
  }
}

static void bpf_map_alloc_id(Map& map) {
  map.id = map.machine.registry->map_idr.alloc(&map);
  emit<LifeEvent>(map.machine, map, "born");
}

// An exclusive map is for the one program whose instructions have that digest (verifier/resolve.cpp asks).
static Result<void> set_excl_prog_hash(Map& map, const bpf_attr& attr) {
  constexpr uint32_t SHA256_DIGEST_SIZE = 32;
  if (!attr.excl_prog_hash) {
    if (attr.excl_prog_hash_size) return refuse(Errno::Inval, "excl_prog_hash_size without a hash");
    return {};
  }
  if (attr.excl_prog_hash_size != SHA256_DIGEST_SIZE)
    return refuse(Errno::Inval, "excl_prog_hash_size must be 32, is {}", attr.excl_prog_hash_size);
  map.excl_prog_sha.resize(SHA256_DIGEST_SIZE);
  return copy_from_user(map.machine, map.excl_prog_sha.data(), attr.excl_prog_hash, SHA256_DIGEST_SIZE);
}

// Which types of maps may have which special fields in their values.
static bool map_may_have(bpf_map_type type, btf_field_type field, Version version) {
  const auto one_of = [type](std::initializer_list<bpf_map_type> types) {
    return std::find(types.begin(), types.end(), type) != types.end();
  };
  const bool storage = one_of({BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_INODE_STORAGE, BPF_MAP_TYPE_TASK_STORAGE,
                               BPF_MAP_TYPE_CGRP_STORAGE});
  const bool hash_or_array = one_of({BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY});
  switch (field) {
    case BPF_SPIN_LOCK:
    case BPF_RES_SPIN_LOCK: return hash_or_array || storage || type == BPF_MAP_TYPE_CGROUP_STORAGE;
    case BPF_TIMER:
    case BPF_WORKQUEUE:
    case BPF_TASK_WORK:
    case BPF_LIST_HEAD:
    case BPF_RB_ROOT: return hash_or_array || type == BPF_MAP_TYPE_LRU_HASH;
    case BPF_KPTR_UNREF:
    case BPF_KPTR_REF:
    case BPF_KPTR_PERCPU:
    case BPF_REFCOUNT:
      if (!has(Gate::kptrs_everywhere, version))
        return hash_or_array || type == BPF_MAP_TYPE_LRU_HASH ||
               (type == BPF_MAP_TYPE_PERCPU_ARRAY && has(Gate::kptrs_percpu_array, version));
      return hash_or_array || storage ||
             one_of({BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH,
                     BPF_MAP_TYPE_PERCPU_ARRAY});
    case BPF_UPTR: return type == BPF_MAP_TYPE_TASK_STORAGE;
    default: return false;
  }
}

// A value whose special fields cannot be understood counts as one without: only programs that want them will
// be refused.
static Result<void> find_special_fields(Map& map, const Btf& btf, uint32_t value_id) {
  constexpr uint32_t mask = BPF_SPIN_LOCK | BPF_RES_SPIN_LOCK | BPF_TIMER | BPF_KPTR | BPF_LIST_HEAD |
                            BPF_RB_ROOT | BPF_REFCOUNT | BPF_WORKQUEUE | BPF_UPTR | BPF_TASK_WORK;
  Machine& machine = map.machine;
  Result<BtfRecord> record = btf_parse_fields(*btf.types, value_id, mask, map.value_size, machine.version);
  if (!record || !*record) return {};
  const bool strict = has(Gate::btf_records, machine.version) || record->has(BPF_KPTR);
  if (strict && !bpf_capable(machine)) return refuse(Errno::Perm, "special fields in values need CAP_BPF");
  if (map.map_flags & (strict ? BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG : BPF_F_RDONLY_PROG))
    return refuse(Errno::Access, "programs need to read and write values with special fields");
  for (const BtfField& field : record->fields)
    if (!map_may_have(map.map_type, field.type, machine.version))
      return refuse(!strict && field.type == BPF_SPIN_LOCK ? Errno::NotSupp : Errno::OpNotSupp,
                    "map type {} cannot have a {} in its values", map.map_type,
                    btf_field_type_name(field.type));
  TRY(btf_check_fields(*btf.types, *record, machine.version));
  map.record = *std::move(record);
  return {};
}

// The types of key and value are the caller's word, but their sizes must be those of the map.
static Result<void> map_check_btf(Map& map, const Btf& btf, uint32_t key_id, uint32_t value_id) {
  if (key_id) {
    const int64_t size = btf.types->size_of(key_id);
    if (size != int64_t(map.key_size))
      return refuse(Errno::Inval, "BTF says that the key has {} bytes, the map {}", size, map.key_size);
  } else if (!map.ops->map_check_btf) {
    return refuse(Errno::Inval, "map type {} wants the key's type too", map.map_type);
  }
  const int64_t size = btf.types->size_of(value_id);
  if (size != int64_t(map.value_size))
    return refuse(Errno::Inval, "BTF says that the value has {} bytes, the map {}", size, map.value_size);
  // From here on typedef and const are seen through, as btf_type_id_size() gives it.
  uint32_t key = key_id, value = value_id;
  btf.types->skip_modifiers(key_id, &key);
  btf.types->skip_modifiers(value_id, &value);
  TRY(find_special_fields(map, btf, value));
  if (!map.ops->map_check_btf) return {};
  return MAP_OP(map, map_check_btf, map, btf, key, value);
}

static Result<void> map_set_btf(Map& map, const bpf_attr& attr) {
  map.btf = TRY(btf_get_by_fd(map.machine, int(attr.btf_fd), {"map->btf"}));
  if (map.btf->kernel_btf) return refuse(Errno::Access, "btf_fd {} is the kernel's own BTF", attr.btf_fd);
  if (attr.btf_value_type_id) TRY(map_check_btf(map, *map.btf, attr.btf_key_type_id, attr.btf_value_type_id));
  map.btf_key_type_id = attr.btf_key_type_id;
  map.btf_value_type_id = attr.btf_value_type_id;
  map.btf_vmlinux_value_type_id = attr.btf_vmlinux_value_type_id;
  return {};
}

// What must be right before the map has a name and an id. The map is the caller's to free.
static Result<void> init_map(Map& map, const bpf_attr& attr) {
  map.name = TRY(bpf_obj_name_cpy(attr.map_name, map.machine.version));
  map.refcnt.inc({"born in task {}", map.machine.current->pid});
  map.usercnt.inc({"born in task {}", map.machine.current->pid});
  if (attr.btf_key_type_id || attr.btf_value_type_id || attr.btf_vmlinux_value_type_id)
    TRY(map_set_btf(map, attr));
  TRY(set_excl_prog_hash(map, attr));
  bpf_map_alloc_id(map);
  return {};
}

SysResult map_create(Machine& machine, bpf_attr& attr) {
  KFN(machine, map_create);
  TRY(check_attr(machine, BPF_MAP_CREATE, attr));
  const bool token_flag = attr.map_flags & BPF_F_TOKEN_FD & known_map_flags(machine.version);
  if (token_flag) attr.map_flags &= ~BPF_F_TOKEN_FD;
  TRY(check_attributes(attr));
  const int f_flags = TRY(bpf_get_file_flag(attr.map_flags));
  TRY(check_numa_node(attr));
  const MapOps* ops = TRY(find_map_ops(machine, attr));
  const bool attributes_first =
      has(Gate::map_attributes_first, machine.version) || asks_late(bpf_map_type(attr.map_type));
  if (!attributes_first) TRY(check_map_privileges(machine, bpf_map_type(attr.map_type)));
  if (ops->map_alloc_check) TRY(ops->map_alloc_check(machine, attr));
  if (token_flag) TRY(bpf_token_get_from_fd(machine, attr.map_token_fd));
  if (attributes_first) TRY(check_map_privileges(machine, bpf_map_type(attr.map_type)));
  if (attr.map_ifindex) TRY(bpf_map_offload_map_alloc(machine, attr));

  Map* map = TRY(ops->map_alloc(machine, attr));
  map->ops = ops;
  Holding newborn(machine, *map, "bpf(BPF_MAP_CREATE)", true);
  if (Result<void> done = init_map(*map, attr); !done) {
    newborn.release();
    bpf_map_free(*map);
    return done.refusal();
  }
  SysResult fd = bpf_map_new_fd(*map, f_flags, newborn);
  if (!fd) {
    newborn.release();
    bpf_map_put_with_uref(*map, {"no descriptor for the new map"});
  }
  return fd;
}

}  // namespace bpfsim
