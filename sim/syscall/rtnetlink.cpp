// Models: net/core/rtnetlink.c (do_setlink), net/core/dev.c (dev_change_xdp_fd), lib/nlattr.c (Linux 6.18)
//
// A message is a header, a struct ifinfomsg that names the device, and attributes: length, type, payload,
// each padded to 4 bytes. IFLA_XDP holds attributes again. An attribute with an unknown type is read over,
// one that is too short is ERANGE. Not modelled yet: every other attribute of a link, and every other
// message.
#include "syscall/rtnetlink.h"

#include <cstring>
#include <map>
#include <optional>

#include "hook/hook.h"
#include "syscall/bpf.h"
#include "uapi/gates.h"
#include "uapi/if_link.h"

namespace bpfsim {

namespace {

constexpr uint16_t RTM_SETLINK = 19, NLM_F_REQUEST = 1, NLM_F_ACK = 4;
constexpr uint16_t NLA_F_NESTED = 1 << 15, NLA_TYPE_MASK = 0x3fff;
constexpr uint16_t IFLA_IFNAME = 3;
constexpr size_t NLA_HDRLEN = 4;

struct nlmsghdr {
  uint32_t nlmsg_len;
  uint16_t nlmsg_type, nlmsg_flags;
  uint32_t nlmsg_seq, nlmsg_pid;
};
struct ifinfomsg {
  uint8_t ifi_family, pad;
  uint16_t ifi_type;
  int32_t ifi_index;
  uint32_t ifi_flags, ifi_change;
};
constexpr size_t kHeaders = sizeof(nlmsghdr) + sizeof(ifinfomsg);

using Bytes = std::span<const uint8_t>;
size_t align4(size_t n) { return (n + 3) & ~size_t(3); }

template <class T>
T value_at(Bytes bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
  return value;
}

// The attributes of a stream by type, the last of a type winning; the walk ends where lengths make no sense.
std::map<uint16_t, Bytes> nla_parse(Bytes stream) {
  std::map<uint16_t, Bytes> attributes;
  while (stream.size() >= NLA_HDRLEN) {
    const auto length = value_at<uint16_t>(stream), type = value_at<uint16_t>(stream.subspan(2));
    if (length < NLA_HDRLEN || length > stream.size()) break;
    attributes[type & NLA_TYPE_MASK] = stream.subspan(NLA_HDRLEN, length - NLA_HDRLEN);
    stream = stream.subspan(std::min(align4(length), stream.size()));
  }
  return attributes;
}

Result<NetDevice*> find_device(Machine& machine, const ifinfomsg& header,
                               const std::map<uint16_t, Bytes>& tb) {
  Net& net = init_net(machine);
  NetDevice* dev = nullptr;
  if (header.ifi_index < 0) return refuse(Errno::Inval, "ifi_index {} is negative", header.ifi_index);
  if (header.ifi_index > 0) {
    dev = net.by_index(header.ifi_index);
  } else if (auto name = tb.find(IFLA_IFNAME); name != tb.end()) {
    dev = net.by_name(
        std::string(reinterpret_cast<const char*>(name->second.data()),
                    strnlen(reinterpret_cast<const char*>(name->second.data()), name->second.size())));
  } else {
    return refuse(Errno::Inval, "the message names no device");
  }
  if (!dev) return refuse(Errno::NoDev, "no device has index {}", header.ifi_index);
  return dev;
}

// An XDP program by its descriptor, as long as the message is at work; an fd below 0 names none.
class GivenProg {
 public:
  ~GivenProg() {
    if (!prog_) return;
    held_.reset();
    bpf_prog_put(*prog_, {"RTM_SETLINK is over"});
  }
  Result<Prog*> get(Machine& machine, int fd, int ifindex) {
    if (fd < 0) return nullptr;
    prog_ = TRY(bpf_prog_get_type(machine, fd, BPF_PROG_TYPE_XDP, {"RTM_SETLINK for device {}", ifindex}));
    held_.emplace(machine, *prog_, "RTM_SETLINK");
    return prog_;
  }

 private:
  Prog* prog_ = nullptr;
  std::optional<Holding> held_;
};

Result<void> dev_change_xdp_fd(Machine& machine, NetDevice& dev, int fd, int expected_fd, uint32_t flags) {
  KFN(machine, dev_change_xdp_fd);
  GivenProg expected, given;
  Prog* new_prog = TRY(given.get(machine, fd, dev.ifindex));
  Prog* old_prog = TRY(expected.get(machine, expected_fd, dev.ifindex));
  return dev_change_xdp(dev, new_prog, old_prog, flags);
}

Result<uint32_t> read_xdp_flags(const Machine& machine, const std::map<uint16_t, Bytes>& xdp) {
  auto at = xdp.find(IFLA_XDP_FLAGS);
  if (at == xdp.end()) return 0u;
  const auto flags = value_at<uint32_t>(at->second);
  const bool replace_known = has(Gate::xdp_expected_fd, machine.version);
  if (flags & ~(replace_known ? XDP_FLAGS_MASK : XDP_FLAGS_MASK & ~XDP_FLAGS_REPLACE))
    return refuse(Errno::Inval, "IFLA_XDP_FLAGS {} has unknown bits", flags);
  const uint32_t modes = flags & XDP_FLAGS_MODES;
  if (modes & (modes - 1)) return refuse(Errno::Inval, "only one XDP mode flag can be set");
  return flags;
}

Result<void> do_setlink_xdp(Machine& machine, NetDevice& dev, Bytes nested) {
  const std::map<uint16_t, Bytes> xdp = nla_parse(nested);
  for (const auto& [type, payload] : xdp) {
    const size_t least = type == IFLA_XDP_ATTACHED ? 1 : 4;
    if (type <= IFLA_XDP_EXPECTED_FD && type != IFLA_XDP_UNSPEC && payload.size() < least)
      return refuse(Errno::Range, "attribute {} in IFLA_XDP has {} bytes, needs {}", type, payload.size(),
                    least);
  }
  if (xdp.contains(IFLA_XDP_ATTACHED) || xdp.contains(IFLA_XDP_PROG_ID))
    return refuse(Errno::Inval, "IFLA_XDP_ATTACHED and IFLA_XDP_PROG_ID are the kernel's to say");
  const uint32_t flags = TRY(read_xdp_flags(machine, xdp));
  auto fd = xdp.find(IFLA_XDP_FD);
  if (fd == xdp.end()) return {};
  int expected_fd = -1;
  if (flags & XDP_FLAGS_REPLACE) {
    auto expected = xdp.find(IFLA_XDP_EXPECTED_FD);
    if (expected == xdp.end()) return refuse(Errno::Inval, "XDP_FLAGS_REPLACE without IFLA_XDP_EXPECTED_FD");
    expected_fd = value_at<int32_t>(expected->second);
  }
  return dev_change_xdp_fd(machine, dev, value_at<int32_t>(fd->second), expected_fd, flags);
}

Result<void> rtnl_setlink(Machine& machine, Bytes message) {
  KFN(machine, rtnl_setlink);
  if (message.size() < kHeaders) return refuse(Errno::Inval, "the message ends inside struct ifinfomsg");
  const std::map<uint16_t, Bytes> tb = nla_parse(message.subspan(kHeaders));
  NetDevice& dev = *TRY(find_device(machine, value_at<ifinfomsg>(message.subspan(sizeof(nlmsghdr))), tb));
  auto xdp = tb.find(IFLA_XDP);
  if (xdp == tb.end()) return {};
  return do_setlink_xdp(machine, dev, xdp->second);
}

void append(std::vector<uint8_t>& out, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  out.insert(out.end(), bytes, bytes + size);
}

void append_attribute(std::vector<uint8_t>& out, uint16_t type, const void* data, size_t size) {
  const uint16_t header[2] = {uint16_t(NLA_HDRLEN + size), type};
  append(out, header, sizeof header);
  append(out, data, size);
  out.resize(align4(out.size()));
}

const char* xdp_attribute_name(uint16_t type) {
  constexpr const char* kNames[] = {"IFLA_XDP_UNSPEC",      "IFLA_XDP_FD",         "IFLA_XDP_ATTACHED",
                                    "IFLA_XDP_FLAGS",       "IFLA_XDP_PROG_ID",    "IFLA_XDP_DRV_PROG_ID",
                                    "IFLA_XDP_SKB_PROG_ID", "IFLA_XDP_HW_PROG_ID", "IFLA_XDP_EXPECTED_FD"};
  return type < std::size(kNames) ? kNames[type] : "unknown attribute";
}

void explain_attributes(Bytes message, size_t at, size_t end, int depth, std::vector<NetlinkPart>& parts) {
  while (end - at >= NLA_HDRLEN) {
    const auto length = value_at<uint16_t>(message.subspan(at));
    const uint16_t type = value_at<uint16_t>(message.subspan(at + 2)) & NLA_TYPE_MASK;
    if (length < NLA_HDRLEN || length > end - at) break;
    const Bytes payload = message.subspan(at + NLA_HDRLEN, length - NLA_HDRLEN);
    NetlinkPart part{at, length, depth,
                     depth ? xdp_attribute_name(type) : "attribute " + std::to_string(type), ""};
    if (!depth && type == IFLA_XDP) part.name = "IFLA_XDP";
    if (depth && payload.size() == 4) part.value = std::to_string(value_at<int32_t>(payload));
    parts.push_back(part);
    if (!depth && type == IFLA_XDP) explain_attributes(message, at + NLA_HDRLEN, at + length, 1, parts);
    at = std::min(at + align4(length), end);
  }
}

}  // namespace

Result<void> rtnetlink_rcv_msg(Machine& machine, Bytes message) {
  KFN(machine, rtnetlink_rcv_msg);
  if (message.size() < sizeof(nlmsghdr)) return refuse(Errno::Inval, "a message has a header of 16 bytes");
  const auto header = value_at<nlmsghdr>(message);
  if (header.nlmsg_len < sizeof(nlmsghdr) || header.nlmsg_len > message.size())
    return refuse(Errno::Inval, "nlmsg_len {} does not fit {} bytes", header.nlmsg_len, message.size());
  if (header.nlmsg_type != RTM_SETLINK)
    return refuse(Errno::OpNotSupp, "not modelled yet: message type {}", header.nlmsg_type);
  if (!capable(machine, CAP_NET_ADMIN)) return refuse(Errno::Perm, "needs CAP_NET_ADMIN");
  return rtnl_setlink(machine, message.first(header.nlmsg_len));
}

std::vector<uint8_t> build_setlink_xdp(int ifindex, int fd, uint32_t flags, std::optional<int> expected_fd) {
  std::vector<uint8_t> nested;
  append_attribute(nested, IFLA_XDP_FD, &fd, sizeof fd);
  if (flags) append_attribute(nested, IFLA_XDP_FLAGS, &flags, sizeof flags);
  if (expected_fd) append_attribute(nested, IFLA_XDP_EXPECTED_FD, &*expected_fd, sizeof *expected_fd);

  nlmsghdr header{0, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0};
  ifinfomsg device{0, 0, 0, ifindex, 0, 0};
  std::vector<uint8_t> message;
  append(message, &header, sizeof header);
  append(message, &device, sizeof device);
  append_attribute(message, NLA_F_NESTED | IFLA_XDP, nested.data(), nested.size());
  header.nlmsg_len = uint32_t(message.size());
  std::memcpy(message.data(), &header, sizeof header);
  return message;
}

std::vector<NetlinkPart> explain_setlink(Bytes message) {
  std::vector<NetlinkPart> parts;
  if (message.size() < kHeaders) return parts;
  const auto header = value_at<nlmsghdr>(message);
  const auto device = value_at<ifinfomsg>(message.subspan(sizeof header));
  parts.push_back({0, sizeof header, 0, "nlmsghdr",
                   "len " + std::to_string(header.nlmsg_len) + ", type " + std::to_string(header.nlmsg_type) +
                       (header.nlmsg_type == RTM_SETLINK ? " (RTM_SETLINK)" : "")});
  parts.push_back(
      {sizeof header, sizeof device, 0, "ifinfomsg", "ifi_index " + std::to_string(device.ifi_index)});
  explain_attributes(message, kHeaders,
                     std::min<size_t>(message.size(), std::max<size_t>(header.nlmsg_len, kHeaders)), 0,
                     parts);
  return parts;
}

}  // namespace bpfsim
