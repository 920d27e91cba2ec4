// Models: kernel/bpf/btf.c (Linux 6.18): struct btf_verifier_env
//
// What the two halves of the checker share: the types read so far, the log, and how far the walk has come.
// Private to btf/. A refusal's reason is also its line in the log: each check states its fact once.
#pragma once

#include <initializer_list>
#include <optional>
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
  using Kinds = uint32_t;  // a set of kinds, a bit for each
  enum class Visit : uint8_t { Unseen, OnPath, Done };
  enum class Phase : uint8_t { CheckMeta, CheckType };

  // What may be wrong with a type or a part of it. A check is a list of flaws: the first that is there
  // refuses.
  struct Flaw {
    bool found;
    Fact words;
    uint32_t value = 0;
    Errno err = Errno::Inval;
  };
  static std::optional<Flaw> first(std::initializer_list<Flaw> flaws) {
    for (const Flaw& flaw : flaws)
      if (flaw.found) return flaw;
    return {};
  }

  // What the walk knows of a type: what stands behind it (itself, but for what has been resolved), and the
  // size of an array.
  struct Standing {
    Visit visit = Visit::Unseen;
    uint32_t behind = 0, array_size = 0;
  };

  // btf_check_meta.cpp: each part's own bytes
  Result<void> btf_parse_hdr(std::span<const uint8_t> data);
  Result<void> btf_check_sec_info(uint32_t btf_data_size);
  Result<void> btf_parse_str_sec(std::span<const uint8_t> data);
  Result<void> btf_parse_type_sec(std::span<const uint8_t> data);
  Result<void> btf_check_all_metas();
  Result<uint32_t> btf_check_meta(Type t, uint32_t meta_left);
  Result<void> check_kind_meta(Type t);
  Result<void> check(Type t, std::initializer_list<Flaw> flaws);
  Result<void> check_and_log(Type t, std::initializer_list<Flaw> flaws);
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
  Result<void> btf_resolve(uint32_t id, Kinds follow);
  Result<void> resolve_kind(Type t, Kinds follow);
  Result<void> btf_modifier_resolve(Type t, Kinds follow);
  Result<void> btf_ptr_resolve(Type t);
  Result<void> btf_var_resolve(Type t);
  Result<void> btf_array_resolve(Type t);
  Result<void> btf_struct_resolve(Type t);
  Result<void> btf_func_check(Type t);
  Result<void> btf_datasec_resolve(Type t);
  Result<void> btf_decl_tag_resolve(Type t);
  Result<void> btf_func_proto_check(Type t);
  Result<void> look_into(uint32_t id, Kinds follow);
  Result<bool> refers(uint32_t id, Kinds may_name, Kinds may_end_at, Kinds follow);
  bool is(uint32_t id, Kinds wanted) const;
  Type type(uint32_t id) const { return *btf_.type_by_id(id); }
  Type type_behind(uint32_t id) const { return type(standings_[id].behind); }
  uint32_t size_of(uint32_t id) const;

  // btf_resolve_members.cpp: a member inside its struct
  Result<void> check_member(Type owner, const btf_member& m);

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
  std::vector<uint32_t> path_;  // the types that are being looked into, from where the walk began
  std::vector<Standing> standings_;
};

bool btf_type_int_is_regular(const btf_type& t);

}  // namespace bpfsim
