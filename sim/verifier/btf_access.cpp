// Models: kernel/bpf/verifier.c, check_ptr_to_btf_access(), check_buffer_access(); kernel/bpf/btf.c,
// btf_struct_walk() (Linux 6.18)
//
// See btf_access.h. Not modelled yet: writing (program-allocated objects), type tags (__rcu, __user,
// __percpu), bitfields, flexible arrays at the end of a struct.
#include "verifier/btf_access.h"

#include "btf/btf_types.h"
#include "object/btf.h"
#include "verifier/print_state.h"
#include "verifier/regs.h"

namespace bpfsim {

namespace {

// What a member is: a number, a pointer to a struct, or a pointer to other memory.
struct Walked {
  uint32_t reg_type = SCALAR_VALUE;
  uint32_t btf_id = 0;
  const char* field = "";
};

struct Place {
  const btf_type* type;
  int off;
};

const char* struct_name(const BtfTypes& types, const btf_type& t) {
  const char* name = types.name_of(t);
  return *name ? name : "(anon)";
}

// A pointer's target: a struct to walk on in, or memory that may be read, guarded, but is not known.
Walked walk_pointer(const BtfTypes& types, const btf_type& pointer) {
  uint32_t id = 0;
  const btf_type* to = types.skip_modifiers(pointer.type, &id);
  if (to && btf_type_is_struct(*to)) return {PTR_TO_BTF_ID, id, ""};
  const bool function = to && btf_kind(*to) == BTF_KIND_FUNC_PROTO;
  const bool pointer_again = to && btf_kind(*to) == BTF_KIND_PTR;
  if (function || pointer_again) return {};
  return {uint32_t(PTR_TO_MEM) | MEM_RDONLY | PTR_UNTRUSTED, 0, ""};
}

uint32_t alignment_of(const BtfTypes& types, uint32_t id) {
  const btf_type* t = types.skip_modifiers(id);
  if (t && btf_kind(*t) == BTF_KIND_ARRAY) return alignment_of(types, btf_array_of(*t).type);
  if (!t || btf_type_is_struct(*t)) return 1;
  return uint32_t(types.size_of(id));
}

// Of the kernel's structs this machine's BTF has some members only. A hole that is too small for anything of
// the next member's alignment is one in the kernel's too.
bool is_padding(const BtfTypes& types, const btf_type& t, int off) {
  int64_t end = 0;
  for (const btf_member& member : btf_members(t)) {
    const int64_t from = btf_member_bit_offset(t, member) / 8;
    if (from > off) return from - end < alignment_of(types, member.type);
    end = from + types.size_of(member.type);
  }
  return false;
}

// The type of what lies at `off` in a member that begins at `at`; of an array it is the element, which `at`
// is moved to.
const btf_type* element_at(const BtfTypes& types, uint32_t id, int off, int& at) {
  const btf_type* type = types.skip_modifiers(id);
  while (type && btf_kind(*type) == BTF_KIND_ARRAY) {
    const btf_array& array = btf_array_of(*type);
    const int each = int(types.size_of(array.type));
    if (each <= 0) break;
    at += (off - at) / each * each;
    type = types.skip_modifiers(array.type);
  }
  return type;
}

// One step into a struct: the answer, or a struct inside it to go on in.
Errno walk_member(bpf_verifier_env& env, const Btf& btf, Place& place, int size, Walked& found, bool& done) {
  const BtfTypes& types = *btf.types;
  const btf_type& t = *place.type;
  const char* tname = struct_name(types, t);
  if (place.off + size > int(t.size))
    return reject(env, Errno::Access, "access beyond struct %s at off %u size %u\n", tname,
                  unsigned(place.off), unsigned(size));
  for (const btf_member& member : btf_members(t)) {
    const int moff = int(btf_member_bit_offset(t, member) / 8);
    if (place.off + size <= moff || place.off < moff) break;
    const int64_t whole = types.size_of(member.type);
    if (whole < 0 || place.off >= moff + int(whole)) continue;
    const char* mname = types.name_by_offset(member.name_off);
    int at = moff;
    const btf_type* mtype = element_at(types, member.type, place.off, at);
    if (mtype && btf_type_is_struct(*mtype)) {
      place = {mtype, place.off - at};
      return Errno::None;
    }
    done = true;
    if (mtype && btf_kind(*mtype) == BTF_KIND_PTR) {
      if (size != 8 || place.off != at)
        return reject(env, Errno::Access,
                      "cannot access ptr member %s with moff %u in struct %s with off %u size %u\n", mname,
                      unsigned(at), tname, unsigned(place.off), unsigned(size));
      found = walk_pointer(types, *mtype);
      found.field = mname;
      return Errno::None;
    }
    if (place.off + size > moff + int(whole))
      return reject(env, Errno::Access,
                    "access beyond the end of member %s (mend:%u) in struct %s with off %u size %u\n", mname,
                    unsigned(moff + int(whole)), tname, unsigned(place.off), unsigned(size));
    found = {};
    return Errno::None;
  }
  if (btf.kernel_btf && !is_padding(types, t, place.off))
    return not_modelled(env, "what struct %s has at offset %d", tname, place.off);
  return reject(env, Errno::Inval, "struct %s doesn't have field at offset %d\n", tname, place.off);
}

Errno btf_struct_walk(bpf_verifier_env& env, const Btf& btf, const btf_type& t, int off, int size,
                      Walked& found) {
  Place place{&t, off};
  bool done = false;
  for (uint32_t depth = 0; !done && depth < BtfTypes::max_resolve_depth; ++depth)
    MUST(walk_member(env, btf, place, size, found, done));
  return done ? Errno::None : verifier_bug(env, "structs nest without end");
}

// Members that the kernel promises to be as good as the pointer that they were read through.
constexpr struct {
  const char *structure, *field;
  uint32_t flag;
} kSafeFields[] = {{"bpf_iter_meta", "seq", PTR_TRUSTED},
                   {"bpf_iter__task", "meta", PTR_TRUSTED},
                   {"bpf_iter__task", "task", PTR_TRUSTED},
                   {"task_struct", "real_parent", MEM_RCU},
                   {"task_struct", "group_leader", MEM_RCU},
                   {"file", "f_inode", PTR_TRUSTED},
                   {"cgroup", "kn", MEM_RCU}};

uint32_t trust_of(bpf_verifier_env& env, const bpf_reg_state& reg, const char* structure,
                  const Walked& found) {
  if (reg.type & PTR_UNTRUSTED) return PTR_UNTRUSTED;
  const bool trusted = is_trusted_reg(reg) || (reg.type & MEM_RCU);
  if (!trusted) return 0;
  const bool in_rcu_cs = !env.prog.aux->sleepable;
  for (const auto& safe : kSafeFields) {
    if (std::string_view(structure) != safe.structure || std::string_view(found.field) != safe.field)
      continue;
    if (safe.flag == PTR_TRUSTED && (reg.type & PTR_TRUSTED)) return PTR_TRUSTED;
    if (safe.flag == MEM_RCU && in_rcu_cs) return MEM_RCU;
  }
  return in_rcu_cs ? 0 : uint32_t(PTR_UNTRUSTED);
}

}  // namespace

std::string btf_reg_name(const bpf_reg_state& reg) {
  const btf_type* t = reg.btf->types->type_by_id(reg.btf_id);
  return t ? reg.btf->types->name_of(*t) : "?";
}

Errno check_ptr_to_btf_access(bpf_verifier_env& env, uint32_t regno, int off, int size, bpf_access_type t,
                              int value_regno) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  const btf_type* type = reg.btf->types->type_by_id(reg.btf_id);
  if (!type) return verifier_bug(env, "R%u points at no type", regno);
  const std::string tname = btf_reg_name(reg);
  if (!env.allow_ptr_leaks)
    return reject(env, Errno::Perm, "'struct %s' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN\n",
                  tname.c_str());
  if (!env.prog.gpl_compatible && reg.btf->kernel_btf)
    return reject(env, Errno::Inval, "Cannot access kernel 'struct %s' from non-GPL compatible program\n",
                  tname.c_str());
  if (off < 0)
    return reject(env, Errno::Access, "R%u is ptr_%s invalid negative access: off=%d\n", regno, tname.c_str(),
                  off);
  if (!reg.is_const() || reg.var_off.value)
    return reject(env, Errno::Access, "R%u is ptr_%s invalid variable offset: off=%d, var_off=%s\n", regno,
                  tname.c_str(), off, tnum_strn(reg.var_off).c_str());
  if (t == BPF_WRITE && env.ops->btf_struct_access) {
    const std::string refused = env.ops->btf_struct_access(tname, off, size);
    return refused.empty() ? Errno::None : reject(env, Errno::Access, "%s\n", refused.c_str());
  }
  if (t != BPF_READ) return reject(env, Errno::Access, "only read is supported\n");
  Walked found;
  MUST(btf_struct_walk(env, *reg.btf, *type, off, size, found));
  if (value_regno < 0) return Errno::None;
  bpf_reg_state& value = env.cur_regs()[size_t(value_regno)];
  if (found.reg_type == SCALAR_VALUE) {
    mark_reg_unknown(env, value);
    return Errno::None;
  }
  const bool walks_on = found.reg_type == PTR_TO_BTF_ID;
  const uint32_t trust = walks_on ? trust_of(env, reg, tname.c_str(), found) : 0;
  Btf* btf = reg.btf;
  mark_reg_known_zero(value);
  value.subreg_def = DEF_NOT_SUBREG;
  value.type = found.reg_type | trust;
  if (walks_on) {
    value.btf = btf;
    value.btf_id = found.btf_id;
  } else {
    value.mem_size = 0;
    value.dynptr_id = 0;
  }
  return Errno::None;
}

Errno check_buffer_access(bpf_verifier_env& env, uint32_t regno, int off, int size, bpf_access_type t,
                          int value_regno) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  const bool rdonly = reg.type & MEM_RDONLY;
  const char* kind = rdonly ? "rdonly" : "rdwr";
  if (rdonly && t == BPF_WRITE)
    return reject(env, Errno::Access, "R%u cannot write into %s\n", regno, reg_type_str(reg.type).c_str());
  if (off < 0)
    return reject(env, Errno::Access, "R%u invalid %s buffer access: off=%d, size=%d\n", regno, kind, off,
                  size);
  if (!reg.is_const() || reg.var_off.value)
    return reject(env, Errno::Access, "R%u invalid variable buffer offset: off=%d, var_off=%s\n", regno, off,
                  tnum_strn(reg.var_off).c_str());
  uint32_t& most = rdonly ? env.prog.aux->max_rdonly_access : env.prog.aux->max_rdwr_access;
  most = std::max(most, uint32_t(off + size));
  if (value_regno >= 0 && (rdonly || t == BPF_READ))
    mark_reg_unknown(env, env.cur_regs()[size_t(value_regno)]);
  return Errno::None;
}

Errno check_btf_arg(bpf_verifier_env& env, uint32_t regno, const char* name) {
  const bpf_reg_state& reg = env.cur_regs()[regno];
  if (!name) return not_modelled(env, "this kernel struct as an argument of a helper");
  if (btf_reg_name(reg) == name && reg.off == 0) return Errno::None;
  // The struct that is wanted could be the first member of this one: the log tells where that search ended.
  Walked found;
  const btf_type* type = reg.btf->types->type_by_id(reg.btf_id);
  if (type) static_cast<void>(btf_struct_walk(env, *reg.btf, *type, reg.off, 1, found));
  return reject(env, Errno::Access, "R%u is of type %s but %s is expected\n", regno,
                btf_reg_name(reg).c_str(), name);
}

}  // namespace bpfsim
