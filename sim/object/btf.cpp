// Models: kernel/bpf/btf.c (btf_get, btf_put, btf_fops) (Linux 6.18)
//
// The life of one BTF blob: the id goes at the last put, the memory after a grace period.
#include "object/btf.h"

#include "object/file.h"
#include "object/registry.h"

namespace bpfsim {

Btf::Btf(Machine& machine, std::vector<uint8_t> data, std::shared_ptr<const BtfTypes> types)
    : Object(machine, ObjectKind::Btf), data(std::move(data)), types(std::move(types)) {}

std::string Btf::label() const { return label_with_id(*this, name); }

Result<Btf*> __btf_get_by_fd(Machine& machine, int fd) { return object_of_fd<Btf>(machine, fd, btf_fops); }

void btf_get(Btf& btf, const Cause& cause) { btf.refcnt.inc(cause); }

static void btf_free_id(Btf& btf) {
  KFN(btf.machine, btf_free_id);
  if (!btf.id) return;
  btf.machine.registry->btf_idr.remove(btf.id);
  id_is_gone(btf);
}

void btf_put(Btf& btf, const Cause& cause) {
  if (!btf.refcnt.dec_and_test(cause)) return;
  const std::string what = btf.label();
  btf_free_id(btf);
  emit<LifeEvent>(btf.machine, btf, "free queued");
  btf.machine.rcu.call_rcu(what, &btf, [&btf] {
    KFN(btf.machine, btf_free_rcu);
    emit<LifeEvent>(btf.machine, btf, "freed");
    delete &btf;
  });
}

static void btf_release(File& file) { btf_put(static_cast<Btf&>(*file.private_data), {"file released"}); }

static std::string bpf_btf_show_fdinfo(const File& file) {
  return "btf_id:\t" + std::to_string(file.private_data->id) + "\n";
}

const FileOps btf_fops = {"btf", btf_release, bpf_btf_show_fdinfo, Counter::Refs};

}  // namespace bpfsim
