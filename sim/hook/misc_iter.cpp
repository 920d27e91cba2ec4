// Models: kernel/kallsyms.c (ksym_iter_reg_info), net/ipv6/route.c (ipv6_route_reg_info),
// kernel/bpf/kmem_cache_iter.c, kernel/bpf/dmabuf_iter.c (Linux 6.18)
//
// An iterator over the kernel's symbols, which here are the functions that can be probed; and three whose
// objects this machine does not have, so that they answer as a kernel with none: routes, slab caches, buffers
// of devices.
#include "hook/iter_seq.h"
#include "host/tracing.h"

namespace bpfsim {

namespace {

Result<bool> bpf_iter_ksym_seq_show(IterSeq& seq, Errno& said) {
  const auto& functions = tracing(seq.machine).functions;
  if (seq.at.number >= functions.size()) return false;
  const KernelFunction& function = functions[seq.at.number++];
  Image image(seq.machine, "kallsym_iter");
  image.set("value", function.addr);
  image.set("type", 'T');
  image.set_name("name", function.name, 512);
  said = bpf_iter_run_prog(seq, image.addr());
  return true;
}

Result<bool> nothing(IterSeq&, Errno&) { return false; }

std::string bpf_iter_kmem_cache_show_fdinfo(const IterAux&) { return "kmem_cache iter\n"; }
std::string bpf_iter_dmabuf_show_fdinfo(const IterAux&) { return "dmabuf iter\n"; }

}  // namespace

const IterOps ksym_iter = {.show_next = bpf_iter_ksym_seq_show};
const IterOps ipv6_route_iter = {.show_next = nothing};
const IterOps kmem_cache_iter = {.show_fdinfo = bpf_iter_kmem_cache_show_fdinfo, .show_next = nothing};
const IterOps dmabuf_iter = {
    .show_fdinfo = bpf_iter_dmabuf_show_fdinfo, .show_next = nothing, .silent_end = true};

}  // namespace bpfsim
