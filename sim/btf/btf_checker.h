// Models: kernel/bpf/btf.c (Linux 6.18): struct btf_verifier_env
//
// What the two halves of the checker share: the types read so far, the log, and the stack of the resolver.
// Private to btf/. A refusal's reason is also its line in the log: each check states its fact once.
#pragma once

#include <string>
#include <vector>

#include "btf/btf_types.h"
#include "uapi/version.h"

namespace bpfsim {

class BtfChecker {
 public:
  BtfChecker(BtfTypes& btf, std::string* log, Version version) : btf_(btf), log_(log), version_(version) {}
  Result<void> parse(std::span<const uint8_t> data);

 private:
  using Type = const btf_type&;
  struct ResolveVertex {
    const btf_type* t = nullptr;
    uint32_t type_id = 0, next_member = 0;
  };
  enum class Visit : uint8_t { NotVisited, Visited, Resolved };
  enum class ResolveMode : uint8_t { Tbd, Ptr, StructOrArray };
  enum class Phase : uint8_t { CheckMeta, CheckType };

  // btf_check_meta.cpp: each part's own bytes
  Result<void> btf_parse_hdr(std::span<const uint8_t> data);
  Result<void> btf_check_sec_info(uint32_t btf_data_size);
  Result<void> btf_parse_str_sec(std::span<const uint8_t> data);
  Result<void> btf_parse_type_sec(std::span<const uint8_t> data);
  Result<void> btf_check_all_metas();
  Result<uint32_t> btf_check_meta(Type t, uint32_t meta_left);
  Result<void> check_kind_meta(Type t);
  Result<void> btf_int_check_meta(Type t);
  Result<void> btf_ref_type_check_meta(Type t);
  Result<void> btf_fwd_check_meta(Type t);
  Result<void> btf_array_check_meta(Type t);
  Result<void> btf_struct_check_meta(Type t);
  Result<void> btf_enum_check_meta(Type t);
  Result<void> btf_func_proto_check_meta(Type t);
  Result<void> btf_func_check_meta(Type t);
  Result<void> btf_var_check_meta(Type t);
  Result<void> btf_datasec_check_meta(Type t);
  Result<void> btf_float_check_meta(Type t);
  Result<void> btf_decl_tag_check_meta(Type t);
  bool btf_name_valid_identifier(uint32_t offset) const;
  bool btf_name_valid_section(uint32_t offset) const;

  // btf_resolve.cpp: what they refer to
  Result<void> btf_check_all_types();
  Result<void> btf_check_type_tags();
  Result<void> btf_resolve(Type t, uint32_t type_id);
  bool btf_resolve_valid(Type t, uint32_t type_id) const;
  Result<void> resolve_kind(const ResolveVertex& v);
  Result<void> btf_modifier_resolve(const ResolveVertex& v);
  Result<void> btf_ptr_resolve(const ResolveVertex& v);
  Result<void> btf_var_resolve(const ResolveVertex& v);
  Result<void> btf_array_resolve(const ResolveVertex& v);
  Result<void> btf_struct_resolve(const ResolveVertex& v);
  Result<void> btf_func_resolve(const ResolveVertex& v);
  Result<void> btf_func_check(Type t);
  Result<void> btf_datasec_resolve(const ResolveVertex& v);
  Result<void> btf_decl_tag_resolve(const ResolveVertex& v);
  Result<void> btf_func_proto_check(Type t);
  Result<void> env_stack_push(Type t, uint32_t type_id);
  void env_stack_pop_resolved(uint32_t resolved_id, uint32_t resolved_size);
  bool env_type_is_resolved(uint32_t type_id) const { return visit_states_[type_id] == Visit::Resolved; }
  bool env_type_is_resolve_sink(Type t) const;
  bool must_visit(Type t, uint32_t id) const {
    return !env_type_is_resolve_sink(t) && !env_type_is_resolved(id);
  }
  const btf_type* last_resolved_ptr(Type modifier, uint32_t& id) const;
  const btf_type* btf_type_id_size(uint32_t& id, uint32_t* size = nullptr) const;

  // btf_resolve_members.cpp: a member inside its struct, by the member's kind
  Result<void> check_member(Type owner, const btf_member& m, Type member_type);
  Result<void> btf_modifier_check_member(Type owner, const btf_member& m);
  Result<void> btf_int_check_member(Type owner, const btf_member& m, Type member_type);
  Result<void> btf_int_check_kflag_member(Type owner, const btf_member& m, Type member_type);
  Result<void> int_fits(Type owner, const btf_member& m, uint32_t bits_off, uint32_t nr_bits);
  Result<void> btf_enum_check_kflag_member(Type owner, const btf_member& m);
  Result<void> sized_check_member(Type owner, const btf_member& m, uint32_t size);
  Result<void> btf_float_check_member(Type owner, const btf_member& m, Type member_type);

  // btf_log.cpp: the log's lines. refuse_*: the check's fact is written and travels back as the refusal.
  const char* log_name(uint32_t offset) const;
  std::string log_details(Type t) const;
  void log(std::string_view text) {
    if (log_) log_->append(text);
  }
  void log_type(Type t, bool details, std::string_view message);
  void log_member(Type owner, const btf_member& m, std::string_view message);
  void log_vsi(Type datasec, const btf_var_secinfo& vsi, std::string_view message);

  template <class... Args>
  Refusal refuse_plain(Errno err, Fact fact, const Args&... args) {
    Refusal r = refuse(err, fact, args...);
    if (log_) log(r.reason());
    return r;
  }
  template <class... Args>
  Refusal refuse_type(Type t, Fact fact, const Args&... args) {
    return refuse_type_err(t, Errno::Inval, fact, args...);
  }
  template <class... Args>
  Refusal refuse_type_err(Type t, Errno err, Fact fact, const Args&... args) {
    Refusal r = refuse(err, fact, args...);
    if (log_) log_type(t, true, r.reason());
    return r;
  }
  template <class... Args>
  Refusal refuse_basic(Type t, Fact fact, const Args&... args) {
    Refusal r = refuse(Errno::Inval, fact, args...);
    if (log_) log_type(t, false, r.reason());
    return r;
  }
  template <class... Args>
  Refusal refuse_member(Type owner, const btf_member& m, Fact fact, const Args&... args) {
    Refusal r = refuse(Errno::Inval, fact, args...);
    if (log_) log_member(owner, m, r.reason());
    return r;
  }
  Refusal refuse_vsi(Type datasec, const btf_var_secinfo& vsi, Fact fact) {
    Refusal r = refuse(Errno::Inval, fact);
    if (log_) log_vsi(datasec, vsi, r.reason());
    return r;
  }

  BtfTypes& btf_;
  std::string* log_;
  const Version version_;
  btf_header hdr_{};
  uint32_t log_type_id_ = 0;
  Phase phase_ = Phase::CheckMeta;
  ResolveMode resolve_mode_ = ResolveMode::Tbd;
  std::vector<ResolveVertex> stack_;
  std::vector<Visit> visit_states_;
  std::vector<uint32_t> resolved_ids_, resolved_sizes_;
};

bool btf_type_int_is_regular(const btf_type& t);

}  // namespace bpfsim
