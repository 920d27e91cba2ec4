// Models: kernel/bpf/syscall.c (bpf_map_put and its neighbours) (Linux 6.18)
//
// The life of a map. The last reference frees the id at once and queues the memory; the last reference from
// user space calls map_release_uref. Departs from the kernel: every free waits for the grace period (the
// kernel's waits in a work queue, and for the grace period only where programs can hold inner maps).
#include "object/map.h"

#include "base/align.h"
#include "object/btf.h"
#include "object/file.h"
#include "object/ops.h"
#include "object/registry.h"
#include "uapi/gates.h"
#include "uapi/info.h"
#include "uapi/tables.h"

namespace bpfsim {

Map::Map(Machine& machine, const bpf_attr& attr)
    : Object(machine, ObjectKind::Map),
      map_type(bpf_map_type(attr.map_type)),
      key_size(attr.key_size),
      value_size(attr.value_size),
      max_entries(attr.max_entries),
      map_flags(attr.map_flags & ~(BPF_F_RDONLY | BPF_F_WRONLY)),  // those belong to the file
      map_extra(attr.map_extra),
      handle(machine.handles.publish(HandleKind::Map, this)) {}

Map::~Map() { machine.handles.withdraw(handle); }

std::string map_type_name(const Map& map) {
  auto& extra = map.machine.registry->extra_map_types;
  if (auto own = extra.find(map.map_type); own != extra.end()) return "map type '" + own->second.name + "'";
  return find_map_type(map.map_type)->name;
}

std::string Map::label() const { return label_with_id(*this, name); }

void Map::each_held(const HoldVisitor& visit) const {
  if (btf) visit({btf, Counter::Refs, true, "btf"});
  if (inner_map_meta) visit({inner_map_meta, Counter::Refs, false, "inner_map_meta"});
  if (ops && ops->each_held) ops->each_held(*this, visit);
}

Result<Map*> __bpf_map_get(Machine& machine, int fd) { return object_of_fd<Map>(machine, fd, bpf_map_fops); }

Result<Map*> __bpf_map_get(const File* file, int fd) {
  const auto here = std::source_location::current();
  return static_cast<Map*>(TRY(object_of_file(file, fd, bpf_map_fops, Errno::Inval, here)));
}

void bpf_map_inc(Map& map, const Cause& cause) { map.refcnt.inc(cause); }

void bpf_map_inc_with_uref(Map& map, const Cause& cause) {
  map.refcnt.inc(cause);
  map.usercnt.inc(cause);
}

static void bpf_map_free_id(Map& map) {
  KFN(map.machine, bpf_map_free_id);
  if (!map.id) return;
  map.machine.registry->map_idr.remove(map.id);
  id_is_gone(map);
}

void bpf_map_free(Map& map) {
  KFN(map.machine, bpf_map_free);
  emit<LifeEvent>(map.machine, map, "freed");
  Btf* btf = std::exchange(map.btf, nullptr);
  MAP_OP(map, map_free, map);  // the struct goes with its elements
  if (btf) btf_put(*btf, {"a map that used it is freed"});
}

void bpf_map_put(Map& map, const Cause& cause) {
  if (!map.refcnt.dec_and_test(cause)) return;
  KFN(map.machine, bpf_map_put);
  std::string what = map.label();
  bpf_map_free_id(map);
  emit<LifeEvent>(map.machine, map, "free queued");
  map.machine.rcu.call_rcu(what, &map, [&map] { bpf_map_free(map); });
}

static void bpf_map_put_uref(Map& map, const Cause& cause) {
  if (!map.usercnt.dec_and_test(cause)) return;
  KFN(map.machine, bpf_map_put_uref);
  if (map.ops->map_release_uref) MAP_OP(map, map_release_uref, map);
}

void bpf_map_put_with_uref(Map& map, const Cause& cause) {
  bpf_map_put_uref(map, cause);
  bpf_map_put(map, cause);
}

Map* map_from_handle(const Machine& machine, Addr handle) {
  return static_cast<Map*>(machine.handles.resolve(HandleKind::Map, handle));
}

bool is_percpu_map(bpf_map_type type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
         type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

uint32_t bpf_map_value_size(const Map& map) {
  if (is_percpu_map(map.map_type)) return uint32_t(round_up(map.value_size, 8)) * map.machine.cpus;
  switch (map.map_type) {
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH_OF_MAPS: return sizeof(uint32_t);  // a descriptor goes in, an id comes out
    default: return map.value_size;
  }
}

static void bpf_map_release(File& file) {
  auto& map = static_cast<Map&>(*file.private_data);
  KFN(map.machine, bpf_map_release);
  if (map.ops->map_release) MAP_OP(map, map_release, map, file);
  bpf_map_put_with_uref(map, {"file released"});
}

static std::string bpf_map_show_fdinfo(const File& file) {
  const auto& map = static_cast<const Map&>(*file.private_data);
  const Version version = map.machine.version;
  std::string lines;
  auto line = [&](const char* name, uint64_t value) {
    (lines += name) += ":\t" + std::to_string(value) + "\n";
  };
  auto hex_line = [&](const char* name, uint64_t value) {
    char text[64];
    std::snprintf(text, sizeof text, "%s:\t%#llx\n", name, static_cast<unsigned long long>(value));
    lines += value ? text : std::string(name) + ":\t0x0\n";
  };
  line("map_type", map.map_type);
  line("key_size", map.key_size);
  line("value_size", map.value_size);
  line("max_entries", map.max_entries);
  hex_line("map_flags", map.map_flags);
  if (tells(InfoPart::map_map_extra, version)) hex_line("map_extra", map.map_extra);
  line("memlock", map.ops->map_mem_usage ? map.ops->map_mem_usage(map) : 0);
  if (has(Gate::fdinfo_ids, version)) line("map_id", map.id);
  if (find_command(BPF_MAP_FREEZE)->since <= version) line("frozen", map.frozen);
  if (map.owner.set) {
    line("owner_prog_type", map.owner.type);
    line("owner_jited", map.owner.jited);
  }
  return lines;
}

static Map& map_of(const File& file) { return static_cast<Map&>(*file.private_data); }

// An arena's mapping has operations of its own, which do not count: once it was mapped for writing, it is
// never frozen.
static bool counts_mappings(const Map& map) { return map.map_type != BPF_MAP_TYPE_ARENA; }

static void bpf_map_mmap_open(File& file, const Vma& vma) {
  if (vma.write && counts_mappings(map_of(file))) ++map_of(file).writecnt;
}

static void bpf_map_mmap_close(File& file, const Vma& vma) {
  if (vma.write && counts_mappings(map_of(file))) --map_of(file).writecnt;
}

// While it is mapped for writing, a map cannot be frozen, and a frozen one cannot be mapped so.
static Result<Span> bpf_map_mmap(File& file, Vma& vma) {
  Map& map = map_of(file);
  KFN(map.machine, bpf_map_mmap);
  if (map.record) return refuse(Errno::NotSupp, "the values have special fields");
  if (!map.ops->map_mmap) return refuse(Errno::NotSupp, "map type {} has no pages to map", map.map_type);
  if (!vma.shared) return refuse(Errno::Inval, "not MAP_SHARED, or the descriptor is read-only");
  if (vma.write && map.frozen) return refuse(Errno::Perm, "the map is frozen");
  if (vma.write && map.map_flags & BPF_F_RDONLY_PROG)
    return refuse(Errno::Access, "programs may only read this map, and rely on what they read");
  const Span pages = TRY(MAP_OP(map, map_mmap, map, vma));
  if (vma.write) ++map.writecnt;
  return pages;
}

static uint64_t bpf_map_page(const File& file, uint64_t offset) {
  Map& map = map_of(file);
  return map.ops->map_mmap_page ? map.ops->map_mmap_page(map, offset) : offset;
}

static Result<void> bpf_get_unmapped_area(const File& file, uint64_t address, uint64_t offset,
                                          uint64_t length) {
  const Map& map = map_of(file);
  if (!map.ops->map_get_unmapped_area) return {};
  return MAP_OP(map, map_get_unmapped_area, map, address, offset, length);
}

static const MmapOps bpf_map_mmap_ops = {.mmap = bpf_map_mmap,
                                         .open = bpf_map_mmap_open,
                                         .close = bpf_map_mmap_close,
                                         .page = bpf_map_page,
                                         .get_unmapped_area = bpf_get_unmapped_area};

const FileOps bpf_map_fops = {.name = "bpf-map",
                              .release = bpf_map_release,
                              .show_fdinfo = bpf_map_show_fdinfo,
                              .holds = Counter::UserRefs,
                              .mmap = &bpf_map_mmap_ops};

}  // namespace bpfsim
