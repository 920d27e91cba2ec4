// No kernel counterpart: a kernel runs a program to its end; a lesson wants to stand between two
// instructions.
//
// Which program and packet can be stepped, and what holds while it stands.
#include "hook/stepping.h"

#include "host/net_device.h"

namespace bpfsim {

Result<std::unique_ptr<SteppedRun>> SteppedRun::start(Task& task, int prog_fd,
                                                      std::span<const uint8_t> bytes) {
  const File* file = task.files.get(prog_fd);
  if (!file || !file->private_data)
    return refuse(Errno::BadF, "descriptor {} of task {} holds no BPF object", prog_fd, task.pid);
  if (file->private_data->kind != ObjectKind::Prog)
    return refuse(Errno::Inval, "the descriptor holds no program");
  auto& prog = static_cast<Prog&>(*file->private_data);
  if (prog.type != BPF_PROG_TYPE_XDP) return refuse(Errno::Inval, "only XDP programs can be stepped yet");
  constexpr uint32_t room = kFrameSize - XDP_PACKET_HEADROOM - kSharedInfoSize;
  if (bytes.size() < ETH_HLEN || bytes.size() > room)
    return refuse(Errno::Inval, "a packet to step through has {} to {} bytes", ETH_HLEN, room);
  Machine& machine = task.machine;
  auto packet = TRY(XdpPacket::make(machine));
  NetDevice* lo = init_net(machine).by_index(1);
  packet->fill(bytes.data(), uint32_t(bytes.size()), XDP_PACKET_HEADROOM, room, lo ? lo->rxq(0) : 0);
  return std::unique_ptr<SteppedRun>(new SteppedRun(prog, std::move(packet)));
}

SteppedRun::SteppedRun(Prog& prog, std::unique_ptr<XdpPacket> packet)
    : machine_(prog.machine), packet_(std::move(packet)) {
  machine_.rcu.read_lock();
  run_ = std::make_unique<CheckedRun>(machine_, prog, packet_->ctx());
}

bool SteppedRun::step() {
  if (!run_) return false;
  if (run_->step()) return true;
  outcome_ = run_->outcome();
  finish();
  return false;
}

void SteppedRun::finish() {
  if (!run_) return;
  run_.reset();
  packet_.reset();
  machine_.rcu.read_unlock();
  machine_.rcu.grace_period();
}

}  // namespace bpfsim
