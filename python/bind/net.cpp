// Net devices: where packets arrive, and what a program answered.
#include "hash_of.h"
#include "hook/hook.h"
#include "host/net_device.h"
#include "machine.h"
#include "syscall/rtnetlink.h"

namespace bpfsim {

namespace {

struct PyDevice {
  std::shared_ptr<PyKernel> owner;
  int ifindex;
  std::string name;
  NetDevice& get() const {
    if (NetDevice* device = owner->enter().net().by_index(ifindex)) return *device;
    raise_error(PyExc_ReferenceError, "netdev " + std::to_string(ifindex) + " (" + name + ") is gone");
  }
};

const char* verdict_name(uint32_t verdict) {
  static const char* const names[] = {"XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"};
  return verdict < 5 ? names[verdict] : "invalid";
}

PyDevice net_device(const std::shared_ptr<PyKernel>& kernel, const std::string& name) {
  NetDevice* device = kernel->enter().net().by_name(name);
  if (device) return {kernel, device->ifindex, name};
  std::string known;
  for (auto& [index, each] : kernel->enter().net().devices) known += (known.empty() ? "" : ", ") + each->name;
  throw py::key_error("this machine has no device '" + name + "'; it has " + known);
}

void check_device_name(const std::string& name) {
  if (name.empty() || name.size() > 15 || name.find_first_of("/: \t\n") != name.npos)
    throw py::value_error("a device name has 1 to 15 characters without '/', ':' or blanks, not '" + name +
                          "'");
}

PyDevice add_net_device(const std::shared_ptr<PyKernel>& kernel, const std::string& name, bool native_xdp) {
  check_device_name(name);
  if (!kernel->enter().add_net_device(name, native_xdp))
    throw py::value_error("the device '" + name + "' exists already");
  return {kernel, kernel->enter().net().by_name(name)->ifindex, name};
}

std::pair<PyDevice, PyDevice> add_netkit(const std::shared_ptr<PyKernel>& kernel, const std::string& primary,
                                         const std::string& peer) {
  for (const std::string& name : {primary, peer}) check_device_name(name);
  ok_or_raise(kernel->enter().add_netkit(primary, peer));
  Net& net = kernel->enter().net();
  return {{kernel, net.by_name(primary)->ifindex, primary}, {kernel, net.by_name(peer)->ifindex, peer}};
}

void remove_net_device(const std::shared_ptr<PyKernel>& kernel, const std::string& name) {
  Result<void> done = kernel->enter().remove_net_device(name);
  raise_pending(*kernel);
  ok_or_raise(done);
}

Receipt receive_packet(const PyDevice& self, const py::buffer& packet, uint32_t queue) {
  Bytes bytes(packet, false);
  if (bytes.size() > 0x10000)
    throw py::value_error("a packet has at most 65536 bytes, not " + std::to_string(bytes.size()));
  Result<Receipt> receipt = self.owner->enter().receive(self.ifindex, {bytes.data(), bytes.size()}, queue);
  raise_pending(*self.owner);
  return value_or_raise(std::move(receipt));
}

py::dict counters(const PyDevice& self) {
  const NetDevice::Counters& counted = self.get().counters;
  py::dict fields;
  fields["rx_packets"] = counted.rx_packets;
  fields["rx_bytes"] = counted.rx_bytes;
  fields["rx_dropped"] = counted.rx_dropped;
  fields["tx_packets"] = counted.tx_packets;
  fields["to_stack"] = counted.to_stack;
  for (uint32_t verdict = 0; verdict < counted.verdict.size(); ++verdict)
    fields[verdict_name(verdict)] = counted.verdict[verdict];
  fields["redirect_errors"] = counted.redirect_errors;
  return fields;
}

py::bytes rtnl_setlink_xdp(const PyTask& self, const std::string& device, int fd, uint32_t flags,
                           std::optional<int> expected_fd) {
  NetDevice* found = self.owner->enter().net().by_name(device);
  if (!found) raise_refusal(refuse(Errno::NoDev, "this machine has no device '{}'", device));
  std::vector<uint8_t> message = build_setlink_xdp(found->ifindex, fd, flags, expected_fd);
  answer(self, self.kernel().rtnl_setlink(*self.task, message));
  return py::bytes(reinterpret_cast<const char*>(message.data()), message.size());
}

py::list netlink_parts(const py::buffer& message) {
  Bytes bytes(message, false);
  py::list rows;
  for (const NetlinkPart& part : explain_setlink({bytes.data(), bytes.size()})) {
    py::dict row;
    row["offset"] = part.offset;
    row["size"] = part.size;
    row["depth"] = part.depth;
    row["name"] = part.name;
    row["value"] = part.value;
    rows.append(row);
  }
  return rows;
}

}  // namespace

void bind_net(py::module_& m) {
  py::class_<Receipt>(m, "Receipt", "What became of a packet that arrived at a device.")
      .def_property_readonly(
          "verdict", [](const Receipt& r) { return verdict_name(r.verdict); },
          "'XDP_DROP' and so on by name, 'XDP_PASS' when no program ran; `number` has it raw.")
      .def_readonly("number", &Receipt::verdict, "The verdict as the program returned it.")
      .def_readonly("ran", &Receipt::ran, "Whether a program saw the packet.")
      .def_readonly(
          "dropped", &Receipt::dropped,
          "Whether it went no further: by the verdict, or by the driver as a packet too short or long.")
      .def_readonly("redirect_ifindex", &Receipt::redirect_ifindex,
                    "The device that XDP_REDIRECT named by its index, or 0.")
      .def_readonly("redirect_map_id", &Receipt::redirect_map_id, "The map whose entry said where to, or 0.")
      .def_readonly("redirected_to", &Receipt::redirected_to, "Indices of the devices that sent it.")
      .def_readonly("redirect_cpu", &Receipt::redirect_cpu, "The CPU that a CPUMAP named, or -1.")
      .def_property_readonly(
          "packet",
          [](const Receipt& r) {
            return py::bytes(reinterpret_cast<const char*>(r.packet.data()), r.packet.size());
          },
          "The packet as the program left it.")
      .def_property_readonly(
          "refused", [](const Receipt& r) { return std::string(r.refused); },
          "Why the driver dropped it before any program; '' where it did not.")
      .def("__repr__", [](const Receipt& r) {
        if (*r.refused)
          return "<Receipt dropped by the driver: " + std::to_string(r.packet.size()) + " bytes, " +
                 r.refused + ">";
        return std::string("<Receipt ") + (r.ran ? verdict_name(r.verdict) : "to the stack, no program ran") +
               ">";
      });
  py::class_<PyDevice>(m, "NetDevice", "A network device of a simulated machine.")
      .def_property_readonly(
          "name", [](const PyDevice& d) { return d.name; }, "'eth0'.")
      .def_property_readonly(
          "kernel", [](const PyDevice& d) { return d.owner; }, "The machine that it is of.")
      .def_property_readonly(
          "ifindex", [](const PyDevice& d) { return d.ifindex; },
          "Its number, as LINK_CREATE's target_ifindex takes it; 1 is lo.")
      .def_property_readonly("counters", &counters, "Packets, bytes, and how often each verdict was given.")
      .def("receive", &receive_packet, py::arg("packet"), py::arg("queue") = 0,
           "A packet of 0 to 65536 bytes arrives; an attached XDP program sees it. Models the driver's "
           "receive path.")
      .def(
          "__eq__",
          [](const PyDevice& a, const PyDevice& b) { return a.owner == b.owner && a.ifindex == b.ifindex; },
          py::is_operator())
      .def("__hash__", [](const PyDevice& d) { return hash_of(d.owner.get(), uint64_t(d.ifindex)); })
      .def("__repr__",
           [](const PyDevice& d) { return "<NetDevice " + std::to_string(d.ifindex) + " " + d.name + ">"; });
  m.def("net_device", &net_device, py::arg("kernel").none(false), py::arg("name"),
        "A device by name; KeyError names those there.");
  m.def("add_net_device", &add_net_device, py::arg("kernel").none(false), py::arg("name"),
        py::arg("native_xdp") = true, "A new device; without native_xdp its driver knows only generic XDP.");
  m.def("add_netkit", &add_netkit, py::arg("kernel").none(false), py::arg("primary"), py::arg("peer"),
        "A pair of netkit devices. OSError EOPNOTSUPP without CONFIG_NETKIT, EEXIST where a name is taken.");
  m.def(
      "remove_net_device", &remove_net_device, py::arg("kernel").none(false), py::arg("name"),
      "Takes a device away: programs come off it, links lose it, maps forget it. OSError ENODEV; EOPNOTSUPP\n"
      "for lo.");
  m.def("rtnl_setlink_xdp", &rtnl_setlink_xdp, py::arg("task"), py::arg("device"), py::arg("fd"),
        py::arg("flags") = 0, py::arg("expected_fd") = py::none(),
        "Attaches a program as `ip link set dev ... xdp` does (fd -1 detaches) and returns the bytes of the\n"
        "RTM_SETLINK message that it sent. OSError where the kernel refuses it.");
  m.def("netlink_parts", &netlink_parts, py::arg("message"),
        "The headers and attributes of such a message: offset, size, depth, name, value.");
}

}  // namespace bpfsim
