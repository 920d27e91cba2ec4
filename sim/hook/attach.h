// Models: include/linux/bpf-cgroup.h, include/net/tcx.h, include/linux/bpf-netns.h (Linux 6.18)
//
// Where programs are attached by BPF_PROG_ATTACH and BPF_LINK_CREATE: cgroups (cgroup.cpp), net devices
// (tcx.cpp), network namespaces (net_namespace.cpp). An attach keeps the caller's reference of the program
// when it succeeds; a link that is given back has no reference, id or descriptor yet.
#pragma once

#include "host/cgroup.h"
#include "host/net_device.h"
#include "object/mprog.h"
#include "object/ops.h"

namespace bpfsim {

// cgroup.cpp
Result<void> cgroup_bpf_prog_attach(Prog& prog, const bpf_attr& attr);
Result<void> cgroup_bpf_prog_detach(Machine& machine, const bpf_attr& attr, bpf_prog_type type);
Result<void> cgroup_bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr, uint32_t size);
Result<Link*> cgroup_bpf_link_attach(Prog& prog, const bpf_attr& attr);
void cgroup_bpf_inherit(Cgroup& cgroup);  // a new group takes over what is effective above it
void cgroup_bpf_offline(Cgroup& cgroup);  // a removed one lets its programs and links go
void cgroup_exit_all(Machine& machine);   // a machine shuts down
// Whether attach types of cgroups take such a program.
bool is_cgroup_prog_type(bpf_prog_type type);

// cgroup_device.cpp: a task opens or makes a device node; EPERM when a program of its cgroup says 0.
inline constexpr uint32_t BPF_DEVCG_DEV_BLOCK = 1, BPF_DEVCG_DEV_CHAR = 2;
inline constexpr uint32_t BPF_DEVCG_ACC_MKNOD = 1, BPF_DEVCG_ACC_READ = 2, BPF_DEVCG_ACC_WRITE = 4;
Result<void> cgroup_bpf_check_dev_permission(const Task& task, uint32_t type, uint32_t major, uint32_t minor,
                                             uint32_t access);

// tcx.cpp
Result<void> tcx_prog_attach(Prog& prog, const bpf_attr& attr);
Result<void> tcx_prog_detach(Machine& machine, const bpf_attr& attr, Prog* prog);
Result<void> tcx_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr);
Result<Link*> tcx_link_attach(Prog& prog, const bpf_attr& attr);
void tcx_uninstall(NetDevice& dev);

// net_namespace.cpp
Result<void> netns_bpf_prog_attach(Prog& prog, const bpf_attr& attr);
Result<void> netns_bpf_prog_detach(Machine& machine, const bpf_attr& attr, bpf_prog_type type);
Result<void> netns_bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr);
Result<Link*> netns_bpf_link_create(Prog& prog, const bpf_attr& attr);
void netns_bpf_pernet_pre_exit(NetNs& net);

// netfilter.cpp
Result<Link*> bpf_nf_link_attach(Prog& prog, const bpf_attr& attr);

}  // namespace bpfsim
