// Models: include/linux/skmsg.h (struct sk_psock_progs) (Linux 6.18)
//
// The inside of a map of sockets, for the files that share it: sock_map.cpp has the sockets, and gives each
// the map's programs; sock_map_progs.cpp attaches these to the map.
#pragma once

#include <map>
#include <utility>

#include "object/ops.h"

namespace bpfsim {

// One program of each kind, of a map or of a socket.
struct PsockProgs {
  Prog *msg_parser = nullptr, *stream_parser = nullptr, *stream_verdict = nullptr, *skb_verdict = nullptr;
};
inline constexpr std::pair<Prog * PsockProgs::*, const char*> kPsockProgs[] = {
    {&PsockProgs::msg_parser, "msg_parser"},
    {&PsockProgs::stream_parser, "stream_parser"},
    {&PsockProgs::stream_verdict, "stream_verdict"},
    {&PsockProgs::skb_verdict, "skb_verdict"},
};

struct SockMap : Map {
  using Map::Map;
  virtual void remove(void* link_raw) = 0;  // what a socket that is closed asks for each of its slots
  PsockProgs progs;
  std::map<uint32_t, Link*> prog_links;  // by attach type: who put the program there, if a link did
};

inline SockMap* sock_map_of(Map& map) {
  const bool is = map.map_type == BPF_MAP_TYPE_SOCKMAP || map.map_type == BPF_MAP_TYPE_SOCKHASH;
  return is ? static_cast<SockMap*>(&map) : nullptr;
}

}  // namespace bpfsim
