// Models: bpf_object_load() of tools/lib/bpf/libbpf.c (libbpf 1.4, of Linux 6.12): user space, not the kernel
//
// The loader's half that speaks bpf(2): types, then maps with their contents, then for each program its
// relocations and PROG_LOAD. Every call is recorded with its attr and its result. When one is refused, what
// was made so far is given back. Departs from libbpf: no probing of the kernel (LoadOptions::kernel_version
// says what it has), and each program is patched just before it is loaded.
#include <algorithm>
#include <bit>
#include <cstring>

#include "loader/open_parts.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

uint64_t address(const void* p) { return uint64_t(reinterpret_cast<uintptr_t>(p)); }

template <size_t n>
void set_name(char (&field)[n], const std::string& name) {
  std::memcpy(field, name.data(), std::min(name.size(), n - 1));
}

class ObjectLoader {
 public:
  ObjectLoader(BpfObject& object, const SysBpf& sys_bpf, const LoadOptions& options)
      : object_(object), sys_bpf_(sys_bpf), options_(options) {}

  Result<void> run() {
    if (has("4.18"_v) && options_.load_btf && object_.btf) load_btf();
    for (BpfMap& map : object_.maps) TRY(set_up_map(map));
    const std::vector<BpfProgram> pristine = object_.programs;
    for (BpfProgram& program : object_.programs)
      if (program.autoload && !program.is_subprog) TRY(load_program(program, pristine));
    for (BpfMap& map : object_.maps)
      if (map.type == BPF_MAP_TYPE_PROG_ARRAY) TRY(fill_slots(map));
    return {};
  }

 private:
  bool has(Version since) const { return options_.kernel_version >= since; }

  long call(bpf_cmd cmd, bpf_attr& attr, std::string text) {
    Step step{.kind = Step::Kind::Syscall, .text = std::move(text), .cmd = int(cmd)};
    step.attr.resize(sizeof attr);
    std::memcpy(step.attr.data(), &attr, sizeof attr);
    step.result = sys_bpf_(int(cmd), &attr, sizeof attr);
    object_.steps.push_back(std::move(step));
    return object_.steps.back().result;
  }

  // The load ends with this call, for the reason that the kernel gives.
  Refusal refused(bpf_cmd cmd, long result, const std::string& of) {
    object_.refused = {int(cmd), std::string(find_command(cmd)->name).substr(4) + " of " + of};
    return options_.last_refusal ? options_.last_refusal() : Refusal{Errno(-result), "", "", {}};
  }

  void close_now(int fd) {
    if (fd >= 0 && options_.close_fd) options_.close_fd(fd);
  }

  // The kernel's words matter only if it says no: the second call is for the log.
  void load_btf() {
    const std::vector<uint8_t> bytes = loader::bpf_object_sanitize_btf(*object_.btf, options_.kernel_version);
    std::vector<char> log(options_.log_size);
    for (uint32_t level : {0u, 1u}) {
      bpf_attr attr;
      attr.btf = address(bytes.data());
      attr.btf_size = uint32_t(bytes.size());
      attr.btf_log_level = level;
      if (level && !log.empty()) {
        attr.btf_log_buf = address(log.data());
        attr.btf_log_size = uint32_t(log.size());
      }
      const long fd =
          call(BPF_BTF_LOAD, attr, "load the types: " + std::to_string(bytes.size()) + " bytes of BTF");
      if (fd >= 0) {
        object_.btf_fd = int(fd);
        return;
      }
    }
    if (!log.empty()) object_.btf_log.assign(log.data(), strnlen(log.data(), log.size()));
    loader::note(object_, Step::Kind::Note, "the kernel refused the types: going on without them");
  }

  Result<void> set_up_map(BpfMap& map) {
    if (map.fd >= 0) return {};  // made already, for a slot of another
    for (const auto& [name, fd] : options_.reuse_maps) {
      if (name != map.name && name != map.full_name) continue;
      map.fd = options_.dup_fd ? options_.dup_fd(fd) : fd;
      if (map.fd < 0)
        return refuse(Errno(-map.fd), "map '{}': fd {}, given for it, cannot be copied", name, fd);
      loader::note(object_, Step::Kind::Note, "map " + map.name + " is given: fd " + std::to_string(fd));
      return {};
    }
    if (map.is_data() && !has("5.2"_v))
      return refuse(Errno::OpNotSupp, "section '{}': maps of variables exist since Linux 5.2, this is {}",
                    map.full_name, options_.kernel_version.str());
    const bool pin = map.pinning == BpfMap::Pinning::ByName && options_.pin_maps;
    const std::string path = options_.pin_root_path + "/" + map.full_name;
    if (pin && TRY(reuse_pinned(map, path))) return {};
    TRY(create_map(map));
    if (map.is_data()) TRY(fill_variables(map));
    if (loader::is_map_in_map(map.type)) TRY(fill_slots(map));
    if (pin) {
      bpf_attr attr;
      attr.pathname = address(path.c_str());
      attr.bpf_fd = uint32_t(map.fd);
      if (const long ret = call(BPF_OBJ_PIN, attr, "pin map " + map.name + " at " + path); ret < 0)
        return refused(BPF_OBJ_PIN, ret, "map '" + map.name + "' at '" + path + "'");
    }
    return {};
  }

  // LIBBPF_PIN_BY_NAME: a map that another load has pinned is shared, if it is of the same kind.
  Result<bool> reuse_pinned(BpfMap& map, const std::string& path) {
    bpf_attr attr;
    attr.pathname = address(path.c_str());
    const long fd = call(BPF_OBJ_GET, attr, "is map " + map.name + " pinned at " + path + "?");
    if (fd == -long(Errno::NoEnt)) return false;
    if (fd < 0) return refused(BPF_OBJ_GET, fd, "map '" + map.name + "' at '" + path + "'");
    bpf_map_info info{};
    bpf_attr get;
    get.info.bpf_fd = uint32_t(fd);
    get.info.info_len = sizeof info;
    get.info.info = address(&info);
    const long ret = call(BPF_OBJ_GET_INFO_BY_FD, get, "is the pinned map of the same kind?");
    const bool same = ret >= 0 && info.type == map.type && info.key_size == map.key_size &&
                      info.value_size == map.value_size && info.max_entries == map.max_entries &&
                      info.map_flags == map.map_flags && info.map_extra == map.map_extra;
    if (!same) {
      close_now(int(fd));
      return refuse(Errno::Inval, "map '{}' pinned at '{}' differs from its definition", map.name, path);
    }
    map.fd = int(fd);
    return true;
  }

  uint32_t entries_of(const BpfMap& map) const {
    if (map.type == BPF_MAP_TYPE_PERF_EVENT_ARRAY && !map.max_entries) return options_.nr_cpus;
    if (map.type != BPF_MAP_TYPE_RINGBUF && map.type != BPF_MAP_TYPE_USER_RINGBUF) return map.max_entries;
    constexpr uint32_t page = 4096;  // a ring is a power of two of pages
    if (map.max_entries > 1u << 31) return map.max_entries;
    return map.max_entries ? std::max(page, std::bit_ceil(map.max_entries)) : 0;
  }

  static bool takes_no_btf(uint32_t type) {
    switch (type) {
      case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
      case BPF_MAP_TYPE_CGROUP_ARRAY:
      case BPF_MAP_TYPE_STACK_TRACE:
      case BPF_MAP_TYPE_ARRAY_OF_MAPS:
      case BPF_MAP_TYPE_HASH_OF_MAPS:
      case BPF_MAP_TYPE_DEVMAP:
      case BPF_MAP_TYPE_DEVMAP_HASH:
      case BPF_MAP_TYPE_CPUMAP:
      case BPF_MAP_TYPE_XSKMAP:
      case BPF_MAP_TYPE_SOCKMAP:
      case BPF_MAP_TYPE_SOCKHASH:
      case BPF_MAP_TYPE_QUEUE:
      case BPF_MAP_TYPE_STACK:
      case BPF_MAP_TYPE_ARENA: return true;
    }
    return false;
  }

  Result<void> create_map(BpfMap& map) {
    bpf_attr attr;
    attr.map_type = map.type;
    attr.key_size = map.key_size;
    attr.value_size = map.value_size;
    attr.max_entries = entries_of(map);
    attr.map_flags = map.map_flags;
    attr.numa_node = map.numa_node;
    attr.map_extra = map.map_extra;
    if (map.is_data() && !has("5.5"_v)) attr.map_flags &= ~BPF_F_MMAPABLE;
    if (has("4.15"_v)) set_name(attr.map_name, map.name);
    if (object_.btf_fd >= 0 && !takes_no_btf(map.type)) {
      attr.btf_fd = uint32_t(object_.btf_fd);
      attr.btf_key_type_id = map.btf_key_type_id;
      attr.btf_value_type_id = map.btf_value_type_id;
    }
    if (!map.inner.empty()) {
      TRY(create_map(map.inner[0]));
      attr.inner_map_fd = uint32_t(map.inner[0].fd);
    }
    long fd = call(BPF_MAP_CREATE, attr, "create map " + map.name);
    if (fd < 0 && (attr.btf_key_type_id || attr.btf_value_type_id)) {
      attr.btf_fd = attr.btf_key_type_id = attr.btf_value_type_id = 0;
      fd = call(BPF_MAP_CREATE, attr, "create map " + map.name + " without its types");
    }
    if (!map.inner.empty()) {  // only its shape was wanted
      close_now(map.inner[0].fd);
      if (options_.close_fd) map.inner[0].fd = -1;
    }
    if (fd < 0)
      return refused(BPF_MAP_CREATE, fd, "'" + map.name + "' (type " + std::to_string(map.type) + ")");
    map.fd = int(fd);
    return {};
  }

  Result<void> update(const BpfMap& map, uint32_t key, const void* value, std::string text) {
    bpf_attr attr;
    attr.map_fd = uint32_t(map.fd);
    attr.key = address(&key);
    attr.value = address(value);
    if (const long ret = call(BPF_MAP_UPDATE_ELEM, attr, std::move(text)); ret < 0)
      return refused(BPF_MAP_UPDATE_ELEM, ret, "'" + map.name + "' at " + std::to_string(key));
    return {};
  }

  Result<void> fill_variables(const BpfMap& map) {
    if (map.data.size() != map.value_size)
      return refuse(Errno::Inval, "map '{}' takes {} bytes, has {}", map.name, map.value_size,
                    map.data.size());
    TRY(update(map, 0, map.data.data(), "put the variables of " + map.full_name + " into map " + map.name));
    if (map.origin != BpfMap::Origin::Rodata) return {};
    bpf_attr attr;
    attr.map_fd = uint32_t(map.fd);
    if (const long ret = call(BPF_MAP_FREEZE, attr, "freeze map " + map.name + ": constants stay constant");
        ret < 0)
      return refused(BPF_MAP_FREEZE, ret, "'" + map.name + "'");
    return {};
  }

  // .values: a slot takes the fd of a map or a program. A map that stands later has no fd yet: it is made
  // first.
  Result<void> fill_slots(BpfMap& map) {
    for (const auto& [slot, target] : map.values) {
      int fd = -1;
      if (map.type == BPF_MAP_TYPE_PROG_ARRAY) {
        const BpfProgram* program = object_.find_program(target);
        if (program) fd = program->fd;
      } else if (BpfMap* inner = object_.find_map(target)) {
        if (inner->fd < 0 && !loader::is_map_in_map(inner->type)) TRY(set_up_map(*inner));
        fd = inner->fd;
      }
      if (fd < 0)
        return refuse(Errno::Inval, "map '{}': slot {} wants '{}', which is not loaded", map.name, slot,
                      target);
      TRY(update(map, slot, &fd,
                 "map " + map.name + ": put " + target + " into slot " + std::to_string(slot)));
    }
    return {};
  }

  // The kernel's own BTF is the one that INFO calls "vmlinux". libbpf reads /sys/kernel/btf/vmlinux; the
  // commands serve as well, and work on a simulated machine too.
  Result<const BtfTypes*> kernel_btf() {
    if (!kernel_btf_) kernel_btf_ = TRY(read_btf(1, "the kernel's BTF"));
    return &*kernel_btf_;
  }

  Result<BtfTypes> read_btf(uint32_t id, const std::string& whose) {
    bpf_attr by_id;
    by_id.btf_id = id;
    const long fd = call(BPF_BTF_GET_FD_BY_ID, by_id, "open " + whose);
    if (fd < 0) return refused(BPF_BTF_GET_FD_BY_ID, fd, whose);
    std::vector<uint8_t> bytes;
    long done = 0;
    for (int pass = 0; pass < 2 && done >= 0; ++pass) {  // how large it is, then the bytes
      bpf_btf_info info{};
      info.btf = address(bytes.data());
      info.btf_size = uint32_t(bytes.size());
      bpf_attr attr;
      attr.info.bpf_fd = uint32_t(fd);
      attr.info.info_len = sizeof info;
      attr.info.info = address(&info);
      done = call(BPF_OBJ_GET_INFO_BY_FD, attr, (pass ? "read " : "how large is ") + whose);
      if (done >= 0 && !pass) bytes.resize(info.btf_size);
    }
    close_now(int(fd));
    if (done < 0) return refused(BPF_OBJ_GET_INFO_BY_FD, done, whose);
    return BtfTypes::parse(bytes);
  }

  // A function of another program, for SEC("freplace/func") and for tracing programs that were given one.
  Result<void> find_prog_btf_id(BpfProgram& program, const std::string& function) {
    if (!program.attach_prog_fd)
      return refuse(Errno::Inval, "program '{}': of which program it replaces a function was not said",
                    program.name);
    bpf_prog_info info{};
    bpf_attr attr;
    attr.info.bpf_fd = uint32_t(program.attach_prog_fd);
    attr.info.info_len = sizeof info;
    attr.info.info = address(&info);
    const long done = call(BPF_OBJ_GET_INFO_BY_FD, attr, "which BTF the target has");
    if (done < 0) return refused(BPF_OBJ_GET_INFO_BY_FD, done, "the target of '" + program.name + "'");
    if (!info.btf_id) return refuse(Errno::Inval, "program '{}': its target has no BTF", program.name);
    const BtfTypes types = TRY(read_btf(info.btf_id, "the target's BTF"));
    program.attach_btf_id = types.find_by_name(function, BTF_KIND_FUNC);
    if (!program.attach_btf_id)
      return refuse(Errno::NoEnt, "program '{}': its target has no function {}", program.name, function);
    return {};
  }

  // SEC("iter/bpf_map") names the function bpf_iter_bpf_map, SEC("tp_btf/sys_enter") the type
  // btf_trace_sys_enter, SEC("lsm/file_open") the function bpf_lsm_file_open, SEC("fentry/do_exit") the
  // function itself.
  Result<void> find_attach_btf_id(BpfProgram& program) {
    const size_t slash = program.section.find('/');
    std::string name = program.attach_func;
    if (name.empty() && slash != program.section.npos) name = program.section.substr(slash + 1);
    if (name.empty() || program.attach_btf_id) return {};
    if (program.type == BPF_PROG_TYPE_EXT || program.attach_prog_fd) return find_prog_btf_id(program, name);
    if (program.type == BPF_PROG_TYPE_LSM) name = "bpf_lsm_" + name;
    uint32_t kind = BTF_KIND_FUNC;
    if (program.expected_attach_type == BPF_TRACE_RAW_TP) name = "btf_trace_" + name, kind = BTF_KIND_TYPEDEF;
    if (program.expected_attach_type == BPF_TRACE_ITER) name = "bpf_iter_" + name;
    const BtfTypes* types = TRY(kernel_btf());
    program.attach_btf_id = types->find_by_name(name, kind);
    if (!program.attach_btf_id)
      return refuse(Errno::Srch, "program '{}': the kernel's BTF has no {}", program.name, name);
    return {};
  }

  Result<void> load_program(BpfProgram& program, const std::vector<BpfProgram>& pristine) {
    if (!program.def && program.type == BPF_PROG_TYPE_UNSPEC) {
      const std::string near = nearest_section(program.section);
      return near.empty() ? refuse(Errno::Inval, "program '{}': section '{}' names no program type",
                                   program.name, program.section)
                          : refuse(Errno::Inval,
                                   "program '{}': section '{}' names no program type; did you mean '{}'?",
                                   program.name, program.section, near);
    }
    if (program.def && (program.def->flags & SectionDef::SEC_ATTACH_BTF)) TRY(find_attach_btf_id(program));
    // What was opened may have been given another type since.
    const BpfProgram asked = program;
    TRY(loader::relocate_program(object_, program, pristine));
    program.type = asked.type;
    program.expected_attach_type = asked.expected_attach_type;
    program.prog_flags = asked.prog_flags;
    program.attach_btf_id = asked.attach_btf_id;
    program.attach_prog_fd = asked.attach_prog_fd;
    if (program.has_core_relos)
      return refuse(Errno::OpNotSupp, "program '{}' has CO-RE relocations, which are not modelled yet",
                    program.name);
    return prog_load(program);
  }

  bpf_attr prog_attr(const BpfProgram& program) const {
    bpf_attr attr;
    attr.prog_type = program.type;
    attr.expected_attach_type = program.expected_attach_type;
    const bool optional = program.def && (program.def->flags & SectionDef::SEC_ATTACH_OPT);
    if (optional && !has("4.17"_v)) attr.expected_attach_type = 0;
    attr.insn_cnt = uint32_t(program.insns.size());
    attr.insns = address(program.insns.data());
    attr.license = address(object_.license.c_str());
    const Version kernel = options_.kernel_version;
    attr.kern_version = object_.kern_version ? object_.kern_version
                                             : uint32_t(kernel.major) << 16 | uint32_t(kernel.minor) << 8;
    attr.prog_flags = program.prog_flags;
    attr.attach_btf_id = program.attach_btf_id;
    attr.attach_prog_fd = uint32_t(program.attach_prog_fd);
    if (has("4.15"_v)) set_name(attr.prog_name, program.name);
    if (object_.btf_fd >= 0 && has("5.0"_v)) {
      attr.prog_btf_fd = uint32_t(object_.btf_fd);
      attr.func_info_rec_size = sizeof(bpf_func_info);
      attr.func_info_cnt = uint32_t(program.func_info.size());
      attr.func_info = address(program.func_info.data());
      attr.line_info_rec_size = sizeof(bpf_line_info);
      attr.line_info_cnt = uint32_t(program.line_info.size());
      attr.line_info = address(program.line_info.data());
    }
    return attr;
  }

  // Without a log first, as that is cheaper; refused programs once more with it, and with more room if it was
  // short.
  Result<void> prog_load(BpfProgram& program) {
    uint32_t level = options_.log_level;
    std::vector<char> log(level ? std::max(options_.log_size, 128u) : 0);
    for (;;) {
      bpf_attr attr = prog_attr(program);
      attr.log_level = level;
      attr.log_size = uint32_t(log.size());
      attr.log_buf = address(log.empty() ? nullptr : log.data());
      const std::string text = "load program " + program.name + ": " + std::to_string(program.insns.size()) +
                               " instructions" + (level ? ", log level " + std::to_string(level) : "");
      const long fd = call(BPF_PROG_LOAD, attr, text);
      program.log.assign(log.data(), log.empty() ? 0 : strnlen(log.data(), log.size()));
      object_.log = program.log;
      if (fd >= 0) {
        program.fd = int(fd);
        return {};
      }
      if (level == 0) {
        level = 1;
        log.assign(std::max(options_.log_size, 128u), 0);
      } else if (fd == -long(Errno::NoSpc) && log.size() < max_log_size) {
        log.assign(log.size() * 4, 0);
      } else {
        return refused(BPF_PROG_LOAD, fd, "'" + program.name + "'");
      }
    }
  }

  static constexpr size_t max_log_size = 16 << 20;  // what kernels before 5.2 allow

  BpfObject& object_;
  const SysBpf& sys_bpf_;
  const LoadOptions& options_;
  std::optional<BtfTypes> kernel_btf_;
};

}  // namespace

Result<void> bpf_object_load(BpfObject& object, const SysBpf& sys_bpf, const LoadOptions& options) {
  if (object.btf_fd >= 0 ||
      std::any_of(object.maps.begin(), object.maps.end(), [](auto& m) { return m.fd >= 0; }) ||
      std::any_of(object.programs.begin(), object.programs.end(), [](auto& p) { return p.fd >= 0; }))
    return refuse(Errno::Inval, "object '{}' is loaded already", object.name);
  Result<void> result = ObjectLoader(object, sys_bpf, options).run();
  if (!result && options.close_fd) bpf_object_close(object, options.close_fd);
  return result;
}

void bpf_object_close(BpfObject& object, const std::function<void(int fd)>& close_fd) {
  auto give_back = [&](int& fd) {
    if (fd >= 0) close_fd(fd);
    fd = -1;
  };
  for (BpfProgram& program : object.programs) give_back(program.fd);
  for (BpfMap& map : object.maps) {
    for (BpfMap& inner : map.inner) give_back(inner.fd);
    give_back(map.fd);
  }
  give_back(object.btf_fd);
}

}  // namespace bpfsim
