// One machine with one task in it, and the commands of bpf(2) as one call each, for tests. Results are as the
// syscall gives them: a descriptor or 0, or -errno. After each call the object graph is walked: a counter
// that differs from the references that really stand there fails the test at once.
#pragma once

#include <string>
#include <vector>

#include "catch.h"
#include "kernel.h"
#include "object/btf.h"
#include "object/file.h"
#include "object/graph.h"
#include "object/link.h"
#include "object/map.h"
#include "object/prog.h"
#include "object/registry.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

namespace bpfsim {

inline uint64_t user_ptr(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// A PROG_LOAD of these instructions; with a log, the verifier's words come into it.
inline bpf_attr prog_load_attr(bpf_prog_type type, const std::vector<bpf_insn>& insns,
                               std::vector<char>* log = nullptr, uint32_t level = 1) {
  bpf_attr attr;
  attr.prog_type = type;
  attr.insns = user_ptr(insns.data());
  attr.insn_cnt = uint32_t(insns.size());
  attr.license = user_ptr("GPL");
  if (!log) return attr;
  log->assign(65536, 0);
  attr.log_buf = user_ptr(log->data());
  attr.log_size = uint32_t(log->size());
  attr.log_level = level;
  return attr;
}

struct Sim {
  explicit Sim(MachineOptions options = {}) : k(small(std::move(options))), t(k.spawn("bash")) {}

  Kernel k;
  Task& t;
  bool check_graph = true;

  static MachineOptions small(MachineOptions options) {
    options.arena_bytes = std::min<uint64_t>(options.arena_bytes, 64 << 20);
    return options;
  }

  Machine& machine() { return k.machine(); }
  std::string why() const {  // of the last refusal
    const Refusal& refusal = k.last_refusal();
    return std::string(errno_name(refusal.err)) + " in " + refusal.check() + ": " + refusal.reason();
  }

  long bpf(Task& task, int cmd, bpf_attr& attr, uint32_t size = sizeof(bpf_attr)) {
    const long ret = long(k.sys_bpf(task, cmd, user_ptr(&attr), size));
    if (check_graph) {
      const std::vector<std::string> wrong = object_graph(k.machine()).disagreements();
      for (const std::string& line : wrong) UNSCOPED_INFO(line);
      CHECK(wrong.empty());
    }
    return ret;
  }
  long bpf(int cmd, bpf_attr& attr, uint32_t size = sizeof(bpf_attr)) { return bpf(t, cmd, attr, size); }

  long map_create(bpf_map_type type, uint32_t key_size, uint32_t value_size, uint32_t max_entries,
                  uint32_t flags = 0, const char* name = "") {
    bpf_attr attr;
    attr.map_type = type;
    attr.key_size = key_size;
    attr.value_size = value_size;
    attr.max_entries = max_entries;
    attr.map_flags = flags;
    std::strncpy(attr.map_name, name, sizeof attr.map_name - 1);
    return bpf(BPF_MAP_CREATE, attr);
  }
  long elem(int cmd, long fd, const void* key, const void* value, uint64_t flags = 0) {
    bpf_attr attr;
    attr.map_fd = uint32_t(fd);
    attr.key = user_ptr(key);
    attr.value = user_ptr(value);
    attr.flags = flags;
    return bpf(cmd, attr);
  }
  long map_update(long fd, const void* key, const void* value, uint64_t flags = BPF_ANY) {
    return elem(BPF_MAP_UPDATE_ELEM, fd, key, value, flags);
  }
  long map_lookup(long fd, const void* key, void* value) { return elem(BPF_MAP_LOOKUP_ELEM, fd, key, value); }
  long map_delete(long fd, const void* key) { return elem(BPF_MAP_DELETE_ELEM, fd, key, nullptr); }
  long map_get_next_key(long fd, const void* key, void* next) {
    return elem(BPF_MAP_GET_NEXT_KEY, fd, key, next);
  }
  long map_freeze(long fd) {
    bpf_attr attr;
    attr.map_fd = uint32_t(fd);
    return bpf(BPF_MAP_FREEZE, attr);
  }
  long prog_load(bpf_prog_type type, const std::vector<bpf_insn>& insns, const char* name = "",
                 const char* license = "GPL") {
    bpf_attr attr = prog_load_attr(type, insns, &log);
    attr.license = user_ptr(license);
    std::strncpy(attr.prog_name, name, sizeof attr.prog_name - 1);
    return bpf(BPF_PROG_LOAD, attr);
  }
  std::vector<char> log;  // the verifier's, of the last prog_load
  long link_create(long prog, long target, uint32_t type, uint32_t btf_id = 0) {
    bpf_attr attr;
    attr.link_create.prog_fd = uint32_t(prog);
    attr.link_create.target_fd = uint32_t(target);
    attr.link_create.attach_type = type;
    attr.link_create.target_btf_id = btf_id;
    return bpf(BPF_LINK_CREATE, attr);
  }
  int close(long fd) { return errno_of(k.close(t, int(fd))); }

  Object* object(long fd) { return t.files.get(int(fd))->private_data; }
  Map& map(long fd) { return static_cast<Map&>(*object(fd)); }
  Prog& prog(long fd) { return static_cast<Prog&>(*object(fd)); }

  // Every object that lives but is neither a task nor part of the machine itself, as its label.
  std::vector<std::string> alive() {
    std::vector<std::string> labels;
    for (const auto& [serial, object] : machine().objects)
      if ((object->kind == ObjectKind::Prog || object->kind == ObjectKind::Map ||
           object->kind == ObjectKind::Link || object->kind == ObjectKind::File ||
           object->kind == ObjectKind::PerfEvent || object->kind == ObjectKind::SeqFile ||
           (object->kind == ObjectKind::Btf && !static_cast<Btf*>(object)->kernel_btf)) &&
          is_drawn(*object))
        labels.push_back(object->label());
    return labels;
  }

  template <class T>
  static int errno_of(const Result<T>& result) {
    return -int(result.err());
  }
};

// -EINVAL as the number that a syscall answers: errno_is(Errno::Inval)
inline long minus(Errno err) { return -long(err); }

}  // namespace bpfsim
