// Maps for one program only, the hash of a map, and tokens.
#include "isa/opcodes.h"
#include "sim.h"
#include "uapi/info.h"
#include "verifier/prog_tag.h"

using namespace bpfsim;

namespace {

std::vector<bpf_insn> uses(long map, int answer) {
  bpf_insn low{}, high{};
  low.code = BPF_LD | BPF_DW | BPF_IMM;
  low.dst_reg = BPF_REG_1;
  low.src_reg = BPF_PSEUDO_MAP_FD;
  low.imm = int32_t(map);
  return {low, high, mov64_imm(BPF_REG_0, answer), exit_insn()};
}

}  // namespace

TEST_CASE("an exclusive map is for the program with its hash, whatever the map's descriptor is") {
  Sim s;
  const Sha256 hash = bpf_prog_digest(uses(0, 2));
  bpf_attr attr;
  attr.map_type = BPF_MAP_TYPE_ARRAY;
  attr.key_size = 4, attr.value_size = 8, attr.max_entries = 1;
  attr.excl_prog_hash = user_ptr(hash.data());
  attr.excl_prog_hash_size = 31;
  CHECK(s.bpf(BPF_MAP_CREATE, attr) == minus(Errno::Inval));
  attr.excl_prog_hash_size = 32;
  const long map = s.bpf(BPF_MAP_CREATE, attr);
  REQUIRE(map >= 0);
  CHECK(s.prog_load(BPF_PROG_TYPE_SOCKET_FILTER, uses(map, 2)) >= 0);
  CHECK(s.prog_load(BPF_PROG_TYPE_SOCKET_FILTER, uses(map, 3)) == minus(Errno::Access));
  CHECK(std::string(s.log.data()).starts_with("program's hash doesn't match map's excl_prog_hash\n"));

  bpf_attr outer;
  outer.map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS;
  outer.key_size = 4, outer.value_size = 4, outer.max_entries = 1;
  outer.inner_map_fd = uint32_t(map);
  CHECK(s.bpf(BPF_MAP_CREATE, outer) == minus(Errno::NotSupp));
}

TEST_CASE("SHA-256 is that of FIPS 180-4, and a frozen array tells its own") {
  auto hex = [](const Sha256& hash) {
    std::string text;
    char two[3];
    for (uint8_t byte : hash) std::snprintf(two, sizeof two, "%02x", byte), text += two;
    return text;
  };
  CHECK(hex(sha256({'a', 'b', 'c'})) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex(sha256({})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

  Sim s;
  const long map = s.map_create(BPF_MAP_TYPE_ARRAY, 4, 5, 3);
  const uint32_t key = 1;
  CHECK(s.map_update(map, &key, "abcde") == 0);
  Sha256 told{};
  bpf_map_info info{};
  info.hash = user_ptr(told.data());
  info.hash_size = 32;
  bpf_attr attr;
  attr.info.bpf_fd = uint32_t(map);
  attr.info.info_len = sizeof info;
  attr.info.info = user_ptr(&info);
  CHECK(s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == minus(Errno::Perm));
  CHECK(s.map_freeze(map) == 0);
  CHECK(s.bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0);
  CHECK(hex(told) == "7a7309948c34954eaea34764ca947fbf500bf4d473f6093315232e61876bc64d");  // as 6.18 tells it
}

TEST_CASE("there are no tokens, and every command says so") {
  Sim s;
  const long root = *s.k.open(s.t, "/sys/fs/bpf", O_DIRECTORY_);
  auto create = [&](long fd) {
    bpf_attr attr;
    attr.token_create.bpffs_fd = uint32_t(fd);
    return s.bpf(BPF_TOKEN_CREATE, attr);
  };
  CHECK(create(root) == minus(Errno::OpNotSupp));
  CHECK(s.k.set_caps(s.t, 1ull << CAP_SYS_ADMIN).ok());  // a live 6.18 does not take it for CAP_BPF
  CHECK(create(root) == minus(Errno::Perm));
  CHECK(s.k.set_caps(s.t, kAllCapabilities).ok());
  CHECK(create(0) == minus(Errno::Inval));
  CHECK(create(99) == minus(Errno::BadF));
  for (auto [fd, expected] : {std::pair{root, Errno::Inval}, {99l, Errno::BadF}}) {
    bpf_attr map, btf, by_id;
    map.map_type = BPF_MAP_TYPE_ARRAY;
    map.key_size = 4, map.value_size = 8, map.max_entries = 1;
    map.map_flags = btf.btf_flags = by_id.open_flags = BPF_F_TOKEN_FD;
    map.map_token_fd = btf.btf_token_fd = by_id.fd_by_id_token_fd = int(fd);
    CHECK(s.bpf(BPF_MAP_CREATE, map) == minus(expected));
    CHECK(s.bpf(BPF_BTF_LOAD, btf) == minus(expected));
    CHECK(s.bpf(BPF_BTF_GET_FD_BY_ID, by_id) == minus(expected));
  }
}
