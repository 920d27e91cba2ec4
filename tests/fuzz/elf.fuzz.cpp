// Any bytes as an object file: opened and, where they open, loaded into a kernel that says yes. A file that
// begins with a zero byte is taken for raw BTF instead.
#include "../loader/fake_kernel.h"
#include "btf/btf_check.h"

using namespace bpfsim;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  if (size && data[0] == 0) {
    std::string log;
    (void)btf_parse(bytes.subspan(1), &log);
    if (auto btf = BtfTypes::parse(bytes.subspan(1)))
      for (uint32_t id = 0; id < btf->nr_types() && id < 64; ++id) (void)btf->describe(id);
    return 0;
  }
  auto object = bpf_object_open(bytes, "fuzz");
  if (!object) return 0;
  FakeKernel kernel;
  LoadOptions options;
  options.log_size = 64;
  options.close_fd = kernel.close_fd();
  if (bpf_object_load(*object, kernel.sys_bpf(), options)) bpf_object_close(*object, options.close_fd);
  if (!kernel.open_fds.empty()) __builtin_trap();  // an fd was lost
  return 0;
}
