// Models: kernel/bpf/offload.c (bpf_prog_dev_bound_init, bpf_map_offload_map_alloc), kernel/bpf/syscall.c
// (bpf_prog_verify_signature) (Linux 6.18)
//
// What BPF_PROG_LOAD and BPF_MAP_CREATE may ask for beyond the program or map itself. A program or map can be
// meant for the hardware of a device: no device here has any, so this ends as on a kernel without such. With
// BPF_F_XDP_DEV_BOUND_ONLY an XDP program runs on the CPU, but on that device alone, in its driver. And a
// program can be signed: like the measured kernel, a machine cannot check signatures; it finds the keyring
// and stops there.
#include "host/net_device.h"
#include "syscall/bpf.h"

namespace bpfsim {

static Result<void> bpf_dev_offload_check(const NetDevice* dev, uint32_t ifindex) {
  if (!dev) return refuse(Errno::Inval, "no device has ifindex {}", ifindex);
  if (!dev->has_native_xdp) return refuse(Errno::OpNotSupp, "the driver of {} knows no BPF", dev->name);
  return {};
}

Result<void> bpf_prog_dev_bound_init(Prog& prog, const bpf_attr& attr) {
  KFN(prog.machine, bpf_prog_dev_bound_init);
  const uint32_t flags = attr.prog_flags;
  const bool xdp = attr.prog_type == BPF_PROG_TYPE_XDP, bound_only = flags & BPF_F_XDP_DEV_BOUND_ONLY;
  if (!xdp && attr.prog_type != BPF_PROG_TYPE_SCHED_CLS)
    return refuse(Errno::Inval, "program type {} is not bound to a device", attr.prog_type);
  if (flags & ~(BPF_F_XDP_DEV_BOUND_ONLY | BPF_F_XDP_HAS_FRAGS))
    return refuse(Errno::Inval, "prog_flags {} do not go with prog_ifindex", flags);
  if ((flags & BPF_F_XDP_HAS_FRAGS) && !bound_only)
    return refuse(Errno::Inval, "a device's hardware knows no fragments");
  if (!xdp && bound_only) return refuse(Errno::Inval, "BPF_F_XDP_DEV_BOUND_ONLY is for XDP programs");
  NetDevice* dev = init_net(prog.machine).by_index(int(attr.prog_ifindex));
  TRY(bpf_dev_offload_check(dev, attr.prog_ifindex));
  if (!bound_only) return refuse(Errno::Inval, "{} has no hardware that runs BPF", dev->name);
  prog.aux->dev_bound = true;
  dev->bound_progs.insert(prog.serial);
  return {};
}

Result<void> bpf_map_offload_map_alloc(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_map_offload_map_alloc);
  if (!capable(machine, CAP_SYS_ADMIN)) return refuse(Errno::Perm, "needs CAP_SYS_ADMIN");
  if (attr.map_type != BPF_MAP_TYPE_ARRAY && attr.map_type != BPF_MAP_TYPE_HASH)
    return refuse(Errno::Inval, "map type {} is not kept by a device", attr.map_type);
  const NetDevice* dev = init_net(machine).by_index(int(attr.map_ifindex));
  TRY(bpf_dev_offload_check(dev, attr.map_ifindex));
  return refuse(Errno::Inval, "{} has no hardware that keeps maps", dev->name);
}

// The system's keyrings, and of the user's those that every login has.
static bool keyring_exists(int32_t id) {
  constexpr int32_t KEY_SPEC_SESSION_KEYRING = -3, KEY_SPEC_USER_SESSION_KEYRING = -5;
  constexpr int32_t kLastSystemKeyring = 2;  // VERIFY_USE_PLATFORM_KEYRING
  return (id >= 0 && id <= kLastSystemKeyring) ||
         (id <= KEY_SPEC_SESSION_KEYRING && id >= KEY_SPEC_USER_SESSION_KEYRING);
}

Result<void> bpf_prog_verify_signature(Machine& machine, const bpf_attr& attr) {
  KFN(machine, bpf_prog_verify_signature);
  constexpr uint32_t kLongest = 8192;
  if (attr.signature_size > kLongest)
    return refuse(Errno::Inval, "a signature has at most {} bytes, not {}", kLongest, attr.signature_size);
  if (!keyring_exists(attr.keyring_id))
    return refuse(Errno::Inval, "there is no keyring {}", attr.keyring_id);
  std::vector<uint8_t> signature(attr.signature_size);
  if (!copy_from_user(machine, signature.data(), attr.signature, signature.size()))
    return refuse(Errno::NoMem, "the signature cannot be read");
  return refuse(Errno::OpNotSupp, "this machine has no CONFIG_SYSTEM_DATA_VERIFICATION");
}

}  // namespace bpfsim
