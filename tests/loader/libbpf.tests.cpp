// libbpf, where the machine has it, loads the same objects into the live kernel: the kernel then holds the
// same maps and, to the instruction (by the program's tag), the same programs. Opened at run time, so that
// nothing depends on it.
#ifdef __linux__
#include <dlfcn.h>
#endif

#include "catch.h"
#include "live_bpf.h"
#include "loader/bpf_object.h"
#include "test_data.h"
#include "uapi/info.h"

using namespace bpfsim;

#ifdef __linux__

namespace {

struct Libbpf {
  void* lib = dlopen("libbpf.so.1", RTLD_NOW | RTLD_LOCAL);
  template <class F>
  F* find(const char* name) const {
    return reinterpret_cast<F*>(dlsym(lib, name));
  }
};

template <class Info>
Info info_of(int fd) {
  Info info{};
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  CHECK(live::sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr) == 0);
  return info;
}

void check_same_map(int theirs, int ours) {
  const auto a = info_of<bpf_map_info>(theirs), b = info_of<bpf_map_info>(ours);
  CHECK(std::string(a.name) == b.name);
  CHECK(a.type == b.type);
  CHECK(a.key_size == b.key_size);
  CHECK(a.value_size == b.value_size);
  CHECK(a.max_entries == b.max_entries);
  CHECK(a.map_flags == b.map_flags);
  CHECK(a.btf_key_type_id == b.btf_key_type_id);
  CHECK(a.btf_value_type_id == b.btf_value_type_id);
}

void check_same_program(int theirs, int ours) {
  const auto a = info_of<bpf_prog_info>(theirs), b = info_of<bpf_prog_info>(ours);
  CHECK(std::string(a.name) == b.name);
  CHECK(a.type == b.type);
  CHECK(std::memcmp(a.tag, b.tag, sizeof a.tag) == 0);
  CHECK(a.xlated_prog_len == b.xlated_prog_len);
  CHECK(a.nr_func_info == b.nr_func_info);
  CHECK(a.nr_line_info == b.nr_line_info);
  CHECK(a.gpl_compatible == b.gpl_compatible);
}

}  // namespace

TEST_CASE("libbpf makes the same maps and programs of our objects") {
  LIVE_KERNEL_OR_SKIP();
  const Libbpf libbpf;
  if (!libbpf.lib) {
    WARN("skipped: no libbpf.so.1 here");
    return;
  }
  auto open_file = libbpf.find<void*(const char*, const void*)>("bpf_object__open_file");
  auto load = libbpf.find<int(void*)>("bpf_object__load");
  auto close = libbpf.find<void(void*)>("bpf_object__close");
  auto map_fd = libbpf.find<int(void*, const char*)>("bpf_object__find_map_fd_by_name");
  auto find_program = libbpf.find<void*(void*, const char*)>("bpf_object__find_program_by_name");
  auto program_fd = libbpf.find<int(void*)>("bpf_program__fd");
  REQUIRE((open_file && load && close && map_fd && find_program && program_fd));

  for (const std::string name : {"xdp_pass", "xdp_drop", "globals", "subprogs", "maps"}) {
    INFO(name);
    void* theirs = open_file((test_data_dir() / (name + ".o")).c_str(), nullptr);
    REQUIRE(theirs);
    REQUIRE(load(theirs) == 0);
    auto ours = bpf_object_open(read_test_data(name + ".o"), name);
    REQUIRE(ours);
    REQUIRE(bpf_object_load(*ours, live::sys_bpf));
    for (const BpfMap& map : ours->maps) {
      INFO(map.full_name);
      const int fd = map_fd(theirs, map.is_data() ? map.name.c_str() : map.full_name.c_str());
      REQUIRE(fd >= 0);
      check_same_map(fd, map.fd);
    }
    for (const BpfProgram& program : ours->programs) {
      if (program.is_subprog) continue;
      INFO(program.name);
      check_same_program(program_fd(find_program(theirs, program.name.c_str())), program.fd);
    }
    bpf_object_close(*ours, live::close_fd);
    close(theirs);
  }
}

#endif
