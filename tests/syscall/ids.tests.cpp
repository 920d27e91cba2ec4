// Objects by id, and what the kernel tells of them.
#include "sim.h"
#include "uapi/info.h"

using namespace bpfsim;

namespace {

long next_id(Sim& s, int cmd, uint32_t start, uint32_t* next) {
  bpf_attr attr;
  attr.start_id = start;
  const long ret = s.bpf(cmd, attr);
  *next = attr.next_id;
  return ret;
}

long fd_by_id(Sim& s, int cmd, uint32_t id, uint32_t flags = 0) {
  bpf_attr attr;
  attr.start_id = id;
  attr.open_flags = flags;
  return s.bpf(cmd, attr);
}

long info(Sim& s, long fd, void* into, uint32_t& length) {
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(fd);
  attr.info.info = user_ptr(into);
  attr.info.info_len = length;
  const long ret = s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr);
  length = attr.info.info_len;
  return ret;
}

}  // namespace

TEST_CASE("ids are walked in order, and a descriptor is made of one") {
  Sim s;
  uint32_t id = 0;
  CHECK(next_id(s, BPF_MAP_GET_NEXT_ID, 0, &id) == minus(Errno::NoEnt));
  for (int i = 0; i < 3; ++i) s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  CHECK(s.close(4) == 0);
  std::vector<uint32_t> ids;
  for (id = 0; next_id(s, BPF_MAP_GET_NEXT_ID, id, &id) == 0;) ids.push_back(id);
  CHECK(ids == std::vector<uint32_t>{1, 3});
  const long fd = fd_by_id(s, BPF_MAP_GET_FD_BY_ID, 3);
  CHECK(fd == 4);
  CHECK(s.map(fd).usercnt.value() == 2);
  CHECK(fd_by_id(s, BPF_MAP_GET_FD_BY_ID, 2) == minus(Errno::NoEnt));
  CHECK(fd_by_id(s, BPF_MAP_GET_FD_BY_ID, 0) == minus(Errno::NoEnt));
  CHECK(fd_by_id(s, BPF_PROG_GET_FD_BY_ID, 1) == minus(Errno::NoEnt));
  CHECK(fd_by_id(s, BPF_LINK_GET_FD_BY_ID, 1) == minus(Errno::NoEnt));
  CHECK(fd_by_id(s, BPF_BTF_GET_FD_BY_ID, 2) == minus(Errno::NoEnt));  // 1 is the kernel's own
  CHECK(fd_by_id(s, BPF_MAP_GET_FD_BY_ID, 1, BPF_F_RDONLY | BPF_F_WRONLY) == minus(Errno::Inval));
  CHECK(fd_by_id(s, BPF_MAP_GET_FD_BY_ID, 1, 1) == minus(Errno::Inval));
  const long reader = fd_by_id(s, BPF_MAP_GET_FD_BY_ID, 1, BPF_F_RDONLY);
  uint32_t key = 0, value = 0;
  CHECK(s.map_update(reader, &key, &value) == minus(Errno::Perm));
  CHECK(next_id(s, BPF_MAP_GET_NEXT_ID, INT32_MAX, &id) == minus(Errno::Inval));
}

TEST_CASE("ids are for CAP_SYS_ADMIN") {
  Sim s;
  s.map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1);
  s.t.cred.effective = 1ull << CAP_BPF;
  uint32_t id = 0;
  for (int cmd : {BPF_MAP_GET_NEXT_ID, BPF_PROG_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID, BPF_BTF_GET_NEXT_ID})
    CHECK(next_id(s, cmd, 0, &id) == minus(Errno::Perm));
  for (int cmd : {BPF_MAP_GET_FD_BY_ID, BPF_PROG_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID, BPF_BTF_GET_FD_BY_ID})
    CHECK(fd_by_id(s, cmd, 1) == minus(Errno::Perm));
}

TEST_CASE("map info says what the map is, in as many bytes as both sides know") {
  Sim s;
  const long fd = s.map_create(BPF_MAP_TYPE_HASH, 4, 8, 16, BPF_F_NO_PREALLOC, "counts");
  struct {
    bpf_map_info info;
    uint8_t tail[64];
  } room = {};
  uint32_t length = sizeof(bpf_map_info);
  CHECK(info(s, fd, &room.info, length) == 0);
  CHECK(length == sizeof(bpf_map_info));
  CHECK(room.info.type == BPF_MAP_TYPE_HASH);
  CHECK(room.info.id == 1);
  CHECK(room.info.key_size == 4);
  CHECK(room.info.value_size == 8);
  CHECK(room.info.max_entries == 16);
  CHECK(room.info.map_flags == BPF_F_NO_PREALLOC);
  CHECK(std::string(room.info.name) == "counts");

  room = {};
  length = 8;
  CHECK(info(s, fd, &room, length) == 0);
  CHECK(length == 8);
  CHECK(room.info.id == 1);
  CHECK(room.info.key_size == 0);
  length = sizeof room;
  CHECK(info(s, fd, &room, length) == 0);
  CHECK(length == sizeof(bpf_map_info));
  room.tail[10] = 1;
  length = sizeof room;
  CHECK(info(s, fd, &room, length) == minus(Errno::TooBig));
  length = sizeof(bpf_map_info);
  CHECK(info(s, fd, nullptr, length) == minus(Errno::Fault));
  CHECK(info(s, 99, &room, length) == minus(Errno::BadFd));
}
