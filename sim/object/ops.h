// Models: include/linux/bpf.h (bpf_map_ops, bpf_verifier_ops, bpf_prog_ops, bpf_link_ops, bpf_func_proto)
// (Linux 6.18)
//
// The tables of functions through which the stations meet: maps, verifier and run never include each other,
// they call through what stands here, and the kernel on top fills it in. Every entry of a map's table carries
// the name of its function and the file it stands in, so that a lesson prints the table that the code calls
// through.
#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "isa/opcodes.h"  // before OP below: its tables use that name too
#include "object/file.h"
#include "object/link.h"
#include "object/map.h"
#include "object/prog.h"
#include "object/reg_type.h"

namespace bpfsim {

struct BpfCgroupStorage;  // map/local_storage.h
struct Sock;              // host/socket.h

// One entry of an ops table: a function, its name, and the source file that fills it in.
template <class F>
struct OpsEntry;
template <class R, class... Args>
struct OpsEntry<R(Args...)> {
  R (*fn)(Args...) = nullptr;
  const char* name = nullptr;
  const char* file = nullptr;
  explicit operator bool() const { return fn != nullptr; }
  R operator()(Args... args) const { return fn(args...); }
};
#define OP(function) {&function, #function, __FILE__}
// What the kernel's table has and ours calls nowhere yet: the name alone.
#define OP_LATER(function) {nullptr, #function, __FILE__}

using Insns = std::vector<bpf_insn>;
using UserAttr = uint64_t;  // the user address of union bpf_attr, for commands that write counts back

// struct bpf_map_ops. Elements are host pointers into the arena; a lookup gives null where the kernel gives
// NULL.
struct MapOps {
  OpsEntry<Result<void>(Machine&, const bpf_attr&)> map_alloc_check;
  OpsEntry<Result<Map*>(Machine&, const bpf_attr&)> map_alloc;
  OpsEntry<void(Map&, File&)> map_release;
  OpsEntry<void(Map&)> map_free;
  OpsEntry<Result<void>(Map&, const void* key, void* next_key)> map_get_next_key;
  OpsEntry<void(Map&)> map_release_uref;
  OpsEntry<Result<void*>(Map&, const void* key)> map_lookup_elem_sys_only;
  OpsEntry<Result<void>(Map&, const bpf_attr&, UserAttr)> map_lookup_batch;
  OpsEntry<Result<void>(Map&, const void* key, void* value, uint64_t flags)> map_lookup_and_delete_elem;
  OpsEntry<Result<void>(Map&, const bpf_attr&, UserAttr)> map_lookup_and_delete_batch;
  OpsEntry<Result<void>(Map&, File&, const bpf_attr&, UserAttr)> map_update_batch;
  OpsEntry<Result<void>(Map&, const bpf_attr&, UserAttr)> map_delete_batch;
  OpsEntry<Result<void*>(Map&, const void* key)> map_lookup_elem;
  OpsEntry<Result<void>(Map&, const void* key, const void* value, uint64_t flags)> map_update_elem;
  OpsEntry<Result<void>(Map&, const void* key)> map_delete_elem;
  OpsEntry<Result<void>(Map&, const void* value, uint64_t flags)> map_push_elem;
  OpsEntry<Result<void>(Map&, void* value)> map_pop_elem;
  OpsEntry<Result<void>(Map&, void* value)> map_peek_elem;
  OpsEntry<Result<void*>(Map&, const void* key, uint32_t cpu)> map_lookup_percpu_elem;
  OpsEntry<Result<Object*>(Map&, File& map_file, int fd)> map_fd_get_ptr;
  OpsEntry<void(Map&, Object*, bool need_defer)> map_fd_put_ptr;
  OpsEntry<Result<Insns>(Map&)> map_gen_lookup;
  OpsEntry<uint32_t(Object*)> map_fd_sys_lookup_elem;
  OpsEntry<std::string(Map&, const void* key)> map_seq_show_elem;
  OpsEntry<Result<void>(const Map&, const Btf&, uint32_t key_type, uint32_t value_type)> map_check_btf;
  OpsEntry<void(Map&)> map_poke_track;
  OpsEntry<void(Map&)> map_poke_untrack;
  OpsEntry<void(Map&, uint32_t key)> map_poke_run;
  OpsEntry<Result<Addr>(const Map&, uint32_t offset)> map_direct_value_addr;
  OpsEntry<Result<uint32_t>(const Map&, Addr imm)> map_direct_value_meta;
  OpsEntry<Result<Span>(Map&, Vma&)> map_mmap;
  OpsEntry<uint32_t(Map&, File&)> map_poll;
  // Where a mapping may lie: -EINVAL, -E2BIG for what the type does not allow. An address of 0 asks for any.
  OpsEntry<Result<void>(const Map&, uint64_t address, uint64_t offset, uint64_t length)>
      map_get_unmapped_area;
  OpsEntry<Result<void>(Object& owner, uint32_t size)> map_local_storage_charge;
  OpsEntry<void(Object& owner, uint32_t size)> map_local_storage_uncharge;
  OpsEntry<BpfLocalStorage**(Object& owner)> map_owner_storage_ptr;
  OpsEntry<uint64_t(Map&, uint64_t key, uint64_t flags)> map_redirect;  // gives an xdp_action
  OpsEntry<bool(const Map& meta, const Map& inner)> map_meta_equal;
  OpsEntry<Result<void>(Map&)> map_set_for_each_callback_args;
  OpsEntry<Result<int64_t>(Map&, Addr callback, Addr context, uint64_t flags)> map_for_each_callback;
  OpsEntry<uint64_t(const Map&)> map_mem_usage;
  // The program at an index of a prog array, or null. The kernel's tail call reads array->ptrs itself.
  OpsEntry<Prog*(Map&, uint32_t index)> prog_array_elem;
  // Where an offset of the mapping lies when the same pages are mapped twice. The kernel's page tables say
  // it.
  OpsEntry<uint64_t(const Map&, uint64_t offset)> map_mmap_page;
  // For the helpers of ring buffers, which in the kernel stand in the map's own file. A reserve gives the
  // sample's address, or 0.
  OpsEntry<Addr(Map&, uint64_t size)> ringbuf_reserve;
  OpsEntry<uint64_t(Map&, uint64_t what)> ringbuf_query;
  // The object graph: what the elements hold (a prog array's programs). Not in the kernel's table, which has
  // no graph.
  OpsEntry<void(const Map&, const HoldVisitor&)> each_held;
};

// A call through a map's table is a choke point, from wherever it changes or reads elements. Not seen are the
// questions of map_alloc, of map_check_btf and of addresses (there is no map yet, or nothing happens), and
// what a map that holds objects asks its own table for each of them (map_fd_get_ptr and map_fd_put_ptr):
// these are seen as references that come and go.
struct MapOpEvent final : Event {
  MapOpEvent(const Map& map, const char* op, const char* function)
      : map_id(map.id), serial(map.serial), op(op), function(function) {}
  uint32_t map_id;
  uint64_t serial;
  const char* op;        // "map_update_elem"
  const char* function;  // "htab_map_update_elem"
  const char* kind() const override { return "map_op"; }
  void fields(FieldSink& sink) const override {
    sink.number("map", map_id);
    sink.text("op", op);
    sink.text("function", function);
  }
};

template <class R, class... Args, class... Given>
inline R call_map_op(const Map& map, const char* op_name, const OpsEntry<R(Args...)>& op, Given&&... given) {
  emit<MapOpEvent>(map.machine, map, op_name, op.name);
  return op.fn(std::forward<Given>(given)...);
}
// MAP_OP(map, map_update_elem, map, key, value, flags)
#define MAP_OP(map, member, ...) ::bpfsim::call_map_op((map), #member, (map).ops->member, __VA_ARGS__)

// struct bpf_func_proto: what a helper takes and gives. Identity (id, name, since) is a row of
// uapi/helpers.def.
using HelperFunction = uint64_t (*)(Machine& machine, uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4,
                                    uint64_t r5);
struct FuncProto {
  HelperFunction func = nullptr;
  bool gpl_only = false;
  bool pkt_access = false;
  bool might_sleep = false;
  bool allow_fastcall = false;
  uint32_t ret_type = RET_INTEGER;  // bpf_return_type with flags
  uint32_t arg_type[5] = {};        // bpf_arg_type with flags
  uint32_t arg_size[5] = {};        // for MEM_FIXED_SIZE arguments
  const char* arg_btf[5] = {};      // names of the BTF types of ARG_PTR_TO_BTF_ID arguments
  bool changes_pkt_data = false;    // bpf_helper_changes_pkt_data()
};

// struct bpf_insn_access_aux: what is_valid_access tells the verifier about a context field.
struct InsnAccessAux {
  uint32_t reg_type = NOT_INIT;
  bool is_ldsx = false;
  bool is_retval = false;  // what the function returned, for a program that runs behind it
  int ctx_field_size = 0;
  uint32_t btf_id = 0;
  std::string message;       // what is_valid_access would print into the verifier's log, with its newline
  std::string not_modelled;  // why it says no to what the kernel may well allow
};

// struct bpf_verifier_ops: what a program type decides for the verifier.
struct VerifierOps {
  const char* name;
  const FuncProto* (*get_func_proto)(bpf_func_id func_id, const Prog& prog);
  bool (*is_valid_access)(int off, int size, bpf_access_type type, const Prog& prog, InsnAccessAux& info);
  Insns (*gen_prologue)(bool direct_write, const Prog& prog);
  // The instructions that replace a context access; target_size is the width of the kernel's own field.
  Insns (*convert_ctx_access)(bpf_access_type type, const bpf_insn& insn, const Prog& prog,
                              uint32_t* target_size);
  // Whether it may write there into a kernel struct; what the log says when not.
  std::string (*btf_struct_access)(std::string_view structure, int off, int size);
};

struct ProgOps {
  const char* name;
  Result<void> (*test_run)(Prog& prog, const bpf_attr& attr, UserAttr uattr);
};

struct LinkOps {
  const char* name;  // "xdp", as in fdinfo
  void (*release)(Link& link);
  Result<void> (*detach)(Link& link);
  // Takes the caller's reference of new_prog, which `given` shows until then.
  Result<void> (*update_prog)(Link& link, Prog& new_prog, Prog* old_prog, Holding& given);
  std::string (*show_fdinfo)(const Link& link);
  Result<void> (*fill_link_info)(const Link& link, bpf_link_info& info);
  Result<void> (*update_map)(Link& link, Map& new_map, Map* expected_old_map);
  void (*dealloc)(Link& link);  // what else it holds goes; the struct is freed behind it
};

// What lower floors need from higher ones; kernel.cpp fills it in.
struct KernelCalls {
  const VerifierOps* (*verifier_ops)(bpf_prog_type type);
  const ProgOps* (*prog_ops)(bpf_prog_type type);
  const MapOps* (*map_ops)(bpf_map_type type);
  const VerifierOps* (*struct_ops_verifier_ops)(std::string_view name);
  // A map calls back into the running program (bpf_for_each_map_elem): subprogram by its address. Not 0 means
  // stop, also when the program has died in there.
  uint64_t (*call_bpf)(Machine& machine, Addr function, const uint64_t (&args)[5]);
  void (*ringbuf_commit)(Machine& machine, Addr sample, uint64_t flags, bool discard);
  // An owner of local storage (a task, an inode, a cgroup, a socket) goes: so does what maps keep for it.
  void (*bpf_local_storage_destroy)(BpfLocalStorage& storage);
  void (*bpf_cgroup_storage_free)(BpfCgroupStorage& storage);
  // A listener's connection gets a copy of what maps with BPF_F_CLONE keep for the listener.
  void (*bpf_sk_storage_clone)(const Sock& sk, Sock& newsk);
  void (*iput)(Inode& inode);  // a file of BPFFS is released
};

}  // namespace bpfsim
