// Models: kernel/bpf/syscall.c (Linux 6.18)
//
// bpf(2): the door, and the rooms behind it, one function for each command. Each takes the copy of union
// bpf_attr that the door made, answers a descriptor or 0, and acts for the current task. Where a command
// writes into the caller's union (next_id, retval), it gets the address as well.
#pragma once

#include <source_location>

#include "object/ops.h"
#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"

namespace bpfsim {

using SysResult = Result<int64_t>;

SysResult __sys_bpf(Machine& machine, int cmd, uint64_t uattr, uint32_t size);

// Bytes of the union after the last field that the command reads must be zero (CHECK_ATTR).
Result<void> check_attr(const Machine& machine, bpf_cmd cmd, const bpf_attr& attr,
                        std::source_location where = std::source_location::current());

// map_create.cpp
SysResult map_create(Machine& machine, bpf_attr& attr);
Result<int> bpf_get_file_flag(uint32_t flags);
Result<std::string> bpf_obj_name_cpy(const char (&name)[BPF_OBJ_NAME_LEN], Version version);
SysResult bpf_map_new_fd(Map& map, int flags, Holding& reference);

// map_elem.cpp
SysResult map_lookup_elem(Machine& machine, const bpf_attr& attr);
SysResult map_update_elem(Machine& machine, const bpf_attr& attr);
SysResult map_delete_elem(Machine& machine, const bpf_attr& attr);
SysResult map_get_next_key(Machine& machine, const bpf_attr& attr);
SysResult map_lookup_and_delete_elem(Machine& machine, const bpf_attr& attr);
SysResult bpf_map_do_batch(Machine& machine, bpf_cmd cmd, const bpf_attr& attr, UserAttr uattr);
SysResult map_freeze(Machine& machine, const bpf_attr& attr);

// ids.cpp: an object by descriptor or id. Each of these takes a reference, under the given cause.
Result<Map*> bpf_map_get_with_uref(Machine& machine, int fd, const Cause& cause);
Result<Object*> bpf_fd_probe_obj(Machine& machine, int fd, const Cause& cause);
void bpf_any_get(Object& object, const Cause& cause);
void bpf_any_put(Object& object, const Cause& cause);
SysResult bpf_any_new_fd(Object& object, int f_flags, Holding& reference);
SysResult bpf_prog_new_fd(Prog& prog, Holding& reference);
SysResult bpf_link_new_fd(Link& link, Holding& reference);
SysResult bpf_obj_get_next_id(Machine& machine, bpf_cmd cmd, ObjectKind kind, const bpf_attr& attr,
                              UserAttr uattr);
SysResult bpf_obj_get_fd_by_id(Machine& machine, bpf_cmd cmd, ObjectKind kind, const bpf_attr& attr);

SysResult bpf_obj_get_info_by_fd(Machine& machine, const bpf_attr& attr, UserAttr uattr);  // info.cpp
SysResult bpf_obj_pin(Machine& machine, const bpf_attr& attr);                             // obj_pin.cpp
SysResult bpf_obj_get(Machine& machine, const bpf_attr& attr);

SysResult bpf_prog_load(Machine& machine, bpf_attr& attr, UserAttr uattr, uint32_t size);  // prog_load.cpp
SysResult bpf_prog_test_run(Machine& machine, const bpf_attr& attr, UserAttr uattr);       // test_run.cpp
SysResult bpf_prog_attach(Machine& machine, const bpf_attr& attr);                         // attach.cpp
SysResult bpf_prog_detach(Machine& machine, const bpf_attr& attr);
SysResult bpf_prog_query(Machine& machine, const bpf_attr& attr, UserAttr uattr, uint32_t size);
Result<void> bpf_prog_attach_check_attach_type(const Prog& prog, uint32_t attach_type);
Result<void> attach_asked(const Machine& machine,
                          std::source_location where = std::source_location::current());
SysResult link_create(Machine& machine, const bpf_attr& attr);  // link.cpp
SysResult link_update(Machine& machine, const bpf_attr& attr);
SysResult link_detach(Machine& machine, const bpf_attr& attr);
SysResult bpf_iter_create(Machine& machine, const bpf_attr& attr);
SysResult bpf_link_settle(Link& link, const char* command);  // a new link gets reference, id and descriptor
// task_fd_query.cpp
SysResult bpf_raw_tracepoint_open(Machine& machine, const bpf_attr& attr);
SysResult bpf_task_fd_query(Machine& machine, const bpf_attr& attr, UserAttr uattr);

// small_commands.cpp
SysResult bpf_enable_stats(Machine& machine, const bpf_attr& attr);
SysResult bpf_prog_bind_map(Machine& machine, const bpf_attr& attr);
SysResult prog_stream_read(Machine& machine, const bpf_attr& attr);

// token.cpp
SysResult token_create(Machine& machine, const bpf_attr& attr);
Result<void> bpf_token_get_from_fd(Machine& machine, int fd);  // refuses: there are none

// offload.cpp
Result<void> bpf_prog_dev_bound_init(Prog& prog, const bpf_attr& attr);
Result<void> bpf_map_offload_map_alloc(Machine& machine, const bpf_attr& attr);
Result<void> bpf_prog_verify_signature(Machine& machine, const bpf_attr& attr);

// btf.cpp
SysResult bpf_btf_load(Machine& machine, const bpf_attr& attr, uint64_t uattr, uint32_t uattr_size);
Result<Btf*> btf_get_by_fd(Machine& machine, int fd, const Cause& cause);

// A command went in, and what came back.
struct SyscallEvent final : Event {
  SyscallEvent(int cmd, const char* name, bool entry, int64_t ret)
      : cmd(cmd), name(name), entry(entry), ret(ret) {}
  int cmd;
  const char* name;
  bool entry;
  int64_t ret;
  const char* kind() const override { return entry ? "sys_enter" : "sys_exit"; }
  void fields(FieldSink& sink) const override {
    sink.number("cmd", cmd);
    sink.text("name", name);
    if (!entry) sink.number("ret", ret);
  }
};

}  // namespace bpfsim
