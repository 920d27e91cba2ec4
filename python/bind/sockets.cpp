// The socket calls of a task, as the C library has them: by descriptor.
#include "host/socket.h"
#include "machine.h"
#include "number.h"

namespace bpfsim {

namespace {

using Names = std::vector<std::pair<const char*, int>>;
const Names kFamilies = {{"unix", AF_UNIX_},       {"inet", AF_INET_},     {"inet6", AF_INET6_},
                         {"netlink", AF_NETLINK_}, {"packet", AF_PACKET_}, {"xdp", AF_XDP_}};
const Names kTypes = {
    {"stream", SOCK_STREAM_}, {"dgram", SOCK_DGRAM_}, {"raw", SOCK_RAW_}, {"seqpacket", SOCK_SEQPACKET_}};
const Names kOptions = {{"SO_REUSEADDR", SO_REUSEADDR_},
                        {"SO_REUSEPORT", SO_REUSEPORT_},
                        {"SO_ATTACH_BPF", SO_ATTACH_BPF_},
                        {"SO_DETACH_BPF", SO_DETACH_BPF_},
                        {"SO_LOCK_FILTER", SO_LOCK_FILTER_},
                        {"SO_ATTACH_REUSEPORT_EBPF", SO_ATTACH_REUSEPORT_EBPF_},
                        {"SO_DETACH_REUSEPORT_BPF", SO_DETACH_REUSEPORT_BPF_}};

// A name from the list, or the number itself.
int number_of(const Names& names, const py::object& given, const char* what) {
  if (!py::isinstance<py::str>(given)) return number_in<int>(given, what);
  const auto wanted = given.cast<std::string>();
  std::string known;
  for (const auto& [name, number] : names) {
    if (wanted == name) return number;
    known += (known.empty() ? "'" : ", '") + std::string(name) + "'";
  }
  throw py::value_error(std::string(what) + " is one of " + known + " or a number, not '" + wanted + "'");
}

int64_t open_socket(const PyTask& self, const py::object& family, const py::object& type, int protocol) {
  return answer(self, self.kernel().socket(*self.task, number_of(kFamilies, family, "a socket's family"),
                                           number_of(kTypes, type, "a socket's type"), protocol));
}

std::pair<int, int> open_pair(const PyTask& self, const py::object& type) {
  return answer(self,
                self.kernel().socketpair(*self.task, AF_UNIX_, number_of(kTypes, type, "a socket's type")));
}

void set_option(const PyTask& self, int fd, const py::object& name, int value) {
  const int option = number_of(kOptions, name, "an option of SOL_SOCKET");
  uint8_t bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  answer(self, self.kernel().setsockopt(*self.task, fd, SOL_SOCKET_, option, bytes));
}

}  // namespace

void bind_sockets(py::class_<PyTask>& task) {
  task.def(
          "socket", &open_socket, py::arg("family") = "inet", py::arg("type") = "stream",
          py::arg("protocol") = 0,
          "socket(2): a descriptor. Family and type by name ('inet', 'inet6', 'unix', 'packet', 'netlink',\n"
          "'xdp'; 'stream', 'dgram', 'raw', 'seqpacket') or Linux's number. OSError EAFNOSUPPORT and others.")
      .def("socketpair", &open_pair, py::arg("type") = "stream", "socketpair(2) of AF_UNIX: two descriptors.")
      .def(
          "bind",
          [](const PyTask& t, int fd, const std::string& address, uint16_t port) {
            answer(t, t.kernel().bind(*t.task, fd, {address, port}));
          },
          py::arg("fd"), py::arg("address") = "127.0.0.1", py::arg("port") = 0,
          "bind(2); port 0 is any. OSError EADDRINUSE, EADDRNOTAVAIL, EACCES.")
      .def(
          "listen", [](const PyTask& t, int fd) { answer(t, t.kernel().listen(*t.task, fd)); }, py::arg("fd"),
          "listen(2).")
      .def(
          "connect",
          [](const PyTask& t, int fd, const std::string& address, uint16_t port) {
            answer(t, t.kernel().connect(*t.task, fd, {address, port}));
          },
          py::arg("fd"), py::arg("address"), py::arg("port"),
          "connect(2) over the loopback device. OSError ECONNREFUSED, EISCONN.")
      .def(
          "accept", [](const PyTask& t, int fd) { return answer(t, t.kernel().accept(*t.task, fd)); },
          py::arg("fd"), "accept(2), which never waits: OSError EAGAIN where no connection is there.")
      .def(
          "setsockopt", &set_option, py::arg("fd"), py::arg("option"), py::arg("value"),
          "setsockopt(2) of SOL_SOCKET: 'SO_REUSEADDR', 'SO_REUSEPORT', 'SO_ATTACH_BPF' (value: a program's\n"
          "descriptor), 'SO_DETACH_BPF', 'SO_LOCK_FILTER', 'SO_ATTACH_REUSEPORT_EBPF',\n"
          "'SO_DETACH_REUSEPORT_BPF', or Linux's number.");
}

}  // namespace bpfsim
